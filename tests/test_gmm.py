"""The GMM-HMM aligner against hand-made paths, Kaldi's own sums, and audio whose boundaries are known by sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cpc_speech.datadir import read_table, write_table
from cpc_speech.errors import UserError
from cpc_speech.packed import PackedAudio
from cpc_speech.phones import PHONE_ID, Interval, labels_from_intervals, read_phones
from data_prep import align, alignment, gmm_align, gmm_features, gmm_model, gmm_train
from data_prep.gmm_graphs import Aligner, Beams, Graphs, equal_path, intervals
from data_prep.lexicon import Lexicon

pytest.importorskip("kaldi_hmm_gmm")

# Phones that are noise in a band of their own (Hz), all as loud. Every one comes before and after every other: or
# nothing would tell to which phone the frames between two belong.
BANDS = {"M": (100, 600), "IY": (2000, 3500), "S": (4500, 7500), "OW": (300, 1500), "K": (3000, 6000)}
WORDS = {a + b: [(a, b)] for a in BANDS for b in BANDS if a != b}


def sound(phone, samples, random_):
    spectrum, hertz = np.fft.rfft(random_.normal(size=samples)), np.fft.rfftfreq(samples, 1 / 16_000)
    if phone in BANDS:
        spectrum[(hertz < BANDS[phone][0]) | (hertz > BANDS[phone][1])] = 0
    noise = np.fft.irfft(spectrum, samples)
    return noise * (2000 if phone in BANDS else 60) / noise.std() + random_.normal(0, 30, samples)


def speak(words, random_):
    """int16 audio and its phones: words one after another, now and then a pause."""
    phones = ["SIL"]
    for word in words:
        phones += WORDS[word][0]
        if random_.random() < 0.3:
            phones.append("SIL")
    phones += ["SIL"] if phones[-1] != "SIL" else []
    lengths = random_.integers(700, 2400, len(phones))
    ends = np.cumsum(lengths)
    truth = [Interval((e - n) / 16_000, e / 16_000, p) for p, n, e in zip(phones, lengths, ends, strict=True)]
    audio = np.concatenate([sound(p, n, random_) for p, n in zip(phones, lengths, strict=True)])
    return audio.astype(np.int16), truth


def make_data(folder, audios, texts):
    names = [f"{number % 2}-{number:03d}" for number in range(len(audios))]
    order = sorted(range(len(names)), key=names.__getitem__)
    folder.mkdir()
    np.concatenate([audios[i] for i in order]).astype("<i2").tofile(folder / "audio.000.i16")
    starts = np.cumsum([0] + [len(audios[i]) for i in order])
    write_table(folder / "utt2num_samples", {names[i]: len(audios[i]) for i in order})
    write_table(folder / "utt2spk", {name: name[0] for name in names})
    write_table(folder / "text", dict(zip(names, texts, strict=True)))
    write_table(folder / "audio.scp", {names[i]: f"audio.000.i16:{s}" for i, s in zip(order, starts, strict=False)})
    return names


@pytest.fixture
def our_words(monkeypatch):
    monkeypatch.setattr(align, "build_lexicon", lambda words, *_: Lexicon({word: WORDS[word] for word in words}, []))


def random_model(random_, dim=4, scale=3.0):
    flat = gmm_model.flat_model(np.zeros(dim), np.ones(dim))
    return flat._replace(means=(scale * random_.normal(size=flat.means.shape)).astype(np.float32))


def test_frames_are_ours_and_the_features_kaldis(monkeypatch):
    torch, kaldi = pytest.importorskip("torch"), pytest.importorskip("torchaudio.compliance.kaldi")
    monkeypatch.setattr(gmm_features, "DITHER", 0.0)
    audio = (1000 * np.random.default_rng(0).normal(size=160 * 50 + 100)).astype(np.int16)
    found = gmm_features.mfcc(audio)
    assert found.shape == (50, 13) and gmm_features.mfcc(audio[:159]).shape == (0, 13)
    expected = kaldi.mfcc(
        torch.from_numpy(audio[:8000].astype(np.float32))[None], dither=0.0, snip_edges=False, use_energy=False
    )
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-2)


def test_normalised_by_speaker(tmp_path):
    random_ = np.random.default_rng(0)
    audios = [(loud * random_.normal(size=16_000)).astype(np.int16) for loud in (100, 3000, 100, 3000)]
    make_data(tmp_path / "data", audios, ["A"] * 4)
    packed = PackedAudio(tmp_path / "data")
    gmm_features.write_features(tmp_path, packed, (gmm_features.mfcc(packed[i]) for i in range(4)))
    features = gmm_features.Features(tmp_path, packed)
    for places in ((0, 1), (2, 3)):  # a speaker each
        together = np.concatenate([features[place] for place in places])
        assert together.shape == (200, 39)
        np.testing.assert_allclose(together[:, :13].mean(axis=0), 0, atol=1e-3)
        np.testing.assert_allclose(together[:, :13].std(axis=0), 1, atol=1e-3)
    cepstra = features[0][:, :13]
    slope = (2 * (cepstra[12] - cepstra[8]) + cepstra[11] - cepstra[9]) / 10  # over five frames, least squares
    np.testing.assert_allclose(features[0][10, 13:26], slope, atol=1e-4)


def test_path_is_the_best_of_all():
    random_ = np.random.default_rng(1)
    model = random_model(random_)
    tables, mixtures = gmm_model.transition_tables(), gmm_model.gaussians(model)
    first = [int(tables.pdf[np.flatnonzero(tables.phone == PHONE_ID[phone])].min()) for phone in ("K", "OW")]
    states = [pdf + number for pdf in first for number in range(3)]
    features = (model.means[np.repeat(states, 3)] + random_.normal(size=(18, 4))).astype(np.float32)

    # Viterbi by hand, from left to right through the six states: every path has the same transitions, so they are
    # left out; silence, being elsewhere, is no rival.
    likelihood = -0.5 * np.square(features[:, None] - model.means[states][None]).sum(axis=2)
    score = np.full((18, 6), -np.inf)
    score[0, 0] = likelihood[0, 0]
    came = np.zeros((18, 6), int)
    for t in range(1, 18):
        for s in range(6):
            came[t, s] = s - 1 if s and score[t - 1, s - 1] > score[t - 1, s] else s
            score[t, s] = score[t - 1, came[t, s]] + likelihood[t, s]
    expected = [5]
    for t in range(17, 0, -1):
        expected.append(came[t, expected[-1]])

    graph = Graphs({"KOW": [("K", "OW")]}).compile(["KOW"])
    path = Aligner(model, mixtures, Beams(100, 0)).path("u", graph, features)
    assert [states.index(pdf) for pdf in tables.pdf[path]] == expected[::-1]
    assert Aligner(model, mixtures, Beams(100, 200)).path("u", graph, features[:5]) is None, "six states, five frames"
    assert equal_path(graph, 5, seed=0) is None


def test_intervals_tell_two_equal_neighbours_apart():
    graph = Graphs({"CAT": [("K", "AE", "T")], "TWO": [("T", "UW"), ("T", "AH")]}).compile(["CAT", "TWO"])
    for seed in range(8):
        path = equal_path(graph, 90, seed)
        assert path is not None
        found = intervals(path, 90 * 160 + 33)
        spoken = [phone for _, _, phone in found if phone != "SIL"]
        assert spoken[:4] == ["K", "AE", "T", "T"] and spoken[4:] in (["UW"], ["AH"])
        assert found[0].start == 0 and found[-1].end == (90 * 160 + 33) / 16_000
        assert all(a.end == b.start for a, b in zip(found[:-1], found[1:], strict=True))
        labels = labels_from_intervals(found, 90 * 160 + 33)
        assert (labels == gmm_model.transition_tables().phone[path]).all(), "one state a frame is one label a frame"


def test_statistics_and_update_are_kaldis():
    random_, kaldi = np.random.default_rng(2), gmm_model.kaldi()
    model = random_model(random_, scale=0.5)
    model = gmm_model.split(model, np.full(len(model.sizes), 1000.0), 300, random_)
    graph = Graphs(WORDS).compile(["MIY", "SOW", "KM"])
    path = np.concatenate([equal_path(graph, 400, seed) for seed in range(5)])
    features = random_.normal(size=(2000, 4)).astype(np.float32)
    mixtures = gmm_model.gaussians(model)
    sums = gmm_model.statistics(model, mixtures, features, path)

    acoustic, accumulator = gmm_model.acoustic_model(mixtures), kaldi.AccumAmDiagGmm()
    accumulator.init(model=acoustic, flags=15)
    pdfs = gmm_model.transition_tables().pdf[path]
    total = sum(accumulator.accumulate_for_gmm(acoustic, x, pdf, 1.0) for x, pdf in zip(features, pdfs, strict=True))
    assert sums.log_likelihood == pytest.approx(total, rel=1e-5)
    likelihoods = [[acoustic.log_likelihood(pdf, x) for pdf in range(len(model.sizes))] for x in features[:50]]
    relative = [frame[pdf] - max(frame) for frame, pdf in zip(likelihoods, pdfs, strict=False)]
    np.testing.assert_allclose(gmm_model.frame_scores(mixtures, features[:50], path[:50]), relative, atol=1e-3)
    each = [accumulator.get_acc(pdf) for pdf in range(len(model.sizes))]
    np.testing.assert_allclose(sums.occupancy, np.concatenate([one.occupancy for one in each]), atol=1e-2)
    np.testing.assert_allclose(sums.second, np.concatenate([one.variance_accumulator for one in each]), atol=1e-2)

    updated, frames = gmm_model.estimate(model, sums, 3.0)
    options = kaldi.MleDiagGmmOptions(min_gaussian_occupancy=3.0)
    kaldi.mle_am_diag_gmm_update(options, accumulator, 15, acoustic)
    assert frames.sum() == pytest.approx(2000)
    said = np.flatnonzero(frames)
    assert len(said) == 5 * 3 + 5, "five phones, and pauses"
    for pdf in said:
        here = slice(updated.starts[pdf], updated.starts[pdf + 1])
        np.testing.assert_allclose(updated.means[here], acoustic.get_pdf(int(pdf)).means, atol=1e-3)
    np.testing.assert_allclose(
        gmm_model.transition_model(updated.transitions).log_probs, updated.transitions, atol=1e-4
    )


def test_split_shares_by_frames():
    flat = gmm_model.flat_model(np.zeros(3), np.ones(3))
    frames = np.zeros(len(flat.sizes))
    frames[:3] = 16_000, 1000, 50  # fourth roots 11.2, 5.6, 2.7; and 50 frames feed two Gaussians of 20, not three
    found = gmm_model.split(flat, frames, len(frames) + 10, np.random.default_rng(0))
    assert found.sizes[:3].tolist() == [7, 4, 2] and (found.sizes[3:] == 1).all()
    assert np.add.reduceat(found.weights, found.starts[:-1]) == pytest.approx(1)
    first = slice(0, found.sizes[0])
    np.testing.assert_allclose(found.weights[first] @ found.means[first], 0, atol=1e-6)


def test_boundaries_resume_and_what_does_not_fit(our_words, tmp_path, monkeypatch, caplog):
    random_ = np.random.default_rng(0)
    monkeypatch.setattr(gmm_train, "ITERATIONS", 14)
    monkeypatch.setattr(gmm_train, "CHUNK", 8)
    texts = [list(random_.choice(list(WORDS), 10)) for _ in range(40)]
    said = [speak(words, random_) for words in texts]
    texts[4] = texts[4][::-1]  # another transcript of as many phones
    texts[5] = texts[5] * 40
    names = make_data(tmp_path / "data", [audio for audio, _ in said], [" ".join(words) for words in texts])

    def command(work, nj):
        folders = [str(tmp_path / "data"), str(tmp_path / "lang"), "--work", str(tmp_path / work)]
        return align.main([*folders, "--aligner", "gmm", "--nj", nj, "--max-dropped", "2"])

    command("exp", "2")
    reasons = read_table(tmp_path / "data" / "labels.dropped")
    assert set(reasons) == {names[4], names[5]} and "400 words do not fit its" in reasons[names[5]]
    assert names[5] not in read_table(tmp_path / "data" / "align.scores")
    assert read_table(tmp_path / "data" / "align.outliers") == {}

    right = [i for i in range(40) if i not in (4, 5)]
    labels = read_phones(tmp_path / "data", sorted(names[i] for i in right))
    truth = {names[i]: labels_from_intervals(said[i][1], len(said[i][0])) for i in right}

    def agreement(shift):
        return np.mean(np.concatenate([np.roll(labels[u], shift)[5:-5] == truth[u][5:-5] for u in labels]))

    assert agreement(0) > 0.85
    assert max(range(-4, 5), key=agreement) in (-1, 0, 1)
    whole = (tmp_path / "data" / "phones.ark").read_bytes()
    kept = sorted(path.name for path in (tmp_path / "exp").iterdir())
    assert kept == [*(f"ali.{number:06d}.npz" for number in range(5)), "digest", "model.npz", "seconds"]

    save, saved = gmm_train.save_state, []

    def killed(*arguments):
        save(*arguments)
        saved.append(arguments)
        if len(saved) in (6, 11):  # before and after boundaries are moved
            raise KeyboardInterrupt

    monkeypatch.setattr(gmm_train, "save_state", killed)
    caplog.set_level("INFO")
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            command("again", "1")
    command("again", "1")
    assert "6 of 14 iterations are done already" in caplog.text and "11 of 14 iterations" in caplog.text
    assert len(saved) == 14
    assert (tmp_path / "data" / "phones.ark").read_bytes() == whole, "neither interruption nor processes matter"
    for name in kept[:5]:
        assert all(
            path is None or path.dtype == np.int32
            for _, path, _ in gmm_align.read_alignments(tmp_path / "again" / name)
        )


class Here:
    """Workers that are this process."""

    def map(self, task, arguments, numbers=None):
        return (task(*given) for given in arguments)


def test_boundaries_that_all_lie_late_are_moved_back(tmp_path, monkeypatch, caplog):
    """As a flat start may leave them: a model of frames paired with the states of three frames before."""
    random_ = np.random.default_rng(0)
    texts = [list(random_.choice(list(WORDS), 10)) for _ in range(40)]
    said = [speak(words, random_) for words in texts]
    names = make_data(tmp_path / "data", [audio for audio, _ in said], [" ".join(words) for words in texts])
    audio = PackedAudio(tmp_path / "data")
    places = [names.index(name) for name in audio.utterances]
    truth = [said[place][1] for place in places]
    gmm_train.start_worker(tmp_path / "data", {i: texts[place] for i, place in enumerate(places)}, WORDS)
    monkeypatch.setattr(gmm_train._Worker, "compiled", {})
    monkeypatch.setattr(gmm_train._Worker, "features", None)
    monkeypatch.setattr(gmm_train, "ITERATIONS", 9)
    gmm_features.write_features(tmp_path, audio, (gmm_features.mfcc(audio[i]) for i in range(40)))
    workers: Any = Here()
    chunks = alignment.chunked(range(40), 10)
    model = gmm_train.train(workers, tmp_path, audio, range(40))

    def lateness(state):
        paths = sum(gmm_train._run_pass(workers, tmp_path, state, dict(enumerate(chunks)), gmm_train.BEAMS)[0], [])
        moved = []
        for path, intervals_, samples in zip(paths, truth, audio.num_samples, strict=True):
            assert path is not None
            found = intervals(path, samples)
            if [phone for *_, phone in found] == [phone for *_, phone in intervals_]:
                moved += [a.start - b.start for a, b in zip(found[1:], intervals_[1:], strict=True)]
        return 1000 * np.mean(moved), paths

    state = gmm_train.TrainState(9, model, [], [])
    right, paths = lateness(state)
    paths = [paths[start : start + 10] for start in range(0, 40, 10)]
    _, sums = gmm_train._run_pass(workers, tmp_path, state._replace(paths=paths), dict(enumerate(chunks)), None, -3)
    late = state._replace(model=gmm_model.estimate(model, sums, 10.0)[0])
    wrong, _ = lateness(late)
    back, _ = lateness(late._replace(model=gmm_train._shifted(workers, tmp_path, chunks, late)))
    # 11 ms late as trained, 26 moved, 9 moved back: in steps of 10, so to less than half of what it was.
    assert abs(wrong) > abs(right) and abs(back) < abs(wrong) / 2


def test_training_takes_its_hours_from_all_over_the_corpus(tmp_path):
    make_data(tmp_path / "data", [np.zeros(16_000 * seconds, np.int16) for seconds in (1, 2, 3, 2, 1, 3)], ["A"] * 6)
    audio = PackedAudio(tmp_path / "data")
    assert gmm_align.training_places(audio, [0, 1, 2, 4, 5], 1.0) == [0, 1, 2, 4, 5]
    for places in ([0, 1, 2, 3, 4, 5], [1, 2, 5]):
        some = gmm_align.training_places(audio, places, 6 / 3600)
        assert set(some) < set(places) and some == sorted(some) and some[0] == places[0] and some[-1] == places[-1]
    assert gmm_align.training_places(audio, [3], 0.0001) == [3]


def test_wrong_or_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(gmm_model, "version", lambda package: "1.8.3")
    with pytest.raises(UserError, match="pip install 'kaldifst<1.8'"):
        gmm_model.openfst.__wrapped__()
    monkeypatch.setitem(__import__("sys").modules, "kaldi_hmm_gmm", None)
    with pytest.raises(UserError, match=r"pip install .*\[align\]"):
        gmm_model.kaldi.__wrapped__()


def test_topology_has_kaldis_sizes():
    topology, tree = gmm_model.topology()
    assert tree.num_pdfs == 39 * 3 + 2 * 5 and topology.min_length(PHONE_ID["AA"]) == 3
    assert len(topology.phones) == 41
