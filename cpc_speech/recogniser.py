"""A small phone recogniser on frozen features, trained by connectionist temporal classification (CTC; Graves et al.,
ICML 2006): no label of a frame is needed, only what was said.

Shapes: B utterances padded to T frames of D values, U = ceil(T / stride) steps, V = phones + 1; 0 is the blank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

Frames = TypeVar("Frames", int, Tensor)
HEADS = ("linear", "lstm")
KERNEL = 8  # frames that a step sees: 80 ms, as in Rivière et al., ICASSP 2020 (arXiv:2002.02848)
DROPOUT = 0.2  # before and behind the LSTM


class Recogniser(nn.Module):
    """Standardised features → a convolution that takes ``KERNEL`` frames each ``stride`` frames → log-probabilities.

    With the head ``linear`` the convolution is all there is. With ``lstm``, its ``hidden`` channels go through one
    bidirectional LSTM of as many units a direction.

    Args:
        mean, std: (D,), by which features are standardised.
        phones: number of phones.
        stride: frames a step; a phone needs a step of its own, and two equal phones in a row a third between them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, phones: int, head: str, stride: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.stride = stride
        outputs = phones + 1
        self.convolution = nn.Conv1d(len(mean), hidden if head == "lstm" else outputs, KERNEL, stride)
        self.head = BidirectionalLSTM(hidden, outputs) if head == "lstm" else None

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Features (T_i, D) of B utterances → log-probabilities (B, U, V), steps (B,) int64 on the CPU.

        An utterance's outputs do not depend on those beside it.
        """
        steps = steps_of(torch.tensor([len(frames) for frames in features]), self.stride)
        x = pad_sequence([(frames - self.mean) / self.std for frames in features], batch_first=True)
        before = max(0, KERNEL - self.stride) // 2  # the kernel is centred on the frames of its step
        x = self.convolution(F.pad(x.transpose(1, 2), (before, KERNEL + self.stride)))
        x = x[:, :, : int(steps.max())].transpose(1, 2)
        if self.head is not None:
            x = self.head(F.relu(x), steps)
        return x.log_softmax(2), steps


class BidirectionalLSTM(nn.Module):
    """An LSTM in each direction and a linear layer on both.

    Two LSTMs of padded utterances, one hearing each of them from its own end: the gradient of torch's packed sequences
    takes time quadratic in their length.
    """

    def __init__(self, hidden: int, outputs: int) -> None:
        super().__init__()
        self.ahead = nn.LSTM(hidden, hidden, batch_first=True)
        self.back = nn.LSTM(hidden, hidden, batch_first=True)
        self.output = nn.Linear(2 * hidden, outputs)

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        """x (B, U, hidden) of ``steps`` (B,) steps → (B, U, outputs)."""
        x = F.dropout(x, DROPOUT, self.training)
        both = self.ahead(x)[0], turned(self.back(turned(x, steps))[0], steps)
        return self.output(F.dropout(torch.cat(both, dim=2), DROPOUT, self.training))


def turned(x: Tensor, steps: Tensor) -> Tensor:
    """x (B, U, D) with the first ``steps`` (B,) rows of each utterance in reverse; its padding stays where it is."""
    place, last = torch.arange(x.shape[1]), steps[:, None] - 1
    source = torch.where(place <= last, last - place, place).to(x.device)
    return x.gather(1, source[:, :, None].expand_as(x))


def steps_of(frames: Frames, stride: int) -> Frames:
    """How many steps so many frames make."""
    return -(-frames // stride)


def steps_needed(phones: Sequence[object]) -> int:
    """The fewest steps that can say these phones: one each, and a blank between equal neighbours."""
    return len(phones) + sum(a == b for a, b in zip(phones, phones[1:]))


def ctc_loss(log_probabilities: Tensor, steps: Tensor, phones: Sequence[Tensor]) -> Tensor:
    """Negative log-probability of what was said, in nats a phone: the sum over the utterances by their phones.

    Args:
        log_probabilities: (B, U, V).
        steps: (B,).
        phones: B of (n_i,) int64, from 1 on.
    """
    lengths = torch.tensor([len(said) for said in phones])
    said = torch.cat(list(phones)).to(log_probabilities.device)
    total = F.ctc_loss(log_probabilities.transpose(0, 1), said, steps, lengths, reduction="sum")
    return total / max(1, len(said))


def best_path(log_probabilities: Tensor) -> list[int]:
    """The phones on the most probable path: the best of every step, repetitions as one, blanks gone.

    Args:
        log_probabilities: (U, V), of one utterance.
    """
    labels = log_probabilities.argmax(1).unique_consecutive()
    return labels[labels > 0].tolist()
