"""local/ablations.py, with an interpreter that pretends to train and to probe."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from patience import HANG

from cpc_speech.config import Config, load_config
from cpc_speech.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "local" / "ablations.py"

# What "python -m cpc_speech.train" and "... probe" leave; "plan" beside exp/ says what goes otherwise.
PRETENDER = """#!{python}
import json, os, signal, sys, time
from pathlib import Path
argv = sys.argv[3:]
exp = Path(argv[argv.index("--exp") + 1])
what = sys.argv[2].rpartition(".")[2] + " " + exp.name
top = Path({top!r})
with open(top / "calls", "a") as file:
    print(what, os.environ.get("CUDA_VISIBLE_DEVICES", ""), file=file)
plan = json.loads((top / "plan").read_text()).get(what)
print("pretends to", *sys.argv[1:], flush=True)
if plan == "fail":
    sys.exit("error: the disk is full")
if plan == "wait":
    (top / "waits").write_text(str(os.getpid()))
    try:
        time.sleep(1200)
    except KeyboardInterrupt:
        (top / "stopped").touch()
        sys.exit(130)
if plan == "meet":  # until there are two
    end = time.monotonic() + 1200
    (top / ("met " + what)).touch()
    while len(list(top.glob("met *"))) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    if time.monotonic() > end:
        sys.exit("error: alone")
if sys.argv[2] == "cpc_speech.train":
    from cpc_speech.config import load_config
    config = load_config(
        [argv[i + 1] for i, word in enumerate(argv) if word == "--config"], [word for word in argv if "=" in word]
    )
    exp.mkdir(parents=True, exist_ok=True)
    (exp / "config.yaml").write_text(config.dump())
    (exp / "train.json").write_text("{{}}")
else:
    assert (exp / "train.json").exists()
    (exp / "probes").mkdir(exist_ok=True)
    layer = argv[argv.index("--representation") + 1]
    seeds = [int(word) for word in argv[argv.index("--seed") + 1 : argv.index("--data")]]
    facts = {{"probe_seeds": seeds, "command": " ".join(argv)}}
    (exp / "probes" / (layer + ".phone.linear.json")).write_text(json.dumps(facts))
