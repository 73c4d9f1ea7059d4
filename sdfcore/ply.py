"""Binary PLY files whose faces have different numbers of corners, which trimesh does not read; Blender writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .errors import InputError
from .geometry import Array

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip
_CORNERS = ("vertex_indices", "vertex_index")
_CURE = "The file is damaged: export it again."


@dataclass(frozen=True)
class _Property:
    """One of an element: a number, or with ``length`` a list of them."""

    name: str
    kind: np.dtype
    length: np.dtype | None = None


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    order: Literal["little", "big"]
    properties: list[_Property]


def is_binary(data: bytes) -> bool:
    return data.startswith(b"ply") and b"format binary" in data[:200]


def parse(data: bytes) -> tuple[dict[str, Array], Array]:
    """The vertices' columns (V,) by name, and faces (F, 3), polygons as fans of triangles, in order.

    Raises:
        InputError: it is cut, or its header contradicts itself.
    """
    elements, at = _header(data)
    vertices: dict[str, Array] = {}
    faces = np.zeros((0, 3), np.int64)
    for element in elements:
        lists = [p for p in element.properties if p.length is not None]
        if not lists:
            kinds = np.dtype([(p.name, p.kind) for p in element.properties])
            if len(data) - at < element.count * kinds.itemsize:
                raise InputError(f"It ends before its {element.count} {element.name} entries do.", _CURE)
            rows = np.frombuffer(data, kinds, count=element.count, offset=at)
            at += rows.nbytes
            if element.name == "vertex":
                vertices = {name: np.ascontiguousarray(rows[name]) for name in kinds.names or ()}
            continue
        starts, counts, at = _walked(data, at, element)
        corners = next((p for p in lists if p.name in _CORNERS), None)
        if element.name == "face" and corners is not None:
            column = lists.index(corners)
            faces = _fans(data, starts[:, column], counts[:, column], corners.kind)
    return vertices, faces


def _header(data: bytes) -> tuple[list[_Element], int]:
    end = data.find(b"end_header")
    stop = data.find(b"\n", end)
    if end < 0 or stop < 0:
        raise InputError("Its header has no end.", _CURE)
    big, elements = False, []
    for line in data[:end].decode("ascii", errors="replace").splitlines():
        words = line.split()
        match words:
            case ["format", kind, *_]:
                big = kind == "binary_big_endian"
            case ["element", name, count]:
                elements.append(_Element(name, int(count), "big" if big else "little", []))
            case ["property", "list", length, kind, name]:
                types = [np.dtype("<>"[big] + _TYPES[t]) for t in (kind, length)]
                elements[-1].properties.append(_Property(name, *types))
            case ["property", kind, name]:
                elements[-1].properties.append(_Property(name, np.dtype("<>"[big] + _TYPES[kind])))
    return elements, stop + 1


def _walked(data: bytes, at: int, element: _Element) -> tuple[Array, Array, int]:
    """Where the lists of an element begin, (N, L), how long they are, (N, L), and where the element ends."""
    starts, counts, size = [], [], len(data)
    sizes = [(p.length.itemsize if p.length else 0, p.kind.itemsize) for p in element.properties]
    for _ in range(element.count):
        for prefix, item in sizes:
            if prefix:
                count = int.from_bytes(data[at : at + prefix], element.order)
                at += prefix
                starts.append(at)
                counts.append(count)
                at += count * item
            else:
                at += item
        if at > size:
            raise InputError(f"It ends before its {element.count} {element.name} entries do.", _CURE)
    shape = (element.count, -1)
    return np.array(starts, np.int64).reshape(shape), np.array(counts, np.int64).reshape(shape), at


def _fans(data: bytes, starts: Array, counts: Array, kind: np.dtype) -> Array:
    """(F, 3) the triangles of polygons, those of one after another."""
    raw = np.frombuffer(data, np.uint8)
    found, origin = [], []
    for corners in np.unique(counts[counts >= 3]):
        rows = np.flatnonzero(counts == corners)
        places = starts[rows, None] + np.arange(int(corners) * kind.itemsize)
        polygons = np.ascontiguousarray(raw[places]).view(kind).astype(np.int64)
        middle = np.arange(1, int(corners) - 1)
        fan = np.stack([np.broadcast_to(polygons[:, :1], (len(rows), len(middle))), polygons[:, middle],
                        polygons[:, middle + 1]], axis=2)  # fmt: skip
        found.append(fan.reshape(-1, 3))
        origin.append(np.repeat(rows, len(middle)))
    if not found:
        return np.zeros((0, 3), np.int64)
    return np.concatenate(found)[np.argsort(np.concatenate(origin), kind="stable")]
