r"""Train and probe what is missing of Table 2: each row of it is a configuration, with each of the seeds.

    python local/ablations.py --conf conf ../shared/conf/ablations --base conf/cpc.yaml --data data/mini --exp exp \
        --rows "mixed_speaker same_speaker@1,2,3 steps_2" --seeds 1 --set updates=20000

A row is a file <row>.yaml of the first folder of --conf that has it, and holds what differs from --base. Its
experiment is exp/ablations/<row>.seed<S>, a link to exp/<row> where stage 4 has trained the very same model to the end
(every value in config.yaml is the same, and train.json is there). What is printed is kept in exp/ablations/log/. With
--gpus N, N are run at a time, each on a GPU of its own; with --device cpu, on the CPU.

A failure does not stop the others; it is reported at the end. The same command goes on after ctrl-C, SIGTERM, a kill
or a failure: training resumes, and a probe counts if it is newer than the training, the labels and the splits, and was
made with the same --probe-seeds.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import fcntl
import itertools
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cpc_speech.config import Config, load_config
from cpc_speech.errors import UserError, run
from cpc_speech.signals import stop_signals

log = logging.getLogger(__name__)

POLL = 0.2  # seconds between two looks at the steps under way
QUIET = {"TQDM_MININTERVAL": "30"}  # seconds between two lines that a progress bar leaves in a log
STEPS = {"train": "training", "probe": "probe"}  # modules of cpc_speech, and what they do


@dataclass
class Run:
    """A row with a seed: where it is kept, and the steps that are still to be done."""

    name: str
    exp: Path
    log: Path
    missing: deque[list[str]] = field(default_factory=deque)  # commands

    @property
    def step(self) -> str:
        return STEPS[self.missing[0][2].rpartition(".")[2]]


@dataclass
class Started:
    """A step that is being done."""

    run: Run
    process: subprocess.Popen
    place: dict[str, str]  # environment variables that say where
    at: float


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conf", type=Path, nargs="+", required=True, metavar="DIR", help="where rows are looked for")
    parser.add_argument("--base", type=Path, required=True, help="the configuration that rows differ from")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--exp", type=Path, required=True, help="the folder of the experiments")
    parser.add_argument("--rows", required=True, help='as "mixed_speaker@1,2,3 steps_2"')
    parser.add_argument("--seeds", default="1", help="as 1,2,3: of rows that have none of their own")
    parser.add_argument("--probe-seeds", default="1", help="as 1,2,3: each probe is fitted with each of them")
    parser.add_argument("--probe-passes", type=int, metavar="N", help="as cpc_speech.probe takes them")
    parser.add_argument("--gpus", type=int, default=0, metavar="N", help="run N at a time, each on a GPU of its own")
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto", help="cpu: N at a time on the CPU")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="over all configurations")
    parser.add_argument("--layer", choices=("c", "z"), default="c", help="what is probed; Table 2 is of c")
    args = parser.parse_args(argv)

    wanted = read_rows(args.rows, args.seeds)
    files = {row: row_file(row, args.conf) for row, _ in wanted}
    probe_seeds = read_seeds(args.probe_seeds)
    places = gpus(args.gpus, os.environ.get("CUDA_VISIBLE_DEVICES"), args.device)
    with alone(args.exp / "ablations") as lock:
        runs = []
        for row, seed in wanted:
            configs, overrides = [args.base, files[row]], [*args.set, f"seed={seed}"]
            exp = place(args.exp, row, load_config(configs, overrides))
            one = Run(exp.name, exp, exp.parent / "log" / f"{exp.name}.log")
            one.missing.extend(missing(exp, args.data, configs, overrides, args.layer, probe_seeds, args.probe_passes))
            runs.append(one)
        todo = [one for one in runs if one.missing]
        log.info("%d experiments, %d of them done before", len(runs), len(runs) - len(todo))
        failed = drive(todo, places, lock)
    if failed:
        raise UserError(
            f"{len(failed)} of {len(runs)} experiments failed; the others are done. Once it is mended, run the same "
            "command again:\n" + "\n".join(failed)
        )


def read_rows(text: str, seeds: str) -> list[tuple[str, int]]:
    """Rows and seeds of ``--rows`` and ``--seeds``, each pair once; all rows with their first seed before any with its
    second, so that the table is soon complete.
    """
    asked: dict[str, list[int]] = {}
    for word in text.split():
        row, _, own = word.partition("@")
        asked.setdefault(row, []).extend(read_seeds(own or seeds))
    pairs = {row: list(dict.fromkeys(numbers)) for row, numbers in asked.items()}
    rounds = itertools.zip_longest(*([(row, number) for number in numbers] for row, numbers in pairs.items()))
    return [pair for one in rounds for pair in one if pair]


def row_file(row: str, folders: Sequence[Path]) -> Path:
    """The row's configuration.

    Raises:
        UserError: no folder has it; those that they have are named.
    """
    for folder in folders:
        if (folder / f"{row}.yaml").is_file():
            return folder / f"{row}.yaml"
    there = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")} - {"cpc"})
    places = ", ".join(map(str, folders))
    raise UserError(f"there is no {row}.yaml in {places}; write it, or choose of: {', '.join(there)}")


def read_seeds(text: str) -> list[int]:
    """Numbers separated by commas or spaces."""
    try:
        seeds = [int(word) for word in dict.fromkeys(text.replace(",", " ").split())]
    except ValueError:
        seeds = []
    if not seeds:
        raise UserError(f"seeds {text!r}: write whole numbers, as 1,2,3")
    return seeds


def gpus(count: int, visible: str | None, device: str = "auto") -> list[dict[str, str]]:
    """The environment of each of the runs that go on at one time: one GPU each, of those that ``visible`` grants; or
    the CPU for all.

    Raises:
        UserError: fewer are granted, or there.
    """
    if not count:
        return [{}]
    if device == "cpu":
        return [{}] * count
    numbers = visible.split(",") if visible else [str(i) for i in range(count)]
    if len(numbers) < count:
        raise UserError(f"--gpus {count}: CUDA_VISIBLE_DEVICES={visible} grants {len(numbers)}; ask for as many")
    import torch  # which takes seconds

    if (there := torch.cuda.device_count()) < count:  # on one that is not there, a run would use the CPU
        raise UserError(f"--gpus {count}: {there} are visible here; ask for as many, or insist on --device cpu")
    return [{"CUDA_VISIBLE_DEVICES": number} for number in numbers[:count]]


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[int]:
    """Let no two drivers write the same experiments. What a driver starts must hold the yielded lock, a file's number,
    as well: a training that outlives a driver that was killed must not be begun a second time beside itself.

    Raises:
        UserError: another holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"{folder} is being worked on, by this script or by a training that it started before it was killed; "
                "wait for that, or end it"
            ) from None
        yield file.fileno()


