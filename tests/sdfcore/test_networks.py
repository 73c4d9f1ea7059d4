"""Derivatives, initial shapes, and the sparse grids of the networks."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from small_fits import directions
from torch import Tensor, nn

from sdfcore.errors import StorageError
from sdfcore.fields import Jet, Pairs, second_derivatives, value_and_gradient
from sdfcore.networks import (
    MLP,
    NETWORKS,
    DeepSDF,
    FeatureGrid,
    FourierMLP,
    HashGrid,
    Lipschitz,
    Mended,
    Siren,
    SphereSiren,
    Turned,
    build,
)
from sdfcore.networks import grid as grid_module

LEVELS = [4, 8, 16, 32, 64]
SPHERE = (0.6 * directions(400)).astype(np.float32)
PATCH = SPHERE[SPHERE[:, 2] > 0.3]  # leaves most of the box without fine nodes


def points_in(count: int, half: float = 1.0, seed: int = 1) -> Tensor:
    """float64, and in no grid nearer than 1e-4 to a cell's border, where derivatives jump."""
    drawn = torch.rand(4 * count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    points = (drawn * 2 - 1) * half
    across = (points + 1) * (LEVELS[-1] / 2)  # the borders of the finest grid are those of all
    away = ((across - across.round()).abs() > 1e-4 * LEVELS[-1] / 2).all(dim=1)
    assert away.sum() >= count
    return points[away][:count]


#: Networks made of networks have tests of their own.
COMBINED = ("placed", "boxed", "offset", "combined", "body", "displaced", "on_surface")


def grid(points: np.ndarray = PATCH, seed: int = 0, amplitude: float = 0.3) -> FeatureGrid:
    torch.manual_seed(seed)
    network = FeatureGrid.around(points, LEVELS, dense=8, width=16, depth=2)
    with torch.no_grad():
        network.features[1:].normal_(0, amplitude)
    return network


def hashed() -> HashGrid:
    """Its finer grids share rows."""
    network = HashGrid(levels=5, coarsest=4, finest=64, log_rows=9, width=16)
    assert network.cells == LEVELS
    with torch.no_grad():
        network.features.normal_(0, 0.3)
    return network


def quadratic() -> SphereSiren:
    network = SphereSiren(24, 3, quadratic=True)
    with torch.no_grad():  # its squares and products are nothing at first
        for parameter in network.layers.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    return network


def network_of(kind: str) -> nn.Module:
    torch.manual_seed(0)
    deepsdf = lambda: DeepSDF([24, 21, 24, 16], again=[2, 3], norms=[0, 2], squashes=2)
    if kind == "mended":
        return Mended(MLP(24, 3, skip=2)).with_bump(torch.tensor([0.1, 0.0, -0.1]), 0.6, 0.2)
    if kind == "turned":
        return Turned(MLP(24, 3, skip=2, octaves=2), torch.linalg.qr(torch.randn(3, 3)).Q)
    makers: dict[str, Callable[[], nn.Module]] = {
        "mlp": lambda: MLP(24, 4, skip=2),
        "siren": lambda: Siren(24, 3),
        "grid": grid,
        "deepsdf": deepsdf,
        "sphere_siren": lambda: SphereSiren(24, 3, omega=3.0),
        "lipschitz": lambda: Lipschitz(24, 4),
        "hash": hashed,
        "fourier": lambda: FourierMLP(24, 2, features=16, scale=0.5),
    }
    return makers[kind]()


# All networks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half", [1.0, 1.4])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 2e-4)])
@pytest.mark.parametrize("kind", [kind for kind in NETWORKS if kind not in COMBINED])
def test_forward_mode_gives_the_derivatives_of_autograd(
    kind: str, dtype: torch.dtype, tolerance: float, half: float
) -> None:
    network, points = network_of(kind).to(dtype), points_in(300, half).to(dtype)
    x = points.clone().requires_grad_(True)
    expected = network(x)
    (gradient,) = torch.autograd.grad(expected.sum(), x)
    along = torch.stack([points.roll(1, 0), points.roll(1, 1), torch.ones_like(points)])
    value, derivatives = network.pushforward(points, along)
    assert (value.shape, derivatives.shape) == ((300,), (3, 300))
    torch.testing.assert_close(value, expected, atol=tolerance, rtol=tolerance)
    scale = float(gradient.norm(dim=1).max())
    torch.testing.assert_close(derivatives, (along * gradient).sum(dim=-1), atol=scale * tolerance, rtol=0)


@pytest.mark.parametrize("kind", [kind for kind in NETWORKS if kind not in COMBINED])
def test_of_no_points_there_are_no_values(kind: str) -> None:
    network, none = network_of(kind).eval(), torch.zeros(0, 3)
    value, gradient = value_and_gradient(network, none)
    assert network(none).shape == value.shape == (0,)
    assert gradient.shape == (0, 3)


@pytest.mark.parametrize("kind", [kind for kind in NETWORKS if kind not in COMBINED])
def test_the_derivatives_are_those_of_finite_differences(kind: str) -> None:
    network, points, step = network_of(kind).double(), points_in(200), 1e-6
    _, gradient = value_and_gradient(network, points)
    with torch.no_grad():
        moved = [(network(points + step * e) - network(points - step * e)) / (2 * step) for e in torch.eye(3).double()]
    torch.testing.assert_close(gradient.detach(), torch.stack(moved, dim=1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in NETWORKS if kind not in COMBINED])
def test_a_loss_on_forward_mode_gradients_can_be_descended(kind: str) -> None:
    """Its slope in weight space, along a random direction, is that of finite differences."""
    network, points = network_of(kind).double(), points_in(50)
    weights = list(network.parameters())
    torch.manual_seed(3)
    direction = [torch.randn_like(w) * (1.0 if w.ndim == 2 else 0.1) for w in weights]
    if kind == "grid":
        direction[0][0] = 0.0  # the row that stays zero

    def loss() -> Tensor:
        return (value_and_gradient(network, points)[1].norm(dim=1) - 1).square().mean()

    slopes = torch.autograd.grad(loss(), weights, allow_unused=True)
    expected = sum(float((s * d).sum()) for s, d in zip(slopes, direction, strict=True) if s is not None)
    step, values = 1e-6, []
    with torch.no_grad():
        for sign in (1, -2):
            for w, d in zip(weights, direction, strict=True):
                w += sign * step * d
            values.append(float(loss()))
    assert abs(expected) > 1e-2
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(expected, rel=1e-4)


SMOOTH: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: MLP(24, 4, skip=2, beta=5.0),
    "encoded mlp": lambda: MLP(32, 3, skip=2, beta=5.0, octaves=2),
    "squashed mlp": lambda: MLP(24, 3, skip=0, beta=5.0, leak=0.1, normed=True),
    "siren": lambda: Siren(24, 3, omega=5.0),
    "sphere siren": lambda: SphereSiren(24, 4, omega=3.0),
    "quadratic siren": quadratic,
}
PAIRS = Pairs(((0, 0), (1, 1), (0, 1), (2, 0), (2, 2)))


