"""Values check themselves, keep their precision, and change coordinates without losing any."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from sdfcore.errors import EmptyInputError, InputError
from sdfcore.geometry import Box, Frame, Mesh, PointCloud

SQUARE = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=np.float64)
TWO = np.array([[0, 1, 2], [0, 2, 3]])


def cube(at: float = 0.0) -> Mesh:
    shape = trimesh.creation.box((1, 2, 3))
    return Mesh(np.array(shape.vertices) + at, np.array(shape.faces))


# Point clouds -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given_as", "kept"), [("f4", "f4"), ("f8", "f8"), ("i4", "f4"), ("f2", "f4")])
def test_floats_keep_their_precision_and_all_else_becomes_float32(given_as: str, kept: str) -> None:
    assert PointCloud(SQUARE.astype(given_as)).points.dtype == np.dtype(kept)


def test_normals_are_stored_at_unit_length() -> None:
    cloud = PointCloud(SQUARE, [[0, 0, 2], [3, 0, 4], [0, -0.1, 0], [1e-6, 0, 0]])
    np.testing.assert_allclose(cloud.normals, [[0, 0, 1], [0.6, 0, 0.8], [0, -1, 0], [1, 0, 0]], atol=1e-7)


def test_colours_become_rgba_bytes() -> None:
    floats = PointCloud(SQUARE, colours=[[0, 0.5, 1], [2, -1, np.nan], [1, 1, 1], [0, 0, 0]])
    np.testing.assert_array_equal(floats.colours[:2], [[0, 128, 255, 255], [255, 0, 0, 255]])
    exact = np.arange(16, dtype=np.uint8).reshape(4, 4)
    np.testing.assert_array_equal(PointCloud(SQUARE, colours=exact).colours, exact)


def test_nothing_can_be_written_and_the_givers_array_stays_writable() -> None:
    points = SQUARE.copy()
    cloud = PointCloud(points, points + 1)
    for array in (cloud.points, cloud.normals):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7
    points[0] = 7  # does not raise


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (([[1, 2]],), InputError, r"\(1, 2\)"),
        ((np.empty((0, 3)),), EmptyInputError, "no points"),
        (([[0, 0, 0], [0, np.nan, 0], [np.inf, 0, 0]],), InputError, "2 rows of 3.*first: row 1"),
        (([[0, 0, 1e16]],), InputError, "1e.16"),
        ((SQUARE, SQUARE[:2]), InputError, "2 normals for 4 points"),
        ((SQUARE, np.eye(3)[[0, 1, 2, 0]] * [[1], [0], [1], [1]]), InputError, "1 normals of 4.*first: row 1"),
        ((SQUARE, None, np.zeros((4, 2))), InputError, "colours"),
        ((SQUARE, None, np.zeros((3, 4))), InputError, "colours"),
    ],
)
def test_a_cloud_refuses_what_is_none(arguments: tuple, error: type[InputError], says: str) -> None:
    with pytest.raises(error, match=says) as raised:
        PointCloud(*arguments)
    assert type(raised.value) is error
    assert raised.value.hint


def test_taking_rows_takes_all_that_belongs_to_them() -> None:
    cloud = PointCloud(SQUARE, SQUARE + np.array([0, 0, 1]), np.arange(16, dtype=np.uint8).reshape(4, 4))
    for rows in (np.array([2, 0]), np.array([True, False, True, False])):
        taken = cloud.take(rows)
        for whole, part in zip(
            (cloud.points, cloud.normals, cloud.colours), (taken.points, taken.normals, taken.colours), strict=True
        ):
            np.testing.assert_allclose(part, whole[rows], rtol=2e-7)
    assert PointCloud(SQUARE).take(np.array([1])).normals is None


def test_places_given_twice_become_one_point_with_the_mean_normal() -> None:
    x, y = [1.0, 0, 0], [0, 1.0, 0]
    points = [[5, 0, 0], [1, 2, 3], [5, 0, 0], [-0.0, 0, 0], [1, 2, 3], [0, 0, 0]]
    normals = [x, x, y, y, [-1, 0, 0], y]
    colours = np.repeat(np.arange(6, dtype=np.uint8)[:, None], 4, axis=1)
    found = PointCloud(points, normals, colours).distinct()
    np.testing.assert_array_equal(found.points, [[5, 0, 0], [1, 2, 3], [0, 0, 0]])  # in the order given
    np.testing.assert_allclose(found.normals, [[0.5**0.5, 0.5**0.5, 0], x, y], atol=1e-7)  # cancelled: the first
    np.testing.assert_array_equal(found.colours[:, 0], [0, 1, 3])
    whole = PointCloud(SQUARE)
    assert whole.distinct() is whole


# Meshes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0.0, 1e6])
def test_area_and_volume_do_not_depend_on_the_place(at: float) -> None:
    mesh = cube(at)
    assert mesh.area() == pytest.approx(22, rel=1e-9)
    assert mesh.volume() == pytest.approx(6, rel=1e-9)
    assert mesh.flipped().volume() == pytest.approx(-6, rel=1e-9)


def test_flipping_turns_faces_and_normals() -> None:
    mesh = Mesh(SQUARE, TWO, np.tile([0, 0, 1], (4, 1)), attributes={"heat": np.arange(4)})
    turned = mesh.flipped()
    np.testing.assert_allclose(turned.face_vectors(), -mesh.face_vectors())
    np.testing.assert_allclose(turned.normals, -mesh.normals)
    assert list(turned.attributes["heat"]) == [0, 1, 2, 3]
    np.testing.assert_allclose(mesh.face_vectors(), [[0, 0, 1], [0, 0, 1]])  # twice the area, counter-clockwise is up


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((np.empty((0, 3)), TWO), EmptyInputError, "no vertices"),
        ((SQUARE, np.empty((0, 3), int)), EmptyInputError, "no faces"),
        ((SQUARE, [[0, 1, 2, 3]]), InputError, r"\(1, 4\)"),
        ((SQUARE, [[0.0, 1, 2]]), InputError, "float64"),
        ((SQUARE, [[0, 1, 4]]), InputError, "0 to 4 of a mesh with 4"),
        ((SQUARE, [[0, 1, -1]]), InputError, "-1 to 1"),
        ((SQUARE, TWO, SQUARE[:3]), InputError, "3 normals"),
        ((SQUARE, TWO, None, np.zeros((3, 4))), InputError, "colours"),
        ((SQUARE, TWO, None, None, {"heat": np.zeros(3)}), InputError, "'heat' has 3 values for 4"),
    ],
)
def test_a_mesh_refuses_what_is_none(arguments: tuple, error: type[InputError], says: str) -> None:
    with pytest.raises(error, match=says) as raised:
        Mesh(*arguments)
    assert type(raised.value) is error


# Boxes and frames ---------------------------------------------------------------------------------------------------


def test_a_box_measures_itself() -> None:
    box = Box.around(np.array([[0, 5, 1], [2, 1, 1], [1, 2, 1]]))
    assert [*box.lower, *box.upper] == [0, 1, 1, 2, 5, 1]
    assert [*box.size, *box.centre] == [2, 4, 0, 1, 3, 1]
    assert box.diagonal == pytest.approx(20**0.5)
    assert [*box.expanded(0.5).lower, *box.expanded(0.5).upper] == [-0.5, 0.5, 0.5, 2.5, 5.5, 1.5]
    np.testing.assert_array_equal(box.contains(np.array([[0, 1, 1], [2, 5, 1], [1, 3, 1.01]])), [True, True, False])


@pytest.mark.parametrize(
    "corners", [([0, 0], [1, 1]), ([0, 0, 1], [1, 1, 0]), ([0, 0, np.nan], [1, 1, 1]), ([0, 0, 0], [1, 1, np.inf])]
)
def test_a_box_refuses_what_is_none(corners: tuple[list[float], list[float]]) -> None:
    with pytest.raises(InputError, match="is none"):
        Box(*corners)


def test_a_frame_holds_the_points_with_a_margin() -> None:
    points = np.random.default_rng(0).uniform([3, -1, 7], [4, 5, 8], (1000, 3))
    unit = Frame.around(points, margin=0.2).to_unit(points)
    lower, upper = unit.min(axis=0), unit.max(axis=0)
    np.testing.assert_allclose(-lower, upper, atol=1e-6)  # centred
    assert upper.max() == pytest.approx(0.8, abs=1e-6)
    np.testing.assert_allclose(np.ptp(unit, axis=0) / np.ptp(points, axis=0), 1.6 / np.ptp(points[:, 1]), rtol=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.floats(-1e8, 1e8), st.floats(-8, 8), st.lists(st.tuples(*[st.floats(-1, 1)] * 3), min_size=2, unique=True))
def test_world_to_unit_and_back_loses_only_what_float32_cannot_hold(
    place: float, power: float, offsets: list[tuple[float, float, float]]
) -> None:
    size = 10.0**power
    points = place * size * np.array([1.0, -0.5, 0.25]) + size * np.array([[-1, -1, -1], [1, 1, 1], *offsets])
    frame = Frame.around(points)
    back = frame.to_world(frame.to_unit(points))
    # float32 in the unit box, and the rounding of the far-off float64 coordinates themselves
    assert np.abs(back - points).max() <= 2e-7 * frame.scale + 1e-15 * np.abs(points).max()
    box = Box.around(points)
    again = frame.box_to_world(frame.box_to_unit(box))
    np.testing.assert_allclose(again.lower, box.lower, rtol=1e-12, atol=1e-12 * size)
    np.testing.assert_allclose(again.upper, box.upper, rtol=1e-12, atol=1e-12 * size)


@pytest.mark.parametrize("points", [np.ones((5, 3)), np.full((5, 3), 1e9) + np.eye(5, 3) * 1e-7])
def test_points_at_one_place_have_no_frame(points: np.ndarray) -> None:
    with pytest.raises(InputError, match="one place"):
        Frame.around(points)


@pytest.mark.parametrize("arguments", [([0, 0], 1), ([0, 0, np.inf], 1), ([0, 0, 0], 0), ([0, 0, 0], np.nan)])
def test_a_frame_refuses_what_is_none(arguments: tuple[list[float], float]) -> None:
    with pytest.raises(InputError, match="is none"):
        Frame(*arguments)
