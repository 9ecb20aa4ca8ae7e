"""The import command: our labels in every format and back, and what it says of utterances that do not match."""

from __future__ import annotations

import gzip
import zipfile

import numpy as np
import pytest

from cpc_speech.datadir import read_table, write_table
from cpc_speech.errors import UserError
from cpc_speech.kaldi import read_int_vectors, write_int_vectors
from cpc_speech.phones import SYMBOLS, write_symbols
from data_prep.import_labels import main

# samples: multiples of 160 and the lengths around which Kaldi makes one frame fewer
UTTERANCES = {"1-a": 16_000, "1-b": 16_079, "1-c": 16_080, "2-a": 4_959, "22-a": 48_000, "3-a": 720}


def snip_frames(samples):
    return (samples - 400) // 160 + 1


@pytest.fixture
def truth():
    """Runs of 1 to 12 frames; class 0 (unlabelled) occurs too."""
    random, labels = np.random.default_rng(1), {}
    for name, samples in UTTERANCES.items():
        runs = [np.full(random.integers(1, 13), random.integers(0, 42), dtype=np.int32) for _ in range(samples // 160)]
        labels[name] = np.concatenate(runs)[: samples // 160]
    return labels


@pytest.fixture
def folder(tmp_path):
    write_table(tmp_path / "data/utt2num_samples", UTTERANCES)
    return tmp_path


def run_import(folder, *arguments):
    """Labels and symbols of an import into a fresh pair of folders."""
    main([*map(str, arguments[:2]), str(folder / "data"), str(folder / "lang"), *map(str, arguments[2:])])
    symbols = [line.split() for line in (folder / "lang/phones.txt").read_text().splitlines()]
    assert [int(number) for _, number in symbols] == list(range(42))
    assert not list(folder.glob("data/*tmp*"))
    return dict(read_int_vectors(folder / "data/phones.scp")), [name for name, _ in symbols]


def same(imported, truth, edges=False):
    """Identical; ``edges``: but for frames that Kaldi's windows do not reach, which are unlabelled."""
    assert list(imported) == sorted(truth)
    for name, labels in truth.items():
        expected = labels.copy()
        if edges:
            expected[0] = 0
            expected[1 + snip_frames(UTTERANCES[name]) :] = 0
        assert imported[name].dtype == np.int32 and imported[name].tolist() == expected.tolist()


def on_kaldi_frames(labels, samples):
    """The label of each of Kaldi's windows: of ours, the frame with the nearest centre."""
    centres = 160 * np.arange(len(labels)) + 79
    return [int(labels[np.argmin(abs(centres - (160 * j + 200)))]) for j in range(snip_frames(samples))]


def without_unlabelled(truth):
    return {name: np.maximum(labels, 1) for name, labels in truth.items()}


def test_the_authors_format(folder, truth):
    truth = without_unlabelled(truth)
    lines = [
        " ".join([name, *(str(label - 1) for label in on_kaldi_frames(labels, UTTERANCES[name]))])
        for name, labels in truth.items()
    ]
    (folder / "converted_aligned_phones.txt").write_text("\n".join(lines))  # no final newline, as theirs
    with zipfile.ZipFile(folder / "converted_aligned_phones.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "converted_aligned_phones.txt", "converted_aligned_phones.txt")
    for suffix in ("txt", "zip"):
        imported, symbols = run_import(folder, "cpc", folder / f"converted_aligned_phones.{suffix}")
        same(imported, truth, edges=True)
        assert symbols == ["<eps>", *(f"P{number:02d}" for number in range(41))]
    for wrong in ("41", "-1"):
        (folder / "x.txt").write_text(lines[0] + "\n" + lines[1].replace(" ", f" {wrong} ", 1) + "\n")
        with pytest.raises(
            UserError, match=f"x.txt:2: 1-b has the id {wrong} at frame 0: the authors' ids are 0 to 40"
        ):
            run_import(folder, "cpc", folder / "x.txt")


def kaldi_symbols(path):
    """A phone table as Kaldi's prepare_lang.sh makes it, and the ids that each of our labels can have there."""
    names, ids = ["<eps>"], {0: [0]}
    for label, phone in enumerate(SYMBOLS[1:], 1):
        variants = [phone] if label < 3 else [f"{phone}{stress}" for stress in ("", "0", "1", "2")]
        names += (spelled := [f"{name}{place}" for name in variants for place in ("", "_B", "_E", "_I", "_S")])
        ids[label] = list(range(len(names) - len(spelled), len(names)))
    ids[1] += [len(names), len(names) + 1]
    ids[2].append(len(names) + 2)
    names += ["sil", "sp", "NSN_S", "#0", "#1"]
    path.write_text("".join(f"{name} {number}\n" for number, name in enumerate(names)))
    return ids


def kaldi_vectors(truth, ids):
    random = np.random.default_rng(2)
    return {
        f"lbi-{name}": np.array(
            [random.choice(ids[label]) for label in on_kaldi_frames(labels, UTTERANCES[name])], dtype=np.int32
        )
        for name, labels in truth.items()
    }


def test_kaldi_phones_per_frame(folder, truth):
    kaldiio = pytest.importorskip("kaldiio")
    vectors = kaldi_vectors(truth, kaldi_symbols(folder / "phones.txt"))
    kaldiio.save_ark(str(folder / "b.ark"), vectors, scp=str(folder / "b.scp"))
    text = "".join(f"{name} {' '.join(map(str, ids))} \n" for name, ids in reversed(vectors.items()))
    (folder / "t.ark").write_text(text)  # in an order that is not ours
    (folder / "t.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("b.ark", "b.scp", "t.ark", "t.gz"):
        imported, symbols = run_import(folder, "kaldi", folder / name, "--symbols", folder / "phones.txt")
        same(imported, truth, edges=True)
        assert symbols == SYMBOLS


def test_our_own_archive(folder, truth):
    write_symbols(folder / "ours")
    write_int_vectors(folder / "ours/phones.ark", folder / "ours/phones.scp", sorted(truth.items()))
    own = ("--symbols", folder / "ours/phones.txt", "--no-snip-edges")
    imported, _ = run_import(folder, "kaldi", folder / "ours/phones.scp", *own)
    same(imported, truth)


def test_a_kaldi_alignment_folder(folder, truth):
    """Three transition-ids a phone, numbered by hand: phone p has 3 p - 2, 3 p - 1 and 3 p."""
    kaldi_symbols(folder / "phones.txt")
    table = {name: int(number) for name, number in (line.split() for line in open(folder / "phones.txt"))}
    truth = without_unlabelled(truth)
    phones = range(1, table["#0"])
    triples = "".join(f"{phone} {state} {2 * phone + state}\n" for phone in phones for state in (0, 1))
    (folder / "final.mdl").write_text(
        f"<TransitionModel>\n<Topology>\n<TopologyEntry>\n<ForPhones>\n{' '.join(map(str, phones))}\n</ForPhones>\n"
        "<State> 0 <PdfClass> 0 <Transition> 0 0.5 <Transition> 1 0.5 </State>\n"
        "<State> 1 <PdfClass> 1 <Transition> 2 1 </State>\n<State> 2 </State>\n</TopologyEntry>\n</Topology>\n"
        f"<Triples> {2 * len(phones)}\n{triples}</Triples>\n<LogProbs>\n [ 0 {'-1 ' * 3 * len(phones)}]\n</LogProbs>\n"
        "</TransitionModel>\n<DIMENSION> 39 and Gaussians\n"
    )
    ids = {label: [3 * table[SYMBOLS[label]] - i for i in range(3)] for label in range(1, 42)}
    vectors = list(kaldi_vectors(truth, ids).items())
    for job, part in (("1", vectors[:2]), ("2", vectors[2:4]), ("3", vectors[4:])):
        lines = "".join(f"{name} {' '.join(map(str, ids))} \n" for name, ids in part)
        (folder / f"ali.{job}.gz").write_bytes(gzip.compress(lines.encode()))
    imported, symbols = run_import(folder, "kaldi-ali", folder)
    same(imported, truth, edges=True)
    assert symbols == SYMBOLS
    (folder / "ali.4.gz").write_bytes(gzip.compress(b"lbi-1-a 9999" + b" 1" * 97 + b"\n"))
    with pytest.raises(UserError, match=r"ali.4.gz:1: lbi-1-a has the id 9999 at frame 0: .*made with another model"):
        run_import(folder, "kaldi-ali", folder / "ali.4.gz")
    with pytest.raises(UserError, match="no ali.1.gz in it"):
        run_import(
            folder, "kaldi-ali", folder / "data", "--model", folder / "final.mdl", "--symbols", folder / "phones.txt"
        )
    (folder / "ali.4.gz").write_bytes(gzip.compress(b"lbi-1-a" + b" 1" * 98 + b"\n"))
    with pytest.raises(UserError, match="1-a is labelled twice"):
        run_import(folder, "kaldi-ali", folder)


def test_names_of_kaldi_that_are_none_of_ours(folder):
    write_table(folder / "data/utt2num_samples", {"1-a": 720})
    (folder / "x.txt").write_text("1-a 1 7 1\n")
    for table, message in (
        ("SIL 1\nTS 7\n", "has the id 7 at frame 1: .*phones.txt calls it TS, which is none of SIL SPN AA"),
        ("SIL 1\nAA 9\n", "has the id 7 at frame 1: it is not in"),
        ("SIL 1\nAA\n", "phones.txt:2: 'AA' is not 'phone id'"),
        ("SIL 1\nAA one\n", "phones.txt:2: .* is not 'phone id'"),
        ("SIL 1\nAA 1\n", "phones.txt:2: AA has the id of SIL"),
        ("", "phones.txt: empty"),
        ("SIL 1\n\0\udcff\n", "phones.txt:2: .* is not 'phone id'"),
    ):
        (folder / "phones.txt").write_text(table, errors="surrogateescape")
        with pytest.raises(UserError, match=message):
            run_import(folder, "kaldi", folder / "x.txt", "--symbols", folder / "phones.txt")
    assert not list(folder.glob("data/phones.*")) and not list(folder.glob("lang/*")), "nothing half-written"


def runs(labels):
    """(first frame, last frame + 1, label) of every run."""
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1), len(labels)]
    return [(int(start), int(end), int(labels[start])) for start, end in zip(edges, edges[1:])]


def ctm_lines(truth):
    return "".join(
        f"{name} 1 {start / 100:.2f} {(end - start) / 100:.2f} {SYMBOLS[label]}\n"
        for name, labels in truth.items()
        for start, end, label in runs(labels)
        if label
    )


def test_ctm(folder, truth):
    truth["3-a"][:] = 5  # wholly unlabelled, it would not be in the file
    (folder / "x.ctm").write_text(ctm_lines(dict(sorted(truth.items()))))
    same(run_import(folder, "ctm", folder / "x.ctm")[0], truth)


def test_a_ctm_made_by_kaldi_is_shifted_onto_its_windows(folder, truth):
    """ali-to-phones --ctm-output has frame j at 0.01 j; with the shift it says the same as the frames themselves."""
    truth = without_unlabelled(truth)
    frames = {name: on_kaldi_frames(labels, UTTERANCES[name]) for name, labels in sorted(truth.items())}
    (folder / "x.ctm").write_text(ctm_lines({name: np.array(labels) for name, labels in frames.items()}))
    same(run_import(folder, "ctm", folder / "x.ctm", "--shift", "0.0075")[0], truth, edges=True)


def test_textgrids(folder, truth):
    praatio = pytest.importorskip("praatio.textgrid")
    for name, labels in truth.items():
        end = UTTERANCES[name] / 16_000
        # blanks for silence, as MFA has it, and praatio fills gaps with them
        entries = [(a / 100, b / 100, "" if label == 1 else SYMBOLS[label]) for a, b, label in runs(labels)]
        entries[-1] = (*entries[-1][:1], end, entries[-1][2])
        grid = praatio.Textgrid()
        grid.addTier(praatio.IntervalTier("words", [(0, end, "word")], 0, end))
        grid.addTier(praatio.IntervalTier("phones", [entry for entry in entries if entry[2]], 0, end))
        (folder / "grids" / name[0]).mkdir(parents=True, exist_ok=True)
        grid.save(str(folder / f"grids/{name[0]}/{name}.TextGrid"), "long_textgrid", includeBlankSpaces=True)
    same(run_import(folder, "textgrid", folder / "grids")[0], truth)


def test_utterances_that_do_not_match(folder, truth, caplog):
    del truth["2-a"]
    (folder / "x.ctm").write_text("0-0 1 0 1 SIL\n" + ctm_lines(dict(sorted(without_unlabelled(truth).items()))))
    with pytest.raises(UserError, match="1 utterances got no labels .2-a: not in x.ctm.*--max-dropped 1"):
        run_import(folder, "ctm", folder / "x.ctm")
    run_import(folder, "ctm", folder / "x.ctm", "--max-dropped", "1")
    assert read_table(folder / "data/labels.dropped") == {"2-a": "not in x.ctm"}
    assert "1 utterances, such as 0-0, are not in" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("kaldi", "x.txt"), "kaldi needs --symbols"),
        (("ctm", "x.ctm", "--model", "m"), "--model means nothing for ctm"),
        (("cpc", "x.txt", "--no-snip-edges"), "--no-snip-edges means nothing for cpc"),
        (("kaldi", "x.txt", "--symbols", "s", "--shift", "1"), "--shift means nothing for kaldi"),
        (("cpc", "nowhere.txt"), "nowhere.txt: no such file"),
        (("ctm", "nowhere.ctm"), "nowhere.ctm: no such file"),
        (("kaldi-ali", "nowhere"), "no such file; --model"),
    ],
)
def test_options_that_make_no_sense(folder, arguments, message):
    with pytest.raises(UserError, match=message):
        run_import(folder, *arguments)
