"""Samples, distances and signs against shapes whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from sdfcore.errors import EmptyInputError, InputError, NoNormalsError
from sdfcore.geometry import Mesh
from sdfcore.surfaces import (
    MeshDistance,
    PointWinding,
    diagnose,
    outward,
    point_areas,
    sample_faces,
    sample_surface,
    winding_clarity,
)


def as_mesh(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(np.array(shape.vertices), np.array(shape.faces))


def box(*size: float) -> Mesh:
    return as_mesh(trimesh.creation.box(size))


def sphere(subdivisions: int = 4) -> Mesh:
    return as_mesh(trimesh.creation.icosphere(subdivisions))


def hemisphere() -> Mesh:
    whole = sphere()
    above = whole.vertices[whole.faces].mean(axis=1)[:, 2] > 0
    return Mesh(whole.vertices, whole.faces[above])


def doubled(mesh: Mesh) -> Mesh:
    return Mesh(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[:, ::-1]]))


def box_distance(points: np.ndarray, half: np.ndarray) -> np.ndarray:
    beyond = np.abs(points) - half
    return np.linalg.norm(beyond.clip(min=0), axis=1) + beyond.max(axis=1).clip(max=0)


def test_signed_distance_of_a_box_is_exact_everywhere() -> None:
    points = np.random.default_rng(0).uniform(-2, 2, (20_000, 3))
    found = MeshDistance(box(1, 2, 3)).signed(points)
    np.testing.assert_allclose(found, box_distance(points, np.array([0.5, 1, 1.5])), atol=1e-12)


@pytest.mark.parametrize("centre", [0.0, 1e6])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e8])
def test_place_and_size_do_not_change_the_answer(centre: float, scale: float) -> None:
    unit = box(1, 2, 3)
    place = centre * scale * np.array([1.0, -2.0, 0.5])
    points = np.random.default_rng(1).uniform(-2, 2, (2000, 3))
    moved = MeshDistance(Mesh(unit.vertices * scale + place, unit.faces))
    found = moved.signed(points * scale + place) / scale
    np.testing.assert_allclose(found, box_distance(points, np.array([0.5, 1, 1.5])), atol=1e-8)


def test_closest_gives_a_point_of_the_named_face_at_the_distance() -> None:
    mesh = as_mesh(trimesh.creation.torus(1.0, 0.3))
    points = np.random.default_rng(2).uniform(-1.5, 1.5, (3000, 3))
    distance, face, nearest = MeshDistance(mesh).closest(points)
    np.testing.assert_allclose(np.linalg.norm(points - nearest, axis=1), distance, atol=1e-12)
    corners = mesh.triangles[face]
    weights = trimesh.triangles.points_to_barycentric(corners, nearest)
    assert weights.min() > -1e-6
    np.testing.assert_allclose(np.einsum("nc,ncd->nd", weights, corners), nearest, atol=1e-9)
    exact = np.abs(np.hypot(np.hypot(points[:, 0], points[:, 1]) - 1.0, points[:, 2]) - 0.3)
    assert np.abs(distance - exact).max() < 0.02  # the mesh's own facets


def test_inverted_mesh_is_still_negative_inside() -> None:
    points = np.random.default_rng(3).uniform(-2, 2, (4000, 3))
    inverted = MeshDistance(box(1, 2, 3).flipped())
    assert inverted.inverted
    np.testing.assert_allclose(inverted.signed(points), box_distance(points, np.array([0.5, 1, 1.5])), atol=1e-12)
    assert not MeshDistance(box(1, 2, 3)).inverted


@pytest.mark.parametrize("flip", [False, True])
def test_open_hemisphere_is_closed_across_its_hole(flip: bool) -> None:
    mesh = hemisphere().flipped() if flip else hemisphere()
    signed = MeshDistance(mesh).signed
    inside = np.array([[0, 0, 0.5], [0.5, 0, 0.4], [0, -0.3, 0.8]])
    outside = np.array([[0, 0, 1.1], [0, 0, -0.4], [1.2, 0, 0.3], [0, 0, -5.0]])
    assert (signed(inside) < 0).all()
    assert (signed(outside) > 0).all()


def test_overlapping_parts_are_one_solid() -> None:
    first, second = box(2, 2, 2), box(2, 2, 2)
    both = Mesh(
        np.concatenate([first.vertices, second.vertices + np.array([1, 0, 0])]),
        np.concatenate([first.faces, second.faces + len(first.vertices)]),
    )
    distance = MeshDistance(both)
    places = np.array([[-0.5, 0, 0], [0.5, 0.2, 0], [1.5, 0, 0], [2.5, 0, 0]])
    np.testing.assert_allclose(distance.winding(places), [1, 2, 1, 0], atol=0.01)
    assert (distance.inside(places) == [True, True, True, False]).all()


def test_doubled_faces_do_not_cancel_the_inside() -> None:
    mesh = doubled(sphere())
    distance = MeshDistance(mesh)
    np.testing.assert_allclose(distance.signed(np.array([[0, 0, 0], [0, 2, 0.0]])), [-1, 1], atol=0.01)
    assert winding_clarity(mesh) > 0.99
    turned = outward(doubled(sphere().flipped()))
    assert len(turned.faces) == len(sphere().faces)
    assert turned.volume() == pytest.approx(4 / 3 * np.pi, rel=0.01)


def test_flat_sheet_has_no_inside_and_says_so() -> None:
    sheet = Mesh(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]]), np.array([[0, 1, 2], [0, 2, 3]]))
    points = np.array([[0.5, 0.5, 0.3], [0.5, 0.5, -0.3], [3, 0.5, 0]])
    np.testing.assert_allclose(MeshDistance(sheet).signed(points), [0.3, 0.3, 2.0], atol=1e-12)
    assert winding_clarity(sheet) == 0.0
    assert winding_clarity(doubled(sheet)) == 0.0


def test_outward_leaves_a_good_mesh_alone() -> None:
    mesh = sphere(2)
    assert outward(mesh) is mesh


def test_distances_need_no_area_and_signs_need_no_stray_vertices() -> None:
    line = Mesh(np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0.0]]), np.array([[0, 1, 2]]))
    np.testing.assert_allclose(MeshDistance(line).signed(np.array([[1, 0, 2.0], [3, 0, 0]])), [2, 1], atol=1e-12)
    cube = box(1, 1, 1)
    stray = Mesh(np.concatenate([cube.vertices, [[1e12, 0, 0]]]), cube.faces)
    np.testing.assert_allclose(MeshDistance(stray).signed(np.array([[0, 0, 0.4]])), [-0.1], atol=1e-12)


def test_many_queries_equal_few() -> None:
    points = np.random.default_rng(4).uniform(-1.5, 1.5, ((1 << 18) + 5, 3))
    distance = MeshDistance(sphere(1))
    whole = distance.signed(points)
    tail = distance.signed(points[-5:])
    assert whole.shape == (len(points),)
    np.testing.assert_allclose(whole[-5:], tail)
    assert distance.signed(np.zeros((0, 3))).shape == (0,)


def test_bad_queries_name_the_fault() -> None:
    distance = MeshDistance(sphere(1))
    with pytest.raises(InputError, match="shape"):
        distance.unsigned(np.zeros(3))
    with pytest.raises(InputError, match="finite"):
        distance.winding(np.array([[0, np.nan, 0]]))


def test_samples_follow_area_normals_and_colours() -> None:
    mesh = box(1, 2, 3)
    colours = np.zeros((8, 4), np.uint8)
    colours[:, 0] = np.where(mesh.vertices[:, 2] > 0, 200, 0)
    cloud = sample_surface(Mesh(mesh.vertices, mesh.faces, colours=colours), 40_000, 7)
    assert cloud.normals is not None
    assert cloud.colours is not None
    np.testing.assert_allclose(box_distance(cloud.points, np.array([0.5, 1, 1.5])), 0, atol=1e-12)
    shares = (np.abs(cloud.normals) > 0.5).mean(axis=0)
    np.testing.assert_allclose(shares, np.array([6, 3, 2]) / 11, atol=0.01)
    half = np.array([0.5, 1, 1.5])
    np.testing.assert_allclose(np.einsum("nd,nd->n", cloud.points / half, cloud.normals), 1, atol=1e-6)
    np.testing.assert_allclose(cloud.colours[:, 0], (cloud.points[:, 2] + 1.5) / 3 * 200, atol=1)


def test_samples_are_seeded_and_uniform_within_a_face() -> None:
    mesh = Mesh(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0.0]]), np.array([[0, 1, 2]]))
    points, _, weights = sample_faces(mesh, 50_000, 3)
    np.testing.assert_array_equal(points, sample_faces(mesh, 50_000, 3)[0])
    assert (points != sample_faces(mesh, 50_000, 4)[0]).any()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(points.mean(axis=0), [1 / 3, 1 / 3, 0], atol=0.005)
    np.testing.assert_allclose(points[:, :2].var(axis=0), 1 / 18, atol=0.001)


def test_faces_without_area_get_no_sample_and_none_with_area_is_an_error() -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0.0], [5, 5, 5], [6, 6, 6], [7, 7, 7]])
    _, face, _ = sample_faces(Mesh(vertices, np.array([[3, 4, 5], [0, 1, 2], [3, 3, 4]])), 500, 0)
    assert (face == 1).all()
    with pytest.raises(EmptyInputError, match="no area"):
        sample_surface(Mesh(vertices, np.array([[3, 4, 5], [3, 3, 4]])), 10, 0)


def test_point_winding_tells_inside_from_outside_with_duplicates() -> None:
    cloud = sample_surface(as_mesh(trimesh.creation.torus(1.0, 0.35, 128, 64)), 8000, 0)
    assert cloud.normals is not None
    points = np.concatenate([cloud.points, cloud.points[:3000]])  # libigl's point form crashes on these
    normals = np.concatenate([cloud.normals, cloud.normals[:3000]])
    queries = np.random.default_rng(0).uniform(-1.5, 1.5, (20_000, 3))
    distance = np.hypot(np.hypot(queries[:, 0], queries[:, 1]) - 1.0, queries[:, 2]) - 0.35
    winding = PointWinding(points, normals)(queries)
    clear = np.abs(distance) > 0.05
    assert ((winding > 0.5) == (distance < 0))[clear].mean() > 0.999
    assert np.abs(winding - (distance < 0))[clear].mean() < 0.1


def test_point_areas_add_up_also_on_two_close_sides() -> None:
    plate = sample_surface(box(1, 1, 0.01), 20_000, 0)
    assert plate.normals is not None
    areas = point_areas(plate.points, plate.normals)
    assert areas.sum() == pytest.approx(2.04, rel=0.1)  # the rims count a little much
    stray = point_areas(np.concatenate([plate.points, [[30, 30, 30]]]), np.concatenate([plate.normals, [[0, 0, 1]]]))
    assert stray[-1] < 0.01


def test_point_winding_uses_given_areas_and_needs_normals() -> None:
    cloud = sample_surface(sphere(), 4000, 0)
    areas = np.full(4000, 4 * np.pi / 4000)
    assert PointWinding(cloud.points, cloud.normals, areas)(np.zeros((1, 3)))[0] == pytest.approx(1, abs=0.01)
    assert PointWinding(cloud.points, cloud.normals, 2 * areas)(np.zeros((1, 3)))[0] == pytest.approx(2, abs=0.02)
    with pytest.raises(NoNormalsError):
        PointWinding(cloud.points, None)
    with pytest.raises(InputError, match="areas"):
        PointWinding(cloud.points, cloud.normals, areas[:5])


def test_diagnosis_of_good_open_and_inverted() -> None:
    good = diagnose(sphere(2))
    assert (good.watertight, good.inverted, good.components, good.euler, good.clarity) == (True, False, 1, 2, 1.0)
    opened = diagnose(hemisphere())
    assert not opened.watertight
    assert opened.boundary_edges > 0
    assert 0.2 < opened.clarity < 1.0
    assert diagnose(sphere(2).flipped()).inverted


def test_a_mesh_of_slivers_has_the_sign_of_its_samples() -> None:
    made = trimesh.creation.cylinder(radius=0.5, height=4.0, sections=700)
    distance = MeshDistance(Mesh(made.vertices, made.faces))
    assert distance._by_samples is not None
    queries = np.random.default_rng(0).uniform([-1, -1, -2.5], [1, 1, 2.5], (3000, 3))
    radius = np.linalg.norm(queries[:, :2], axis=1)
    clear = (np.abs(radius - 0.5) > 0.05) & (np.abs(np.abs(queries[:, 2]) - 2) > 0.05)
    truth = (radius < 0.5) & (np.abs(queries[:, 2]) < 2)
    assert (distance.inside(queries) == truth)[clear].all()
    assert MeshDistance(Mesh(*(lambda b: (b.vertices, b.faces))(trimesh.creation.box())))._by_samples is None
