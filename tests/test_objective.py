"""The loss of a minibatch against the equations, and the dev loss against a mean taken by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from runs import SMALL, in_processes, packed_samples

from cpc_speech.checkpoint import build_model
from cpc_speech.config import Config
from cpc_speech.infonce import PAPER_SETTINGS, InfoNCE
from cpc_speech.objective import DevLoss, cpc_loss, mean, window_sampler
from cpc_speech.packed import PackedAudio
from cpc_speech.processes import Processes, alone
from cpc_speech.windows import WindowSampler, dev_seed

FP32 = Config(**(SMALL | {"precision": "fp32"}))
CPU = torch.device("cpu")


def noise(windows: int = 4, samples: int = 3200) -> torch.Tensor:
    return 0.1 * torch.randn(windows, samples, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("row", sorted(PAPER_SETTINGS))
def test_loss_equals_the_equations(row: str) -> None:
    """Of a model whose predictors differ and whose scores are spread, so that no mix-up of steps can hide."""
    config = Config(**(SMALL | {"precision": "fp32", "candidates": PAPER_SETTINGS[row][1], "window_samples": 960}))
    model = build_model(config)
    with torch.no_grad():
        for k, predictor in enumerate(model.predictors, 1):
            predictor.get_parameter("weight").mul_(3 * k)
        z, c = model(noise(3, 960))
        result = cpc_loss(model, noise(3, 960), config)
    weights = [predictor.get_parameter("weight").tolist() for predictor in model.predictors]
    losses, accuracies, _ = oracles.info_nce(row, z.tolist(), c.tolist(), weights)
    # float32 against float64: rounding of about 1e-7 of scores up to 100.
    torch.testing.assert_close(result.loss, torch.tensor(losses), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(result.accuracy, torch.tensor(accuracies))


def test_bf16_is_close_to_fp32() -> None:
    model = build_model(FP32)
    exact = cpc_loss(model, noise(), FP32).loss
    rounded = cpc_loss(model, noise(), dataclasses.replace(FP32, precision="bf16")).loss
    assert not torch.equal(exact, rounded)
    # z, c and W c are rounded to 8 bits, 0.4 %, each, and scores of this untrained network are below 4.
    torch.testing.assert_close(exact, rounded, rtol=0, atol=3 * 0.004 * 4)


def test_negatives_are_drawn_anew_for_every_minibatch_and_alike_when_repeated() -> None:
    model = build_model(FP32)
    sampled = dataclasses.replace(FP32, negatives=6)

    def loss(*draw: int) -> list[float]:
        return cpc_loss(model, noise(), sampled, *draw).loss.tolist()

    assert loss(7, 2, 1) == loss(7, 2, 1)
    assert len({tuple(loss(*draw)) for draw in ((7, 2, 1), (7, 2, 0), (7, 3, 1), (8, 2, 1))}) == 4
    assert cpc_loss(model, noise(), FP32, 1).loss.tolist() == cpc_loss(model, noise(), FP32, 2).loss.tolist()


def test_context_is_fp32_beside_an_encoder_in_bf16() -> None:
    """The recurrence would add up bf16's rounding over the frames."""
    model = build_model(FP32)
    with torch.autocast("cpu", torch.bfloat16):
        z, c = model(noise())
    assert z.dtype == torch.bfloat16 or not torch.equal(z, model.encoder(noise()))
    assert c.dtype == torch.float32
    assert torch.equal(c, model.context.rnn(z.float())[0])


def test_sampler_is_as_the_configuration_says(data: Path) -> None:
    audio = PackedAudio(data)
    for composition, same_speaker in (("mixed_speaker", False), ("same_speaker", True)):
        config = dataclasses.replace(FP32, batch_composition=composition)
        expected = WindowSampler(audio.num_samples, list(audio.speakers), 3200, 4, same_speaker, 11)
        found = window_sampler(config, audio, 11)
        assert [found.minibatch(u, 1) for u in range(5)] == [expected.minibatch(u, 1) for u in range(5)]


def dev_loss_by_hand(data: Path, config: Config, minibatches: int) -> torch.Tensor:
    """Mean (2, steps) of loss and accuracy over fixed minibatches of the dev split, read from the files."""
    ids = (data / "splits" / "dev.list").read_text().split()
    everything, speakers = packed_samples(data), [utterance.split("-")[0] for utterance in ids]
    lengths, seed = np.array([len(everything[utterance]) for utterance in ids]), dev_seed(config.seed)
    sampler = WindowSampler(lengths, speakers, config.window_samples, config.windows, False, seed)
    model, results = build_model(config), []
    for j in range(minibatches):
        windows = [everything[ids[w.utterance]][w.start : w.start + 3200] for w in sampler.minibatch(0, j)]
        heard = torch.tensor(np.stack(windows) / 32768, dtype=torch.float32)
        results.append(torch.stack(cpc_loss(model, heard, config, seed, j)).detach())
    return torch.stack(results).mean(0)


@pytest.mark.parametrize("negatives", ["all", 6])
def test_dev_loss_is_the_mean_over_fixed_windows_of_dev_for_any_number_of_processes(
    data: Path, negatives: int | str
) -> None:
    config = dataclasses.replace(FP32, negatives=negatives, dev_minibatches=5)
    expected = dev_loss_by_hand(data, config, 5)

    def evaluate(processes: Processes) -> list[list[list[float]]]:
        dev, model = DevLoss(config, data, processes), build_model(config)
        results = []
        for _ in range(2):  # the same each time
            result = dev.evaluate(model)
            assert result is not None and not result.loss.requires_grad
            results.append(torch.stack(result).tolist())
        return results

    for answers in ([evaluate(alone())], in_processes(2, evaluate), in_processes(3, evaluate)):
        for answer in answers:  # every process knows it
            for result in answer:
                # fp32 sums of 5 in another order.
                torch.testing.assert_close(torch.tensor(result), expected, rtol=1e-6, atol=1e-6)


def test_a_dev_split_without_room_for_a_minibatch_has_no_loss(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    (data / "splits" / "dev.list").write_text("")
    dev = DevLoss(FP32, data, alone())
    assert dev.evaluate(build_model(FP32)) is None
    assert "no dev loss" in caplog.text


def test_mean_over_processes() -> None:
    def average(processes: Processes) -> list[list[float]]:
        mine = [InfoNCE(torch.tensor([v, 2.0 * v], requires_grad=True), torch.tensor([v, 0])) for v in
                ([1.0, 4.0], [], [7.0])[processes.rank]]  # fmt: skip
        return [part.tolist() for part in mean(mine, 3, 2, processes)]

    assert in_processes(3, average) == [[[4, 8], [4, 0]]] * 3
