"""Integer vectors and float matrices against kaldiio, an independent reader and writer of the format."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from cpc_speech.errors import UserError
from cpc_speech.kaldi import read_float_matrices, read_int_vectors, write_float_matrices, write_int_vectors

kaldiio = pytest.importorskip("kaldiio")


@pytest.fixture
def vectors():
    random = np.random.default_rng(0)
    sizes = {"1-a": 3, "1-b": 1, "22-a": 0, "é-7": 500}
    return {name: random.integers(-5, 1 << 30, size=size, dtype=np.int32) for name, size in sizes.items()}


def test_kaldiio_reads_what_we_write_in_order_and_by_offset(tmp_path, vectors):
    vectors.pop("é-7")  # kaldiio expects ASCII keys
    assert write_int_vectors(tmp_path / "a.ark", tmp_path / "a.scp", vectors.items()) == 3
    for table in (dict(kaldiio.load_ark(str(tmp_path / "a.ark"))), kaldiio.load_scp(str(tmp_path / "a.scp"))):
        assert list(table) == list(vectors)
        for name, vector in vectors.items():
            assert np.array_equal(table[name], vector)


def test_we_read_what_kaldiio_writes(tmp_path, vectors):
    vectors.pop("é-7")
    kaldiio.save_ark(str(tmp_path / "b.ark"), vectors, scp=str(tmp_path / "b.scp"))
    read = dict(read_int_vectors(tmp_path / "b.scp"))
    assert list(read) == list(vectors) and all(np.array_equal(read[name], vectors[name]) for name in vectors)


def test_round_trip_gives_writable_copies_in_the_order_asked(tmp_path, vectors, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_int_vectors("a.ark", "a.scp", vectors.items())
    asked = ["é-7", "1-a"]
    read = list(read_int_vectors("a.scp", asked))
    assert [name for name, _ in read] == asked
    for name, vector in read:
        assert vector.dtype == np.int32 and vector.flags.writeable and np.array_equal(vector, vectors[name])


def test_what_a_killed_writer_left_goes(tmp_path, vectors):
    for name in ("[a].ark.tmp.7", "[a].ark.tmp.4194304", "a.ark.tmp.7", "b[a].ark.tmp.7"):
        (tmp_path / name).write_bytes(bytes(100))
    write_int_vectors(tmp_path / "[a].ark", tmp_path / "[a].scp", vectors.items())
    assert {path.name for path in tmp_path.iterdir()} == {"[a].ark", "[a].scp", "a.ark.tmp.7", "b[a].ark.tmp.7"}


def test_ids_out_of_order_leave_nothing_behind(tmp_path):
    one = np.ones(1, dtype=np.int32)
    for ids in (["b", "a"], ["a", "a"]):
        with pytest.raises(UserError, match="C order"):
            write_int_vectors(tmp_path / "x.ark", tmp_path / "x.scp", [(name, one) for name in ids])
    with pytest.raises(ValueError, match="int32"):
        write_int_vectors(tmp_path / "x.ark", tmp_path / "x.scp", [("a", one.astype(np.int64))])
    assert list(tmp_path.iterdir()) == []


def test_missing_and_damaged_entries_are_named(tmp_path, vectors):
    write_int_vectors(tmp_path / "a.ark", tmp_path / "a.scp", vectors.items())
    with pytest.raises(UserError, match="9-z"):
        list(read_int_vectors(tmp_path / "a.scp", ["1-a", "9-z"]))
    data = (tmp_path / "a.ark").read_bytes()
    for size in range(len(data)):
        (tmp_path / "a.ark").write_bytes(data[:size])
        with pytest.raises(UserError, match="a.ark: no integer vector for .* at byte"):
            list(read_int_vectors(tmp_path / "a.scp"))
    (tmp_path / "a.ark").unlink()
    with pytest.raises(UserError, match="a.ark"):
        list(read_int_vectors(tmp_path / "a.scp"))


@pytest.fixture
def matrices():
    random = np.random.default_rng(0)
    shapes = {"1-a": (3, 41), "1-b": (1, 1), "22-a": (0, 41), "3": (700, 2)}
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_kaldiio_reads_our_matrices(tmp_path, matrices):
    """Also one that lies in memory column by column."""
    matrices["3"] = np.asfortranarray(matrices["3"])
    assert write_float_matrices(tmp_path / "a.ark", tmp_path / "a.scp", matrices.items()) == 4
    for table in (dict(kaldiio.load_ark(str(tmp_path / "a.ark"))), kaldiio.load_scp(str(tmp_path / "a.scp"))):
        assert list(table) == list(matrices)
        for name, matrix in matrices.items():
            assert table[name].dtype == np.float32 and table[name].shape == matrix.shape
            assert np.array_equal(table[name], matrix)


def test_we_read_kaldiios_matrices(tmp_path, matrices):
    """Single and double precision, as copies that can be written to, in the order asked."""
    matrices["1-b"] = matrices["1-b"].astype(np.float64)
    kaldiio.save_ark(str(tmp_path / "b.ark"), matrices, scp=str(tmp_path / "b.scp"))
    read = list(read_float_matrices(tmp_path / "b.scp", ["3", "1-b", "1-a"]))
    assert [name for name, _ in read] == ["3", "1-b", "1-a"]
    for name, matrix in read:
        assert matrix.dtype == np.float32 and matrix.flags.writeable
        assert np.array_equal(matrix, matrices[name].astype(np.float32))


def test_matrices_that_cannot_be_read_or_written(tmp_path, matrices):
    """kaldi_io passes over compressed ones in silence; a cut one must not come back shorter."""
    kaldiio.save_ark(str(tmp_path / "c.ark"), {"c": matrices["3"]}, scp=str(tmp_path / "c.scp"), compression_method=2)
    with pytest.raises(UserError, match="no uncompressed float matrix for c at"):
        list(read_float_matrices(tmp_path / "c.scp"))
    write_float_matrices(tmp_path / "a.ark", tmp_path / "a.scp", matrices.items())
    data = (tmp_path / "a.ark").read_bytes()
    for cut in (4, 8 * 700, 8 * 700 + 5, 8 * 700 + 12):
        (tmp_path / "a.ark").write_bytes(data[:-cut])
        with pytest.raises(UserError, match="for 3 at"):
            list(read_float_matrices(tmp_path / "a.scp", ["1-a", "3"]))
    with pytest.raises(ValueError, match="2-D float32"):
        write_float_matrices(tmp_path / "x.ark", tmp_path / "x.scp", [("a", np.zeros((2, 2)))])


@pytest.mark.parametrize("root", [None, "/nowhere"])
def test_importing_leaves_the_environment_and_stderr_alone(root):
    environment = {name: value for name, value in os.environ.items() if name != "KALDI_ROOT"}
    if root:
        environment["KALDI_ROOT"] = root
    code = (
        "import os; before = dict(os.environ); import cpc_speech.kaldi; "
        "assert dict(os.environ) == before, 'environment changed'"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
