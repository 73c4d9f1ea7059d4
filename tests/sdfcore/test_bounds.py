"""Bounds hold: 10⁶ points in 10³ regions, for every layer and every kind of network, random and fitted."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small_fits import ball_points, finish, small_recipes
from torch import Tensor, nn

from sdfcore.errors import UnsupportedLayerError
from sdfcore.fitting import Fit
from sdfcore.geometry import PointCloud
from sdfcore.networks import (
    MLP,
    Body,
    Boxed,
    CodedMLP,
    Combined,
    DeepSDF,
    DeepSDFDecoder,
    Displaced,
    FeatureGrid,
    FourierMLP,
    HashGrid,
    Lipschitz,
    Mended,
    Offset,
    Placed,
    Siren,
    SphereSiren,
    Turned,
)
from sdfcore.networks.layers import ELU, ReLU, SignedRoot, Sine, Softplus, Tanh
from sdfcore.queries import affine
from sdfcore.queries import bounds as bounds_module
from sdfcore.queries.affine import Arithmetic, Form
from sdfcore.queries.bounds import Bound, PreciseBound, RangeBound, bound_of, over_boxes
from sdfcore.queries.curves import curve_of

__all__ = ["small_recipes"]

REGIONS, EACH = 1000, 1000
ARITHMETICS = [Arithmetic("interval"), Arithmetic("fixed"), Arithmetic("truncate", 12), Arithmetic("append")]


def boxes(count: int = REGIONS, seed: int = 0, most: float = 0.5) -> tuple[Tensor, Tensor]:
    """Boxes of all sizes, from points to half the unit box; a few reach out of it."""
    draw = torch.Generator().manual_seed(seed)
    half = 10 ** (-4 * torch.rand(count, 3, generator=draw)) * most
    half[: count // 50] = 0
    centre = torch.rand(count, 3, generator=draw) * 2.1 - 1.05
    return centre - half, centre + half


def points_in(lower: Tensor, upper: Tensor, each: int, seed: int = 1) -> Tensor:
    """(B, each, 3): corners, borders and the inside."""
    share = torch.rand(len(lower), each, 3, generator=torch.Generator().manual_seed(seed))
    share[:, : each // 2] = (share[:, : each // 2] * 1.5 - 0.25).clamp(0, 1)
    at = lower[:, None] + share * (upper - lower)[:, None]
    return at.clamp(lower[:, None], upper[:, None])


def outside(bound: Bound, of: Callable[[Tensor], Tensor], each: int = EACH, count: int = REGIONS) -> int:
    """How many of ``count`` times ``each`` values are not in the bound of their box."""
    lower, upper = boxes(count)
    low, high = over_boxes(bound, lower, upper)
    assert torch.isfinite(low).all()
    assert torch.isfinite(high).all()
    missed = 0
    with torch.no_grad():
        for first in range(0, count, 100):
            part = slice(first, first + 100)
            at = points_in(lower[part], upper[part], each)
            values = of(at.reshape(-1, 3)).reshape(-1, each)
            missed += int(((values < low[part, None]) | (values > high[part, None])).sum())
    return missed


def roughened(network: nn.Module, by: float = 0.3, seed: int = 0) -> nn.Module:
    """With weights as no initialisation leaves them."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in (v for name, v in network.named_parameters() if "features" not in name):
            value += by * value.abs().mean() * torch.randn(value.shape, generator=draw)
    return network.eval()


def grid() -> FeatureGrid:
    surface = np.random.default_rng(0).normal(size=(4000, 3))
    surface = 0.6 * surface / np.linalg.norm(surface, axis=1, keepdims=True)
    network = FeatureGrid.around(surface, [4, 8, 16, 32, 64], dense=8, channels=2, width=16)
    with torch.no_grad():
        network.features[1:] = 0.1 * torch.randn(network.features[1:].shape, generator=torch.Generator().manual_seed(3))
    return network


def hashed() -> HashGrid:
    network = HashGrid(levels=5, coarsest=4, finest=64, log_rows=10, width=16)
    with torch.no_grad():
        network.features.normal_(0, 0.1)
    return network


