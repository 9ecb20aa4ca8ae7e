"""A corpus in LibriSpeech's layout, spoken by espeak-ng, with exact phone labels.

python -m data_prep.synthetic OUT_DIR [--speakers 20] [--minutes 22] [--seed 0]

writes OUT_DIR/synthetic/READER/CHAPTER/READER-CHAPTER-NNNN.flac (16 kHz) with READER-CHAPTER.trans.txt,
OUT_DIR/SPEAKERS.TXT, OUT_DIR/synthetic.ctm (phones; confidence 0.50 where a boundary is a guess, see
data_prep.espeak.intervals) and OUT_DIR/synthetic.json (how it was made). OUT_DIR appears whole or not at all.
The same options give the same corpus (to a new process: espeak-ng carries state from sentence to sentence).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
import soundfile

from cpc_speech.errors import UserError, run
from cpc_speech.phones import SAMPLE_RATE, Interval
from cpc_speech.progress import Progress
from data_prep import espeak
from data_prep.sentences import sentences, transcript

LOUDNESS = -26.0  # dB below full scale, the root mean square of every utterance's speech: volume tells no speaker
NOISE = -50.0  # dB below full scale, white, in every utterance: a pause is not digital silence
MARGIN = (0.15, 0.45)  # seconds of pause before and after a sentence
MIN_SECONDS = 2.0  # a training window is 1.28 s
CHAPTERS = 2  # a reader
FIRST_READER = 101  # so that ids have three digits and sort as numbers and as text
MARK = "synthetic.json"


class Voice(NamedTuple):
    """espeak-ng's US English with a variant, words a minute, and pitch around the variant's own (50)."""

    variant: str
    sex: str
    rate: int
    pitch: int


# In an order in which any first N differ clearly: the next voice is far from the ones before it in mean spectrum and
# pitch. Left out: variants with an echo (it blurs the labels), without a voiced source (whisper), and effects.
VOICES = [
    Voice(*fields)
    for fields in (
        ("m3", "M", 170, 50), ("linda", "F", 165, 55), ("travis", "M", 160, 45), ("grandma", "F", 150, 50),
        ("Andy", "M", 175, 60), ("steph2", "F", 175, 45), ("ian", "M", 165, 40), ("f1", "F", 160, 40),
        ("marcelo", "M", 155, 55), ("aunty", "F", 165, 35), ("Lee", "M", 180, 35), ("anika", "F", 160, 50),
        ("boris", "M", 165, 70), ("Andrea", "F", 155, 65), ("m4", "M", 150, 30), ("Annie", "F", 180, 35),
        ("Jacky", "M", 175, 75), ("belinda", "F", 175, 70), ("Mr serious", "M", 155, 60), ("Nguyen", "M", 170, 65),
        ("Reed", "M", 160, 60), ("shelby", "F", 170, 60), ("iven2", "M", 165, 45), ("m8", "M", 150, 40),
    )
]  # fmt: skip


def say(sentence: str, voice: Voice, random_: np.random.Generator) -> tuple[np.ndarray, list[tuple[Interval, bool]]]:
    """One utterance: int16 samples at 16 kHz, and its phones from 0 to the end, with whether each is exact."""
    import torch
    import torchaudio  # slow to import

    speech, sample_rate, events = espeak.speak(sentence, f"en-us+{voice.variant}", voice.rate, voice.pitch)
    before, after = (int(sample_rate * seconds) for seconds in random_.uniform(*MARGIN, size=2))
    padded = np.pad(speech.astype(np.float32), (before, after))
    events = [event._replace(start=event.start + before / sample_rate) for event in events]
    events.append(espeak.PhoneEvent((before + len(speech)) / sample_rate, "_", 0))
    phones = espeak.intervals(events, len(padded) / sample_rate)

    # Zero phase, so times stay what they are; 64 zero crossings keep the band up to 7.8 kHz.
    audio = torchaudio.functional.resample(
        torch.from_numpy(padded), sample_rate, SAMPLE_RATE, lowpass_filter_width=64
    ).numpy()
    level = np.sqrt(np.mean(np.square(speech[speech != 0], dtype=np.float64)))
    audio = audio * (_amplitude(LOUDNESS) / level) + random_.normal(0.0, _amplitude(NOISE), len(audio))
    return np.clip(np.rint(audio * 32768), -32768, 32767).astype(np.int16), phones


def _amplitude(decibels: float) -> float:
    return 10.0 ** (decibels / 20.0)


def make_corpus(folder: Path, voices: list[Voice], minutes: float, seed: int) -> int:
    """Write the whole corpus into an existing folder; every voice speaks as long as the others. Returns utterances."""
    wanted = minutes * 60 / len(voices)  # seconds a voice
    count = 0
    with (
        open(folder / "synthetic.ctm", "w", encoding="utf-8") as ctm,
        open(folder / "SPEAKERS.TXT", "w", encoding="utf-8") as speakers,
    ):
        speakers.write(";ID  |SEX| SUBSET    |MINUTES| NAME\n")
        for reader, voice in enumerate(Progress(voices, desc="speak", unit="voice"), FIRST_READER):
            # Each reader has a stream of its own, so more readers leave the first ones' sentences as they are.
            stream, noise = sentences(f"{seed}/{reader}"), np.random.default_rng([seed, reader])
            said = 0.0
            for chapter in range(1, CHAPTERS + 1):
                path = folder / "synthetic" / str(reader) / str(chapter)
                path.mkdir(parents=True)
                with open(path / f"{reader}-{chapter}.trans.txt", "w", encoding="utf-8") as texts:
                    number = 0
                    while said < wanted * chapter / CHAPTERS or number == 0:
                        sentence = next(stream)
                        audio, phones = say(sentence, voice, noise)
                        if len(audio) < MIN_SECONDS * SAMPLE_RATE:
                            continue
                        utterance = f"{reader}-{chapter}-{number:04d}"
                        soundfile.write(path / f"{utterance}.flac", audio, SAMPLE_RATE, subtype="PCM_16")
                        texts.write(f"{utterance} {transcript(sentence)}\n")
                        _write_ctm(ctm, utterance, phones)
                        said += len(audio) / SAMPLE_RATE
                        number += 1
                        count += 1
            name = f"espeak-ng en-us+{voice.variant}"
            speakers.write(f"{reader:<5}| {voice.sex} | synthetic |{said / 60:6.2f} | {name}\n")
    return count


def _write_ctm(file: TextIO, utterance: str, phones: list[tuple[Interval, bool]]) -> None:
    for (start, end, phone), exact in phones:
        file.write(f"{utterance} 1 {start:.6f} {end - start:.6f} {phone} {1.0 if exact else 0.5:.2f}\n")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="data_prep.synthetic", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--speakers", type=int, default=20, metavar="N", help=f"1 to {len(VOICES)} (default: 20)")
    parser.add_argument("--minutes", type=float, default=22.0, help="in all, shared evenly (default: 22)")
    parser.add_argument("--seed", type=int, default=0, help="of sentences, pauses and noise (default: 0)")
    options = parser.parse_args(argv)
    if not 1 <= options.speakers <= len(VOICES):
        raise UserError(f"--speakers {options.speakers}: take 1 to {len(VOICES)}, as many as there are voices")
    if options.minutes <= 0 or options.seed < 0:
        raise UserError("--minutes must be above 0 and --seed not below 0")
    target: Path = options.out_dir.resolve()
    if target.exists() and not (target / MARK).is_file() and any(target.iterdir()):
        raise UserError(f"{target} holds something that is not a synthetic corpus; name another folder, or empty it")
    temporary = target.with_name(f"{target.name}.tmp.{os.getpid()}")
    temporary.mkdir(parents=True)
    try:
        voices = VOICES[: options.speakers]
        utterances = make_corpus(temporary, voices, options.minutes, options.seed)
        facts = {
            "utterances": utterances, "minutes": options.minutes, "seed": options.seed,
            "voices": [voice._asdict() for voice in voices],
        }  # fmt: skip
        (temporary / MARK).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)  # ours by its mark, or empty
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


if __name__ == "__main__":
    run(main)
