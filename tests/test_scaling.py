"""docs/scaling.md and the benchmark's ratios: the arithmetic between what is measured and what is said."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "local" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BENCH, SCALING = script("bench"), script("scaling")

MEDIANS: dict[str, dict[str, float]] = {
    "update": {"seconds": 0.2, "own_mb": 300.0, "total_mb": 900.0},
    "reference": {"seconds": 5.0, "own_mb": 2000.0, "total_mb": 2500.0},
    "encoder": {"seconds": 0.08, "plain_seconds": 0.2},
    "breakdown": {
        "encoder": 0.08, "context": 0.05, "scores": 0.05, "optimiser": 0.002, "saved_mb_per_window": 18.0,
        "saved_mb_per_window_512": 35.0, "operators": 1000.0, "matrix_rate": 2e12, "matrix_rate_fp32": 3e11,
        "copy_rate": 2e10,
    },
    "windows": {"per_second": 40_000.0},
    "growth": {"small_mb": 1500.0, "growth_mb": 4.0},
    "extract": {"realtime": 300.0, "plain_realtime": 50.0},
    "long": {"minute_mb": 700.0, "growth_mb": 30.0},
}  # fmt: skip


def test_ratios_are_the_right_way_round() -> None:
    """Time: reference / ours, so more is better. Memory: ours / reference, so less is."""
    assert BENCH.summary(MEDIANS) == {
        "update_time_ratio": pytest.approx(25.0),
        "update_memory_ratio": pytest.approx(0.15),
        "encoder_conv_ratio": pytest.approx(2.5),
        "windows_per_second": 40_000.0,
        "rss_growth_mb": 4.0,
        "extract_realtime": 300.0,
        "extract_ratio": pytest.approx(6.0),
        "extract_growth_mb": 30.0,
    }
    printed = "\n".join(BENCH.lines(BENCH.summary(MEDIANS), MEDIANS))
    for words in (
        "200 ms, 25.0 times",
        "0.15 of the reference's",
        "2.50 times",
        "40,000 a second",
        "6.0 times a plain",
    ):
        assert words in printed, words


def test_page_is_made_of_the_measurements(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts: dict[str, Any] = {"extracted": "x", "machine": "m", "commit": "c", "date": "d", "versions": {"torch": "2"}}
    (tmp_path / "bench.json").write_text(json.dumps({**BENCH.summary(MEDIANS), "medians": MEDIANS, **facts}))
    SCALING.main([str(tmp_path / "bench.json")])
    page = capsys.readouterr().out
    # 512 channels: layers of 4096, 1024, 512, 256 and 128 frames with kernels 10, 8, 4, 4, 4.
    frames = sum(128 - k for k in range(1, 13))
    encoder = 4096 * 10 * 512 + 1024 * 512 * 512 * 8 + (512 + 256 + 128) * 512 * 512 * 4
    rest = 128 * 3 * 256 * 768, frames * 512 * 256, frames * 512 * 1024
    row = [encoder, *rest]
    cells = [f"{n / 1e6:,.0f} ({n / sum(row):.0%})" for n in row]
    assert f"| 512 | {' | '.join(cells)} | {6 * sum(row) / 1e9:.1f} |" in page
    assert "200 ms an update, 51 times real time" in page  # 8 windows of 1.28 s in 0.2 s
    assert not re.search(r"[{}]|nan|inf\b", page)


def test_a_gpus_update_by_hand() -> None:
    seconds = {"products": 1.0, "memory": 2.0, "recurrence": 3.0, "launches": 5.0, "exchange": 0.5}
    assert SCALING.update_time(seconds) == 6.5  # its work, behind which the launches hide
    assert SCALING.update_time(seconds | {"launches": 9.0}) == 9.5
    h100 = SCALING.gpu_update("H100 SXM", saved=1e8, operators=1000)
    assert h100["memory"] == pytest.approx(5 * 1e8 / 3.35e12)
    assert h100["launches"] == pytest.approx(6e-3)


def test_published_page_is_what_the_template_gives() -> None:
    """Headings and bars of docs/scaling.md come from the template: a change of one without the other is seen."""
    template = (ROOT / "local" / "scaling.template.md").read_text()
    page = (ROOT / "docs" / "scaling.md").read_text()
    fixed = [line for line in template.splitlines() if line and "{" not in line]
    assert len(fixed) > 20
    assert [line for line in fixed if line not in page] == []
