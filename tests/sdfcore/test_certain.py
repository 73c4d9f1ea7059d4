"""Extraction by bounds: nothing is missed, or it is said where that cannot be told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sdfcore import combining
from sdfcore.errors import InputError, NoSurfaceError, UnsupportedLayerError
from sdfcore.extraction import extract_sdf
from sdfcore.fields import NeuralSDF
from sdfcore.geometry import Box, Frame
from sdfcore.networks import MLP, Mended, Siren
from sdfcore.queries import certain
from sdfcore.queries.affine import Arithmetic
from sdfcore.queries.boxes import boxes_mesh
from sdfcore.queries.certain import IN_DOUBT, MISSING, extract_certain
from sdfcore.topology import topology

CUBE = Box(np.full(3, -1.0), np.full(3, 1.0))
RESOLUTION = 192  # the plain search begins with cubes of four cells
CELL = 2.0 / RESOLUTION


def ball(seed: int = 0) -> MLP:
    torch.manual_seed(seed)
    return MLP(32, 3, 0, beta=20.0)


def shape(network: nn.Module, scale: float = 1.0) -> NeuralSDF:
    return NeuralSDF(network.eval(), Frame(np.array([1.0, 2.0, 3.0]) * (scale != 1), scale), CUBE)


def planted(radius: float, shift: float) -> tuple[NeuralSDF, np.ndarray]:
    """A ball and, far from it, an island of about ``radius`` whose middle is ``shift`` cells off a node."""
    centre = torch.full((3,), float((4 * np.floor(0.19 / CELL) + 2 + shift) * CELL))
    network = Mended(ball())
    with torch.no_grad():
        there = float(network(centre[None])[0])
    return shape(network.with_bump(centre, 2 * radius, -there - 0.05)), centre.numpy()


def test_a_planted_island_of_one_cell_is_found_where_the_plain_search_misses_it() -> None:
    sdf, centre = planted(1.0 * CELL, 0.0)
    plain = extract_sdf(sdf, resolution=RESOLUTION, box=CUBE)
    assert topology(plain).components == 1
    found = extract_certain(sdf, resolution=RESOLUTION, box=CUBE)
    assert topology(found.mesh).components == 2
    assert topology(found.mesh).watertight
    island = np.linalg.norm(found.mesh.vertices - centre, axis=1) < 3 * CELL
    assert island.sum() > 5
    assert found.evaluations + found.bounds < 0.2 * found.nodes


def test_an_island_that_fits_between_nodes_is_named() -> None:
    sdf, centre = planted(0.3 * CELL, 0.5)
    found = extract_certain(sdf, resolution=RESOLUTION, box=CUBE)
    assert topology(found.mesh).components == 1
    assert np.linalg.norm(found.islands - centre, axis=1).min() < CELL
    with torch.no_grad():
        assert (sdf(torch.from_numpy(found.islands).float()) < 0).any()


def test_places_are_where_to_look() -> None:
    sdf, centre = planted(0.3 * CELL, 0.5)
    found = extract_certain(sdf, resolution=RESOLUTION, box=CUBE)
    lower, upper, state = found.places()
    missing = state == MISSING
    assert missing.sum() == len(found.islands) > 0
    assert ((lower[missing] <= centre) & (centre <= upper[missing])).all(axis=1).any()
    assert (state == IN_DOUBT).sum() == len(found.doubtful)
    assert (upper > lower).all()
    assert "Missing, as thinner than a cell" in found.line
    boxes = boxes_mesh(lower, upper)
    assert len(boxes.faces) == 12 * len(lower)
    assert boxes.volume() == pytest.approx(np.prod(upper - lower, axis=1).sum(), rel=1e-4)


def test_without_islands_the_mesh_is_the_plain_one_and_doubts_are_at_the_surface() -> None:
    sdf = shape(ball(), 2.5)
    box = sdf.frame.box_to_world(CUBE)
    plain = extract_sdf(sdf, resolution=48, box=box)
    found = extract_certain(sdf, resolution=48, box=box)
    mesh, doubtful = found.mesh, found.doubtful
    assert len(mesh.vertices) == len(plain.vertices)
    np.testing.assert_allclose(np.sort(mesh.vertices, axis=0), np.sort(plain.vertices, axis=0), atol=1e-9)
    assert len(found.islands) == 0
    assert len(doubtful) < 0.1 * len(mesh.faces)
    with torch.no_grad():
        at = sdf(torch.from_numpy(doubtful.mean(axis=1)).float()).numpy()
    assert np.abs(at).max(initial=0) < 2.5 * 2 / 48
    more = extract_certain(sdf, resolution=48, box=box, halvings=5)
    sizes = lambda boxes: np.prod(boxes[:, 1] - boxes[:, 0], axis=1).sum() if len(boxes) else 0.0
    assert sizes(more.doubtful) <= sizes(doubtful)


def test_other_levels_and_arithmetics() -> None:
    sdf = shape(ball(), 2.0)
    low, high = (extract_certain(sdf, resolution=32, level=level).mesh for level in (-0.2, 0.2))
    assert 0 < low.volume() < high.volume()
    appended = extract_certain(sdf, resolution=32, level=0.2, arithmetic=Arithmetic("truncate", 16))
    np.testing.assert_allclose(appended.mesh.volume(), high.volume(), rtol=1e-9)


@pytest.mark.parametrize("level", [5.0, -5.0])
def test_no_surface_is_certain_too(level: float) -> None:
    with pytest.raises(NoSurfaceError) as caught:
        extract_certain(shape(ball()), resolution=24, level=level, box=CUBE)
    assert -1.0 < caught.value.minimum < caught.value.maximum < 3.0, "the range is told, too"


def test_bounds_that_say_too_little_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certain, "_MOST_LEFT", 1000)
    with pytest.raises(InputError, match="bounds of this network say too little"):
        extract_certain(shape(ball()), resolution=64, box=CUBE)


def test_nothing_is_claimed_of_what_lies_in_the_cells_of_the_mesh() -> None:
    """A sheet a third of a cell above a face: marching sees one crossing on each edge that both cross."""
    slab = combining.body("box", [0.5, 0.5, 0.265], [0, 0, -0.235])
    sheet = combining.body("box", [0.4, 0.4, 0.005], [0, 0, 0.065])
    box = Box([-0.8] * 3, [0.8] * 3)
    found = extract_certain(combining.combine([slab, sheet]), resolution=8, box=box)
    assert topology(found.mesh).components == 1
    assert "farther than a cell from the mesh" in found.line
    assert np.abs(found.mesh.vertices[:, 2] - 0.065).min() < found.cell


def test_a_network_without_a_rule_is_refused() -> None:
    class Other(Siren):
        pass

    class Foreign(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(x)[:, 0]

    assert extract_certain(shape(Other(8, 2, 3.0)), resolution=8, box=CUBE, halvings=0).bounds > 0
    with pytest.raises(UnsupportedLayerError, match="Foreign"):
        extract_certain(shape(Foreign()), resolution=8)
