from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from cpc_speech.errors import UserError
from data_prep import splits
from data_prep.splits import main, own_splits

PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "cpc_splits"

Lists = dict[str, list[str]]


def corpus(sizes: dict[str, int]) -> dict[str, str]:
    return {f"{speaker}-1-{i:04d}": speaker for speaker, size in sizes.items() for i in range(size)}


def write_corpus(data: Path, speakers: dict[str, str]) -> None:
    data.mkdir(exist_ok=True)
    (data / "utt2spk").write_text("".join(f"{key} {speakers[key]}\n" for key in sorted(speakers)))


def read(data: Path) -> Lists:
    return {name: (data / "splits" / f"{name}.list").read_text().split() for name in ("train", "dev", "test")}


# Utterances of a speaker -> (train, dev, test), by hand: test = round(n / 5), dev = round((n - test) / 10),
# at least one of each where that leaves something to train on.
@pytest.mark.parametrize(
    ("size", "expected"),
    [(1, (1, 0, 0)), (2, (1, 1, 0)), (3, (1, 1, 1)), (7, (5, 1, 1)), (8, (5, 1, 2)), (10, (7, 1, 2)),
     (18, (13, 1, 4)), (20, (14, 2, 4)), (100, (72, 8, 20))],
)  # fmt: skip
def test_sizes(size: int, expected: tuple[int, int, int]) -> None:
    lists = own_splits(corpus({"7": size}), seed=0)
    assert tuple(len(lists[name]) for name in ("train", "dev", "test")) == expected


def test_every_utterance_once_and_every_speaker_everywhere() -> None:
    speakers = corpus({"1": 10, "10": 35, "2": 111})
    lists = own_splits(speakers, seed=3)
    assert sorted(lists["train"] + lists["dev"] + lists["test"]) == sorted(speakers)
    for members in lists.values():
        assert members == sorted(members) and {speakers[key] for key in members} == {"1", "10", "2"}


def test_a_speaker_does_not_depend_on_the_others() -> None:
    alone, together = own_splits(corpus({"5": 50}), 0), own_splits(corpus({"4": 9, "5": 50, "6": 31}), 0)
    for name in alone:
        assert alone[name] == [key for key in together[name] if key.startswith("5-")]


def test_seed() -> None:
    speakers = corpus({"5": 50})
    assert own_splits(speakers, 0) == own_splits(dict(reversed(speakers.items())), 0)
    assert own_splits(speakers, 0)["test"] != own_splits(speakers, 1)["test"]
    # Pinned: experiments of different versions and machines must share their test set.
    digest = hashlib.sha256(" ".join(own_splits(speakers, 0)["test"]).encode()).hexdigest()
    assert digest.startswith("4aff587544233e7b")


def test_files(tmp_path: Path) -> None:
    write_corpus(tmp_path, corpus({"1": 10, "2": 20}))
    main([str(tmp_path), "--seed", "4"])
    facts = json.loads((tmp_path / "splits" / "splits.json").read_text())
    assert (facts["source"], facts["seed"], facts["unlisted"]) == ("own", 4, [])
    for name, members in read(tmp_path).items():
        content = (tmp_path / "splits" / f"{name}.list").read_bytes()
        assert content == "".join(f"{key}\n" for key in members).encode()
        assert facts["lists"][name] == {
            "utterances": len(members), "speakers": 2, "sha256": hashlib.sha256(content).hexdigest()
        }  # fmt: skip


def test_all_train(tmp_path: Path) -> None:
    speakers = {f"u{i:02d}": f"u{i:02d}" for i in range(40)}  # own audio: every file a speaker
    write_corpus(tmp_path, speakers)
    main([str(tmp_path), "--all-train"])
    lists = read(tmp_path)
    assert [len(lists[name]) for name in ("train", "dev", "test")] == [38, 2, 0]
    assert sorted(lists["train"] + lists["dev"]) == sorted(speakers)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small lists that pass for the published ones."""
    folder = tmp_path / "lists"
    folder.mkdir()
    ids = sorted(corpus({"1": 30, "2": 30}))
    contents = {  # ids[29] is in neither
        "train_split.txt": ids[:25] + ids[30:55],
        "test_split.txt": ids[25:29] + ids[55:],
    }
    for name, members in contents.items():
        content = "\n".join(reversed(members)).encode()
        (folder / name).write_bytes(content)
        monkeypatch.setitem(splits.PUBLISHED, name, hashlib.sha256(content).hexdigest())
    return folder


def test_published(tmp_path: Path, published: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = tmp_path / "data"
    write_corpus(data, corpus({"1": 30, "2": 29, "3": 1}))  # one listed id fewer, another speaker more
    main([str(data), "--published", str(published)])
    lists = read(data)
    train, test = ((published / f"{name}_split.txt").read_text().split() for name in ("train", "test"))
    assert lists["test"] == sorted(test)[:-1]  # without 2-1-0029
    assert sorted(lists["train"] + lists["dev"]) == sorted(train)
    assert sorted(key[0] for key in lists["dev"]) == ["1"] * 3 + ["2"] * 3  # a tenth of 25 is rounded to 3
    facts = json.loads((data / "splits" / "splits.json").read_text())
    assert facts["unlisted"] == ["1-1-0029", "3-1-0000"]
    assert facts["listed_but_missing"] == {"train": 0, "test": 1}
    assert "2 utterances are in neither list" in caplog.text
    assert "0 ids of the train list and 1" in caplog.text


def test_published_lists_must_be_the_published_ones(tmp_path: Path, published: Path) -> None:
    data = tmp_path / "data"
    write_corpus(data, corpus({"8": 3}))
    with pytest.raises(UserError, match="no id of these lists is in the corpus"):
        main([str(data), "--published", str(published)])
    with open(published / "test_split.txt", "a") as file:
        file.write("\n")
    found = hashlib.sha256((published / "test_split.txt").read_bytes()).hexdigest()
    with pytest.raises(UserError, match=f"{found}, not {splits.PUBLISHED['test_split.txt']}"):
        main([str(data), "--published", str(published)])
    (published / "train_split.txt").unlink()
    with pytest.raises(UserError, match="train_split.txt: no such file"):
        main([str(data), "--published", str(published)])
    assert not (data / "splits").exists()


def test_published_lists_are_checked_without_a_corpus(tmp_path: Path, published: Path) -> None:
    main(["--published", str(published)])
    assert not list(tmp_path.rglob("*.list"))
    (published / "test_split.txt").write_text("1-2-3")
    with pytest.raises(UserError, match="is not the published list"):
        main(["--published", str(published)])
    with pytest.raises(SystemExit):
        main(["--all-train"])


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="needs the published lists")
def test_real_published_lists(tmp_path: Path) -> None:
    listed = {key: key.split("-")[0] for name in splits.PUBLISHED for key in (PUBLISHED / name).read_text().split()}
    write_corpus(tmp_path, listed)
    main([str(tmp_path), "--published", str(PUBLISHED)])
    lists = read(tmp_path)
    assert len(lists["train"] + lists["dev"]) == 22_830 and len(lists["test"]) == 5_708
    assert all(len({listed[key] for key in members}) == 251 for members in lists.values())
    facts = json.loads((tmp_path / "splits" / "splits.json").read_text())
    assert facts["listed_but_missing"] == {"train": 0, "test": 0} and facts["unlisted"] == []
