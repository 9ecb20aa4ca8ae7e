"""Flat-start training of the monophone GMM-HMM, and its processes.

An iteration is one pass over the training utterances in chunks: workers find the paths (or take the last ones) and sum
up statistics, the parent adds the chunks' sums in order and estimates the next model. Chunks do not depend on the
number of processes, so neither does the model.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cpc_speech.errors import UserError
from cpc_speech.files import atomic_write
from cpc_speech.packed import PackedAudio
from cpc_speech.progress import Progress
from cpc_speech.pronunciations import Pronunciations
from data_prep import gmm_model
from data_prep.alignment import chunked
from data_prep.gmm_features import Features, mfcc
from data_prep.gmm_graphs import Aligner, Beams, Graphs, equal_path
from data_prep.gmm_model import Model, Statistics
from data_prep.workers import Workers

CHUNK = 32  # utterances a task
STATE_FILE = "train.npz"

# steps/train_mono.sh, whose number of Gaussians suits hours of speech: from minutes, fewer can be estimated.
ITERATIONS, LAST_SPLIT = 40, 30
REALIGN = {*range(1, 11), 12, 14, 16, 18, 20, 23, 26, 29, 32, 35, 38}
MAX_GAUSSIANS = 1000
FRAMES_PER_GAUSSIAN = 100
START_BEAMS, BEAMS = Beams(6.0, 40.0), Beams(10.0, 40.0)  # of the first realignment, and of the others
START_OCCUPANCY, OCCUPANCY = 3.0, 10.0  # frames below which a Gaussian may be removed: after the flat start, later

# Where one phone gives way to the next, frames are mixtures of both and fit either, so a flat start may settle with all
# boundaries a frame or two early or late: a local optimum that more iterations do not leave, though its likelihood is
# lower. So before these iterations, of REALIGN, the paths are moved as a whole, and the most likely model wins.
SHIFT_BEFORE = {9, 10}
SHIFTS = (0, -2, -1, 1, 2)  # frames by which the audio is set later against the path; 0 first, to be compared with
SHIFT_PASSES, SHIFT_CHUNKS = 4, 16  # realignments after a move; chunks it is tried on

log = logging.getLogger(__name__)


class PassResult(NamedTuple):
    """Of one chunk."""

    paths: list[np.ndarray | None]  # (T,) int32
    scores: list[float]  # means of gmm_model.frame_scores; NaN without a path, and where statistics are wanted
    statistics: Statistics | None


class _Worker:
    """What a worker process keeps. Graphs stay where they were compiled: a chunk always goes to the same worker."""

    audio: PackedAudio
    words: dict[int, list[str]]
    graphs: Graphs
    compiled: dict[int, Any] = {}
    features: Features | None = None


def start_worker(data_dir: Path, words: dict[int, list[str]], pronunciations: Pronunciations) -> None:
    """Begin a worker process; ``words``: place of an utterance in the packed audio -> its words."""
    _Worker.audio, _Worker.words, _Worker.graphs = PackedAudio(data_dir), words, Graphs(pronunciations)


def compute_mfccs(places: list[int]) -> list[np.ndarray]:
    """In a worker: the MFCCs of these utterances."""
    return [mfcc(_Worker.audio[place]) for place in places]


def make_pass(
    places: list[int],
    work: Path,
    model: Model,
    beams: Beams | None,
    paths: list[np.ndarray | None] | None,
    keep: bool,
    shift: int = 0,
) -> PassResult:
    """In a worker: one pass over a chunk.

    Args:
        beams: to find the best paths with; without them the given ``paths`` hold, or random ones of even pace.
        keep: the compiled graphs, for the next pass, and return statistics.
        shift: statistics pair frame t with the path's frame t + shift.
    """
    if _Worker.features is None:
        _Worker.features = Features(work, _Worker.audio)
    mixtures = gmm_model.gaussians(model)
    aligner = None if beams is None else Aligner(model, mixtures, beams)
    features = [_Worker.features[place] for place in places]
    if aligner is not None or paths is None:
        paths = []
        for place, matrix in zip(places, features):
            graph = _Worker.compiled.get(place) or _Worker.graphs.compile(_Worker.words[place])
            if keep:
                _Worker.compiled[place] = graph
            if not len(matrix):
                paths.append(None)
            elif aligner is None:
                paths.append(equal_path(graph, len(matrix), seed=place))
            else:
                paths.append(aligner.path(_Worker.audio.utterances[place], graph, matrix))
    found = [
        (matrix[max(0, -shift) : len(matrix) - max(0, shift)], path[max(0, shift) : len(path) + min(0, shift)])
        for matrix, path in zip(features, paths)
        if path is not None and len(path) > abs(shift)
    ]
    scores = [
        float("nan") if path is None or keep else float(gmm_model.frame_scores(mixtures, matrix, path).mean())
        for matrix, path in zip(features, paths)
    ]
    sums = None
    if keep and found:
        together = np.concatenate([matrix for matrix, _ in found]), np.concatenate([path for _, path in found])
        sums = gmm_model.statistics(model, mixtures, *together)
    return PassResult(paths, scores, sums)


class TrainState(NamedTuple):
    """Between two iterations."""

    iteration: int  # done
    model: Model
    paths: list[list[np.ndarray | None]]  # by chunk
    likelihoods: list[float]  # per frame, of each iteration


def save_state(path: Path, state: TrainState) -> None:
    with atomic_write(path, "wb") as file:
        gmm_model.save_arrays(
            file,
            state.model,
            iteration=state.iteration,
            likelihoods=np.array(state.likelihoods),
            chunks=np.array([len(chunk) for chunk in state.paths]),
            **gmm_model.pack_paths([path for chunk in state.paths for path in chunk]),
        )


def load_state(path: Path) -> TrainState | None:
    """What ``save_state`` saved, or None if there is nothing."""
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as kept:
        paths = gmm_model.unpack_paths(kept)
        ends = np.cumsum(kept["chunks"])
        chunks = [paths[end - size : end] for end, size in zip(ends, kept["chunks"])]
        return TrainState(int(kept["iteration"]), gmm_model.load_model(path), chunks, kept["likelihoods"].tolist())


def train(workers: Workers, work: Path, audio: PackedAudio, places: Sequence[int]) -> Model:
    """Train on these utterances; after every iteration WORK/train.npz holds all that the next one needs.

    Raises:
        UserError: nothing could be aligned.
    """
    chunks = chunked(places, CHUNK)
    state = load_state(work / STATE_FILE)
    if state is None:
        sample = Features(work, audio)
        some = np.concatenate([sample[place] for place in places[:: max(1, len(places) // 100)]]).astype(np.float64)
        state = TrainState(0, gmm_model.flat_model(some.mean(axis=0), some.var(axis=0)), [], [])
    elif state.iteration < ITERATIONS:
        log.info("%d of %d iterations are done already, in %s", state.iteration, ITERATIONS, work)
    with Progress(desc="train", unit="iteration", total=ITERATIONS, initial=state.iteration) as progress:
        while state.iteration < ITERATIONS:
            state = _iterate(workers, work, chunks, state)
            save_state(work / STATE_FILE, state)
            progress.update()
            progress.set_postfix(log_likelihood=f"{state.likelihoods[-1]:.2f}", gaussians=len(state.model.weights))
    return state.model


def _run_pass(
    workers: Workers,
    work: Path,
    state: TrainState,
    chunks: dict[int, list[int]],
    beams: Beams | None,
    shift: int = 0,
) -> tuple[list[list[np.ndarray | None]], Statistics]:
    """One pass over these chunks (number -> utterances), with the state's own paths if there are no beams."""
    known = {number: None if beams or not state.paths else state.paths[number] for number in chunks}
    tasks = [(chunk, work, state.model, beams, known[number], True, shift) for number, chunk in chunks.items()]
    sums: Statistics | None = None
    paths = []
    for result in workers.map(make_pass, tasks, list(chunks)):
        paths.append(result.paths)
        if result.statistics is not None:
            sums = result.statistics if sums is None else sums.plus(result.statistics)
    if sums is None:
        raise UserError("no utterance could be aligned with its text: does DATA/text belong to this audio?")
    return paths, sums


