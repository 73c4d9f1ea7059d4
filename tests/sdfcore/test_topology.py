"""Counts of meshes whose topology is known."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from sdfcore.geometry import Mesh
from sdfcore.topology import face_components, topology, undoubled, weld


def unshared(shape: trimesh.Trimesh, noise: float = 0.0) -> Mesh:
    """As STL stores it: three vertices of its own for every face."""
    corners = np.array(shape.triangles).reshape(-1, 3)
    corners += noise * np.random.default_rng(0).standard_normal(corners.shape)
    return Mesh(corners, np.arange(len(corners)).reshape(-1, 3))


@pytest.mark.parametrize(
    ("shape", "euler"),
    [(trimesh.creation.box(), 2), (trimesh.creation.icosphere(2), 2), (trimesh.creation.torus(1, 0.3), 0)],
)
@pytest.mark.parametrize("noise", [0.0, 1e-17])
def test_closed_shapes_with_unshared_vertices(shape: trimesh.Trimesh, euler: int, noise: float) -> None:
    found = topology(unshared(shape, noise))
    assert (found.watertight, found.closed, found.components, found.euler) == (True, True, 1, euler)
    assert found.boundary_edges == found.nonmanifold_edges == found.degenerate_faces == found.duplicate_faces == 0


def test_a_missing_face_opens_three_edges() -> None:
    cube = unshared(trimesh.creation.box())
    found = topology(Mesh(cube.vertices, cube.faces[1:]))
    assert (found.watertight, found.closed, found.boundary_edges, found.euler) == (False, False, 3, 1)


def test_a_turned_face_is_inconsistent() -> None:
    cube = unshared(trimesh.creation.box())
    faces = cube.faces.copy()
    faces[0] = faces[0, ::-1]
    found = topology(Mesh(cube.vertices, faces))
    assert (found.watertight, found.inconsistent_edges, found.boundary_edges) == (False, 3, 0)


def test_boxes_that_share_an_edge_are_closed_and_no_manifold() -> None:
    first, second = trimesh.creation.box(), trimesh.creation.box()
    second.apply_translation([1, 1, 0])
    found = topology(unshared(trimesh.util.concatenate([first, second])))
    assert (found.watertight, found.closed, found.nonmanifold_edges, found.components) == (False, True, 1, 1)


def test_doubled_and_collapsed_faces_are_counted() -> None:
    cube = unshared(trimesh.creation.box())
    spoiled = np.concatenate([cube.faces, cube.faces[:2, ::-1], cube.faces[:1, [1, 2, 0]], [[0, 0, 1]]])
    found = topology(Mesh(cube.vertices, spoiled))
    assert (found.duplicate_faces, found.degenerate_faces) == (3, 1)


def test_components_are_those_of_edges() -> None:
    parts = trimesh.util.concatenate([trimesh.creation.box().apply_translation([3.0 * i, 0, 0]) for i in range(4)])
    mesh = unshared(parts)
    found = topology(mesh)
    assert (found.components, found.euler) == (4, 8)
    labels = face_components(weld(mesh.vertices, mesh.faces)[1])
    np.testing.assert_array_equal(labels, np.repeat(labels[::12], 12))


def test_weld_keeps_positions_and_drops_unused() -> None:
    cube = trimesh.creation.box()
    vertices = np.concatenate([[[9.0, 9, 9]], cube.vertices, cube.vertices])
    faces = np.concatenate([cube.faces + 1, cube.faces + 9])
    rows, welded = weld(vertices, faces)
    assert len(rows) == 8
    np.testing.assert_array_equal(vertices[rows][welded], vertices[faces])


def test_undoubled_tells_cancelling_pairs_from_repeats() -> None:
    cube = trimesh.creation.box()
    vertices, faces = np.array(cube.vertices), np.array(cube.faces)
    for copies, share in ((faces[:, [0, 2, 1]], 1.0), (faces[:, [2, 0, 1]], 0.0), (faces[:6, ::-1], 12 / 18)):
        kept, cancelled = undoubled(vertices, np.concatenate([faces, copies]))
        np.testing.assert_array_equal(kept, np.arange(12))
        assert cancelled == pytest.approx(share)