def place(exp: Path, row: str, config: Config) -> Path:
    """Where the experiment is kept: a folder, or a link to ``exp/row`` if that very model was trained to the end."""
    own, other = exp / "ablations" / f"{row}.seed{config.seed}", exp / row
    if own.is_symlink():  # what it names may have been trained anew, otherwise
        own.unlink()
    if not (own.exists() and any(own.iterdir())) and trained(other, config):
        if own.exists():
            own.rmdir()
        own.symlink_to(Path("..") / row)
    return own


def trained(exp: Path, config: Config) -> bool:
    """Whether this very model was trained to the end there."""
    if not (exp / "train.json").exists():
        return False
    begun = load_config([exp / "config.yaml"])
    return config.settled_as(begun) == begun


def missing(
    exp: Path,
    data: Path,
    configs: Sequence[Path],
    overrides: Sequence[str],
    layer: str,
    seeds: list[int],
    passes: int | None = None,
) -> Iterator[list[str]]:
    """The commands that are still to be run."""
    python, about = [sys.executable, "-m"], ["--data", str(data), "--exp", str(exp)]
    is_trained = trained(exp, load_config(configs, overrides))
    if not is_trained:  # also where it was begun with another configuration: train says so
        given = [word for file in configs for word in ("--config", str(file))]
        yield [*python, "cpc_speech.train", *given, *about, *overrides]
    probe = exp / "probes" / f"{layer}.phone.linear.json"
    inputs = [exp / "train.json", data / "phones.ark", data / "splits" / "train.list"]
    if not is_trained or _time(probe) < max(map(_time, inputs)) or _probed_with(probe) != seeds:
        with_seeds = ["--seed", *map(str, seeds), *([] if passes is None else ["--passes", str(passes)])]
        yield [*python, "cpc_speech.probe", "--task", "phone", "--representation", layer, *with_seeds, *about]


