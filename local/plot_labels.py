"""Draw an utterance with its phone labels: waveform, spectrogram and a row of phones for each label set.

    python local/plot_labels.py DATA_DIR UTTERANCE A [B ...] --to FILE.png [--start S] [--end S]

A and B are each a CTM file, a folder of TextGrids or a phones.scp (data_prep/label_sets.py). Red lines are the starts
of A's phones, dashed where its CTM has a confidence below 1, which marks a guess; what has no label is hatched. Beyond
5 seconds the figure grows with the time that is shown.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import figures
import numpy as np

from cpc_speech.datadir import read_table
from cpc_speech.errors import UserError, require, run
from cpc_speech.packed import PackedAudio
from cpc_speech.phones import SAMPLE_RATE, SILENCE
from data_prep.label_sets import Labels, read_utterance

WINDOW, HOP, FFT = 400, 160, 512  # samples: windows of 25 ms every 10 ms, bins of 31 Hz
DYNAMIC_RANGE = 70  # dB below the loudest that are shown
WIDTH, SECOND = 12.0, 2.4  # inches: of a figure at least, and of a second at least
LONGEST = 120.0  # seconds
LINE, SHADES = "#d1495b", ("#e8eef4", "#d3dfea")


def draw(
    title: str,
    audio: np.ndarray,
    label_sets: Sequence[tuple[str, Labels]],
    start: float = 0.0,
    end: float | None = None,
) -> Any:
    """A matplotlib Figure of an utterance's seconds from ``start`` to ``end`` (default: the end of the audio).

    Args:
        audio: (samples,) int16 at 16 kHz.
        label_sets: captions and labels of this utterance; the first one's boundaries are drawn through the figure.

    Raises:
        UserError: a stretch that is empty, outside the audio or too long to draw.
    """
    librosa, ticker = require("librosa", "analysis"), require("matplotlib.ticker", "analysis")
    seconds = len(audio) / SAMPLE_RATE
    end = seconds if end is None else end
    if not 0 <= start < end <= seconds:
        raise UserError(f"from {start} to {end} s: the utterance has 0 to {seconds:.3f} s")
    if end - start > LONGEST:
        raise UserError(
            f"{end - start:.0f} s are more than can be drawn; choose up to {LONGEST:.0f} s by --start, --end"
        )

    tiers = len(label_sets)
    figure = figures.new(4.6 + 0.55 * tiers, width=max(WIDTH, SECOND * (end - start)))
    figure.get_layout_engine().set(h_pad=0.01, hspace=0.0)
    wave, spectrum, *rows = figure.subplots(2 + tiers, sharex=True, height_ratios=[1.1, 3.2, *[0.55] * tiers])
    figure.suptitle(title, fontsize=9)

    waveform = audio.astype(np.float32) / 32768
    wave.plot(np.arange(len(waveform)) / SAMPLE_RATE, waveform, color="#30415d", linewidth=0.4)
    wave.set_ylabel("amplitude", fontsize=figures.SMALL)

    transform = librosa.stft(waveform, n_fft=FFT, win_length=WINDOW, hop_length=HOP)  # column k is centred on 160 k
    decibels = librosa.amplitude_to_db(np.abs(transform), ref=np.max, top_db=DYNAMIC_RANGE)
    edge, bin_ = HOP / SAMPLE_RATE / 2, SAMPLE_RATE / FFT / 1000
    spectrum.imshow(
        decibels, origin="lower", aspect="auto", cmap="gray_r", interpolation="bilinear",
        extent=(-edge, (2 * decibels.shape[1] - 1) * edge, -bin_ / 2, 8 + bin_ / 2),
    )  # fmt: skip
    spectrum.set_ylim(0, 8)
    spectrum.set_ylabel("kHz", fontsize=figures.SMALL)

    reference = label_sets[0][1]
    for phone, sure in zip(reference.phones, reference.sure):
        for axes in (spectrum, *rows):
            axes.axvline(phone.start, color=LINE, linewidth=0.6, alpha=0.8, linestyle="-" if sure else "--")
    for row, (caption, labels) in zip(rows, label_sets):
        _tier(row, caption, labels, start, end)
    for axes in (wave, spectrum, *rows):
        axes.tick_params(labelsize=figures.SMALL)
    wave.xaxis.set_major_locator(ticker.MultipleLocator(0.5 if end - start > 1.5 else 0.1))
    wave.xaxis.set_minor_locator(ticker.AutoMinorLocator(5))
    rows[-1].set_xlabel("seconds", fontsize=figures.SMALL)
    wave.set_xlim(start, end)
    return figure


def _tier(axes: Any, caption: str, labels: Labels, start: float, end: float) -> None:
    """Boxes with the phones' names, high and low by turns so that short phones leave room for their neighbours'."""
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_ylabel(caption, fontsize=figures.SMALL, rotation=0, ha="right", va="center")
    axes.axvspan(start, end, facecolor="white", edgecolor="#b8c0c8", hatch="////", linewidth=0, zorder=0)
    for number, phone in enumerate(labels.phones):
        first, last = max(phone.start, start), min(phone.end, end)
        if first >= last:
            continue
        shade = "white" if phone.phone == SILENCE else SHADES[number % 2]
        axes.axvspan(phone.start, phone.end, facecolor=shade, edgecolor="#5b6b7f", linewidth=0.5)
        axes.text(
            (first + last) / 2, 0.71 - 0.42 * (number % 2), phone.phone,
            fontsize=figures.SMALL, ha="center", va="center",
            bbox={"facecolor": shade, "edgecolor": "none", "pad": 0.4},  # hides the lines that a name crosses
        )  # fmt: skip


def caption(path: Path) -> str:
    """Who made the labels, where a labels.json beside them says so; else the file's name."""
    facts = path.parent / "labels.json"
    name = json.loads(facts.read_text(encoding="utf-8"))["by"] if facts.is_file() else path.name
    return textwrap.fill(name, 16)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("utterance")
    parser.add_argument("label_sets", type=Path, nargs="+", metavar="A", help="the reference first")
    parser.add_argument("--to", type=Path, required=True, metavar="FILE.png")
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="seconds (default: 0)")
    parser.add_argument("--end", type=float, metavar="S", help="seconds (default: the end of the audio)")
    options = parser.parse_args(argv)
    audio = PackedAudio(options.data_dir, [options.utterance])[0]
    label_sets = [(caption(path), read_utterance(path, options.utterance, len(audio))) for path in options.label_sets]
    title = options.utterance
    if (options.data_dir / "text").is_file():
        title += "\n" + textwrap.shorten(read_table(options.data_dir / "text").get(options.utterance, ""), 150)
    figure = draw(title, audio, label_sets, options.start, options.end)
    figures.save(figure, options.to)


if __name__ == "__main__":
    run(main)