"""


class Driver:
    """The script, in a folder with conf/, data/ and exp/."""

    def __init__(self, top: Path) -> None:
        self.top, self.exp = top, top / "exp"
        self.folder = self.exp / "ablations"
        for name, text in {
            "conf/cpc": "updates: 5\nsteps: 4\n", "conf/mixed": "candidates: minibatch\n",
            "more/steps_2": "steps: 2\n", "more/mixed": "steps: 3\n", "more/steps_8": "steps: 8\n",
        }.items():  # fmt: skip
            path = top / f"{name}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        (top / "data" / "splits").mkdir(parents=True)
        for name in ("phones.ark", "splits/train.list"):
            (top / "data" / name).touch()
        (top / "python").write_text(PRETENDER.format(python=sys.executable, top=str(top)))
        (top / "python").chmod(0o755)
        self.plan()

    def plan(self, **plan: str) -> None:
        """What a step, as train__mixed_seed1, does otherwise: fail, wait, or meet another."""
        words = {key.replace("__", " ").replace("_seed", ".seed"): what for key, what in plan.items()}
        (self.top / "plan").write_text(json.dumps(words))

    def start(self, rows: str = "mixed steps_2", *options: str, **environment: str) -> subprocess.Popen[str]:
        code = "import torch; torch.cuda.device_count = lambda: 8; " if "--gpus" in options else ""
        code += "import runpy, sys; sys.executable = sys.argv.pop(1); sys.argv.pop(0); "
        code += "runpy.run_path(sys.argv[0], run_name='__main__')"
        argv = ["--conf", "conf", "more", "--base", "conf/cpc.yaml", "--data", "data", "--exp", "exp", "--rows", rows]
        return subprocess.Popen(
            [sys.executable, "-c", code, str(self.top / "python"), str(SCRIPT), *argv, *options], cwd=self.top,
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
            | {"PYTHONPATH": str(ROOT)} | environment,
        )  # fmt: skip

    def __call__(self, *args: str, **environment: str) -> tuple[int, str]:
        """Exit status and what it said."""
        process = self.start(*args, **environment)
        said, _ = process.communicate(timeout=HANG)
        return process.returncode, said

    def calls(self) -> list[str]:
        """What was started since the last time one asked, in order."""
        path = self.top / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [line.strip() for line in lines]

    def stage_4(self, row: str, finished: bool = True, **settings: int) -> Path:
        """exp/<row>, as stage 4 leaves it."""
        exp = self.exp / row
        exp.mkdir(parents=True, exist_ok=True)
        words = [f"{key}={value}" for key, value in settings.items()]
        (exp / "config.yaml").write_text(load_config([self.top / "conf/cpc.yaml"], words).dump())
        if finished:
            (exp / "train.json").write_text("{}")
        return exp

    def wait_for(self, name: str) -> str:
        path, end = self.top / name, time.monotonic() + HANG
        while not (path.exists() and path.read_text()):
            assert time.monotonic() < end
            time.sleep(0.02)
        return path.read_text()


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    return Driver(tmp_path)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ablations", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["ablations"] = module  # where dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_every_row_with_every_seed_once(driver: Driver) -> None:
    status, said = driver("mixed steps_2", "--seeds", "1,3", "--probe-seeds", "5 6", "--set", "updates=7")
    assert status == 0, said
    names = ["mixed.seed1", "steps_2.seed1", "mixed.seed3", "steps_2.seed3"]
    assert driver.calls() == [f"{step} {name}" for name in names for step in ("train", "probe")]
    # The first folder's mixed.yaml, --set over files, the seed of the name.
    assert load_config([driver.folder / "mixed.seed3" / "config.yaml"]) == Config(updates=7, steps=4, seed=3)
    assert load_config([driver.folder / "steps_2.seed1" / "config.yaml"]) == Config(updates=7, steps=2, seed=1)
    probed = (driver.folder / "steps_2.seed3" / "probes" / "c.phone.linear.json").read_text()
    assert "--task phone" in probed and "--seed 5 6 --data" in probed
    log = (driver.folder / "log" / "steps_2.seed1.log").read_text()
    assert "-m cpc_speech.train --config conf/cpc.yaml --config more/steps_2.yaml" in log and "pretends to" in log
    assert "mixed.seed1: training starts" in said and "0 of 4 experiments left" in said

    status, said = driver("mixed steps_2", "--seeds", "1 3", "--probe-seeds", "5,6", "--set", "updates=7")
    assert (status, driver.calls()) == (0, []) and "4 experiments, 4 of them done before" in said
    driver("mixed steps_2", "--seeds", "3", "--probe-seeds", "5,7", "--set", "updates=7")
    assert driver.calls() == ["probe mixed.seed3", "probe steps_2.seed3"], "other seeds of the probe"
    driver("mixed steps_8", "--seeds", "1", "--probe-seeds", "5,6", "--set", "updates=7")
    assert driver.calls() == ["train steps_8.seed1", "probe steps_8.seed1"]


def test_rows_with_seeds_of_their_own(driver: Driver) -> None:
    """What the rest is not repeated with; every row's first seed comes before anyone's second."""
    status, said = driver("mixed@4,5 steps_2 steps_8 mixed@5,6", "--seeds", "1,3")
    assert status == 0, said
    first = ["mixed.seed4", "steps_2.seed1", "steps_8.seed1"]
    names = [*first, "mixed.seed5", "steps_2.seed3", "steps_8.seed3", "mixed.seed6"]
    assert driver.calls() == [f"{step} {name}" for name in names for step in ("train", "probe")]


def test_a_failure_stops_nothing_else_and_is_told_at_the_end(driver: Driver) -> None:
    driver.plan(train__mixed_seed1="fail", probe__steps_2_seed1="fail")
    status, said = driver("mixed steps_2 steps_8")
    assert status == 1
    assert "train steps_8.seed1" in (calls := driver.calls()) and "probe mixed.seed1" not in calls
    end = said[said.index("error: 2 of 3 experiments failed") :]
    log = "exp/ablations/log/mixed.seed1.log"
    assert f"  mixed.seed1: training failed with status 1; {log} ends: error: the disk is full\n" in end
    assert "  steps_2.seed1: probe failed with status 1;" in end and "steps_8" not in end

    driver.plan()
    assert driver("mixed steps_2 steps_8")[0] == 0
    assert driver.calls() == ["train mixed.seed1", "probe mixed.seed1", "probe steps_2.seed1"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_gone_on(driver: Driver, number: signal.Signals) -> None:
    """A signal to the driver alone lets what it started end as at ctrl-C, and starts nothing more."""
    driver.plan(train__mixed_seed1="wait")
    process = driver.start()
    driver.wait_for("waits")
    process.send_signal(number)
    said, _ = process.communicate(timeout=HANG)
    assert process.returncode == 130 and "run the same command again" in said and "failed" not in said
    assert (driver.top / "stopped").exists() and driver.calls() == ["train mixed.seed1"]
    driver.plan()
    assert driver()[0] == 0
    assert driver.calls()[0] == "train mixed.seed1"


def test_a_training_that_outlives_its_driver_is_not_begun_twice(driver: Driver) -> None:
    driver.plan(train__mixed_seed1="wait")
    process = driver.start()
    trainer = int(driver.wait_for("waits"))
    try:
        process.kill()
        process.wait()
        status, said = driver()
        assert status == 1 and "exp/ablations is being worked on" in said
        assert driver.calls() == ["train mixed.seed1"]
    finally:
        os.kill(trainer, signal.SIGKILL)
        assert process.stdout
        process.stdout.close()
    driver.plan()
    while (result := driver())[0]:  # the lock goes once the system has cleared the trainer away
        assert "is being worked on" in result[1]
    assert driver.calls()[:1] == ["train mixed.seed1"]


@pytest.mark.parametrize("newer", ["data/phones.ark", "data/splits/train.list", "exp/ablations/mixed.seed1/train.json"])
def test_a_probe_older_than_what_it_is_of_is_made_again(driver: Driver, newer: str) -> None:
    driver("mixed")
    driver.calls()
    later = time.time() + 100
    os.utime(driver.top / newer, (later, later))
    driver("mixed")
    assert driver.calls() == ["probe mixed.seed1"]


def test_the_very_same_model_of_stage_4_is_not_trained_again(driver: Driver) -> None:
    there = driver.stage_4("mixed", seed=2)
    assert driver("mixed", "--seeds", "1,2")[0] == 0
    assert driver.calls() == ["train mixed.seed1", "probe mixed.seed1", "probe mixed.seed2"]
    assert (driver.folder / "mixed.seed2").resolve() == there and not (driver.folder / "mixed.seed1").is_symlink()
    assert (there / "probes" / "c.phone.linear.json").exists()
    assert driver("mixed", "--seeds", "1,2")[0] == 0 and driver.calls() == []

    # Stage 4 has run again, with other options: the link would name another model.
    driver.stage_4("mixed", seed=2, updates=99)
    assert driver("mixed", "--seeds", "2")[0] == 0
    assert driver.calls() == ["train mixed.seed2", "probe mixed.seed2"]
    assert not (driver.folder / "mixed.seed2").is_symlink()
    assert load_config([there / "config.yaml"]).updates == 99


@pytest.mark.parametrize(
    "finished, settings", [(False, {"seed": 1}), (True, {"seed": 1, "steps": 5}), (True, {"seed": 2})]
)
def test_any_other_model_of_stage_4_is_none_of_the_table(driver: Driver, finished: bool, settings: dict) -> None:
    driver.stage_4("mixed", finished, **settings)
    assert driver("mixed")[0] == 0
    assert driver.calls() == ["train mixed.seed1", "probe mixed.seed1"]


def test_another_configuration_is_left_to_the_trainer_to_refuse(driver: Driver) -> None:
    driver("mixed")
    driver.calls()
    driver.plan(train__mixed_seed1="fail")
    status, said = driver("mixed", "--set", "updates=6")
    assert status == 1 and driver.calls() == ["train mixed.seed1"] and "training failed" in said


def test_as_many_at_a_time_as_there_are_gpus(driver: Driver) -> None:
    driver.plan(train__mixed_seed1="meet", train__steps_2_seed1="meet")  # each waits for the other
    status, said = driver("mixed steps_2 steps_8", "--gpus", "2", CUDA_VISIBLE_DEVICES="4,7")
    assert status == 0, said
    calls = driver.calls()
    assert {"train mixed.seed1 4", "train steps_2.seed1 7"} < set(calls) and len(calls) == 6
    assert {call[-2:] for call in calls} == {" 4", " 7"}


def test_gpus(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert script.gpus(0, None) == script.gpus(0, "3") == [{}]  # as it is
    assert script.gpus(2, None) == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
    assert script.gpus(2, "GPU-a,GPU-b,GPU-c") == [{"CUDA_VISIBLE_DEVICES": f"GPU-{x}"} for x in "ab"]
    with pytest.raises(UserError, match="--gpus 3: CUDA_VISIBLE_DEVICES=4,7 grants 2"):
        script.gpus(3, "4,7")
    with pytest.raises(UserError, match="--gpus 4: 3 are visible"):
        script.gpus(4, None)
    assert script.gpus(2, "4,7", "cpu") == [{}, {}]


@pytest.mark.parametrize("visible", [None, ""])
def test_gpus_that_are_not_there_are_an_error(
    script: ModuleType, visible: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match="--gpus 4: .*--device cpu"):
        script.gpus(4, visible)
    assert script.gpus(4, visible, "cpu") == [{}] * 4


Call = Callable[[ModuleType, Driver], object]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda s, d: s.row_file("step_2", [d.top / "conf", d.top / "more"]), "choose of: mixed, steps_2, steps_8"),
        (lambda s, d: s.read_seeds("1,two"), "seeds '1,two': write whole numbers, as 1,2,3"),
    ],
)
def test_slips(script: ModuleType, driver: Driver, call: Call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call(script, driver)
