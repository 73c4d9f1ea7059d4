"""Parts of meshes: how many, how large, and doing without some."""

from __future__ import annotations

import numpy as np
import pytest

from sdfcore.geometry import Mesh
from sdfcore.parts import drop_parts, largest_parts, part_areas, parts

CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
FACES = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
AREA = 1.5 + np.sqrt(3) / 2


def tetrahedra(*sizes: float) -> Mesh:
    """Separate tetrahedra of these sizes, their faces shuffled; vertices carry which one they are of."""
    vertices = np.concatenate([CORNERS * size + 10 * n for n, size in enumerate(sizes)])
    faces = np.concatenate([FACES + 4 * n for n in range(len(sizes))])
    owner = np.repeat(np.arange(len(sizes)), 4)
    colours = np.tile(owner[:, None].astype(np.uint8), (1, 4))
    order = np.random.default_rng(0).permutation(len(faces))
    return Mesh(vertices, faces[order], vertices + 1, colours, {"owner": owner})


def test_parts_are_told_apart() -> None:
    mesh = tetrahedra(1, 2, 3)
    owner = mesh.attributes["owner"][mesh.faces[:, 0]]
    assert len({(a, b) for a, b in zip(parts(mesh), owner, strict=True)}) == 3
    np.testing.assert_allclose(np.sort(part_areas(mesh)), AREA * np.array([1, 4, 9]))


@pytest.mark.parametrize(("share", "kept"), [(0.0, {0, 1, 2}), (0.2, {0, 2}), (0.5, {2}), (1.0, {2})])
def test_small_parts_are_dropped_by_their_share_of_the_largest(share: float, kept: set[int]) -> None:
    mesh = drop_parts(tetrahedra(2, 0.5, 3), share)
    assert set(mesh.attributes["owner"].tolist()) == kept


def test_largest_parts_keep_all_that_belongs_to_them() -> None:
    whole = tetrahedra(1, 3, 2)
    mesh = largest_parts(whole, 2)
    assert (len(mesh.vertices), len(mesh.faces)) == (8, 8)
    assert mesh.area() == pytest.approx(13 * AREA)
    assert mesh.volume() == pytest.approx((27 + 8) / 6)
    assert mesh.colours is not None
    assert mesh.normals is not None
    rows = [int(np.flatnonzero((whole.vertices == vertex).all(axis=1))[0]) for vertex in mesh.vertices]
    np.testing.assert_array_equal(mesh.colours, whole.colours[rows])
    np.testing.assert_allclose(mesh.normals, whole.normals[rows], atol=1e-6)


def test_unused_vertices_are_no_part() -> None:
    mesh = Mesh(np.concatenate([[[9.0, 9, 9]], CORNERS]), FACES + 1)
    assert parts(mesh).tolist() == [0, 0, 0, 0]
    assert largest_parts(mesh) is mesh
