"""Signed distance of what was given, in the unit box: from oriented points, or from triangles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree

from .coherence import coherently
from .geometry import Array
from .surfaces import PointWinding, point_areas

Oracle = Callable[[Array], Array]

_STRAIGHT = 0.7  # cosine of the widest angle under which a point tells on which side of it something is
_TRIALS = 4000  # queries whose side is compared with the winding number, of as many again or more


class PointDistance:
    """Signed distance (N,) to the surface that oriented points suggest, negative inside.

    Farther than two spacings: the distance to the nearest point, with the sign of the points' winding number (Barill et
    al. 2018), which does not mind holes, noise, or some wrong normals; where the nearest points all look straight to
    one side, and that is seen to agree with winding numbers, they decide, as they cost less. Nearer, where winding
    numbers are rough and the nearest point is a poor foot: the distance to the neighbours' tangent planes, averaged
    (implicit moving least squares, Kolluri 2005), except at sharp edges.

    Args:
        points (N, 3), normals (N, 3): unit box, outward, float64 or float32.
        inside: (M, 3) → (M,) bool, where something better than the points' own winding number knows.
    """

    neighbours = 6

    def __init__(self, points: Array, normals: Array, inside: Oracle | None = None) -> None:
        self.points = np.asarray(points, dtype=np.float64)
        self.normals = np.asarray(normals, dtype=np.float64)
        areas = point_areas(self.points, self.normals)
        self.spacing = np.sqrt(np.maximum(areas, 1e-16))
        self.tree = cKDTree(self.points)
        self.winding = PointWinding(self.points, self.normals, areas) if inside is None else None
        self._inside = inside

    def inside(self, queries: Array) -> Array:
        """(M, 3) → (M,) bool"""
        if self.winding is not None:
            return self.winding(queries) > 0.5
        assert self._inside is not None  # one of the two always is
        return self._inside(queries)

    def __call__(self, queries: Array) -> Array:
        """(M, 3) → (M,)"""
        return coherently(self._ask, np.asarray(queries, dtype=np.float64))

    def _ask(self, q: Array) -> Array:
        count = min(self.neighbours, len(self.points))
        gap, near = self.tree.query(q, k=count, workers=-1)
        gap, near = np.reshape(gap, (len(q), count)), np.reshape(near, (len(q), count))
        reach = self.spacing[near[:, 0]]
        normals = self.normals[near]
        likeness = np.einsum("nki,ni->nk", normals, normals[:, 0])
        # The far side of a thin part or of a narrow gap says nothing of this side; an edge makes planes useless.
        planes = (gap[:, 0] < 2 * reach) & (np.abs(likeness) > 0.3).all(axis=1)
        squares = (gap**2 - gap[:, :1] ** 2) / reach[:, None] ** 2
        weights = np.exp(-np.minimum(squares, 50.0)) * (likeness > 0.3)
        heights = np.einsum("nki,nki->nk", q[:, None] - self.points[near], normals)
        average = (weights * heights).sum(axis=1) / weights.sum(axis=1)
        found = np.where(planes, average, gap[:, 0])
        rest = np.flatnonzero(~planes)
        if len(rest):  # a winding number costs as much as all the rest
            cosines = heights[rest] / np.maximum(gap[rest], 1e-12)
            found[rest] *= np.where(self._behind(q[rest], cosines), -1.0, 1.0)
        return found

    def _behind(self, queries: Array, cosines: Array) -> Array:
        """(M,) bool inside, of ``queries`` (M, 3) under such angles to the normals of their nearest points, (M, k).

        Nearest points that all look straight at a query, or away from it, tell its side unless the surface is open
        behind them; so of many queries some are compared with the winding number first.
        """
        below = cosines[:, 0] < 0
        clear = (np.abs(cosines) > _STRAIGHT).all(axis=1) & ((cosines < 0) == below[:, None]).all(axis=1)
        rows = np.flatnonzero(clear)
        tried = rows[:: max(len(rows) // _TRIALS, 1)]
        if len(rows) < 2 * _TRIALS or (self.inside(queries[tried]) != below[tried]).any():
            return self.inside(queries)
        below[~clear] = self.inside(queries[~clear])
        return below
