"""Ids whose meaning was hidden are found again by labels for the same audio, and imported by the map."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from cpc_speech.datadir import write_table
from cpc_speech.errors import UserError
from cpc_speech.kaldi import read_int_vectors, write_int_vectors
from cpc_speech.phones import SYMBOLS, write_symbols
from data_prep.import_labels import main as import_labels
from data_prep.match_ids import count_pairs, main, match

LENGTHS = {f"{speaker}-{number}": 16_000 * number + 23 * speaker for speaker in range(5, 9) for number in range(1, 10)}
HIDDEN = np.random.default_rng(7).permutation(41)  # of each class, the id that stands for it
MEANING = {int(number): SYMBOLS[1 + phone] for phone, number in enumerate(HIDDEN)}


def segments(random, samples):
    """Runs of 3 to 11 frames of the 41 classes."""
    runs = random.integers(3, 12, samples // 160)
    return np.repeat(random.integers(1, 42, len(runs)), runs)[: samples // 160].astype(np.int32)


@pytest.fixture
def truth():
    random = np.random.default_rng(3)
    return {name: segments(random, samples) for name, samples in sorted(LENGTHS.items())}


def labelled(folder, labels, symbols=SYMBOLS):
    write_table(folder / "data/utt2num_samples", LENGTHS)
    write_int_vectors(folder / "data/phones.ark", folder / "data/phones.scp", sorted(labels.items()))
    write_symbols(folder / "lang", symbols)
    return folder / "data"


def as_the_authors(path, truth):
    """Their format under the hidden map: label j is that of our frame j + 1, for each window of 400 samples."""
    lines = []
    for name, labels in truth.items():
        frames = (LENGTHS[name] - 400) // 160 + 1
        lines.append(f"lbi-{name} " + " ".join(str(HIDDEN[labels[j + 1] - 1]) for j in range(frames)))
    path.write_text("\n".join(lines))


def read_map(path):
    return {int(fields[0]): fields[1:] for fields in map(str.split, path.read_text().splitlines())}


def degraded(truth):
    """A frame late, and 15 % of the segments relabelled: what another aligner's labels may look like, and worse."""
    random, worse = np.random.default_rng(4), {}
    for name, labels in truth.items():
        starts = np.flatnonzero(np.diff(labels, prepend=0))
        changed = labels.copy()
        for start, end in zip(starts, [*starts[1:], len(labels)]):
            if random.random() < 0.15:
                changed[start:end] = random.integers(1, 42)
        worse[name] = np.concatenate([changed[:1], changed[:-1]])
    return worse


