"""A model's features of any audio, as other toolkits read them.

    cpc-speech extract exp/same_speaker data/dev data/dev_same_speaker          # a Kaldi data directory to another
    cpc-speech extract exp/same_speaker recordings/ features/ --format npy
    cpc-speech extract exp/same_speaker data/train feats --nj 4 --job 3         # the third part of four; any order
    torchrun --nproc-per-node 4 -m cpc_speech extract exp/same_speaker data/train feats    # the same, all four

Reads a Kaldi data directory (wav.scp, segments, utt2spk), folders of audio, or audio files, of any length in constant
memory; whatever soundfile reads, at any rate (resampled to 16 kHz), channels averaged. After a kill the same command
goes on where it was, and leaves the same archive. What cannot be used is listed in OUT/feats.dropped with the reason,
and is an error at the end unless --max-dropped allows it; the rest is written nevertheless, and the same command tries
the dropped ones again. See docs/features.md, and docs/{kaldi,espnet,lhotse}.md for how to train on the result.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cpc_speech import machine
from cpc_speech.audio import AudioError, AudioReader
from cpc_speech.checkpoint import digest_of
from cpc_speech.config import CHOICES
from cpc_speech.errors import UserError, require, run, writing
from cpc_speech.feature_dir import DROPPED, FORMATS, Store, check_names, make_store, write_tables
from cpc_speech.features import represented
from cpc_speech.files import atomic_write
from cpc_speech.journal import Journal, lock, read_journal
from cpc_speech.loader import waveform
from cpc_speech.pools import BLOCK, Heard, ahead, pools, stamp
from cpc_speech.pretrained import read_model
from cpc_speech.processes import DEVICES, alone
from cpc_speech.progress import Progress
from cpc_speech.representations import CPCFrames
from cpc_speech.segments import Segment, read_segments
from cpc_speech.streaming import Stream

OPTIONS = "extract.json"  # of OUT: the Options it was begun with
_DIGESTS = ("weights", "utterances")  # of Options: values that are not worth showing

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What the frames depend on: kept in OUT/extract.json, so that one folder never holds features of two kinds."""

    weights: str  # digest
    layer: str
    precision: str
    frames: str
    format: str
    nj: int
    utterances: str  # digest of their ids, recordings and times


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="experiment, exported model or checkpoint: what cpc_speech.load takes")
    parser.add_argument("input", nargs="+", type=Path, help="Kaldi data directory, folders of audio, or audio files")
    parser.add_argument("out", type=Path, help="folder that is written; the same command goes on in it")
    parser.add_argument("--format", choices=FORMATS, default="kaldi", help="default: kaldi")
    parser.add_argument("--layer", default="c", metavar="c|z|both|c1|c2|...",
                        help="context (default), encoder, z and c side by side, or a layer of the context")  # fmt: skip
    parser.add_argument("--which", choices=("last", "best"), default="last",
                        help="checkpoint of an experiment (last), or the best by the loss on dev")  # fmt: skip
    parser.add_argument("--precision", choices=CHOICES["precision"], default="auto",
                        help="of the encoder's products: auto (default) is bf16 where the hardware multiplies it, "
                        "else fp32; what is written is float32")  # fmt: skip
    parser.add_argument("--frames", choices=("exact", "pad"),
                        help="exact (default): one for each whole 160 samples; pad (default with --format lhotse): "
                        "repeat the last where lhotse rounds up")  # fmt: skip
    parser.add_argument(
        "--device", choices=DEVICES, default="auto", help="default: a GPU if there is one, else the CPU"
    )
    parser.add_argument("--cmvn", action="store_true", help="Kaldi's statistics of each speaker, in cmvn.{ark,scp}")
    parser.add_argument("--max-dropped", type=int, default=0, metavar="N", help="utterances that may be left out")
    parser.add_argument("--nj", type=int, default=1, help="number of parts that the utterances are divided into")
    parser.add_argument("--job", type=int, help="which part this process does, from 1; whichever ends last joins them")
    args = parser.parse_args(argv)
    if args.job is None and {"RANK", "WORLD_SIZE"} <= os.environ.keys():  # torchrun's
        args.nj, args.job = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"]) + 1
    if args.job is None and args.nj != 1:
        parser.error("--nj needs --job")
    args.job = args.job or 1
    if not 1 <= args.job <= args.nj:
        parser.error("--job goes from 1 to --nj")
    if args.cmvn and args.format != "kaldi":
        parser.error("--cmvn is Kaldi's: it needs --format kaldi")
    if args.format == "lhotse":
        require("lhotse", "lhotse")  # not only after hours
    with writing(args.out):
        extract(args)


