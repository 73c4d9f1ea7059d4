"""Every file is written here, so that what must come back is known."""

from __future__ import annotations

import logging
import struct
import tracemalloc
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import trimesh

from sdfcore import reading
from sdfcore.errors import EmptyInputError, InputError, SdfError
from sdfcore.geometry import Mesh, PointCloud
from sdfcore.reading import read, read_bytes, suffixes
from sdfcore.topology import topology

RANDOM = np.random.default_rng(0)
NORMALS = RANDOM.standard_normal((60, 3))
NORMALS /= np.linalg.norm(NORMALS, axis=1, keepdims=True)
POINTS = NORMALS * [1.0, 2.0, 3.0]
COLOURS = RANDOM.integers(0, 256, (60, 3))


def cloud(source: PointCloud | Mesh) -> PointCloud:
    assert isinstance(source, PointCloud)
    return source


def mesh(source: PointCloud | Mesh) -> Mesh:
    assert isinstance(source, Mesh)
    return source


def text(*columns: np.ndarray, separator: str = " ", head: str = "") -> bytes:
    rows = np.concatenate(columns, axis=1)
    return (head + "\n".join(separator.join(f"{value:.9g}" for value in row) for row in rows) + "\n").encode()


def same(found: PointCloud, normals: bool = False, colours: bool = False) -> None:
    np.testing.assert_allclose(found.points, POINTS, atol=1e-6)
    assert (found.normals is not None) == normals
    assert (found.colours is not None) == colours
    if found.normals is not None:
        np.testing.assert_allclose(found.normals, NORMALS, atol=1e-6)
    if found.colours is not None:
        np.testing.assert_array_equal(found.colours, np.concatenate([COLOURS, np.full((60, 1), 255)], axis=1))


def ply(encoding: str, properties: list[tuple[str, str]], rows: np.ndarray, body: bytes) -> bytes:
    head = ["ply", f"format {encoding} 1.0", f"element vertex {len(rows)}"]
    head += [f"property {kind} {name}" for kind, name in properties]
    return ("\n".join([*head, "end_header"]) + "\n").encode() + body


PLY_PROPERTIES = [
    *(("float", name) for name in ("x", "y", "z", "nx", "ny", "nz")),
    *(("uchar", name) for name in ("red", "green", "blue")),
]


@pytest.mark.parametrize("order", ["little", "big"])
def test_trimesh_drops_point_normals_of_a_binary_ply(order: str) -> None:
    sign = "<" if order == "little" else ">"
    kinds = [(name, sign + {"float": "f4", "uchar": "u1"}[kind]) for kind, name in PLY_PROPERTIES]
    rows = np.empty(60, np.dtype(kinds))
    for (name, _), values in zip(kinds, [*POINTS.T, *NORMALS.T, *COLOURS.T], strict=True):
        rows[name] = values
    same(cloud(read_bytes("a.ply", ply(f"binary_{order}_endian", PLY_PROPERTIES, rows, rows.tobytes()))), True, True)


def test_trimesh_drops_point_normals_of_an_ascii_ply() -> None:
    rows = np.concatenate([POINTS, NORMALS, COLOURS], axis=1)
    same(cloud(read_bytes("a.ply", ply("ascii", PLY_PROPERTIES, rows, text(rows)))), True, True)


def test_ply_of_points_alone_has_neither() -> None:
    same(cloud(read_bytes("a.ply", ply("ascii", PLY_PROPERTIES[:3], POINTS, text(POINTS)))))


def test_xyz_normals_are_not_colours() -> None:
    same(cloud(read_bytes("a.xyz", text(POINTS, NORMALS))), normals=True)


@pytest.mark.parametrize("suffix", ["xyz", "txt", "csv", "pts", "asc"])
def test_xyz_colours_are_not_normals(suffix: str) -> None:
    same(cloud(read_bytes(f"a.{suffix}", text(POINTS, COLOURS))), colours=True)


INTENSITY = RANDOM.integers(-2000, 2000, (60, 1))


@pytest.mark.parametrize(
    ("content", "normals", "colours"),
    [
        (text(POINTS), False, False),
        (text(POINTS, INTENSITY), False, False),
        (text(POINTS, INTENSITY, COLOURS), False, True),
        (text(POINTS, np.abs(INTENSITY) % 256, COLOURS), False, True),
        (text(POINTS, COLOURS, np.full((60, 1), 255)), False, True),
        (text(POINTS, INTENSITY, NORMALS), True, False),
        (text(POINTS, NORMALS, COLOURS), True, True),
        (text(POINTS, COLOURS, NORMALS), True, True),
        (text(POINTS, NORMALS, COLOURS, np.full((60, 1), 255)), True, True),
        (text(POINTS, NORMALS, separator=","), True, False),
        (text(POINTS, NORMALS, separator=";\t"), True, False),
        (text(POINTS, NORMALS, head="60\n"), True, False),
        (text(POINTS, NORMALS, head="# made by hand\n\n// and again\n"), True, False),
        (text(POINTS, COLOURS, NORMALS, head="//X Y Z R G B Nx Ny Nz\n60\n"), True, True),
        (text(COLOURS, NORMALS, POINTS, head="r,g,b,nx,ny,nz,x,y,z\n"), True, True),
        (text(POINTS, NORMALS).replace(b"\n", b"\r\n"), True, False),
        (b"\xef\xbb\xbf" + text(POINTS), False, False),
        (text(POINTS) + b"# the end\n", False, False),
    ],
)
def test_text_columns(content: bytes, normals: bool, colours: bool) -> None:
    same(cloud(read_bytes("a.xyz", content)), normals, colours)


