"""Contrastive Predictive Coding for raw audio (van den Oord, Li, Vinyals 2018, section 3.1).

Shapes: B windows (or utterances), n samples, T = n // 160 frames, C channels, H context units, L context layers,
K steps ahead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HOP = 160  # samples a frame: the product of the encoder's strides
# Frames that Encoder.long encodes at a time: on a CPU, for each thread, as many as keep the activations in its cache.
_PIECE, _PIECE_ON_GPU = 100, 4000
_RECURRENCES = {"gru": nn.GRU, "lstm": nn.LSTM}

State = Tensor | tuple[Tensor, Tensor]  # of a recurrence, each tensor (L, B, H): a GRU's h, an LSTM's h and cell


class ConvBlock(nn.Module):
    """A strided convolution over channels-last frames, normalised over its channels, then a ReLU.

    Its parameters are ``nn.Conv1d``'s and ``nn.LayerNorm``'s. Because the kernel spans exactly two strides,
    the convolution is one matrix product: output t sees input blocks t and t+1 of ``stride`` frames each, so
    two neighbouring blocks side by side make one row of the left factor. That keeps the channels last, which
    the normalisation and the next layer want, and is more than twice as fast as ``nn.Conv1d`` on a CPU.

    The channel-wise LayerNorm is ours; the paper names no normalisation for audio, and without one or without
    He's initialisation training stays at chance for hundreds of updates.
    """

    def __init__(
        self, inputs: int, channels: int, kernel: int, stride: int, padding: int, norm_epsilon: float = 1e-5
    ) -> None:
        super().__init__()
        if kernel != 2 * stride:
            raise ValueError(f"kernel {kernel} must be twice the stride {stride}")
        self.conv = nn.Conv1d(inputs, channels, kernel, stride, padding)
        self.norm = nn.LayerNorm(channels, norm_epsilon)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def matrix(self) -> Tensor:
        """The kernel as that product's right factor: (channels, 2 · stride · inputs)."""
        return self.conv.weight.transpose(1, 2).flatten(1)

    def forward(self, x: Tensor, matrix: Tensor | None = None) -> Tensor:
        """(B, T · stride, inputs) → (B, T, channels); ``matrix`` is ``self.matrix()``, where that is at hand."""
        batch, length, inputs = x.shape
        stride, padding = self.conv.stride[0], int(self.conv.padding[0])
        frames = length // stride
        # Left padding as nn.Conv1d's; on the right, zeros up to the last whole block.
        blocks = F.pad(x, (0, 0, padding, stride - padding)).view(batch, frames + 1, stride * inputs)
        receptive_field = torch.cat((blocks[:, :-1], blocks[:, 1:]), dim=-1)
        product = F.linear(receptive_field, self.matrix() if matrix is None else matrix, self.conv.bias)
        return F.relu(self.norm(product), inplace=True)


