"""Where audio is: the utterances of a Kaldi data directory, of folders of audio, or of a list of files."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cpc_speech.audio import AudioError, wav_path
from cpc_speech.datadir import read_table
from cpc_speech.errors import UserError, refuse

SUFFIXES = {".flac", ".wav", ".ogg", ".mp3", ".opus"}

Found = dict[str, tuple[str, str]]  # utterance -> (absolute path, speaker)


class Segment(NamedTuple):
    """An utterance: a stretch of a recording, or all of it."""

    utterance: str
    speaker: str
    recording: str  # its key in wav.scp
    entry: str  # what wav.scp says of it
    start: float = 0.0  # s
    end: float = -1.0  # s; −1: to the recording's end

    @property
    def path(self) -> str:
        return wav_path(self.entry)


def read_segments(inputs: Sequence[Path]) -> list[Segment]:
    """The utterances of ``inputs``, in C order of their ids.

    One folder with a wav.scp is a Kaldi data directory, whose ``segments`` and ``utt2spk`` are taken over where there
    are any. Of any other folder every audio file is an utterance, with id and speaker as ``find_audio`` makes
    them from the path; a file given by itself is an utterance and a speaker of its name, without what follows the
    last dot. Several data directories are refused: Kaldi's utils/combine_data.sh makes one of them.

    Raises:
        UserError: there is no audio, or something is wrong, all of which is listed; audio files are not opened.
    """
    kaldi = [folder for folder in inputs if (folder / "wav.scp").exists()]
    if kaldi and len(inputs) > 1:
        raise UserError(f"{kaldi[0]}: is a Kaldi data directory, of which one is read at a time, and nothing beside it")
    if kaldi:
        segments, problems = _kaldi(kaldi[0])
    else:
        segments, problems = _files(inputs)
    place = ", ".join(map(str, inputs[:3])) + (", ..." if len(inputs) > 3 else "")
    refuse(problems, place)
    if not segments:
        raise UserError(f"{place}: no audio here ({', '.join(sorted(SUFFIXES))})")
    return sorted(segments)


def find_audio(folder: Path) -> tuple[Found, list[str]]:
    """Every audio file below ``folder``, links followed, hidden ones left out; and what is wrong.

    ``anna/day 1/x.wav`` becomes ``anna-day-1-x`` of the speaker ``anna``; a file directly in ``folder`` is a speaker of
    its own.
    """
    found: Found = {}
    problems: list[str] = []
    seen: set[str] = set()  # a link to a folder above would lead round in circles
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            if path.suffix.lower() not in SUFFIXES or name.startswith("."):
                continue
            parts = path.relative_to(folder).with_suffix("").parts
            utterance, speaker = without_spaces("-".join(parts)), without_spaces(parts[0])
            if not str(path).isprintable():
                problems.append(f"{str(path)!r}: unprintable characters in the name; rename it")
            elif utterance in found:
                other = found[utterance][0]
                problems.append(f"{path}: {other} gives the same id {utterance}; rename one of the two")
            else:
                found[utterance] = (str(path), speaker)
    return found, problems


def without_spaces(name: str) -> str:
    """An id of Kaldi's tables, where a space would end it."""
    return re.sub(r"\s+", "-", name)


def _kaldi(folder: Path) -> tuple[list[Segment], list[str]]:
    wavs = read_table(folder / "wav.scp")
    problems = []
    for recording, entry in wavs.items():
        try:
            wav_path(entry)
        except AudioError as error:
            problems.append(f"{folder / 'wav.scp'}: {recording}: {error}")
    cut = (folder / "segments").exists()
    utterances = read_table(folder / "segments") if cut else {key: f"{key} 0 -1" for key in wavs}
    with_speakers = (folder / "utt2spk").exists()
    speakers = read_table(folder / "utt2spk") if with_speakers else {key: key for key in utterances}
    for utterance in sorted(speakers.keys() - utterances.keys()):
        problems.append(f"{folder / 'utt2spk'}: {utterance} is not in {'segments' if cut else 'wav.scp'}; remove it")
    segments = []
    for utterance, stretch in utterances.items():
        recording, times = "".join(stretch.split()[:1]), _times(stretch)
        if not speakers.get(utterance):
            problems.append(f"{folder / 'utt2spk'}: {utterance} has no speaker; add it")
        elif times is None:
            problems.append(f"{folder / 'segments'}: {utterance}: {stretch!r} is no `recording start end` in seconds")
        elif recording not in wavs:
            problems.append(f"{folder / 'segments'}: {utterance}: {recording} is not in wav.scp; add it")
        else:
            segments.append(Segment(utterance, speakers[utterance], recording, wavs[recording], *times))
    return segments, problems


def _times(stretch: str) -> tuple[float, float] | None:
    """``recording start end`` → start, end in seconds; None where it is something else."""
    try:
        _, *fields = stretch.split()
        start, end = map(float, fields)
    except ValueError:
        return None
    return (start, end) if 0 <= start < math.inf and math.isfinite(end) and (end > start or end == -1) else None


def _files(inputs: Sequence[Path]) -> tuple[list[Segment], list[str]]:
    found: dict[str, Segment] = {}
    problems: list[str] = []
    for utterance, path, speaker in _found(inputs, problems):
        if not path.isprintable():
            problems.append(f"{path!r}: unprintable characters in the name; rename it")
        elif utterance in found:
            other = found[utterance].entry
            problems.append(f"{path}: {other} gives the same id {utterance}; rename one of the two")
        else:
            found[utterance] = Segment(utterance, speaker, utterance, path)
    return list(found.values()), problems


def _found(inputs: Sequence[Path], problems: list[str]) -> Iterator[tuple[str, str, str]]:
    """Utterance, absolute path and speaker of each file; what is wrong is added to ``problems``."""
    for given in inputs:
        place = Path(os.path.abspath(given))
        if not place.exists():
            problems.append(f"{given}: no such file or folder")
        elif place.is_dir():
            below, wrong = find_audio(place)
            problems += wrong
            yield from ((utterance, *found) for utterance, found in below.items())
        else:
            name = without_spaces(place.stem)
            yield name, str(place), name
