"""A trace of a few updates by torch's profiler: what the time is spent on."""

from __future__ import annotations

import logging
from pathlib import Path

from torch.profiler import ProfilerActivity, profile, schedule

from cpc_speech.processes import Processes

log = logging.getLogger(__name__)

_PASSED_OVER, _WARM_UP, _RECORDED = 3, 1, 5  # updates: the first ones allocate, and choose kernels


def trace(folder: Path, processes: Processes) -> profile:
    """A profiler to be entered and, after each update, stepped.

    It leaves ``<rank>.json.gz`` (open it in https://ui.perfetto.dev or chrome://tracing) and ``<rank>.txt``, the
    operations that take most time.
    """
    cuda = processes.device.type == "cuda"
    folder.mkdir(parents=True, exist_ok=True)

    def write(profiler: profile) -> None:
        profiler.export_chrome_trace(str(folder / f"{processes.rank}.json.gz"))
        order = "self_cuda_time_total" if cuda else "self_cpu_time_total"
        table = profiler.key_averages().table(sort_by=order, row_limit=30)
        (folder / f"{processes.rank}.txt").write_text(table, encoding="utf-8")
        log.info("trace of at most %d updates: %s/%d.json.gz and .txt", _RECORDED, folder, processes.rank)

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    when = schedule(wait=_PASSED_OVER, warmup=_WARM_UP, active=_RECORDED, repeat=1)
    return profile(activities=activities, schedule=when, on_trace_ready=write)
