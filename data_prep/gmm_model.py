"""A monophone GMM-HMM as arrays, and what Kaldi's own code (kaldi-hmm-gmm) does with it.

Shapes: P pdfs, G Gaussians in all, D dimensions, I transition ids (1..I, as in Kaldi).

kaldi-hmm-gmm's objects persist only by pickle, so the arrays are the model: they are what is kept, sent to processes
and taken up by every iteration, and a resumed training is the undisturbed one, bit for bit.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cpc_speech.errors import UserError, require
from cpc_speech.phones import PHONE_ID, SILENCE, SPOKEN_NOISE

PHONE_STATES, NOISE_STATES = 3, 5  # Kaldi's: gen_topo.pl
ALL = 15  # kGmmAll: weights, means, variances
PERTURB = 0.01  # standard deviations by which a Gaussian's halves part: gmm-est's default
SPLIT_POWER = 0.25  # of a state's frames, decides its share of the Gaussians: train_mono.sh
SPLIT_FRAMES = 20.0  # a Gaussian must keep at least these: gmm-est's default


class Model(NamedTuple):
    """All parameters."""

    sizes: np.ndarray  # (P,) int64, Gaussians of a pdf
    weights: np.ndarray  # (G,) float32
    means: np.ndarray  # (G, D) float32
    inverse_variances: np.ndarray  # (G, D) float32
    transitions: np.ndarray  # (I + 1,) float64, log-probabilities; [0] is unused

    @property
    def starts(self) -> np.ndarray:
        """(P + 1,) first Gaussian of a pdf."""
        return np.concatenate([[0], np.cumsum(self.sizes)])


class Statistics(NamedTuple):
    """Sums over frames, from which a model is estimated."""

    occupancy: np.ndarray  # (G,) float64
    first: np.ndarray  # (G, D) float64: sum of x
    second: np.ndarray  # (G, D) float64: sum of x squared
    transitions: np.ndarray  # (I + 1,) float64: how often each id is passed
    log_likelihood: float  # of all frames

    def plus(self, other: Statistics) -> Statistics:
        return Statistics(
            self.occupancy + other.occupancy,
            self.first + other.first,
            self.second + other.second,
            self.transitions + other.transitions,
            self.log_likelihood + other.log_likelihood,
        )


@cache
def kaldi() -> Any:
    """The module kaldi_hmm_gmm."""
    return require("kaldi_hmm_gmm", "align")


@cache
def openfst() -> Any:
    """The module kaldifst, whose graphs kaldi_hmm_gmm takes and returns.

    Raises:
        UserError: kaldifst 1.8 or later. Its OpenFst is a newer one than kaldi-hmm-gmm 1.1.4's, which takes none of
            its graphs; and where it is imported first, kaldi_hmm_gmm's import waits for ever.
    """
    kaldi()
    try:
        found = version("kaldifst")
    except PackageNotFoundError:
        found = "0"
    if tuple(map(int, found.split(".")[:2])) >= (1, 8):
        raise UserError(f"kaldi-hmm-gmm cannot work with kaldifst {found}: pip install 'kaldifst<1.8'")
    return require("kaldifst", "align")


@cache
def _estimator() -> Any:
    """mle_diag_gmm_update, which the package does not make public; without it, statistics would have to be added frame
    by frame in one process, as accumulators can be neither sent nor filled."""
    kaldi()
    return require("_kaldi_hmm_gmm", "align").mle_diag_gmm_update


def _topology_text() -> str:
    noises = [PHONE_ID[SILENCE], PHONE_ID[SPOKEN_NOISE]]
    phones = [number for number in PHONE_ID.values() if number not in noises]
    last = NOISE_STATES - 1
    even = 1 / last

    def state(number: int, transitions: dict[int, float]) -> str:
        arcs = "".join(f" <Transition> {target} {probability}" for target, probability in transitions.items())
        return f"<State> {number} <PdfClass> {number}{arcs} </State>"

    return "\n".join(
        [
            "<Topology>",
            f"<TopologyEntry>\n<ForPhones> {' '.join(map(str, phones))} </ForPhones>",
            *(state(number, {number: 0.75, number + 1: 0.25}) for number in range(PHONE_STATES)),
            f"<State> {PHONE_STATES} </State>\n</TopologyEntry>",
            # Between its first and its last state noise wanders at will.
            f"<TopologyEntry>\n<ForPhones> {' '.join(map(str, noises))} </ForPhones>",
            state(0, dict.fromkeys(range(last), even)),
            *(state(number, dict.fromkeys(range(1, NOISE_STATES), even)) for number in range(1, last)),
            state(last, {last: 0.75, NOISE_STATES: 0.25}),
            f"<State> {NOISE_STATES} </State>\n</TopologyEntry>",
            "</Topology>",
        ]
    )


@cache
def topology() -> tuple[Any, Any]:
    """Kaldi's HmmTopology of the 41 phones, ids as in cpc_speech.phones, and its context-independent tree."""
    found = kaldi().HmmTopology()
    found.read(_topology_text())
    return found, kaldi().monophone_context_dependency(found.phones, found.get_phone_to_num_pdf_classes())


