"""Ways through a space as the add-on asks for them, on a space that is learned in a second."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_fits import ball, one_thread

from sdfcore import path_requests, space_requests
from sdfcore.errors import InputError
from sdfcore.geometry import Mesh
from sdfcore.protocol import Message, pack, unpack
from sdfcore.storage import from_bytes


class Quiet:
    """A control that nobody speaks to; it keeps what it is told."""

    stopped, due = False, True

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def check(self) -> None: ...

    def fitted(self, model: Any) -> None: ...

    def preview(self, arrays: Any) -> None: ...

    def progress(self, body: dict[str, Any]) -> None:
        self.told.append(body)


def asked(handler: Any, body: dict[str, Any], control: Quiet | None = None, **arrays: np.ndarray) -> Message:
    """The answer, as it arrives in Blender."""
    frame = pack(Message("request", "", body, arrays))
    with one_thread():
        told, found = handler(unpack(bytes(frame[8:])), control or Quiet())
    return unpack(bytes(pack(Message("done", "", told, found))[8:]))


@pytest.fixture(scope="module")
def learned() -> Message:
    """A ball and a larger one beside it, and the mesh of what lies between."""
    small, large = ball(0.5), ball(1.0, (4.0, 0.0, 0.0))
    arrays = {"s0_vertices": small.vertices, "s0_faces": small.faces, "s1_points": large.vertices}
    arrays["s1_normals"] = large.vertices - [4, 0, 0]
    body = {"names": ["small", "large"], "preset": "draft", "steps": 40, "samples": 2000, "device": "cpu"}
    half = {"weights": {"small": 1, "large": 1}, "resolution": 24}
    return asked(space_requests.learn, {**body, "decode": half}, **arrays)


@pytest.fixture(scope="module")
def space(learned: Message) -> np.ndarray:
    return learned.arrays["space"]


WAY = {"stops": ["small", "large"], "frames": 3, "resolution": 24, "device": "cpu"}


def centre(vertices: np.ndarray) -> np.ndarray:
    return (vertices.min(axis=0) + vertices.max(axis=0)) / 2


def test_learning_describes_the_space_and_brings_the_mesh_that_was_asked_for(learned):
    assert learned.body["names"] == ["small", "large"]
    assert len(learned.body["amounts"]) == 2
    assert learned.body["amounts"][0][0] == pytest.approx(-learned.body["amounts"][1][0], abs=1e-3)
    np.testing.assert_allclose(centre(learned.arrays["vertices"]), [2, 0, 0], atol=0.3)
    assert np.ptp(learned.arrays["vertices"], axis=0) == pytest.approx([1.5] * 3, rel=0.25)


def test_shapes_on_the_way_lie_on_the_way(space):
    control = Quiet()
    found = asked(path_requests.interpolate, {**WAY, "model": True}, control, space=space)
    meshes = [Mesh(found.arrays[f"m{i}_vertices"], found.arrays[f"m{i}_faces"]) for i in range(3)]
    for mesh, x, size in zip(meshes, (0, 2, 4), (1, 1.5, 2), strict=True):
        np.testing.assert_allclose(centre(mesh.vertices), [x, 0, 0], atol=0.3)
        assert np.ptp(mesh.vertices, axis=0) == pytest.approx([size] * 3, rel=0.25)
    assert from_bytes(found.arrays["m1_model"].tobytes()).info["resolution"] == 24
    assert [told["fraction"] for told in control.told] == sorted(told["fraction"] for told in control.told)


def test_one_mesh_follows_the_way_to_the_same_places(space):
    found = asked(path_requests.project, WAY, space=space)
    faces, places = found.arrays["faces"], found.arrays["positions"]
    assert places.shape == (3, len(found.arrays["vertices"]), 3)
    np.testing.assert_allclose(places[0], found.arrays["vertices"], atol=1e-5)
    free = asked(path_requests.interpolate, WAY, space=space)
    for index in range(3):
        mesh = Mesh(places[index], faces)
        there = Mesh(free.arrays[f"m{index}_vertices"], free.arrays[f"m{index}_faces"])
        assert mesh.volume() == pytest.approx(there.volume(), rel=0.05)
        outward = (mesh.face_vectors() * (mesh.triangles.mean(axis=1) - centre(mesh.vertices))).sum(axis=1)
        assert (outward > 0).mean() > 0.99


def test_a_mesh_that_is_sent_is_the_one_that_follows(space):
    mesh = ball(0.5, subdivisions=2)
    found = asked(path_requests.project, WAY, space=space, vertices=mesh.vertices, faces=mesh.faces)
    assert set(found.arrays) == {"positions"}
    np.testing.assert_array_equal(found.arrays["positions"][0], mesh.vertices)
    np.testing.assert_allclose(centre(found.arrays["positions"][-1]), [4, 0, 0], atol=0.3)


@pytest.mark.parametrize("body", [{**WAY, "stops": ["small"]}, {**WAY, "frames": 1}, {**WAY, "stops": ["small", "x"]}])
def test_a_way_that_is_none_is_named(space, body):
    for handler in (path_requests.interpolate, path_requests.project):
        with pytest.raises(InputError, match=r"at least two shapes|no shape 'x'"):
            asked(handler, body, space=space)
