"""A linear classifier of frames, as a probe leaves it for ``cpc_speech.posteriors``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cpc_speech.errors import UserError
from cpc_speech.files import atomic_write
from cpc_speech.tasks import Task

# The rarest phone, ZH, has some 5 in 10,000 frames of English; a class that was never seen has no share to divide by.
PRIOR_FLOOR = 1e-4


@dataclass
class LinearClassifier:
    """Classes C from frames of D values.

    Attributes:
        weight, bias: (C, D) and (C,), of standardised frames.
        mean, std: (D,) or scalar, by which frames are standardised first.
        log_priors: (C,), log of each class's share of the labelled training frames, taken as PRIOR_FLOOR at least.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    std: Tensor
    log_priors: Tensor

    def log_likelihoods(self, frames: Tensor) -> Tensor:
        """Frames (T, D) → log p(class | frame) − log p(class): (T, C) float32.

        By Bayes' rule that is log p(frame | class) but for a term of the frame alone, which is what a path through
        the classes wants to sum: hybrid HMMs (Bourlard and Morgan, Connectionist Speech Recognition, 1994).
        """
        # In double precision, which no setting of the network's matrix products touches.
        x = (frames.cpu().double() - self.mean) / self.std
        logits = x @ self.weight.double().T + self.bias
        return (logits.log_softmax(1) - self.log_priors).float()


def save_classifier(
    path: Path, linear: nn.Linear, task: Task, mean: np.ndarray | float = 0.0, std: np.ndarray | float = 1.0
) -> None:
    """Write ``linear``, trained on ``task``'s train split on frames standardised by ``mean`` and ``std``."""
    log_priors = torch.from_numpy(np.log(np.maximum(task.shares(), PRIOR_FLOOR)))
    weight, bias = linear.weight.detach().cpu(), linear.bias.detach().cpu()
    classifier = LinearClassifier(weight, bias, torch.as_tensor(mean), torch.as_tensor(std), log_priors)
    with atomic_write(path, "wb") as file:
        torch.save(asdict(classifier), file)


def load_classifier(path: Path) -> LinearClassifier:
    """What ``save_classifier`` wrote.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the probe that leaves it (stage 5), again if it is an old one")
    try:
        return LinearClassifier(**torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # what a truncated zip or a foreign file raises is not one type
        raise UserError(f"{path}: cannot be read ({error}); run the probe that leaves it (stage 5) again") from error