def mended() -> Mended:
    network = Mended(MLP(16, 2, 0))
    for centre, radius, height in (((0.1, 0.2, 0.3), 0.2, 0.5), ((-0.5, 0, 0), 0.05, -0.3), ((0.6, 0.6, 0), 0.01, 0.1)):
        network = network.with_bump(torch.tensor(centre), radius, height)
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "softplus": lambda: MLP(32, 4, 2),
    "relu, skip, encoded": lambda: MLP(48, 3, 2, beta=0, octaves=3, leak=0.1),
    "weight norm": lambda: MLP(32, 3, 0, normed=True),
    "siren 30": lambda: Siren(32, 3, 30.0),
    "siren 5": lambda: Siren(32, 4, 5.0),
    "sphere siren": lambda: SphereSiren(32, 3),
    "quadratic": lambda: SphereSiren(16, 3, quadratic=True),
    "fourier": lambda: FourierMLP(32, 3, 16, 2.0),
    "lipschitz": lambda: Lipschitz(32, 5),
    "lipschitz, deep": lambda: Lipschitz(64, 20),
    "deepsdf": lambda: DeepSDF([32, 32, 32], again=[2], squashes=2),
    "leaky": lambda: DeepSDF([32, 32], slope=0.02, squashes=0),
    "elu": lambda: DeepSDF([32, 32, 32], squashes=0, elu=True),
    "grid": grid,
    "hash": hashed,
    "mended": mended,
    "turned": lambda: Turned(MLP(32, 3, 0), torch.linalg.qr(torch.randn(3, 3))[0]),
    "placed": lambda: Placed(MLP(32, 3, 0), 0.7, torch.linalg.qr(torch.randn(3, 3))[0], torch.tensor([0.2, 0.0, -0.1])),
    "boxed": lambda: Boxed(MLP(32, 3, 0), -0.4 * torch.ones(3), 0.5 * torch.ones(3)),
    "offset": lambda: Offset(MLP(32, 3, 0), 0.1),
    "shell": lambda: Offset(MLP(32, 3, 0), -0.1, 0.05),
    "union": lambda: Combined([MLP(32, 3, 0), Body("torus", [0.5, 0.2])], "union"),
    "smooth difference": lambda: Combined([MLP(32, 3, 0), Body("box", [0.5, 0.2, 0.3])], "difference", 0.2),
    "round intersection": lambda: Combined([MLP(32, 3, 0), Body("capsule", [0.5, 0.2])], "intersection", 0.2, "round"),
    "chamfered union": lambda: Combined([Siren(16, 2, 5.0), Body("cylinder", [0.4, 0.3])], "union", 0.2, "chamfer"),
    "morph": lambda: Combined([MLP(32, 3, 0), Siren(16, 2, 5.0)], "morph", share=0.3),
    "displaced": lambda: Displaced(Siren(16, 2, 5.0), Siren(16, 2, 15.0), 0.05),
    "decoded": lambda: CodedMLP(8, 32, 4, 2).at(torch.randn(8)),
    "decoded deepsdf": lambda: DeepSDFDecoder(8, [32, 32], again=[1], coded=[1]).at(torch.randn(8)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_no_value_of_a_network_is_outside_its_bound(name: str) -> None:
    torch.manual_seed(5)
    network = roughened(NETWORKS[name]())
    assert outside(bound_of(network), network) == 0


@pytest.mark.parametrize("arithmetic", ARITHMETICS, ids=lambda a: a.kind)
@pytest.mark.parametrize(
    "name",
    ["softplus", "relu, skip, encoded", "siren 5", "quadratic", "lipschitz", "grid", "smooth difference", "morph"],
)
def test_every_arithmetic_holds(name: str, arithmetic: Arithmetic) -> None:
    torch.manual_seed(6)
    network = roughened(NETWORKS[name]())
    assert outside(bound_of(network, arithmetic), network, each=200, count=500) == 0


@pytest.mark.parametrize("arithmetic", ARITHMETICS, ids=lambda a: a.kind)
@pytest.mark.parametrize(
    "layer",
    [Softplus(1.0), Softplus(100.0), ReLU(), ReLU(0.2), ELU(), Tanh(), Tanh(0.3), Sine(1.0), Sine(30.0), SignedRoot()],
    ids=repr,
)
def test_no_value_of_a_curve_is_outside_with_errors_coming_in(layer: nn.Module, arithmetic: Arithmetic) -> None:
    draw = torch.Generator().manual_seed(7)
    width = 10 ** (3 * torch.rand(REGIONS, 4, generator=draw) - 2)
    base = 2 * torch.randn(REGIONS, 4, generator=draw)
    coef = torch.randn(3, REGIONS, 4, generator=draw) * width / 3
    err = torch.rand(REGIONS, 4, generator=draw) * width
    low, high = Form(base, coef, err, 3).through(curve_of(layer), arithmetic).bounds()
    symbols = torch.rand(3, REGIONS, EACH, generator=draw) * 2 - 1
    for channel in range(4):
        moved = torch.einsum("kb,kbn->bn", coef[:, :, channel], symbols)
        stray = (torch.rand(REGIONS, EACH, generator=draw) * 2 - 1) * err[:, channel, None]
        values = layer(base[:, channel, None] + moved + stray)
        assert ((values >= low[:, channel, None]) & (values <= high[:, channel, None])).all()


@pytest.mark.parametrize("name", ["distance", "hash", "igr", "siren", "steik", "sal_l0", "fourier", "lipschitz"])
@pytest.mark.usefixtures("small_recipes")
def test_no_value_of_a_fit_is_outside_in_the_world(name: str) -> None:
    cloud = ball_points(radius=2.0)
    moved = PointCloud(cloud.points + np.array([10.0, -5.0, 3.0]), cloud.normals)
    fit = Fit(moved, recipe=name, preset="draft")
    finish(fit)
    sdf = fit.sdf
    lower, upper = ((2.2 * v + torch.tensor([10.0, -5.0, 3.0])).double() for v in boxes())
    low, high = over_boxes(bound_of(sdf), lower, upper)
    for first in range(0, REGIONS, 100):
        part = slice(first, first + 100)
        at = points_in(lower[part].float(), upper[part].float(), EACH).double()
        at = torch.minimum(torch.maximum(at, lower[part, None]), upper[part, None])
        with torch.no_grad():
            values = sdf(at.reshape(-1, 3)).reshape(100, -1)
        assert ((values >= low[part, None]) & (values <= high[part, None])).all()


def test_errors_pass_a_falling_line_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """With α in the place of |α|, as published code has it for sines, bounds of a SIREN do not hold."""
    torch.manual_seed(8)
    network = roughened(Siren(32, 3, 30.0))
    assert outside(bound_of(network), network, each=200) == 0
    monkeypatch.setattr(affine, "_slanted", lambda alpha, err: alpha * err)
    assert outside(bound_of(network), network, each=200) > 0


def test_an_arithmetic_that_remembers_more_is_tighter() -> None:
    torch.manual_seed(9)
    network = roughened(MLP(32, 4, 2), 0.1)
    lower, upper = boxes(200, most=0.05)
    widths = []
    for arithmetic in ARITHMETICS:
        low, high = over_boxes(bound_of(network, arithmetic), lower, upper)
        widths.append(float((high - low).mean()))
    interval, fixed, truncated, appended = widths
    assert appended <= truncated <= fixed < interval / 3


def test_a_bound_of_a_point_is_its_value() -> None:
    torch.manual_seed(10)
    at = torch.rand(500, 3) * 2 - 1
    for name, make in NETWORKS.items():
        if name == "displaced":  # of which only a neighbourhood of the base's value is known
            continue
        network = roughened(make())
        low, high = over_boxes(bound_of(network), at, at)
        with torch.no_grad():
            value = network(at)
        assert ((low <= value) & (value <= high)).all(), name
        assert float((high - low).max()) < 3e-3 * float(value.abs().max() + 1), name


def test_networks_without_a_rule_are_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="Linear"):
        over_boxes(bound_of(nn.Linear(3, 1)), *boxes(2))
    with pytest.raises(UnsupportedLayerError, match="normalisation"):
        over_boxes(bound_of(DeepSDF([8, 8], norms=[0])), *boxes(2))
    with pytest.raises(UnsupportedLayerError, match="function"):
        bound_of(lambda x: x)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [lambda: MLP(256, 6, 3), lambda: MLP(512, 8, 4), lambda: Siren(256, 4), lambda: SphereSiren(256, 4)],
    ids=["igr balanced", "igr fine", "siren", "digs"],
)
def test_wide_networks_are_bounded_in_double_precision(make: Any) -> None:
    """In single precision the worst case of rounding alone would be wider than the field is anywhere."""
    torch.manual_seed(0)
    network = make().eval()
    bound = bound_of(network)
    assert isinstance(bound, PreciseBound)
    centre = torch.rand(60, 3) * 1.4 - 0.7
    low, high = over_boxes(bound, centre, centre)
    assert low.dtype == torch.float32
    assert float((high - low).max()) < 0.1
    half = 1 / 2048
    low, high = over_boxes(bound, centre - half, centre + half)
    inside = centre[:, None] + (torch.rand(60, 100, 3) * 2 - 1) * half
    with torch.no_grad():
        single = network(inside.reshape(-1, 3)).reshape(60, 100)
        double = copy.deepcopy(network).double()(inside.reshape(-1, 3).double()).reshape(60, 100)
    assert ((single - double).abs() < bounds_module._SINGLE * (1 + double.abs())).all()
    for values in (single, double):
        assert (values >= low[:, None]).all()
        assert (values <= high[:, None]).all()
    base, slopes, err = bound.planes(centre, torch.diag_embed(torch.full((60, 3), half)))
    flat = base[:, None] + ((inside - centre[:, None]) / half * slopes[:, None]).sum(dim=2)
    assert ((single - flat).abs() <= err[:, None]).all()


def test_small_networks_are_bounded_as_they_are() -> None:
    assert isinstance(bound_of(MLP(32, 3, 0).eval()), RangeBound)
