"""Normals of points whose true normals are known, found without them, or with a part of them turned round."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from small_fits import Array

from sdfcore.geometry import Mesh, PointCloud
from sdfcore.orientation import disagreement, estimate_normals, gauss_normals, orient, oriented
from sdfcore.surfaces import sample_surface

COUNT = 4000


def torus() -> Mesh:
    shape = trimesh.creation.torus(1.0, 0.35, 64, 32)
    return Mesh(np.array(shape.vertices) + 7.0, np.array(shape.faces))


def plate() -> Mesh:
    """Thin: its two sides are a thirtieth of its length apart."""
    shape = trimesh.creation.box((1.0, 0.7, 0.033))
    return Mesh(np.array(shape.vertices) * 30, np.array(shape.faces))


def pair() -> Mesh:
    one = trimesh.creation.icosphere(4)
    both = trimesh.util.concatenate([one, one.copy().apply_translation((2.3, 0, 0))])
    return Mesh(np.array(both.vertices), np.array(both.faces))


SHAPES = {"torus": torus, "plate": plate, "two spheres": pair}


def samples(name: str, count: int = COUNT) -> tuple[Array, Array]:
    cloud = sample_surface(SHAPES[name](), count)
    assert cloud.normals is not None
    return cloud.points.astype(np.float64), cloud.normals.astype(np.float64)


def agreement(found: Array, true: Array) -> float:
    """The share of normals within a right angle of the true ones."""
    return float((np.einsum("ni,ni->n", found, true) > 0).mean())


def test_planes_through_neighbours_have_the_surfaces_normals_either_way() -> None:
    points, true = samples("torus")
    found = estimate_normals(points)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert np.median(np.abs(np.einsum("ni,ni->n", found, true))) > 0.99


def test_planes_are_laid_through_noise_and_not_into_it() -> None:
    points, true = samples("torus", 12_000)
    noisy = points + 0.03 * np.random.default_rng(0).normal(size=points.shape)  # more than the points' spacing
    few, enough = (np.abs(np.einsum("ni,ni->n", estimate_normals(noisy, k), true)) for k in (12, None))
    assert np.median(few) < 0.93 < 0.97 < np.median(enough)
    cloud, _ = oriented(PointCloud(noisy))
    assert cloud.normals is not None
    assert agreement(cloud.normals, true) > 0.97


@pytest.mark.parametrize("name", list(SHAPES))
def test_normals_are_found_and_look_outward(name: str) -> None:
    points, true = samples(name)
    cloud, note = oriented(PointCloud(points))
    assert cloud.normals is not None
    assert agreement(cloud.normals, true) > 0.97  # planes through the plate's edges are of neither side
    assert "estimated" in note
    assert "unsure" not in note


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_normals_that_look_to_both_sides_are_turned_and_keep_their_lines(share: float) -> None:
    points, true = samples("plate")
    turned = np.random.default_rng(1).random(len(points)) < share
    mixed = np.where(turned[:, None], -true, true)
    assert disagreement(points, mixed) > 0.05
    cloud, note = oriented(PointCloud(points, mixed))
    assert cloud.normals is not None
    assert agreement(cloud.normals, true) > 0.99
    np.testing.assert_allclose(np.abs(np.einsum("ni,ni->n", cloud.normals, true)), 1, atol=1e-5)
    assert "were turned" in note


@pytest.mark.parametrize("name", list(SHAPES))
def test_consistent_normals_are_left_alone(name: str) -> None:
    """Also on a thin plate, where neighbours through it look the other way."""
    points, true = samples(name)
    cloud = PointCloud(points, true)
    assert disagreement(points, true) < 0.01
    assert oriented(cloud) == (cloud, "")


def test_points_beyond_those_that_are_turned_one_by_one_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdfcore.orientation.MIDDLE", 2000)
    points, true = samples("torus", 6000)
    found = orient(points, estimate_normals(points))
    assert agreement(found.normals, true) > 0.99
    assert found.certainty > 0.9


def test_the_same_seed_turns_the_same_way_and_an_offset_changes_nothing() -> None:
    points, _ = samples("torus", 1500)
    lines = estimate_normals(points)
    first, again, moved = (orient(p, lines).normals for p in (points, points, points * 3 - 5))
    np.testing.assert_array_equal(first, again)
    assert agreement(moved, first) > 0.99


def test_gauss_formula_tells_sides_of_scattered_points() -> None:
    """One solve, no neighbours: the normals are rough but look outward."""
    points, true = samples("torus", 800)
    assert agreement(gauss_normals(points - 7.0), true) > 0.97


def test_a_flat_sheet_has_no_inside_and_that_is_said() -> None:
    flat = np.column_stack([np.random.default_rng(0).uniform(-1, 1, (3000, 2)), np.zeros(3000)])
    cloud, note = oriented(PointCloud(flat))
    assert cloud.normals is not None
    assert np.isfinite(cloud.normals).all()
    assert "unsure" in note


@pytest.mark.parametrize("name", list(SHAPES))
def test_normals_that_all_look_inward_are_turned(name: str) -> None:
    points, true = samples(name)
    cloud, note = oriented(PointCloud(points, -true))
    assert "inward" in note
    np.testing.assert_allclose(cloud.normals, true, atol=1e-6)
    assert oriented(PointCloud(points, true))[1] == ""


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_sheet_looks_the_way_it_was_scanned(side: float) -> None:
    flat = np.column_stack([np.random.default_rng(0).uniform(-1, 1, (3000, 2)), np.zeros(3000)])
    bowl = flat + [0, 0, 0.4] * (flat**2).sum(axis=1)[:, None]
    for points in (flat, bowl):
        normals = np.column_stack([-0.8 * side * points[:, :2] * (points is bowl), np.full(3000, side)])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        cloud, note = oriented(PointCloud(points, normals))
        assert note == ""
        np.testing.assert_allclose(cloud.normals, normals, atol=1e-6)