def extract(args: argparse.Namespace) -> None:
    """Do one job of ``main``'s command line and, if the others are done, join all of them."""
    out: Path = args.out
    if out.resolve() in [path.resolve() for path in args.input]:
        raise UserError(f"{out}: OUT must be another folder than the one that is read")
    segments = read_segments(args.input)
    if args.format != "kaldi":
        check_names(segments)
    source = args.input[0] if (args.input[0] / "wav.scp").exists() else None
    model, _ = read_model(args.model, args.which)
    device = own_device(args.device)
    precision = machine.resolve(args.precision, device)
    if args.precision == "auto" and (out / OPTIONS).exists():  # begun, perhaps on another machine
        precision = json.loads((out / OPTIONS).read_text(encoding="utf-8")).get("precision", precision)
    representation = CPCFrames(args.layer, model, args.layer, precision=precision)
    frames = args.frames or ("pad" if args.format == "lhotse" else "exact")
    options = Options(
        weights=digest_of(representation.model), layer=args.layer, precision=precision, frames=frames,
        format=args.format, nj=args.nj,
        utterances=hashlib.sha256(repr([tuple(segment) for segment in segments]).encode()).hexdigest(),
    )  # fmt: skip
    settle(out, options, args.model)

    machine.set_up(precision, device)
    machine.set_matmul_precision("fp32")  # the recurrence's, always: --precision is the encoder's, by autocast
    representation.model.to(device)
    parts = [[segments[i] for i in part] for part in np.array_split(np.arange(len(segments)), args.nj)]
    suffixes = [f".{job}" if args.nj > 1 else "" for job in range(1, args.nj + 1)]
    part, suffix = parts[args.job - 1], suffixes[args.job - 1]
    with closing(Journal(out / f"extract{suffix}.jsonl")) as journal:
        check_audio(out, part, journal)
        own, archive = {segment.utterance for segment in part}, f"feats{suffix}.ark"
        with closing(make_store(out, args.format, archive, own, journal.records, representation.dim)) as store:
            represent_all(part, representation, store, journal, frames == "pad")

    with open(out / OPTIONS, "r+b") as turn:  # one at a time, so that the last one sees all journals
        lock(turn)
        journals = [read_journal(out / f"extract{suffix}.jsonl") for suffix in suffixes]
        records = {key: value for journal in journals for key, value in journal.items()}
        if missing := len(segments) - len(records):
            log.info("%s: this part is done; %d utterances of other parts are not yet", out, missing)
            return
        dropped = write_tables(out, source, segments, records, args.format, representation.dim, args.cmvn)
    log.info("%s: features of %d utterances, %d dropped", out, len(segments) - len(dropped), len(dropped))
    if len(dropped) > args.max_dropped:
        first = "\n  ".join(f"{utterance}: {dropped[utterance]}" for utterance in sorted(dropped)[:10])
        raise UserError(
            f"{len(dropped)} of {len(segments)} utterances gave no features, listed in {out / DROPPED}:\n  {first}\n"
            f"The others are written. Mend these and run the same command again, or accept it: "
            f"--max-dropped {len(dropped)}"
        )


def own_device(device: str = "auto") -> torch.device:
    """torchrun's processes share out the GPUs of a machine, several to one where there are fewer; or the CPU."""
    if alone(device).device.type == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())


def settle(out: Path, options: Options, model: str) -> None:
    """Write ``out/extract.json``, or check that what is in ``out`` was made with the same options.

    Raises:
        UserError: it was not, and every difference is named; or ``out`` holds somebody else's files.
    """
    path, now = out / OPTIONS, dataclasses.asdict(options)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; name the folder that features are written to last, after what is read")
    held = sorted(other.name for other in out.iterdir()) if out.exists() else []  # before another job may write path
    if not path.exists():
        if strange := [name for name in held if not name.startswith(f"{path.name}.tmp.")]:
            raise UserError(
                f"{out}: holds other files than features of this command ({', '.join(strange[:3])}"
                f"{', ...' if len(strange) > 3 else ''}); name an OUT that is not there yet, or is empty"
            )
        with atomic_write(path) as file:
            json.dump({"model": model, **now}, file, indent=2)
            file.write("\n")
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = [key for key in now if before.get(key) != now[key]]
    if changed:
        said = [f"other {key}" if key in _DIGESTS else f"{key} was {before.get(key)}, is {now[key]}" for key in changed]
        raise UserError(f"{out} holds other features ({'; '.join(said)}); take another OUT, or remove it")


