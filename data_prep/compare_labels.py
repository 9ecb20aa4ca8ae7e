"""Compare two sets of phone labels of one corpus: frames that agree, phones confused, how far apart boundaries are.

python -m data_prep.compare_labels DATA_DIR A B [--json FILE] [--confusions N]

A, the reference, and B are each a CTM file, a folder of TextGrids, or a phones.scp with one label a frame of 10 ms,
whose boundaries lie half-way between the centres of two frames and so are known to 5 ms. DATA_DIR has utt2num_samples.
Over the utterances that both label, the following is printed and, with --json, written with these keys:

utterances    compared, only_a, only_b, not_in_data (in A and B, but not in DATA_DIR)
frames        compared: those labelled in both; only_a, only_b, neither: the others; agreement_percent of those
              compared, and agreement_by_shift, with B moved later by -3 to 3 frames: a constant offset has its best
              elsewhere than at 0
boundaries    in_a: starts of phones that follow another with less than a frame between; guesses: those that A's CTM
              marks by a confidence below 1, left out; compared: those whose two phones are matched to two neighbours of
              B in an alignment of the utterance's phones with the fewest edits (data_prep/match_phones.py); of these,
              with B's time minus A's: median_ms and p90_ms of its size, mean_ms with its sign (B later is positive),
              within_percent of 10, 20 and 50 ms
phones        for each phone of A: frames compared, recall_percent (the share that is the same phone in B), confused:
              its three most frequent others in B, with their percent of its frames
confusions    the N most frequent pairs of different phones, a and b, with their percent of all frames compared
worst         the five utterances that agree least: agreement_percent, frames compared

A figure that there is nothing to compute from is null.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from cpc_speech.errors import UserError, run
from cpc_speech.files import atomic_write
from cpc_speech.phones import SAMPLE_RATE, SYMBOLS
from data_prep.label_agreement import SHIFTS, Comparison, compare

WITHIN = (10, 20, 50)  # ms
CONFUSED = 3  # phones named beside each phone
WORST = 5  # utterances named


def figures(comparison: Comparison, confusions: int = 20) -> dict[str, Any]:
    """The figures that the module's docstring lists, of what was counted."""
    pairs, compared = comparison.pairs, int(comparison.pairs[1:, 1:].sum())
    wrong = pairs.copy()
    np.fill_diagonal(wrong, 0)
    wrong[0], wrong[:, 0] = 0, 0
    worst = sorted(comparison.agreement.items(), key=lambda item: (item[1][1] / item[1][0], item[0]))[:WORST]
    return {
        "utterances": comparison.utterances,
        "frames": {
            "compared": compared,
            "only_a": int(pairs[1:, 0].sum()),
            "only_b": int(pairs[0, 1:].sum()),
            "neither": int(pairs[0, 0]),
            "agreement_percent": _percent(int(np.trace(pairs[1:, 1:])), compared),
            "agreement_by_shift": {
                str(shift): _percent(agree, both) for shift, (both, agree) in zip(SHIFTS, comparison.shifted.tolist())
            },
        },
        "boundaries": comparison.boundaries | _differences(comparison.differences),
        "phones": {
            SYMBOLS[a]: {
                "frames": frames,
                "recall_percent": _percent(int(pairs[a, a]), frames),
                "confused": [
                    {"b": SYMBOLS[b], "percent": _percent(count, frames)}
                    for _, b, count in _most(wrong[a : a + 1], CONFUSED)
                ],
            }
            for a in range(1, len(SYMBOLS))
            if (frames := int(pairs[a, 1:].sum()))
        },
        "confusions": [
            {"a": SYMBOLS[a], "b": SYMBOLS[b], "percent": _percent(count, compared)}
            for a, b, count in _most(wrong, confusions)
        ],
        "worst": [
            {"utterance": utterance, "agreement_percent": _percent(agree, both), "frames": both}
            for utterance, (both, agree) in worst
        ],
    }