def _probed_with(probe: Path) -> list[int] | None:
    """The seeds of a probe that was made; None of one that was not."""
    return json.loads(probe.read_text(encoding="utf-8")).get("probe_seeds") if probe.exists() else None


def _time(path: Path) -> float:
    """When a file was written; 0, before all others, where it is not there."""
    return path.stat().st_mtime if path.exists() else 0.0


def drive(runs: Sequence[Run], places: Sequence[dict[str, str]], lock: int) -> list[str]:
    """Do all that is missing, as many runs at a time as there are places; returns a line for each run that failed.

    Raises:
        KeyboardInterrupt: after ctrl-C or SIGTERM, once the steps under way have stopped, to be resumed later.
    """
    waiting, free, going, failed = deque(runs), deque(places), list[Started](), list[str]()
    with stop_signals() as stopped:
        while waiting or going:
            while waiting and free:
                going.append(start(waiting.popleft(), free.popleft(), lock))
            time.sleep(POLL)
            if stopped:
                end(going, stopped)
                raise KeyboardInterrupt
            for ended in [started for started in going if started.process.poll() is not None]:
                going.remove(ended)
                free.append(ended.place)
                if failure := outcome(ended):
                    failed.append(failure)
                elif ended.run.missing:
                    waiting.appendleft(ended.run)
                log.info("%d of %d experiments left", len(waiting) + len(going), len(runs))
    return failed


def start(run: Run, place: dict[str, str], lock: int) -> Started:
    """Start the run's next step, its output going to the end of its log."""
    command = run.missing[0]
    log.info("%s: %s starts", run.name, run.step)
    run.log.parent.mkdir(parents=True, exist_ok=True)
    with open(run.log, "ab") as file:
        file.write(f"# {datetime.datetime.now():%F %T} {shlex.join(command)}\n".encode())
        file.flush()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, pass_fds=[lock],
            env=os.environ | QUIET | place,
        )  # fmt: skip
    return Started(run, process, place, time.monotonic())


def outcome(ended: Started) -> str:
    """A line on a step that failed; nothing of one that succeeded, which is struck off the run's list."""
    one, status = ended.run, ended.process.returncode
    if status:
        log.error("%s: %s failed with status %d", one.name, one.step, status)
        return f"  {one.name}: {one.step} failed with status {status}; {one.log} ends: {_last_line(one.log)}"
    log.info("%s: %s took %.1f min", one.name, one.step, (time.monotonic() - ended.at) / 60)
    one.missing.popleft()
    return ""


def _last_line(path: Path) -> str:
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 4000))
        lines = file.read().decode(errors="replace").replace("\r", "\n").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "")


def end(going: Sequence[Started], signals: list[int]) -> None:
    """Stop these steps as ctrl-C does: a training leaves a checkpoint. A further signal to us kills them."""
    for started in going:
        started.process.send_signal(signal.SIGINT)
    before = len(signals)
    while any(started.process.poll() is None for started in going):
        if len(signals) > before:
            for started in going:
                started.process.kill()
        time.sleep(POLL)


if __name__ == "__main__":
    run(main)
