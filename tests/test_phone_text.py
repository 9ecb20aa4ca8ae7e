"""Phone transcripts from labels: what stays, what goes, and who is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cpc_speech.datadir import read_table, write_table
from cpc_speech.errors import UserError
from cpc_speech.kaldi import write_int_vectors
from cpc_speech.phones import NUMBERED, PHONE_ID, write_symbols
from data_prep.phone_text import main


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four utterances of 12 frames: K AE T between silences; T T as one run; a spoken noise; one without labels."""
    data = tmp_path / "data"
    data.mkdir()
    write_symbols(tmp_path / "lang")
    write_table(data / "utt2num_samples", dict.fromkeys("abcd", 1920))
    write_table(data / "labels.dropped", {"d": "no words in text"})
    rows = {
        "a": "<eps> SIL SIL K K AE AE AE T T SIL SIL",
        "b": "SIL T T T T T <eps> T T T SIL SIL",
        "c": "SIL T T T T SPN SPN SPN T T SIL SIL",
    }
    ids = PHONE_ID | {"<eps>": 0}
    vectors = ((name, np.array([ids[phone] for phone in row.split()], np.int32)) for name, row in rows.items())
    write_int_vectors(data / "phones.ark", data / "phones.scp", vectors)
    return data


def test_runs_of_labels(data: Path) -> None:
    main([str(data)])
    assert read_table(data / "phones.text") == {"a": "K AE T", "b": "T T"}
    left_out = read_table(data / "phones.text.dropped")
    assert left_out["d"] == "no words in text" and left_out["c"].startswith("1 times spoken noise")


def test_a_ctm_knows_equal_neighbours(data: Path) -> None:
    lines = ["a 1 0 0.03 SIL", "a 1 0.03 0.05 T", "a 1 0.08 0.04 T", "b 1 0 0.1 ah0_B", "c 1 0 0.1 SIL"]
    (data / "phones.ctm").write_text("".join(f"{line}\n" for line in lines))
    main([str(data)])
    assert read_table(data / "phones.text") == {"a": "T T", "b": "AH", "c": ""}


def test_missing_labels(data: Path) -> None:
    (data / "labels.dropped").unlink()
    with pytest.raises(UserError, match="1 utterances have no labels, such as d; run stage 2"):
        main([str(data)])


def test_numbers_are_no_phones(data: Path) -> None:
    write_symbols(data.parent / "lang", NUMBERED)
    with pytest.raises(UserError, match="whose phones are unknown"):
        main([str(data)])
