"""Metrics on pairs whose distance, overlap and angle are known."""

from __future__ import annotations

import json

import numpy as np
import pytest
import trimesh

from sdfcore.geometry import Mesh, PointCloud
from sdfcore.metrics import compare, iou, topology


def as_mesh(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(np.array(shape.vertices), np.array(shape.faces))


def sphere(radius: float = 1.0) -> Mesh:
    return as_mesh(trimesh.creation.icosphere(5, radius))


def moved(mesh: Mesh, *by: float) -> Mesh:
    return Mesh(mesh.vertices + np.array(by), mesh.faces)


def test_spheres_of_two_radii() -> None:
    found = compare(sphere(1.1), sphere(1.0), samples=20_000)
    for name in ("chamfer", "chamfer_to_truth", "chamfer_to_result", "hausdorff", "p99"):
        assert getattr(found, name) == pytest.approx(0.1, abs=0.001), name
    assert found.iou == pytest.approx(1 / 1.1**3, abs=0.01)
    assert found.normal_consistency == pytest.approx(1, abs=1e-3)
    assert found.normal_error_degrees == pytest.approx(0, abs=1.5)
    assert found.threshold == pytest.approx(0.01 * 2 * np.sqrt(3), rel=1e-3)
    assert found.f_score == 0.0
    assert (found.watertight, found.components, found.euler) == (True, 1, 2)


def test_a_mesh_against_itself_is_perfect_whatever_the_samples_spacing() -> None:
    found = compare(sphere(), sphere(), samples=2000)
    assert found.hausdorff < 1e-9  # to triangles; to 2000 samples it would be about 0.05
    assert found.f_score == found.iou == 1.0
    assert found.normal_consistency == pytest.approx(1, abs=1e-6)


def test_shifted_box() -> None:
    cube = as_mesh(trimesh.creation.box((1, 1, 1)))
    found = compare(moved(cube, 0.25, 0, 0), cube, samples=40_000)
    assert found.iou == pytest.approx(0.75 / 1.25, abs=0.01)
    assert found.hausdorff == pytest.approx(0.25, abs=1e-6)
    # one of six faces lies 0.25 off; a quarter of four others lies up to 0.25 off (mean 0.125); one is 0.25 inside
    assert found.chamfer_to_truth == pytest.approx((0.25 + 4 * 0.25 * 0.125 + _inner_face()) / 6, abs=0.005)
    assert found.chamfer == pytest.approx((found.chamfer_to_truth + found.chamfer_to_result) / 2)


def _inner_face() -> float:
    """Mean distance from the face at x = -0.25 of a unit cube's inside to the cube: 0.25 capped by the nearest side."""
    side = 0.5 - np.abs((np.arange(1000) + 0.5) / 1000 - 0.5)
    return float(np.minimum(0.25, np.minimum(side[:, None], side[None, :]))[:, :].mean())


def test_p99_lies_between_mean_and_hausdorff() -> None:
    spike = sphere()
    vertices = spike.vertices.copy()
    vertices[0] *= 2
    found = compare(Mesh(vertices, spike.faces), sphere(), samples=50_000)
    assert found.p99 < 0.01
    assert 0.7 < found.hausdorff <= 1.001


def test_f_score_is_the_harmonic_mean_of_both_directions() -> None:
    truth = as_mesh(trimesh.util.concatenate([trimesh.creation.icosphere(4), _far(trimesh.creation.icosphere(4))]))
    found = compare(as_mesh(trimesh.creation.icosphere(4)), truth, samples=20_000, threshold=0.01)
    assert found.threshold == 0.01
    assert found.f_score == pytest.approx(2 / 3, abs=0.01)  # precision 1, recall ½
    assert (found.components, topology(truth).components) == (1, 2)


def _far(shape: trimesh.Trimesh) -> trimesh.Trimesh:
    return shape.apply_translation([10, 0, 0])


def test_turned_inside_out_as_a_whole_is_the_same_surface() -> None:
    found = compare(sphere().flipped(), sphere(), samples=5000)
    assert found.normal_error_degrees == pytest.approx(0, abs=0.05)
    assert found.iou == 1.0


def test_a_part_turned_inside_out_shows_in_the_angle_only() -> None:
    both = trimesh.util.concatenate([trimesh.creation.icosphere(4), _far(trimesh.creation.icosphere(4, 0.5))])
    spoiled = as_mesh(both)
    faces = spoiled.faces.copy()
    faces[len(faces) // 2 :] = faces[len(faces) // 2 :, ::-1]
    found = compare(Mesh(spoiled.vertices, faces), as_mesh(both), samples=20_000)
    assert found.normal_consistency == pytest.approx(1, abs=1e-6)
    assert found.normal_error_degrees == pytest.approx(180 / 5, abs=1.5)  # a fifth of the area


def test_a_vertex_that_no_face_uses_is_no_part_of_a_volume() -> None:
    box = trimesh.creation.box()
    stray = np.concatenate([box.vertices, [[1000.0, 0, 0]]])
    one, other = Mesh(np.array(box.vertices), np.array(box.faces)), Mesh(stray, np.array(box.faces))
    assert iou(one, other, samples=2000) == 1.0


def test_open_meshes_have_no_volume() -> None:
    cube = as_mesh(trimesh.creation.box())
    opened = Mesh(cube.vertices, cube.faces[2:])
    assert iou(opened, cube) is None
    assert iou(cube, opened) is None
    found = compare(opened, cube, samples=1000)
    assert (found.iou, found.watertight) == (None, False)
    assert found.boundary_edges == 4


def test_scan_as_truth_with_and_without_normals() -> None:
    points = sphere().vertices[::3]
    scan = PointCloud(points, points)
    found = compare(sphere(1.1), scan, samples=5000)
    assert found.chamfer_to_result == pytest.approx(0.1, abs=0.002)
    assert 0.1 < found.chamfer_to_truth < 0.12
    assert found.iou is None
    assert found.normal_error_degrees is not None
    assert found.normal_error_degrees < 3
    bare = compare(sphere(1.1), PointCloud(points), samples=5000)
    assert (bare.normal_consistency, bare.normal_error_degrees) == (None, None)
    assert bare.chamfer == found.chamfer


def test_seeded_and_json() -> None:
    first = compare(sphere(1.1), sphere(), samples=1000, seed=5)
    assert first == compare(sphere(1.1), sphere(), samples=1000, seed=5)
    assert first != compare(sphere(1.1), sphere(), samples=1000, seed=6)
    assert json.loads(json.dumps(first.as_dict()))["seed"] == 5