class TransitionTables(NamedTuple):
    """What a transition id is; [0] of each is unused."""

    pdf: np.ndarray  # (I + 1,) int64
    phone: np.ndarray  # (I + 1,) int64
    is_loop: np.ndarray  # (I + 1,) bool: from a state to itself
    is_last: np.ndarray  # (I + 1,) bool: out of the phone


@cache
def transition_tables() -> TransitionTables:
    found, tree = topology()
    model = kaldi().TransitionModel(tree, found)
    ids = range(1, model.num_transition_ids + 1)
    return TransitionTables(
        np.array([0, *(model.transition_id_to_pdf(i) for i in ids)]),
        np.array([0, *(model.transition_id_to_phone(i) for i in ids)]),
        np.array([False, *(model.is_self_loop(i) for i in ids)]),
        np.array([False, *(model.is_final(i) for i in ids)]),
    )


def flat_model(mean: np.ndarray, variance: np.ndarray) -> Model:
    """Every pdf one Gaussian, all alike, with this mean and variance: (D,) each."""
    found, tree = topology()
    pdfs = tree.num_pdfs
    return Model(
        np.ones(pdfs, np.int64),
        np.ones(pdfs, np.float32),
        np.tile(mean.astype(np.float32), (pdfs, 1)),
        np.tile((1 / variance).astype(np.float32), (pdfs, 1)),
        np.array(kaldi().TransitionModel(tree, found).log_probs, np.float64),
    )


def gaussians(model: Model) -> list[Any]:
    """One DiagGmm a pdf."""
    found = []
    for start, end in zip(model.starts[:-1], model.starts[1:]):
        mixture = kaldi().DiagGmm(nmix=int(end - start), dim=model.means.shape[1])
        mixture.set_weights(model.weights[start:end])
        mixture.set_invvars_and_means(model.inverse_variances[start:end], model.means[start:end])
        mixture.compute_gconsts()
        found.append(mixture)
    return found


def acoustic_model(mixtures: list[Any]) -> Any:
    """Kaldi's AmDiagGmm of these pdfs."""
    found = kaldi().AmDiagGmm()
    for mixture in mixtures:
        found.add_pdf(mixture)
    return found


def transition_model(log_probabilities: np.ndarray) -> Any:
    """Kaldi's TransitionModel with these log-probabilities, (I + 1,): it has no setter, but an estimator."""
    found, tree = topology()
    model = kaldi().TransitionModel(tree, found)
    counts = np.exp(log_probabilities)
    counts[0] = 0
    model.mle_update(1e6 * counts, kaldi().MleTransitionUpdateConfig(floor=1e-9, mincount=0.0))
    return model


def statistics(model: Model, mixtures: list[Any], features: np.ndarray, path: np.ndarray) -> Statistics:
    """Of (N, D) frames on a path of N transition ids (gmm-acc-stats-ali)."""
    frame_pdf = transition_tables().pdf[path]
    order = np.argsort(frame_pdf, kind="stable")
    edges = np.searchsorted(frame_pdf[order], np.arange(len(mixtures) + 1))
    occupancy, first = np.zeros(len(model.weights)), np.zeros(model.means.shape)
    second, total = np.zeros(model.means.shape), 0.0
    for pdf in np.flatnonzero(np.diff(edges)):
        frames = features[order[edges[pdf] : edges[pdf + 1]]]
        each = np.asarray(mixtures[pdf].log_likelihoods_matrix(frames), np.float64)
        best = each.max(axis=1, keepdims=True)
        likelihoods = np.exp(each - best)
        sums = likelihoods.sum(axis=1, keepdims=True)
        posteriors = (likelihoods / sums).T
        here = slice(model.starts[pdf], model.starts[pdf + 1])
        wide = frames.astype(np.float64)
        occupancy[here], first[here], second[here] = posteriors.sum(axis=1), posteriors @ wide, posteriors @ wide**2
        total += float(np.log(sums).sum() + best.sum())
    passed = np.bincount(path, minlength=len(model.transitions)).astype(np.float64)
    return Statistics(occupancy, first, second, passed, total)


def frame_scores(mixtures: list[Any], features: np.ndarray, path: np.ndarray) -> np.ndarray:
    """(T,) float64: log-likelihood of each frame in its state, less that in the frame's best state of all.

    The plain likelihood moves far more with loudness, noise and voice than with a wrong transcript; the difference
    takes these out.
    """
    likelihoods = np.stack(
        [np.logaddexp.reduce(mixture.log_likelihoods_matrix(features).astype(np.float64), 1) for mixture in mixtures]
    )
    return likelihoods[transition_tables().pdf[path], np.arange(len(path))] - likelihoods.max(axis=0)


