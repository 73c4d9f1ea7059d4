"""Colours, faces and errors carried between shapes whose correspondence is known."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from sdfcore.geometry import Mesh, PointCloud
from sdfcore.surfaces import MeshDistance, sample_surface
from sdfcore.transfer import barycentric, transfer


def as_mesh(shape: trimesh.Trimesh, colours: np.ndarray | None = None) -> Mesh:
    return Mesh(np.array(shape.vertices), np.array(shape.faces), colours=colours)


def box_with_ramp() -> Mesh:
    """Red rises from 0 to 200 along x over a box 2 wide."""
    shape = trimesh.creation.box((2, 2, 2))
    colours = np.zeros((8, 4), np.uint8)
    colours[:, 0] = np.where(shape.vertices[:, 0] > 0, 200, 0)
    return as_mesh(shape, colours)


def test_from_a_mesh() -> None:
    source = box_with_ramp()
    fine = as_mesh(trimesh.creation.box((2, 2, 2)).subdivide().subdivide())
    grown = Mesh(fine.vertices * 1.0, fine.faces)
    found = transfer(grown, source)
    assert (found.error.dtype, found.face.dtype) == (np.float32, np.int32)
    np.testing.assert_allclose(found.error, 0, atol=1e-6)
    assert found.colours is not None
    np.testing.assert_allclose(found.colours[:, 0], (fine.vertices[:, 0] + 1) * 100, atol=1)
    same = np.einsum("fi,fi->f", grown.face_vectors(), source.face_vectors()[found.face])
    assert (same > 0).all()
    centres = grown.triangles.mean(axis=1)
    weights = barycentric(source.triangles[found.face], centres)
    np.testing.assert_allclose(np.einsum("nc,ncd->nd", weights, source.triangles[found.face]), centres, atol=1e-9)


def test_error_is_the_distance_to_the_surface_not_to_its_vertices() -> None:
    shifted = as_mesh(trimesh.creation.icosphere(3, 2.0))
    found = transfer(shifted, as_mesh(trimesh.creation.icosphere(5, 1.0)))
    np.testing.assert_allclose(found.error, 1, atol=2e-3)
    assert found.colours is None


def test_from_points() -> None:
    source = box_with_ramp()
    scan = sample_surface(source, 20_000, 0)
    fine = as_mesh(trimesh.creation.box((2, 2, 2)).subdivide().subdivide().subdivide())
    found = transfer(fine, scan)
    assert (found.face == -1).all()
    assert len(found.face) == len(fine.faces)
    assert 0 < found.error.mean() < 0.03
    assert found.colours is not None
    np.testing.assert_allclose(found.colours[:, 0], (fine.vertices[:, 0] + 1) * 100, atol=8)
    assert transfer(fine, PointCloud(scan.points)).colours is None


def test_barycentric_inside_outside_and_on_degenerate_triangles() -> None:
    triangle = np.array([[0, 0, 0], [2, 0, 0], [0, 4, 0.0]])
    points = np.array([[0, 0, 0], [2, 0, 0], [0, 4, 0], [1, 2, 0], [2 / 3, 4 / 3, 0.0]])
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(barycentric(np.repeat(triangle[None], 5, 0), points), expected, atol=1e-12)
    line = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0.0]])
    weights = barycentric(np.repeat(line[None], 2, 0), np.array([[1, 0, 0], [2, 0, 0.0]]))
    np.testing.assert_allclose(weights, [[0, 1, 0], [0, 0, 1]], atol=1e-6)
    point = barycentric(np.zeros((1, 3, 3)), np.zeros((1, 3)))
    np.testing.assert_allclose(point, 1 / 3)


def test_colours_on_a_mesh_with_faces_without_area() -> None:
    source = box_with_ramp()
    faces = np.concatenate([source.faces, [[0, 0, 1], [2, 2, 2]]])
    spoiled = Mesh(source.vertices, faces, colours=source.colours)
    found = transfer(source, spoiled)
    assert found.colours is not None
    np.testing.assert_array_equal(found.colours, source.colours)
    assert MeshDistance(spoiled).unsigned(source.vertices).max() == pytest.approx(0, abs=1e-12)
