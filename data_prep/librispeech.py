"""LibriSpeech's layout to a Kaldi-style data directory.

    python -m data_prep.librispeech CORPUS DATA_DIR [--subset NAME ...] [--note TEXT]

CORPUS is the folder LibriSpeech, the folder it lies in, or one subset such as train-clean-100. A subset holds
``reader/chapter/reader-chapter-number.flac`` and, for each chapter, ``reader-chapter.trans.txt``. The speaker is the
reader (Kaldi's own recipe makes each chapter a speaker). Only the headers of the audio are read here.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from cpc_speech.audio import AudioError, seconds
from cpc_speech.errors import UserError, refuse, run
from cpc_speech.progress import Progress
from data_prep.corpus import Utterance, first_of_each, write_data_dir


def find_subsets(corpus: str | Path, names: Sequence[str] = ()) -> list[Path]:
    """The subsets in ``corpus`` (or just above them, or ``corpus`` itself), those of ``names`` if given."""
    corpus = Path(os.path.abspath(corpus))
    if not corpus.is_dir():
        raise UserError(f"{corpus}: no such folder; give the folder that holds LibriSpeech's subsets")
    subsets: list[Path] = []
    for pattern in (".", "*", "*/*"):
        folders = [corpus] if pattern == "." else sorted(corpus.glob(pattern))
        if subsets := [folder for folder in folders if any(folder.glob("*/*/*.flac"))]:
            break
    else:
        raise UserError(f"{corpus}: no subset here, that is, no folder with reader/chapter/*.flac in it")
    found = {subset.name: subset for subset in subsets}
    if unknown := sorted(set(names) - set(found)):
        raise UserError(f"{corpus}: no subset {', '.join(unknown)} here, but {', '.join(sorted(found))}")
    return [found[name] for name in sorted(set(names) or found)]


def scan(subsets: Sequence[Path], few: Sequence[int] | None = None) -> dict[str, Utterance]:
    """All utterances of the subsets by id, or the ``few`` of ``first_of_each``; or one UserError that lists everything
    wrong with them."""
    problems: list[str] = []
    audio: dict[str, Path] = {}
    texts: dict[str, str] = {}
    origin: dict[str, str] = {}  # utterance -> the line of its transcript
    for chapter in (folder for subset in subsets for folder in sorted(subset.glob("*/*")) if folder.is_dir()):
        prefix = f"{chapter.parent.name}-{chapter.name}-"
        for path in sorted(chapter.glob("[!.]*.flac")):
            if not path.stem.startswith(prefix) or " " in path.stem:
                problems.append(f"{path}: not named {prefix}NUMBER as its folders say; rename or remove it")
            elif path.stem in audio:
                problems.append(f"{path}: the id is that of {audio[path.stem]} too; remove one of the two")
            else:
                audio[path.stem] = path
        for path in sorted(chapter.glob("[!.]*.trans.txt")):
            problems += _read_transcripts(path, prefix, texts, origin)

    for utterance in sorted(audio.keys() - origin.keys()):
        problems.append(f"{audio[utterance]}: no line in the chapter's .trans.txt; add it or remove the file")
    for utterance in sorted(origin.keys() - audio.keys()):
        problems.append(f"{origin[utterance]}: {utterance} has no audio file; restore it or remove the line")

    utterances: dict[str, Utterance] = {}
    used = first_of_each({utterance: path.parent.parent.name for utterance, path in audio.items()}, few)
    for utterance in Progress(used, desc="headers", unit="file"):
        path = audio[utterance]
        try:
            reader = path.parent.parent.name
            utterances[utterance] = Utterance(str(path), reader, seconds(path), texts.get(utterance))
        except AudioError as error:
            problems.append(str(error))
    refuse(problems, ", ".join(map(str, subsets)))
    return utterances


def _read_transcripts(path: Path, prefix: str, texts: dict[str, str], origin: dict[str, str]) -> list[str]:
    """Add the lines of one .trans.txt to ``texts`` and ``origin``; return what is wrong with them."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        return [f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); fetch it again"]
    problems = []
    for number, line in enumerate(lines, 1):
        place = f"{path}:{number}"
        utterance, _, words = line.strip().partition(" ")
        if not utterance:
            problems.append(f"{place}: empty line; remove it")
        elif utterance in origin:
            problems.append(f"{place}: {utterance} has a line already, {origin[utterance]}; remove one of the two")
        else:
            origin[utterance], texts[utterance] = place, " ".join(words.split())
            if not utterance.startswith(prefix):
                problems.append(f"{place}: {utterance} is not {prefix}NUMBER as its folders say; correct it")
            if not words.strip():
                problems.append(f"{place}: {utterance} has an empty transcript; add its words")
    return problems


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--subset", action="append", default=[], help="only this one; may be repeated")
    parser.add_argument("--few", type=int, nargs=2, metavar=("SPEAKERS", "UTTERANCES"),
                        help="only the first utterances of each of the first speakers; default: all")  # fmt: skip
    parser.add_argument("--note", default="", help="kept in corpus.json, for the report")
    args = parser.parse_args(argv)
    subsets = find_subsets(args.corpus, args.subset)
    names = [subset.name for subset in subsets]
    facts = {"corpus": os.path.abspath(args.corpus), "subsets": names, "note": args.note}
    write_data_dir(args.data_dir, scan(subsets, args.few), facts)


if __name__ == "__main__":
    run(main)
