"""The coded network: one field per code, whichever way it is asked for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sdfcore.networks import MLP, Coded, CodedMLP


def network(skip: int = 2, dtype: torch.dtype = torch.float64, octaves: int = 0) -> CodedMLP:
    """With gains and biases that are at work, unlike those of an untrained one; β small, so that nothing is sharp."""
    torch.manual_seed(0)
    made = CodedMLP(code_size=3, width=24, depth=4, skip=skip, beta=10.0, octaves=octaves)
    with torch.no_grad():
        for layer in [*made.gains, *made.shifts]:
            layer.weight.normal_(0.0, 0.3)
        for layer in made.layers:
            layer.bias.normal_(0.0, 0.1)
            layer.weight.normal_(0.0, 0.3)
    return made.to(dtype)


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


POINTS, CODES = drawn(5, 40, 3), drawn(5, 3, seed=2)


@pytest.mark.parametrize("octaves", [0, 2])
@pytest.mark.parametrize("skip", [0, 2, 3])
def test_the_field_of_a_code_is_a_plain_mlp(skip: int, octaves: int) -> None:
    made = network(skip, octaves=octaves)
    together = made(POINTS, CODES)
    for points, code, wanted in zip(POINTS, CODES, together, strict=True):
        alone = made.at(code)
        assert isinstance(alone, MLP)
        torch.testing.assert_close(alone.double()(points), wanted, atol=2e-6, rtol=0)  # a plain one is float32
    assert together.std() > 0.05, "the shapes differ, so this says something"


def test_what_is_decoded_has_weights_of_its_own_and_draws_no_random_numbers() -> None:
    made = network(dtype=torch.float32)
    code = CODES[0].float()
    before = made(POINTS[:1].float(), code[None])
    state = torch.random.get_rng_state()
    alone = made.at(code)
    assert torch.equal(torch.random.get_rng_state(), state)
    for parameter in alone.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(made(POINTS[:1].float(), code[None]), before)


@pytest.mark.parametrize("octaves", [0, 2])
@pytest.mark.parametrize("skip", [0, 2, 3])
def test_derivatives_are_those_of_autograd(skip: int, octaves: int) -> None:
    made = network(skip, octaves=octaves)
    points = POINTS.clone().requires_grad_(True)
    value = made(points, CODES)
    (gradient,) = torch.autograd.grad(value.sum(), points, create_graph=True)
    axes = torch.eye(3, dtype=torch.float64)[:, None, None].expand(3, *POINTS.shape)
    pushed, derivatives = made.pushforward(POINTS, axes, CODES)
    torch.testing.assert_close(pushed, value)
    torch.testing.assert_close(derivatives.movedim(0, -1), gradient)
    # and with respect to the weights, as a loss on gradients needs it
    wanted = torch.autograd.grad(gradient.square().sum(), made.gains[1].weight)[0]
    found = torch.autograd.grad(derivatives.square().sum(), made.gains[1].weight)[0]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-4)
    assert wanted.abs().max() > 1e-3


@pytest.mark.parametrize("which", ["gains", "shifts"])
def test_gains_and_shifts_both_bend_the_field(which: str) -> None:
    made = network()
    before = made(POINTS, CODES)
    for layer in getattr(made, which):
        nn.init.zeros_(layer.weight)
    assert (made(POINTS, CODES) - before).abs().mean() > 0.01


def test_the_code_zero_is_the_plain_network() -> None:
    made = network()
    plain = MLP(**made.plain).double()
    plain.layers.load_state_dict(made.layers.state_dict())
    plain.last.load_state_dict(made.last.state_dict())
    torch.testing.assert_close(made(POINTS, torch.zeros_like(CODES))[0], plain(POINTS[0]))


def test_untrained_every_code_is_nearly_the_sphere() -> None:
    torch.manual_seed(0)
    made = CodedMLP(code_size=8, width=256, depth=5, skip=3)
    points = torch.nn.functional.normalize(torch.randn(3, 200, 3), dim=-1)
    codes = torch.nn.functional.normalize(torch.randn(3, 8), dim=-1)
    with torch.no_grad():
        at = {radius: float(made(radius * points, codes).mean()) for radius in (0.2, 0.8)}
    assert at[0.2] < -0.1
    assert at[0.8] > 0.1
    assert math.isclose(at[0.8] - at[0.2], 0.6, abs_tol=0.25)


def test_a_step_s_rows_belong_to_their_shapes() -> None:
    made = network()
    field = Coded(made, CODES)
    rows, directions = POINTS.reshape(-1, 3), drawn(2, 200, 3, seed=4)
    value = field(rows)
    assert value.shape == (200,)
    torch.testing.assert_close(value.reshape(5, 40), made(POINTS, CODES))
    again, derivatives = field.pushforward(rows, directions)
    wanted = made.pushforward(POINTS, directions.reshape(2, 5, 40, 3), CODES)
    torch.testing.assert_close(again, value)
    torch.testing.assert_close(derivatives, wanted[1].reshape(2, -1))
    other = CODES.clone()
    other[1] += 1
    changed = (Coded(made, other)(rows) - value).reshape(5, 40).abs().amax(dim=1) > 0
    assert changed.tolist() == [False, True, False, False, False]