def _seconds(network: nn.Module, points: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """The Hessian by autograd, and what the network pushes forward along three directions."""
    along = torch.stack([points.roll(1, 0), points.roll(1, 1), torch.ones_like(points)])
    hessian = torch.stack([torch.autograd.functional.hessian(lambda x: network(x[None])[0], p) for p in points])
    expected = torch.stack([torch.einsum("ni,nij,nj->n", along[i], hessian, along[j]) for i, j in PAIRS.which])
    return expected, second_derivatives(network, points, along, PAIRS)


@pytest.mark.parametrize("name", list(SMOOTH))
def test_second_derivatives_pushed_forward_are_those_of_autograd(name: str) -> None:
    torch.manual_seed(0)
    network, points = SMOOTH[name]().double(), points_in(30)
    expected, (value, firsts, seconds) = _seconds(network, points)
    again, derivatives = network.pushforward(points, torch.eye(3).double()[:, None].expand(3, 30, 3))
    assert (value.shape, firsts.shape, seconds.shape) == ((30,), (3, 30), (5, 30))
    torch.testing.assert_close(value, again)
    assert derivatives.shape == (3, 30)
    assert float(expected.abs().max()) > 1e-3
    torch.testing.assert_close(seconds, expected, atol=1e-9 * float(expected.abs().max()), rtol=1e-7)
    along = torch.stack([points.roll(1, 0), points.roll(1, 1), torch.ones_like(points)])
    total = second_derivatives(network, points, along, Pairs(PAIRS.which, summed=True))[2]
    torch.testing.assert_close(
        total, expected.sum(dim=0, keepdim=True), atol=1e-9 * float(expected.abs().max()), rtol=1e-7
    )


QUANTITIES: dict[str, Callable[[Jet], Tensor]] = {
    "gradient": lambda jet: jet.gradient,
    "laplacian": lambda jet: jet.laplacian,
    "hessian": lambda jet: jet.hessian,
    "product": lambda jet: jet.hessian_times(jet.gradient),
    "curvature": lambda jet: jet.curvature_along(jet.gradient),
}


class Forward:
    """A network's field that pushes all of it forward."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.pushforward, self.second = network, network.pushforward, network.second

    def __call__(self, points: Tensor) -> Tensor:
        return self.network(points)


@pytest.mark.parametrize("quantity", list(QUANTITIES))
@pytest.mark.parametrize("name", list(SMOOTH))
def test_what_is_learned_from_is_the_same_backward_and_forward(name: str, quantity: str) -> None:
    """The value, the quantity, and the slope of a loss on both in the weights."""
    torch.manual_seed(0)
    network, points = SMOOTH[name]().double(), points_in(20)

    def asked(of: Callable[[Tensor], Tensor]) -> list[Tensor]:
        jet = Jet(of, points)
        assert jet.backward == (of is network)
        found = QUANTITIES[quantity](jet)
        loss = found.square().mean() + jet.value.square().mean()
        slopes = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True, materialize_grads=True)
        return [found.detach(), jet.value.detach(), *slopes]

    for ours, wanted in zip(asked(network), asked(Forward(network)), strict=True):
        torch.testing.assert_close(ours, wanted, atol=1e-9 * max(1.0, float(wanted.abs().max())), rtol=1e-7)


def test_nothing_goes_backward_where_nothing_is_learned() -> None:
    network, points = MLP(16, 2, skip=0), points_in(5).float()
    with torch.no_grad():
        assert not Jet(network, points).backward
        assert not value_and_gradient(network, points)[1].requires_grad
    with torch.inference_mode():
        inside = points.clone()
    assert not Jet(network, inside).backward


@pytest.mark.parametrize("kind", ["turned", "lipschitz", "deepsdf"])
def test_networks_without_second_derivatives_of_their_own_go_through_autograd(kind: str) -> None:
    network, points = network_of(kind).double(), points_in(20)
    expected, (_, _, seconds) = _seconds(network, points)
    torch.testing.assert_close(seconds, expected, atol=1e-8 * max(float(expected.abs().max()), 1), rtol=1e-6)


@pytest.mark.parametrize("name", list(SMOOTH))
def test_a_loss_on_second_derivatives_can_be_descended(name: str) -> None:
    """Its slope in weight space, along a random direction, is that of finite differences."""
    torch.manual_seed(1)
    network, points = SMOOTH[name]().double(), points_in(40)
    weights = list(network.parameters())
    direction = [0.1 * torch.randn_like(w) for w in weights]
    loss = lambda: (
        second_derivatives(network, points, torch.stack([points, points.flip(1)]), Pairs(((0, 1),)))[2].abs().mean()
    )
    slopes = torch.autograd.grad(loss(), weights, allow_unused=True)
    expected = sum(float((s * d).sum()) for s, d in zip(slopes, direction, strict=True) if s is not None)
    step, values = 1e-6, []
    with torch.no_grad():
        for sign in (1, -2):
            for w, d in zip(weights, direction, strict=True):
                w += sign * step * d
            values.append(float(loss()))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(expected, rel=1e-4)


def test_dropout_silences_units_while_it_learns_only() -> None:
    torch.manual_seed(0)
    network, points = MLP(64, 3, skip=0, dropout=0.5), points_in(20).float()
    value, derivatives = network.train().pushforward(points, torch.eye(3)[:, None].expand(3, 20, 3))
    assert not torch.equal(network(points), network(points))
    network.eval()
    assert torch.equal(network(points), network(points))
    assert not torch.equal(value, network(points))
    assert derivatives.isfinite().all()


def test_a_lipschitz_network_draws_no_two_points_further_apart_whatever_its_weights() -> None:
    torch.manual_seed(0)
    network = Lipschitz(32, 6)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 3 * torch.randn_like(parameter)
    a, b = 2 * torch.rand(2, 100_000, 3) - 1
    b[:50_000] = a[:50_000] + 1e-2 * torch.randn(50_000, 3)
    with torch.no_grad():
        change, apart = (network(a) - network(b)).abs(), (a - b).norm(dim=1)
    assert (change <= apart * (1 + 1e-5) + 1e-6).all()
    assert float((change / apart).max()) > 0.3  # and is not flat


def test_published_networks_have_their_published_numbers_of_parameters() -> None:
    count = lambda network: sum(p.numel() for p in network.parameters())
    # 8 × 512 with the input again at the 4th: 3·512 + 512, 2·(512² + 512), 512·509 + 509, 4·(512² + 512), 512 + 1
    assert count(MLP(512, 8, skip=4, beta=0)) == 1_839_614
    assert count(Siren(256, 4)) == 3 * 256 + 256 + 3 * (256**2 + 256) + 257
    assert count(SphereSiren(128, 5, quadratic=True)) == 3 * (3 * 128 + 128 + 4 * (128**2 + 128) + 128 + 1)


@pytest.mark.parametrize("kind", [kind for kind in NETWORKS if kind not in COMBINED])
def test_config_and_weights_make_the_same_network_again(kind: str) -> None:
    network, points = network_of(kind), points_in(100).float()
    again = build(network.kind, json.loads(json.dumps(network.config)))
    assert type(again) is type(network)
    assert not torch.equal(again(points), network(points))  # so the weights below are what makes them equal
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(points), network(points))
    assert torch.equal(value_and_gradient(again, points)[1], value_and_gradient(network, points)[1])


@pytest.mark.parametrize(("kind", "config"), [("kan", {}), ("mlp", {"heads": 8}), ("grid", {})])
def test_an_unknown_network_is_an_error_of_storage(kind: str, config: dict[str, int]) -> None:
    with pytest.raises(StorageError, match=kind):
        build(kind, config)


# Initial shapes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "make",
    [
        lambda: MLP(256, 6, skip=3),
        lambda: MLP(128, 4, skip=2),
        lambda: MLP(256, 6, skip=0),
        lambda: FeatureGrid.around(PATCH, LEVELS),
        lambda: FeatureGrid.around(PATCH, LEVELS, depth=3),
    ],
    ids=["mlp", "small mlp", "no skip", "grid", "deep grid"],
)
def test_an_untrained_field_is_roughly_the_distance_to_a_sphere(make: Callable[[], nn.Module], seed: int) -> None:
    torch.manual_seed(seed)
    network = make()
    outwards = torch.from_numpy(directions(300)).float()
    with torch.no_grad():
        means = torch.stack([network(outwards * radius).mean() for radius in torch.linspace(0, 1, 11)])
        assert (means.diff() > 0).all()
        assert (network(outwards * 0.1) < 0).all()
        assert (network(outwards) > 0).all()
        slope = float((means[10] - means[5]) / 0.5)
    assert 0.65 < slope < 1.5


def test_siren_keeps_its_activations_in_scale_at_any_depth() -> None:
    """Sitzmann et al. 2020, theorem 1.8: before a sine a standard normal, so after it a spread of 0.66."""
    torch.manual_seed(0)
    network, h = Siren(256, 6), points_in(1000).float()
    for layer in network.layers:
        h = network.activation(layer(h))
        assert 0.6 < h.std() < 0.75


# The sparse grid ----------------------------------------------------------------------------------------------------


def brute_force_nodes(points: np.ndarray, cells: int, reach: int) -> set[tuple[int, ...]]:
    found = set()
    for low in np.clip(np.floor((points.astype(np.float64) + 1) * cells / 2).astype(int), 0, cells - 1):
        for step in itertools.product(range(-reach, reach + 2), repeat=3):
            node = tuple(int(n) for n in low + step)
            if all(0 <= n <= cells for n in node):
                found.add(node)
    return found


@pytest.mark.parametrize(
    ("place", "reach", "count"), [(0.1, 0, 8), (0.1, 1, 64), (0.1, 2, 216), (-1.0, 1, 27), (1.0, 1, 27), (5.0, 1, 27)]
)
def test_one_point_has_the_nodes_of_its_cell_and_those_within_reach(place: float, reach: int, count: int) -> None:
    point = np.full((1, 3), place, dtype=np.float32)
    assert FeatureGrid.around(point, [8, 64], dense=8, reach=reach).config["nodes"] == [9**3, count]


@pytest.mark.parametrize("reach", [0, 1])
def test_the_nodes_are_those_near_the_points(reach: int) -> None:
    network = FeatureGrid.around(PATCH[:40], LEVELS, dense=8, reach=reach)
    for (cells, nodes), count in zip(network.node_positions(), network.config["nodes"], strict=True):
        ijk = np.rint((nodes + 1) * cells / 2)
        np.testing.assert_allclose((nodes + 1) * cells / 2, ijk, atol=1e-9)
        found = {tuple(int(n) for n in row) for row in ijk}
        assert len(found) == len(nodes) == count
        if cells <= 8:
            assert len(found) == (cells + 1) ** 3
        else:
            assert found == brute_force_nodes(PATCH[:40], cells, reach)
    assert len(network.features) == 1 + sum(network.config["nodes"])


def test_a_node_lends_its_feature_to_its_own_cells_and_to_no_other() -> None:
    network = grid(amplitude=0.0).double()
    cells, nodes = network.node_positions()[-1]
    row = len(network.features) - len(nodes) + 7  # the eighth node of the finest grid
    points = torch.from_numpy(nodes[7]) + (points_in(4000, 1.5) * 2 / cells)
    with torch.no_grad():
        before = network(points)
        network.features[row] = 1.0
        changed = network(points) != before
    inside = ((points - torch.from_numpy(nodes[7])).abs() < 2 / cells).all(dim=1)
    assert torch.equal(changed, inside & (points.abs() < 1).all(dim=1))


def test_at_a_node_the_features_are_those_stored() -> None:
    network = grid().double()
    first = 1
    with torch.no_grad():
        for level, (_, nodes) in enumerate(network.node_positions()):
            rows, sides = network._corners(torch.from_numpy(nodes))
            weights = sides[:, level, 0, :, None, None] * sides[:, level, 1, None, :, None]
            weights = (weights * sides[:, level, 2, None, None, :]).reshape(-1, 8)
            expected = torch.arange(first, first + len(nodes), dtype=torch.int32)
            picked = rows[:, level].gather(1, weights.argmax(dim=1, keepdim=True))[:, 0]
            assert torch.equal(picked, expected)
            torch.testing.assert_close(weights.max(dim=1).values, torch.ones(len(nodes), dtype=torch.float64))
            first += len(nodes)


def test_the_field_is_continuous_across_cells_and_the_borders_of_the_bands() -> None:
    network = grid(amplitude=1.0).double()
    steps = torch.arange(1, LEVELS[-1], dtype=torch.float64) * (2 / LEVELS[-1]) - 1  # every border of every grid
    others = points_in(60)[:, :2]
    for axis in range(3):
        on = torch.cat([steps.repeat_interleave(60)[:, None], others.repeat(len(steps), 1)], dim=1).roll(axis, 1)
        tiny = torch.zeros(3, dtype=torch.float64)
        tiny[axis] = 1e-9
        with torch.no_grad():
            rows, _ = network._corners(on)
            assert (rows[:, -1] == 0).any(dim=1).sum() > 500  # some without nodes,
            assert (rows[:, -1] > 0).any(dim=1).sum() > 100  # some with,
            assert ((rows[:, -1] > 0).any(dim=1) & (rows[:, -1] == 0).any(dim=1)).sum() > 20  # some on the border
            jump = (network(on + tiny) - network(on - tiny)).abs()
        assert jump.max() < 1e-6


def test_where_no_node_is_the_feature_stays_zero_while_the_others_learn() -> None:
    network = grid()
    points = points_in(500).float()
    rows, _ = network._corners(points)
    assert (rows == 0).any()
    before = network.features.detach().clone()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(5):
        value, gradient = value_and_gradient(network, points)
        optimiser.zero_grad()
        (value.square().mean() + gradient.square().mean()).backward()
        optimiser.step()
    assert (network.features[0] == 0).all()
    used = torch.unique(rows[rows > 0])
    assert (network.features.detach()[used] != before[used]).all()


def test_new_keys_make_new_lookups() -> None:
    points = points_in(100).float()
    here, there = grid(PATCH, 0), grid(PATCH * np.float32(-1), 0)
    assert here.config["nodes"] != there.config["nodes"] or not torch.equal(here.keys, there.keys)
    other = build("grid", there.config)
    other(points)  # lookups of keys that are all zero
    other.load_state_dict(there.state_dict())
    assert torch.equal(other(points), there(points))


def test_a_grid_moves_and_copies_with_its_lookups() -> None:
    points = points_in(100)
    network = grid()
    expected = network(points.float()).detach()
    moved = copy.deepcopy(network).to(torch.float64)
    torch.testing.assert_close(moved(points).float(), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(moved.to(torch.float32)(points.float()), expected)
    assert torch.equal(copy.deepcopy(moved)(points.float()), expected)


def test_outside_the_box_the_field_is_finite_and_goes_on() -> None:
    network = grid()
    corners = torch.tensor(list(itertools.product([-1.0, 1.0, -1 - 1e-6, 1 + 1e-6, -3.0, 1e4], repeat=3)))
    value, gradient = value_and_gradient(network, corners)
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    edge = points_in(200).double().clamp(-1, 1)
    edge[:, 0] = 1.0
    moved = edge + torch.tensor([1e-9, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(network.double()(moved), network(edge), atol=1e-6, rtol=0)


@pytest.mark.parametrize("cells", [1289, 1290])
def test_a_grid_too_fine_for_its_keys_is_refused(cells: int) -> None:
    corner = np.ones((1, 3), dtype=np.float32)
    if cells == 1290:
        with pytest.raises(ValueError, match="too fine"):
            FeatureGrid.around(corner, [cells])
    else:
        ((_, nodes),) = FeatureGrid.around(corner, [cells]).node_positions()
        np.testing.assert_allclose(nodes.max(axis=0), 1)
        np.testing.assert_allclose(nodes.min(axis=0), 1 - 4 / cells)


def test_an_mlp_too_narrow_for_its_inputs_is_refused() -> None:
    with pytest.raises(ValueError, match="27 inputs"):
        MLP(24, 4, skip=2, octaves=4)
    assert MLP(24, 4, skip=0, octaves=4)(torch.zeros(1, 3)).shape == (1,)


@pytest.mark.parametrize(("finer", "channels"), [(False, 2), (True, 1)])
def test_a_grid_begins_at_a_coarse_distance(finer: bool, channels: int) -> None:
    points = np.random.default_rng(0).normal(size=(2000, 3))
    points = 0.4 * points / np.linalg.norm(points, axis=1, keepdims=True) + [0.3, 0, 0]
    make = lambda: FeatureGrid.around(points, [8, 16, 32, 64], dense=16, channels=channels, width=32)
    network, distance = make(), lambda x: np.linalg.norm(x - [0.3, 0, 0], axis=1) - 0.4
    assert network.begin_at(distance, finer=finer)
    at = np.random.default_rng(1).uniform(-0.95, 0.95, (2000, 3))
    with torch.no_grad():
        found = network(torch.from_numpy(at).float()).numpy()
        there = network(torch.from_numpy(points).float()).numpy()
    np.testing.assert_allclose(found, distance(at), atol=0.06)
    assert np.abs(found - distance(at)).mean() < 0.01
    side = 2 / (64 if finer else 16)  # a trilinear cell lacks h²/8r of a sphere's value, of the first sphere's, too
    assert np.abs(there).max() < 4 * side**2 / (8 * 0.4)
    other = make()
    before = other.features.clone()
    assert not other.begin_at(lambda x: np.where(x[:, 2] > 0, 1.0, -1.0) * (0.3 + np.abs(x[:, 0])), finer=finer)
    assert torch.equal(other.features, before)


def test_silent_units_are_drawn_apart_from_all_else() -> None:
    """The seed of the weights is that of the units, too, whatever else the process draws."""
    found = []
    for other in (1, 2):
        torch.manual_seed(7)
        network = MLP(32, 3, skip=0, dropout=0.3)
        torch.manual_seed(other)
        points = torch.linspace(-1, 1, 30).reshape(10, 3)
        found.append(torch.stack([network(points), network(points)]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0][0], found[0][1]), "others in every step"
    kept = network._dropped(torch.ones(20_000)) > 0
    assert kept.float().mean() == pytest.approx(0.7, abs=0.02)


def test_a_beginning_is_evaluated_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    forward = FeatureGrid.forward
    monkeypatch.setattr(grid_module, "_AT_ONCE", 500)
    monkeypatch.setattr(FeatureGrid, "forward", lambda self, p: sizes.append(len(p)) or forward(self, p))
    network = FeatureGrid.around(np.zeros((1, 3)), [8, 16], dense=16)
    assert network.begin_at(lambda x: np.linalg.norm(x, axis=1) - 0.5)
    assert max(sizes) <= 500
    assert sum(sizes) >= 17**3


@pytest.mark.parametrize("depth", [1, 3])
def test_slopes_by_hand_are_those_of_autograd(depth: int) -> None:
    network, points = Siren(24, depth, omega=7.0), points_in(200).float()
    value, gradient = value_and_gradient(network, points)
    with torch.no_grad():
        plain, slope = value_and_gradient(network, points)
    assert gradient.requires_grad
    assert not slope.requires_grad
    torch.testing.assert_close(plain, value.detach())
    torch.testing.assert_close(slope, gradient.detach(), atol=1e-5, rtol=1e-5)