def _shifted(workers: Workers, work: Path, chunks: list[list[int]], state: TrainState) -> Model:
    """The state's model, or a more likely one whose boundaries all lie a little earlier or later."""
    some = {number: chunks[number] for number in range(0, len(chunks), -(-len(chunks) // SHIFT_CHUNKS))}
    tried = []
    for shift in SHIFTS:
        trial = state
        _, sums = _run_pass(workers, work, trial, some, None, shift)
        for _ in range(SHIFT_PASSES):
            trial = trial._replace(model=gmm_model.estimate(trial.model, sums, OCCUPANCY)[0])
            paths, sums = _run_pass(workers, work, trial, some, BEAMS)
        lost = sum(path is None for chunk in paths for path in chunk)
        tried.append((sums.log_likelihood / sums.transitions.sum(), shift, lost, trial.model))
    # A mean over fewer utterances, the easier ones, is no comparison.
    best = max((one for one in tried if one[2] <= tried[0][2]), key=lambda one: one[0])
    log.debug("log-likelihood by shift: %s", {shift: round(found, 3) for found, shift, *_ in tried})
    if best[1] == 0:
        return state.model
    log.info("boundaries moved by %+d ms: log-likelihood %.3f, not %.3f", -10 * best[1], best[0], tried[0][0])
    return best[3]


def _iterate(workers: Workers, work: Path, chunks: list[list[int]], state: TrainState) -> TrainState:
    """Iteration 0 is the flat start; numbers and what they do are train_mono.sh's."""
    number = state.iteration
    if number in SHIFT_BEFORE:
        state = state._replace(model=_shifted(workers, work, chunks, state))
    beams = (START_BEAMS if number == 1 else BEAMS) if number in REALIGN else None
    paths, sums = _run_pass(workers, work, state, dict(enumerate(chunks)), beams)
    frames = sums.transitions.sum()
    model, occupied = gmm_model.estimate(state.model, sums, OCCUPANCY if number else START_OCCUPANCY)
    fewest = len(model.sizes)
    most = int(min(max(fewest, frames / FRAMES_PER_GAUSSIAN), MAX_GAUSSIANS))
    target = fewest + (most - fewest) * min(number, LAST_SPLIT) // LAST_SPLIT
    model = gmm_model.split(model, occupied, target, np.random.default_rng(number))
    return TrainState(number + 1, model, paths, [*state.likelihoods, sums.log_likelihood / frames])