def check_audio(out: Path, segments: Sequence[Segment], journal: Journal) -> None:
    """Raise UserError where audio has changed since its frames were written; audio that is gone may be."""
    written = ((s, journal.records[s.utterance]) for s in segments if s.utterance in journal.records)
    known = ((s, record["file"]) for s, record in written if "file" in record)  # dropped ones have none
    if changed := [s.utterance for s, before in known if stamp(s.path) not in (None, before)]:
        raise UserError(
            f"{out}: the audio of {len(changed)} utterances, first {changed[0]}, was changed since their features were "
            "written; take another OUT, or remove it"
        )


def represent_all(
    segments: Sequence[Segment], representation: CPCFrames, store: Store, journal: Journal, pad: bool
) -> None:
    """Write the frames of all utterances that the journal lacks; those dropped before are tried again, first."""
    again = [s for s in segments if "dropped" in journal.records.get(s.utterance, {})]
    todo = [s for s in segments if s.utterance not in journal.records]
    done = len(segments) - len(again) - len(todo)
    with Progress(total=len(segments), initial=done, unit="utt", desc="features") as progress:
        for pool in ahead(chain(pools(again, pad), pools(todo, pad))):
            records = {}
            for heard, frames in represent(pool, representation):
                if heard.samples is None:
                    frames = _followed(frames, heard, progress)
                records[heard.segment.utterance] = _write(heard, frames, store, representation.dim)
            store.sync()
            journal.add(records)
            progress.update(len(pool))


def represent(pool: Sequence[Heard], representation: CPCFrames) -> Iterator[tuple[Heard, Iterable[Tensor]]]:
    """Each utterance with its frames, (T_i, D) float32, in as many pieces as it takes."""
    held = {heard.segment.utterance: heard.samples for heard in pool if heard.samples is not None}
    names, samples = list(held), list(held.values())
    lengths = np.array([len(own) for own in samples])
    frames = {names[i]: rows for i, rows in represented(samples, lengths, representation)}
    for heard in pool:
        name = heard.segment.utterance
        yield heard, [frames.pop(name)] if name in frames else _streamed(heard, representation)


def _streamed(heard: Heard, representation: CPCFrames) -> Iterator[Tensor]:
    segment, stream = heard.segment, Stream(representation)
    with AudioReader(segment.path, segment.start, segment.end) as reader:
        for samples in ahead(reader.blocks(BLOCK)):
            yield stream.push(waveform(torch.from_numpy(samples), stream.device))
    yield stream.flush()


def _followed(frames: Iterable[Tensor], heard: Heard, progress: Progress) -> Iterator[Tensor]:
    """Pass the frames on, and show the progress within an utterance that takes minutes."""
    done = 0
    for rows in frames:
        done += len(rows)
        progress.set_postfix_str(f"{done / heard.frames:.0%} of {heard.segment.utterance}")
        yield rows
    progress.set_postfix_str("")


def _write(heard: Heard, frames: Iterable[Tensor], store: Store, dim: int) -> dict[str, Any]:
    """Write an utterance, its last frame repeated where more are due; returns its record for the journal: where it
    stands, or why it was dropped."""
    if "dropped" in heard.record:
        return heard.record
    path, due, count, last = heard.segment.path, heard.record["frames"], 0, np.empty((0, dim), np.float32)
    try:
        with store.matrix(heard.segment, due, dim) as write:
            for block in frames:
                rows = block.cpu().numpy()
                if not np.isfinite(rows).all():
                    raise AudioError(path, "gives frames that are not finite; check it, and the model")
                write(rows)
                count += len(rows)
                last = rows[-1:] if len(rows) else last
            if count != heard.frames:
                raise AudioError(path, f"gave {count} frames where its length promised {heard.frames}")
            write(last.repeat(due - count, 0))
    except AudioError as error:
        return {"dropped": str(error)}
    return {**heard.record, "place": store.place}


if __name__ == "__main__":
    run(main)
