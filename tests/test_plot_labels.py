"""The figure of an utterance: what stands in it, and that the command writes it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("librosa")

from cpc_speech.errors import UserError
from cpc_speech.phones import Interval, intervals_from_labels
from data_prep.label_sets import Labels


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).resolve().parents[1] / "local" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PLOT = script("plot_labels")

FRAMES = np.repeat(np.array([1, 11, 3, 0, 41], dtype=np.int32), [20, 30, 10, 15, 25])
TIMES = [Interval(0.0, 0.205, "SIL"), Interval(0.205, 0.48, "D"), Interval(0.48, 1.0, "AA")]
TONE = (8_000 * np.sin(2 * np.pi * 2_000 * np.arange(16_000) / 16_000)).astype(np.int16)


def label_sets():
    phones = [interval for interval in intervals_from_labels(FRAMES, 16_000) if interval.phone != "<eps>"]
    return [
        ("a.ctm", Labels(FRAMES, TIMES, [True, True, False])),
        ("phones.scp", Labels(FRAMES, phones, [True] * len(phones))),
    ]


def names(axes):
    return [text.get_text() for text in axes.texts]


def test_what_is_drawn():
    figure = PLOT.draw("1-a", TONE, label_sets())
    wave, spectrum, *rows = figure.axes
    assert [row.get_ylabel() for row in rows] == ["a.ctm", "phones.scp"]
    assert [names(row) for row in rows] == [["SIL", "D", "AA"], ["SIL", "D", "AA", "ZH"]]
    assert all(axes.get_xlim() == (0, 1) for axes in figure.axes)
    # thin lines at the starts of the first set, the guess among them dashed
    lines = [(line.get_xdata()[0], line.get_linestyle()) for line in spectrum.lines]
    assert lines == [(0.0, "-"), (0.205, "-"), (0.48, "--")]
    # the tone's row is the darkest, at its frequency
    [image] = spectrum.images
    left, right, bottom, top = image.get_extent()
    decibels = image.get_array()
    row = int(decibels[:, 50].argmax())
    assert bottom + (row + 0.5) * (top - bottom) / decibels.shape[0] == pytest.approx(2.0)
    # column 50 is centred on sample 50 * 160
    assert left + 50.5 * (right - left) / decibels.shape[1] == pytest.approx(0.5)


def test_a_stretch_and_its_width():
    figure = PLOT.draw("1-a", TONE, label_sets(), start=0.3, end=0.7)
    assert [names(row) for row in figure.axes[2:]] == [["D", "AA"], ["D", "AA"]]
    assert all(axes.get_xlim() == (0.3, 0.7) for axes in figure.axes)
    long = PLOT.draw("1-a", np.tile(TONE, 20), label_sets())
    assert long.get_figwidth() / 20 == 2.4, "inches a second"
    for start, end in ((-0.1, 0.5), (0.5, 0.5), (0.5, 1.5)):
        with pytest.raises(UserError, match="the utterance has 0 to 1.000 s"):
            PLOT.draw("1-a", TONE, label_sets(), start, end)
    with pytest.raises(UserError, match="choose up to 120 s"):
        PLOT.draw("1-a", np.tile(TONE, 121), label_sets())


def test_the_command_writes_a_png(data, tmp_path):
    (tmp_path / "x.ctm").write_text("ann-001 1 0 0.5 SIL\nann-001 1 0.5 0.4 AA 0.5\n")
    to = tmp_path / "x.png"
    PLOT.main([str(data), "ann-001", str(tmp_path / "x.ctm"), str(data / "phones.scp"), "--to", str(to)])
    assert to.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(UserError, match="x.ctm: no labels of bob-001"):
        PLOT.main([str(data), "bob-001", str(tmp_path / "x.ctm"), "--to", str(to)])
    with pytest.raises(UserError, match="such as nobody"):
        PLOT.main([str(data), "nobody", str(tmp_path / "x.ctm"), "--to", str(to)])
    with pytest.raises(UserError, match="x.mp3: .*png"):
        PLOT.main([str(data), "ann-001", str(tmp_path / "x.ctm"), "--to", str(tmp_path / "x.mp3")])


def test_captions_say_who_made_the_labels(tmp_path):
    assert PLOT.caption(tmp_path / "phones.ctm") == "phones.ctm"
    (tmp_path / "labels.json").write_text('{"by": "posterior of same_speaker, c, by torchaudio"}')
    assert PLOT.caption(tmp_path / "phones.ctm").split("\n") == ["posterior of", "same_speaker, c,", "by torchaudio"]
