"""The report's section on phone recognition, of figures written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cpc_speech.config import Config
from cpc_speech.error_rate import ErrorRate, save_error_rate
from cpc_speech.errors import UserError
from cpc_speech.recogniser_report import objects, section


def write(exp: Path, features: str, head: str, seed: int, edits: tuple[int, int, int], **settings: Any) -> None:
    """Five utterances of 100 phones, with so many substitutions, deletions and insertions each."""
    errors = ErrorRate([f"u{i}" for i in range(5)], [100] * 5, *([count] * 5 for count in edits))
    facts = {
        "features": f"mini_{features}", "data": "mini", "dim": 80, "parameters": 12345, "updates": 600,
        "left_out": {"train": 0, "dev": 0, "test": 2}, "seconds": 60.0, "commit": "c", "command": "x", "machine": "m",
        "settings": {"head": head, "stride": 4, "seed": seed, "updates": 600, "learning_rate": 3e-3, **settings},
    }  # fmt: skip
    save_error_rate(exp / "recogniser" / f"{features}.{head}.seed{seed}" / "per.json", errors, facts)


def write_words(exp: Path, name: str, errors: int) -> None:
    """Five utterances of 20 words, with so many substitutions."""
    rate = ErrorRate([f"u{i}" for i in range(5)], [20] * 5, [errors] * 5, [0] * 5, [0] * 5)
    facts = {
        "lexicon": "cmudict", "vocabulary": 126052, "unknown": 2, "word_weight": 0.5, "dev_wer": {"0.5": 60.0},
        "per": 20.0, "per_ci95": [20.0, 20.0], "seconds": 60.0, "commit": "c", "command": "x", "machine": "m",
    }  # fmt: skip
    save_error_rate(exp / "recogniser" / name / "wer.json", rate, facts, "words")


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    (tmp_path / "same_speaker").mkdir()
    (tmp_path / "same_speaker" / "config.yaml").write_text(Config(batch_composition="same_speaker").dump())
    write(tmp_path, "same_speaker", "lstm", 1, (20, 4, 3))
    write(tmp_path, "same_speaker", "lstm", 2, (22, 4, 3))
    write(tmp_path, "fbank", "lstm", 1, (30, 5, 5))
    write(tmp_path, "fbank", "linear", 1, (50, 5, 5))
    write(tmp_path, "mfcc39", "lstm", 1, (20, 4, 4), stride=3)
    return tmp_path


def test_rows(exp: Path) -> None:
    rows = [line.strip("| ").split(" | ") for line in section(exp) if line.startswith("| ")][1:]
    lstm = "bidirectional LSTM"
    # All utterances are alike, so every interval is a point.
    assert rows == [
        ["log-mel filterbank, 80", "80", "linear", "12,345", "1", "60.0 (60.0–60.0)", "50.0 / 5.0 / 5.0"],
        ["MFCC, 13 with deltas", "80", lstm, "12,345", "1", "28.0 (28.0–28.0)", "20.0 / 4.0 / 4.0"],
        ["log-mel filterbank, 80", "80", lstm, "12,345", "1", "40.0 (40.0–40.0)", "30.0 / 5.0 / 5.0"],
        ["CPC, same speaker", "80", lstm, "12,345", "1, 2",
         "28.0 (28.0–28.0); from 27.0 to 29.0", "21.0 / 4.0 / 3.0",
         "-13.0 (-13.0 … -13.0), of seed 1"],
    ]  # fmt: skip


def test_differences_of_several_seeds_hold_their_spread(exp: Path) -> None:
    """−13 and −10 points against filterbanks of the same two seeds, all utterances alike: −11.5 ± 12.71·1.5 of
    Student's t."""
    write(exp, "fbank", "lstm", 2, (29, 5, 5))
    [row] = [line for line in section(exp) if "CPC, same speaker | 80" in line]
    assert row.endswith("| -11.5 (-30.6 … +7.6) |  |")


def test_two_of_one_seed_are_not_mixed(exp: Path) -> None:
    (exp / "recogniser" / "fbank.lstm.seed1").rename(exp / "recogniser" / "fbank.lstm.other")
    write(exp, "fbank", "lstm", 1, (31, 5, 5))
    with pytest.raises(UserError, match=r"fbank\.lstm\.other and .*fbank\.lstm\.seed1 have .* same seed, too; move"):
        list(section(exp))


def test_only_what_was_trained_alike_is_compared(exp: Path) -> None:
    write(exp, "fbank", "lstm", 1, (30, 5, 5), stride=3)
    [row] = [line for line in section(exp) if "MFCC, 13 with deltas | 80" in line]
    assert row.endswith("| -12.0 (-12.0 … -12.0) |  |")


def test_features_of_no_model_keep_their_name(exp: Path) -> None:
    write(exp, "mine", "lstm", 1, (30, 5, 5))
    assert any(line.startswith("| mine | 80 |") for line in section(exp))


def test_utterances_left_out_are_said(exp: Path) -> None:
    assert any("Of 500 phones in 5 test utterances (2 more are left out" in line for line in section(exp))
    assert any("600 updates of 8 utterances, Adam's learning rate 0.003 falling" in line for line in section(exp))


def test_objects(exp: Path) -> None:
    found = list(objects(exp))
    assert len(found) == 5 and {one["table"] for one in found} == {"phone recognition"}
    [one] = [one for one in found if one["experiment"] == "recogniser/same_speaker.lstm.seed2"]
    assert one["per"] == 29 and one["ci95"] == [29, 29] and one["total_substitutions"] == 110
    assert one["phones"] == 500 and one["settings"]["seed"] == 2


def test_words(exp: Path) -> None:
    write_words(exp, "same_speaker.lstm.seed1", 10)
    write_words(exp, "same_speaker.lstm.seed2", 12)
    write_words(exp, "fbank.lstm.seed1", 15)
    lines = list(section(exp))
    assert all(line.count("|") == 11 for line in lines if line.startswith("|"))
    ends = {line.split(" | ")[0]: line.split(" | ")[-1] for line in lines if "bidirectional LSTM" in line}
    assert ends == {
        "| MFCC, 13 with deltas": " |", "| log-mel filterbank, 80": "75.0 (75.0–75.0) |",
        "| CPC, same speaker": "55.0 (55.0–55.0); from 50.0 to 60.0 |",
    }  # fmt: skip
    [said] = [line for line in lines if "words of cmudict" in line]
    assert said.startswith("Words of fbank.lstm.seed1, same_speaker.lstm.seed1, same_speaker.lstm.seed2: ")
    assert said.endswith("The lexicon lacks 2.0 % of the 100 words said.")
    found = [one for one in objects(exp) if one["table"] == "word recognition"]
    assert [(one["experiment"], one["wer"], one["words"], one["per"]) for one in found] == [
        ("recogniser/fbank.lstm.seed1", 75, 100, 20), ("recogniser/same_speaker.lstm.seed1", 50, 100, 20),
        ("recogniser/same_speaker.lstm.seed2", 60, 100, 20),
    ]  # fmt: skip


def test_nothing_recognised(tmp_path: Path) -> None:
    assert list(section(tmp_path)) == [] == list(objects(tmp_path))
