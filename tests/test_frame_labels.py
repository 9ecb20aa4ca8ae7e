"""Kaldi's frames to ours: against a search for the nearest centre, frame by frame."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from cpc_speech.errors import UserError
from data_prep.frame_labels import IdMap, align_frames, label_frames, num_kaldi_frames
from data_prep.int_vectors import Vector

LENGTHS = [0, 159, 160, 399, 400, 559, 560, 1_599, 1_600, 1_679, 1_680, 1_759, 16_000, 34_567]


def windows(samples, snip_edges):
    """Centres of Kaldi's windows, one after another until the audio ends (the comments of its feature-window.cc)."""
    centres, j = [], 0
    while 160 * j + 400 <= samples if snip_edges else 160 * j + 80 <= samples:
        centres.append(160 * j + (200 if snip_edges else 80))
        j += 1
    return centres


@pytest.mark.parametrize("snip_edges", [True, False])
@pytest.mark.parametrize("samples", LENGTHS)
def test_each_frame_has_the_label_of_the_nearest_centre(samples, snip_edges):
    centres = windows(samples, snip_edges)
    assert num_kaldi_frames(samples, snip_edges) == len(centres)
    labels = np.random.default_rng(samples).integers(1, 42, len(centres)).astype(np.int32)
    ours = align_frames(labels, samples, snip_edges)
    assert ours.dtype == np.int32 and len(ours) == samples // 160
    for t, label in enumerate(ours):
        away = [abs(160 * t + 79 - centre) for centre in centres]
        # nearest, and no farther than half a hop: beyond, the frame that would be its own does not exist
        expected = labels[int(np.argmin(away))] if away and min(away) <= 80 else 0
        assert label == expected


def test_with_snip_edges_only_edge_frames_are_unlabelled():
    for samples in range(16_000, 16_160):
        labels = align_frames(np.ones(num_kaldi_frames(samples), dtype=np.int32), samples)
        assert labels[0] == 0 and labels[1:-1].all()
        assert labels[-1] == (samples % 160 >= 80)


IDS = IdMap(np.array([5, -1, 7], dtype=np.int32), lambda unknown: f"no {unknown} here")


def labelled(ids, samples=1_680, snip_edges=True):
    ((name, label),) = label_frames([Vector("x.txt:3", "1-a", np.array(ids, dtype=np.int32))], IDS, snip_edges)
    assert name == "1-a"
    return label(samples).tolist()


def test_two_frames_off_are_accepted():
    assert labelled([0] * 9) == [0] + [5] * 9
    assert labelled([2] * 7) == [0] + [7] * 7 + [0] * 2
    assert labelled([2] * 11) == [0] + [7] * 9
    for length in (6, 12):
        with pytest.raises(UserError, match=f"x.txt:3: 1-a has {length} labels, but its 1680 samples make 9 frames"):
            labelled([0] * length)


@pytest.mark.parametrize("wrong", [1, 3, -1, 1 << 30])
def test_ids_without_label(wrong):
    with pytest.raises(UserError, match=f"x.txt:3: 1-a has the id {wrong} at frame 4: no {wrong} here"):
        labelled([0, 0, 2, 2, wrong, 0, wrong, 0, 0])


def test_centred_frames_are_recognised(caplog):
    vectors = [Vector("x", str(i), np.zeros(11, dtype=np.int32)) for i in range(3)]
    for snip_edges, said in ((True, True), (False, False)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            for _, label in label_frames(vectors, IDS, snip_edges):
                label(1_680)
        assert ("--no-snip-edges" in caplog.text) == said
