"""librispeech100's real stages, on a small tree in LibriSpeech-100's shape, spoken by espeak-ng."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from cpc_speech.datadir import read_table

pytest.importorskip("espeakng_loader")
pytest.importorskip("pocketsphinx")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "librispeech100"
FEATURES = "own_mixed_speaker/utt2num_frames"
ABLATIONS = "mixed_speaker current_sequence"  # one that stage 4 has trained already, one that it has not
TINY = (
    "channels=16 context_dim=16 steps=3 windows=2 minibatches=2 updates=4 "
    "log_every=1 dev_every=2 dev_minibatches=1 checkpoint_every=2"
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LibriSpeech/train-clean-100/READER/CHAPTER/*.flac, 3 readers, about 80 seconds."""
    folder = tmp_path_factory.mktemp("corpus") / "LibriSpeech"
    command = [sys.executable, "-m", "data_prep.synthetic", str(folder), "--speakers", "3", "--minutes", "1.3"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (folder / "synthetic").rename(folder / "train-clean-100")
    return folder


def command_line(work: Path, *options: str) -> list[str]:
    """To be run in ROOT: the recipe is named from there, as the README does."""
    return [str(RECIPE.relative_to(ROOT) / "run.sh"), "--work", str(work), "--nj", "1", "--overrides", TINY, *options]


def run(work: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command_line(work, *options), cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work folder of all stages, run once from the first to the last."""
    work = tmp_path_factory.mktemp("work")
    done = run(work, *options(corpus))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "GB  in all" in done.stdout  # stage 0 says what the run will need
    return work


def options(corpus: Path) -> list[str]:
    labels = ["--probe-seeds", "1", "--compare", "pocketsphinx", "--label-shifts", "-1 0 1", "--ablations", ABLATIONS]
    phones = ["--recognise", "fbank random mixed_speaker", "--recognisers", "linear", "--recogniser-updates", "4"]
    models = ["--supervised-updates", "4", "--models", "mixed_speaker same_speaker", "--probes", "linear"]
    return ["--corpus", str(corpus), *models, *labels, *phones]


def accuracies(work: Path) -> dict[tuple[str, str], float]:
    results = json.loads((work / "exp" / "report" / "results.json").read_text())
    probes = [result for result in results if result["table"] in (1, 2)]
    assert all(0 <= result["ci95"][0] <= result["accuracy"] <= result["ci95"][1] <= 100 for result in probes)
    return {(result["row"], result["task"]): result["accuracy"] for result in probes if result["table"] == 1}


def test_train_clean_100(undisturbed: Path) -> None:
    heard = json.loads((undisturbed / "exp" / "mixed_speaker" / "train.json").read_text())
    # 4 updates of 2 minibatches of 2 windows of 1.28 s
    assert heard["hours_heard"] == pytest.approx(4 * 2 * 2 * 1.28 / 3600)
    rows = {
        "random initialisation", "MFCC, 13", "MFCC, 13 with deltas", "CPC, mixed speaker, 3 steps",
        "CPC, same speaker, 3 steps", "CPC, mixed speaker, 3 steps, fine-tuned", "supervised",
        "CPC, mixed speaker, 3 steps, context afresh every window",
    }  # fmt: skip
    assert set(accuracies(undisturbed)) == {(row, task) for row in rows for task in ("phone", "speaker")}
    page = (undisturbed / "exp" / "report" / "RESULTS.md").read_text()
    assert "| CPC, mixed speaker, 3 steps |" in page
    assert "recipes/librispeech100/run.sh --corpus /path/to/LibriSpeech " in page


def test_table_2(undisturbed: Path) -> None:
    """Stage 6 takes stage 4's model where it is the same, and trains what is missing; both stand in the report."""
    folder = undisturbed / "exp" / "ablations"
    assert (folder / "mixed_speaker.seed1").resolve() == undisturbed / "exp" / "mixed_speaker"
    assert not (folder / "current_sequence.seed1").is_symlink()
    results = json.loads((undisturbed / "exp" / "report" / "results.json").read_text())
    rows = {r["experiment"]: r["accuracy"] for r in results if r["table"] == 2}
    assert list(rows) == ["ablations/mixed_speaker.seed1", "ablations/current_sequence.seed1"]
    assert rows["ablations/mixed_speaker.seed1"] == accuracies(undisturbed)["CPC, mixed speaker, 3 steps", "phone"]
    assert " | current sequence only, 3 steps | " in (undisturbed / "exp" / "report" / "RESULTS.md").read_text()


def test_the_plan_of_a_command_is_what_it_does(corpus: Path, undisturbed: Path) -> None:
    """What stage 0 counts as the cost: a job for each result. Once all is done, nothing is left."""
    plan = [line.split() for line in (undisturbed / "exp" / "plan").read_text().splitlines()]
    results = [path for path in undisturbed.glob("exp/**/probes/**/*.json") if ".end_to_end." not in path.name]
    assert sum(kind == "probe" for _, kind, *_ in plan) == len({path.resolve() for path in results})
    assert sum(kind == "supervised" for _, kind, *_ in plan) == 4  # supervised and fine-tuned, each for two tasks
    trained = {path.resolve() for path in undisturbed.glob("exp/**/train.json")}
    assert sum(kind == "pretrain" for _, kind, *_ in plan) == len(trained)
    assert sum(kind == "recogniser" for _, kind, *_ in plan) == len(list(undisturbed.glob("exp/recogniser/*/per.json")))
    before = {path for path in undisturbed.rglob("*")}
    done = run(undisturbed, *options(corpus), "--estimate", "true")
    assert done.returncode == 0 and (undisturbed / "exp" / "plan").read_text() == ""
    assert {path for path in undisturbed.rglob("*")} == before


def test_figures(undisturbed: Path) -> None:
    """Stage 7 draws the models of stage 4, where no 20-step model is asked for, and other negatives of stage 6."""
    folder = undisturbed / "exp" / "figures"
    names = {path.stem for path in folder.glob("*.png")}
    assert names == {path.stem for path in folder.glob("*.pdf")} == {path.stem for path in folder.glob("*.json")}
    assert names >= {"tsne", "steps_ahead", "learning_curves", "phone_accuracy", "phone_confusion"}
    shown = {name: json.loads((folder / f"{name}.json").read_text())["experiments"] for name in names}
    assert shown["tsne"] == ["mixed_speaker", "baselines"]
    assert shown["steps_ahead"] == ["mixed_speaker", "same_speaker"]
    assert shown["learning_curves"] == ["mixed_speaker", "same_speaker", "ablations/current_sequence.seed1"]
    assert shown["phone_accuracy"] == ["mixed_speaker", "supervised_phone", "baselines"]


def test_phone_labels(undisturbed: Path) -> None:
    """The corpus is aligned by the default aligner and by --compare's; both are probed, and moved labels as well."""
    page = (undisturbed / "exp" / "report" / "RESULTS.md").read_text()
    assert re.search(r"\nBy gmm: (\d+) utterances, [\d,]+ frames of 10 ms, 0 of them unlabelled; 0 utterances", page)
    assert re.search(r"\n\| pocketsphinx \| \d+ s with 1 processes \| \d+ \| \d\d\.\d \| ", page)
    assert "\n| | gmm | pocketsphinx |\n" in page and "\n| | -1 | 0 | +1 | the best, less that at 0 |\n" in page
    results = json.loads((undisturbed / "exp" / "report" / "results.json").read_text())
    moved = {(r["row"], r["labels"], r["label_shift"]) for r in results if r["table"] == "labels"}
    rows = ("MFCC, 13", "CPC, mixed speaker, 3 steps")  # and no other model than the first
    assert moved == {(row, *how) for row in rows for how in [("gmm", -1), ("gmm", 0), ("gmm", 1), ("pocketsphinx", 0)]}
    [compared] = [r for r in results if r["table"] == "label comparison"]
    assert compared["row"] == "pocketsphinx" and compared["frames"]["agreement_percent"] > 50


def test_phone_recognition(undisturbed: Path) -> None:
    """Stage 8 recognises test's phones from the features of a baseline, an untrained network and a model."""
    test = (undisturbed / "data" / "train_clean_100" / "splits" / "test.list").read_text().split()
    for name, dim in (("fbank", 80), ("random", 16), ("mixed_speaker", 16)):
        facts = json.loads((undisturbed / "exp" / "recogniser" / f"{name}.linear" / "per.json").read_text())
        assert (facts["utterances"], facts["dim"]) == (test, dim) and facts["per"] > 0
        said = (undisturbed / "exp" / "recogniser" / f"{name}.linear" / "ref").read_text()
        assert sum(facts["phones"]) == len(said.split()) - len(test) and " SIL" not in said


def test_labels_imported_and_made_again(corpus: Path, undisturbed: Path, tmp_path: Path) -> None:
    """--aligner import gives exported labels back; --aligner posterior replaces them by a classifier's."""
    work = tmp_path / "work"
    labels = undisturbed / "data" / "train_clean_100"
    (tmp_path / "theirs 1.ctm").write_bytes((labels / "phones.ctm").read_bytes())
    source = ["--aligner", "import", "--labels", f"ctm '{tmp_path}/theirs 1.ctm' --shift 0"]
    no_lexicon = run(work, *options(corpus), "--stop-stage", "0", "--lexicon", "nowhere.txt")
    assert no_lexicon.returncode == 1 and "--lexicon nowhere.txt: no such file" in no_lexicon.stderr
    nothing = run(work, *options(corpus), "--stop-stage", "2", "--aligner", "import")
    assert nothing.returncode == 1 and "import needs --labels" in nothing.stderr
    done = run(work, *options(corpus), "--stop-stage", "2", "--compare", "", *source)
    assert done.returncode == 0, done.stdout + done.stderr
    imported = work / "data" / "train_clean_100"
    assert (imported / "phones.ark").read_bytes() == (labels / "phones.ark").read_bytes()
    assert json.loads((imported / "labels.json").read_text())["by"] == "theirs 1.ctm"
    assert not (imported / "phones.ctm").exists()
    with open(tmp_path / "theirs 1.ctm", "a") as file:
        file.write(";; mended\n")
    changed = run(work, *options(corpus), "--stage", "2", "--stop-stage", "2", "--compare", "", *source)
    assert changed.returncode == 1 and "theirs 1.ctm has changed since" in changed.stderr

    again = tmp_path / "again"
    shutil.copytree(undisturbed, again)
    anew = [*options(corpus), "--stage", "2", "--stop-stage", "2", "--aligner", "posterior", "--force", "true"]
    nothing = run(again, *anew)
    assert nothing.returncode == 1 and "posterior needs --posteriors-of" in nothing.stderr
    for name, layer in {"supervised_phone": "supervised", "same_speaker": "c"}.items():
        done = run(again, *anew, "--compare", "posterior", "--posteriors-of", name)
        assert done.returncode == 0, done.stdout + done.stderr
        facts = json.loads((again / "data" / "train_clean_100" / "labels.json").read_text())
        assert facts["by"] == f"posterior of {name}, {layer}, by torchaudio" and facts["utterances"] > 10
        # From its own labels the phones are the same, and so is their path.
        compared = json.loads((again / "exp" / "align" / "posterior" / "comparison.json").read_text())
        assert compared["frames"]["agreement_percent"] == 100
    unprobed = run(again, *anew, "--posteriors-of", "same_speaker.z")
    assert unprobed.returncode == 1 and "probes/z.phone.linear.pt, which stage 5 makes" in unprobed.stderr


def test_stopped_in_every_stage(corpus: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Once in each part of each stage, with kill -9 in two and ctrl-C in the others; the same command goes on, to the
    same numbers as when nothing happens."""
    one_of_each = [
        "--models", "mixed_speaker", "--compare", "", "--label-shifts", "", "--finetune", "false",
        "--ablations", "current_sequence", "--recognise", "fbank",
    ]  # fmt: skip
    stopped: set[str] = set()
    killed = 0
    command = command_line(tmp_path, *options(corpus), *one_of_each)
    while True:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        assert process.stdout is not None
        output = []
        for line in process.stdout:
            output.append(line)
            announced = re.search(r"(stage \d: [^\n]*)$", line)
            if announced and "skipped" not in line and announced[1] not in stopped:
                stopped.add(announced[1])
                time.sleep(1.5)  # into the stage's work; a stage that is over by then is stopped in the next
                if killed < 2 and announced[1][6] in "46":  # in pretraining and in the ablations
                    killed += 1
                    kill_session(process.pid)
                else:
                    os.killpg(process.pid, signal.SIGINT)
        if process.wait() == 0:
            break
        assert process.returncode in (130, -signal.SIGKILL), "".join(output)
    assert len(stopped) >= 10 and killed == 2, stopped
    undisturbed_numbers, found = numbers(undisturbed), numbers(tmp_path)
    assert all(number in undisturbed_numbers for number in found)
    assert {number["table"] for number in found} == {1, 2, "phone recognition", "steps ahead", "pretraining"}


def kill_session(leader: int) -> None:
    """kill -9 of a recipe and all that it started, which it has put into other process groups."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(int(path.name)) == leader:
                os.kill(int(path.name), signal.SIGKILL)


def numbers(work: Path) -> list[dict[str, Any]]:
    """What results.json holds of each row, but for its place in the table, when it was measured, by which command, and
    how long it took."""
    told = {"number", "date", "command", "seconds"}
    text = (work / "exp" / "report" / "results.json").read_text()
    found = json.loads(text, object_hook=lambda item: {key: item[key] for key in item if key not in told})
    return [item for item in found if item["table"] != "orderings"]  # which follow from the rows


def test_own_unlabelled_audio_on_two_processes(corpus: Path, tmp_path: Path) -> None:
    """--data pretrains without transcripts: 3 speakers by folder, no labels, no probes. GPUs that are not there are
    an error, unless --device cpu makes them processes."""
    own = ["--data", str(corpus / "train-clean-100")]
    if not torch.cuda.is_available():
        refused = run(tmp_path, *own, "--ngpu", "3")
        assert refused.returncode == 1 and "--ngpu 3: 0 GPUs" in refused.stderr and "--device cpu" in refused.stderr
    own += ["--device", "cpu"]
    refused = run(tmp_path, *own, "--ngpu", "3")
    assert refused.returncode == 1
    # Said below the launcher's own report.
    assert "  error: 3 processes cannot share out 2 minibatches" in refused.stderr, refused.stderr
    done = run(tmp_path, *own, "--ngpu", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    heard = json.loads((tmp_path / "exp" / "mixed_speaker" / "train.json").read_text())
    assert (heard["updates"], heard["processes"]) == (4, 2)
    assert not list(tmp_path.glob("exp/*/probes"))
    speakers = (tmp_path / "data" / "own" / "spk2utt").read_text().splitlines()
    assert len(speakers) == 3
    of_audio, of_features = (read_table(tmp_path / "data" / name) for name in ("own/utt2num_samples", FEATURES))
    assert {key: int(samples) // 160 for key, samples in of_audio.items()} == {
        key: int(frames) for key, frames in of_features.items()
    }
