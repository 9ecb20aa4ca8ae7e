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
    "pair": {"seconds": 0.35},
    "reference": {"seconds": 5.0, "own_mb": 2000.0, "total_mb": 2500.0},
    "encoder": {"seconds": 0.08, "plain_seconds": 0.2},
    "breakdown": {
        "encoder": 0.08, "context": 0.05, "scores": 0.05, "optimiser": 0.002, "saved_mb_per_window": 18.0,
        "matrix_rate": 2e12, "copy_rate": 2e10,
    },
    "windows": {"per_second": 40_000.0},
    "growth": {"small_mb": 1500.0, "growth_mb": 4.0},
    "extract": {"realtime": 300.0, "plain_realtime": 50.0},
    "long": {"minute_mb": 700.0, "growth_mb": 30.0},
}  # fmt: skip


def test_ratios_are_the_right_way_round() -> None:
    """Time: reference / ours, so more is better. Memory: ours / reference, so less is."""
    # 7.86e9 operations a window in training, and five passes over 8 · 18 MB.
    limit = 8 * 7.863e9 / 2e12 + 5 * 8 * 18e6 / 2e10
    assert BENCH.summary(MEDIANS) == {
        "update_seconds": 0.2,
        "limit_seconds": pytest.approx(limit, rel=1e-3),
        "update_over_limit": pytest.approx(0.2 / limit, rel=1e-3),
        "pair_ratio": pytest.approx(1.75),
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
    facts: dict[str, Any] = {"precision": "fp32", "commit": "c", "date": "d", "versions": {"torch": "2"}}
    for name in ("a", "b with AMX"):
        made = {**BENCH.summary(MEDIANS), "medians": MEDIANS, **facts, "machine": f"2 cores of {name}, 9 GiB"}
        (tmp_path / f"{name[0]}.json").write_text(json.dumps(made))
    SCALING.main([str(tmp_path / f"{name}.json") for name in "ab"])
    page = capsys.readouterr().out
    # 512 channels: layers of 4096, 1024, 512, 256 and 128 frames with kernels 10, 8, 4, 4, 4.
    frames = sum(128 - k for k in range(1, 13))
    encoder = 4096 * 10 * 512 + 1024 * 512 * 512 * 8 + (512 + 256 + 128) * 512 * 512 * 4
    rest = 128 * 3 * 256 * 768, frames * 512 * 256, frames * 512 * 1024
    row = [encoder, *rest]
    cells = [f"{n / 1e6:,.0f} ({n / sum(row):.0%})" for n in row]
    assert f"| 512 | {' | '.join(cells)} | {6 * sum(row) / 1e9:.1f} |" in page
    assert "| 2 cores of a, fp32 | Intel with AMX, fp32 |" in page
    assert "| an update | 200 ms | 200 ms |\n| audio, × real time | 51 | 51 |" in page  # 8 windows of 1.28 s in 0.2 s
    assert not re.search(r"[{}]|nan|inf\b", page)


def test_published_page_is_what_the_template_gives() -> None:
    """Headings and bars of docs/scaling.md come from the template: a change of one without the other is seen."""
    template = (ROOT / "local" / "scaling.template.md").read_text()
    page = (ROOT / "docs" / "scaling.md").read_text()
    fixed = [line for line in template.splitlines() if line and "{" not in line]
    assert len(fixed) > 15
    assert [line for line in fixed if line not in page] == []
