"""One update of the weights, by analytic cases; the schedule; signals."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator

import pytest
import torch
from runs import in_processes
from torch import Tensor, nn

from cpc_speech.config import Config
from cpc_speech.optimise import NotFiniteError, Update, adam, learning_rate, update_weights
from cpc_speech.processes import Processes
from cpc_speech.signals import stop_signals

ALONE = Processes(0, 1, torch.device("cpu"))
CONFIG = Config(learning_rate=0.5, final_learning_rate=0.5)


class Point(nn.Module):
    """Two parameters, x in R³ and y in R."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.y = nn.Parameter(torch.tensor([1.0, 2.0, 3.0])), nn.Parameter(torch.tensor(4.0))

    def losses(self, *slopes: float) -> Iterator[Tensor]:
        """Losses whose gradient is (slope, 0, 0) in x and 2 · slope in y."""
        for slope in slopes:
            yield slope * (self.x[0] + 2 * self.y)


def state(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """A copy of all weights and moments."""
    parameters = optimizer.param_groups[0]["params"]
    return [tensor.detach().clone() for p in parameters for tensor in (p, *optimizer.state[p].values())]


def test_the_gradient_is_that_of_the_mean() -> None:
    point = Point()
    optimizer = adam(point, CONFIG)
    result = update_weights(optimizer, 0.25, point.losses(1, 2, 6), 3, ALONE)
    assert tuple(result) == (pytest.approx(3 * math.sqrt(5), rel=1e-6), False)  # mean slope 3; fp32
    # Adam's first step is the rate, against the gradient's sign (less its ε of 1e-8 by the gradient).
    torch.testing.assert_close(point.x.detach(), torch.tensor([0.75, 2, 3]))
    torch.testing.assert_close(point.y.detach(), torch.tensor(3.75))
    moment = optimizer.state[point.y]["exp_avg"]
    torch.testing.assert_close(moment, torch.tensor(0.1 * 6))  # (1 − β₁) times the gradient
    assert point.x.grad is None and point.y.grad is None
    # The next update begins with no gradient, and takes its own rate: m̂/√v̂ stays 1 where the gradient does.
    update_weights(optimizer, 0.5, point.losses(3), 1, ALONE)
    torch.testing.assert_close(point.x.detach(), torch.tensor([0.25, 2, 3]))


def test_a_process_share_of_the_minibatches_counts_for_so_much() -> None:
    point = Point()
    result = update_weights(adam(point, CONFIG), 0.1, point.losses(1, 2), 8, ALONE)
    assert result.gradient_norm == pytest.approx(3 / 8 * math.sqrt(5), rel=1e-6)  # fp32


def test_a_minibatch_is_behind_before_the_next_is_asked_for() -> None:
    """So that one minibatch's activations are held at a time."""
    point = Point()
    found = []

    def losses() -> Iterator[Tensor]:
        for _ in range(3):
            found.append(None if point.x.grad is None else point.x.grad[0].item())
            yield point.x.sum() + point.y

    update_weights(adam(point, CONFIG), 0.1, losses(), 4, ALONE)
    assert found == [None, 0.25, 0.5]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 2])
def test_nothing_changes_where_a_gradient_is_not_finite(bad: float, place: int) -> None:
    point = Point()
    optimizer = adam(point, CONFIG)
    update_weights(optimizer, 0.1, point.losses(1), 1, ALONE)
    before = state(optimizer)
    assert len(before) == 2 * 4  # weight, step, and the two moments
    with pytest.raises(NotFiniteError):
        update_weights(optimizer, 0.1, point.losses(*(bad if i == place else 1 for i in range(3))), 3, ALONE)
    assert all(torch.equal(a, b) for a, b in zip(before, state(optimizer), strict=True))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nothing_changes_where_a_loss_is_not_finite(bad: float) -> None:
    """Its gradient may well be: the mean over no labelled frame is nan, and its gradient 0."""
    point = Point()
    optimizer = adam(point, CONFIG)
    update_weights(optimizer, 0.1, point.losses(1), 1, ALONE)
    before, losses = state(optimizer), point.losses(1, 1, 1)
    with pytest.raises(NotFiniteError):
        update_weights(optimizer, 0.1, (loss + (bad if i == 1 else 0) for i, loss in enumerate(losses)), 3, ALONE)
    assert all(torch.equal(a, b) for a, b in zip(before, state(optimizer), strict=True))


def test_processes_add_up_their_gradients_and_their_wish_to_stop() -> None:
    def update(processes: Processes) -> tuple[Update, list[float], bool]:
        point = Point()
        optimizer = adam(point, CONFIG)
        slopes = [[1, 6], [2], [-5]][processes.rank]
        result = update_weights(optimizer, 0.25, point.losses(*slopes), 4, processes, stop=processes.rank == 1)
        once_more = update_weights(optimizer, 0.25, point.losses(*slopes), 4, processes)
        return result, point.x.tolist(), once_more.stop

    answers = in_processes(3, update)
    # Mean slope (1 + 6 + 2 − 5) / 4 = 1; two steps of the rate.
    expected = ((pytest.approx(math.sqrt(5), rel=1e-6), True), pytest.approx([0.5, 2, 3], abs=1e-6), False)
    assert answers == [expected] * 3


def test_what_is_not_finite_in_one_process_stops_all() -> None:
    def update(processes: Processes) -> list[float]:
        point = Point()
        optimizer = adam(point, CONFIG)
        with pytest.raises(NotFiniteError):
            update_weights(optimizer, 0.25, point.losses(math.nan if processes.rank else 1), 2, processes)
        return point.x.tolist()

    assert in_processes(2, update) == [[1, 2, 3]] * 2


def test_learning_rate_schedule() -> None:
    config = Config(updates=110, warmup_updates=10, learning_rate=1e-3, final_learning_rate=1e-4)
    rates = [learning_rate(config, update) for update in range(111)]
    assert rates[:10] == pytest.approx([1e-4 * (i + 1) for i in range(10)])
    assert rates[10] == pytest.approx(1e-3)
    assert rates[60] == pytest.approx((1e-3 + 1e-4) / 2) and rates[110] == pytest.approx(1e-4)
    assert all(a > b for a, b in zip(rates[10:], rates[11:], strict=False))
    constant = Config(updates=100)
    assert {learning_rate(constant, update) for update in range(100)} == {2e-4}


def test_signals_are_noted_and_then_handled_as_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(ZeroDivisionError), stop_signals() as received:
        assert not received
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert received == [signal.SIGTERM, signal.SIGINT]
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
