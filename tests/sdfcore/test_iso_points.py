"""Points on a level set: on it, evenly, with its normals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from sdfcore import combining
from sdfcore.errors import InputError, NoSurfaceError
from sdfcore.fields import NeuralSDF
from sdfcore.queries.iso_points import iso_points, projected

TORUS = combining.body("torus", [1.0, 0.4], (3.0, 2.0, 1.0))


def spread(points: np.ndarray) -> float:
    """Coefficient of variation of the distance to the nearest neighbour."""
    nearest = cKDTree(points).query(points, k=2)[0][:, 1]
    return float(nearest.std() / nearest.mean())


@pytest.mark.parametrize("level", [0.0, 0.1])
def test_they_are_on_the_level_set_and_evenly_spaced(level: float) -> None:
    told: list[float] = []
    cloud = iso_points(TORUS, 2000, level=level, on_progress=told.append)
    with torch.no_grad():
        value = TORUS(torch.tensor(cloud.points, dtype=torch.float64))
    assert float((value - level).abs().max()) < 1e-5
    assert len(cloud) == 2000
    assert spread(cloud.points) < 0.12
    around = cloud.points - [3.0, 2.0, 1.0]
    ring = around * [1, 1, 0] / np.linalg.norm(around[:, :2], axis=1, keepdims=True)
    outward = (around - ring) / np.linalg.norm(around - ring, axis=1, keepdims=True)
    assert cloud.normals is not None
    np.testing.assert_allclose(cloud.normals, outward, atol=1e-3)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_repulsion_is_what_evens_them_and_a_seed_repeats() -> None:
    random, even, again = (iso_points(TORUS, 500, rounds=rounds, seed=1).points for rounds in (0, 40, 40))
    assert spread(random) > 0.35 > 0.15 > spread(even)
    np.testing.assert_array_equal(even, again)


def test_both_sides_of_a_thin_plate_keep_their_points() -> None:
    plate = combining.body("box", [1.0, 1.0, 0.02])
    cloud = iso_points(plate, 1500)
    up = (cloud.points[:, 2] > 0).mean()
    assert 0.4 < up < 0.6
    on_side, on_rim = np.abs(np.abs(cloud.points[:, 2]) - 0.02) < 1e-3, np.abs(cloud.points[:, :2]).max(axis=1) > 0.999
    assert (on_side | on_rim).all()


def test_points_at_the_edges_of_a_thin_plate_are_not_between_its_sides() -> None:
    plate = combining.body("box", [1.0, 1.0, 0.05])
    cloud = iso_points(plate, 1500, edges=0.4)
    rim = np.abs(cloud.points[:, :2]).max(axis=1)
    assert (rim > 0.99).mean() > 0.3
    np.testing.assert_allclose(np.abs(cloud.points[rim < 0.9, 2]), 0.05, atol=1e-4)


def test_a_surface_that_leaves_its_box_has_no_points_on_the_box() -> None:
    cloud = iso_points(combining.body("plane"), 1000)
    np.testing.assert_allclose(cloud.points[:, 2], 0, atol=1e-5)
    assert spread(cloud.points) < 0.15


def test_projection_is_bounded_where_asked() -> None:
    far = np.array([[5.0, 2.0, 1.0]])
    once, normal = projected(TORUS, far, steps=1, longest=0.05)
    np.testing.assert_allclose(np.linalg.norm(once - far), 0.05, rtol=1e-5)
    np.testing.assert_allclose(normal, [[1, 0, 0]], atol=1e-5)
    there, _ = projected(TORUS, far)
    np.testing.assert_allclose(there, [[4.4, 2.0, 1.0]], atol=1e-5)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError):
        iso_points(TORUS, 3)
    with pytest.raises(NoSurfaceError):
        iso_points(TORUS, 100, level=-2.0)
    assert isinstance(TORUS, NeuralSDF)


def test_more_of_them_where_the_surface_bends() -> None:
    box = combining.body("box", [1.0, 1.0, 1.0])
    counts = []
    for edges in (0.0, 0.4):
        cloud = iso_points(box, 600, edges=edges, rounds=10)
        assert len(cloud) == 600
        with torch.no_grad():
            assert float(box(torch.tensor(cloud.points)).abs().max()) < 1e-4
        second = np.sort(np.abs(cloud.points), axis=1)[:, 1]  # 1 on an edge
        counts.append(int((second > 0.9).sum()))
    assert counts[1] > 1.5 * counts[0]
    with pytest.raises(InputError, match="edges"):
        iso_points(box, 600, edges=1.0)
