"""What stands beside every published number: command, commit, machine, versions, date."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# What stage 9 publishes is no code, and would otherwise mark all that is measured after it.
PUBLISHED = ("RESULTS.md", "report.html", "results.json", "figures/*")


def provenance() -> dict[str, Any]:
    """Facts about this process, as plain values for JSON."""
    import torch

    return {
        "command": command(),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def command() -> str:
    """What was typed, with files of this source tree named from its root, so that it reads the same on any machine."""
    typed = getattr(sys, "orig_argv", [sys.executable, *sys.argv])  # Python 3.9, which k2 may need, knows no better
    words = [Path(typed[0]).name, *typed[1:]]
    return " ".join(shlex.quote(word.replace(f"{ROOT}/", "")) for word in words)


def commit() -> str:
    """The source tree's commit, with ``+`` where it holds uncommitted changes other than published reports; or
    ``unknown`` outside git."""
    code = [".", *(f":(exclude)recipes/*/{name}" for name in PUBLISHED)]
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=10", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain", "-uno", "--", *code], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def machine() -> str:
    """Processor, cores, memory and GPUs in one line."""
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
        flags = next((line for line in lines if line.startswith("flags")), "")
        model += " with AMX" if " amx_bf16" in flags else ""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    cores = len(os.sched_getaffinity(0))
    return ", ".join([f"{cores} core{'s' * (cores > 1)} of {model}", f"{memory:.0f} GiB", *gpus])
