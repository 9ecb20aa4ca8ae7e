"""Sources as people damage them, through the import command: each is one error with its place, and nothing is written.

CTM files and TextGrids have tests of their own; damage to archives, byte by byte, is in test_int_vectors.
"""

from __future__ import annotations

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest

from cpc_speech.datadir import write_table
from cpc_speech.errors import UserError
from cpc_speech.kaldi import read_int_vectors
from cpc_speech.phones import PHONE_ID
from data_prep.import_labels import main

A, B = b"1-a" + b" 1" * 98, b"1-b" + b" 2" * 23  # of 16,000 and 4,000 samples
TEXT = A + b"\n" + B + b"\n"
SYMBOLS = b"<eps> 0\nSIL 1\nAA0_B 2\n"
# Two states a phone, of two transitions and one: transition-ids 1 to 3 are phone 1, 4 to 6 phone 2.
MODEL = b"""<TransitionModel>
<Topology> <TopologyEntry> <ForPhones> 1 2 </ForPhones>
<State> 0 <PdfClass> 0 <Transition> 0 0.5 <Transition> 1 0.5 </State>
<State> 1 <PdfClass> 1 <Transition> 2 1 </State> <State> 2 </State>
</TopologyEntry> </Topology>
<Triples> 4 1 0 0 1 1 1 2 0 2 2 1 3 </Triples>
<LogProbs> [ 0 -1 -1 -1 -1 -1 -1 ] </LogProbs> </TransitionModel>
"""


def zipped(content=TEXT, method=zipfile.ZIP_DEFLATED, names=("labels.txt",)):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name in names:
            archive.writestr(name, content)
    return file.getvalue()


def damaged(content, place):
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


def binary(ids, utterance=b"1-a"):
    return utterance + b" \0B\4" + struct.pack("<i", len(ids)) + b"".join(b"\4" + struct.pack("<i", i) for i in ids)


MATRIX = b"1-a \0BFM \4\1\0\0\0\4\2\0\0\0" + struct.pack("<2f", 1, 2)


@pytest.fixture
def folder(tmp_path):
    write_table(tmp_path / "data/utt2num_samples", {"1-a": 16_000, "1-b": 4_000})
    (tmp_path / "ali").mkdir()
    (tmp_path / "ali/phones.txt").write_bytes(SYMBOLS)
    (tmp_path / "ali/final.mdl").write_bytes(MODEL)
    (tmp_path / "ali/num_jobs").write_text("2\n")
    for job, line in ((1, A), (2, B.replace(b"2", b"5"))):
        (tmp_path / f"ali/ali.{job}.gz").write_bytes(gzip.compress(line + b"\n"))
    return tmp_path


def run_import(folder, form, source):
    options = ("--symbols", str(folder / "ali/phones.txt")) if form == "kaldi" else ()
    main([form, str(folder / source), str(folder / "data"), str(folder / "lang"), *options])
    return dict(read_int_vectors(folder / "data/phones.scp"))


