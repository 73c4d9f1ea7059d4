"""Peers are measured against truth as well; without their extra they say what to install."""

from __future__ import annotations

import builtins
import importlib.util
import sys
import types
from typing import Any

import numpy as np
import pytest
import trimesh

from sdfcore.errors import InputError, NoNormalsError
from sdfcore.geometry import Mesh, PointCloud
from sdfcore.metrics import compare
from sdfcore.peers import PEERS, reconstruct
from sdfcore.surfaces import sample_surface


def sphere(offset: float = 0.0) -> Mesh:
    shape = trimesh.creation.icosphere(5)
    return Mesh(np.array(shape.vertices) + offset, np.array(shape.faces))


class FakeMeshLab(types.ModuleType):
    """Takes what pymeshlab takes; its Poisson gives a tetrahedron around the origin, or the error it is told to."""

    class PyMeshLabException(Exception):  # noqa: N818  its name there
        pass

    def __init__(self, fail: bool = False) -> None:
        super().__init__("pymeshlab")
        self.fail = fail
        self.given: dict[str, Any] = {}

    def Mesh(self, **arrays: np.ndarray) -> FakeMeshLab:
        self.given |= arrays
        return self

    def MeshSet(self) -> FakeMeshLab:
        return self

    def add_mesh(self, mesh: object) -> None:
        assert mesh is self

    def generate_surface_reconstruction_screened_poisson(self, **settings: Any) -> None:
        self.given |= settings
        if self.fail:
            raise self.PyMeshLabException("no surface")

    def current_mesh(self) -> FakeMeshLab:
        return self

    def vertex_matrix(self) -> np.ndarray:
        return np.array(trimesh.creation.box().vertices)

    def face_matrix(self) -> np.ndarray:
        return np.array(trimesh.creation.box().faces)


def test_poisson_computes_near_the_origin_and_answers_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeMeshLab()
    monkeypatch.setitem(sys.modules, "pymeshlab", fake)
    cloud = sample_surface(sphere(1e6), 500, 0)
    found = reconstruct("poisson", cloud, depth=5, pointweight=2.0)
    assert (fake.given["depth"], fake.given["pointweight"]) == (5, 2.0)
    assert np.abs(fake.given["vertex_matrix"]).max() < 1.5
    np.testing.assert_array_equal(fake.given["v_normals_matrix"], cloud.normals)
    np.testing.assert_allclose(found.vertices.mean(axis=0), cloud.points.mean(axis=0))


def test_vertices_that_are_no_numbers_go_with_their_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(FakeMeshLab):
        def vertex_matrix(self) -> np.ndarray:
            found = super().vertex_matrix()
            found[3] = np.nan
            return found

    monkeypatch.setitem(sys.modules, "pymeshlab", Broken())
    found = reconstruct("poisson", sample_surface(sphere(), 500, 0))
    whole = trimesh.creation.box().faces
    assert len(found.vertices) == 7
    assert len(found.faces) == int((whole != 3).all(axis=1).sum())


def test_no_surface_is_said_to_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing(FakeMeshLab):
        def face_matrix(self) -> np.ndarray:
            return np.zeros((0, 3), dtype=np.int64)

    monkeypatch.setitem(sys.modules, "pymeshlab", Nothing())
    with pytest.raises(InputError, match="Screened Poisson found no surface"):
        reconstruct("poisson", sample_surface(sphere(), 500, 0))


def test_its_failure_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymeshlab", FakeMeshLab(fail=True))
    with pytest.raises(InputError, match="no surface"):
        reconstruct("poisson", sample_surface(sphere(), 10, 0))


if importlib.util.find_spec("pymeshlab"):  # the benchmark extra: where it is, its answers are tested too

    def test_poisson_of_a_sphere() -> None:
        cloud = sample_surface(sphere(), 5000, 0)
        coarse, fine = (reconstruct("poisson", cloud, depth=depth) for depth in (4, 6))
        measured = compare(fine, sphere(), samples=2000)
        assert measured.chamfer < 0.01
        assert (measured.watertight, measured.components, measured.euler) == (True, 1, 2)
        assert fine.volume() > 0
        assert len(fine.faces) > 4 * len(coarse.faces)

    @pytest.mark.parametrize(
        ("name", "settings", "bound"),
        [("apss", {"resolution": 60}, 0.01), ("rimls", {"resolution": 60}, 0.01), ("ball_pivoting", {}, 0.02)],
    )
    def test_the_others_of_a_sphere(name: str, settings: dict[str, Any], bound: float) -> None:
        cloud = sample_surface(sphere(3.0), 5000, 0)
        assert compare(reconstruct(name, cloud, **settings), sphere(3.0), samples=2000).chamfer < bound


def test_hoppe_needs_no_extra_and_leaves_holes_open() -> None:
    cloud = sample_surface(sphere(3.0), 5000, 0)
    whole = reconstruct("hoppe", cloud, resolution=48)
    measured = compare(whole, sphere(3.0), samples=2000)
    assert measured.chamfer < 0.01
    assert measured.watertight
    seen = cloud.points[:, 2] < 3.5
    assert cloud.normals is not None
    part = reconstruct("hoppe", PointCloud(cloud.points[seen], cloud.normals[seen]), resolution=48)
    assert not compare(part, sphere(3.0), samples=2000).watertight
    assert part.vertices[:, 2].max() < 3.7


def test_unknown_method_lists_the_known() -> None:
    with pytest.raises(InputError, match="'magic'") as caught:
        reconstruct("magic", PointCloud(np.eye(3)))
    assert all(name in caught.value.hint for name in PEERS)


def test_normals_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymeshlab", FakeMeshLab())
    for name in PEERS:
        with pytest.raises(NoNormalsError):
            reconstruct(name, PointCloud(np.eye(3)))


def test_a_missing_extra_names_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pymeshlab":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="pymeshlab") as caught:
        reconstruct("poisson", sample_surface(sphere(), 10, 0))
    assert "sdfcore[benchmark]" in caught.value.hint
