"""The recogniser: CTC beside a sum over all paths, decoding by hand, utterances that do not see each other."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from path_oracle import said_by

from cpc_speech.recogniser import HEADS, Recogniser, best_path, ctc_loss, steps_needed, steps_of, turned


@pytest.mark.parametrize("phones", [[1], [1, 2], [2, 2], [1, 2, 1], []])
def test_loss_is_the_sum_over_all_paths(phones: list[int]) -> None:
    torch.manual_seed(len(phones))
    log_probabilities = torch.randn(1, 5, 3).log_softmax(2)
    total = 0.0
    for path in itertools.product(range(3), repeat=5):
        if said_by(path) == tuple(phones):
            total += math.exp(sum(log_probabilities[0, t, label].item() for t, label in enumerate(path)))
    loss = ctc_loss(log_probabilities, torch.tensor([5]), [torch.tensor(phones, dtype=torch.int64)])
    assert loss.item() == pytest.approx(-math.log(total) / max(1, len(phones)), rel=1e-5)


def test_loss_of_several_is_by_their_phones() -> None:
    torch.manual_seed(0)
    log_probabilities, steps = torch.randn(2, 6, 4).log_softmax(2), torch.tensor([6, 4])
    phones = [torch.tensor([1, 2, 3]), torch.tensor([2])]
    one = ctc_loss(log_probabilities[:1], steps[:1], phones[:1]).item()
    other = ctc_loss(log_probabilities[1:, :4], steps[1:], phones[1:]).item()
    assert ctc_loss(log_probabilities, steps, phones).item() == pytest.approx((3 * one + other) / 4)


def test_best_path() -> None:
    log_probabilities = torch.nn.functional.one_hot(torch.tensor([0, 1, 1, 0, 1, 2, 2, 0]), 4).float()
    assert best_path(log_probabilities) == [1, 1, 2]


def test_steps() -> None:
    assert [steps_of(frames, 4) for frames in (1, 4, 5, 8, 9)] == [1, 1, 2, 2, 3]
    assert steps_needed("ABBBA") == 7 and steps_needed([]) == 0


def make(head: str, stride: int = 4) -> Recogniser:
    torch.manual_seed(1)
    return Recogniser(torch.randn(5), torch.rand(5) + 0.5, 7, head, stride, 6).eval()


@pytest.mark.parametrize("stride", [1, 3, 4, 10])
@pytest.mark.parametrize("head", HEADS)
def test_an_utterance_does_not_depend_on_those_beside_it(head: str, stride: int) -> None:
    model = make(head, stride)
    features = [torch.randn(frames, 5) for frames in (1, 7, 23, 24, 30)]
    together, steps = model(features)
    assert steps.tolist() == [steps_of(len(frames), stride) for frames in features]
    for i, frames in enumerate(features):
        alone, [count] = model([frames])
        assert alone.shape == (1, steps[i], 8) and count == steps[i]
        # Rounding alone differs: sums of products are blocked by the batch's size.
        torch.testing.assert_close(together[i, :count], alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head, first, last", [("linear", 38, 45), ("lstm", 0, 79)])
def test_what_a_step_hears(head: str, first: int, last: int) -> None:
    """Step 10 of 20 stands for frames 40 to 43; the kernel adds two before them and two behind, the LSTM all."""
    model = make(head)
    features = torch.randn(80, 5, requires_grad=True)
    model([features])[0][0, 10].square().sum().backward()
    assert features.grad is not None
    heard = features.grad.abs().sum(1).nonzero().flatten()
    assert (heard.min().item(), heard.max().item()) == (first, last)


def test_standardised_by_what_it_was_given() -> None:
    """Features of another scale and offset, with their mean and deviation, say the same."""
    model = make("linear")
    other = Recogniser(model.mean * 3 + 2, model.std * 3, 7, "linear", 4, 6).eval()
    other.load_state_dict({**model.state_dict(), "mean": other.mean, "std": other.std})
    x = torch.randn(20, 5)
    torch.testing.assert_close(model([x])[0], other([x * 3 + 2])[0])


def test_turned() -> None:
    x = torch.arange(10.0).view(2, 5, 1)
    assert turned(x, torch.tensor([5, 3]))[..., 0].tolist() == [[4, 3, 2, 1, 0], [7, 6, 5, 8, 9]]


def test_dropout_only_while_training() -> None:
    model, x = make("lstm"), [torch.randn(40, 5)]
    assert torch.equal(model(x)[0], model(x)[0])
    model.train()
    assert not torch.equal(model(x)[0], model(x)[0])
