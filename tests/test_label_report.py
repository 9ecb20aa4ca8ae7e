"""The report's section on phone labels, of figures written by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cpc_speech.datadir import write_table
from cpc_speech.label_report import comparisons, label_probes, objects, section
from cpc_speech.scores import Score, save_score


def write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    """Labels by gmm, 20 hours; pocketsphinx compared with them; MFCC and one model probed with both, and moved."""
    data, exp = tmp_path / "data", tmp_path / "exp"
    labels = {"utterances": 98, "frames": 7_200_000, "unlabelled": 12}
    write_json(data / "labels.json", {"by": "gmm", **labels, "seconds": 1000, "processes": 2})
    write_table(data / "labels.dropped", {"u1": "no words in text", "u2": "no words in text"})
    write_table(data / "align.outliers", {"u3": "-9.0"})
    write_json(exp / "align/pocketsphinx/labels/labels.json", {"by": "pocketsphinx", **labels})
    within = {"10": 61.25, "20": 85.0, "50": 97.0}
    boundaries = {"in_a": 2000, "compared": 1900, "median_ms": 7.8, "p90_ms": 27.81, "mean_ms": -0.81}
    write_json(
        exp / "align/pocketsphinx/comparison.json",
        {
            "a": "data/phones.ctm",
            "utterances": {"compared": 97, "only_a": 1},
            "frames": {"agreement_percent": 85.888},
            "boundaries": {**boundaries, "within_percent": within},
        },
    )
    return exp


def probe(exp: Path, name: str, labels: str, shift: int, correct: int) -> None:
    score = Score([f"u{i}" for i in range(4)], [correct] * 4, [100] * 4)
    facts = {
        "row": name,
        "labels": labels,
        "label_shift": shift,
        "majority": 17.5 if labels == "pocketsphinx" else 21.1,
        "probe_seeds": [1, 2],
        "accuracy_by_seed": [correct - 1, correct + 1],
        **dict.fromkeys(("commit", "date", "command", "machine"), "?"),
    }
    save_score(exp / "model" / "probes" / "labels" / f"{name}.{labels}.{shift:+d}.json", score, facts)


def lines(exp: Path) -> list[str]:
    return list(section(exp, exp.parent / "data", label_probes(exp, lambda facts: facts["row"])))


def test_labels_and_comparison(exp: Path) -> None:
    found = lines(exp)
    assert found[2] == (
        "By gmm: 98 utterances, 7,200,000 frames of 10 ms, 12 of them unlabelled; 2 utterances without labels, "
        "1 whose score is an outlier: their text may not fit. An hour of audio took 50 s with 2 processes."
    )
    [row] = [line for line in found if line.startswith("| pocketsphinx")]
    boundaries = "1,900 of 2,000 | 7.8 | 27.8 | -0.8 | 61.2 / 85.0 / 97.0"
    assert row == f"| pocketsphinx |  | 97 (1 have no labels) | 85.9 | {boundaries} |"
    assert not [line for line in found if "accuracy" in line], "nothing was probed"
    assert comparisons(exp)["pocketsphinx"]["labels"]["by"] == "pocketsphinx"


def test_probes_by_label_set_and_by_shift(exp: Path) -> None:
    for shift, correct in ((-1, 40), (0, 50), (1, 53), (2, 51)):
        probe(exp, "c", "gmm", shift, correct)
    probe(exp, "c", "pocketsphinx", 0, 48)
    probe(exp, "mfcc", "gmm", 0, 30)
    probe(exp, "z", "gmm", 0, 45)
    probe(exp, "z", "gmm", 1, 44)
    found = lines(exp)
    # All utterances are alike, so the interval is a point.
    assert "| most frequent class | 21.1 | 17.5 |" in found
    assert "| | gmm | pocketsphinx |" in found and "| c | 50.0 (50.0–50.0) | 48.0 (48.0–48.0) |" in found
    assert "| | -1 | 0 | +1 | +2 | the best, less that at 0 |" in found
    assert "| c | 40.0 | 50.0 | 53.0 | 51.0 | +3.0 (+3.0 … +3.0) at +1 |" in found
    assert "| z |  | 45.0 | 44.0 |  | is at 0 |" in found
    assert not [line for line in found if line.startswith("| mfcc")], "one figure is no comparison"


def test_results_json(exp: Path) -> None:
    """As far as a probe says it: the comparison, and each probe with its seeds."""
    probe(exp, "c", "gmm", 1, 53)
    compared, probed = objects(exp, exp.parent / "data", lambda facts: facts["row"])
    assert (compared["row"], compared["reference"]) == ("pocketsphinx", "gmm")
    assert (probed["labels"], probed["label_shift"], probed["accuracy"]) == ("gmm", 1, 53)
    assert probed["probe_seeds"] == [1, 2] and probed["accuracy_by_seed"] == [52, 54]


def test_labels_of_unknown_origin(tmp_path: Path) -> None:
    assert list(section(tmp_path, tmp_path, [])) == []


def test_what_could_not_be_computed_is_left_empty(exp: Path) -> None:
    nothing: dict = {"in_a": 9, "compared": 0, **dict.fromkeys(("median_ms", "p90_ms", "mean_ms"))}
    path = exp / "align/pocketsphinx/comparison.json"
    found = json.loads(path.read_text())
    found["boundaries"] = {**nothing, "within_percent": dict.fromkeys(("10", "20", "50"))}
    found["frames"]["agreement_percent"] = None
    write_json(path, found)
    [row] = [line for line in lines(exp) if line.startswith("| pocketsphinx")]
    assert row == "| pocketsphinx |  | 97 (1 have no labels) |  | 0 of 9 |  |  |  |  /  /  |"


def test_labels_that_were_not_scored_have_no_outliers(exp: Path) -> None:
    (exp.parent / "data" / "align.outliers").unlink()
    assert "2 utterances without labels. An hour" in lines(exp)[2]