def _differences(differences: np.ndarray) -> dict[str, Any]:
    size, some = np.abs(differences), len(differences) > 0
    within = (_percent(int((size <= ms * SAMPLE_RATE // 1000).sum()), len(size)) for ms in WITHIN)
    return {
        "compared": len(size),
        "median_ms": _ms(np.median(size)) if some else None,
        "p90_ms": _ms(np.percentile(size, 90)) if some else None,
        "mean_ms": _ms(np.mean(differences)) if some else None,
        "within_percent": dict(zip(map(str, WITHIN), within)),
    }


def _percent(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 3) if whole else None


def _ms(samples: np.floating) -> float:
    return round(1000 * float(samples) / SAMPLE_RATE, 3)


def _most(counts: np.ndarray, n: int) -> list[tuple[int, int, int]]:
    """Row, column and value of the n largest counts above 0; equal ones in the order of the table."""
    places = np.argsort(-counts, axis=None, kind="stable")[:n]
    rows, columns = np.unravel_index(places, counts.shape)
    return [(int(a), int(b), int(counts[a, b])) for a, b in zip(rows, columns) if counts[a, b]]


def text(figures: dict[str, Any]) -> str:
    """The figures as a page to read."""
    utterances, frames, boundaries = figures["utterances"], figures["frames"], figures["boundaries"]
    lines = [
        f"utterances  {utterances['compared']:,} compared; only in A: {utterances['only_a']:,}, "
        f"only in B: {utterances['only_b']:,}, in both but not in the data: {utterances['not_in_data']:,}",
        f"frames      {_show(frames['agreement_percent'])} % of {frames['compared']:,} agree; "
        f"labelled only in A: {frames['only_a']:,}, only in B: {frames['only_b']:,}, in neither: {frames['neither']:,}",
        "            B moved by "
        + ", ".join(f"{shift}: {_show(percent)} %" for shift, percent in frames["agreement_by_shift"].items())
        + " (frames of 10 ms)",
        f"boundaries  {boundaries['compared']:,} of the {boundaries['in_a']:,} in A compared; "
        f"guesses, left out: {boundaries['guesses']:,}",
        f"            median {_show(boundaries['median_ms'])} ms apart, 90 % of them up to "
        f"{_show(boundaries['p90_ms'])} ms; B later by {_show(boundaries['mean_ms'])} ms on average",
        "            "
        + ", ".join(f"within {ms} ms: {_show(percent)} %" for ms, percent in boundaries["within_percent"].items()),
        "",
        "phone    frames  recall  confused with (percent of the phone's frames)",
    ]
    for phone, row in figures["phones"].items():
        confused = ", ".join(f"{other['b']} {_show(other['percent'])}" for other in row["confused"])
        lines.append(f"{phone:5} {row['frames']:9,}  {_show(row['recall_percent']):>6}  {confused}".rstrip())
    lines += ["", "A > B    % of all frames"]
    lines += [f"{pair['a'] + ' > ' + pair['b']:9} {pair['percent']:.3f}" for pair in figures["confusions"]] or ["none"]
    lines += ["", "the utterances that agree least"]
    lines += [
        f"{row['utterance']}  {_show(row['agreement_percent'])} % of {row['frames']:,}" for row in figures["worst"]
    ]
    return "\n".join(lines)


def _show(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.2f}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="data_prep.compare_labels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("a", type=Path, metavar="A", help="the reference: a CTM, a folder of TextGrids or a phones.scp")
    parser.add_argument("b", type=Path, metavar="B", help="the same")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--confusions", type=int, default=20, metavar="N", help="pairs to list (default: 20)")
    options = parser.parse_args(argv)
    if options.confusions < 0:
        raise UserError(f"--confusions {options.confusions}: 0 or more pairs can be listed")
    found = figures(compare(options.data_dir, options.a, options.b), options.confusions)
    if options.json:
        with atomic_write(options.json) as file:
            file.write(json.dumps({"a": str(options.a), "b": str(options.b), **found}, indent=1) + "\n")
    print(f"A           {options.a}\nB           {options.b}\n{text(found)}")


if __name__ == "__main__":
    run(main)
