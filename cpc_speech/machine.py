"""How torch uses this machine: the precision of matrix products, and freed memory that is kept for reuse."""

from __future__ import annotations

import ctypes
import logging
import sys
import time

import torch

log = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # names of glibc's malloc.h


def set_up(precision: str) -> None:
    """Call this before training or extraction in ``precision``, fp32 or bf16."""
    set_matmul_precision(precision)
    if precision == "bf16" and torch.cuda.is_available() and not torch.cuda.is_bf16_supported(False):  # by emulation
        log.warning("this GPU has no bf16 and emulates it, slowly; precision=fp32, another experiment, suits it better")
    keep_freed_memory()


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


def matrix_rate(device: torch.device, precision: str) -> float:
    """Floating-point operations a second that a large matrix product reaches here, the best of a few."""
    size = 2048 if device.type == "cpu" else 8192
    a = torch.ones(size, size, dtype=torch.bfloat16 if precision == "bf16" else torch.float32, device=device)
    best = float("inf")
    for _ in range(10):
        _synchronise(device)
        started = time.perf_counter()
        a @ a
        _synchronise(device)
        best = min(best, time.perf_counter() - started)
    del a
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return 2 * size**3 / best


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