def refused(folder, form, source, message):
    with pytest.raises(UserError, match=message):
        run_import(folder, form, source)
    assert not list(folder.glob("data/phones.*")) and not list(folder.glob("lang/*")), "nothing half-written"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", b"", "x.txt: empty"),
        ("x.txt", TEXT.replace(b" 2", b" 2_2", 1), "x.txt:2: 1-b: '2_2' is no integer"),
        ("x.txt", TEXT.replace(b" 2", b" 2.5", 1), "x.txt:2: 1-b: '2.5' is no integer"),
        ("x.txt", TEXT.replace(b" 2", b" 41", 1), "x.txt:2: 1-b has the id 41 at frame 0"),
        ("x.txt", TEXT.replace(b" 2", b" -1", 1), "x.txt:2: 1-b has the id -1 at frame 0"),
        ("x.txt", TEXT + A, "x.txt: 1-a is labelled twice"),
        ("x.txt", TEXT + b"lbi-" + A, "x.txt: 1-a is labelled twice"),
        ("x.txt", A + b"\n1-b\n", "x.txt:2: 1-b has 0 labels, but its 4000 samples make 23 frames"),
        ("x.txt", TEXT[:-20], "x.txt:2: 1-b has 13 labels"),  # cut short
        ("x.txt", TEXT.decode().encode("utf-16"), "x.txt:1: .* is no id in UTF-8"),
        ("x.txt", b"<html><body>404 Not Found</body></html>\n", "x.txt:1: <html><body>404: 'Not' is no integer"),
        ("x.zip", zipped(names=()), "x.zip: 0 text files in it"),
        ("x.zip", zipped(names=("labels.ark",)), "x.zip: 0 text files in it"),
        ("x.zip", zipped(names=("a.txt", "b.txt")), "x.zip: 2 text files in it .a.txt, b.txt."),
        ("x.zip", zipped()[:60], "x.zip: .*damaged or cut short"),
        ("x.zip", damaged(zipped(method=zipfile.ZIP_STORED), 60), "x.zip: .*damaged.*CRC"),
        *(("x.zip", damaged(zipped(method=method), 49), "x.zip: .*damaged") for method in (8, 12, 14)),
        ("x.zip", zipped(A + b"\n1-b x\n"), "x.zip:2: 1-b: 'x' is no integer"),
    ],
)
def test_the_authors_format(folder, name, content, message):
    (folder / name).write_bytes(content)
    refused(folder, "cpc", name, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(TEXT)[:-4], "x.ark: .*damaged or cut short"),
        (gzip.compress(gzip.compress(TEXT)), "x.ark:1: .*is no id in UTF-8|x.ark: byte 0: no id"),
        (b"1-a  [\n  0.5 0.25 ]\n", r"x.ark:1: 1-a: '\[' is no integer"),
        (b"1-a 1 ; 2 ;\n", "x.ark:1: 1-a: ';' is no integer"),  # a vector of vectors
        (b"1-a \1\2\3\n", "x.ark:1: 1-a: .* is no integer"),
        (MATRIX, "x.ark: byte 0: 1-a: no vector of 32-bit integers"),
        (binary([1] * 98) + MATRIX, "x.ark: byte 501: 1-a: no vector of 32-bit integers"),
        (binary([1] * 98)[:-3], "x.ark: byte 0: 1-a: cut short"),
        (binary([1] * 98) + binary([1] * 98), "x.ark: 1-a is labelled twice"),
        (binary([1] * 97 + [3]), "x.ark: byte 0: 1-a has the id 3 at frame 97: it is not in .*phones.txt"),
        (b"RIFF\x24\0\0\0WAVEfmt " + bytes(range(64)), "x.ark: byte 0: .*this is no Kaldi archive"),
    ],
)
def test_phones_by_frame(folder, content, message):
    (folder / "x.ark").write_bytes(content)
    refused(folder, "kaldi", "x.ark", message)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"1-a nowhere.ark:4\n", "x.scp points to nowhere.ark: No such file"),
        (b"1-a matrix.ark:4\n", "matrix.ark: no integer vector for 1-a at byte 4"),
        (b"1-a matrix.ark:4000\n", "matrix.ark: no integer vector for 1-a at byte 4000"),
        (b"1-a cut.ark:4\n", "cut.ark: no integer vector for 1-a at byte 4"),
        (b"1-a cut.ark\n", "x.scp: 1-a has no ARK:OFFSET but '.*cut.ark'"),
        (b"1-a copy-int-vector ark:- |\n", "x.scp: 1-a has no ARK:OFFSET"),
        (b"1-a cut.ark:\xc2\xb2\n", "x.scp: 1-a has no ARK:OFFSET"),
        (b"1-b cut.ark:4\n1-a cut.ark:4\n", "x.scp:2: 1-a comes after 1-b; sort it"),
        (b"1-a cut.ark:4\n1-a cut.ark:4\n", "x.scp:2: 1-a stands here a second time"),
        (b"1-a cut.ark:4\n\xff\xfe\n", "x.scp:2: .*is not UTF-8 text"),
    ],
)
def test_an_index_of_archives(folder, line, message, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "matrix.ark").write_bytes(MATRIX)
    (folder / "cut.ark").write_bytes(binary([1] * 98)[:-1])
    (folder / "x.scp").write_bytes(line)
    refused(folder, "kaldi", "x.scp", message)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("final.mdl", None, "final.mdl: no such file; --model names the model"),
        ("final.mdl", b"", "final.mdl:1: cut short"),
        ("final.mdl", MODEL[: MODEL.index(b"<LogProbs>")], "final.mdl:6: cut short"),
        ("final.mdl", b"\0B<TransitionModel> <Topology> \4", "final.mdl: byte 32: cut short"),
        ("final.mdl", gzip.compress(MODEL), "final.mdl:1: .*where <TransitionModel> should stand"),
        ("phones.txt", None, "phones.txt: no such file; --symbols names"),
        ("phones.txt", SYMBOLS.replace(b"2", b"2000000000"), "phones.txt:3: .*is not 'phone id'"),
        ("phones.txt", SYMBOLS.replace(b"2", b"9" * 5_000), "phones.txt:3: .*is not 'phone id'"),
        ("ali.1.gz", None, "ali: ali.1.gz of 2 is missing"),
        ("ali.2.gz", None, "ali: ali.2.gz of 2 is missing"),  # which only num_jobs tells
        ("ali.4.gz", gzip.compress(B), "ali: ali.4.gz is there, but num_jobs says 2"),
        ("num_jobs", b"4\n", "ali: ali.3.gz of 4 is missing"),
        ("num_jobs", b"two\n", "num_jobs: 'two' is not the number"),
        ("ali.2.gz", b"", "ali.2.gz: empty"),
        ("ali.2.gz", gzip.compress(B)[:-6], "ali.2.gz: .*cut short"),
        ("ali.2.gz", gzip.compress(A), "ali: 1-a is labelled twice"),
        ("ali.2.gz", gzip.compress(B.replace(b" 2", b" 7", 1)), "ali.2.gz:1: 1-b has the id 7 at frame 0: .*1 to 6;"),
        ("ali.2.gz", gzip.compress(B.replace(b" 2", b" 0", 1)), "ali.2.gz:1: 1-b has the id 0 at frame 0"),
    ],
)
def test_an_alignment_folder(folder, name, content, message):
    imported = run_import(folder, "kaldi-ali", "ali")
    assert imported["1-a"][1:99].tolist() == [PHONE_ID["SIL"]] * 98
    assert imported["1-b"][1:24].tolist() == [PHONE_ID["AA"]] * 23
    for path in (*folder.glob("data/phones.*"), *folder.glob("lang/*"), folder / "ali" / name):
        path.unlink(missing_ok=True)
    if content is not None:
        (folder / "ali" / name).write_bytes(content)
    refused(folder, "kaldi-ali", "ali", message)


