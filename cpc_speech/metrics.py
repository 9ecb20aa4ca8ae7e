"""The curves of a run: JSON lines, from which reports and figures are made, and TensorBoard events to look at."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from cpc_speech.checkpoint import newest_update
from cpc_speech.files import atomic_write
from cpc_speech.infonce import InfoNCE

log = logging.getLogger(__name__)


class Metrics:
    """Appends to ``exp/metrics.jsonl`` and ``exp/tensorboard``; what was written after ``update`` is dropped first.

    A resumed run repeats the updates since its checkpoint, so lines beyond it, and a last one cut short by a kill, go.
    """

    def __init__(self, exp: Path, update: int) -> None:
        path = exp / "metrics.jsonl"
        kept = [line for line in _whole_lines(path) if json.loads(line)["update"] <= update]
        with atomic_write(path) as file:
            file.writelines(kept)
        self._file = open(path, "a", encoding="utf-8")
        self._board = SummaryWriter(exp / "tensorboard", purge_step=update + 1)

    def write(self, split: str, update: int, result: InfoNCE, **values: float) -> None:
        """One line: loss in nats and accuracy of every step ahead, and further values."""
        loss, accuracy = result.loss.tolist(), result.accuracy.tolist()
        line = {
            "split": split,
            "update": update,
            "loss": sum(loss) / len(loss),
            "loss_by_step": loss,
            "accuracy_by_step": accuracy,
        }
        self._file.write(json.dumps(line | values) + "\n")
        self._file.flush()
        self._board.add_scalar(f"{split}/loss", line["loss"], update)
        for k, value in enumerate(accuracy, 1):
            if math.log2(k).is_integer() or k == len(accuracy):
                self._board.add_scalar(f"{split}/accuracy_step_{k:02d}", value, update)
        for name, value in values.items():
            self._board.add_scalar(name, value, update)

    def flush(self) -> None:
        """Bring all of it to disk: a checkpoint must not be ahead of its curves."""
        self._file.flush()
        self._board.flush()

    def close(self) -> None:
        self._file.close()
        self._board.close()


def read_metrics(exp: str | Path, split: str) -> list[dict]:
    """The lines of one split ("train" or "dev"), in order."""
    lines = (json.loads(line) for line in _whole_lines(Path(exp) / "metrics.jsonl"))
    return [line for line in lines if line["split"] == split]


def training_state(exp: Path, updates: int) -> str:
    """How far a training of so many updates has come, for the row of a table that still lacks its probe. Whether it is
    running now, its files do not tell."""
    if (exp / "train.json").exists():
        return "trained, not probed yet"
    lines = read_metrics(exp, "train")
    update = lines[-1]["update"] if lines else newest_update(exp)  # networks trained end to end have no curves
    return f"begun, update {update:,} of {updates:,}"


def _whole_lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    with open(path, encoding="utf-8") as file:
        return [line for line in file if line.endswith("\n")]
