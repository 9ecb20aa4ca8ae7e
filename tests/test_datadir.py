"""Lines of Kaldi's tables, parted as its SplitStringOnFirstSpace does: at any of ASCII's white space, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpc_speech.datadir import read_num_samples, read_table, write_table
from cpc_speech.errors import UserError


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("u1 ONE TWO\n", "ONE TWO"),
        ("u1\tONE TWO\n", "ONE TWO"),
        ("u1 \t ONE\tTWO  \r\n", "ONE\tTWO"),
        ("u1\vONE", "ONE"),
        ("u1\n", ""),
        ("u1\t\r\n", ""),
        ("u1 東京\u3000駅\u00a0\n", "東京\u3000駅\u00a0"),  # which are letters to Kaldi
    ],
)
def test_a_line_is_parted_as_kaldi_does(tmp_path: Path, line: str, value: str) -> None:
    (tmp_path / "text").write_bytes(line.encode())
    assert read_table(tmp_path / "text") == {"u1": value}


def test_an_id_with_a_space_of_another_script_is_one(tmp_path: Path) -> None:
    (tmp_path / "utt2spk").write_text("a\u00a0b\tann\n", encoding="utf-8")
    assert read_table(tmp_path / "utt2spk") == {"a\u00a0b": "ann"}


@pytest.mark.parametrize("line", ["\n", " u1 ONE\n", "\tu1\n", "  \n"])
def test_a_line_begins_with_its_key(tmp_path: Path, line: str) -> None:
    (tmp_path / "text").write_text("u0 ONE\n" + line)
    with pytest.raises(UserError, match="text:2: the line has no key"):
        read_table(tmp_path / "text")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    table = {"b": "x y", "a": "", "é": 3}
    write_table(tmp_path / "t", table)
    assert (tmp_path / "t").read_text(encoding="utf-8") == "a\nb x y\né 3\n"
    assert read_table(tmp_path / "t") == {"a": "", "b": "x y", "é": "3"}


def test_lengths_are_whole_numbers(tmp_path: Path) -> None:
    (tmp_path / "utt2num_samples").write_text("a 160\nb 0\n")
    assert read_num_samples(tmp_path) == {"a": 160, "b": 0}
    (tmp_path / "utt2num_samples").write_text("a 160\nb 1.5\n")
    with pytest.raises(UserError, match="utt2num_samples: b has '1.5' samples; run python -m data_prep.pack"):
        read_num_samples(tmp_path)
