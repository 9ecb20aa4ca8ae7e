"""Check a data directory before hours are spent on it: every fault at once, each with what mends it.

    python -m data_prep.validate DATA_DIR [--stage audio|phones|splits]

Checks the tables, and of the packed audio, the phone labels (with lang/phones.txt beside the directory) and the splits
what is there; ``--stage`` demands that one of them is there, and checks the tables and it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from cpc_speech.audio import AudioError, wav_path
from cpc_speech.datadir import SPLITS, key_and_rest
from cpc_speech.errors import UserError, refuse, run
from cpc_speech.kaldi import read_int_vectors
from cpc_speech.packed import DTYPE, SAMPLE_RATE
from cpc_speech.phones import HOP, PHONE_CLASSES, read_symbols
from data_prep.dropped import DROPPED

SHOWN = 20  # of the same fault; a corpus that moved should not bury everything else

Problems = Iterator[str]


def some(problems: Iterable[str]) -> Problems:
    """The first SHOWN problems of one kind, and how many more there are."""
    problems = iter(problems)
    yield from islice(problems, SHOWN)
    if more := sum(1 for _ in problems):
        yield f"... and {more} more like the last"


class DataDir:
    """The tables of a data directory, read leniently; ``check_*`` yield what is wrong."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tables: dict[str, dict[str, str]] = {}
        self.faults: list[str] = []  # of reading the tables

    def exists(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def table(self, name: str) -> dict[str, str]:
        """A table, or list, by name; its unreadable lines go to ``faults``. Empty where it is missing."""
        if name not in self.tables:
            self.tables[name] = {}
            self.faults += some(self._read(name))
        return self.tables[name]

    def _read(self, name: str) -> Problems:
        path, table, previous = self.folder / name, self.tables[name], ""
        if not path.is_file():
            yield f"{path}: missing; run the stage that makes it"
            return
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            yield f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); write it again as UTF-8"
            return
        for number, line in enumerate(lines, 1):
            key, value = key_and_rest(line)
            if not key:
                yield f"{path}:{number}: no id at the start of the line; remove the line or the blank"
            elif key in table:
                yield f"{path}:{number}: {key} stands here a second time; remove one of the two lines"
            else:
                if key < previous:
                    yield f"{path}:{number}: {key} comes after {previous}; LC_ALL=C sort -o {path} {path}"
                table[key], previous = value, key

    def check_same_ids(self, name: str, allowed_missing: Iterable[str] = ()) -> Problems:
        """The keys of ``name`` are the utterances of utt2spk, but for ``allowed_missing``."""
        if not self.exists(name):  # said once, when it was read
            self.table(name)
            return
        known, keys = self.table("utt2spk").keys(), self.table(name).keys()
        path = self.folder / name
        lacking = sorted(known - keys - set(allowed_missing))
        yield from some(f"{path}: {key} of utt2spk is missing; run the stage that makes it" for key in lacking)
        extra = sorted(keys - known)
        yield from some(f"{path}: {key} is not in utt2spk; add it there or remove the line" for key in extra)

    def check_tables(self) -> Problems:
        folder, utt2spk, spk2utt = self.folder, self.table("utt2spk"), self.table("spk2utt")
        for name in ("wav.scp", "utt2dur", *(("text",) if self.exists("text") else ())):
            yield from self.check_same_ids(name)
        if self.exists("utt2spk") and not utt2spk:
            yield f"{folder / 'utt2spk'}: no utterance in it; scan the corpus again"
        yield from some(
            f"{folder / 'utt2spk'}: {utterance} does not start with its speaker {speaker!r}; rename one"
            for utterance, speaker in utt2spk.items()
            if not (speaker and utterance.startswith(speaker))
        )
        inverse = {(key, speaker) for speaker, members in spk2utt.items() for key in members.split()}
        if self.exists("spk2utt") and self.exists("utt2spk"):
            yield from some(
                f"{folder / 'spk2utt'}: not the inverse of utt2spk at {utterance} of {speaker}; make it anew"
                for utterance, speaker in sorted(inverse ^ set(utt2spk.items()))
            )
        yield from some(self._missing_files())
        yield from some(
            f"{folder / 'utt2dur'}: {utterance} has no positive duration but {value!r}; scan the corpus again"
            for utterance, value in self.table("utt2dur").items()
            if not _positive(value, float)
        )
        if self.exists("text"):
            silent = [utterance for utterance, words in self.table("text").items() if not words]
            yield from some(f"{folder / 'text'}: {utterance} has no words; add them" for utterance in silent)

    def _missing_files(self) -> Problems:
        for utterance, entry in self.table("wav.scp").items():
            try:
                if not Path(wav_path(entry)).is_file():
                    raise AudioError(entry, "no such file; restore it, or scan the corpus again")
            except AudioError as error:
                yield f"{self.folder / 'wav.scp'}: {utterance}: {error}"

    def check_audio(self) -> Problems:
        folder, again = self.folder, f"run python -m data_prep.pack {self.folder}"
        if not self.exists("audio.scp"):
            yield f"{folder / 'audio.scp'}: missing, so the audio is not packed; {again}"
            return
        yield from self.check_same_ids("audio.scp")
        yield from self.check_same_ids("utt2num_samples")
        lengths, ends = self.table("utt2num_samples"), dict[str, int]()
        for utterance, place in self.table("audio.scp").items():
            shard, _, start = place.rpartition(":")
            length = lengths.get(utterance, "")
            if not _positive(length, int) or start != str(ends.get(shard, 0)):
                yield (
                    f"{folder / 'audio.scp'}: {utterance} ({length or 'no'} samples in utt2num_samples) is "
                    f"at {place!r}, which is not where the utterance before ends; {again}"
                )
                return  # every later place would be reported too
            ends[shard] = ends.get(shard, 0) + int(length)
        durations = self.table("utt2dur")
        yield from some(
            f"{folder / 'utt2dur'}: {utterance} has {durations[utterance]} s for {length} samples; {again}"
            for utterance, length in lengths.items()
            if _positive(length, int)
            and _positive(durations.get(utterance, ""), float)
            and abs(float(durations[utterance]) - int(length) / SAMPLE_RATE) > 0.001
        )
        for shard, samples in ends.items():
            size = (folder / shard).stat().st_size if self.exists(shard) else 0
            if size != samples * DTYPE.itemsize:
                expected = samples * DTYPE.itemsize
                yield f"{folder / shard}: {size:,} bytes, {expected:,} expected by utt2num_samples; {again}"

    def check_phones(self) -> Problems:
        path, again = self.folder / "phones.scp", "run stage 2 (phone labels) again"
        if not path.is_file():
            yield f"{path}: missing; run stage 2 (phone labels)"
            return
        try:
            read_symbols(self.folder)
        except UserError as error:
            yield str(error)
        dropped = self.table(DROPPED) if self.exists(DROPPED) else {}
        yield from self.check_same_ids("phones.scp", allowed_missing=set(dropped))
        lengths = self.table("utt2num_samples")
        try:
            for utterance, labels in read_int_vectors(path):
                length = lengths.get(utterance, "")
                if not length.isdecimal() or len(labels) != int(length) // HOP:
                    yield (
                        f"{path}: {utterance} has {len(labels)} labels, which is not one for every {HOP} of "
                        f"its {length or '(unknown)'} samples; {again}"
                    )
                elif len(labels) and not 0 <= labels.min() <= labels.max() <= PHONE_CLASSES:
                    yield f"{path}: {utterance} has labels outside 0..{PHONE_CLASSES}; {again}"
        except UserError as error:
            yield str(error)

    def check_splits(self) -> Problems:
        folder, again = self.folder / "splits", f"run python -m data_prep.splits {self.folder}"
        home: dict[str, str] = {}  # utterance -> the split it was seen in
        for name in SPLITS:
            members = self.table(f"splits/{name}.list")
            if name == "train" and self.exists("splits/train.list") and not members:
                yield f"{folder / 'train.list'}: empty; {again}"
            unknown = [key for key in members if key not in self.table("utt2spk")]
            yield from some(f"{folder / name}.list: {key} is not in utt2spk; {again}" for key in unknown)
            twice = [key for key in members if key in home]
            yield from some(f"{folder / name}.list: {key} is in {home[key]} too; {again}" for key in twice)
            home |= dict.fromkeys(members, name)
        try:
            unlisted = json.loads((folder / "splits.json").read_text(encoding="utf-8"))["unlisted"]
        except (OSError, ValueError, KeyError, TypeError):
            yield f"{folder / 'splits.json'}: missing or unreadable; {again}"
            return
        homeless = sorted(self.table("utt2spk").keys() - home.keys() - set(unlisted))
        yield from some(f"{folder}: {key} is in no list, nor among the unlisted; {again}" for key in homeless)


