"""InfoNCE (van den Oord et al., equations 3 and 4) over the candidate sets of the paper's Table 2.

A minibatch holds B windows of T frames. Window i's frame t predicts frame t+k of the same window, for k = 1..K.
The prediction W_k c_t is scored against the positive z_{t+k} and against negatives, which are other frames of

    minibatch        all windows, window i included
    other_windows    all windows but i
    current_window   window i

The positive is never its own negative. Scores are matrix products over all frames of the minibatch; what is no
candidate is masked afterwards, and sampled negatives are picked from the scores, so that no vector is ever
gathered.

With s the scores of one prediction, p = softmax(s) and y the one-hot positive, the loss −log p[positive] has the
gradient p − y in s: as cheap as the loss, once p is at hand. So both are computed at once, one step k after the
other, and what is kept for the backward pass is the gradient in the predictions and in z. Only one step's scores,
B·(T−k) × B·T of them, ever exist: memory grows with the square of the minibatch, but not with K.

Shapes: B windows, T frames, D channels of z, K steps, N candidates.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# The rows of Table 2 that differ in negatives: (batch composition, candidates).
PAPER_SETTINGS = {
    "mixed speaker": ("mixed_speaker", "minibatch"),
    "same speaker": ("same_speaker", "minibatch"),
    "mixed speaker (excl.)": ("mixed_speaker", "other_windows"),
    "same speaker (excl.)": ("same_speaker", "other_windows"),
    "current sequence only": ("mixed_speaker", "current_window"),
}


def setting_name(batch_composition: str, candidates: str) -> str:
    """The paper's name of a setting of negatives."""
    if candidates == "current_window":  # whose windows share the minibatch makes no difference
        return "current sequence only"
    return next(name for name, setting in PAPER_SETTINGS.items() if setting == (batch_composition, candidates))


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
    steps = [
        _Step.apply(prediction.float(), z, k, candidates, negatives, generator)
        for k, prediction in enumerate(predictions, 1)
    ]
    loss, accuracy = zip(*steps)
    return InfoNCE(torch.stack(loss), torch.stack(accuracy))


class _Step(torch.autograd.Function):
    """Loss and accuracy of the predictions k steps ahead."""

    @staticmethod
    def forward(
        ctx: Any, prediction: Tensor, z: Tensor, k: int, candidates: str, negatives: int | str,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        B, T, _ = z.shape
        groups = B if candidates == "current_window" else 1  # a prediction is scored against its own window, or all
        rows = prediction.reshape(groups, -1, prediction.shape[-1])
        frames = z.reshape(groups, -1, z.shape[-1])
        scores = torch.bmm(rows, frames.transpose(1, 2))
        flat = scores.flatten(0, 1)  # a view: (B·(T−k), frames of the group)

        positive = torch.arange(k, T, device=z.device).repeat(B)
        if candidates != "current_window":
            positive += T * torch.arange(B, device=z.device).repeat_interleave(T - k)
        if candidates == "other_windows":
            _mask_own_window(flat, positive, T)
        if negatives == "all":
            loss, accuracy, gradient = _cross_entropy(flat, positive)
        else:
            columns = _draw(
                positive, flat.shape[1], T if candidates == "other_windows" else 1, int(negatives), generator
            )
            loss, accuracy, drawn = _cross_entropy(flat.gather(1, columns), torch.zeros_like(positive))
            gradient = flat.zero_().scatter_add_(1, columns, drawn)

        if any(ctx.needs_input_grad):
            gradient = gradient.view_as(scores)
            mean = 1 / len(flat)
            ctx.save_for_backward(
                torch.bmm(gradient, frames).view_as(prediction) * mean,
                torch.bmm(gradient.transpose(1, 2), rows).view_as(z) * mean,
            )
        ctx.mark_non_differentiable(accuracy)
        return loss, accuracy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss: Tensor, accuracy: Tensor) -> tuple[Tensor | None, ...]:
        in_prediction, in_z = ctx.saved_tensors
        return loss * in_prediction, loss * in_z, None, None, None, None


def _cross_entropy(scores: Tensor, positive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of −log softmax(scores)[positive], strict accuracy (a tie is a miss), and softmax(scores) − one-hot."""
    positive = positive[:, None]
    own = scores.gather(1, positive)
    rival = scores.scatter_(1, positive, -torch.inf).amax(1, keepdim=True)
    softmax = scores.scatter_(1, positive, own).softmax(1)
    # By way of the largest score, whose probability, unlike the positive's, cannot underflow.
    loss = torch.maximum(own, rival) - own - softmax.amax(1, keepdim=True).log()
    gradient = softmax.scatter_add_(1, positive, torch.full_like(own, -1))
    return loss.mean(), (own > rival).float().mean(), gradient


def _mask_own_window(scores: Tensor, positive: Tensor, T: int) -> None:
    """Set the scores of every prediction against its own window to −∞, but for the positive's."""
    own = scores.gather(1, positive[:, None])
    columns = (positive // T * T)[:, None] + torch.arange(T, device=scores.device)
    scores.scatter_(1, columns, -torch.inf).scatter_(1, positive[:, None], own)


def _draw(positive: Tensor, total: int, width: int, count: int, generator: torch.Generator | None) -> Tensor:
    """Columns of the positive and of ``count`` negatives, drawn uniformly from ``total``: (predictions, 1 + count).

    Forbidden are the ``width`` columns around the positive: itself (1), or its window's (T). A draw below the
    first of them stays, one at or above it moves past them.
    """
    first = positive // width * width
    drawn = torch.randint(total - width, (len(positive), count), generator=generator).to(positive.device)
    return torch.cat((positive[:, None], drawn + width * (drawn >= first[:, None])), dim=1)