def estimate(model: Model, sums: Statistics, min_occupancy: float) -> tuple[Model, np.ndarray]:
    """Maximum-likelihood update by Kaldi's own code (gmm-est); Gaussians below ``min_occupancy`` frames may go.

    Returns:
        The new model, and the frames of each pdf, (P,).
    """
    transitions = transition_model(model.transitions)
    transitions.mle_update(sums.transitions, kaldi().MleTransitionUpdateConfig())
    options = kaldi().MleDiagGmmOptions(min_gaussian_occupancy=min_occupancy)
    starts, mixtures = model.starts, gaussians(model)
    frames = np.add.reduceat(sums.occupancy, starts[:-1])
    for pdf, mixture in enumerate(mixtures):
        if frames[pdf] == 0:  # a phone that nobody said keeps what it has
            continue
        accumulator = kaldi().AccumDiagGmm(mixture, ALL)
        for number, gaussian in enumerate(range(starts[pdf], starts[pdf + 1])):
            accumulator.add_stats_for_component(
                number, sums.occupancy[gaussian], sums.first[gaussian], sums.second[gaussian]
            )
        _estimator()(options, accumulator, ALL, mixture)
    updated = Model(
        np.array([mixture.num_gauss for mixture in mixtures]),
        np.concatenate([mixture.weights for mixture in mixtures]),
        np.concatenate([mixture.means for mixture in mixtures]),
        np.concatenate([mixture.inv_vars for mixture in mixtures]),
        np.array(transitions.log_probs, np.float64),
    )
    return updated, frames


def split(model: Model, frames: np.ndarray, total: int, random_: np.random.Generator) -> Model:
    """Split Gaussians until there are ``total``, each pdf's share growing with its ``frames``, (P,), to a power.

    Kaldi's SplitByCount, whose own noise cannot be seeded: a resumed training would be another one.
    """
    targets = _split_targets(frames, total)
    parts = []
    for pdf, (start, end) in enumerate(zip(model.starts[:-1], model.starts[1:])):
        weights, means = list(model.weights[start:end]), list(model.means[start:end])
        inverse = list(model.inverse_variances[start:end])
        while len(weights) < targets[pdf]:
            heaviest = int(np.argmax(weights))
            weights[heaviest] /= 2
            shift = PERTURB * random_.standard_normal(len(means[0])) / np.sqrt(inverse[heaviest])
            weights.append(weights[heaviest])
            means.append((means[heaviest] + shift).astype(np.float32))
            inverse.append(inverse[heaviest])
            means[heaviest] = (means[heaviest] - shift).astype(np.float32)
        parts.append((len(weights), np.array(weights, np.float32), np.array(means), np.array(inverse)))
    sizes, *rest = zip(*parts)
    return Model(np.array(sizes), *map(np.concatenate, rest), transitions=model.transitions)  # type: ignore[misc]


def _split_targets(frames: np.ndarray, total: int) -> np.ndarray:
    """(P,) Gaussians a pdf: one by one to whose share of frames to a power is the largest (GetSplitTargets)."""
    targets = np.ones(len(frames), np.int64)
    queue = [(-(count**SPLIT_POWER), pdf) for pdf, count in enumerate(frames)]
    heapq.heapify(queue)
    for _ in range(total - len(frames)):
        while queue and frames[queue[0][1]] < (targets[queue[0][1]] + 1) * SPLIT_FRAMES:
            heapq.heappop(queue)
        if not queue:
            break
        pdf = queue[0][1]
        targets[pdf] += 1
        heapq.heapreplace(queue, (-(frames[pdf] ** SPLIT_POWER) / targets[pdf], pdf))
    return targets


def save_arrays(file: Any, model: Model, **more: Any) -> None:
    """Into a .npz, without pickles."""
    np.savez(file, **model._asdict(), **more)


def load_model(path: Path) -> Model:
    with np.load(path, allow_pickle=False) as kept:
        return Model(*(kept[name] for name in Model._fields))


def pack_paths(paths: Sequence[np.ndarray | None]) -> dict[str, Any]:
    """Paths, (T,) int32 each, or None, as arrays for a .npz: ``lengths``, −1 for None, and all ``ids`` in one."""
    return {
        "lengths": np.array([-1 if path is None else len(path) for path in paths]),
        "ids": np.concatenate([np.empty(0, np.int32), *(path for path in paths if path is not None)]),
    }


def unpack_paths(kept: Mapping[str, np.ndarray]) -> list[np.ndarray | None]:
    """What ``pack_paths`` packed."""
    lengths = kept["lengths"]
    cuts = np.cumsum(np.maximum(lengths, 0))[:-1]
    return [None if length < 0 else path for length, path in zip(lengths, np.split(kept["ids"], cuts), strict=True)]
