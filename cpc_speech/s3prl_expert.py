"""A pretrained model as an upstream of s3prl (0.4.18), for SUPERB's tasks and s3prl's own recipes.

    from s3prl import hub
    from s3prl.nn import Featurizer, S3PRLUpstream
    from cpc_speech.s3prl_expert import cpc_speech

    hub.cpc_speech = cpc_speech
    upstream = S3PRLUpstream("cpc_speech", path_or_url="exp/same_speaker")
    featurizer = Featurizer(upstream)

s3prl's ``run_downstream.py``, with the upstream ``cpc_speech`` beside its own:

    python -m cpc_speech.s3prl_expert -m train -u cpc_speech -k exp/same_speaker -d DOWNSTREAM -c CONFIG -p EXP

s3prl calls what newer torchaudio has removed, so it wants an environment of its own: docs/s3prl.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from cpc_speech.errors import UserError, run
from cpc_speech.model import HOP
from cpc_speech.pretrained import read_model


class UpstreamExpert(nn.Module):
    """What s3prl asks of an upstream: waveforms in, ``hidden_states`` out, at ``HOP`` samples a frame.

    Encoder and context are frozen or trained on as s3prl sets gradients.

    Args:
        ckpt: what ``cpc_speech.load`` takes.

    Raises:
        UserError: there is no such model.
    """

    def __init__(self, ckpt: str, **options: Any) -> None:
        super().__init__()
        self.name = "CPC"
        model = read_model(ckpt).model
        self.encoder, self.context = model.encoder, model.context

    def get_downsample_rates(self, key: str) -> int:
        """Samples of 16 kHz a frame, of all keys."""
        return HOP

    def forward(self, wavs: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        """Waveforms (n_i,) in [−1, 1] → c_t as the one of ``hidden_states``, z_t as that of ``z``.

        Either is (B, T, D), T = ceil(n / 160) of the longest, as s3prl counts frames: an utterance's last frame is
        repeated for the rest of it, and for the padding after it.
        """
        matrices = self.encoder.matrices()
        none = wavs[0].new_zeros(0, self.encoder.channels)  # the frames of what is shorter than one
        z = [self.encoder.long(wav, matrices) if len(wav) >= HOP else none for wav in wavs]
        c = self.context(F.pad(pad_sequence(z, batch_first=True), (0, 0, 0, 1)))[0]  # of one frame at the least
        longest = max(-(-len(wav) // HOP) for wav in wavs)
        return {
            "hidden_states": [torch.stack([_held(c[i, : len(frames)], longest) for i, frames in enumerate(z)])],
            "z": [torch.stack([_held(frames, longest) for frames in z])],
        }


def _held(frames: Tensor, count: int) -> Tensor:
    """(T, D) → (count, D), the last frame repeated; of less than one frame, zeros."""
    if not len(frames):
        return F.pad(frames, (0, 0, 0, count))
    return frames[[*range(len(frames)), *[-1] * (count - len(frames))]]


def cpc_speech(ckpt: str, *args: Any, **options: Any) -> UpstreamExpert:
    """What s3prl's hub calls."""
    return UpstreamExpert(ckpt, **options)


def main() -> None:
    """s3prl's run_downstream.py, by its own command line.

    Raises:
        UserError: s3prl, or what it imports, is not here.
    """
    try:
        from s3prl import hub, run_downstream
    except ImportError as error:
        raise UserError(f"this needs s3prl in an environment of its own: see docs/s3prl.md ({error})") from error
    hub.cpc_speech = cpc_speech
    run_downstream.main()


if __name__ == "__main__":
    run(main)
