"""Point clouds, meshes, boxes and the one change of coordinates. numpy only; values check themselves.

Coordinates are world units (in Blender: metres) unless a name says ``unit``: the unit box is [-1, 1]³.
Arrays are kept in float64 when they come so (georeferenced scans need it), else in float32, and are read-only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import EmptyInputError, InputError

Array = NDArray[Any]

_LARGEST = 1e15  # squares of differences must stay finite in float32


def _frozen(array: Array) -> Array:
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def _floats(values: ArrayLike) -> Array:
    array = np.asarray(values)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32)
    return array


def _rows(values: ArrayLike, name: str, count: int | None = None) -> Array:
    """``values`` as finite floats of shape (count, 3)."""
    array = _floats(values)
    if array.ndim != 2 or array.shape[1] != 3:
        raise InputError(f"{name} have the shape {array.shape}; (N, 3) is needed.", "Give three coordinates per row.")
    if count is not None and len(array) != count:
        raise InputError(f"There are {len(array)} {name} for {count} points.", f"Give one row of {name} per point.")
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise InputError(
            f"{name} hold {int(bad.sum())} rows of {len(array)} that are not finite numbers "
            f"(first: row {int(bad.argmax())}).",
            "Delete those points, or clean the mesh first.",
        )
    return array


def _points(values: ArrayLike, name: str) -> Array:
    array = _rows(values, name)
    if len(array) == 0:
        raise EmptyInputError(f"There are no {name}.", "Select an object or a file that has some.")
    if float(np.abs(array).max()) > _LARGEST:
        raise InputError(
            f"{name} reach {float(np.abs(array).max()):.3g}, beyond the largest size that can be computed with "
            f"({_LARGEST:.0e}).",
            "Scale the object down.",
        )
    return array


def _unit(normals: ArrayLike, count: int, name: str = "normals") -> Array:
    array = _rows(normals, name, count)
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    if (lengths < 1e-12).any():
        row = int((lengths[:, 0] < 1e-12).argmax())
        raise InputError(
            f"{int((lengths < 1e-12).sum())} {name} of {count} have no length (first: row {row}).",
            "Recalculate the normals, or fit without them.",
        )
    return (array / lengths).astype(np.float32)


def _rgba(colours: ArrayLike, count: int) -> Array:
    array = np.asarray(colours)
    if array.ndim != 2 or array.shape[1] not in (3, 4) or len(array) != count:
        raise InputError(f"colours have the shape {array.shape}; ({count}, 4) is needed.", "Give one colour per point.")
    if array.dtype != np.uint8:
        array = np.clip(np.nan_to_num(array.astype(np.float64)) * 255 + 0.5, 0, 255).astype(np.uint8)
    if array.shape[1] == 3:
        array = np.concatenate([array, np.full((count, 1), 255, np.uint8)], axis=1)
    return array


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Points of a surface, with what the scanner said of them.

    Args:
        points: (N, 3) world units, finite, N ≥ 1.
        normals: (N, 3) outward; stored at unit length. ``None`` where there are none.
        colours: (N, 3) or (N, 4); uint8, or floats in [0, 1]; stored as (N, 4) uint8 RGBA.
    Raises:
        EmptyInputError, InputError: empty, wrong shape, not finite, too large, a normal of no length.
    """

    points: Array
    normals: Array | None = None
    colours: Array | None = None

    def __post_init__(self) -> None:
        points = _points(self.points, "points")
        object.__setattr__(self, "points", _frozen(points))
        if self.normals is not None:
            object.__setattr__(self, "normals", _frozen(_unit(self.normals, len(points))))
        if self.colours is not None:
            object.__setattr__(self, "colours", _frozen(_rgba(self.colours, len(points))))

    def __len__(self) -> int:
        return len(self.points)

    def take(self, rows: Array) -> PointCloud:
        """The points at ``rows`` (integers or a mask), with their normals and colours."""
        pick = lambda a: None if a is None else a[rows]
        return PointCloud(self.points[rows], pick(self.normals), pick(self.colours))

    def distinct(self) -> PointCloud:
        """One point for each place: the first of those there, with the mean of their normals unless those cancel."""
        order = np.lexsort(self.points.T)  # stable, so the first of a place stays the first
        places = self.points[order]
        starts = np.flatnonzero(np.concatenate([[True], (places[1:] != places[:-1]).any(axis=1)]))
        if len(starts) == len(self):
            return self
        first = order[starts]
        rows = np.argsort(first)
        found = self.take(first[rows])
        if self.normals is None or found.normals is None:
            return found
        counts = np.diff(starts, append=len(self))
        means = (np.add.reduceat(self.normals[order], starts, axis=0) / counts[:, None])[rows]
        clear = np.linalg.norm(means, axis=1, keepdims=True) > 0.1
        return PointCloud(found.points, np.where(clear, means, found.normals), found.colours)


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles. ``faces`` (F, 3) index ``vertices`` (V, 3); counter-clockwise seen from outside.

    Args:
        vertices: (V, 3) world units, finite, V ≥ 1.
        faces: (F, 3) integers in [0, V), F ≥ 1; stored as int32.
        normals: (V, 3) per vertex, stored at unit length, or ``None``.
        colours: as :class:`PointCloud`, per vertex.
        attributes: further per-vertex values by name, each of length V.
    Raises:
        EmptyInputError, InputError
    """

    vertices: Array
    faces: Array
    normals: Array | None = None
    colours: Array | None = None
    attributes: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        vertices = _points(self.vertices, "vertices")
        faces = np.asarray(self.faces)
        if faces.size == 0:
            raise EmptyInputError("The mesh has no faces.", "Give a surface, or fit its vertices as points.")
        if faces.ndim != 2 or faces.shape[1] != 3 or not np.issubdtype(faces.dtype, np.integer):
            raise InputError(
                f"faces are {faces.dtype} of shape {faces.shape}; integers (F, 3) are needed.", "Triangulate the mesh."
            )
        if faces.min() < 0 or faces.max() >= len(vertices):
            raise InputError(
                f"faces name vertices {int(faces.min())} to {int(faces.max())} of a mesh with {len(vertices)}.",
                "The file is damaged: export it again.",
            )
        object.__setattr__(self, "vertices", _frozen(vertices))
        object.__setattr__(self, "faces", _frozen(faces.astype(np.int32)))
        if self.normals is not None:
            object.__setattr__(self, "normals", _frozen(_unit(self.normals, len(vertices))))
        if self.colours is not None:
            object.__setattr__(self, "colours", _frozen(_rgba(self.colours, len(vertices))))
        for name, values in self.attributes.items():
            if len(values) != len(vertices):
                raise InputError(f"attribute {name!r} has {len(values)} values for {len(vertices)} vertices.")

    @property
    def triangles(self) -> Array:
        """(F, 3, 3) corner positions."""
        return self.vertices[self.faces]

    def face_vectors(self) -> Array:
        """(F, 3) float64: normal times twice the area, outward for counter-clockwise faces."""
        a, b, c = np.moveaxis(self.triangles.astype(np.float64), 1, 0)
        return np.cross(b - a, c - a)

    def area(self) -> float:
        """Total area in square world units."""
        return float(np.linalg.norm(self.face_vectors(), axis=1).sum() / 2)

    def volume(self) -> float:
        """Signed volume by the divergence theorem: positive for a closed mesh with outward faces."""
        corners = self.triangles.astype(np.float64) - self.vertices.mean(axis=0, dtype=np.float64)
        return float(np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6)

    def flipped(self) -> Mesh:
        """The same surface turned inside out."""
        normals = None if self.normals is None else -self.normals
        return Mesh(self.vertices, self.faces[:, ::-1], normals, self.colours, self.attributes)


@dataclass(frozen=True, eq=False)
class Box:
    """An axis-aligned box from ``lower`` (3,) to ``upper`` (3,), float64."""

    lower: Array
    upper: Array

    def __post_init__(self) -> None:
        lower, upper = (np.asarray(v, dtype=np.float64).reshape(-1) for v in (self.lower, self.upper))
        if lower.shape != (3,) or upper.shape != (3,) or not np.isfinite([lower, upper]).all() or (upper < lower).any():
            raise InputError(
                f"A box from {lower} to {upper} is none.", "Give lower and upper corners, three finite numbers each."
            )
        object.__setattr__(self, "lower", _frozen(lower))
        object.__setattr__(self, "upper", _frozen(upper))

    @classmethod
    def around(cls, points: Array) -> Box:
        """The smallest box that holds all ``points`` (N, 3)."""
        return cls(points.min(axis=0), points.max(axis=0))

    @property
    def size(self) -> Array:
        """(3,) edge lengths."""
        return self.upper - self.lower

    @property
    def centre(self) -> Array:
        """(3,)"""
        return (self.upper + self.lower) / 2

    @property
    def diagonal(self) -> float:
        return float(np.linalg.norm(self.size))

    def expanded(self, margin: float) -> Box:
        """Grown by ``margin`` (same units) on every side."""
        return Box(self.lower - margin, self.upper + margin)

    def contains(self, points: Array) -> Array:
        """(N,) bool, borders included."""
        return np.asarray(((points >= self.lower) & (points <= self.upper)).all(axis=1))


@dataclass(frozen=True, eq=False)
class Frame:
    """World ↔ unit box: ``world = unit · scale + centre``. The only place where coordinates change.

    The scale is uniform, so a signed distance stays one: distances in the unit box times ``scale`` are world distances.
    """

    centre: Array
    scale: float

    def __post_init__(self) -> None:
        centre = np.asarray(self.centre, dtype=np.float64).reshape(-1)
        scale = float(self.scale)
        if centre.shape != (3,) or not np.isfinite(centre).all() or not np.isfinite(scale) or scale <= 0:
            raise InputError(
                f"A frame with centre {centre} and scale {scale} is none.", "Give a centre and a positive scale."
            )
        object.__setattr__(self, "centre", _frozen(centre))
        object.__setattr__(self, "scale", scale)

    @classmethod
    def around(cls, points: Array, margin: float = 0.15) -> Frame:
        """The frame that maps the points' bounding box into [-1 + margin, 1 - margin]³, centred.

        Raises:
            InputError: all points are the same.
        """
        box = Box.around(np.asarray(points, dtype=np.float64))
        half = float(box.size.max()) / 2
        if not half > 1e-30 + 1e-12 * float(np.abs(box.centre).max()):
            raise InputError(
                "All points lie at one place.", "Give a shape that has a size; apply or undo a zero scale."
            )
        return cls(box.centre, half / (1.0 - margin))

    def to_unit(self, points: Array) -> Array:
        """(N, 3) world → (N, 3) float32 unit; subtracts in float64, so far-off scans keep their detail."""
        return ((np.asarray(points, dtype=np.float64) - self.centre) / self.scale).astype(np.float32)

    def to_world(self, points: Array) -> Array:
        """(N, 3) unit → (N, 3) float64 world."""
        return np.asarray(points, dtype=np.float64) * self.scale + self.centre

    def box_to_world(self, box: Box) -> Box:
        return Box(self.to_world(box.lower), self.to_world(box.upper))

    def box_to_unit(self, box: Box) -> Box:
        return Box((box.lower - self.centre) / self.scale, (box.upper - self.centre) / self.scale)
