"""Volume, overlap and nearest points: what is said to be certain is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from sdfcore import combining
from sdfcore.errors import NoSurfaceError
from sdfcore.extraction import extract_sdf
from sdfcore.fields import NeuralSDF
from sdfcore.geometry import Box, Frame, Mesh
from sdfcore.networks import MLP, DeepSDF, Turned
from sdfcore.queries import closest as nearest_points
from sdfcore.queries.bounds import bound_of
from sdfcore.queries.bulk import _below, bulk
from sdfcore.queries.closest import closest
from sdfcore.queries.overlap import overlap
from sdfcore.surfaces import MeshDistance

CUBE = Box(np.full(3, -1.0), np.full(3, 1.0))


def octahedron(size: float = 0.5) -> DeepSDF:
    """|x| + |y| + |z| - size as a ReLU network: volume and all else known."""
    network = DeepSDF([6], squashes=0)
    with torch.no_grad():
        first, last = network.layers
        first.weight.copy_(torch.cat([torch.eye(3), -torch.eye(3)]))
        first.bias.zero_()
        last.weight.fill_(1.0)
        last.bias.fill_(-size)
    return network.eval()


def placed(network: nn.Module, at: tuple[float, float, float] = (0.0, 0.0, 0.0), scale: float = 1.0) -> NeuralSDF:
    return NeuralSDF(network.eval(), Frame(np.array(at), scale), CUBE)


def ball() -> MLP:
    torch.manual_seed(0)
    return MLP(32, 3, 0, beta=20.0)


def test_the_share_of_a_cube_below_a_plane() -> None:
    draw = torch.Generator().manual_seed(0)
    slopes = torch.rand(20, 3, generator=draw, dtype=torch.float64) + 1e-3
    level = (torch.rand(20, generator=draw, dtype=torch.float64) * 2 - 1) * slopes.sum(dim=1) * 1.1
    points = torch.rand(200_000, 3, generator=draw, dtype=torch.float64) * 2 - 1
    drawn = ((points @ slopes.T) <= level).double().mean(dim=0)
    torch.testing.assert_close(_below(slopes, level), drawn, atol=5e-3, rtol=0)


def test_bulk_of_an_octahedron() -> None:
    sdf = placed(octahedron(), (1.0, 2.0, 3.0), 2.0)
    told = []
    found = bulk(bound_of(sdf), sdf.frame.box_to_world(CUBE), tolerance=1e-3, on_progress=told.append)
    size = 1.0  # half of a diagonal, in the world
    volume = 4 / 3 * size**3
    assert found.volume.contains(volume)
    assert float(found.volume.high - found.volume.low) <= 1e-3 * volume
    assert found.centroid.contains(np.array([1.0, 2.0, 3.0]))
    assert float((found.centroid.high - found.centroid.low).max()) < 0.04
    assert found.inertia.contains(np.eye(3) * volume * size**2 / 5)
    assert float((found.inertia.high - found.inertia.low).max()) < 0.1
    area = 8 * math.sqrt(3) / 4 * (math.sqrt(2) * size) ** 2
    assert 0.8 * area < found.least_area < area
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_bulk_of_a_network_holds_its_mesh() -> None:
    sdf = placed(ball(), (0.5, 0, 0), 1.5)
    found = bulk(bound_of(sdf), sdf.frame.box_to_world(CUBE), tolerance=3e-2)
    mesh = extract_sdf(sdf, resolution=128, box=sdf.frame.box_to_world(CUBE))
    assert found.volume.low * 0.9995 <= mesh.volume() <= found.volume.high * 1.0005
    few = bulk(bound_of(sdf), sdf.frame.box_to_world(CUBE), tolerance=1e-9, most=2000)
    assert few.bounds <= 2000
    assert few.volume.low <= found.volume.low + 1e-9
    assert few.volume.high >= found.volume.high - 1e-9


def test_nothing_inside_has_no_volume() -> None:
    network = octahedron(-0.1)
    found = bulk(bound_of(placed(network)), CUBE)
    assert found.volume.low == found.volume.high == 0


@pytest.mark.parametrize(("gap", "answer"), [(-0.02, True), (0.02, False)])
def test_octahedra_that_nearly_touch(gap: float, answer: bool) -> None:
    one, other = placed(octahedron()), placed(octahedron(), (1.0 + gap, 0.0, 0.0))
    box = Box(np.array([-1.0, -1, -1]), np.array([2.0, 1, 1]))
    found = overlap((bound_of(one), bound_of(other)), (one, other), box)
    assert found.answer is answer
    if answer:
        assert found.witness is not None
        point = torch.from_numpy(found.witness)[None]
        assert one(point) < 0
        assert other(point) < 0


def test_what_cannot_be_told_is_left_open() -> None:
    one, other = placed(octahedron()), placed(octahedron(), (1.0, 0.0, 0.0))
    box = Box(np.array([-1.0, -1, -1]), np.array([2.0, 1, 1]))
    found = overlap((bound_of(one), bound_of(other)), (one, other), box, smallest=0.01)
    assert found.answer is None
    assert np.abs(found.open.mean(axis=1) - [0.5, 0, 0]).max() < 0.1


def test_nearest_points_of_a_turned_octahedron() -> None:
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    sdf = placed(Turned(octahedron(), turn), (0.1, 0.2, 0.3), 1.3)
    box = sdf.frame.box_to_world(CUBE)
    queries = torch.rand(200, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 2.4 - 1.0
    found = closest(bound_of(sdf), sdf, queries, box, smallest=1 / 256)
    tips = 0.5 * torch.cat([torch.eye(3), -torch.eye(3)]) @ turn
    faces = np.array([[a, b, c] for a in (0, 3) for b in (1, 4) for c in (2, 5)])
    exact = Mesh(sdf.frame.to_world(tips.numpy()), faces)
    truth = torch.from_numpy(MeshDistance(exact).unsigned(queries.numpy()))
    slack = 1.3 * 2 * math.sqrt(3) / 256
    with torch.no_grad():
        assert float(sdf(found.points).abs().max()) < 1e-3
    torch.testing.assert_close((queries - found.points).norm(dim=1), found.distance)
    assert (found.distance >= truth - 1e-5).all()
    assert (found.distance <= truth + slack).all()
    assert (found.least <= truth + 1e-5).all()
    assert float((found.distance - found.least).max()) <= 2 * slack


def test_no_surface_has_no_nearest_point() -> None:
    sdf = placed(octahedron(-1.0))
    with pytest.raises(NoSurfaceError):
        closest(bound_of(sdf), sdf, torch.zeros(3, 3, dtype=torch.float64), CUBE)


def test_queries_as_far_from_all_of_the_surface_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a ball no box is nearer than another."""
    monkeypatch.setattr(nearest_points, "_MOST", 20_000)
    monkeypatch.setattr(nearest_points, "_BOXES", 100)
    body, largest = combining.body("sphere", [0.5]), []

    def watched(points: torch.Tensor) -> torch.Tensor:
        largest.append(len(points))
        return body(points)

    queries = torch.tensor([[0.0, 0, 0], [0.01, 0, 0], [0.9, 0, 0]], dtype=torch.float64)
    found = closest(bound_of(body), watched, queries, CUBE, smallest=1e-3)
    assert max(largest) <= 800
    torch.testing.assert_close(found.distance, torch.tensor([0.5, 0.49, 0.4], dtype=torch.float64), atol=0.02, rtol=0)
    assert (found.least <= found.distance + 1e-12).all()
    assert (found.least > 0.3).all()
