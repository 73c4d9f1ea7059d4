"""Marching cubes on a list of cells instead of a volume.

scikit-image wants a dense array. The cells are laid side by side in a small one, with unused cells between them, and
only they are marched. What Lewiner's method makes of a cell depends on the cell's own eight values, so this gives the
triangles of the dense array, at the cost of the crossed cells alone and without blocks or seams. Vertices are welded by
the lattice edge they lie on, not by where they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage.measure import marching_cubes

from .lattice import Array, Shape

_SIDE = 32  # cells along a brick
NEAREST = 1e-4  # of an edge: how close a vertex may come to a node; nearer ones would make triangles without area
_CAPPED = 1e-2  # of an edge: how far beyond the border of the box the surface is capped


@dataclass(frozen=True, eq=False)
class Marched:
    """Triangles with vertices on lattice edges.

    Attributes:
        nodes: (V, 3) the lower end of the edge; of a vertex inside a cell, the cell's first node.
        axis: (V,) along which axis the edge runs; 3 for the few vertices inside a cell.
        ends: (V, 2) the values at both ends of the edge (NaN inside a cell).
        along: (V, 3) position relative to ``nodes``, in cells, each component in [0, 1].
        faces: (F, 3) counter-clockwise seen from the positive side.
    """

    nodes: Array
    axis: Array
    ends: Array
    along: Array
    faces: Array


def march(cells: Array, corners: Array, shape: Shape) -> Marched:
    """Triangles where the values change sign.

    Args:
        cells: (3, N) crossed cells, N ≥ 1, each once.
        corners: (8, N) float32 values at their corners in the order of ``lattice.CORNERS``; zero counts as positive.
        shape: of the lattice's nodes.
    """
    tame = tamed(corners)
    parts, faces, count = [], [], 0
    for start in range(0, cells.shape[1], _SIDE**3):
        row, inside, triangles = _brick(tame[:, start : start + _SIDE**3])
        parts.append((row + start, inside))
        faces.append(triangles + count)
        count += len(row)
    row, inside = (np.concatenate(part) for part in zip(*parts, strict=True))
    between = (inside > 0) & (inside < 1)
    axis = np.where(between.sum(axis=1) == 1, between.argmax(axis=1), 3)
    lower = np.floor(inside).astype(np.int64).T * (axis < 3)
    x, y, z = cells[:, row] + lower
    _, first, welded = np.unique(((x * shape[1] + y) * shape[2] + z) * 4 + axis, return_index=True, return_inverse=True)
    row, axis, lower, inside = row[first], axis[first], lower[:, first], inside[first].astype(np.float64)
    ends = _ends(corners, row, lower, axis)
    along = np.where(np.arange(3) == axis[:, None], fraction(ends)[:, None], np.where(axis[:, None] == 3, inside, 0.0))
    return Marched((cells[:, row] + lower).T, axis, ends, along, welded.reshape(-1)[np.concatenate(faces)])


def fraction(ends: Array) -> Array:
    """(V,) where between two values of opposite sign, ``ends`` (V, 2), a straight line is zero; in (0, 1).

    An infinite end is the cap of the box: the vertex stays by the other end.
    """
    lower, upper = ends.astype(np.float64).T
    with np.errstate(invalid="ignore"):
        straight = lower / (lower - upper)
    along = np.where(np.isinf(upper), _CAPPED, np.where(np.isinf(lower), 1 - _CAPPED, straight))
    return np.clip(along, NEAREST, 1 - NEAREST)


def tamed(corners: Array) -> Array:
    """Values whose ratios are bounded, so that float32 positions tell on which edge a vertex lies; signs are kept."""
    size = np.abs(corners)
    usual = np.median(size[np.isfinite(size)])
    scale = usual if usual > 0 else np.float32(1)
    return np.where(corners < 0, -1, 1).astype(np.float32) * np.clip(size / scale, 1e-3, 30)


def _brick(corners: Array) -> tuple[Array, Array, Array]:
    """Vertices and triangles of at most ``_SIDE³`` cells with ``corners`` (8, N).

    Returns: row (V,) of the vertex's cell; where in the cell (V, 3) it is, in [0, 1]; faces (F, 3).
    """
    filled = np.ones((8, _SIDE**3), np.float32)
    filled[:, : corners.shape[1]] = corners
    volume = filled.reshape((2,) * 3 + (_SIDE,) * 3).transpose(3, 0, 4, 1, 5, 2).reshape((2 * _SIDE,) * 3)
    mask = np.zeros(volume.shape, bool)
    mask[1::2, 1::2, 1::2] = True  # of a cell, scikit-image looks at the mask's last corner
    positions, faces, _, _ = marching_cubes(volume, 0.0, mask=mask, allow_degenerate=True)
    x, y, z = (positions // 2).astype(np.int64).T
    return (x * _SIDE + y) * _SIDE + z, positions % 2, faces.astype(np.int64)


def _ends(corners: Array, row: Array, lower: Array, axis: Array) -> Array:
    """(V, 2) values at both ends of the edges along ``axis`` from the corners ``lower`` (3, V) of the cells ``row``."""
    low = np.array([4, 2, 1]) @ lower
    high = low + np.array([4, 2, 1, 0])[axis]
    ends = np.stack([corners[low, row], corners[high, row]], axis=1)
    return np.where(axis[:, None] == 3, np.nan, ends)
