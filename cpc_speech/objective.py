"""What pretraining minimises: the InfoNCE loss of a minibatch, and of fixed windows of the dev split."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cpc_speech.config import Config
from cpc_speech.datadir import read_split
from cpc_speech.errors import UserError
from cpc_speech.infonce import InfoNCE, info_nce
from cpc_speech.loader import Minibatches, waveform
from cpc_speech.machine import autocast
from cpc_speech.model import CPC
from cpc_speech.packed import PackedAudio
from cpc_speech.processes import Processes
from cpc_speech.windows import WindowSampler, dev_seed

log = logging.getLogger(__name__)


def cpc_loss(model: CPC, waveform: Tensor, config: Config, *draw: int) -> InfoNCE:
    """InfoNCE of one minibatch (B, window_samples); ``draw`` seeds the negatives where they are sampled."""
    generator = None
    if config.negatives != "all":
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence(draw).generate_state(1)[0]))
    with autocast(config.precision, waveform.device):
        z, c = model(waveform)
        predictions = (predict(c[:, : config.frames - k]) for k, predict in enumerate(model.predictors, 1))
        with torch.autocast(waveform.device.type, enabled=False):
            return info_nce(predictions, z, config.candidates, config.negatives, generator)


def window_sampler(config: Config, audio: PackedAudio, seed: int) -> WindowSampler:
    """Draws the minibatches that ``config`` describes."""
    same_speaker = config.batch_composition == "same_speaker"
    return WindowSampler(
        audio.num_samples, audio.speaker_index, config.window_samples, config.windows, same_speaker, seed
    )


class DevLoss:
    """The loss on fixed windows of the dev split, drawn as training draws its own; processes share them out."""

    def __init__(self, config: Config, data: Path, processes: Processes) -> None:
        self.config, self.processes = config, processes
        self.samples: dict[int, Tensor] = {}  # of this process's minibatches, (windows, window_samples) int16
        try:
            audio = PackedAudio(data, read_split(data, "dev"))
            minibatches = Minibatches(audio, window_sampler(config, audio, dev_seed(config.seed)))
            self.samples = {j: minibatches[0, j].samples for j in processes.share(config.dev_minibatches)}
            self.exists = True
        except UserError as error:  # a corpus that is too small for a dev loss can still be trained on
            log.warning("no dev loss: %s", error)
            self.exists = False
        everywhere = torch.full((1,), float(self.exists), device=processes.device)
        processes.add_up([everywhere])  # a process alone with its dev loss would wait for the others
        self.exists = everywhere.item() == processes.count

    @torch.no_grad()
    def evaluate(self, model: CPC) -> InfoNCE | None:
        """Mean over the dev minibatches, or None where dev is too small for one."""
        if not self.exists:
            return None
        config, device = self.config, self.processes.device
        results = [
            cpc_loss(model, waveform(samples, device), config, dev_seed(config.seed), j)
            for j, samples in self.samples.items()
        ]
        return mean(results, config.dev_minibatches, config.steps, self.processes)


def mean(results: list[InfoNCE], number: int, steps: int, processes: Processes) -> InfoNCE:
    """Average over ``number`` minibatches, these being one process's share of them; detached and on the CPU."""
    total = torch.zeros(2, steps, device=processes.device)
    for result in results:
        total += torch.stack(result).detach()
    processes.add_up([total])
    return InfoNCE(*(total / number).cpu())
