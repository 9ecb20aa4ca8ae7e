"""Slow, literal versions of what the library computes fast: plain loops, and nothing imported from the library."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Table 2 of the paper: may frame (j, s) be a negative of a prediction of frame (i, t + k)?
# "(excl.)" removes window i, "current sequence only" all others. Who speaks in the windows is the batch's affair.
TABLE_2 = {
    "mixed speaker": lambda i, j: True,
    "same speaker": lambda i, j: True,
    "mixed speaker (excl.)": lambda i, j: j != i,
    "same speaker (excl.)": lambda i, j: j != i,
    "current sequence only": lambda i, j: j == i,
}


def negatives(row: str, i: int, target: int, windows: int, frames: int) -> list[tuple[int, int]]:
    """The frames (window, frame) that may be negatives of positive (i, target): never the positive itself."""
    return [(j, s) for j in range(windows) for s in range(frames) if TABLE_2[row](i, j) and (j, s) != (i, target)]


def info_nce(row: str, z: Sequence, c: Sequence, W: Sequence) -> tuple[list[float], list[float], int]:
    """Equations 3 and 4 with all negatives, in float64: loss and strict accuracy of every step, and N.

    z: windows × frames × D, c: windows × frames × H, W: K matrices D × H, all nested lists.
    """
    B, T = len(z), len(z[0])
    losses, accuracies, sizes = [], [], set()
    for k, matrix in enumerate(W, 1):
        loss, hits, predictions = 0.0, 0, 0
        for i in range(B):
            for t in range(T - k):
                prediction = [sum(w * x for w, x in zip(line, c[i][t], strict=True)) for line in matrix]

                def log_f(j: int, s: int, prediction: list[float] = prediction) -> float:
                    return sum(p * x for p, x in zip(prediction, z[j][s], strict=True))

                positive = log_f(i, t + k)
                others = [log_f(j, s) for j, s in negatives(row, i, t + k, B, T)]
                top = max([positive, *others])
                total = sum(math.exp(score - top) for score in [positive, *others])
                loss -= positive - top - math.log(total)
                hits += all(positive > score for score in others)  # a tie is a miss
                predictions += 1
                sizes.add(1 + len(others))
        losses.append(loss / predictions)
        accuracies.append(hits / predictions)
    (size,) = sizes
    return losses, accuracies, size


# Section 3.1: strides 5, 4, 2, 2, 2 and kernels 10, 8, 4, 4, 4; padding 3, 2, 1, 1, 1 gives n // 160 frames.
CONVOLUTIONS = ((10, 5, 3), (8, 4, 2), (4, 2, 1), (4, 2, 1), (4, 2, 1))


def block(x: Tensor, weight: Tensor, bias: Tensor, gain: Tensor, shift: Tensor, stride: int, padding: int) -> Tensor:
    """One block of the encoder by the library's convolution: channels first, (B, inputs, n) → (B, channels, T)."""
    x = F.conv1d(x, weight, bias, stride, padding)
    mean = x.mean(1, keepdim=True)
    variance = ((x - mean) ** 2).mean(1, keepdim=True)
    x = (x - mean) / torch.sqrt(variance + 1e-5) * gain[:, None] + shift[:, None]
    return torch.where(x > 0, x, torch.zeros_like(x))


def encoder(parameters: dict[str, Tensor], waveform: Tensor) -> Tensor:
    """g_enc from its state_dict by F.conv1d, the waveform (B, n) cropped to whole frames first: (B, n // 160, C)."""
    x = waveform[:, : waveform.shape[1] - waveform.shape[1] % 160][:, None]
    for layer, (_, stride, padding) in enumerate(CONVOLUTIONS):
        names = ("conv.weight", "conv.bias", "norm.weight", "norm.bias")
        weight, bias, gain, shift = (parameters[f"layers.{layer}.{name}"] for name in names)
        x = block(x, weight, bias, gain, shift, stride, padding)
    return x.transpose(1, 2)


