"""Figure 2: frames of a few speakers in the plane, by t-SNE (van der Maaten and Hinton, 2008).

    python -m cpc_speech.tsne --data data/mini --exp exp/mixed_speaker                        # of c_t
    python -m cpc_speech.tsne --data data/mini --exp exp/baselines --representation mfcc      # of the same frames

Shown are the first 10 speakers of the test split, in C order, who have the 200 labelled frames wanted of each; the
frames are drawn by --seed from all test utterances of a speaker, so that every representation is shown by the same
ones. With fewer such speakers, all of them are shown. Values are standardised over the frames shown, so that none
counts for more than another because of its unit; the map starts from the first two principal components.

Leaves --exp/tsne.<representation>.json. Needs scikit-learn.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cpc_speech.datadir import read_split
from cpc_speech.errors import UserError, require, run
from cpc_speech.features import represented
from cpc_speech.files import atomic_write
from cpc_speech.packed import PackedAudio
from cpc_speech.phones import read_symbols
from cpc_speech.progress import Progress
from cpc_speech.provenance import provenance
from cpc_speech.representations import Representation, make_representation
from cpc_speech.tasks import Task, labels_by, load_task

log = logging.getLogger(__name__)


class Frame(NamedTuple):
    """Frame ``frame`` (10 ms each) of the utterance with this index in the packed audio."""

    utterance: int
    frame: int


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--exp", required=True, type=Path)
    parser.add_argument("--representation", choices=("c", "z", "random", "mfcc", "mfcc39"), default="c")
    parser.add_argument("--config", action="append", default=[], help="of the untrained network (random)")
    parser.add_argument("--speakers", type=int, default=10, help="how many (default: %(default)s, as in the paper)")
    parser.add_argument("--frames", type=int, default=200, help="of each speaker (default: %(default)s)")
    parser.add_argument("--perplexity", type=float, default=30.0,
                        help="about how many neighbours a frame has (default: %(default)g)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the frames and of the map")
    args = parser.parse_args(argv)
    if args.speakers < 1 or args.frames < 1:
        parser.error("--speakers and --frames are 1 or more")
    require("sklearn.manifold", "analysis")  # before the frames are computed

    audio = PackedAudio(args.data, read_split(args.data, "test"))
    task = load_task("phone", args.data, audio, {"test": list(range(len(audio)))})
    symbols = read_symbols(args.data)
    frames = choose(task, audio.speakers, args.speakers, args.frames, args.seed)
    representation, facts = make_representation(args.representation, args.exp, args.config, "utterance")
    values = extract(representation, audio, frames)
    places = embed(values, args.perplexity, args.seed)
    points = {
        "x": [round(float(x), 3) for x in places[:, 0]],
        "y": [round(float(y), 3) for y in places[:, 1]],
        "speaker": [audio.speakers[i] for i, _ in frames],
        "phone": [symbols[1 + task.targets[i][t]] for i, t in frames],
        "utterance": [audio.utterances[i] for i, _ in frames],
        "frame": [t for _, t in frames],
    }
    with atomic_write(args.exp / f"tsne.{args.representation}.json") as file:
        json.dump(
            {
                "representation": args.representation, "split": "test", "labels": labels_by(args.data),
                "frames_a_speaker": args.frames, "perplexity": args.perplexity, "tsne_seed": args.seed,
                **facts, **provenance(), "points": points,
            },
            file,
        )  # fmt: skip


def choose(task: Task, speakers: Sequence[str], number: int, frames: int, seed: int) -> list[Frame]:
    """``frames`` labelled frames of each of ``number`` test speakers: by speaker, then in the order of the audio.

    Args:
        speakers: of every utterance.

    Raises:
        UserError: nobody has so many.
    """
    utterances: dict[str, list[int]] = {}
    for i in task.splits["test"]:
        utterances.setdefault(speakers[i], []).append(i)
    labelled = {name: sum(int((task.targets[i] >= 0).sum()) for i in own) for name, own in utterances.items()}
    enough = [speaker for speaker in sorted(labelled) if labelled[speaker] >= frames]
    if not enough:
        most = max(labelled.values())
        raise UserError(f"no test speaker has {frames} labelled frames, the most are {most}; ask for fewer: --frames")
    if len(enough) < number:
        log.warning("of the %d speakers wanted, the %d with %d labelled frames are shown", number, len(enough), frames)
    rng = np.random.default_rng(seed)
    chosen: list[Frame] = []
    for speaker in enough[:number]:  # whose frames alone are listed: a corpus has millions
        own = [Frame(i, t) for i in utterances[speaker] for t in np.flatnonzero(task.targets[i] >= 0).tolist()]
        chosen += [own[row] for row in np.sort(rng.choice(len(own), frames, replace=False))]
    return chosen


def extract(representation: Representation, audio: PackedAudio, frames: list[Frame]) -> np.ndarray:
    """The values of these frames, (N, D) float32; only their utterances are computed, each as a whole."""
    rows: dict[int, list[int]] = {}
    for row, (i, _) in enumerate(frames):
        rows.setdefault(i, []).append(row)
    used = list(rows)
    values = np.empty((len(frames), representation.dim), np.float32)
    progress = Progress(total=len(used), unit="utt", desc=f"frames of {representation.name}")
    with progress:
        for j, x in represented([audio[i] for i in used], audio.num_samples[used], representation):
            i = used[j]
            values[rows[i]] = x[[frames[row].frame for row in rows[i]]].cpu().numpy()
            progress.update()
    if len(bad := np.flatnonzero(~np.isfinite(values).all(1))):
        i, t = frames[bad[0]]
        raise UserError(f"{audio.utterances[i]}: {representation.name} of frame {t} is not finite; check its audio")
    return values


def embed(values: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """Places in the plane, (N, 2) float32, of frames (N, D).

    Raises:
        UserError: the perplexity is not below the number of frames.
    """
    if not 0 < perplexity < len(values):
        raise UserError(f"--perplexity {perplexity:g}: it must be above 0 and below the {len(values)} frames there are")
    manifold, threads = require("sklearn.manifold", "analysis"), require("threadpoolctl", "analysis")
    log.info("t-SNE of %d frames; it takes half a minute or so", len(values))
    deviation = values.std(0)
    standardised = (values - values.mean(0)) / np.where(deviation > 0, deviation, 1)
    # Several threads would sum the forces in varying order: with one, the map is the same every time.
    with threads.threadpool_limits(1):
        return manifold.TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(standardised)


if __name__ == "__main__":
    run(main)
