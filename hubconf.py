"""For torch.hub: ``torch.hub.load("OWNER/cpc_speech", "cpc", "exp/mixed_speaker")`` is ``cpc_speech.load``."""

from cpc_speech import load as cpc

__all__ = ["cpc"]
dependencies = ["torch", "torchaudio", "numpy", "yaml", "tqdm", "safetensors"]
