"""Minibatches that workers load ahead, against the packed files read by hand."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import SMALL, packed_samples, windows_heard

from cpc_speech.config import Config
from cpc_speech.errors import UserError
from cpc_speech.loader import Minibatch, Minibatches, ahead, waveform
from cpc_speech.objective import window_sampler
from cpc_speech.packed import PackedAudio
from cpc_speech.processes import Processes

CPU = torch.device("cpu")
CONFIG = Config(**SMALL)


def training_minibatches(data: Path, config: Config = CONFIG) -> Minibatches:
    audio = PackedAudio(data, (data / "splits" / "train.list").read_text().split())
    return Minibatches(audio, window_sampler(config, audio, config.seed))


def described(minibatches: Minibatches, minibatch: Minibatch) -> list[tuple[str, int]]:
    return [(minibatches.audio.utterances[window.utterance], window.start) for window in minibatch.windows]


@pytest.mark.parametrize("composition", ["mixed_speaker", "same_speaker"])
def test_a_minibatch_is_that_of_its_update_and_number(data: Path, composition: str) -> None:
    config = Config(**(SMALL | {"batch_composition": composition}))
    minibatches = training_minibatches(data, config)
    found = minibatches[12, 3]
    expected = windows_heard(data, config, 12, 3)
    assert found.number == 3
    assert described(minibatches, found) == [(utterance, start) for utterance, start, _ in expected]
    assert found.samples.dtype == torch.int16
    np.testing.assert_array_equal(found.samples, np.stack([samples for _, _, samples in expected]))


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("count, number", [(1, 3), (2, 2), (3, 4)])
def test_shares_of_all_processes_are_all_minibatches_in_order(
    data: Path, workers: int, count: int, number: int
) -> None:
    """Whatever the number of workers and of processes, of a run that is resumed behind update 5."""
    minibatches, updates = training_minibatches(data), range(5, 9)
    heard: dict[tuple[int, int], Minibatch] = {}
    for rank in range(count):
        processes = Processes(rank, count, CPU)
        mine = [(update, j) for update in updates for j in range(number) if j % count == rank]
        loaded = list(ahead(minibatches, updates, number, processes, workers))
        assert [minibatch.number for minibatch in loaded] == [j for _, j in mine]
        heard |= dict(zip(mine, loaded, strict=True))
    assert sorted(heard) == [(update, j) for update in updates for j in range(number)]
    for key, minibatch in heard.items():
        expected = windows_heard(data, CONFIG, *key)
        assert described(minibatches, minibatch) == [(utterance, start) for utterance, start, _ in expected]
        assert minibatch.samples.dtype == torch.int16
        np.testing.assert_array_equal(minibatch.samples, np.stack([samples for _, _, samples in expected]))


def test_nothing_is_loaded_of_a_run_that_is_done(data: Path) -> None:
    assert list(ahead(training_minibatches(data), range(10, 10), 2, Processes(0, 1, CPU), 1)) == []


def test_workers_are_processes_that_leave_signals_to_the_trainer(data: Path) -> None:
    """They load the next minibatch after each was sent ctrl-C and SIGTERM, as a terminal or scheduler does."""

    class Identified(Minibatches):
        def __getitem__(self, key: tuple[int, int]) -> Minibatch:
            minibatch = super().__getitem__(key)
            return minibatch._replace(samples=torch.tensor(os.getpid()))

    base = training_minibatches(data)
    loaded = ahead(Identified(base.audio, base.sampler), range(50), 1, Processes(0, 1, CPU), 2)
    seen = [int(next(loaded).samples) for _ in range(4)]
    pids = set(seen)
    assert len(pids) == 2 and os.getpid() not in pids
    for pid in pids:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    assert seen + [int(minibatch.samples) for minibatch in loaded] == seen[:2] * 25


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_a_worker_is_said_without_its_traceback(
    data: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    # Python's collector closes the queues before torch can tell the workers to end, and then torch waits so long, in
    # seconds, for each of them.
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.1)

    class Gone(Minibatches):
        def __getitem__(self, key: tuple[int, int]) -> Minibatch:
            raise UserError(f"the disk of update {key[0]} is gone:\nbring it back")

    base = training_minibatches(data)
    with pytest.raises(UserError) as caught:
        next(ahead(Gone(base.audio, base.sampler), range(4, 9), 1, Processes(0, 1, CPU), workers))
    assert str(caught.value) == "the disk of update 4 is gone:\nbring it back"
    del caught
    gc.collect()
    for worker in multiprocessing.active_children():
        worker.kill()


def test_workers_end_with_the_iteration(data: Path) -> None:
    """They heed no signal, so they must not be forgotten."""
    loaded = ahead(training_minibatches(data), range(50), 1, Processes(0, 1, CPU), 2)
    before = set(multiprocessing.active_children())
    next(loaded)
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    del loaded
    assert not any(worker.is_alive() for worker in workers)


def test_without_workers_nothing_is_loaded_before_it_is_asked_for(data: Path) -> None:
    class Counted(Minibatches):
        asked = 0

        def __getitem__(self, key: tuple[int, int]) -> Minibatch:
            self.asked += 1
            return super().__getitem__(key)

    base = training_minibatches(data)
    counted = Counted(base.audio, base.sampler)
    loaded = ahead(counted, range(50), 1, Processes(0, 1, CPU), 0)
    assert counted.asked == 0
    next(loaded), next(loaded)
    assert counted.asked == 2


def test_waveform_is_exact(data: Path) -> None:
    """Every int16 is a multiple of 2^-15 that float32 holds."""
    values = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16)
    heard = waveform(values.view(2, -1), CPU)
    assert heard.dtype == torch.float32 and heard.shape == (2, 32768)
    np.testing.assert_array_equal(heard.double().flatten() * 32768, np.arange(-32768, 32768))
    assert heard.min() == -1 and heard.max() < 1


def test_corpus_is_what_its_files_say(data: Path) -> None:
    """The reading by hand, which the tests above rest on, and PackedAudio's are the same."""
    audio = PackedAudio(data)
    by_hand = packed_samples(data)
    assert list(audio.utterances) == list(by_hand)
    for i, samples in enumerate(by_hand.values()):
        np.testing.assert_array_equal(audio[i], samples)
