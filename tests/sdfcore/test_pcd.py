"""PCD as PCL writes it, made here byte by byte."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from sdfcore.errors import InputError
from sdfcore.geometry import PointCloud
from sdfcore.pcd import decompress, parse
from sdfcore.reading import read_bytes

RANDOM = np.random.default_rng(1)
NORMALS = RANDOM.standard_normal((40, 3)).astype(np.float32)
NORMALS /= np.linalg.norm(NORMALS, axis=1, keepdims=True)
POINTS = (3 * NORMALS + 1).astype(np.float32)
COLOURS = RANDOM.integers(0, 256, (40, 3)).astype(np.uint32)
PACKED = COLOURS[:, 0] << 16 | COLOURS[:, 1] << 8 | COLOURS[:, 2]


def header(data: str, colour: str = "F", points: int = 40) -> bytes:
    return (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\n"
        "FIELDS x y z _ normal_x normal_y normal_z rgb\nSIZE 4 4 4 1 4 4 4 4\n"
        f"TYPE F F F U F F F {colour}\nCOUNT 1 1 1 4 1 1 1 1\nWIDTH {points}\nHEIGHT 1\n"
        f"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {points}\nDATA {data}\n"
    ).encode()


def columns() -> list[np.ndarray]:
    padding = np.full((40, 4), 7, np.uint8)
    return [*POINTS.T.copy(), padding, *NORMALS.T.copy(), PACKED]


def literal(data: bytes) -> bytes:
    """LZF without any compression: runs of at most 32 bytes, each behind its length less one."""
    return b"".join(bytes([len(data[i : i + 32]) - 1]) + data[i : i + 32] for i in range(0, len(data), 32))


def binary() -> bytes:
    return b"".join(b"".join(np.ascontiguousarray(c[i]).tobytes() for c in columns()) for i in range(40))


def compressed() -> bytes:
    raw = b"".join(c.tobytes() for c in columns())
    packed = literal(raw)
    return struct.pack("<II", len(packed), len(raw)) + packed


def ascii_rows() -> bytes:
    rows = np.concatenate([POINTS, np.full((40, 4), 7), NORMALS, PACKED[:, None]], axis=1)
    return "\n".join(" ".join(f"{v:.9g}" for v in row[:-1]) + f" {int(row[-1])}" for row in rows).encode()


@pytest.mark.parametrize(
    "content",
    [
        header("ascii", "U") + ascii_rows(),
        header("ascii", "F") + ascii_rows(),
        header("binary") + binary(),
        header("binary", "U") + binary(),
        header("binary_compressed") + compressed(),
    ],
    ids=["ascii", "ascii float", "binary-float-rgb", "binary-uint-rgb", "compressed"],
)
def test_trimesh_has_no_pcd(content: bytes) -> None:
    found = read_bytes("scan.pcd", content)
    assert isinstance(found, PointCloud)
    assert found.normals is not None
    assert found.colours is not None
    np.testing.assert_allclose(found.points, POINTS, rtol=1e-6)
    np.testing.assert_allclose(found.normals, NORMALS, atol=1e-6)
    np.testing.assert_array_equal(found.colours[:, :3], COLOURS)


def test_organised_clouds_leave_out_what_the_camera_did_not_see() -> None:
    rows = b"1 2 3\nnan nan nan\n4 5 6\n0 0 1\n"
    head = "VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 2\nHEIGHT 2\nDATA ascii\n"
    found = read_bytes("scan.pcd", head.encode() + rows)
    assert isinstance(found, PointCloud)
    np.testing.assert_array_equal(found.points, [[1, 2, 3], [4, 5, 6], [0, 0, 1]])


def test_lzf_back_references() -> None:
    assert decompress(b"\x02abc" + b"\x20\x02", 6) == b"abcabc"  # three bytes from three back
    assert decompress(b"\x00a" + b"\xe0\x0a\x00", 20) == b"a" * 20  # a run that overlaps itself, long form
    assert decompress(b"\x03abcd" + b"\x40\x01", 8) == b"abcdcdcd"  # overlapping, period two
    assert decompress(b"", 0) == b""


@pytest.mark.parametrize(
    ("data", "size", "message"),
    [
        (b"\x20\x05", 3, "before their beginning"),
        (b"\x02ab", 3, "2 bytes of 3"),
        (b"\x00a\xe0", 9, "cut"),
        (b"\x00a", 5, "of 5"),
    ],
)
def test_damaged_lzf(data: bytes, size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        decompress(data, size)


@pytest.mark.parametrize(
    "content",
    [
        b"VERSION 0.7\nFIELDS x y z\n",
        header("binary")[:-20],
        header("binary") + binary()[:-1],
        header("binary", points=10**12) + binary(),
        header("binary", points=-4) + binary(),
        header("binary_compressed") + compressed()[:-1],
        header("binary_compressed") + b"abc",
        header("ascii", "U") + ascii_rows()[:-300],
        header("ascii", "U") + b"1 2 three\n",
        header("zipped") + binary(),
        header("binary").replace(b"SIZE 4", b"SIZE 5") + binary(),
        header("binary").replace(b"TYPE F F F", b"TYPE F F") + binary(),
        header("binary").replace(b"TYPE F", b"TYPE O") + binary(),
        header("binary").replace(b"COUNT 1", b"COUNT 0") + binary(),
    ],
)
def test_damaged_files_are_named(content: bytes) -> None:
    with pytest.raises(InputError) as caught:
        parse(content)
    assert caught.value.hint


def test_missing_coordinates_are_named() -> None:
    content = header("binary").replace(b"FIELDS x y z", b"FIELDS u v w") + binary()
    with pytest.raises(InputError, match="x, y and z are needed"):
        read_bytes("scan.pcd", content)
