"""Splits by utterance within each speaker: splits/{train,dev,test}.list and how they were made, splits.json.

    python -m data_prep.splits DATA_DIR [--published DIR | --all-train] [--seed 0]
    python -m data_prep.splits --published DIR      # only checks that these are the published lists

- Own (the default): of each speaker's utterances a fifth is test, and of the rest a tenth is dev.
- ``--published DIR``: CPC's lists for train-clean-100, train_split.txt and test_split.txt as its authors gave
  them; dev is a tenth of each speaker's train utterances, which the paper's table does not have.
- ``--all-train``: unlabelled audio; a twentieth of all is dev, for the pretraining loss, and test is empty.

A choice depends on the seed and the utterance ids alone, and never on other speakers' utterances.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cpc_speech.datadir import read_table, write_table
from cpc_speech.errors import UserError, run
from cpc_speech.files import atomic_write, sha256

log = logging.getLogger(__name__)

Splits = dict[str, list[str]]  # train, dev, test: utterance ids

# Of the lists in the CPC authors' archive: 22,830 and 5,708 ids, one a line, no final newline.
PUBLISHED = {
    "train_split.txt": "c37e1c4831552fad4c9595526166fc0ff0481eed8e02622c3c5d73386cd8b62d",
    "test_split.txt": "a961da3bdcd86ae56ba186e07c36e20ba6e2532f985b2b77811e9df93605770c",
}


def draw(utterances: Iterable[str], fraction: float, at_least_one_of: int, seed: int) -> set[str]:
    """A seeded ``fraction`` of the utterances, rounded; at least one where there are ``at_least_one_of``.

    Ids are ranked by a hash, which no Python version will change, rather than by a random generator.
    """
    ranked = sorted(utterances, key=lambda utterance: hashlib.sha256(f"{seed} {utterance}".encode()).digest())
    count = int(len(ranked) * fraction + 0.5)
    return set(ranked[: max(count, 1) if len(ranked) >= at_least_one_of else count])


def by_speaker(utterances: Iterable[str], speakers: Mapping[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for utterance in utterances:
        groups.setdefault(speakers[utterance], []).append(utterance)
    return groups


def with_dev(train: Iterable[str], test: Iterable[str], speakers: Mapping[str, str], seed: int) -> Splits:
    """Take dev, a tenth of each speaker's train utterances, out of train."""
    train = list(train)
    dev: set[str] = set()
    for group in by_speaker(train, speakers).values():
        dev |= draw(group, 0.1, 2, seed)
    return {"train": sorted(set(train) - dev), "dev": sorted(dev), "test": sorted(test)}


def own_splits(speakers: Mapping[str, str], seed: int) -> Splits:
    """70/10/20 or so, within each speaker; a speaker of one utterance is train, of two, train and dev."""
    test: set[str] = set()
    for group in by_speaker(speakers, speakers).values():
        test |= draw(group, 0.2, 3, seed)
    return with_dev(speakers.keys() - test, test, speakers, seed)


def read_published(folder: Path) -> tuple[list[str], list[str]]:
    """The ids of train and of test. Raises UserError where a file is another one than the authors'."""
    for name, expected in PUBLISHED.items():
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: no such file; --published wants {' and '.join(PUBLISHED)}")
        if (found := sha256(folder / name)) != expected:
            raise UserError(
                f"{folder / name} is not the published list: its sha256 is {found}, not {expected}; take "
                "the file from the authors' archive as it is, or leave --published out for an own split"
            )
    train, test = ((folder / name).read_text(encoding="utf-8").split() for name in PUBLISHED)
    return train, test


def published_splits(folder: Path, speakers: Mapping[str, str], seed: int) -> tuple[Splits, dict[str, Any]]:
    """The published lists as far as the corpus has them, and what differs."""
    train, test = read_published(folder)
    splits = with_dev(
        (key for key in train if key in speakers), (key for key in test if key in speakers), speakers, seed
    )
    unlisted = sorted(speakers.keys() - set(train) - set(test))
    missing = {name: sum(key not in speakers for key in ids) for name, ids in (("train", train), ("test", test))}
    if len(unlisted) == len(speakers):
        raise UserError(f"{folder}: no id of these lists is in the corpus: they are for LibriSpeech's train-clean-100")
    if unlisted:
        log.warning("%d utterances are in neither list and stay out, such as %s", len(unlisted), unlisted[0])
    if any(missing.values()):
        log.warning("the corpus lacks %(train)d ids of the train list and %(test)d of the test list", missing)
    return splits, {"sha256": PUBLISHED, "unlisted": unlisted, "listed_but_missing": missing}


def write_splits(data_dir: Path, splits: Splits, facts: Mapping[str, Any], speakers: Mapping[str, str]) -> None:
    """Write the three lists, then splits.json."""
    lists = {}
    for name, utterances in splits.items():
        path = data_dir / "splits" / f"{name}.list"
        write_table(path, dict.fromkeys(utterances, ""))
        count = len(by_speaker(utterances, speakers))
        lists[name] = {"utterances": len(utterances), "speakers": count, "sha256": sha256(path)}
        log.info("%s: %d utterances of %d speakers", path, len(utterances), count)
    with atomic_write(data_dir / "splits" / "splits.json") as file:
        json.dump({**facts, "lists": lists}, file, indent=2)
        file.write("\n")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path, nargs="?")
    parser.add_argument("--seed", type=int, default=0)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--published", type=Path, metavar="DIR", help="folder with " + " and ".join(PUBLISHED))
    source.add_argument("--all-train", action="store_true", help="no test split, for unlabelled audio")
    args = parser.parse_args(argv)
    if args.data_dir is None:
        if not args.published:
            parser.error("DATA_DIR is missing; only --published can do without")
        read_published(args.published)
        return

    speakers = read_table(args.data_dir / "utt2spk")
    facts: dict[str, Any] = {"source": "own", "seed": args.seed, "unlisted": []}
    if args.published:
        splits, differences = published_splits(args.published, speakers, args.seed)
        facts |= {"source": "published", **differences}
    elif args.all_train:
        dev = draw(speakers, 0.05, 2, args.seed)
        splits = {"train": sorted(speakers.keys() - dev), "dev": sorted(dev), "test": []}
        facts["source"] = "all-train"
    else:
        splits = own_splits(speakers, args.seed)
    write_splits(args.data_dir, splits, facts, speakers)


if __name__ == "__main__":
    run(main)
