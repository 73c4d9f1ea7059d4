"""Exact fields against closed forms, derivatives of any field, and the scaling of a fitted shape."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sdfcore.fields import Field, Jet, NeuralSDF, box, offset, sphere, torus, union, value_and_gradient
from sdfcore.geometry import Box, Frame
from sdfcore.networks import MLP


def scattered(count: int = 2000, half: float = 1.0) -> Tensor:
    return (torch.rand(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1) * half


EXACT = [sphere(0.5, (0.1, -0.2, 0.3)), torus(0.5, 0.2), box((0.5, 0.3, 0.4)), offset(box(), 0.1)]


# Exact fields -------------------------------------------------------------------------------------------------------


def test_known_distances() -> None:
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 1], [0.5, 0, 0.3]], dtype=torch.float64)
    expected = {
        sphere(0.5): [-0.5, 0.5, 3**0.5 - 0.5, 0.34**0.5 - 0.5],
        sphere(0.5, (1, 0, 0)): [0.5, -0.5, 2**0.5 - 0.5, 0.34**0.5 - 0.5],
        torus(0.5, 0.2): [0.3, 0.3, np.hypot(2**0.5 - 0.5, 1) - 0.2, 0.1],
        box((0.5, 0.25, 0.5)): [-0.25, 0.5, np.sqrt(0.25 + 0.5625 + 0.25), 0.0],
        offset(sphere(0.5), 0.2): [-0.7, 0.3, 3**0.5 - 0.7, 0.34**0.5 - 0.7],
        union(sphere(0.5), sphere(0.5, (1, 0, 0))): [-0.5, -0.5, 2**0.5 - 0.5, 0.34**0.5 - 0.5],
    }
    for exact, values in expected.items():
        np.testing.assert_allclose(exact(points), values, atol=1e-12)


@pytest.mark.parametrize("exact", EXACT)
def test_following_the_gradient_by_the_distance_ends_on_the_surface(exact: Field) -> None:
    points = scattered()
    value, gradient = value_and_gradient(exact, points)
    np.testing.assert_allclose(gradient.norm(dim=1).detach(), 1, atol=1e-9)
    foot = (points - value[:, None] * gradient).detach()
    np.testing.assert_allclose(exact(foot), 0, atol=1e-9)
    # and the way there is straight: half of it is half the distance
    halfway = foot + 0.5 * (points - foot)
    np.testing.assert_allclose(exact(halfway), value.detach() / 2, atol=1e-9)


@pytest.mark.parametrize("exact", [*EXACT, union(EXACT[0], EXACT[2])])
def test_gradients_are_those_of_finite_differences(exact: Field) -> None:
    points, step = scattered(300), 1e-6
    _, gradient = value_and_gradient(exact, points)
    moved = [(exact(points + step * e) - exact(points - step * e)) / (2 * step) for e in torch.eye(3).double()]
    differences = (gradient.detach() - torch.stack(moved, dim=1)).abs().amax(dim=1)
    assert (differences < 1e-5).double().mean() > 0.99  # a few lie within a step of an edge's bisector


def test_the_laplacian_is_the_sum_of_the_curvatures() -> None:
    points = scattered()
    radius = (points - torch.tensor([0.1, -0.2, 0.3])).norm(dim=1)
    np.testing.assert_allclose(Jet(EXACT[0], points).laplacian.detach(), 2 / radius, rtol=1e-6)
    ring = points[:, :2].norm(dim=1)
    tube = torch.hypot(ring - 0.5, points[:, 2])
    np.testing.assert_allclose(Jet(torus(0.5, 0.2), points).laplacian.detach(), 1 / tube + (ring - 0.5) / tube / ring)


def test_the_laplacian_of_a_box_is_that_of_its_faces_edges_and_corners() -> None:
    beyond = torch.tensor([[1.0, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=torch.float64)
    found = Jet(box((0.5, 0.5, 0.5)), beyond * 0.8).laplacian.detach()
    np.testing.assert_allclose(found, [0, 1 / np.hypot(0.3, 0.3), 2 / (0.3 * 3**0.5)], atol=1e-9)


def test_points_on_edges_and_centres_have_finite_gradients() -> None:
    places = torch.tensor(list(itertools.product([-0.5, 0.0, 0.5], repeat=3)), dtype=torch.float64)
    for exact in (box(), sphere(0.5), torus(0.5, 0.2)):
        assert value_and_gradient(exact, places)[1].isfinite().all()


# Jets ---------------------------------------------------------------------------------------------------------------


class Counting(nn.Module):
    """A network that counts how often it is evaluated."""

    def __init__(self, forward_mode: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = MLP(16, 2, skip=0)
        self.calls = {"forward": 0, "pushforward": 0}
        if forward_mode:
            self.pushforward = self._pushforward

    def forward(self, points: Tensor) -> Tensor:
        self.calls["forward"] += 1
        return self.inner(points)

    def _pushforward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        self.calls["pushforward"] += 1
        return self.inner.pushforward(points, directions)


@pytest.mark.parametrize("forward_mode", [True, False])
def test_a_jet_computes_once_what_is_asked_and_nothing_else(forward_mode: bool) -> None:
    points = scattered(20).float()
    directions = nn.functional.normalize(scattered(20).float().roll(1, 0), dim=1)
    expected = Counting(False)
    value, gradient = value_and_gradient(expected, points)

    def calls(*asked: str) -> tuple[int, int]:
        network = Counting(forward_mode)
        jet = Jet(network, points)
        for name in asked * 2:
            found = jet.along(directions) if name == "along" else getattr(jet, name)
            wanted = {"value": value, "gradient": gradient, "along": (gradient * directions).sum(dim=1)}[name]
            torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
            assert found.requires_grad  # a loss can be made of it
        return network.calls["forward"], network.calls["pushforward"]

    assert calls("value") == (1, 0)
    assert calls("gradient", "value") == ((0, 1) if forward_mode else (1, 0))
    assert calls("gradient", "along") == ((0, 1) if forward_mode else (1, 0))
    if forward_mode:
        network = Counting(True)
        jet = Jet(network, points)
        jet.along(directions)
        torch.testing.assert_close(jet.value, value)
        assert network.calls == {"forward": 0, "pushforward": 1}


def test_gradients_can_be_learned_from_without_gradients_being_on() -> None:
    network = Counting(False)
    with torch.no_grad():
        _, gradient = value_and_gradient(network, scattered(5).float())
    gradient.square().sum().backward()
    assert network.inner.layers[0].weight.grad.abs().sum() > 0


# Fitted shapes ------------------------------------------------------------------------------------------------------


class Ball(nn.Module):
    """A 'network' that is exactly the sphere of its one parameter."""

    def __init__(self, radius: float = 0.5) -> None:
        super().__init__()
        self.radius = nn.Parameter(torch.tensor(radius))

    def forward(self, points: Tensor) -> Tensor:
        assert points.dtype == torch.float32
        return points.norm(dim=-1) - self.radius


@pytest.mark.parametrize(("place", "scale"), [(0.0, 1.0), (3.0, 1e-4), (1e6, 2.5), (-50.0, 1e5)])
def test_a_fitted_shape_gives_world_distances_at_world_points(place: float, scale: float) -> None:
    centre = np.array([place, -place, place / 2])
    sdf = NeuralSDF(Ball(), Frame(centre, scale), Box([-0.5] * 3, [0.5] * 3))
    normal = nn.functional.normalize(scattered(200), dim=1)
    surface = torch.from_numpy(centre) + 0.5 * scale * normal
    for depth in (-0.3, 0.0, 1e-3, 0.4):
        value, gradient = sdf.value_and_gradient(surface + depth * scale * normal)
        assert value.dtype == gradient.dtype == torch.float64
        np.testing.assert_allclose(value.detach() / scale, depth, atol=5e-7)
        np.testing.assert_allclose(gradient.detach(), normal, atol=2e-6)
        np.testing.assert_array_equal(sdf(surface + depth * scale * normal).detach(), value.detach())


def test_a_fitted_shape_answers_in_the_precision_it_was_asked_in() -> None:
    sdf = NeuralSDF(Ball(), Frame([0, 0, 0], 2.0), Box([-0.5] * 3, [0.5] * 3))
    assert sdf(torch.zeros(3, 3)).dtype == torch.float32
    assert sdf.device == torch.device("cpu")
    assert sdf.to("cpu") is sdf


def test_a_fitted_shape_takes_points_of_any_device_to_its_network() -> None:
    seen = []

    class Network(torch.nn.Linear):
        def forward(self, points: torch.Tensor) -> torch.Tensor:
            seen.append((points.device.type, points.dtype))
            return points[:, 0]

    sdf = NeuralSDF(Network(1, 1, device="meta"), Frame(np.zeros(3), 2.0), Box([-1.0] * 3, [1.0] * 3))
    sdf(torch.zeros(5, 3, dtype=torch.float64, device="meta"))
    sdf._unit(torch.zeros(5, 3))
    assert seen == [("meta", torch.float32)]
    assert sdf._unit(torch.zeros(5, 3)).device.type == "meta"
