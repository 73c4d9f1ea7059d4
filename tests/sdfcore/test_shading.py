"""Small views of meshes: where a shape is, opaque and lit from above; elsewhere nothing."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.ndimage import binary_erosion
from small_fits import ball

from sdfcore.geometry import Mesh
from sdfcore.shading import shaded


def cube() -> Mesh:
    shape = trimesh.creation.box((1, 1, 1))
    return Mesh(np.array(shape.vertices), np.array(shape.faces))


def test_a_ball_is_a_whole_disc_brighter_where_the_light_is() -> None:
    picture = shaded(ball(3.0, (10, 20, 30)), 100)
    assert picture.shape == (100, 100, 4)
    assert picture.min() >= 0
    assert picture.max() <= 1
    opacity = picture[..., 3]
    assert opacity.mean() == pytest.approx(np.pi / 4 * 0.96**2, rel=0.03)
    y, x = np.mgrid[:100, :100] - 49.5
    assert (opacity[np.hypot(x, y) < 45] == 1).all(), "no holes"
    assert (opacity[np.hypot(x, y) > 50] == 0).all()
    assert picture[20:40, 55:75, :3].mean() > 1.5 * picture[70:85, 20:40, :3].mean()


def test_large_triangles_have_no_holes() -> None:
    opacity = shaded(cube(), 120)[..., 3]
    inner = binary_erosion(opacity > 0, iterations=2)
    assert inner.sum() > 4000
    assert (opacity[inner] == 1).all()


def test_the_nearest_surface_is_seen() -> None:
    """A small ball in front of a wall is drawn, behind the wall it is not; the viewer is at -y where z is up."""
    wall = trimesh.creation.box((6, 0.1, 6))
    pictures = []
    for y in (-2.0, 2.0, None):
        small = trimesh.creation.icosphere(3, 0.5)
        small.apply_translation([0, 2.0 if y is None else y, 0])
        both = trimesh.util.concatenate([wall, small])
        faces = both.faces if y is not None else both.faces[: len(wall.faces)]
        pictures.append(shaded(Mesh(np.array(both.vertices), np.array(faces)), 80, turn=0.0, rise=0.0))
    front, behind, alone = (picture[30:50, 30:50] for picture in pictures)
    assert np.abs(front - alone).max() > 0.1
    assert np.abs(behind - alone).max() < 1e-2


@pytest.mark.parametrize(("up", "axis"), [("x", 0), ("y", 1), ("z", 2)])
def test_up_is_up(up: str, axis: int) -> None:
    """A cone stands on its base."""
    cone = trimesh.creation.cone(1.0, 3.0)
    turned = np.roll(np.array(cone.vertices), axis - 2, axis=1)
    opacity = shaded(Mesh(turned, np.array(cone.faces)), 90, up=up, rise=0.0)[..., 3]
    widths = opacity.sum(axis=1)
    rows = np.flatnonzero(widths)
    assert widths[rows[3]] < 0.3 * widths[rows[-4]]