def test_a_gap_without_num_jobs(folder):
    (folder / "ali/num_jobs").unlink()
    (folder / "ali/ali.2.gz").rename(folder / "ali/ali.3.gz")
    refused(folder, "kaldi-ali", "ali", "ali: ali.2.gz of 3 is missing; copy the whole folder")


def write_vector(folder, form, count):
    """A source of so many labels for 1-a, whose audio makes 98 frames."""
    ids, kind = [1] * count, form.partition(" ")[0]
    text = f"lbi-1-a {' '.join(map(str, ids))}\n".encode()
    other = B.replace(b"2", b"5") if kind == "kaldi-ali" else B
    contents = {"text": text + other, "zip": zipped(text + other), "gz": gzip.compress(text + other)}
    if form == "kaldi-ali":
        (folder / "ali/ali.1.gz").write_bytes(gzip.compress(text))
        return kind, "ali", "ali.1.gz:1"
    if form.endswith(("ark", "scp")):
        first = binary(ids, b"lbi-1-a")
        (folder / "x.ark").write_bytes(first + binary([2] * 23, b"lbi-1-b"))
        (folder / "x.scp").write_text(f"lbi-1-a {folder}/x.ark:8\nlbi-1-b {folder}/x.ark:{len(first) + 8}\n")
        return kind, f"x.{form[-3:]}", "x.ark: byte 0" if form.endswith("ark") else "x.scp"
    (folder / "x").write_bytes(contents[form.split()[1]])
    return kind, "x", "x:1"


