"""The network against nn.Conv1d's own arithmetic, and its frame geometry against gradients."""

from __future__ import annotations

import copy

import oracles
import pytest
import torch
from torch import Tensor, nn

from cpc_speech import model as model_module
from cpc_speech.infonce import info_nce
from cpc_speech.model import CPC, HOP, Context, ConvBlock, Encoder, State


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Biases, gains and shifts start at 0 and 1, where mistakes with them would not show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("inputs, kernel, stride, padding", [(1, 10, 5, 3), (6, 8, 4, 2), (6, 4, 2, 1)])
def test_block_equals_conv1d_and_layer_norm(inputs: int, kernel: int, stride: int, padding: int) -> None:
    block = randomised(ConvBlock(inputs, 8, kernel, stride, padding)).double()
    reference = {name: parameter.detach().clone().requires_grad_() for name, parameter in block.named_parameters()}
    x = noise(2, 9 * stride, inputs).double().requires_grad_()
    other = x.detach().clone().requires_grad_()
    y = block(x)
    weight, bias, gain, shift = reference.values()
    expected = oracles.block(other.transpose(1, 2), weight, bias, gain, shift, stride, padding).transpose(1, 2)
    assert y.shape == (2, 9, 8)
    # float64: only the order of sums differs, by about 1e-15 of numbers near 1.
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    weights = noise(2, 9, 8, seed=2).double()
    (y * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(x.grad, other.grad, rtol=0, atol=1e-11)
    for name, parameter in block.named_parameters():
        torch.testing.assert_close(parameter.grad, reference[name].grad, rtol=0, atol=1e-11)


def test_encoder_equals_five_convolutions_in_fp32_with_their_gradients() -> None:
    encoder = randomised(Encoder(16))
    reference = {name: parameter.detach().clone().requires_grad_() for name, parameter in encoder.named_parameters()}
    waveform = 0.1 * noise(2, 20 * HOP + 37)
    z, expected = encoder(waveform), oracles.encoder(reference, waveform)
    # fp32 sums in another order through five layers: 1e-7 each, grown by the normalisations.
    torch.testing.assert_close(z, expected, rtol=0, atol=2e-5)
    weights = noise(*z.shape, seed=2)
    (z * weights).sum().backward()
    (expected * weights).sum().backward()
    for name, parameter in encoder.named_parameters():
        gradient = reference[name].grad
        assert gradient is not None
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=1e-4 * gradient.abs().max().item(), msg=name)