@pytest.mark.parametrize(
    "content",
    [b"0,5;1,25;3,75\n-1,0;2;1,5e1\n", b"x y z\n0,5\t1,25\t3,75\r\n-1,0\t2\t1,5e1\r\n", b"0.5,1.25,3.75\n-1,2,15\n",
     b"\xef\xbb\xbf0,5 1,25 3,75\n-1 2 15\n", b"0.5; 1.25; 3.75 // first\r-1;2;15\r"],
    ids=["semicolons", "tabs", "points", "byte order mark", "old line ends"],
)  # fmt: skip
def test_decimal_commas_are_not_taken_for_separators(content: bytes) -> None:
    np.testing.assert_array_equal(cloud(read_bytes("a.csv", content)).points, [[0.5, 1.25, 3.75], [-1, 2, 15]])


def test_text_is_read_without_many_copies() -> None:
    rows = np.random.default_rng(0).normal(size=(60_000, 6))
    content = b"\n".join(b"%.9f %.9f %.9f %.9f %.9f %.9f" % tuple(row) for row in rows)
    tracemalloc.start()
    read_bytes("a.xyz", content)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 5 * len(content)


def test_text_colours_as_shares() -> None:
    found = cloud(read_bytes("a.xyz", text(POINTS, COLOURS / 255)))
    assert found.colours is not None
    np.testing.assert_array_equal(found.colours[:, :3], COLOURS)


def test_far_off_text_keeps_its_millimetres() -> None:
    far = POINTS + np.array([4_500_000.0, 500_000.0, 0.0])
    rows = "\n".join(" ".join(f"{v:.4f}" for v in row) for row in far)
    np.testing.assert_allclose(cloud(read_bytes("a.xyz", rows.encode())).points, far, atol=1e-4)


def test_points_that_are_not_finite_are_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="sdfcore"):
        found = cloud(read_bytes("a.xyz", text(POINTS) + b"nan nan nan\n1 inf 0\n1e30 0 0\n"))
    same(found)
    assert "3 of 63 points" in caplog.text


def test_few_missing_normals_cost_points_and_many_cost_the_normals() -> None:
    few = np.concatenate([np.zeros((2, 3)), NORMALS[2:]])
    found = cloud(read_bytes("a.xyz", text(POINTS, few)))
    assert (len(found), found.normals is not None) == (58, True)
    many = NORMALS.copy()
    many[20:] = np.nan
    assert cloud(read_bytes("a.npz", npz(points=POINTS, normals=many))).normals is None


def npz(**arrays: np.ndarray) -> bytes:
    buffer = BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_npz_and_npy() -> None:
    colours = COLOURS.astype(np.uint8)
    same(cloud(read_bytes("a.npz", npz(points=POINTS, normals=NORMALS, colours=colours))), True, True)
    same(cloud(read_bytes("a.npz", npz(points=POINTS, colors=COLOURS / 255))), False, True)
    same(cloud(read_bytes("a.npy", npy(POINTS))))
    same(cloud(read_bytes("a.npy", npy(np.concatenate([POINTS, NORMALS], axis=1)))), True)
    box = trimesh.creation.box()
    found = mesh(read_bytes("a.npz", npz(vertices=box.vertices, faces=box.faces, colours=np.eye(8, 4))))
    assert found.volume() == pytest.approx(1)
    assert found.colours is not None
    np.testing.assert_array_equal(found.colours[0], [255, 0, 0, 0])


def test_an_archive_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = BytesIO()
    np.savez_compressed(stored, points=np.zeros((100_000, 3)))
    assert len(stored.getvalue()) < 10_000
    monkeypatch.setattr(reading, "_LARGEST_ARCHIVE", 1 << 20)
    with pytest.raises(InputError, match="Unpacked it would be"):
        read_bytes("zeros.npz", stored.getvalue())


def test_pickles_are_not_opened() -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (pytest.fail, ("unpickled",))

    trap = np.array([Trap()], dtype=object)
    for name, content in (("a.npy", npy(trap)), ("a.npz", npz(points=trap))):
        with pytest.raises(InputError):
            read_bytes(name, content)


