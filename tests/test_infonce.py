"""InfoNCE against plain loops, for each of the five rows of Table 2, with all and with sampled negatives."""

from __future__ import annotations

import math
import weakref
from typing import Any

import oracles
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cpc_speech import infonce
from cpc_speech.checkpoint import build_model
from cpc_speech.config import Config
from cpc_speech.infonce import PAPER_SETTINGS, info_nce

ROWS = sorted(PAPER_SETTINGS)
B, T, D, H, K = 3, 7, 4, 5, 3


def random_case(seed: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z, c, W = (torch.randn(*shape, generator=generator) for shape in ((B, T, D), (B, T, H), (K, D, H)))
    return scale * z, c, W


def predictions(c: Tensor, W: Tensor) -> list[Tensor]:
    return [c[:, : T - k] @ matrix.t() for k, matrix in enumerate(W, 1)]


def with_marks(B: int, T: int) -> tuple[Tensor, Tensor]:
    """z whose frame (j, s) is the number j·T + s, and predictions of 1: a score says which frame it is of."""
    return torch.arange(B * T, dtype=torch.float32).view(B, T, 1), torch.ones(B, T - 1, 1)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """The (logits, positive's column) over which the softmax was taken."""
    calls: list[tuple[Tensor, Tensor]] = []
    real = infonce._cross_entropy

    def spy(scores: Tensor, positive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        calls.append((scores.clone(), positive))
        return real(scores, positive)

    monkeypatch.setattr(infonce, "_cross_entropy", spy)
    return calls


def test_settings_are_the_rows_of_table_2() -> None:
    assert set(PAPER_SETTINGS) == set(oracles.TABLE_2)
    for row, (composition, _) in PAPER_SETTINGS.items():
        if row.split()[0] in ("mixed", "same"):
            assert composition == f"{row.split()[0]}_speaker"


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_loss_and_accuracy_equal_the_loops(row: str, scale: float) -> None:
    z, c, W = random_case(1, scale)
    result = info_nce(predictions(c, W), z, PAPER_SETTINGS[row][1])
    loss, accuracy, size = oracles.info_nce(row, z.tolist(), c.tolist(), W.tolist())
    # float32 against float64: rounding of about 1e-7 of scores up to 100.
    torch.testing.assert_close(result.loss, torch.tensor(loss), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(result.accuracy, torch.tensor(accuracy))
    config = Config(windows=B, window_samples=160 * T, steps=K, candidates=PAPER_SETTINGS[row][1])
    assert config.num_candidates == size


def test_settings_differ() -> None:
    """Otherwise the comparison above would not notice a setting that is passed over."""
    z, c, W = random_case(1)
    losses = {
        info_nce(predictions(c, W), z, s).loss.sum().item() for s in ("minibatch", "other_windows", "current_window")
    }
    assert len(losses) == 3


@pytest.mark.parametrize("row", ROWS)
def test_gradient_equals_that_of_the_definition(row: str) -> None:
    """d loss / d z by central differences of the loops; the masked frames must get none of it."""
    z, c, W = (x.double() for x in random_case(2))
    z = z.float().requires_grad_()
    info_nce(predictions(c.float(), W.float()), z, PAPER_SETTINGS[row][1]).loss.sum().backward()
    assert z.grad is not None
    for place in ((0, 0, 0), (1, 3, 2), (2, 6, 1)):
        sides = []
        for step in (-1e-5, 1e-5):
            moved = z.detach().double().clone()
            moved[place] += step
            sides.append(sum(oracles.info_nce(row, moved.tolist(), c.tolist(), W.tolist())[0]))
        # Differences of step 1e-5 in float64 are good to 1e-10, the float32 gradient to about 1e-6.
        assert z.grad[place].item() == pytest.approx((sides[1] - sides[0]) / 2e-5, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("candidates", ["minibatch", "other_windows", "current_window"])
@pytest.mark.parametrize("count", ["all", 5])
def test_equal_scores_are_chance_and_no_hits(candidates: str, count: int | str) -> None:
    """A collapsed network ties every score: loss ln N exactly, and a tie is a miss."""
    result = info_nce([torch.ones(B, T - 1, D)], torch.ones(B, T, D), candidates, count)
    config = Config(windows=B, window_samples=160 * T, steps=1, candidates=candidates, negatives=count)
    assert result.loss.item() == pytest.approx(math.log(config.num_candidates), rel=1e-6)  # float32
    assert result.accuracy.item() == 0


@pytest.mark.parametrize("candidates", ["minibatch", "other_windows", "current_window"])
@pytest.mark.parametrize("count", ["all", 5])
def test_perfect_predictions_are_all_hits(candidates: str, count: int | str) -> None:
    z = torch.eye(B * T).view(B, T, B * T)  # every frame unlike every other
    result = info_nce([50 * z[:, k:] for k in range(1, K + 1)], z, candidates, count)
    assert result.accuracy.tolist() == [1.0] * K
    assert result.loss.max().item() < 1e-6  # N e^-50, in float32


def test_one_rival_that_ties_makes_a_miss() -> None:
    z = torch.eye(T)[None].clone()
    z[0, 2] = z[0, 1]  # frames 1 and 2 look alike
    result = info_nce([z[:, 1:]], z, "current_window")
    assert result.accuracy.item() == pytest.approx((T - 3) / (T - 1))  # both their predictions miss


@pytest.mark.parametrize("row", ROWS)
def test_all_candidates_are_those_of_the_definition(row: str, seen: list) -> None:
    z, ones = with_marks(B, T)
    info_nce([ones], z, PAPER_SETTINGS[row][1])
    ((logits, target),) = seen
    predicted = [(i, t + 1) for i in range(B) for t in range(T - 1)]
    for scores, column, (i, s) in zip(logits, target, predicted, strict=True):
        assert scores[column].item() == i * T + s
        found = scores[torch.isfinite(scores)].int().tolist()
        assert sorted(found) == sorted(j * T + r for j, r in [(i, s), *oracles.negatives(row, i, s, B, T)])


@pytest.mark.parametrize("row", ROWS)
def test_sampled_negatives_are_uniform_over_the_candidates(row: str, seen: list) -> None:
    z, ones = with_marks(B, T)
    count = 2000
    info_nce([ones], z, PAPER_SETTINGS[row][1], count, torch.Generator().manual_seed(3))
    ((logits, target),) = seen
    assert logits.shape == (B * (T - 1), count + 1)
    predicted = [(i, t + 1) for i in range(B) for t in range(T - 1)]
    for scores, column, (i, s) in zip(logits, target, predicted, strict=True):
        drawn = scores.int().tolist()
        assert drawn.pop(int(column)) == i * T + s
        allowed = [j * T + r for j, r in oracles.negatives(row, i, s, B, T)]
        assert set(drawn) <= set(allowed)  # never the positive, never outside the set
        # 18 seeded tests a row; 5 standard deviations are passed by chance less than once in 10,000 of them.
        assert oracles.chi_square([drawn.count(a) for a in allowed], [count / len(allowed)] * len(allowed)) < 5


def test_sampled_negatives_differ_between_predictions_and_follow_the_generator(seen: list) -> None:
    z, ones = with_marks(B, T)
    for seed in (1, 1, 2):
        info_nce([ones, ones[:, 1:]], z, "minibatch", 6, torch.Generator().manual_seed(seed))
    (first, _), (second_step, _), (again, _), _, (other, _), _ = seen
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first[0, 1:], first[1, 1:])  # drawn anew for every prediction
    assert not torch.equal(first[1, 1:], second_step[0, 1:])  # and for every step


def test_one_sampled_negative_has_the_mean_loss_of_all_pairs() -> None:
    """Many draws of one negative: the mean is that of ln(1 + e^(s_n − s_p)) over all pairs."""
    z, c, W = random_case(4)
    predicted = predictions(c, W)[:1]
    generator = torch.Generator().manual_seed(5)
    sampled = torch.stack([info_nce(predicted, z, "minibatch", 1, generator).loss for _ in range(400)])
    pairs = []
    for i in range(B):
        for t in range(T - 1):
            scores = z.view(-1, D) @ predicted[0][i, t]
            own = i * T + t + 1
            pairs.append(
                sum(math.log1p(math.exp(scores[n] - scores[own])) for n in range(B * T) if n != own) / (B * T - 1)
            )
    error = sampled.std().item() / math.sqrt(len(sampled))
    assert sampled.mean().item() == pytest.approx(sum(pairs) / len(pairs), abs=4 * error)  # 4 standard errors


def test_bf16_inputs_are_scored_in_fp32() -> None:
    """Scores that differ by less than bf16's 1/256 must not tie."""
    z = torch.full((1, 4, 1), 1.0)
    z[0, :, 0] += torch.tensor([0.0, 1, 2, 3]) / 128  # exact in bf16
    prediction = torch.full((1, 1, 1), 64.5)  # products 64.5 … 66.01: in bf16 they would be rounded to halves
    result = info_nce([prediction.bfloat16()], z.bfloat16()[:, :2], "current_window")
    exact = math.log1p(math.exp(-64.5 / 128))
    assert result.loss.item() == pytest.approx(exact, rel=1e-6)
    assert result.accuracy.item() == 1


def obvious(predicted: list[Tensor], z: Tensor, candidates: str, columns: list[Tensor] | None) -> Tensor:
    """Loss of every step, by autograd all the way: all scores, a mask or a gather, and torch's cross-entropy.

    columns: where negatives are drawn, for each step those of (the positive, the negatives) among z's B·T frames.
    """
    frames, losses = z.reshape(B * T, D), []
    for k, prediction in enumerate(predicted, 1):
        scores = prediction.reshape(-1, D) @ frames.t()
        place = [(i, t + k) for i in range(B) for t in range(T - k)]
        if columns is not None:
            losses.append(F.cross_entropy(scores.gather(1, columns[k - 1]), torch.zeros(len(place), dtype=torch.long)))
            continue
        row = {"minibatch": "mixed speaker", "other_windows": "mixed speaker (excl.)"}.get(
            candidates, "current sequence only"
        )
        allowed = torch.zeros(scores.shape, dtype=torch.bool)
        for line, (i, s) in enumerate(place):
            for j, r in [(i, s), *oracles.negatives(row, i, s, B, T)]:
                allowed[line, j * T + r] = True
        target = torch.tensor([i * T + s for i, s in place])
        losses.append(F.cross_entropy(scores.masked_fill(~allowed, -torch.inf), target))
    return torch.stack(losses)


@pytest.mark.parametrize("candidates", ["minibatch", "other_windows", "current_window"])
@pytest.mark.parametrize("count", ["all", 4])
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_gradients_equal_those_of_autograd(candidates: str, count: int | str, scale: float, seen: list) -> None:
    """In the predictions and in z, each step's loss with a weight of its own; against the obvious way in float64."""
    z, c, W = random_case(6, scale)
    leaves = [z.requires_grad_(), *(p.detach().requires_grad_() for p in predictions(c, W))]
    columns = None
    if count != "all":  # which were drawn: z that says which frame it is, and the same generator, tell
        marks, _ = with_marks(B, T)
        ones = [torch.ones(B, T - k, 1) for k in range(1, K + 1)]
        info_nce(ones, marks, candidates, count, torch.Generator().manual_seed(8))
        columns = [drawn.long() for drawn, _ in seen]
    weights = torch.tensor([1.0, -2.0, 0.5])
    result = info_nce(leaves[1:], leaves[0], candidates, count, torch.Generator().manual_seed(8))
    found = torch.autograd.grad(result.loss @ weights, leaves)

    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    loss = obvious(exact[1:], exact[0], candidates, columns)
    expected = torch.autograd.grad(loss @ weights.double(), exact)
    # float32 against float64: rounding of about 1e-7 of scores up to 100, i.e. 1e-5 of every probability.
    torch.testing.assert_close(result.loss.double(), loss, rtol=1e-5, atol=1e-5)
    for mine, right in zip(found, expected, strict=True):
        assert right.abs().max() > 0.01
        torch.testing.assert_close(mine.double(), right, rtol=1e-4, atol=1e-5 * right.abs().max().item())


@pytest.mark.parametrize("candidates", ["minibatch", "other_windows", "current_window"])
@pytest.mark.parametrize("count", ["all", 5])
def test_no_scores_are_kept_for_the_backward_pass(candidates: str, count: int | str) -> None:
    """What is kept of a step is of the size of its predictions and of z: memory does not grow with K scores."""
    windows, frames = 4, 60
    z = torch.randn(windows, frames, D, requires_grad=True)
    leaves = [torch.randn(windows, frames - k, D, requires_grad=True) for k in range(1, K + 1)]
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.untyped_storage().nbytes() // tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = info_nce(leaves, z, candidates, count)
    assert len(kept) == 2 * K  # the gradients in predictions and z of each step: the hooks saw them
    assert max(kept) <= z.numel()  # even the fewest scores, of one window's frames each, are 59 / 4 times as many
    result.loss.sum().backward()
    assert z.grad is not None and z.grad.abs().sum() > 0


class Work(TorchDispatchMode):
    """Counts matrix products, and the bytes of all that is made and held at one time, at most."""

    def __init__(self) -> None:
        super().__init__()
        self.products = self.peak = 0
        self._made: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.products += func.overloadpacket in (torch.ops.aten.bmm, torch.ops.aten.mm)
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._made[id(storage)] = weakref.ref(storage)
        held = [alive for ref in self._made.values() if (alive := ref()) is not None]
        self.peak = max(self.peak, sum(storage.nbytes() for storage in held))
        return result


@pytest.mark.parametrize("candidates", ["minibatch", "other_windows", "current_window"])
@pytest.mark.parametrize("count", ["all", 5])
def test_memory_does_not_grow_with_the_steps(candidates: str, count: int | str) -> None:
    windows, frames = 4, 60
    peaks = []
    for steps in (1, 12):
        z = torch.randn(windows, frames, D, requires_grad=True)
        leaves = [torch.randn(windows, frames - k, D, requires_grad=True) for k in range(1, steps + 1)]
        with Work() as work:
            info_nce(leaves, z, candidates, count)
        peaks.append(work.peak)
    scores = 4 * windows * (frames - 1) * frames * (1 if candidates == "current_window" else windows)
    assert peaks[0] > scores
    # 12 times what is kept of a step, of the size of its predictions and z, and less than one step's scores more.
    assert peaks[1] - peaks[0] < 12 * 2 * 4 * windows * frames * D + scores / 2


@pytest.mark.parametrize("candidates", ["minibatch", "other_windows", "current_window"])
def test_without_gradients_nothing_is_done_for_them(candidates: str) -> None:
    config = Config(
        channels=D, context_dim=H, steps=K, window_samples=160 * T, windows=B, candidates=candidates, precision="fp32"
    )
    model, waveform = build_model(config), 0.1 * torch.randn(B, 160 * T, generator=torch.Generator().manual_seed(0))
    results, products = [], []
    for tracked in (True, False):
        with torch.set_grad_enabled(tracked):
            z, c = model(waveform)
            predicted = [model.predictors[k - 1](c[:, : T - k]) for k in range(1, K + 1)]
            with Work() as work:
                results.append(info_nce(predicted, z, candidates))
        products.append(work.products)
    assert products == [3 * K, K]
    assert results[0].loss.requires_grad and not results[0].accuracy.requires_grad
    assert not results[1].loss.requires_grad
    assert torch.equal(results[0].loss, results[1].loss) and torch.equal(results[0].accuracy, results[1].accuracy)
