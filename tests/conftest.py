"""Shared fixtures: a tiny packed data directory, written by hand as the contract of its files says."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

CPUINFO = Path("/proc/cpuinfo")
if "TEST_ON_GPU" not in os.environ:  # before CUDA is initialised: on GPUs, no two runs are equal bit for bit
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
# Before torch computes anything: "auto" is fp32 then, here and in what tests start, whatever the processor multiplies.
if CPUINFO.exists() and "avx512" in CPUINFO.read_text(encoding="utf-8"):
    os.environ["ATEN_CPU_CAPABILITY"] = "avx2"
collect_ignore = ["with_k2"]  # its environment is another: make test-k2
MakeData = Callable[..., Path]
PRECISIONS: list[tuple[Any, str]] = [
    (product, product.fp32_precision)
    for product in (
        torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
        torch.backends.cuda.matmul,
        torch.backends.cudnn.rnn,  # type: ignore[attr-defined]
        torch.backends.cudnn.conv,  # type: ignore[attr-defined]
    )
]


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """No bytes in the names of tests: archives hold the time, and all processes must have the same names."""
    return argname if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests come first, so that no process of pytest-xdist is left with one of them at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """Where a script runs the tests in the background, ctrl-C is ignored, and by all children: tests send it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """The machine may be training beside the tests, and sums in one order make equal runs equal bit for bit."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _matmul_precision() -> Iterator[None]:
    """Training and probing set the precision of products for the whole process: put it back, also after fixtures that
    were made before this one."""
    for product, precision in PRECISIONS:
        product.fp32_precision = precision
    yield
    for product, precision in PRECISIONS:
        product.fp32_precision = precision


def write_data(
    folder: Path, num_samples: Sequence[int], speakers: Sequence[str], *, test_every: int = 4, seed: int = 0
) -> Path:
    """A data directory of noise: utterance i of a speaker is in test where i % ``test_every`` is 0, in dev where 1.

    Each speaker's noise is filtered and scaled in its own way, so that speakers can be told apart. Phones are runs
    of 5 to 15 frames of 6 of the 41 classes; the first frame of every utterance is unlabelled.
    """
    from cpc_speech.kaldi import write_int_vectors

    rng = np.random.default_rng(seed)
    names = sorted(set(speakers))
    count: dict[str, int] = {}
    rows: dict[str, tuple[str, int]] = {}
    for speaker, samples in zip(speakers, num_samples, strict=True):
        rows[f"{speaker}-{count.get(speaker, 0):03d}"] = (speaker, samples)
        count[speaker] = count.get(speaker, 0) + 1
    (folder / "splits").mkdir(parents=True)
    start, lines, audio, phones = 0, [], [], []
    for utterance in sorted(rows):
        speaker, samples = rows[utterance]
        taps = 1 + 3 * names.index(speaker)
        noise = np.convolve(rng.normal(size=samples + taps - 1), np.ones(taps) / taps, mode="valid")
        audio.append((2000 * noise).astype("<i2"))
        lines.append(f"{utterance} audio.000.i16:{start}\n")
        start += samples
        labels = np.repeat(rng.choice([2, 3, 4, 10, 20, 41], samples // 160), rng.integers(5, 15, samples // 160))[
            : samples // 160
        ]
        labels[:1] = 0
        phones.append((utterance, labels.astype(np.int32)))
    np.concatenate(audio).tofile(folder / "audio.000.i16")
    (folder / "audio.scp").write_text("".join(lines))
    (folder / "utt2num_samples").write_text("".join(f"{u} {rows[u][1]}\n" for u in sorted(rows)))
    (folder / "utt2spk").write_text("".join(f"{u} {rows[u][0]}\n" for u in sorted(rows)))
    (folder / "corpus.json").write_text(json.dumps({"note": "noise for tests"}))
    for split, member in (("test", [0]), ("dev", [1]), ("train", range(2, test_every))):
        ids = [u for u in sorted(rows) if int(u[-3:]) % test_every in member]
        (folder / "splits" / f"{split}.list").write_text("".join(f"{u}\n" for u in ids))
    write_int_vectors(folder / "phones.ark", folder / "phones.scp", phones)
    return folder


@pytest.fixture
def make_data(tmp_path: Path) -> MakeData:
    """make_data(num_samples, speakers, ...) → the folder of a new data directory; see ``write_data``."""

    def make(num_samples: Sequence[int], speakers: Sequence[str], **options: int) -> Path:
        return write_data(tmp_path / "data", num_samples, speakers, **options)

    return make


@pytest.fixture
def data(make_data: MakeData) -> Path:
    """3 speakers with 12 utterances each of 1 to 1.5 s, most of them no multiple of 160 samples long."""
    lengths = [16000 + 160 * (7 * i % 50) + (0, 1, 80, 159)[i % 4] for i in range(36)]
    return make_data(lengths, [("ann", "bob", "eve")[i // 12] for i in range(36)])


@pytest.fixture
def few_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes make ten passes, however small the corpus: for tests that do not need the optimum."""
    from cpc_speech import probe  # which takes a second, and few tests want it

    monkeypatch.setattr(probe, "UPDATES", 1, raising=False)
