"""A folder of your own audio, without labels, to a data directory.

    python -m data_prep.folder DIR DATA_DIR [--note TEXT]

Where DIR holds a wav.scp it is a Kaldi data directory: its utterances and speakers (utt2spk) are taken over.
Otherwise every FLAC, WAV, OGG, MP3 or Opus file below DIR is an utterance: ``anna/day 1/x.wav`` becomes
``anna-day-1-x`` of the speaker ``anna``; a file directly in DIR is a speaker of its own.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from cpc_speech.audio import AudioError, seconds, wav_path
from cpc_speech.datadir import read_table
from cpc_speech.errors import UserError, refuse, run
from cpc_speech.progress import Progress
from cpc_speech.segments import SUFFIXES, Found, find_audio
from data_prep.corpus import Utterance, first_of_each, write_data_dir


def read_kaldi(folder: Path) -> tuple[Found, list[str]]:
    """The utterances of a Kaldi data directory, and what is wrong with it."""
    if (folder / "segments").exists():
        raise UserError(
            f"{folder / 'segments'}: utterances cut out of longer recordings are not supported; write each "
            "to a file of its own (Kaldi: extract-segments) and list these in wav.scp"
        )
    wavs = read_table(folder / "wav.scp")
    speakers = read_table(folder / "utt2spk") if (folder / "utt2spk").exists() else {key: key for key in wavs}
    found: Found = {}
    extra = sorted(speakers.keys() - wavs.keys())
    problems = [f"{folder / 'utt2spk'}: {key} is not in wav.scp; remove it" for key in extra]
    for utterance, entry in wavs.items():
        speaker = speakers.get(utterance)
        try:
            path = os.path.abspath(wav_path(entry))
        except AudioError as error:
            problems.append(f"{folder / 'wav.scp'}: {utterance}: {error}")
            continue
        if not speaker:
            problems.append(f"{folder / 'utt2spk'}: {utterance} has no speaker; add it")
        elif not utterance.startswith(speaker):
            problems.append(f"{folder / 'utt2spk'}: {utterance} does not start with its speaker {speaker}; rename one")
        else:
            found[utterance] = (path, speaker)
    return found, problems


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--few", type=int, nargs=2, metavar=("SPEAKERS", "UTTERANCES"),
                        help="only the first utterances of each of the first speakers; default: all")  # fmt: skip
    parser.add_argument("--note", default="", help="kept in corpus.json, for the report")
    args = parser.parse_args(argv)
    folder = Path(os.path.abspath(args.folder))
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the one that holds the audio")
    if folder.resolve() == args.data_dir.resolve():
        raise UserError(f"{folder}: DATA_DIR must be another folder than the one that is read")

    found, problems = read_kaldi(folder) if (folder / "wav.scp").exists() else find_audio(folder)
    if not found and not problems:
        raise UserError(f"{folder}: no audio here ({', '.join(sorted(SUFFIXES))})")
    utterances: dict[str, Utterance] = {}
    used = first_of_each({utterance: speaker for utterance, (_, speaker) in found.items()}, args.few)
    for utterance in Progress(used, desc="headers", unit="file"):
        path, speaker = found[utterance]
        try:
            utterances[utterance] = Utterance(path, speaker, seconds(path))
        except AudioError as error:
            problems.append(str(error))
    refuse(problems, folder)
    write_data_dir(args.data_dir, utterances, {"corpus": str(folder), "subsets": [], "note": args.note})


if __name__ == "__main__":
    run(main)
