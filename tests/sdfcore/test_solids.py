"""What of a surface bounds a solid: overlaps, parts turned inside out, sheets, and clean shapes left as they are."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from sdfcore.errors import InputError
from sdfcore.geometry import Mesh
from sdfcore.solids import HALF_THICKNESS, survey, survey_points
from sdfcore.surfaces import sample_surface


def ball(x: float, radius: float = 0.4, turned: bool = False) -> Mesh:
    made = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    mesh = Mesh(made.vertices + np.array([x, 0.0, 0.0]), np.asarray(made.faces))
    return mesh.flipped() if turned else mesh


def joined(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0, *(len(m.vertices) for m in meshes)])
    faces = [m.faces + start for m, start in zip(meshes, starts[:-1], strict=True)]
    return Mesh(np.concatenate([m.vertices for m in meshes]), np.concatenate(faces))


def looked_at(mesh: Mesh, count: int = 20_000):
    cloud = sample_surface(mesh, count, 0)
    return survey(mesh, cloud.points, cloud.normals)


def two_balls(points: np.ndarray, gap: float) -> np.ndarray:
    return np.minimum(*(np.linalg.norm(points - [x, 0, 0], axis=1) - 0.4 for x in (-gap, gap)))


def test_a_clean_mesh_keeps_its_triangles_distance() -> None:
    found = looked_at(ball(0.0))
    queries = np.random.default_rng(0).uniform(-0.7, 0.7, (500, 3))
    assert (found.hidden, found.sheets, found.note) == (0.0, 0.0, "")
    assert found.oracle(queries) == pytest.approx(np.linalg.norm(queries, axis=1) - 0.4, abs=2e-3)


@pytest.mark.parametrize("turned", [False, True])
def test_overlapping_parts_become_their_union(turned: bool) -> None:
    apart = 0.25
    found = looked_at(joined(ball(-apart), ball(apart)) if not turned else joined(ball(-0.5), ball(0.5, turned=True)))
    centre = apart if not turned else 0.5
    queries = np.random.default_rng(0).uniform(-0.9, 0.9, (2000, 3))
    truth = two_balls(queries, centre)
    outside = truth > 0  # inside a union the distance to its skin is no minimum of the two
    assert found.oracle(queries)[outside] == pytest.approx(truth[outside], abs=6e-3)
    clear = np.abs(truth) > 0.01
    assert (np.sign(found.oracle(queries)) == np.sign(truth))[clear].all()
    assert np.abs(two_balls(found.points, centre)).max() < 2e-3
    away = np.where(found.points[:, :1] > 0, [[centre, 0, 0]], [[-centre, 0, 0]])
    assert (np.einsum("ni,ni->n", found.points - away, found.normals) > 0).all()
    hidden_area = (1 - apart / 0.4) / 2  # of a sphere, the cap beyond the other's plane of symmetry
    assert found.hidden == pytest.approx(0.0 if turned else hidden_area, abs=0.01)


def test_a_sheet_is_given_a_thickness_and_says_so() -> None:
    sheet = Mesh([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]], [[0, 1, 2], [0, 2, 3]])
    found = looked_at(sheet)
    assert found.sheets == 1.0
    assert "thickness" in found.note
    height = np.array([-2.0, -0.6, 0.0, 0.6, 2.0]) * HALF_THICKNESS
    queries = np.stack([np.full(5, 0.1), np.full(5, 0.2), height], axis=1)
    assert found.oracle(queries) == pytest.approx(np.abs(height) - HALF_THICKNESS, abs=0.2 * HALF_THICKNESS)


def test_a_sheet_whose_faces_repeat_in_one_direction_is_a_sheet() -> None:
    corners = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]])
    found = looked_at(Mesh(corners, np.array([[0, 1, 2], [0, 2, 3], [0, 1, 2], [0, 2, 3]])), 2000)
    assert found.sheets > 0.95
    assert found.hidden == 0.0
    assert found.oracle(np.zeros((1, 3)))[0] < 0


def test_what_bounds_nothing_is_refused() -> None:
    inner, outer = ball(0.0, 0.2), ball(0.0, 0.4)
    cloud = sample_surface(inner, 500, 0)
    with pytest.raises(InputError, match="bound nothing"):
        survey(joined(inner, outer), cloud.points, cloud.normals)


def test_points_hidden_in_an_overlap_are_left_out() -> None:
    cloud = sample_surface(joined(ball(-0.25), ball(0.25)), 20_000, 0)
    assert cloud.normals is not None
    found = survey_points(cloud.points, cloud.normals)
    depth = two_balls(found.points, 0.25)
    assert (depth < -0.02).mean() < 2e-3
    assert found.hidden == pytest.approx((1 - 0.25 / 0.4) / 2, abs=0.02)


def test_points_across_a_narrow_gap_all_stay() -> None:
    cloud = sample_surface(joined(ball(-0.403), ball(0.403)), 20_000, 0)
    assert cloud.normals is not None
    found = survey_points(cloud.points, cloud.normals)
    assert len(found.points) == len(cloud)