def test_the_same_labels_agree_wholly_and_come_back(tmp_path, truth, capsys):
    as_the_authors(tmp_path / "theirs.txt", truth)
    data = labelled(tmp_path, truth)
    main([str(tmp_path / "theirs.txt"), str(data), "--to", str(tmp_path / "id_map.txt")])
    rows = read_map(tmp_path / "id_map.txt")
    assert {number: row[0] for number, row in rows.items()} == MEANING
    assert {row[1] for row in rows.values()} == {"100.0"} and {len(row) for row in rows.values()} == {3}
    frames = sum(int(row[2]) for row in rows.values())
    # all frames have a label of theirs but the first, and the last where fewer than 80 samples are left after it
    assert frames == sum(n // 160 - 1 - (n % 160 < 80) for n in LENGTHS.values())
    assert f"100.00 % of {frames} frames agree" in capsys.readouterr().out

    arguments = ["cpc", str(tmp_path / "theirs.txt"), str(data), str(tmp_path / "lang")]
    import_labels([*arguments, "--id-map", str(tmp_path / "id_map.txt")])
    assert (tmp_path / "lang/phones.txt").read_text() == "".join(f"{name} {i}\n" for i, name in enumerate(SYMBOLS))
    for name, labels in read_int_vectors(data / "phones.scp"):
        assert labels[1:-1].tolist() == truth[name][1:-1].tolist()
    import_labels(arguments)
    with pytest.raises(UserError, match="data: its labels are the CPC authors' ids"):
        count_pairs(tmp_path / "theirs.txt", data)


def test_labels_that_often_disagree_still_tell_the_map(tmp_path, truth, capsys):
    as_the_authors(tmp_path / "theirs.txt", truth)
    data, worse = labelled(tmp_path, degraded(truth)), degraded(truth)
    main([str(tmp_path / "theirs.txt"), str(data), "--to", str(tmp_path / "id_map.txt")])
    rows = read_map(tmp_path / "id_map.txt")
    assert {number: row[0] for number, row in rows.items()} == MEANING
    # the agreement is that of the two labellings themselves, where theirs have a frame
    both = [(truth[name][t], worse[name][t]) for name in truth for t in range(1, 1 + (LENGTHS[name] - 400) // 160 + 1)]
    agreement = 100 * sum(a == b for a, b in both) / len(both)
    assert 65 < agreement < 80  # 85 % of the segments, whose first frame of some 7 is lost
    assert f"{agreement:.2f} % of {len(both)} frames agree" in capsys.readouterr().out


def test_the_assignment_is_the_best_of_all_and_says_what_is_doubtful():
    """id 0 is AA more often than B; but as id 1 is nothing but AA, B for id 0 makes more frames agree."""
    pairs = np.diag([100] * 41)
    sil, spn = pairs[0].copy(), pairs[1].copy()
    sil[:2], spn[:2] = (60, 50), (50, 0)
    pairs[0], pairs[1], pairs[40] = sil, spn, 0
    rows = match(pairs)
    assert rows[0] == ("SPN", 110, 50, "SIL", 60) and rows[0].doubtful
    assert rows[1] == ("SIL", 50, 50, "SPN", 0) and not rows[1].doubtful
    assert [row.phone for row in rows[2:]] == SYMBOLS[3:]
    assert rows[40].frames == 0 and rows[40].doubtful and not any(row.doubtful for row in rows[1:40])


def test_doubtful_ids_are_marked_and_named(tmp_path, truth, caplog, capsys):
    """SPN never occurs: its id is the one left over."""
    truth = {name: np.where(labels == 2, 1, labels) for name, labels in truth.items()}
    as_the_authors(tmp_path / "theirs.txt", truth)
    data = labelled(tmp_path, truth)
    main([str(tmp_path / "theirs.txt"), str(data), "--to", str(tmp_path / "id_map.txt")])
    spn = int(HIDDEN[1])
    assert read_map(tmp_path / "id_map.txt")[spn] == ["SPN", "0.0", "0", "doubtful"]
    assert f"{spn} never occurs beside a label of ours: it is given SPN, which was left over" in caplog.text
    assert capsys.readouterr().out.count("doubtful") == 1
    map_option = ["--id-map", str(tmp_path / "id_map.txt")]
    import_labels(["cpc", str(tmp_path / "theirs.txt"), str(data), str(tmp_path / "lang"), *map_option])
    assert f"doubtful are {spn} SPN" in caplog.text


def test_other_labels_of_some_utterances(tmp_path, truth):
    """--labels names another data directory's, which may know utterances that this one does not."""
    as_the_authors(tmp_path / "theirs.txt", truth)
    labelled(tmp_path / "other", {"1-elsewhere": np.ones(3, dtype=np.int32), "5-9": truth["5-9"]})
    write_table(tmp_path / "data/utt2num_samples", LENGTHS)
    pairs = count_pairs(tmp_path / "theirs.txt", tmp_path / "data", tmp_path / "other/data/phones.scp")
    assert pairs.sum() == LENGTHS["5-9"] // 160 - 1
    for phone, number in enumerate(HIDDEN):
        assert pairs[number, phone] == pairs[number].sum() == pairs[:, phone].sum()


def test_nothing_in_common(tmp_path, truth):
    data = labelled(tmp_path, {"5-1": truth["5-1"]})
    (tmp_path / "theirs.txt").write_text("77-1 1 2 3\n")
    with pytest.raises(UserError, match="theirs.txt: .*phones.scp labels none of its utterances"):
        count_pairs(tmp_path / "theirs.txt", data)
    (tmp_path / "theirs.txt").write_text("5-2" + " 1" * 198 + "\n")
    with pytest.raises(UserError, match="labels none of its utterances"):
        count_pairs(tmp_path / "theirs.txt", data)


@pytest.mark.parametrize(
    ("labels", "theirs", "message"),
    [
        (np.ones(99), "5-1" + " 1" * 99, "phones.scp: 5-1 has 99 labels for 100 frames"),
        (np.full(100, 42), "5-1" + " 1" * 99, "phones.scp: 5-1 has a label outside 0..41"),
        (np.ones(100), "5-1" + " 1" * 95, "theirs.txt:1: 5-1 has 95 labels, but its 16115 samples make 99 frames"),
        (np.ones(100), "5-1" + " 41" * 99, "theirs.txt:1: 5-1 has the id 41 at frame 0: the authors' ids are 0 to 40"),
        (np.ones(100), "5-1" + " 1" * 99 + "\nlbi-5-1" + " 1" * 99, "theirs.txt: 5-1 is labelled twice"),
    ],
)
def test_labels_that_belong_to_something_else(tmp_path, labels, theirs, message):
    data = labelled(tmp_path, {"5-1": labels.astype(np.int32)})
    (tmp_path / "theirs.txt").write_text(theirs + "\n")
    with pytest.raises(UserError, match=message):
        main([str(tmp_path / "theirs.txt"), str(data), "--to", str(tmp_path / "id_map.txt")])
    assert not (tmp_path / "id_map.txt").exists()


MAP = [f"{number} {phone}" for number, phone in enumerate(SYMBOLS[1:])]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("5", "id_map.txt:6: '5' is not 'id PHONE'"),
        ("", "id_map.txt:6: '' is not 'id PHONE'"),
        ("five AO", "id_map.txt:6: 'five AO' is not"),
        ("-5 AO", "id_map.txt:6: '-5 AO' is not"),
        ("² AO", "id_map.txt:6: '² AO' is not"),
        ("41 AO", "id_map.txt:6: the id 41: the authors' ids are 0 to 40"),
        ("5 AO1", "id_map.txt:6: AO1 is none of SIL SPN AA"),
        ("5 <eps>", "id_map.txt:6: <eps> is none of"),
        ("5 P05", "id_map.txt:6: P05 is none of"),
        ("4 AO", "id_map.txt:6: the id 4 a second time"),
        ("5 SIL", "id_map.txt:6: SIL a second time"),
        (None, "id_map.txt: no line for 5;"),
    ],
)
def test_maps_that_are_refused(tmp_path, line, message):
    data = tmp_path / "data"
    write_table(data / "utt2num_samples", {"5-1": 720})
    (tmp_path / "theirs.txt").write_text("5-1 5 5 5\n")
    arguments = ["cpc", str(tmp_path / "theirs.txt"), str(data), str(tmp_path / "lang"), "--id-map"]
    path = tmp_path / "id_map.txt"
    path.write_text("\n".join([*MAP[:5], *([] if line is None else [line]), *MAP[6:]]))
    with pytest.raises(UserError, match=message):
        import_labels([*arguments, str(path)])
    assert not list(data.glob("phones.*"))
    path.write_text("\n".join(reversed(MAP)))  # in any order, with nothing but id and phone
    import_labels([*arguments, str(path)])
    assert dict(read_int_vectors(data / "phones.scp"))["5-1"].tolist() == [0, *[SYMBOLS.index(MAP[5].split()[1])] * 3]


def test_a_missing_map(tmp_path):
    with pytest.raises(UserError, match="id_map.txt: no such file; python -m data_prep.match_ids makes it"):
        import_labels(["cpc", "theirs.txt", "data", "lang", "--id-map", str(tmp_path / "id_map.txt")])
    with pytest.raises(UserError, match="--id-map means nothing for ctm"):
        import_labels(["ctm", "x.ctm", "data", "lang", "--id-map", "id_map.txt"])
