"""What a result inherits from its source: colours, which face it came from, and how far it strayed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .coherence import nearest, tree_of
from .geometry import Array, Mesh, PointCloud
from .surfaces import MeshDistance, blend_colours


@dataclass(frozen=True, eq=False)
class Transfer:
    """Per vertex and per face of the result.

    Args:
        error: (V,) float32, distance ≥ 0 in world units from each vertex to the source: its nearest triangle or point.
        face: (F,) int32, the source face nearest to each result face's centroid; -1 where the source is points.
        colours: (V, 4) uint8 of the nearest place of the source, or ``None`` where the source has none.
    """

    error: Array
    face: Array
    colours: Array | None


def barycentric(triangles: Array, points: Array) -> Array:
    """(N, 3) weights of the corners of ``triangles`` (N, 3, 3) at ``points`` (N, 3) on them, in [0, 1] with sum 1.

    On a triangle without area: that of the corners by inverse distance, which is their own colour at a corner.
    """
    a, b, c = np.moveaxis(np.asarray(triangles, dtype=np.float64), 1, 0)
    normal = np.cross(b - a, c - a)
    square = np.einsum("nd,nd->n", normal, normal)
    pairs = ((b, c), (c, a), (a, b))
    parts = [np.einsum("nd,nd->n", np.cross(p - points, q - points), normal) for p, q in pairs]
    weights = np.stack(parts, axis=1).clip(min=0)
    longest = np.maximum.reduce([np.einsum("nd,nd->n", q - p, q - p) for p, q in pairs])
    flat = square <= 1e-24 * longest**2
    if flat.any():
        apart = np.linalg.norm(triangles[flat] - points[flat, None], axis=2)
        weights[flat] = 1 / (apart + 1e-12 * np.sqrt(longest[flat])[:, None] + 1e-300)
    total = weights.sum(axis=1, keepdims=True)
    return np.where(total > 0, weights / np.where(total > 0, total, 1), 1 / 3)


def transfer(result: Mesh, source: Mesh | PointCloud) -> Transfer:
    """Carry the colours and face identities of ``source`` to ``result``, both in the same coordinates."""
    if isinstance(source, PointCloud):
        return _from_points(result, source)
    distance = MeshDistance(source)
    error, face, nearest = distance.closest(result.vertices)
    colours = None
    if source.colours is not None:
        colours = blend_colours(source, face, barycentric(source.triangles[face], nearest))
    _, owner, _ = distance.closest(result.triangles.mean(axis=1, dtype=np.float64))
    return Transfer(error.astype(np.float32), owner.astype(np.int32), colours)


def _from_points(result: Mesh, source: PointCloud) -> Transfer:
    found = nearest(tree_of(source.points), result.vertices)
    error, row = np.asarray(found[0]), np.asarray(found[1])
    colours = None if source.colours is None else source.colours[row]
    return Transfer(error.astype(np.float32), np.full(len(result.faces), -1, np.int32), colours)
