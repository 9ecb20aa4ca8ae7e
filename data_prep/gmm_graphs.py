"""Graphs of what a transcript allows (pronunciations, optional silence), and paths through them, by Kaldi's code."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cpc_speech.phones import HOP, PHONE_ID, SAMPLE_RATE, SILENCE, SYMBOLS, Interval
from cpc_speech.pronunciations import Pronunciations
from data_prep.gmm_model import (
    Model,
    acoustic_model,
    kaldi,
    openfst,
    topology,
    transition_model,
    transition_tables,
)

SILENCE_PROBABILITY = 0.5  # between words, before the first and after the last: Kaldi's prepare_lang.sh
ACOUSTIC_SCALE, TRANSITION_SCALE, LOOP_SCALE = 0.1, 1.0, 0.1  # train_mono.sh's scale_opts
EQUAL_RETRIES = 10  # align-equal-compiled's


class Beams(NamedTuple):
    """Of the search, and of the second one where the first finds no path; both after the acoustic scale."""

    first: float
    retry: float


class Graphs:
    """Compiles transcripts of words that ``pronunciations`` holds.

    The graphs carry no transition probabilities: those change with the model and are added for each search.
    """

    def __init__(self, pronunciations: Pronunciations) -> None:
        self._words = {word: number for number, word in enumerate(sorted(pronunciations), 1)}
        found, tree = topology()
        options = kaldi().TrainingGraphCompilerOptions(transition_scale=0.0, self_loop_scale=0.0)
        self._keep = (
            kaldi().TransitionModel(tree, found),
            tree,
            self._lexicon(pronunciations),
        )  # it only refers to them
        self._compiler = kaldi().TrainingGraphCompiler(
            trans_model=self._keep[0], ctx_dep=tree, lex_fst=self._keep[2], disambig_syms=[], opts=options
        )

    def _lexicon(self, pronunciations: Mapping[str, Sequence[Sequence[str]]]) -> Any:
        """Phones in, words out (Kaldi's make_lexicon_fst.py): after every word a silence or none."""
        fst, arc = openfst().StdVectorFst(), openfst().StdArc
        start, loop, pause = (fst.add_state() for _ in range(3))
        fst.start = start
        fst.set_final(state=loop, weight=0)
        with_pause, without = -math.log(SILENCE_PROBABILITY), -math.log(1 - SILENCE_PROBABILITY)
        fst.add_arc(start, arc(0, 0, without, loop))
        fst.add_arc(start, arc(0, 0, with_pause, pause))
        fst.add_arc(pause, arc(PHONE_ID[SILENCE], 0, 0.0, loop))
        for word, number in self._words.items():
            for phones in pronunciations[word]:
                state, output = loop, number
                for phone in phones[:-1]:
                    fst.add_arc(state, arc(PHONE_ID[phone], output, 0.0, after := fst.add_state()))
                    state, output = after, 0
                fst.add_arc(state, arc(PHONE_ID[phones[-1]], output, without, loop))
                fst.add_arc(state, arc(PHONE_ID[phones[-1]], output, with_pause, pause))
        openfst().arcsort(fst, sort_type="olabel")
        return fst

    def compile(self, words: Sequence[str]) -> Any:
        """The graph over transition ids of these words in this order."""
        return self._compiler.compile_graph_from_text([self._words[word] for word in words])


def equal_path(graph: Any, frames: int, seed: int) -> np.ndarray | None:
    """A random path, its self-loops shared out evenly: (frames,) int32 transition ids, or none if it has no room."""
    found, fst = openfst().equal_align(ifst=graph, length=frames, rand_seed=seed, num_retries=EQUAL_RETRIES)
    if not found:
        return None
    _, ids, _, _ = openfst().get_linear_symbol_sequence(fst)
    return np.array(ids, np.int32) if len(ids) == frames else None


class Aligner:
    """Finds the best path through graphs by one model."""

    def __init__(self, model: Model, mixtures: list[Any], beams: Beams) -> None:
        self._acoustic = acoustic_model(mixtures)
        self._transitions = transition_model(model.transitions)
        self._config = kaldi().AlignConfig(beam=beams.first, retry_beam=beams.retry)

    def path(self, utterance: str, graph: Any, features: np.ndarray) -> np.ndarray | None:
        """(T, 39) features -> (T,) int32 transition ids, or none if no path within the wider beam ends in time."""
        graph = graph.copy()
        kaldi().add_transition_probs(
            trans_model=self._transitions, transition_scale=TRANSITION_SCALE, self_loop_scale=LOOP_SCALE, fst=graph
        )
        decodable = kaldi().DecodableAmDiagGmmScaled(
            am=self._acoustic, tm=self._transitions, feats=features, scale=ACOUSTIC_SCALE
        )
        ids = kaldi().align_utterance_wrapper(
            config=self._config, utt=utterance, acoustic_scale=ACOUSTIC_SCALE, fst=graph, decodable=decodable,
            num_done=0, num_error=0, num_retried=0, tot_like=0.0, frame_count=0,
        )[5]  # fmt: skip
        return np.array(ids, np.int32) if len(ids) == len(features) else None


def intervals(path: np.ndarray, samples: int) -> list[Interval]:
    """Phones without gaps from 0 to the end of ``samples`` of audio, of a path of samples // 160 transition ids.

    Kaldi's graphs are "reordered": a state's self-loops follow the transition that leaves it. So the first frame of a
    phone is the first transition that is no loop after one that left a phone (SplitToPhones, hmm-utils.cc).
    """
    tables = transition_tables()
    moves = np.flatnonzero(~tables.is_loop[path])
    starts = moves[1:][tables.is_last[path[moves[:-1]]]]
    edges = [0, *(HOP * int(frame) for frame in starts), samples]  # frames j - 1 and j meet at sample 160 j
    names = [SYMBOLS[tables.phone[path[frame]]] for frame in (0, *starts)]
    return [
        Interval(start / SAMPLE_RATE, end / SAMPLE_RATE, phone)
        for start, end, phone in zip(edges[:-1], edges[1:], names, strict=True)
    ]
