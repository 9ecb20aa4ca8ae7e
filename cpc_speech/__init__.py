"""Contrastive Predictive Coding on raw speech: model, negatives, loss, windows, training, probes, reports."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cpc_speech.pretrained import Pretrained

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"]:  # python -m cpc_speech.COMMAND, whose module is imported next, and torch with it
    from cpc_speech.errors import end_quietly_on_ctrl_c

    end_quietly_on_ctrl_c()


def load(source: str | Path, layer: str = "c", which: str = "last", precision: str = "auto") -> Pretrained:
    """A pretrained model, ready to encode: ``cpc_speech.load("exp/mixed_speaker").encode(waveform)``.

    Args:
        source: an experiment (``exp/<name>``); a folder or .safetensors file written by ``cpc_speech.export``; a
            checkpoint of facebookresearch/CPC_audio; or, where no such path exists, the ``owner/name`` of a model on
            the Hugging Face Hub, ``owner/name@revision`` for one revision of it.
        layer: what ``encode`` gives: ``c``, ``z``, ``both`` (z and c side by side), or ``c1``, ``c2``, ... for a layer
            of the context, the last one being ``c``.
        which: checkpoint of an experiment: ``last``, or ``best`` by the loss on dev.
        precision: of the encoder: ``fp32``; ``bf16``; or ``auto``, bf16 where the processor or GPU multiplies it
            natively, and fp32 elsewhere.

    Raises:
        UserError: there is no such model, it is damaged, or it is of an architecture that is not supported here.
    """
    from cpc_speech.pretrained import Pretrained, read_model

    return Pretrained(read_model(source, which).model, layer, precision)
