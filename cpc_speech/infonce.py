"""InfoNCE (van den Oord et al., equations 3 and 4) over the candidate sets of the paper's Table 2.

A minibatch holds B windows of T frames. Window i's frame t predicts frame t+k of the same window, for k = 1..K.
The prediction W_k c_t is scored against the positive z_{t+k} and against negatives, which are other frames of

    minibatch        all windows, window i included
    other_windows    all windows but i
    current_window   window i

The positive never is its own negative. Scores are matrix products over all frames of the minibatch; what does
not serve as a candidate is masked afterwards, and sampled negatives are picked from the scores, so no vector
is ever gathered.

Shapes: B windows, T frames, D channels of z, K steps, M = B·T frames of the minibatch, N candidates.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# The rows of Table 2 that differ in negatives: (batch composition, candidates).
PAPER_SETTINGS = {
    "mixed speaker": ("mixed_speaker", "minibatch"),
    "same speaker": ("same_speaker", "minibatch"),
    "mixed speaker (excl.)": ("mixed_speaker", "other_windows"),
    "same speaker (excl.)": ("same_speaker", "other_windows"),
    "current sequence only": ("mixed_speaker", "current_window"),
}


class InfoNCE(NamedTuple):
    """Losses in nats and accuracies, each a tensor (K,): one value a step ahead, averaged over predictions."""

    loss: Tensor
    accuracy: Tensor


def info_nce(
    predictions: Iterable[Tensor],
    z: Tensor,
    candidates: str = "minibatch",
    negatives: int | str = "all",
    generator: torch.Generator | None = None,
) -> InfoNCE:
    """The InfoNCE loss of every step ahead.

    Args:
        predictions: for k = 1..K, W_k c_t of the frames t < T − k: (B, T − k, D).
        z: encoder frames (B, T, D).
        candidates: ``minibatch``, ``other_windows`` or ``current_window``.
        negatives: ``all`` frames of the candidate set, or how many to draw from it, with replacement and
            independently for every prediction.
        generator: source of the drawn negatives; on the CPU, so that every device draws the same.
    """
    z = z.float()  # in bf16 all scores of a young network tie
    losses, accuracies = [], []
    for k, prediction in enumerate(predictions, 1):
        logits, target = _logits(prediction.float(), z, k, candidates)
        if negatives != "all":
            logits, target = _sample(logits, target, z.shape, candidates, int(negatives), generator)
        losses.append(F.cross_entropy(logits, target))
        accuracies.append(_accuracy(logits.detach(), target))
    return InfoNCE(torch.stack(losses), torch.stack(accuracies))


def _logits(prediction: Tensor, z: Tensor, k: int, candidates: str) -> tuple[Tensor, Tensor]:
    """Scores of the B·(T−k) predictions against their candidates' frames, and the positive's column.

    Columns are the frames of the window for ``current_window``, else those of the minibatch.
    """
    B, T, D = z.shape
    positive = torch.arange(k, T, device=z.device).repeat(B)
    if candidates == "current_window":
        return torch.bmm(prediction, z.transpose(1, 2)).flatten(0, 1), positive
    window = torch.arange(B, device=z.device).repeat_interleave(T - k)
    positive = positive + T * window
    scores = prediction.flatten(0, 1) @ z.flatten(0, 1).t()
    if candidates == "other_windows":
        own = torch.block_diag(*[torch.ones(T - k, T, dtype=torch.bool, device=z.device)] * B)
        own[torch.arange(len(positive), device=z.device), positive] = False
        scores = scores.masked_fill(own, -torch.inf)
    return scores, positive


def _sample(
    logits: Tensor, positive: Tensor, shape: torch.Size, candidates: str, count: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Keep the positive (as column 0) and ``count`` columns drawn uniformly from the rest of the candidates.

    A draw below the first forbidden column stays, one at or above it moves past the forbidden ones: they are
    the positive alone, or all T columns of the positive's window.
    """
    B, T, _ = shape
    if candidates == "other_windows":
        first, width = positive // T * T, T
    else:
        first, width = positive, 1
    total = logits.shape[1] - width
    drawn = torch.randint(total, (len(logits), count), generator=generator).to(logits.device)
    drawn = drawn + width * (drawn >= first[:, None])
    columns = torch.cat((positive[:, None], drawn), dim=1)
    return logits.gather(1, columns), torch.zeros_like(positive)


def _accuracy(logits: Tensor, positive: Tensor) -> Tensor:
    """Share of predictions whose positive scores above every negative; a tie is a miss."""
    own = logits.gather(1, positive[:, None])
    return ((logits >= own).sum(1) == 1).float().mean()
