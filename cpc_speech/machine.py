"""How torch uses this machine: the precision of matrix products, their rate, and freed memory that is kept."""

from __future__ import annotations

import ctypes
import logging
import sys
import time

import torch
import torch.nn.functional as F

from cpc_speech import threads

CPU = torch.device("cpu")

log = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # names of glibc's malloc.h
_RATE_SECONDS = 0.3  # that matrix_rate takes at most, and a product more


def native_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16: AMX or AVX512_BF16, CUDA from compute capability 8.0. What only emulates it
    (other processors, older GPUs) takes up to 50 times as long as in fp32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2"):  # so it is, or ATEN_CPU_CAPABILITY says so
        return False
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def resolve(precision: str, device: torch.device) -> str:
    """``auto`` → ``bf16`` where the device multiplies it natively, else ``fp32``; the others as they are."""
    if precision != "auto":
        return precision
    return "bf16" if native_bf16(device) else "fp32"


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """A context in which a network's products round their factors to bf16, where that is the precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=resolve(precision, device) == "bf16")


def set_up(precision: str, device: torch.device = CPU) -> None:
    """Call this before training or extraction in ``precision``, as ``resolve`` takes it, on ``device``."""
    precision = resolve(precision, device)
    set_matmul_precision(precision)
    if precision == "bf16" and not native_bf16(device):
        log.warning("this %s emulates bf16, which is slow; precision fp32 or auto is faster here", device.type.upper())
    keep_freed_memory()
    threads.share_cores()


def set_matmul_precision(precision: str) -> None:
    """With bf16, let fp32 products, the scores', round their factors too; their sums stay fp32."""
    fast = precision == "bf16"
    torch.backends.mkldnn.matmul.fp32_precision = "bf16" if fast else "ieee"  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = "tf32" if fast else "ieee"
    torch.backends.cudnn.rnn.fp32_precision = "tf32" if fast else "ieee"  # type: ignore[attr-defined]
    torch.backends.cudnn.conv.fp32_precision = "tf32" if fast else "ieee"  # type: ignore[attr-defined]


def keep_freed_memory() -> None:
    """Have malloc keep what is freed. By default glibc gives blocks of many MiB back to the kernel, which must clear
    every page again for the next update's activations: a fifth of its time. Without glibc nothing is done."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "gnu_get_libc_version"):
            libc.mallopt(_M_MMAP_MAX, 0)
            libc.mallopt(_M_TRIM_THRESHOLD, -1)


def matrix_rate(device: torch.device, precision: str, seconds: float = _RATE_SECONDS) -> float:
    """Floating-point operations a second of a large matrix product here, in the layout of ``nn.Linear``.

    Products grow from 128 × 128 matrices to 2048 × 2048 (8192 on a GPU), and the largest is repeated, as long as the
    next is expected to end within ``seconds``: so that the measurement is short where products are slow.
    """
    size, largest = 128, 2048 if device.type == "cpu" else 8192
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    best, end = 0.0, time.perf_counter() + seconds
    while True:
        a = torch.ones(size, size, dtype=dtype, device=device)
        _synchronise(device)
        started = time.perf_counter()
        F.linear(a, a)
        _synchronise(device)
        now = time.perf_counter()
        best = max(best, 2 * size**3 / (now - started))
        size = min(2 * size, largest)
        if now + 2 * size**3 / best > end:
            break
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return best


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
