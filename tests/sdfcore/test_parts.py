"""Parts of meshes: how many, how large, and doing without some."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from sdfcore.geometry import Mesh
from sdfcore.parts import drop_parts, keep_parts, largest_parts, part_areas, parts, supported

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


# Support by data ----------------------------------------------------------------------------------------------------


def spheres(*places: float, radii: tuple[float, ...] = (1, 1, 1)) -> Mesh:
    """Separate spheres along x with outward normals; vertices carry which one they are of."""
    made = [trimesh.creation.icosphere(2) for _ in places]
    normals = [np.array(s.vertices) for s in made]
    vertices = [n * r + np.array([x, 0, 0]) for n, r, x in zip(normals, radii, places, strict=False)]
    faces = [np.array(s.faces) + 162 * n for n, s in enumerate(made)]
    owner = np.repeat(np.arange(len(places)), 162)
    return Mesh(np.concatenate(vertices), np.concatenate(faces), np.concatenate(normals), attributes={"owner": owner})


def kept(mesh: Mesh, points: np.ndarray, normals: np.ndarray | None, reach: float = 0.1) -> set[int]:
    return set(keep_parts(mesh, supported(mesh, points, normals, reach)).attributes["owner"].tolist())


def test_parts_without_points_near_them_are_not_supported() -> None:
    mesh = spheres(0, 5, 10, radii=(1.1, 1, 0.5))
    owner = mesh.attributes["owner"]
    points, normals = mesh.vertices[owner != 1] + 0.02, mesh.normals[owner != 1]
    assert kept(mesh, points, normals) == {0, 2}
    assert kept(mesh, points, None) == {0, 2}
    assert kept(mesh, points, normals, reach=1e-3) == {0}  # nothing is near: the largest is the answer


def test_points_that_face_the_other_way_support_nothing() -> None:
    mesh = spheres(0, 5)
    turned = mesh.normals * np.where(mesh.attributes["owner"] == 1, -1, 1)[:, None]
    assert kept(mesh, mesh.vertices, turned) == {0}
    assert kept(mesh, mesh.vertices, None) == {0, 1}


def test_a_stray_sheet_goes_even_if_it_is_the_largest() -> None:
    mesh = spheres(0, 8, radii=(3, 1))
    ours = mesh.attributes["owner"] == 1
    assert kept(mesh, mesh.vertices[ours], mesh.normals[ours]) == {1}


def test_a_rough_surface_that_most_points_belong_to_is_not_given_up_for_a_speck() -> None:
    mesh = spheres(0, 1.5, radii=(1, 0.1))
    speck = mesh.attributes["owner"] == 1
    points = np.concatenate(
        [1.2 * mesh.vertices[~speck], mesh.vertices[speck]]
    )  # the large one is too small by a fifth
    assert kept(mesh, points, None) == {0, 1}


def test_the_largest_part_may_span_holes_and_a_small_one_may_not() -> None:
    mesh = spheres(0, 8, 16, radii=(3, 1, 1))
    owner = mesh.attributes["owner"]
    low = (mesh.vertices[:, 2] < 0) | (owner == 2)
    assert kept(mesh, mesh.vertices[low], None, reach=0.05) == {0, 2}


def test_a_sliver_beside_a_surface_has_no_points_of_its_own() -> None:
    """All of its vertices are within reach of points that face its way; those belong to the surface."""
    mesh = spheres(0, 1.003, radii=(1, 0.001))
    owner = mesh.attributes["owner"]
    points, normals = mesh.vertices[owner == 0], np.tile([1.0, 0, 0], (162, 1))
    facing = Mesh(mesh.vertices, mesh.faces, np.tile([1.0, 0, 0], (324, 1)), attributes=mesh.attributes)
    assert kept(facing, points, normals) == {0}
    both = np.concatenate([points, mesh.vertices[owner == 1]])
    along = np.tile([1.0, 0, 0], (324, 1))
    assert kept(facing, both, along) == {0}  # points of its own, but no room for so many


def test_points_of_a_part_of_its_own_face_its_way() -> None:
    mesh = spheres(0, 1.3, radii=(1, 0.2))
    owner = mesh.attributes["owner"]
    along = np.tile([1.0, 0, 0], (324, 1))
    facing = Mesh(mesh.vertices, mesh.faces, along, attributes=mesh.attributes)
    assert kept(facing, mesh.vertices, along) == {0, 1}
    turned = np.where(owner[:, None] == 1, [-1.0, 0, 0], [1.0, 0, 0])
    assert kept(facing, mesh.vertices, turned) == {0}
