"""Exports: what the import command gives back, and single files written out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cpc_speech.datadir import write_table
from cpc_speech.errors import UserError
from cpc_speech.kaldi import read_int_vectors, write_int_vectors
from cpc_speech.phones import NUMBERED, PHONE_ID, SYMBOLS, write_symbols
from data_prep import export_labels, import_labels

# samples: every rest of 160 that matters to Kaldi's snip-edges, and what is shorter than its window
UTTERANCES = {"1-a": 16_000, "1-b": 16_079, "1-c": 16_080, "2-a": 16_159, "22-a": 48_000, "3-a": 399, "3-b": 170}


@pytest.fixture
def truth():
    """Runs of 1 to 12 frames, neighbours of one phone and unlabelled ones among them."""
    random, labels = np.random.default_rng(3), {}
    for name, samples in UTTERANCES.items():
        runs = [np.full(random.integers(1, 13), random.integers(0, 42), dtype=np.int32) for _ in range(samples // 160)]
        labels[name] = np.concatenate(runs)[: samples // 160]
    labels["3-a"][:], labels["3-b"][:] = 7, 41
    labels["1-b"][:2], labels["1-c"][-3:] = 0, 0
    return labels


@pytest.fixture
def folder(tmp_path, truth):
    write_data(tmp_path / "data", truth)
    write_symbols(tmp_path / "lang")
    return tmp_path


def write_data(data_dir, truth):
    write_table(data_dir / "utt2num_samples", {name: UTTERANCES[name] for name in truth})
    write_int_vectors(data_dir / "phones.ark", data_dir / "phones.scp", sorted(truth.items()))


def export(folder, name, to):
    export_labels.main([name, str(folder / "data"), str(folder / to)])
    assert not list(folder.rglob("*tmp*"))
    return folder / to


def give_back(folder, name, source, *options):
    """Labels of an import into a directory of the same audio."""
    write_table(folder / "again/utt2num_samples", UTTERANCES)
    import_labels.main([name, str(source), str(folder / "again"), str(folder / "again/lang"), *map(str, options)])
    return {name: labels.tolist() for name, labels in read_int_vectors(folder / "again/phones.scp")}


def lists(truth):
    return {name: labels.tolist() for name, labels in sorted(truth.items())}


def test_ctm_and_back(folder, truth):
    assert give_back(folder, "ctm", export(folder, "ctm", "x.ctm")) == lists(truth)


def test_textgrids_and_back(folder, truth):
    pytest.importorskip("praatio")
    truth["3-b"][:] = 0  # here an utterance may be wholly unlabelled
    write_data(folder / "data", truth)
    assert give_back(folder, "textgrid", export(folder, "textgrid", "grids")) == lists(truth)


def test_kaldi_and_back(folder, truth):
    own = ("--symbols", folder / "lang/phones.txt", "--no-snip-edges")
    archive = export(folder, "kaldi", "x.ark")
    assert give_back(folder, "kaldi", archive, *own) == lists(truth)
    assert give_back(folder, "kaldi", folder / "data/phones.scp", *own) == lists(truth)


def test_cpc_and_back(folder, truth):
    """Lost are the first frame, and the last if less than 80 samples follow it: no window of Kaldi is nearest to it."""
    truth = {name: np.maximum(labels, 1) for name, labels in truth.items()}
    for name in ("1-b", "1-c"):  # what is lost may be unlabelled
        truth[name][0] = 0
    truth["1-b"][-1] = 0
    write_data(folder / "data", truth)
    imported = give_back(folder, "cpc", export(folder, "cpc", "x.txt"))
    for name, labels in truth.items():
        labels[0] = 0
        if UTTERANCES[name] % 160 < 80:
            labels[-1] = 0
    assert imported == lists(truth)


@pytest.fixture
def small(tmp_path):
    """50 ms: two frames of AA, one unlabelled, two of B."""
    labels = [PHONE_ID["AA"]] * 2 + [0] + [PHONE_ID["B"]] * 2
    write_table(tmp_path / "data/utt2num_samples", {"1-a": 880})
    write_int_vectors(
        tmp_path / "data/phones.ark", tmp_path / "data/phones.scp", [("1-a", np.array(labels, dtype=np.int32))]
    )
    write_symbols(tmp_path / "lang")
    return tmp_path


def test_the_files_as_they_are_written(small):
    """Boundaries at samples 319 and 479, half-way between the centres 239, 399 and 559; the end is the audio's."""
    assert export(small, "ctm", "x.ctm").read_text() == "1-a 1 0.000000 0.019938 AA\n1-a 1 0.029937 0.025063 B\n"
    assert export(small, "kaldi", "x.ark").read_text() == "1-a 3 3 0 9 9\n"
    pytest.importorskip("praatio")
    lines = (export(small, "textgrid", "grids") / "1-a.TextGrid").read_text().splitlines()
    assert lines[:2] == ['File type = "ooTextFile"', 'Object class = "TextGrid"']
    values = [line.split(" = ")[1].strip() for line in lines if line.startswith(" " * 12)]
    assert values == ["0", "0.0199375", '"AA"', "0.0199375", "0.0299375", '"<eps>"', "0.0299375", "0.055", '"B"']


def test_cpc_has_no_id_for_unlabelled(small):
    with pytest.raises(UserError, match="1-a is unlabelled at 0.02 s.*export another format"):
        export(small, "cpc", "x.txt")
    assert not (small / "x.txt").exists()


def test_cpc_gives_the_authors_ids_back_and_no_other_format_takes_them(small):
    text = "1-a 40 0 7 6\n"
    (small / "x.txt").write_text(text)
    import_labels.main(["cpc", *(str(small / name) for name in ("x.txt", "data", "lang"))])
    assert (small / "lang/phones.txt").read_text().split()[:4] == ["<eps>", "0", *f"{NUMBERED[1]} 1".split()]
    assert export(small, "cpc", "y.txt").read_text() == text
    for name in ("ctm", "textgrid", "kaldi"):
        with pytest.raises(UserError, match="data: its labels are the CPC authors' ids.*--id-map"):
            export(small, name, "z")


def test_utterances_without_labels_are_counted(small, caplog):
    write_table(small / "data/utt2num_samples", {"1-a": 880, "1-b": 880})
    export(small, "ctm", "x.ctm")
    assert "1 utterances have no labels and were left out" in caplog.text
    none = [("1-a", np.zeros(5, dtype=np.int32))]
    write_int_vectors(small / "data/phones.ark", small / "data/phones.scp", none)
    assert export(small, "ctm", "x.ctm").read_text() == ""
    assert "x.ctm: 1 utterances have no label at all" in caplog.text


def test_data_directories_that_contradict_themselves(small):
    write_table(small / "data/utt2num_samples", {"1-a": 960})
    with pytest.raises(UserError, match="phones.scp: 1-a has 5 labels for 6 frames"):
        export(small, "ctm", "x.ctm")
    write_table(small / "data/utt2num_samples", {"1-b": 880})
    with pytest.raises(UserError, match="phones.scp: 1-a is not in utt2num_samples"):
        export(small, "ctm", "x.ctm")
    (small / "lang/phones.txt").write_text("\n".join(f"{symbol}" for symbol in SYMBOLS))
    with pytest.raises(UserError, match="phones.txt:1: '<eps> 0' should stand here"):
        export(small, "ctm", "x.ctm")
