"""What is written is read back by other readers too, and a failure leaves the folder as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh

from sdfcore.errors import InputError
from sdfcore.geometry import Mesh, PointCloud
from sdfcore.reading import read
from sdfcore.writing import POINT_SUFFIXES, SUFFIXES, check, write, write_bytes


def ball(scale: float = 1.0, offset: float = 0.0) -> Mesh:
    shape = trimesh.creation.icosphere(2)
    vertices = np.array(shape.vertices)
    colours = np.concatenate([(vertices + 1) / 2, np.ones((len(vertices), 1))], axis=1)
    error = np.linspace(0, 1, len(vertices), dtype=np.float32)
    return Mesh(vertices * scale + offset, np.array(shape.faces), vertices, colours, {"sdf_error": error})


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e5])
def test_shape_comes_back_at_any_size(suffix: str, scale: float, tmp_path: Path) -> None:
    mesh = ball(scale)
    write(tmp_path / f"a{suffix}", mesh)
    found = read(tmp_path / f"a{suffix}")
    assert isinstance(found, Mesh)
    assert found.volume() == pytest.approx(mesh.volume(), rel=1e-5)
    assert len(found.faces) == len(mesh.faces)
    assert [p.name for p in tmp_path.iterdir()] == [f"a{suffix}"]


def test_ply_holds_everything(tmp_path: Path) -> None:
    mesh = ball()
    write(tmp_path / "a.ply", mesh)
    found = trimesh.load(tmp_path / "a.ply", process=False)
    raw = found.metadata["_ply_raw"]["vertex"]["data"]
    np.testing.assert_allclose(np.stack([raw[n] for n in "xyz"], axis=1), mesh.vertices, atol=1e-6)
    np.testing.assert_array_equal(np.stack([raw[n] for n in ("nx", "ny", "nz")], axis=1), mesh.normals)
    np.testing.assert_array_equal(found.visual.vertex_colors, mesh.colours)
    np.testing.assert_array_equal(raw["sdf_error"], mesh.attributes["sdf_error"])
    np.testing.assert_array_equal(found.faces, mesh.faces)


def test_attribute_names_and_shapes_suit_ply(tmp_path: Path) -> None:
    mesh = ball()
    count = len(mesh.vertices)
    attributes = {"part id": np.arange(count), "flow": np.ones((count, 2))}
    write(tmp_path / "a.ply", Mesh(mesh.vertices, mesh.faces, attributes=attributes))
    raw = trimesh.load(tmp_path / "a.ply", process=False).metadata["_ply_raw"]["vertex"]["data"]
    assert raw.dtype.names == ("x", "y", "z", "part_id", "flow_0", "flow_1")
    np.testing.assert_array_equal(raw["part_id"], np.arange(count))


def test_far_off_coordinates_keep_their_detail(tmp_path: Path) -> None:
    mesh = ball(offset=4.5e6)
    write(tmp_path / "a.ply", mesh)
    found = read(tmp_path / "a.ply")
    assert isinstance(found, Mesh)
    np.testing.assert_array_equal(found.vertices, mesh.vertices)


def test_npz_holds_everything(tmp_path: Path) -> None:
    mesh = ball()
    write(tmp_path / "a.npz", mesh)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert set(found.files) == {"vertices", "faces", "normals", "colours", "sdf_error"}
        np.testing.assert_array_equal(found["vertices"], mesh.vertices)
        np.testing.assert_array_equal(found["sdf_error"], mesh.attributes["sdf_error"])


def glb_normals(data: bytes) -> np.ndarray:
    length = int.from_bytes(data[12:16], "little")
    head, body = json.loads(data[20 : 20 + length]), data[28 + length :]
    accessor = head["accessors"][head["meshes"][0]["primitives"][0]["attributes"]["NORMAL"]]
    start = head["bufferViews"][accessor["bufferView"]].get("byteOffset", 0) + accessor.get("byteOffset", 0)
    return np.frombuffer(body, "<f4", accessor["count"] * 3, start).reshape(-1, 3)


def obj_normals(data: bytes) -> np.ndarray:
    return np.array([line.split()[1:] for line in data.splitlines() if line.startswith(b"vn ")], dtype=float)


@pytest.mark.parametrize(("suffix", "normals"), [("obj", obj_normals), ("glb", glb_normals)])
def test_colours_and_normals_in_other_formats(
    suffix: str, normals: Callable[[bytes], np.ndarray], tmp_path: Path
) -> None:
    mesh = ball(3.0, 1.0)
    path = tmp_path / f"a.{suffix}"
    write(path, mesh)
    found = trimesh.load(path, process=False, force="mesh")
    np.testing.assert_allclose(found.visual.vertex_colors, mesh.colours, atol=1)
    np.testing.assert_allclose(normals(path.read_bytes()), mesh.normals, atol=1e-6)


@pytest.mark.parametrize("suffix", POINT_SUFFIXES)
def test_points_keep_normals_and_colours(suffix: str, tmp_path: Path) -> None:
    mesh = ball()
    points = mesh.vertices * [1, 2, 3]
    for normals in (None, mesh.normals):
        for colours in (None, mesh.colours):
            write(tmp_path / f"a{suffix}", PointCloud(points, normals, colours))
            found = read(tmp_path / f"a{suffix}")
            assert isinstance(found, PointCloud)
            np.testing.assert_allclose(found.points, points, atol=1e-6)
            assert (found.normals is None, found.colours is None) == (normals is None, colours is None)
            if normals is not None and found.normals is not None:
                np.testing.assert_allclose(found.normals, normals, atol=1e-5)
            if colours is not None:
                np.testing.assert_array_equal(found.colours, colours)


def test_unknown_suffix_and_missing_folder_are_known_beforehand(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.fbx") as caught:
        check(tmp_path / "a.fbx")
    assert all(suffix in caught.value.hint for suffix in SUFFIXES)
    with pytest.raises(InputError, match="Points cannot"):
        write(tmp_path / "a.stl", PointCloud(ball().vertices))
    with pytest.raises(InputError, match="no folder"):
        write(tmp_path / "gone" / "a.ply", ball())
    (tmp_path / "a.ply").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        write(tmp_path / "a.ply", ball())
    check(tmp_path / "b.PLY")


def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.ply"
    target.write_bytes(b"old")

    def full(self: Path, other: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match="No space left"):
        write(target, ball())
    assert [p.name for p in tmp_path.iterdir()] == ["a.ply"]
    assert target.read_bytes() == b"old"


def test_a_place_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(InputError, match="Permission denied") as caught:
        write_bytes(tmp_path / "a.ply", b"x")
    assert caught.value.hint


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Path, other: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "a.ply", b"x")
    assert list(tmp_path.iterdir()) == []