def _positive(value: str, kind: Callable[[str], float]) -> bool:
    try:
        return 0 < kind(value) < float("inf")
    except ValueError:
        return False


MADE_BY = {"audio": "audio.scp", "phones": "phones.scp", "splits": "splits/train.list"}


def validate(folder: str | Path, stage: str | None = None) -> str:
    """One line that says what the valid directory holds. Raises one UserError with every fault otherwise."""
    data = DataDir(Path(folder))
    if not data.folder.is_dir():
        raise UserError(f"{folder}: no such data directory; run stage 1 first")
    checks = {"audio": data.check_audio, "phones": data.check_phones, "splits": data.check_splits}
    problems = list(data.check_tables())
    for name, check in checks.items():
        if name == stage or (stage is None and data.exists(MADE_BY[name])):
            problems += check()
    refuse(data.faults + problems, folder)
    hours = sum(map(float, data.table("utt2dur").values())) / 3600
    utterances, speakers = len(data.table("utt2spk")), len(data.table("spk2utt"))
    return f"{folder}: valid: {utterances} utterances, {speakers} speakers, {hours:.2f} h"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--stage", choices=MADE_BY, help="what must be there (default: check what is)")
    args = parser.parse_args(argv)
    print(validate(args.data_dir, args.stage))


if __name__ == "__main__":
    run(main)
