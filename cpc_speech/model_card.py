"""The README.md of an exported model, generated: what it is, how it is used, what it was trained on."""

from __future__ import annotations

import math
from typing import Any

from cpc_speech.model import CPC

_HEAD = """---
library_name: cpc-speech
pipeline_tag: feature-extraction
tags:
- speech
- self-supervised
- contrastive-predictive-coding
---
"""

_BODY = """
# {name}

A network of [Contrastive Predictive Coding](https://arxiv.org/abs/1807.03748) (van den Oord, Li, Vinyals 2018) for
speech: raw 16 kHz audio in, one vector each 10 ms out.

```python
import cpc_speech

model = cpc_speech.load("OWNER/{name}")  # or a folder with these files
c = model.encode(waveform)  # samples in [−1, 1]: (n,) → (n // 160, {dim}), or (B, n) → (B, n // 160, {dim})
```

Five strided convolutions with {channels} channels give z, one frame of 160 samples; {context} of {dim} units on it
give{s} c. {parameters:,} parameters{predictors}. Frame t sees samples up to 160 t + 311, and the past.

## Training

{training}

## Licence

Not stated yet. Whoever publishes this model states one, and names the corpus that it was trained on.
"""


def model_card(name: str, model: CPC, provenance: dict[str, Any]) -> str:
    """Markdown with the metadata that the Hugging Face Hub reads.

    Args:
        provenance: as ``cpc_speech.pretrained.read_model`` gives it.
    """
    layers, kind = model.architecture["context_layers"], model.architecture["recurrence"].upper()
    steps = len(model.predictors)
    return _HEAD + _BODY.format(
        name=name,
        dim=model.architecture["context_dim"],
        channels=model.architecture["channels"],
        context=f"{layers} {kind} layers" if layers > 1 else f"one {kind} layer",
        s="" if layers > 1 else "s",
        parameters=sum(weight.numel() for weight in model.parameters()),
        predictors=f", with predictors of {steps} steps ahead" if steps else ", without predictors",
        training=_training(provenance),
    )


def _training(provenance: dict[str, Any]) -> str:
    if "cpc_audio" in provenance:
        options = ", ".join(f"{key} {value}" for key, value in provenance["options"].items())
        return (
            "By [CPC_audio](https://github.com/facebookresearch/CPC_audio); converted from "
            f"`{provenance['cpc_audio']}` (sha256 {provenance['sha256']}): {options}."
        )
    if "experiment" not in provenance:
        return "Nothing is recorded."
    config, summary = provenance["config"], provenance.get("training", {})
    rows = {
        "experiment": f"{provenance['experiment']}, after {provenance['updates']:,} of {config['updates']:,} updates",
        "an update": f"{config['minibatches']} × {config['windows']} windows of {config['window_samples']:,} samples",
        "a minibatch": f"{config['batch_composition']}, candidates {config['candidates']}, "
        f"negatives {config['negatives']}",
        "steps ahead": str(config["steps"]),
    }
    if summary:
        share = provenance["updates"] / config["updates"]  # the summary is of the whole training
        rows["audio"] = f"{share * summary['hours_heard']:.2f} h heard, of a corpus of {summary['corpus_hours']:.2f} h"
        if summary["dev_loss"] and share == 1:
            loss, chance = sum(summary["dev_loss"]) / len(summary["dev_loss"]), math.log(summary["candidates"])
            rows["loss on dev, at the end"] = f"{loss:.3f} nats, chance {chance:.3f}"
        rows |= {"command": f"`{summary['command']}`"} | {key: summary[key] for key in ("commit", "machine", "date")}
    return "| | |\n|---|---|\n" + "\n".join(f"| {key} | {value} |" for key, value in rows.items())
