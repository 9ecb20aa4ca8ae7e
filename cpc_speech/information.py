"""A lower bound of the mutual information of c_t and the frame k steps ahead (van den Oord et al. 2018, section 2.3).

log N − loss is such a bound where negatives are drawn independently of the context and of each other. Those of training
are not, in any of the paper's rows: they share windows, and the frames of a window have a speaker and much more in
common. A context that knew its speaker, of 20, and nothing else would make the loss of mixed speaker (excl.) with 8
windows 5.3 nats less than log N, where there are log 20 = 3.0 to be known.

So here windows are drawn one by one, and a frame's candidates are itself and one random frame of each of N − 1 other
windows. The bound holds for any model; it is loose for one that was trained to tell other candidates apart, and cannot
exceed log N.
"""

from __future__ import annotations

import math
import statistics
from typing import Any

import torch
from torch import Tensor

from cpc_speech.loader import Minibatches, waveform
from cpc_speech.model import CPC
from cpc_speech.progress import Progress
from cpc_speech.scores import student_t

CANDIDATES = 128  # N
DRAWS = 8  # of so many windows
_TOGETHER = 16  # windows that are heard at a time


def measure(model: CPC, windows: Minibatches) -> dict[str, Any]:
    """The bound for each step ahead, ``information``, in nats; its 95 % intervals, ``information_ci95``, by Student's t
    over the draws; their number, ``draws``; and N, ``independent_windows``.

    Args:
        windows: of which minibatch ``[0, j]`` is a single window, drawn independently of all others.
    """
    draws = Progress(range(DRAWS), unit="draw", desc="mutual information")
    bounds = [draw(model, windows, number) for number in draws]
    half = student_t(DRAWS - 1) / math.sqrt(DRAWS)
    result: dict[str, Any] = {"independent_windows": CANDIDATES, "draws": DRAWS}
    result |= {"information": [], "information_ci95": []}
    for values in zip(*bounds):
        mean, error = statistics.fmean(values), half * statistics.stdev(values)
        result["information"].append(mean)
        result["information_ci95"].append([mean - error, mean + error])
    return result


@torch.no_grad()
def draw(model: CPC, windows: Minibatches, number: int) -> list[float]:
    """The bound by the windows of one draw, in nats, for each step ahead."""
    device = next(model.parameters()).device
    places = range(number * CANDIDATES, (number + 1) * CANDIDATES)
    samples = torch.cat([windows[0, j].samples for j in places])
    heard = [model(waveform(some, device)) for some in samples.split(_TOGETHER)]
    z, c = (torch.cat(parts) for parts in zip(*heard))
    random = torch.Generator().manual_seed(number)
    frames = z.shape[1]
    return [float(gained(predict(c[:, : frames - k]), z, k, random)) for k, predict in enumerate(model.predictors, 1)]


def gained(prediction: Tensor, z: Tensor, k: int, random: torch.Generator) -> Tensor:
    """log N − loss, in nats, where the candidates of each frame of a window are the frame k steps ahead of it and one
    random frame of each other window, another one for every frame.

    Args:
        prediction: W_k c_t of the frames t < T − k of N windows: (N, T − k, D).
        z: encoder frames (N, T, D).
    """
    N, T, _ = z.shape
    chosen = torch.randint(k, T, (T - k, N), generator=random).to(z.device)  # the frames that are positives of others
    others = z[torch.arange(N, device=z.device), chosen]  # (T − k, N, D): of each window, for frame t of all others
    scores = prediction.transpose(0, 1) @ others.transpose(1, 2)  # (T − k, N, N)
    scores.diagonal(dim1=1, dim2=2).copy_((prediction * z[:, k:]).sum(2).T)
    return math.log(N) + scores.log_softmax(2).diagonal(dim1=1, dim2=2).mean(dtype=torch.double)
