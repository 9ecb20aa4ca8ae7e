"""What a model costs, by its configuration: parameters, and floating-point operations of an update."""

from __future__ import annotations

from cpc_speech.config import Config
from cpc_speech.packed import SAMPLE_RATE

GATES = {"gru": 3, "lstm": 4}  # of a unit, its candidate value included
KERNELS, STRIDES = (10, 8, 4, 4, 4), (5, 4, 2, 2, 2)  # the encoder's, van den Oord et al., section 3.1


def parameters(config: Config) -> int:
    """Weights and biases: convolutions (and a gain and bias of each one's normalisation), recurrence, predictors."""
    channels, context = config.channels, config.context_dim
    inputs = (1, channels, channels, channels, channels)
    encoder = sum(channels * (n * kernel + 3) for n, kernel in zip(inputs, KERNELS, strict=True))
    biases = config.context_layers * GATES[config.recurrence] * 2 * context
    return encoder + _context_weights(config) + biases + config.steps * context * channels


def _context_weights(config: Config) -> int:
    """Of all layers' matrices: what a frame costs in multiply-adds."""
    inputs = config.channels + (config.context_layers - 1) * config.context_dim
    return GATES[config.recurrence] * config.context_dim * (inputs + config.context_layers * config.context_dim)


def multiply_adds(config: Config) -> dict[str, float]:
    """Multiply-adds of the forward pass of one window, by the part of the model they are spent in.

    Scores are products with all frames of the minibatch (of the window, for ``current_window``), whatever is
    masked or drawn from them afterwards.
    """
    channels, context, frames = config.channels, config.context_dim, config.frames
    encoder, length, inputs = 0.0, config.window_samples, 1
    for kernel, stride in zip(KERNELS, STRIDES, strict=True):
        length //= stride
        encoder += length * channels * inputs * kernel
        inputs = channels
    predictions = sum(frames - k for k in range(1, config.steps + 1))
    scored = frames * (1 if config.candidates == "current_window" else config.windows)
    return {
        "encoder": encoder,
        "context": frames * _context_weights(config),
        "predictors": predictions * channels * context,
        "scores": predictions * channels * scored,
    }


def operations(config: Config) -> dict[str, float]:
    """Floating-point operations of an update, by part of the model: 2 a multiply-add, and twice the forward pass's for
    the backward pass."""
    windows = config.windows * config.minibatches
    return {part: 6 * windows * value for part, value in multiply_adds(config).items()}


def update_operations(config: Config) -> float:
    """Floating-point operations of an update."""
    return sum(operations(config).values())


def update_seconds(config: Config) -> float:
    """Seconds of audio heard in an update."""
    return config.minibatches * config.windows * config.window_samples / SAMPLE_RATE