@pytest.mark.parametrize("suffix", ["ply", "obj", "stl", "off", "glb"])
def test_mesh_formats(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"Box.{suffix.upper()}"
    trimesh.creation.box((1, 2, 3)).export(path, file_type=suffix)
    for found in (mesh(read(path)), mesh(read(str(path))), mesh(read_bytes(path.name, path.read_bytes()))):
        assert found.volume() == pytest.approx(6)
        assert found.normals is None
        assert found.colours is None


def test_vertex_colours_are_kept(tmp_path: Path) -> None:
    box = trimesh.creation.box()
    colours = np.concatenate([RANDOM.integers(0, 256, (8, 3)), np.full((8, 1), 255)], axis=1)
    box.visual.vertex_colors = colours
    for suffix in ("ply", "obj", "glb"):
        box.export(tmp_path / f"a.{suffix}")
        found = mesh(read(tmp_path / f"a.{suffix}"))
        assert found.colours is not None, suffix
        order = [int(np.abs(box.vertices - v).sum(axis=1).argmin()) for v in found.vertices]
        np.testing.assert_allclose(found.colours, colours[order], atol=1)


def test_a_scene_is_one_mesh_in_place_and_mirrors_keep_faces_outward(tmp_path: Path) -> None:
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.box((1, 1, 1)))
    scene.add_geometry(trimesh.creation.box((2, 2, 2)), transform=trimesh.transformations.translation_matrix([5, 0, 0]))
    mirror = np.diag([-1.0, 1, 1, 1])
    mirror[0, 3] = 20
    scene.add_geometry(trimesh.creation.icosphere(3), transform=mirror)
    scene.export(tmp_path / "a.glb")
    found = mesh(read(tmp_path / "a.glb"))
    assert found.volume() == pytest.approx(1 + 8 + 4 / 3 * np.pi, rel=0.01)
    np.testing.assert_allclose(found.vertices[:, 0].max(), 21, atol=1e-6)


@pytest.mark.parametrize("order", ["little", "big"])
def test_polygons_of_different_sizes_in_a_binary_ply(order: str) -> None:
    """As Blender exports what was not triangulated: a prism with colours."""
    mark = "<" if order == "little" else ">"
    ring = [(0.0, 0.0), (2.0, 0.0), (3.0, 1.0), (2.0, 2.0), (0.0, 2.0)]
    corners = [(x, y, z) for z in (0.0, 1.0) for x, y in ring]
    polygons = [[4, 3, 2, 1, 0], [5, 6, 7, 8, 9], *([i, (i + 1) % 5, 5 + (i + 1) % 5, 5 + i] for i in range(5))]
    header = (
        f"ply\nformat binary_{order}_endian 1.0\ncomment made by hand\nelement vertex 10\nproperty float x\n"
        "property float y\nproperty float z\nproperty uchar red\nproperty uchar green\nproperty uchar blue\n"
        "element face 7\nproperty list uchar uint vertex_indices\nproperty int group\nend_header\n"
    )
    body = b"".join(struct.pack(mark + "fffBBB", *corner, 10 * i, 0, 255) for i, corner in enumerate(corners))
    body += b"".join(struct.pack(f"{mark}B{len(p)}Ii", len(p), *p, 7) for p in polygons)
    mesh = read_bytes("prism.ply", header.encode() + body)
    assert isinstance(mesh, Mesh)
    assert len(mesh.faces) == 3 + 3 + 10
    assert topology(mesh).watertight
    assert mesh.volume() == pytest.approx(5.0)
    assert mesh.colours is not None
    np.testing.assert_array_equal(mesh.colours[:, 0], 10 * np.arange(10))
    with pytest.raises(InputError, match="ends before"):
        read_bytes("cut.ply", header.encode() + body[:-20])


def test_polygons_and_several_objects_of_an_obj() -> None:
    corners = "\n".join(f"v {x} {y} {z}" for x in (0, 1) for y in (0, 1) for z in (0, 1))
    sides = "o first\nf 1 2 4 3\nf 5 7 8 6\nf 1 5 6 2\no second\nf 3 4 8 7\nf 1 3 7 5\nf 2 6 8 4\n"
    found = mesh(read_bytes("a.obj", f"{corners}\n{sides}".encode()))
    assert len(found.faces) == 12
    assert abs(found.volume()) == pytest.approx(1)


def test_an_obj_without_faces_is_points() -> None:
    rows = b"\n".join(b"v " + line for line in text(POINTS).splitlines())
    same(cloud(read_bytes("a.obj", rows)))


def spoiled_sphere(value: str) -> bytes:
    ball = trimesh.creation.icosphere(3)
    lines = ball.export(file_type="obj").splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("v "))
    lines[first] = f"v {value} 0 0"
    return "\n".join(lines).encode()