@pytest.mark.parametrize("frames", [1, 19, 20, 21, 22, 40, 41, 59])
@pytest.mark.parametrize("remainder", [0, 1, 159])
def test_a_long_waveform_in_pieces_is_encoded_as_in_one(
    frames: int, remainder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No frame may notice where the pieces of 20 frames are cut; at the waveform's own ends there is padding."""
    monkeypatch.setattr(model_module, "_PIECE", 20)
    encoder = Encoder(16)
    randomised(encoder)
    waveform = 0.1 * noise(1, HOP * frames + remainder)
    with torch.no_grad():
        # The same sums in products of other sizes, in fp32.
        torch.testing.assert_close(encoder.long(waveform[0]), encoder(waveform)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kernel", [9, 11])
def test_a_kernel_that_is_not_two_strides_is_refused(kernel: int) -> None:
    with pytest.raises(ValueError, match="twice the stride"):
        ConvBlock(1, 4, kernel, 5, 3)


def test_frames_are_n_over_160_for_every_remainder() -> None:
    encoder = Encoder(4)
    for n in [*range(160, 481), 159 + 160 * 7, 160 * 8, 160 * 8 + 1, 20480, 20480 + 159]:
        assert encoder(torch.zeros(1, n)).shape == (1, n // 160, 4), n


@pytest.mark.parametrize("remainder", [1, 159])
def test_the_remainder_changes_no_frame(remainder: int) -> None:
    encoder = randomised(Encoder(8))
    waveform = noise(1, 5 * HOP + remainder)
    assert torch.equal(encoder(waveform), encoder(waveform[:, : 5 * HOP]))


def test_receptive_field() -> None:
    """Frame t sees samples 160 t − 153 … 160 t + 311, each of them, and nothing beside."""
    encoder = randomised(Encoder(16)).double()
    for t in (0, 1, 4, 9):
        seen = torch.zeros(10 * HOP, dtype=torch.bool)
        for seed in range(3):  # a ReLU may close the way in one draw
            waveform = noise(1, 10 * HOP, seed=seed).double().requires_grad_()
            encoder(waveform)[0, t].sum().backward()
            assert waveform.grad is not None
            seen |= waveform.grad[0] != 0
        expected = torch.zeros_like(seen)
        expected[max(0, HOP * t - 153) : HOP * t + 311 + 1] = True
        assert (seen & ~expected).sum() == 0, t
        missed = (expected & ~seen).nonzero().flatten().tolist()
        assert missed == [], t


def test_parameters_are_those_of_conv1d() -> None:
    expected: dict[str, torch.Size] = {}
    inputs = 1
    for layer, (kernel, stride, padding) in enumerate(oracles.CONVOLUTIONS):
        convolution = nn.Conv1d(inputs, 16, kernel, stride, padding)
        expected |= {f"layers.{layer}.conv.{name}": p.shape for name, p in convolution.named_parameters()}
        expected |= {f"layers.{layer}.norm.{name}": p.shape for name, p in nn.LayerNorm(16).named_parameters()}
        inputs = 16
    found = {name: parameter.shape for name, parameter in Encoder(16).named_parameters()}
    assert list(found.items()) == list(expected.items())  # in this order
    convolutions = [module for module in Encoder(16).modules() if isinstance(module, nn.Conv1d)]
    assert [(c.kernel_size[0], c.stride[0], c.padding[0]) for c in convolutions] == list(oracles.CONVOLUTIONS)
    assert list(CPC(16, 8, 2).state_dict())[-2:] == ["predictors.0.weight", "predictors.1.weight"]


def test_paper_sizes() -> None:
    model = CPC()
    assert sum(p.numel() for p in model.encoder.parameters() if p.dim() > 1) == 512 * 10 + 512 * 512 * (8 + 4 + 4 + 4)
    assert model.context.rnn.num_layers == 1 and model.context.rnn.hidden_size == 256
    assert [(n, tuple(p.shape)) for n, p in model.predictors.named_parameters()] == [
        (f"{k}.weight", (512, 256)) for k in range(12)
    ]


def test_initialisation_is_he_and_zero() -> None:
    torch.manual_seed(0)
    for convolution in [module for module in Encoder(64).modules() if isinstance(module, nn.Conv1d)]:
        weight, bias = convolution.weight, convolution.bias
        fan_in = weight[0].numel()
        # The sample standard deviation of n ≥ 640 normals is within 5/√(2n) ≤ 14 % but for one in a million.
        n = weight.numel()
        assert weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=5 / (2 * n) ** 0.5)
        assert bias is not None and not bias.any()


@pytest.mark.parametrize("candidates", ["minibatch", "other_windows", "current_window"])
@pytest.mark.parametrize("kind, layers", [("gru", 1), ("lstm", 2)])
def test_every_parameter_gets_a_gradient(candidates: str, kind: str, layers: int) -> None:
    model = CPC(16, 8, 4, recurrence=kind, context_layers=layers)
    z, c = model(0.1 * noise(3, 12 * HOP))
    predictions = [predict(c[:, : 12 - k]) for k, predict in enumerate(model.predictors, 1)]
    info_nce(predictions, z, candidates).loss.sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


RECURRENCES = [(kind, layers) for kind in ("gru", "lstm") for layers in (1, 2, 3)]


def tensors(state: State) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("kind, layers", RECURRENCES)
def test_context_is_single_layers_above_one_another(kind: str, layers: int) -> None:
    context = Context(16, 8, kind, layers)
    single = {"gru": nn.GRU, "lstm": nn.LSTM}[kind]
    expected, last = noise(2, 30, 16), []
    with torch.no_grad():
        c, state = context(expected)
        for layer in range(layers):
            alone = single(expected.shape[2], 8, batch_first=True)
            own = {name: p for name, p in context.rnn.named_parameters() if name.endswith(f"_l{layer}")}
            alone.load_state_dict({name.replace(f"_l{layer}", "_l0"): p for name, p in own.items()})
            expected, after = alone(expected)
            last.append(tensors(after))
    torch.testing.assert_close(c, expected, rtol=0, atol=1e-6)  # fp32
    assert [t.shape for t in tensors(state)] == [(layers, 2, 8)] * (2 if kind == "lstm" else 1)
    for found, wanted in zip(tensors(state), zip(*last)):
        torch.testing.assert_close(found, torch.cat(wanted), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind, layers", RECURRENCES)
def test_context_carried_over_chunks_equals_the_whole(kind: str, layers: int) -> None:
    context = Context(16, 8, kind, layers)
    z = noise(2, 30, 16)
    whole, last = context(z)
    state, pieces = None, []
    for chunk in z.split([7, 1, 22], dim=1):
        c, state = context(chunk, state)
        pieces.append(c)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=0, atol=1e-6)  # fp32, another order of sums
    assert state is not None
    for found, wanted in zip(tensors(state), tensors(last)):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    afresh = context(z[:, 8:])[0]
    assert not torch.allclose(afresh[:, 0], whole[:, 8], atol=1e-4)  # so the state does matter


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_truncated_network_is_its_first_layers(kind: str) -> None:
    model = randomised(CPC(16, 8, 2, recurrence=kind, context_layers=3))
    assert isinstance(model, CPC)
    waveform = 0.1 * noise(2, 20 * HOP)
    with torch.no_grad():
        z, c = model(waveform)
        below, expected = z, []
        for layer in range(3):
            alone = getattr(nn, kind.upper())(below.shape[2], 8, batch_first=True)
            for name, parameter in alone.named_parameters():
                parameter.copy_(model.context.rnn.get_parameter(name.replace("_l0", f"_l{layer}")))
            below = alone(below)[0]
            expected.append(below)
        torch.testing.assert_close(expected[2], c, rtol=0, atol=1e-6)  # fp32
        for depth in (1, 2, 3):
            cut = model.truncated(depth)
            assert cut.context.rnn.num_layers == depth and not len(cut.predictors)
            assert cut.architecture == model.architecture | {"context_layers": depth, "steps": 0}
            torch.testing.assert_close(cut(waveform)[1], expected[depth - 1], rtol=0, atol=1e-6)
    for name, parameter in model.truncated(2).named_parameters():
        assert parameter is model.get_parameter(name), name
    for depth in (0, 4):
        with pytest.raises(ValueError, match=f"layers 1 to 3, not {depth}"):
            model.truncated(depth)


def test_a_truncated_network_can_be_copied_and_trained() -> None:
    model = CPC(16, 8, 2, recurrence="lstm", context_layers=2).eval()
    cut = copy.deepcopy(model.truncated(1))
    waveform = 0.1 * noise(1, 10 * HOP)
    before = cut(waveform)[1]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(cut(waveform)[1], before) and before.any()
    cut(waveform)[1].sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in cut.parameters())


def test_epsilon_of_the_normalisation() -> None:
    """Every channel of the first layer alike: nothing is left but its shift; amplitudes near ε are shrunk by it."""
    encoder = Encoder(2, norm_epsilon=0.25)
    assert {m.eps for m in encoder.modules() if isinstance(m, nn.LayerNorm)} == {0.25}
    block = encoder.layers[0]
    assert isinstance(block, ConvBlock) and block.conv.bias is not None
    with torch.no_grad():
        block.conv.weight.zero_()
        block.conv.bias.copy_(torch.tensor([1.0, -1.0]))  # mean 0, variance 1: ±1 / √1.25
        y = block(torch.zeros(1, 10, 1))
    torch.testing.assert_close(y, torch.tensor([1 / 1.25**0.5, 0.0]).expand(1, 2, 2))


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_context_looks_back_only(kind: str) -> None:
    context = Context(16, 8, kind, 2)
    z = noise(1, 10, 16)
    changed = z.clone()
    changed[:, 6:] = 0
    assert torch.equal(context(z)[0][:, :6], context(changed)[0][:, :6])
    assert not torch.equal(context(z)[0][:, 6:], context(changed)[0][:, 6:])


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_context_is_computed_in_fp32_within_autocast(kind: str) -> None:
    context, z = Context(16, 8, kind), noise(1, 5, 16).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        inside = context(z)[0]
    assert inside.dtype == torch.float32 and torch.equal(inside, context(z.float())[0])


def test_batch_of_windows_equals_windows_one_by_one() -> None:
    model = randomised(CPC(16, 8, 2))
    waveform = noise(3, 6 * HOP)
    z, c = model(waveform)
    for i in range(3):
        alone = model(waveform[i : i + 1])
        torch.testing.assert_close(alone[0][0], z[i], rtol=0, atol=1e-5)  # fp32
        torch.testing.assert_close(alone[1][0], c[i], rtol=0, atol=1e-5)