FORMS = ["cpc text", "cpc zip", "kaldi text", "kaldi gz", "kaldi ark", "kaldi scp", "kaldi-ali"]


@pytest.mark.parametrize("form", FORMS)
def test_lengths_may_be_two_frames_off_and_no_more(folder, form):
    for count in (95, 101):
        kind, source, where = write_vector(folder, form, count)
        refused(folder, kind, source, f"{where}: lbi-1-a has {count} labels, but its 16000 samples make 98 frames")
    for count in (96, 98, 100):
        kind, source, _ = write_vector(folder, form, count)
        labels = run_import(folder, kind, source)["1-a"]
        assert len(labels) == 100 and np.count_nonzero(labels) == min(count, 99)


NAMES = ["sil", "sp", "spn", "NSN", "<eps>", "AH0", "ow1_B", "ZH", "SIL", ""]  # blank: in TextGrids alone
EXPECTED = [PHONE_ID.get(phone, 0) for phone in ("SIL", "SIL", "SPN", "SPN", "", "AH", "OW", "ZH", "SIL", "SIL")]


@pytest.mark.parametrize("form", ["kaldi", "kaldi-ali", "ctm", "textgrid"])
def test_every_format_knows_the_names_of_aligners(folder, form):
    names = NAMES if form == "textgrid" else NAMES[:-1]
    write_table(folder / "data/utt2num_samples", {"1-a": 160 * len(names)})
    options = []
    if form.startswith("kaldi"):
        (folder / "ali/phones.txt").write_text("".join(f"{name} {i}\n" for i, name in enumerate(names, 1)))
        phones = " ".join(map(str, range(1, len(names) + 1)))
        (folder / "x").write_text(f"lbi-1-a {phones}\n")
        options = ["--symbols", str(folder / "ali/phones.txt"), "--no-snip-edges"]
        if form == "kaldi-ali":  # one state, one transition each: the transition-id is the phone
            triples = " ".join(f"{phone} 0 0" for phone in range(1, len(names) + 1))
            state = "<State> 0 <PdfClass> 0 <Transition> 1 1 </State> <State> 1 </State>"
            (folder / "final.mdl").write_text(
                f"<TransitionModel> <Topology> <TopologyEntry> <ForPhones> {phones} </ForPhones> {state} "
                f"</TopologyEntry> </Topology> <Triples> {len(names)} {triples} </Triples> "
                f"<LogProbs> [ {'0 ' * (len(names) + 1)}] </LogProbs> </TransitionModel>"
            )
    elif form == "ctm":
        (folder / "x").write_text("".join(f"lbi-1-a 1 {i / 100} 0.01 {name}\n" for i, name in enumerate(names)))
    else:
        textgrid = pytest.importorskip("praatio.textgrid")
        entries = [(i / 100, (i + 1) / 100, name) for i, name in enumerate(names) if name]
        grid = textgrid.Textgrid()
        grid.addTier(textgrid.IntervalTier("phones", entries, 0, len(names) / 100))
        (folder / "x").mkdir()
        grid.save(str(folder / "x/lbi-1-a.TextGrid"), "short_textgrid", includeBlankSpaces=True)
    main([form, str(folder / "x"), str(folder / "data"), str(folder / "lang"), *options])
    assert dict(read_int_vectors(folder / "data/phones.scp"))["1-a"].tolist() == EXPECTED[: len(names)]
