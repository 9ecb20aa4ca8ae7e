"""Decode a data directory's audio once, to memory-mapped int16 shards (see cpc_speech.packed).

    python -m data_prep.pack DATA_DIR [--nj N] [--shard-gib 4]

Writes audio.<shard>.i16, utt2num_samples, utt2dur (now exact) and, last, audio.scp. It is all or nothing:
after bad files, a full disk or ctrl-C no audio.* is left, and the same command begins anew.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np

from cpc_speech.audio import AudioError, AudioInfo, decode, wav_path
from cpc_speech.datadir import read_table, write_table
from cpc_speech.errors import UserError, refuse, run
from cpc_speech.files import atomic_write, need_room
from cpc_speech.packed import DTYPE, SAMPLE_RATE
from cpc_speech.progress import Progress

log = logging.getLogger(__name__)


def pack(data_dir: str | Path, nj: int = 1, shard_bytes: int = 4 << 30) -> None:
    """Pack ``data_dir`` with ``nj`` decoders; a shard is closed before it would pass ``shard_bytes``.

    Raises:
        UserError: bad files, each with its reason, or a disk that is too small.
    """
    data_dir = Path(data_dir)
    wavs = read_table(data_dir / "wav.scp")
    if not wavs:
        raise UserError(f"{data_dir / 'wav.scp'} is empty: scan the corpus again")
    _remove_audio(data_dir)
    need_room(data_dir, _bytes_needed(data_dir, wavs))
    try:
        starts, num_samples = _write_shards(data_dir, wavs, nj, shard_bytes)
        write_table(data_dir / "utt2num_samples", num_samples)
        write_table(data_dir / "utt2dur", {key: samples / SAMPLE_RATE for key, samples in num_samples.items()})
        write_table(data_dir / "audio.scp", starts)
    except BaseException:
        _remove_audio(data_dir)
        raise


def _write_shards(
    data_dir: Path, wavs: dict[str, str], nj: int, shard_bytes: int
) -> tuple[dict[str, str], dict[str, int]]:
    """Decode all and write the shards; returns the entries of audio.scp and of utt2num_samples."""
    problems: list[str] = []
    formats: Counter[AudioInfo] = Counter()
    starts: dict[str, str] = {}
    num_samples: dict[str, int] = {}
    shards = 0
    with ExitStack() as shard:  # holds the open shard; closing it gives the file its name
        file: IO[bytes] | None = None
        offset = 0  # samples in the open shard
        for utterance, decoded in zip(wavs, _decode_all(wavs, nj), strict=True):
            if isinstance(decoded, str):
                problems.append(f"{utterance}: {decoded}")
            if isinstance(decoded, str) or problems:  # the rest is still read, to list every bad file
                continue
            samples, info = decoded
            if file is None or (offset + len(samples)) * DTYPE.itemsize > shard_bytes:
                shard.close()
                name = f"audio.{shards:03d}.i16"
                file, offset, shards = shard.enter_context(atomic_write(data_dir / name, "wb")), 0, shards + 1
            file.write(samples.astype(DTYPE, copy=False).tobytes())
            starts[utterance], num_samples[utterance] = f"{name}:{offset}", len(samples)
            offset += len(samples)
            formats[info] += 1
        refuse(problems, data_dir / "wav.scp")
    resampled = {f"{rate} Hz": count for (rate, _), count in sorted(formats.items()) if rate != SAMPLE_RATE}
    log.info(
        "%s: packed %d utterances, %.2f h, in %d shard(s); averaged to mono: %d; resampled: %s",
        data_dir, len(starts), sum(num_samples.values()) / SAMPLE_RATE / 3600, shards,
        sum(count for info, count in formats.items() if info.channels > 1), resampled or 0,
    )  # fmt: skip
    return starts, num_samples


def _decode_all(wavs: dict[str, str], nj: int) -> Iterator[tuple[np.ndarray, AudioInfo] | str]:
    """Samples and format of each file, or what is wrong with it, in order.

    Threads suffice: libsndfile and soxr do their work outside Python's lock. Only a few files are decoded
    ahead, so memory does not grow with the corpus.
    """
    with ThreadPoolExecutor(nj) as pool:
        ahead: deque[Future[tuple[np.ndarray, AudioInfo] | str]] = deque()
        for entry in Progress(wavs.values(), desc="packing", unit="file"):
            ahead.append(pool.submit(_decode, entry))
            if len(ahead) > 2 * nj:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _decode(entry: str) -> tuple[np.ndarray, AudioInfo] | str:
    try:
        return decode(wav_path(entry))
    except AudioError as error:
        return str(error)


def _bytes_needed(data_dir: Path, utterances: Iterable[str]) -> int:
    durations = read_table(data_dir / "utt2dur")
    if missing := [utterance for utterance in utterances if utterance not in durations]:
        raise UserError(f"{data_dir / 'utt2dur'}: {missing[0]} of wav.scp is missing; scan the corpus again")
    try:
        return int(sum(map(float, durations.values())) * SAMPLE_RATE * DTYPE.itemsize)
    except ValueError as error:
        raise UserError(f"{data_dir / 'utt2dur'}: {error}; scan the corpus again") from error


def _remove_audio(data_dir: Path) -> None:
    """Remove the index first, so that shards never outlive their claim to be complete, then the shards."""
    (data_dir / "audio.scp").unlink(missing_ok=True)
    for path in data_dir.glob("audio.[0-9]*.i16*"):  # also what a killed run left under a temporary name
        path.unlink()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument(
        "--nj", type=int, default=os.cpu_count() or 1, help="files decoded at a time (default: all cores)"
    )
    parser.add_argument("--shard-gib", type=float, default=4.0, help="largest shard, in GiB (default: 4)")
    args = parser.parse_args(argv)
    if args.nj < 1 or args.shard_gib <= 0:
        parser.error("--nj and --shard-gib must be positive")
    pack(args.data_dir, args.nj, int(args.shard_gib * (1 << 30)))


if __name__ == "__main__":
    run(main)