class Encoder(nn.Module):
    """g_enc: five strided convolutions, one frame z_t per 160 samples."""

    def __init__(self, channels: int, norm_epsilon: float = 1e-5) -> None:
        super().__init__()
        self.channels = channels
        self.layers = nn.Sequential(
            ConvBlock(1, channels, kernel=10, stride=5, padding=3, norm_epsilon=norm_epsilon),
            ConvBlock(channels, channels, kernel=8, stride=4, padding=2, norm_epsilon=norm_epsilon),
            ConvBlock(channels, channels, kernel=4, stride=2, padding=1, norm_epsilon=norm_epsilon),
            ConvBlock(channels, channels, kernel=4, stride=2, padding=1, norm_epsilon=norm_epsilon),
            ConvBlock(channels, channels, kernel=4, stride=2, padding=1, norm_epsilon=norm_epsilon),
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform (B, n) in [−1, 1], cropped to whole frames → z (B, n // 160, C)."""
        frames = waveform.shape[1] // HOP
        return self.layers(waveform[:, : frames * HOP, None])

    def matrices(self) -> list[Tensor]:
        """The layers' ``matrix()`` in autocast's type, for ``long``: making them anew for every few frames would take
        longer than multiplying by them."""
        matrices = [layer.matrix() for layer in cast("Iterable[ConvBlock]", self.layers)]
        device = matrices[0].device.type
        if torch.is_autocast_enabled(device):
            matrices = [matrix.to(torch.get_autocast_dtype(device)) for matrix in matrices]
        return matrices

    def long(self, waveform: Tensor, matrices: Sequence[Tensor] | None = None) -> Tensor:
        """One waveform (n,) of any length → z (n // 160, C): ``forward`` piece by piece, in bounded memory.

        Frame t sees samples 160·t − 153 … 160·t + 311, so one frame more at either end of a piece hides its edges.

        Args:
            matrices: ``self.matrices()``, where they are at hand.
        """
        matrices = matrices or self.matrices()
        frames = len(waveform) // HOP
        piece = _PIECE * torch.get_num_threads() if waveform.device.type == "cpu" else _PIECE_ON_GPU
        pieces = []
        for first in range(0, frames, piece):
            last = min(first + piece, frames)
            begin, end = max(first - 1, 0), min(last + 1, frames)
            z = waveform[None, begin * HOP : end * HOP, None]
            for layer, matrix in zip(self.layers, matrices):
                z = layer(z, matrix)
            pieces.append(z[0, first - begin : last - begin])
        return torch.cat(pieces)


class Context(nn.Module):
    """g_ar: a GRU or LSTM of one or more layers; the last one's output at every frame is c_t."""

    def __init__(self, channels: int, context_dim: int, recurrence: str = "gru", layers: int = 1) -> None:
        super().__init__()
        self.rnn = _RECURRENCES[recurrence](channels, context_dim, layers, batch_first=True)

    def forward(self, z: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """z (B, T, C), state or None, which is zeros → c (B, T, H), state after the last frame."""
        # In fp32 under autocast too. On CPUs the products of one frame are too small for bf16 to pay; on GPUs autocast
        # would take fp16 for recurrences, where this gradient (about 1e-5, unscaled) is subnormal.
        with torch.autocast(z.device.type, enabled=False):
            return self.rnn(z.float(), state)


class CPC(nn.Module):
    """Encoder, context and the K linear predictors W_k of the log-bilinear score exp(z_{t+k}ᵀ W_k c_t).

    The arguments are keys of the configuration (``conf/cpc.yaml``); a model of 0 steps is for features alone.
    ``architecture`` holds them: ``CPC(**model.architecture)`` is a network of the same shape.
    """

    def __init__(
        self,
        channels: int = 512,
        context_dim: int = 256,
        steps: int = 12,
        norm_epsilon: float = 1e-5,
        recurrence: str = "gru",
        context_layers: int = 1,
    ) -> None:
        super().__init__()
        self.architecture: dict[str, Any] = {
            "channels": channels, "norm_epsilon": norm_epsilon, "context_dim": context_dim, "recurrence": recurrence,
            "context_layers": context_layers, "steps": steps,
        }  # fmt: skip
        self.encoder = Encoder(channels, norm_epsilon)
        self.context = Context(channels, context_dim, recurrence, context_layers)
        self.predictors = nn.ModuleList(nn.Linear(context_dim, channels, bias=False) for _ in range(steps))

    def forward(self, waveform: Tensor, state: State | None = None) -> tuple[Tensor, Tensor]:
        """Waveform (B, n) in [−1, 1] → z (B, T, C), c (B, T, H)."""
        z = self.encoder(waveform)
        return z, self.context(z, state)[0]

    def truncated(self, layers: int) -> CPC:
        """The network up to the context's layer number ``layers``, 1 the first, whose output is then c: the same
        weights, shared. It has no predictors, and computes nothing of the layers above.

        Raises:
            ValueError: the context has no such layer.
        """
        if not 1 <= layers <= self.context.rnn.num_layers:
            raise ValueError(f"the context has layers 1 to {self.context.rnn.num_layers}, not {layers}")
        with torch.device("meta"):  # only the shape is wanted
            model = CPC(**self.architecture | {"steps": 0, "context_layers": layers})
        model.encoder = self.encoder
        for name in dict(model.context.rnn.named_parameters()):
            setattr(model.context.rnn, name, getattr(self.context.rnn, name))
        return model.train(self.training)