class PlainEncoder(nn.Module):
    """g_enc by nn.Conv1d and nn.LayerNorm, as one would first write it: (B, n) → (B, n // 160, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inputs = (1, *[channels] * 4)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(n, channels, *sizes) for n, sizes in zip(inputs, CONVOLUTIONS, strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in CONVOLUTIONS)

    def forward(self, waveform: Tensor) -> Tensor:
        x = waveform[:, None]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.relu(norm(convolution(x).transpose(1, 2))).transpose(1, 2)
        return x.transpose(1, 2)


class PlainCPC(nn.Module):
    """CPC as one would first write it: every frame's negatives gathered as vectors, a product for each step."""

    def __init__(self, channels: int, context_dim: int, steps: int) -> None:
        super().__init__()
        self.encoder = PlainEncoder(channels)
        self.gru = nn.GRU(channels, context_dim, batch_first=True)
        self.predictors = nn.ModuleList(nn.Linear(context_dim, channels, bias=False) for _ in range(steps))

    def forward(self, waveform: Tensor, negatives: int, generator: torch.Generator | None = None) -> Tensor:
        """Mean InfoNCE of the minibatch (B, n), each frame with its own negatives drawn from all other frames."""
        z = self.encoder(waveform)
        c = self.gru(z)[0]
        B, T, D = z.shape
        frames = z.reshape(B * T, D)
        losses = []
        for k, predictor in enumerate(self.predictors, 1):
            prediction = predictor(c[:, : T - k]).reshape(-1, D)
            positive = torch.tensor([i * T + t + k for i in range(B) for t in range(T - k)])
            drawn = torch.randint(B * T - 1, (len(positive), negatives), generator=generator)
            drawn = drawn + (drawn >= positive[:, None])  # never the positive
            vectors = torch.cat((frames[positive][:, None], frames[drawn]), dim=1)  # (predictions, 1 + negatives, D)
            scores = torch.bmm(vectors, prediction[:, :, None])[:, :, 0]
            losses.append(F.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long)))
        return torch.stack(losses).mean()


def all_windows(num_samples: Sequence[int], window_samples: int) -> list[tuple[int, int]]:
    """Every window there is: (utterance, first sample)."""
    return [(u, start) for u, n in enumerate(num_samples) for start in range(n - window_samples + 1)]


def overlap(a: tuple[int, int], b: tuple[int, int], window_samples: int) -> bool:
    """Whether two windows share a sample."""
    samples = [{(u, start + offset) for offset in range(window_samples)} for u, start in (a, b)]
    return bool(samples[0] & samples[1])


def minibatch_probabilities(
    num_samples: Sequence[int], speakers: Sequence[str], window_samples: int, same_speaker: bool
) -> dict[tuple, float]:
    """Probability of every ordered minibatch of two windows: one of all windows, then one of those (of the speaker's,
    with ``same_speaker``) that do not overlap it. It must always leave one."""
    everything = all_windows(num_samples, window_samples)
    result = {}
    for first in everything:
        seconds = [
            w
            for w in everything
            if not overlap(first, w, window_samples) and (not same_speaker or speakers[w[0]] == speakers[first[0]])
        ]
        for second in seconds:
            result[first, second] = 1 / len(everything) / len(seconds)
    return result


def chi_square(observed: Sequence[int], expected: Sequence[float]) -> float:
    """How many standard deviations Pearson's statistic lies above its mean."""
    statistic = sum((o - e) ** 2 / e for o, e in zip(observed, expected, strict=True))
    freedom = len(observed) - 1
    return (statistic - freedom) / math.sqrt(2 * freedom)


