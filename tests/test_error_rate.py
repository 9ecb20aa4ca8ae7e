"""Error rates beside a table of edits filled in by hand's rule, and their intervals beside the frames' bootstrap."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from oracles import bootstrap

from cpc_speech.error_rate import ErrorRate, load_error_rate, save_error_rate
from cpc_speech.errors import UserError


def fewest_edits(said: tuple[str, ...], recognised: tuple[str, ...]) -> int:
    """Levenshtein's definition, word for word."""

    @cache
    def distance(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        substituted = distance(i - 1, j - 1) + (said[i - 1] != recognised[j - 1])
        return min(substituted, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    return distance(len(said), len(recognised))


def test_errors_equal_levenshteins() -> None:
    rng = np.random.default_rng(0)
    errors = ErrorRate()
    expected = []
    for i in range(200):
        said, recognised = (tuple(rng.choice(["AA", "B", "CH"], rng.integers(0, 9)).tolist()) for _ in range(2))
        errors.add(str(i), said, recognised)
        expected.append(fewest_edits(said, recognised))
        # Whatever the alignment, what is put in and left out makes up for the difference in length.
        assert errors.insertions[-1] - errors.deletions[-1] == len(recognised) - len(said)
    assert errors.errors == expected
    assert errors.rate == pytest.approx(100 * sum(expected) / sum(errors.lengths))


def test_kinds_of_errors() -> None:
    errors = ErrorRate()
    errors.add("u1", "K AE T".split(), "K AH T".split())
    errors.add("u2", "K AE T".split(), "K T".split())
    errors.add("u3", "K AE T".split(), "K AE T S".split())
    errors.add("u4", [], ["AH"])
    assert (errors.substitutions, errors.deletions, errors.insertions) == ([1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1])
    assert errors.lengths == [3, 3, 3, 0]
    assert errors.rate == pytest.approx(400 / 9)


@pytest.fixture
def random_errors() -> list[ErrorRate]:
    rng = np.random.default_rng(3)
    ids, phones = [str(i) for i in range(80)], rng.integers(5, 60, 80).tolist()
    return [ErrorRate(ids, phones, *(rng.binomial(phones, p).tolist() for p in rates))
            for rates in ((0.2, 0.05, 0.05), (0.1, 0.05, 0.02))]  # fmt: skip


def test_interval_is_that_of_a_bootstrap_over_utterances(random_errors: list[ErrorRate]) -> None:
    one = random_errors[0]
    low, high = one.interval()
    expected = bootstrap(one.errors, one.lengths, 4000, seed=1)
    # 2,000 resamples place a percentile within a tenth of the interval's width.
    assert (low, high) == pytest.approx(expected, abs=0.1 * (high - low))
    assert low < one.rate < high


def test_difference_is_paired(random_errors: list[ErrorRate]) -> None:
    one, other = random_errors
    value, low, high = one.share().difference(other.share())
    assert value == pytest.approx(one.rate - other.rate) and low < value < high
    assert one.share().difference(one.share()) == (0, 0, 0)
    with pytest.raises(UserError, match="different test utterances"):
        one.share().difference(ErrorRate(["else"], [1], [0], [0], [0]).share())


@pytest.mark.parametrize("unit, rate", [("phones", "per"), ("words", "wer")])
def test_written_and_read(tmp_path: Path, random_errors: list[ErrorRate], unit: str, rate: str) -> None:
    save_error_rate(tmp_path / "rate.json", random_errors[0], {"features": "fbank"}, unit)
    errors, facts = load_error_rate(tmp_path / "rate.json", unit)
    assert errors == random_errors[0] and facts["features"] == "fbank"
    assert facts[rate] == errors.rate and tuple(facts["ci95"]) == errors.interval()
    assert facts["total_deletions"] == sum(errors.deletions)
    written = json.loads((tmp_path / "rate.json").read_text())
    assert written["insertions"] == errors.insertions and written[unit] == errors.lengths


def test_without_kaldialign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kaldialign", None)
    with pytest.raises(UserError, match=r"pip install .*\[asr\]"):
        ErrorRate().add("u", ["AA"], ["AA"])
