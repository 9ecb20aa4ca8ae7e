"""Integer vectors in every form people hold them, written by kaldiio, gzip and zipfile; damage names its place."""

from __future__ import annotations

import gzip
import zipfile

import numpy as np
import pytest

from cpc_speech.errors import UserError
from data_prep.int_vectors import read_vectors

VECTORS = {"1-a": [3, 0, 40], "1-b": [], "22-a": list(range(0, 1 << 30, 1 << 21)), "22-b": [-7]}
TEXT = "".join(f"{name} {' '.join(map(str, ids))}\n" for name, ids in VECTORS.items()).encode()


def read(path):
    vectors = list(read_vectors(path))
    assert all(vector.ids.dtype == np.int32 for vector in vectors)
    return {vector.utterance: vector.ids.tolist() for vector in vectors}


@pytest.fixture
def binary(tmp_path):
    kaldiio = pytest.importorskip("kaldiio")
    arrays = {name: np.array(ids, dtype=np.int32) for name, ids in VECTORS.items()}
    kaldiio.save_ark(str(tmp_path / "b.ark"), arrays, scp=str(tmp_path / "b.scp"))
    return (tmp_path / "b.ark").read_bytes()


@pytest.mark.parametrize("text", [TEXT, TEXT[:-1], TEXT.replace(b"\n", b"\r\n"), TEXT.replace(b"1-a ", b"\n1-a\t ")])
def test_text(tmp_path, text):
    (tmp_path / "a.txt").write_bytes(text)
    assert read(tmp_path / "a.txt") == VECTORS


def test_archives_of_kaldiio(tmp_path, binary):
    assert read(tmp_path / "b.ark") == read(tmp_path / "b.scp") == VECTORS


def test_archives_of_kaldis_own_code(tmp_path):
    kaldi = pytest.importorskip("kaldi_native_io")
    for form in ("ark", "ark,t"):
        with kaldi.Int32VectorWriter(f"{form}:{tmp_path}/k.ark") as writer:
            for name, ids in VECTORS.items():
                writer.write(name, ids)
        assert read(tmp_path / "k.ark") == VECTORS


def test_gzip(tmp_path, binary):
    for name, content in (("t.gz", TEXT), ("b.gz", binary)):
        with gzip.open(tmp_path / name, "wb") as file:
            file.write(content)
        assert read(tmp_path / name) == VECTORS
    # What `gzip -c a b` writes: two members in one file
    (tmp_path / "two.gz").write_bytes(gzip.compress(TEXT) + gzip.compress(b"9-z 1\n"))
    assert read(tmp_path / "two.gz") == VECTORS | {"9-z": [1]}


def test_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/labels.txt", TEXT)
        archive.writestr("__MACOSX/folder/._labels.txt", b"\0\5")
        archive.writestr("folder/readme.pdf", b"%")
    assert read(tmp_path / "a.zip") == VECTORS


def test_names_inside_a_zip_can_do_no_harm(tmp_path):
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in/a.zip", "w") as archive:
        archive.writestr("../../evil.txt", TEXT)
    before = sorted(tmp_path.rglob("*"))
    assert read(tmp_path / "in/a.zip") == VECTORS
    assert sorted(tmp_path.rglob("*")) == before, "nothing is unpacked"


def test_a_line_that_never_ends_is_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("data_prep.int_vectors.MAX_LINE", 1_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", b"1-a 1\n1-b" + b" 1" * 100_000)
    with pytest.raises(UserError, match="bomb.zip:2: 1-b has a line of over 1,000 bytes"):
        read(tmp_path / "bomb.zip")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"1-a 1 2\n1-b 1 x 2\n", "a.txt:2: 1-b: 'x' is no integer"),
        ("a.txt", b"1-a 1 2\n1-b 1.0\n", "a.txt:2: 1-b: '1.0' is no integer"),
        ("a.txt", b"1-a 1 2\n1-b 4294967296\n", "a.txt:2: 1-b: '4294967296' is no integer of 32 bits"),
        ("a.txt", b"1-a 1 2\n 1 2\n", "a.txt:2: starts with a blank"),
        ("a.txt", b"1-a 1 2\n\xff\xfe 1\n", "a.txt:2: .*UTF-8"),
        ("a.txt", b"x" * 5_000, "a.txt: byte 0: no id of an utterance"),
        ("a.ark", b"1-a \0BFM \4\1\0\0\0", "a.ark: byte 0: 1-a: no vector of 32-bit integers"),
        ("a.ark", b"1-a \0C", "a.ark: byte 0: 1-a: no binary mark"),
        ("a.ark", b"1-a \0B\4\1\0\0\0\4\7\0\0\x001-b \0B\4\2\0\0\0\4\7\0\0\0", "a.ark: byte 16: 1-b: cut short"),
        ("a.ark", b"1-a \0B\4\xff\xff\xff\x7f", "a.ark: byte 0: 1-a: no vector"),
        ("a.gz", gzip.compress(TEXT)[:-9], "a.gz: .*cut short"),
        ("a.gz", gzip.compress(TEXT)[:30] + b"?" * 9, "a.gz: .*damaged"),
        ("a.zip", b"PK\3\4 and no more", "a.zip: .*damaged"),
        ("a.scp", b"1-a nowhere.ark:4\n", "a.scp points to nowhere.ark"),
    ],
)
def test_malformed(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(tmp_path / name)


def test_zips_without_one_text_file(tmp_path):
    for names in ([], ["a.txt", "b.txt"]):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("other", b"")
            for name in names:
                archive.writestr(name, TEXT)
        with pytest.raises(UserError, match=f"a.zip: {len(names)} text files"):
            read(tmp_path / "a.zip")


def test_missing_files(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "a.txt")
    with pytest.raises(UserError, match="a folder, not a file"):
        read(tmp_path)