def bootstrap(correct: Sequence[int], frames: Sequence[int], resamples: int, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the accuracy in per cent: utterances drawn with replacement, one by one."""
    rng = np.random.default_rng(seed)
    accuracies = []
    for _ in range(resamples):
        right = total = 0
        for _ in correct:
            u = int(rng.integers(len(correct)))
            right += correct[u]
            total += frames[u]
        accuracies.append(100 * right / total)
    accuracies.sort()
    return accuracies[round(0.025 * (resamples - 1))], accuracies[round(0.975 * (resamples - 1))]


def ratio_standard_error(correct: Sequence[int], frames: Sequence[int]) -> float:
    """Standard error of Σ correct / Σ frames over utterances, in per cent (linearised: the delta method)."""
    accuracy = sum(correct) / sum(frames)
    return 100 * math.sqrt(sum((c - accuracy * f) ** 2 for c, f in zip(correct, frames, strict=True))) / sum(frames)


def cpc_audio_weights(channels: int, units: int, layers: int, recurrence: str, seed: int) -> dict[str, Tensor]:
    """Random weights under the names of facebookresearch/CPC_audio; gains and shifts of the normalisation too."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}

    def add(name: str, *shape: int, scale: float, mean: float = 0.0) -> None:
        weights[name] = mean + scale * torch.randn(*shape, generator=generator)

    inputs = 1
    for i, (kernel, _, _) in enumerate(CONVOLUTIONS):
        add(f"gEncoder.conv{i}.weight", channels, inputs, kernel, scale=(2 / (inputs * kernel)) ** 0.5)
        add(f"gEncoder.conv{i}.bias", channels, scale=0.1)
        add(f"gEncoder.batchNorm{i}.weight", 1, channels, 1, scale=0.3, mean=1.0)
        add(f"gEncoder.batchNorm{i}.bias", 1, channels, 1, scale=0.3)
        inputs = channels
    gates = {"GRU": 3, "LSTM": 4}[recurrence]
    for layer in range(layers):
        for kind, columns in (("weight_ih", inputs), ("weight_hh", units)):
            add(f"gAR.baseNet.{kind}_l{layer}", gates * units, columns, scale=units**-0.5)
        for kind in ("bias_ih", "bias_hh"):
            add(f"gAR.baseNet.{kind}_l{layer}", gates * units, scale=0.2)
        inputs = units
    return weights


def cpc_audio_features(weights: dict[str, Tensor], recurrence: str, waveform: Tensor) -> tuple[Tensor, list[Tensor]]:
    """z and every layer's c of CPC_audio for waveforms (B, n): torch's convolution, a normalisation over the channels
    by their unbiased variance, ReLU; then the gates of a GRU or LSTM frame by frame, as torch documents them."""
    x = waveform[:, None]
    for i, (_, stride, padding) in enumerate(CONVOLUTIONS):
        x = F.conv1d(x, weights[f"gEncoder.conv{i}.weight"], weights[f"gEncoder.conv{i}.bias"], stride, padding)
        d = x.shape[1]
        mean = x.sum(1, keepdim=True) / d
        variance = ((x - mean) ** 2).sum(1, keepdim=True) / (d - 1)
        x = (x - mean) / (variance + 1e-5) ** 0.5
        x = x * weights[f"gEncoder.batchNorm{i}.weight"] + weights[f"gEncoder.batchNorm{i}.bias"]
        x = x.clamp(min=0)
    z = x.transpose(1, 2)
    outputs: list[Tensor] = []
    below = z
    while (prefix := f"gAR.baseNet.weight_ih_l{len(outputs)}") in weights:
        layer = len(outputs)
        w_x, w_h = weights[prefix], weights[f"gAR.baseNet.weight_hh_l{layer}"]
        b_x, b_h = weights[f"gAR.baseNet.bias_ih_l{layer}"], weights[f"gAR.baseNet.bias_hh_l{layer}"]
        h = cell = torch.zeros(len(z), w_h.shape[1], dtype=z.dtype)
        frames = []
        for t in range(z.shape[1]):
            from_below, from_before = below[:, t] @ w_x.t() + b_x, h @ w_h.t() + b_h
            if recurrence == "LSTM":
                enter, keep, candidate, leave = (from_below + from_before).chunk(4, dim=1)
                cell = keep.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
                h = leave.sigmoid() * cell.tanh()
            else:
                (r, u, n), (r_h, u_h, n_h) = from_below.chunk(3, dim=1), from_before.chunk(3, dim=1)
                reset, update = (r + r_h).sigmoid(), (u + u_h).sigmoid()
                h = (1 - update) * (n + reset * n_h).tanh() + update * h
            frames.append(h)
        below = torch.stack(frames, dim=1)
        outputs.append(below)
    return z, outputs
