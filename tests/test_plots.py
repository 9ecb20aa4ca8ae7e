"""The figures of the report: what stands in them, and the three files that each script leaves."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import figures
import plot_phones
import plot_steps_ahead
import plot_training
import plot_tsne
from matplotlib import colors
from PIL import Image

from cpc_speech.config import Config
from cpc_speech.errors import UserError
from cpc_speech.phones import BROAD_CLASSES, SYMBOLS, broad_class, write_symbols

PHONES = SYMBOLS[1:]


def write(path: Path, facts: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts))
    return str(path)


def check_published(folder: Path, names: Sequence[str], experiments: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """That these figures and no others are in the folder, each as three files; returns what is said of them."""
    assert {path.name for path in folder.iterdir()} == {f"{n}.{kind}" for n in names for kind in ("png", "pdf", "json")}
    said = []
    for name, shown in zip(names, experiments, strict=True):
        with Image.open(folder / f"{name}.png") as image:
            assert image.format == "PNG" and image.width == 1080 and image.height > 300
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        said.append(json.loads((folder / f"{name}.json").read_text()))
        assert set(said[-1]) == {"title", "caption", "experiments", "command"}
        assert said[-1]["experiments"] == shown and len(said[-1]["caption"]) > 100
    return said


def legend(owner: Any) -> list[str]:
    """The texts of the one legend of axes or a figure."""
    [found] = [owner.get_legend()] if hasattr(owner, "get_legend") else owner.legends
    return [text.get_text() for text in found.get_texts()]


def grey(color: Any) -> float:
    return float(np.dot(colors.to_rgb(color), (0.299, 0.587, 0.114)))


def test_marks_differ_in_grey() -> None:
    for i, line in enumerate(figures.LINES):
        for other in figures.LINES[:i]:
            assert line.marker != other.marker
            assert line.linestyle != other.linestyle or abs(grey(line.color) - grey(other.color)) > 0.3
    many = figures.lines(30)
    assert many[:8] == figures.LINES and len({(line.color, line.marker) for line in many}) == 30
    number = len(figures.MARKERS)
    for i in range(number, len(figures.COLOURS)):  # one marker twice
        assert abs(grey(figures.COLOURS[i]) - grey(figures.COLOURS[i - number])) > 0.15


def test_names_that_coincide_get_their_folder() -> None:
    assert figures.distinct(["a", "b", "a"], ["x", "y", "ablations/z"]) == ["a (x)", "b", "a (ablations/z)"]
    assert figures.experiment(Path("exp/ablations/x.seed1"), Path("exp/figures")) == "ablations/x.seed1"


def test_broad_classes_are_a_partition_of_the_phones() -> None:
    assert sorted(sum(BROAD_CLASSES.values(), [])) == sorted(PHONES)
    assert [broad_class(phone) for phone in ("SPN", "ER", "JH", "P07", "<eps>")] == [
        "silence, spoken noise", "vowels", "fricatives, affricates", None, None,
    ]  # fmt: skip


def tsne(representation: str, seed: int, phones: str = "AA S SIL M") -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    names = ["9", "80", "700"]
    points = {
        "x": rng.normal(size=60).tolist(), "y": rng.normal(size=60).tolist(), "frame": list(range(60)),
        "speaker": [names[i // 20] for i in range(60)], "utterance": [f"{names[i // 20]}-a" for i in range(60)],
        "phone": [phones.split()[i % 4] for i in range(60)],
    }  # fmt: skip
    facts = {"split": "test", "labels": "gmm", "frames_a_speaker": 20, "perplexity": 30.0, "points": points}
    return facts | {"representation": representation} | ({"updates": 1234} if representation == "c" else {})


def test_tsne(tmp_path: Path) -> None:
    maps = [tsne("c", 0), tsne("mfcc", 1)]
    figure = plot_tsne.draw(maps)
    by_speaker, by_phone = figure.subfigs
    for part, classes in ((by_speaker, ["700", "80", "9"]), (by_phone, ["vowels", "nasals", "fricatives, affricates",
                                                                       "silence, spoken noise"])):  # fmt: skip
        assert [text.get_text() for text in part.legends[0].get_texts()] == classes
        for axes, facts in zip(part.axes, maps, strict=True):
            drawn = np.concatenate([dots.get_offsets() for dots in axes.collections])
            expected = np.array([facts["points"]["x"], facts["points"]["y"]]).T
            np.testing.assert_allclose(sorted(drawn.tolist()), sorted(expected.tolist()))
            assert [len(dots.get_offsets()) for dots in axes.collections] == [60 // len(classes)] * len(classes)

    paths = [write(tmp_path / "a" / "tsne.c.json", maps[0]), write(tmp_path / "b" / "tsne.mfcc.json", maps[1])]
    plot_tsne.main([*paths, "--to", str(tmp_path / "figures")])
    [said] = check_published(tmp_path / "figures", ["tsne"], [["a", "b"]])
    assert "20 frames of each of 3 speakers of the test split" in said["caption"]
    assert "CPC, c_t of a, after 1,234 updates; 13 MFCC" in said["caption"] and "Figure 2" in said["caption"]


def test_tsne_of_numbered_labels_is_by_speaker_alone() -> None:
    assert len(plot_tsne.draw([tsne("c", 0, "P00 P01 P02 P40")]).subfigs) == 1


def test_tsne_of_other_frames() -> None:
    other = tsne("mfcc", 0)
    other["points"]["frame"][3] = 99
    with pytest.raises(UserError, match="the maps are of different frames"):
        plot_tsne.draw([tsne("c", 0), other])


def steps_ahead(steps: int, row: str, **other: Any) -> dict[str, Any]:
    top1, pairwise = [90.0 / k for k in range(1, steps + 1)], [99.0 - k for k in range(1, steps + 1)]
    return {
        "row": row, "steps": steps, "split": "test", "windows": 8, "window_samples": 20480, "minibatches": 32,
        "window_seed": 0, "candidates": 1024, "chance": {"top1": 100 / 1024, "pairwise": 50.0},
        "top1": top1, "top1_ci95": [[value - 1, value + 1] for value in top1],
        "pairwise": pairwise, "pairwise_ci95": [[value - 0.5, value + 0.5] for value in pairwise],
        "independent_windows": 128, "draws": 8, "information": [4.0 / k for k in range(1, steps + 1)],
        "information_ci95": [[4.0 / k - 0.1, 4.0 / k + 0.1] for k in range(1, steps + 1)], **other,
    }  # fmt: skip


def test_steps_ahead(tmp_path: Path) -> None:
    models = [steps_ahead(20, "mixed speaker, 20 steps"), steps_ahead(12, "same speaker, 12 steps")]
    figure = plot_steps_ahead.draw(models, ["a", "b"])
    for axes, measure, guess in zip(figure.axes, ("top1", "pairwise"), (100 / 1024, 50), strict=True):
        chance, *curves = sorted(axes.lines, key=lambda line: line.get_label() in "ab")
        assert set(chance.get_ydata()) == {guess}
        for curve, model in zip(curves, models, strict=True):
            assert list(curve.get_xdata()) == list(range(1, model["steps"] + 1))
            assert list(curve.get_ydata()) == model[measure]
        assert axes.get_ylim()[0] < guess and measure[:3] in axes.get_ylabel() and "10 ms" in axes.get_xlabel()
        band = axes.collections[0].get_paths()[0].vertices
        assert band[:, 1].min() == models[0][f"{measure}_ci95"][-1][0]
    assert legend(figure.axes[0]) == ["a", "b"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["chance, 0.098 %"]

    paths = [write(tmp_path / name / "steps_ahead.json", model) for name, model in zip(("ablations/a", "b"), models)]
    plot_steps_ahead.main([*paths, "--to", str(tmp_path / "figures")])
    both = [["ablations/a", "b"]] * 2
    said, bound = check_published(tmp_path / "figures", ["steps_ahead", "information"], both)
    assert "from 1,023 others" in said["caption"] and "of the test split" in said["caption"]
    assert (
        "Models: mixed speaker, 20 steps; same speaker, 12 steps." in said["caption"] and "Figure 3" in said["caption"]
    )
    assert "from 127 others" in bound["caption"] and "8 draws of 128 windows of the test split" in bound["caption"]

    [axes] = plot_steps_ahead.draw_information(models, ["a", "b"]).axes
    a, b, most = axes.lines
    assert (list(a.get_ydata()), list(b.get_ydata())) == (models[0]["information"], models[1]["information"])
    assert set(most.get_ydata()) == {math.log(128)} and axes.get_ylim()[1] > math.log(128)
    assert "nats" in axes.get_ylabel() and legend(axes) == ["a", "b"]


def test_steps_ahead_on_other_windows() -> None:
    models = [steps_ahead(2, "a"), steps_ahead(2, "b", candidates=897)]
    with pytest.raises(UserError, match="measured on different windows"):
        plot_steps_ahead.draw(models, ["a", "b"])


def trained(exp: Path, *, dev: bool = True, **settings: Any) -> str:
    """What training leaves: 300 logged updates, whose loss halves from ln N on."""
    config = Config(**({"steps": 2, "windows": 2, "window_samples": 3200, "minibatches": 1} | settings))
    exp.mkdir(parents=True)
    (exp / "config.yaml").write_text(config.dump())
    chance = math.log(config.num_candidates)
    lines = [{"split": "train", "update": u, "loss": chance * (1 - u / 600)} for u in range(1, 301)]
    lines += [{"split": "dev", "update": u, "loss": chance * (1 - u / 600)} for u in (100, 200, 300) if dev]
    (exp / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(exp)


def test_training(tmp_path: Path) -> None:
    paths = [trained(tmp_path / "a"), trained(tmp_path / "ablations" / "b", candidates="other_windows")]
    figure = plot_training.learning_curves([Path(path) for path in paths], ["a", "b"])
    [axes] = figure.axes
    faint, dev, *_ = axes.lines
    assert list(dev.get_xdata()) == [100, 200, 300]
    np.testing.assert_allclose(dev.get_ydata(), [5 / 6, 4 / 6, 1 / 2])
    # A straight line's means lie on it.
    x, y = faint.get_data()
    assert len(x) == 60
    np.testing.assert_allclose(y, 1 - np.asarray(x) / 600)
    assert legend(axes) == ["a", "b", "faint: on train, smoothed"]
    assert [text.get_text() for text in axes.texts] == ["chance, ln N"]

    plot_training.main([*paths, "--to", str(tmp_path / "figures")])
    [said] = check_published(tmp_path / "figures", ["learning_curves"], [["a", "ablations/b"]])
    assert "mixed speaker (excl.), 2 steps" in said["caption"] and "dev split" in said["caption"]


def test_training_without_dev(tmp_path: Path) -> None:
    """A small corpus leaves no dev loss: the curve is that on train."""
    [axes] = plot_training.learning_curves([Path(trained(tmp_path / "a", dev=False))], ["a"]).axes
    faint, curve, *_ = axes.lines
    np.testing.assert_array_equal(curve.get_data(), faint.get_data())


def test_training_that_has_not_begun(tmp_path: Path) -> None:
    path = trained(tmp_path / "a")
    (tmp_path / "a" / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="no line of the train split; pretrain it first"):
        plot_training.main([path, "--to", str(tmp_path / "figures")])


def confusion() -> np.ndarray:
    """AA 60 %, AE 80 %, S 50 %, of 10 frames each, and SIL 100 % of 70; ZH is said, but never right."""
    counts = np.zeros((41, 41), int)
    for label, said, number in [
        ("AA", "AA", 6), ("AA", "ZH", 4), ("AE", "AE", 8), ("AE", "AA", 2), ("S", "S", 5), ("S", "Z", 5),
        ("SIL", "SIL", 70),
    ]:  # fmt: skip
        counts[PHONES.index(label), PHONES.index(said)] = number
    return counts


def test_phones(tmp_path: Path) -> None:
    counts = confusion()
    worse = np.zeros_like(counts)
    worse[:, PHONES.index("S")] = counts.sum(1)  # says S, whatever it hears
    above, below = plot_phones.draw_accuracy([counts, worse], ["good", "bad"], PHONES).axes
    shown = ["AE", "AA", "S", "SIL"]
    assert [text.get_text() for text in below.get_xticklabels()] == shown
    by_label = {line.get_label(): list(line.get_ydata()) for line in above.lines}
    assert by_label["good, all frames 89.0 %"] == [80, 60, 50, 100]
    assert by_label["bad, all frames 10.0 %"] == [0, 0, 100, 0]
    assert [bar.get_height() for bar in below.patches] == [10, 10, 10, 70]

    axes = plot_phones.draw_confusion(counts, PHONES).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == shown
    shares = axes.images[0].get_array() ** 2  # darkness is the square root
    np.testing.assert_allclose(shares, [[80, 20, 0, 0], [0, 60, 0, 0], [0, 0, 50, 0], [0, 0, 0, 100]], atol=1e-12)

    write_symbols(tmp_path / "lang")
    c = {"row": "mfcc", "probe": "linear", "probe_context": "utterance", "labels": "gmm"}
    paths = [
        # The sums of three seeds, beside one.
        write(
            tmp_path / "x" / "probes" / "a.phone.linear.json",
            c | {"confusion": (3 * counts).tolist(), "probe_seeds": [1, 2, 3]},
        ),
        write(tmp_path / "y" / "probes" / "b.phone.mlp.json", c | {"probe": "mlp", "confusion": worse.tolist()}),
    ]
    to = ["--lang", str(tmp_path / "lang"), "--to", str(tmp_path / "figures")]
    plot_phones.main([*paths, *to])
    accuracy, confusions = check_published(
        tmp_path / "figures", ["phone_accuracy", "phone_confusion"], [["x", "y"], ["x"]]
    )
    assert "MFCC, 13; MFCC, 13, one hidden layer" in accuracy["caption"] and "test split" in accuracy["caption"]
    assert confusions["title"] == "Confusions of phones: MFCC, 13"

    old = write(tmp_path / "z" / "probes" / "old.json", c)
    with pytest.raises(UserError, match=r"old\.json lacks confusion"):
        plot_phones.main([old, *to])
    with pytest.raises(UserError, match="tested on different frames"):
        plot_phones.draw_accuracy([counts, worse[::-1]], ["good", "bad"], PHONES)


def test_the_same_data_give_the_same_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a" / "steps_ahead.json", steps_ahead(3, "mixed speaker, 3 steps"))
    content = []
    for _ in range(2):
        plot_steps_ahead.main([path, "--to", str(tmp_path / "figures")])
        content.append([(tmp_path / "figures" / f"steps_ahead.{kind}").read_bytes() for kind in ("png", "pdf")])
    assert content[0] == content[1]


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"steps_ahead\.json: no such file"):
        plot_steps_ahead.main([str(tmp_path / "steps_ahead.json"), "--to", str(tmp_path / "figures")])
    with pytest.raises(UserError, match=r"x\.mp3: the name must end in one of .*png"):
        figures.save(figures.new(2), tmp_path / "x.mp3")
