"""Stage 7 of a real recipe, with commands that only pretend: what it starts, what it takes for done, what it lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from patience import HANG

ROOT = Path(__file__).resolve().parents[1]

PRETENDER = """#!{python}
import sys
from pathlib import Path
argv = sys.argv[1:]
with open({calls!r}, "a") as file:
    print(*argv, file=file)
if argv[0] == "-m":
    exp, name = Path(argv[argv.index("--exp") + 1]), argv[1].rpartition(".")[2]
    representation = argv[argv.index("--representation") + 1] if "--representation" in argv else None
    (exp / (f"{{name}}.{{representation}}.json" if representation else f"{{name}}.json")).write_text("{{}}")
"""
TSNE = [
    "-m cpc_speech.tsne --data data/mini --exp exp/mixed_speaker --representation c",
    "-m cpc_speech.tsne --data data/mini --exp exp/baselines --representation mfcc",
]
STEPS = "-m cpc_speech.steps_ahead --data data/mini --exp exp/"


class Stage:
    """mini_librispeech in a folder of its own, where stages 0 to 6 have left what stage 7 reads."""

    def __init__(self, top: Path) -> None:
        self.top, self.work = top, top / "work"
        shutil.copytree(ROOT / "recipes", top / "recipes", ignore=shutil.ignore_patterns("data", "exp", "corpus"))
        (top / "bin").mkdir()
        python = top / "bin" / "python"
        python.write_text(PRETENDER.format(python=sys.executable, calls=str(top / "calls")))
        python.chmod(0o755)
        self.leave(
            "data/mini/.done.2", "data/mini/phones.ark", "data/mini/.done.3", "data/mini/splits/test.list",
            "exp/mixed_speaker/.done.5.mixed_speaker.c", "exp/baselines/.done.5.mfcc",
            "exp/supervised_phone/.done.5.supervised_phone",
        )  # fmt: skip
        for model in ("mixed_speaker", "same_speaker"):
            self.leave(f"exp/{model}/.done.4", f"exp/{model}/train.json")
        rows = ("steps_20", "mixed_speaker_excl", "same_speaker_excl", "current_sequence")
        for row in rows:
            self.leave(f"exp/ablations/.done.6.{row}.seed3", f"exp/ablations/{row}.seed3/train.json")

    def leave(self, *names: str) -> None:
        for name in names:
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)

    def __call__(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.top / "recipes" / "mini_librispeech" / "run.sh"), "--work", str(self.work), "--stage", "7",
             "--stop-stage", "7", "--seeds", "3,1", *options],
            capture_output=True, text=True, timeout=HANG,
            env=os.environ | {"PATH": f"{self.top}/bin:{os.environ['PATH']}"},
        )  # fmt: skip

    def calls(self) -> tuple[list[str], dict[str, list[str]]]:
        """What was computed, and what each script was given to draw, since the last time one asked."""
        path = self.top / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        drawn = (line.split() for line in lines if not line.startswith("-m "))
        return [line for line in lines if line.startswith("-m ")], {Path(words[0]).stem: words[1:] for words in drawn}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_computes_what_is_missing_and_draws(stage: Stage) -> None:
    result = stage()
    assert result.returncode == 0, result.stderr
    computed, drawn = stage.calls()
    assert computed == [f"{STEPS}ablations/steps_20.seed3", *TSNE]
    to = ["--to", "exp/figures"]
    assert drawn == {
        "plot_tsne": ["exp/mixed_speaker/tsne.c.json", "exp/baselines/tsne.mfcc.json", *to],
        "plot_steps_ahead": ["exp/ablations/steps_20.seed3/steps_ahead.json", *to],
        "plot_training": [
            "exp/mixed_speaker", "exp/same_speaker", "exp/ablations/steps_20.seed3",
            "exp/ablations/mixed_speaker_excl.seed3", "exp/ablations/same_speaker_excl.seed3",
            "exp/ablations/current_sequence.seed3", *to,
        ],
        "plot_phones": [
            "exp/mixed_speaker/probes/c.phone.linear.json",
            "exp/supervised_phone/probes/supervised.phone.end_to_end.json",
            "exp/baselines/probes/mfcc.phone.linear.json", "--lang", "data/lang", *to,
        ],
    }  # fmt: skip
    assert stage().returncode == 0
    assert stage.calls() == ([], drawn)


def test_models_of_figure_3(stage: Stage) -> None:
    """Those asked for, of stage 4 or 6; without steps_20 among --ablations, those of stage 4."""
    assert stage("--steps-ahead-of", "same_speaker current_sequence").returncode == 0
    computed, drawn = stage.calls()
    assert computed[:2] == [f"{STEPS}same_speaker", f"{STEPS}ablations/current_sequence.seed3"]
    stage.leave("exp/ablations/.done.6.steps_20.seed7", "exp/ablations/steps_20.seed7/train.json")
    assert stage("--ablations", "steps_20@7,3").returncode == 0
    assert stage.calls()[0] == [f"{STEPS}ablations/steps_20.seed7"], "the row's own first seed"
    assert drawn["plot_training"][:3] == [
        "exp/mixed_speaker",
        "exp/same_speaker",
        "exp/ablations/current_sequence.seed3",
    ]
    assert stage("--ablations", "").returncode == 0
    computed, drawn = stage.calls()
    assert computed == [f"{STEPS}mixed_speaker"]
    models = ["exp/mixed_speaker", "exp/same_speaker"]
    assert drawn["plot_steps_ahead"][:2] == [f"{model}/steps_ahead.json" for model in models]
    assert drawn["plot_training"][:-2] == models


def test_other_probes_than_linear_ones_of_c(stage: Stage) -> None:
    """t-SNE is of c all the same; of phones, what there is."""
    assert stage("--layers", "z", "--probes", "mlp").returncode == 0
    computed, drawn = stage.calls()
    assert computed[1:] == TSNE
    assert drawn["plot_phones"][:-4] == ["exp/supervised_phone/probes/supervised.phone.end_to_end.json"]


def test_what_changed_since_is_noticed(stage: Stage) -> None:
    stage()
    stage.calls()
    (stage.work / "exp/ablations/steps_20.seed3/train.json").write_text("trained anew")
    result = stage()
    assert result.returncode == 1 and "steps_20.seed3/train.json has changed since" in result.stderr
    assert stage("--force", "true").returncode == 0
    assert stage.calls()[0] == [f"{STEPS}ablations/steps_20.seed3", *TSNE]


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("data/mini/.done.3", "needs data/mini/.done.3, which stage 3 makes"),
        ("exp/ablations/.done.6.steps_20.seed3", "needs exp/ablations/.done.6.steps_20.seed3, which stage 6 makes"),
        ("exp/mixed_speaker/.done.4", "needs exp/mixed_speaker/.done.4, which stage 4 makes"),
        ("exp/baselines/.done.5.mfcc", "needs exp/baselines/.done.5.mfcc, which stage 5 makes"),
    ],
)
def test_what_is_missing_is_named(stage: Stage, gone: str, message: str) -> None:
    (stage.work / gone).unlink()
    result = stage()
    assert result.returncode == 1 and message in result.stderr


@pytest.mark.parametrize(("last", "parts"), [("7", ["core", "align", "analysis"]), ("6", ["core", "align"])])
def test_stage_0_checks_what_figures_need(stage: Stage, last: str, parts: list[str]) -> None:
    stage("--stage", "0", "--stop-stage", last)  # the pretenders make no corpus, so it goes no further
    assert stage.calls()[1]["check_dependencies"] == parts


def test_a_model_that_nobody_trains(stage: Stage) -> None:
    result = stage("--steps-ahead-of", "steps_21")
    assert result.returncode == 1
    assert "--steps-ahead-of steps_21: neither in exp/, where stage 4 keeps its models, nor one of" in result.stderr
    assert stage.calls() == ([], {})
