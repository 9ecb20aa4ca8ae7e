"""Forced alignment with a monophone GMM-HMM trained on the very utterances, flat start, by Kaldi's own code.

The course of Kaldi's steps/train_mono.sh and align_si.sh, on kaldi-hmm-gmm: no Kaldi is installed. One step is not
Kaldi's: all boundaries are moved together where that makes a likelier model (gmm_train.SHIFT_BEFORE). WORK keeps the
model (model.npz) and all alignments (ali.*.npz: transition ids) as arrays; an interrupted run goes on from its last
iteration or chunk.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cpc_speech.errors import require
from cpc_speech.files import atomic_write
from cpc_speech.packed import PackedAudio
from cpc_speech.phones import SAMPLE_RATE
from cpc_speech.progress import Progress
from data_prep import gmm_features, gmm_model, gmm_train
from data_prep.alignment import Aligned, Job, chunked, digest, take_up, why_not
from data_prep.gmm_graphs import intervals
from data_prep.workers import Workers, start_workers

VERSION = 2  # of what these modules compute; results kept by another version are void
PACKAGES = ("kaldi-hmm-gmm", "kaldifst", "kaldi-native-fbank")
MODEL_FILE = "model.npz"
FOR_TRAINING = (gmm_train.STATE_FILE, gmm_features.MFCC_FILE, gmm_features.NORMS_FILE)  # removed once all is aligned
TRAIN_HOURS = 10.0  # 3,600 frames for each of 1,000 Gaussians; all other utterances are only aligned

log = logging.getLogger(__name__)


def training_places(audio: PackedAudio, places: list[int], hours: float = TRAIN_HOURS) -> list[int]:
    """Utterances to train on: all, or evenly over the corpus (ids are sorted by speaker) as many as ``hours`` hold."""
    total = int(audio.num_samples[places].sum()) / SAMPLE_RATE / 3600
    if total <= hours:
        return places
    picked = np.linspace(0, len(places) - 1, max(1, int(len(places) * hours / total))).round().astype(int)
    return [places[i] for i in np.unique(picked)]


def align_corpus(job: Job) -> Iterator[Aligned]:
    """Train, then align all utterances that have words, in order."""
    require("kaldi_native_fbank", "align")
    gmm_model.openfst()
    work, places = job.work, list(job.transcripts)
    chunks = chunked(places, gmm_train.CHUNK)
    versions = [version(package) for package in PACKAGES]
    take_up(work, digest(job, VERSION, gmm_train.CHUNK, versions), [MODEL_FILE, "ali.*.npz", *FOR_TRAINING])
    parts = [work / f"ali.{number:06d}.npz" for number in range(len(chunks))]
    if not all(part.is_file() for part in parts):
        count = min(job.nj, len(chunks))
        with start_workers(count, gmm_train.start_worker, job.data_dir, job.transcripts, job.pronunciations) as workers:
            _make_features(workers, work, job.audio)
            if not (work / MODEL_FILE).is_file():
                model = gmm_train.train(workers, work, job.audio, training_places(job.audio, places))
                with atomic_write(work / MODEL_FILE, "wb") as file:
                    gmm_model.save_arrays(file, model)
            _align_chunks(workers, work, gmm_model.load_model(work / MODEL_FILE), chunks, parts)
    for name in FOR_TRAINING:
        (work / name).unlink(missing_ok=True)
    for part in parts:
        for place, path, score in read_alignments(part):
            samples = int(job.audio.num_samples[place])
            if path is None:
                reason = why_not(samples, job.transcripts[place], f"beam {gmm_train.BEAMS.retry:g}")
                yield Aligned(place, [], score, reason)
            else:
                yield Aligned(place, intervals(path, samples), score, "")


def _make_features(workers: Workers, work: Path, audio: PackedAudio) -> None:
    if (work / gmm_features.NORMS_FILE).is_file():
        return
    results = workers.map(gmm_train.compute_mfccs, [(chunk,) for chunk in chunked(range(len(audio)), gmm_train.CHUNK)])
    with Progress(desc="features", unit="utt", total=len(audio)) as progress:

        def each() -> Any:
            for result in results:
                yield from result
                progress.update(len(result))

        gmm_features.write_features(work, audio, each())


def _align_chunks(
    workers: Workers, work: Path, model: gmm_model.Model, chunks: list[list[int]], parts: list[Path]
) -> None:
    left = [number for number in range(len(chunks)) if not parts[number].is_file()]
    if len(left) < len(chunks):
        log.info("%d of %d chunks are aligned already, in %s", len(chunks) - len(left), len(chunks), work)
    tasks = [(chunks[number], work, model, gmm_train.BEAMS, None, False) for number in left]
    with Progress(desc="align", unit="utt", total=sum(len(chunks[number]) for number in left)) as progress:
        for number, result in zip(left, workers.map(gmm_train.make_pass, tasks)):
            with atomic_write(parts[number], "wb") as file:
                np.savez(
                    file,
                    places=np.array(chunks[number]),
                    scores=np.array(result.scores),
                    **gmm_model.pack_paths(result.paths),
                )
            progress.update(len(chunks[number]))


def read_alignments(part: Path) -> list[tuple[int, np.ndarray | None, float]]:
    """(place in the packed audio, (T,) transition ids or None, score) of each utterance of an ali.*.npz."""
    with np.load(part, allow_pickle=False) as kept:
        entries = zip(kept["places"], gmm_model.unpack_paths(kept), kept["scores"], strict=True)
        return [(int(place), path, float(score)) for place, path, score in entries]
