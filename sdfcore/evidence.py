"""What is known of one surface: its points, their normals, a signed distance. Everything here is in the unit box."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from .coherence import nearest
from .geometry import Array
from .oracles import Oracle


@dataclass(frozen=True, eq=False)
class Evidence:
    """Points of the surface, what is known of their normals, and a signed distance where one can be had.

    Args:
        points: (N, 3) float32; normals: (N, 3) float32 outward, or ``None``.
        oracle: (M, 3) → (M,) signed distance, negative inside, or ``None``.
        closest: (M, 3) → (M, 3) nearest points of the surface itself, where there is more than points.
    """

    points: Array
    normals: Array | None
    oracle: Oracle | None
    closest: Oracle | None = None

    @cached_property
    def tree(self) -> cKDTree:
        """Of the points: it is asked for at several stages."""
        return cKDTree(self.points)

    def feet(self, queries: Array) -> Array:
        """(M, 3) float32: where the surface is nearest to each of ``queries`` (M, 3).

        Of points that is the nearest of them, far away; within two spacings its tangent plane, whichever way its normal
        looks, if it has one.
        """
        if self.closest is not None:
            return np.asarray(self.closest(queries), dtype=np.float32)
        gap, near = nearest(self.tree, queries)
        found = self.points[near]
        if self.normals is not None:
            normals = self.normals[near]
            height = np.einsum("ni,ni->n", queries - found, normals)[:, None]
            found = np.where((gap < 2 * self.spacing)[:, None], queries - height * normals, found)
        return np.asarray(found, dtype=np.float32)

    @cached_property
    def spacing(self) -> float:
        """Typical distance between neighbouring points: √(area per point), from 8 neighbours of some points.

        At least 1e-6: points that are closer may be one and the same in float32.
        """
        some = self.points[np.random.default_rng(0).permutation(len(self.points))[:4000]]
        count = min(9, len(self.points))
        gap, _ = self.tree.query(some, k=count, workers=-1)
        radius = np.reshape(gap, (len(some), count))[:, -1]
        return max(float(np.median(np.sqrt(np.pi * radius**2 / max(count - 1, 1)))), 1e-6)

    @property
    def area(self) -> float:
        """Of the surface, roughly: a spacing squared for every point."""
        return len(self.points) * self.spacing**2

    @cached_property
    def noise(self) -> float:
        """Typical height of a point above its neighbours' tangent planes: the scanner's noise, 0 without normals.

        Half the neighbours' heights |n·(p - q)| lie below their median, which edges do not disturb and which for normal
        noise of deviation σ at both ends is 0.67 √2 σ; smooth curvature adds next to nothing at this distance.
        """
        if self.normals is None:
            return 0.0
        some = np.random.default_rng(0).permutation(len(self.points))[:20_000]
        _, near = self.tree.query(self.points[some], k=min(5, len(self.points)), workers=-1)
        to = self.points[np.reshape(near, (len(some), -1))[:, 1:]] - self.points[some, None]
        return float(np.median(np.abs(np.einsum("nki,ni->nk", to, self.normals[some])))) / (0.67 * np.sqrt(2))

    def thickness(self, points: Array, normals: Array, depths: Array) -> Array:
        """(M,) how thick the solid is under ``points`` (M, 3) of the surface, straight against their ``normals``.

        The last of the ascending ``depths`` down to which all are inside; 0 if the first is not, infinite if all are.
        """
        if self.oracle is None:
            raise ValueError("thickness needs evidence with an oracle")
        found, within = np.zeros(len(points), dtype=np.float32), np.arange(len(points))
        for depth in depths:
            within = within[self.oracle(points[within] - depth * normals[within]) < 0]
            found[within] = depth
        found[within] = np.inf
        return found

    @cached_property
    def thinness(self) -> float:
        """All but a twentieth of the surface has a solid under it that is thicker than this, unit box.

        Infinite without normals or an oracle, or where nothing is thinner than eight spacings; noise cannot make it
        thinner than half of one.
        """
        if self.normals is None or self.oracle is None:
            return float("inf")
        depths, thick = self._thicknesses
        return float(max(thick[len(thick) // 20] * np.sqrt(depths[1] / depths[0]), depths[0]))  # between two depths

    def share_thinner(self, than: float) -> float:
        """Of the surface, the share that has no solid under it as thick as ``than``, unit box.

        0 without normals or an oracle.
        """
        if self.normals is None or self.oracle is None:
            return 0.0
        depths, thick = self._thicknesses
        if than > depths[-1]:
            thick = self._thickness_of_some(np.geomspace(depths[0], than, len(depths)))
        return float(np.mean(thick < than))

    @cached_property
    def _thicknesses(self) -> tuple[Array, Array]:
        """The depths that were looked at, and in ascending order the thickness under some of the points."""
        depths = self.spacing * np.geomspace(0.5, 8.0, 13)
        return depths, np.sort(self._thickness_of_some(depths))

    def _thickness_of_some(self, depths: Array) -> Array:
        assert self.normals is not None
        some = np.random.default_rng(0).permutation(len(self.points))[:2000]
        return self.thickness(self.points[some], self.normals[some], depths)

    def neighbour_distance(self, k: int) -> Array:
        """(N,) float32 distance of each point to its k-th neighbour: the local scale of IGR's near samples."""
        count = min(k + 1, len(self.points))
        gap, _ = nearest(self.tree, self.points, k=[count])
        return np.asarray(gap, dtype=np.float32)[:, 0]
