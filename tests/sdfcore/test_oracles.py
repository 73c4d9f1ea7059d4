"""The distance that oriented points suggest, against the shapes that the points were taken from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import trimesh
from small_fits import Array, ball, directions, open_ball

from sdfcore import fields
from sdfcore.geometry import Mesh
from sdfcore.oracles import PointDistance
from sdfcore.surfaces import sample_surface


def box_samples(count: int, *size: float, seed: int = 0) -> tuple[Array, Array]:
    shape = trimesh.creation.box(size)
    cloud = sample_surface(Mesh(np.array(shape.vertices), np.array(shape.faces)), count, seed)
    assert cloud.normals is not None
    return cloud.points, cloud.normals


def torus_samples(count: int, major: float, minor: float) -> tuple[Array, Array]:
    random = np.random.default_rng(0)
    u, v, keep = random.uniform(0, 2 * np.pi, (3, 4 * count))
    kept = keep / (2 * np.pi) * (major + minor) < major + minor * np.cos(v)  # even by area
    u, v = u[kept][:count], v[kept][:count]
    ring = np.stack([np.cos(u), np.sin(u), np.zeros_like(u)], axis=1)
    normals = ring * np.cos(v)[:, None] + np.sin(v)[:, None] * np.array([0, 0, 1])
    return major * ring + minor * normals, normals


def exact(field: fields.Field) -> Callable[[Array], Array]:
    return lambda points: field(torch.from_numpy(points)).numpy()


SPHERE = directions(4000)
SHAPES = {
    "sphere": (0.7 * SPHERE, SPHERE, exact(fields.sphere(0.7))),
    "box": (*box_samples(6000, 1.2, 0.8, 1.0), exact(fields.box((0.6, 0.4, 0.5)))),
    "torus": (*torus_samples(4000, 0.6, 0.2), exact(fields.torus(0.6, 0.2))),
}


@pytest.mark.parametrize("shape", list(SHAPES))
def test_distances_of_samples_are_those_of_the_shape(shape: str) -> None:
    points, normals, distance = SHAPES[shape]
    oracle = PointDistance(points, normals)
    spacing = float(np.median(oracle.spacing))
    random = np.random.default_rng(1)
    wide = random.uniform(-1, 1, (8000, 3))
    near = points[random.integers(0, len(points), 8000)] + random.normal(size=(8000, 3)) * 2 * spacing
    for queries in (wide, near):
        found, truth = oracle(queries), distance(queries)
        wrong = np.sign(found) != np.sign(truth)
        assert np.abs(truth[wrong]).max(initial=0) < 0.6 * spacing  # at an edge, between points
        assert wrong.mean() < 0.01
        assert np.abs(found - truth).max() < 1.5 * spacing
        assert np.abs(found - truth).mean() < 0.15 * spacing
    # a smooth surface is met far more closely than the points are apart
    if shape != "box":
        close = np.abs(distance(near)) < spacing / 2
        assert np.abs(oracle(near[close]) - distance(near[close])).mean() < 0.05 * spacing


def test_on_flat_parts_the_distance_near_the_points_is_exact() -> None:
    points, normals, _ = SHAPES["box"]
    oracle = PointDistance(points, normals)
    random = np.random.default_rng(0)
    on_top = np.concatenate([random.uniform(-0.3, 0.3, (500, 2)), np.full((500, 1), 0.5)], axis=1)
    for height in (-0.02, -0.001, 0.0, 0.001, 0.02):
        queries = on_top + np.array([0, 0, height])
        np.testing.assert_allclose(oracle(queries), height, atol=1e-6)


@pytest.mark.parametrize("gap", [0.02, 0.05])
def test_two_thin_sheets_close_to_each_other_stay_two(gap: float) -> None:
    thickness, spacing = 0.03, np.sqrt(2 / 12_000)
    points, normals = box_samples(12_000, 1.0, 1.0, thickness)
    lift = np.array([0, 0, (thickness + gap) / 2])
    oracle = PointDistance(np.concatenate([points - lift, points + lift]), np.concatenate([normals, normals]))
    random = np.random.default_rng(2)
    heights = np.linspace(-0.12, 0.12, 61)
    queries = np.concatenate([random.uniform(-0.4, 0.4, (61 * 40, 2)), np.repeat(heights, 40)[:, None]], axis=1)
    truth = np.abs(np.abs(queries[:, 2]) - lift[2]) - thickness / 2
    found = oracle(queries)
    clear = np.abs(truth) > 0.2 * spacing
    assert (np.sign(found[clear]) == np.sign(truth[clear])).mean() > 0.99
    assert np.abs(found - truth).mean() < 0.25 * spacing


def test_a_hole_is_closed_and_the_sign_is_the_shapes() -> None:
    cloud = sample_surface(open_ball(0.85), 4000, 0)
    oracle = PointDistance(cloud.points, cloud.normals)
    queries = directions(4000, 1) * np.random.default_rng(0).uniform(0, 1.6, (4000, 1))
    queries = queries[queries[:, 2] < 0.6]
    truth = np.linalg.norm(queries, axis=1) - 1
    clear = np.abs(truth) > 0.05
    assert (np.sign(oracle(queries)) == np.sign(truth))[clear].all()


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_some_wrong_normals_do_not_turn_the_sign(share: float) -> None:
    points, normals, distance = SHAPES["sphere"]
    turned = normals * np.where(np.random.default_rng(3).random((len(normals), 1)) < share, -1, 1)
    queries = np.random.default_rng(4).uniform(-1, 1, (5000, 3))
    queries = queries[np.abs(distance(queries)) > 0.1]
    assert (np.sign(PointDistance(points, turned)(queries)) == np.sign(distance(queries))).mean() > 0.99


def test_a_better_judge_of_the_inside_is_believed() -> None:
    mesh = ball(0.7)
    cloud = sample_surface(mesh, 2000, 0)
    everywhere = PointDistance(cloud.points, cloud.normals, inside=lambda queries: np.ones(len(queries), bool))
    far_out = directions(100) * 1.5
    np.testing.assert_allclose(everywhere(far_out), -PointDistance(cloud.points, cloud.normals)(far_out))
    assert (everywhere(far_out) < -0.7).all()


def test_fewer_points_than_neighbours_will_do() -> None:
    points = np.array([[0.0, 0, 0.5], [0, 0, -0.5]])
    oracle = PointDistance(points, points * 2)
    np.testing.assert_allclose(oracle(np.array([[0, 0, 1.5], [0, 0, 0.75]])), [1, 0.25], atol=1e-12)


def asked(oracle: PointDistance, queries: Array) -> tuple[Array, int]:
    """Distances, and how many winding numbers they took."""
    counted, inside = [], oracle.inside
    oracle.inside = lambda q: counted.append(len(q)) or inside(q)  # type: ignore[method-assign, func-returns-value]
    found = oracle(queries)
    oracle.inside = inside  # type: ignore[method-assign]
    return found, sum(counted)


def test_normals_that_tell_the_side_spare_winding_numbers() -> None:
    oracle = PointDistance(0.7 * SPHERE, SPHERE)
    queries = np.random.default_rng(3).uniform(-1, 1, (40_000, 3))
    found, count = asked(oracle, queries)
    assert count < 0.3 * len(queries)
    height = np.linalg.norm(queries, axis=1) - 0.7
    clear = np.abs(height) > 0.02
    np.testing.assert_array_equal((found < 0)[clear], (height < 0)[clear])


def test_behind_an_open_surface_winding_numbers_decide() -> None:
    half = SPHERE[SPHERE[:, 2] > 0.2]
    oracle = PointDistance(0.7 * half, half)
    queries = np.random.default_rng(4).uniform(-1, 1, (40_000, 3))
    found, count = asked(oracle, queries)
    far = np.abs(found) > 3 * oracle.spacing.max()
    np.testing.assert_array_equal((found < 0)[far], oracle.inside(queries)[far])
    assert count > 0.7 * len(queries)