@pytest.mark.parametrize("value", ["nan", "inf", "6.8e38"])
def test_broken_vertices_cost_their_faces_only(value: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="sdfcore"):
        found = mesh(read_bytes("a.obj", spoiled_sphere(value)))
    whole = trimesh.creation.icosphere(3)
    gone = int((whole.faces == 0).any(axis=1).sum())
    assert len(found.faces) == len(whole.faces) - gone
    assert np.abs(found.vertices).max() <= 1.0 + 1e-6
    assert f"{gone} of {len(whole.faces)} faces" in caplog.text


def test_a_mesh_beyond_all_measure_is_one_clear_error() -> None:
    box = trimesh.creation.box()
    box.apply_scale(6.8e38)
    with pytest.raises(InputError, match=r"reach 3\.4e\+38") as caught:
        read_bytes("far.obj", box.export(file_type="obj").encode())
    assert "far.obj" in caught.value.line
    assert "Scale it down" in caught.value.hint


def test_degenerate_and_doubled_faces_are_kept() -> None:
    found = mesh(read_bytes("a.off", b"OFF\n3 3 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n3 2 1 0\n3 0 0 1\n"))
    assert len(found.faces) == 3


EMPTY_PLY = (
    b"ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.obj", b""),
        ("a.obj", b"   \n"),
        ("a.obj", b"# nothing\n"),
        ("a.ply", b"ply\nformat ascii 1.0\nend_header\n"),
        ("a.ply", EMPTY_PLY),
        ("a.stl", bytes(84)),
        ("a.xyz", b"\n\n"),
        ("a.npz", npz(points=np.zeros((0, 3)))),
        ("a.npz", npz(vertices=POINTS, faces=np.zeros((0, 3), int))),
        ("a.npy", npy(np.zeros((0, 3)))),
    ],
)
def test_empty_files_say_so(name: str, content: bytes) -> None:
    with pytest.raises(EmptyInputError) as caught:
        read_bytes(name, content)
    assert caught.value.line.startswith("a.")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.off", b"OFF\n353535235358 6 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 17\n"),
        ("a.ply", b"not a ply at all"),
        ("a.ply", ply("binary_little_endian", PLY_PROPERTIES[:3], POINTS, b"short")),
        ("a.glb", b"glTF\x02\x00\x00\x00" + bytes(30)),
        ("a.stl", b"solid nothing\nfacet\n" * 3),
        ("a.xyz", b"hello world this is text\n"),
        ("a.xyz", b"1 2 3\n4 5\n"),
        ("a.xyz", b"nan nan nan\n"),
        ("a.npy", b"\x93NUMPY\x01\x00garbage"),
        ("a.npy", npy(np.zeros((5, 2)))),
        ("a.npy", npy(np.array(["a", "b"]))),
        ("a.npz", b"PK\x03\x04 no archive"),
        ("a.npz", npz(other=POINTS)),
        ("a.npz", npz(vertices=POINTS, faces=np.array([[0, 1, 99]]))),
        ("a.npz", npz(vertices=POINTS, faces=np.array([[0, 1, 2, 3]]))),
    ],
)
def test_damaged_files_are_an_error_with_a_cure(name: str, content: bytes) -> None:
    with pytest.raises(InputError) as caught:
        read_bytes(name, content)
    assert caught.value.line.startswith("a.")
    assert "\n" not in caught.value.line
    assert caught.value.hint


def test_a_cut_or_scratched_file_reads_or_raises_ours() -> None:
    box = trimesh.creation.icosphere(1)
    box.visual.vertex_colors = np.full((len(box.vertices), 4), 9, np.uint8)
    random = np.random.default_rng(3)
    for suffix in ("ply", "stl", "obj", "off", "glb"):
        whole = box.export(file_type=suffix)
        data = whole.encode() if isinstance(whole, str) else whole
        for _ in range(60):
            spoiled = bytearray(data[: random.integers(1, len(data) + 1)])
            for place in random.integers(0, len(spoiled), 4):
                spoiled[place] = random.integers(256)
            try:
                assert len(read_bytes(f"a.{suffix}", bytes(spoiled)).__dict__)
            except SdfError as error:
                assert error.hint  # noqa: PT017  both outcomes are right


def test_unknown_missing_and_unreadable(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.doc are not known") as caught:
        read_bytes("a.doc", b"x")
    assert "pcd" in caught.value.hint
    with pytest.raises(InputError, match="no file"):
        read(tmp_path / "gone.ply")
    (tmp_path / "folder.ply").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "folder.ply")


def test_known_suffixes() -> None:
    assert {"ply", "obj", "stl", "off", "glb", "xyz", "pcd", "npz", "npy"} <= set(suffixes())
    assert "zip" not in suffixes()
