"""CTM files become labels, or an error that names the line or the utterance."""

from __future__ import annotations

import pytest

from cpc_speech.datadir import write_table
from cpc_speech.errors import UserError
from cpc_speech.kaldi import read_int_vectors
from cpc_speech.phones import PHONE_ID
from data_prep.ctm import read_ctm
from data_prep.import_labels import main


@pytest.fixture
def data(tmp_path):
    write_table(tmp_path / "data/utt2num_samples", {"1-a": 1_600, "1-b": 800})
    return tmp_path / "data"


def run_ctm(data, text, *options):
    (data.parent / "x.ctm").write_text(text)
    main(["ctm", str(data.parent / "x.ctm"), str(data), str(data.parent / "lang"), *options])
    return {name: vector.tolist() for name, vector in read_int_vectors(data / "phones.scp")}


def test_a_confidence_below_1_marks_a_guess(tmp_path):
    lines = [f"1-a 1 0.{tenth} 0.1 AA {confidence}" for tenth, confidence in enumerate(("", "1.00", "0.50", "NA", "0"))]
    (tmp_path / "x.ctm").write_text("\n".join(lines))
    assert [sure for _, phones in read_ctm(tmp_path / "x.ctm") for _, sure in phones] == [
        True,
        True,
        False,
        True,
        False,
    ]


def test_labels(data):
    a, b, sil = PHONE_ID["AA"], PHONE_ID["B"], PHONE_ID["SIL"]
    ctm = ";; a comment\n1-a 1 0.00 0.03 SIL\n1-a 1 0.03 0.02 AA1 0.9\n1-a 1 0.06 0.06 B\n"
    ctm += "1-b 1 0 0.05 SIL 1.00\n9-z 1 0 1 AA\n"
    assert run_ctm(data, ctm) == {"1-a": [sil] * 3 + [a] * 2 + [0] + [b] * 4, "1-b": [sil] * 5}
    assert (data / "labels.dropped").read_text() == "" and (data.parent / "lang/phones.txt").is_file()


def test_utterances_that_end_before_their_audio_are_counted(data, caplog):
    ctm = "1-a 1 0 0.0796 SIL\n1-b 1 0 0.031 SIL\n"  # of 0.1 s and 0.05 s: two frames are 20 ms
    labels = run_ctm(data, ctm)
    assert "x.ctm: 1 utterances, such as 1-a, end over 20 ms before their audio" in caplog.text
    assert labels["1-a"] == [PHONE_ID["SIL"]] * 8 + [0] * 2


def test_labels_may_go_elsewhere(data):
    ctm = "1-a 1 0 0.1 SIL\n1-b 1 0 0.05 SIL\n"
    to = data.parent / "new" / "labels"
    (data.parent / "x.ctm").write_text(ctm)
    main(["ctm", str(data.parent / "x.ctm"), str(data), str(data.parent / "lang"), "--to", str(to)])
    found = sorted(path.name for path in to.iterdir())
    assert found == ["labels.dropped", "labels.json", "phones.ark", "phones.scp", "phones.txt"]
    assert [path.name for path in data.iterdir()] == ["utt2num_samples"] and not (data.parent / "lang").exists()


def test_refused_labels_leave_the_earlier_ones(data):
    run_ctm(data, "1-a 1 0 0.1 SIL\n1-b 1 0 0.05 SIL\n")
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    with pytest.raises(UserError, match="labels.refused.*--max-dropped 1"):
        run_ctm(data, "1-b 1 0 0.05 AA\n")
    assert (data / "labels.refused").read_text() == "1-a not in x.ctm\n"
    (data / "labels.refused").unlink()
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before


def test_missing_utterances_are_listed_and_refused(data):
    ctm = "1-b 1 0 0.05 SIL\n"
    with pytest.raises(UserError, match="1-a: not in x.ctm.*--max-dropped 1"):
        run_ctm(data, ctm)
    assert list(run_ctm(data, ctm, "--max-dropped", "1")) == ["1-b"]
    assert (data / "labels.dropped").read_text() == "1-a not in x.ctm\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1-b 1 0 0.05", "x.ctm:2: .*is not"),
        ("1-b 1 0 0.05 SIL 1.0 more", "x.ctm:2: .*is not"),
        ("1-b 1 zero 0.05 SIL", "x.ctm:2: .*is not"),
        ("1-b 1 -1 0.05 SIL", "x.ctm:2: .*is not"),
        ("1-b 1 nan 0.05 SIL", "x.ctm:2: .*is not"),
        ("1-b 1 0 1e308 SIL", "x.ctm: 1-b ends at 1.*its audio at 0.050 s"),
        ("1-b 1 0 0.05 ax", "x.ctm:2: ax is none of"),
        ("1-0 1 0 0.05 SIL", "x.ctm:2: out of order"),
        ("1-a 1 0 0.05 SIL", "x.ctm:2: out of order"),
        ("1-b 1 0 0.08 SIL", "1-b ends at 0.080 s, its audio at 0.050 s"),
    ],
)
def test_bad_lines(data, line, message):
    with pytest.raises(UserError, match=message):
        run_ctm(data, f"1-a 1 0.01 0.09 SIL\n{line}\n")
    assert not list(data.glob("phones.*")), "nothing half-written"


def test_what_is_no_text(data):
    (data.parent / "x.ctm").write_bytes(b"1-a 1 0 0.1 SIL\n\x1f\x8b\xff\0\n")
    with pytest.raises(UserError, match="x.ctm:2: .*is not"):
        main(["ctm", str(data.parent / "x.ctm"), str(data), str(data.parent / "lang")])


def test_two_frames_too_many_are_accepted(data):
    assert len(run_ctm(data, "1-a 1 0 0.1 SIL\n1-b 1 0 0.07 SIL\n")["1-b"]) == 5


def test_names_of_other_aligners(data):
    eh, sil, spn = PHONE_ID["EH"], PHONE_ID["SIL"], PHONE_ID["SPN"]
    ctm = "lbi-1-a 1 0 0.01 sp\nlbi-1-a 1 0.01 0.01 EH1_B\nlbi-1-a 1 0.02 0.01 <eps>\nlbi-1-a 1 0.03 0.01 NSN_S\n"
    ctm += "lbi-1-b 1 0 0.05 <eps>\n"
    assert run_ctm(data, ctm) == {"1-a": [sil, eh, 0, spn] + [0] * 6, "1-b": [0] * 5}
