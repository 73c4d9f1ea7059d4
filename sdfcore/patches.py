"""Replacing a small box of an extracted surface: the lattice tells which vertex is which, so patches fit exactly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from .geometry import Mesh
from .lattice import Array, Grid

_ON_EDGE = 2e-5  # cells: vertices on lattice edges keep more than this distance from the nodes


@dataclass(frozen=True, eq=False)
class Patched:
    """A mesh with vertices on lattice edges, in two: what is near some places, and the rest, which stays.

    Attributes:
        mesh: all of it, as it was; rest: (R, 3) its faces that are not near.
        keys: (V,) the lattice edge of each vertex near, as one number; points, normals: (V, 3).
        rows: (U,) which vertices of ``mesh`` the first ones are; the others are new.
        faces: (F, 3) over those; cells: (F, 3) the lattice cell of each.
        links: (2, N) vertices, and the numbers ≥ 0 of the pieces of ``rest`` that they belong to.
    """

    grid: Grid
    mesh: Mesh
    rest: Array
    rows: Array
    keys: Array
    points: Array
    normals: Array
    faces: Array
    cells: Array
    links: Array

    @classmethod
    def near(cls, mesh: Mesh, grid: Grid, nodes: Array, reach: float) -> Patched:
        """``mesh``, extracted on ``grid`` with normals, split ``reach`` cells along the axes from ``nodes`` (N, 3)."""
        assert mesh.normals is not None
        places = (mesh.vertices - grid.origin) / grid.cell
        close = np.isfinite(cKDTree(nodes).query(places, p=np.inf, distance_upper_bound=reach)[0])
        inside = close[mesh.faces].any(axis=1)
        rest = mesh.faces[~inside]
        rows, faces = np.unique(mesh.faces[inside], return_inverse=True)
        faces = faces.reshape(-1, 3)
        shared = np.flatnonzero(np.isin(rows, rest))
        links = np.stack([shared, pieces(rest, len(mesh.vertices))[rows[shared]]])
        keys, cells = _edges(places[rows]), _cells(places[rows], faces)
        return cls(grid, mesh, rest, rows, keys, mesh.vertices[rows], mesh.normals[rows], faces, cells, links)

    @cached_property
    def parts(self) -> int:
        """How many parts of the whole surface the faces near belong to."""
        label = pieces(self.faces, len(self.keys) + len(self.links[0]), self._joined)
        return len(np.unique(label[self.faces[:, 0]]))

    def within(self, lower: Array, upper: Array) -> Patched:
        """Only what is in the cells from ``lower`` to ``upper`` (3,), to try patches there; not to be made whole."""
        inside = ((self.cells >= lower) & (self.cells < upper)).all(axis=1)
        count = len(self.keys)
        label = pieces(self.faces[~inside], count + len(self.links[0]), self._joined)
        rows, faces = np.unique(self.faces[inside], return_inverse=True)
        return replace(
            self,
            keys=self.keys[rows],
            points=self.points[rows],
            normals=self.normals[rows],
            faces=faces.reshape(-1, 3),
            cells=self.cells[inside],
            links=np.stack([np.arange(len(rows)), label[rows]]),
        )

    @property
    def _joined(self) -> Array:
        """``links`` with pieces counted on from the vertices."""
        _, piece = np.unique(self.links[1], return_inverse=True)
        return np.stack([self.links[0], len(self.keys) + piece.reshape(-1)])

    @cached_property
    def _order(self) -> Array:
        return np.argsort(self.keys)

    def replaced(
        self, points: Array, normals: Array, faces: Array, lower: Array, upper: Array
    ) -> tuple[Patched, int] | None:
        """With a patch instead of the faces in the cells from ``lower`` to ``upper`` (3,), and how many handles go.

        Args:
            points, normals, faces: a surface in these cells, extracted on the same lattice without a cap.
        Returns:
            ``None`` if the patch does not fit in, or if there would be more parts or fewer.
        """
        places = (points - self.grid.origin) / self.grid.cell
        keys, count = _edges(places), len(self.keys)
        at = self._order[np.minimum(np.searchsorted(self.keys, keys, sorter=self._order), count - 1)]
        known = self.keys[at] == keys
        row = np.where(known, at, count + np.cumsum(~known) - 1)
        inside = ((self.cells >= lower) & (self.cells < upper)).all(axis=1)
        old, new = self.faces[inside], row[faces]
        if not np.array_equal(_border(old, count + len(keys)), _border(new, count + len(keys))):
            return None
        vectors = np.concatenate([self.points, points[~known]]), np.concatenate([self.normals, normals[~known]])
        vectors[0][at[known]], vectors[1][at[known]] = points[known], normals[known]
        after = replace(
            self,
            keys=np.concatenate([self.keys, keys[~known]]),
            points=vectors[0],
            normals=vectors[1],
            faces=np.concatenate([self.faces[~inside], new]),
            cells=np.concatenate([self.cells[~inside], _cells(places, faces)]),
        )
        # The border is the same, so the edges differ by three halves of the faces.
        gained = len(np.unique(new)) - len(np.unique(old)) - (len(new) - len(old)) / 2
        return (after, round(gained / 2)) if after.parts == self.parts else None

    def whole(self) -> Mesh:
        """The two together again."""
        assert self.mesh.normals is not None
        before, first = len(self.mesh.vertices), len(self.rows)
        vertices, normals = self.mesh.vertices.copy(), self.mesh.normals.copy()
        vertices[self.rows], normals[self.rows] = self.points[:first], self.normals[:first]
        row = np.concatenate([self.rows, before + np.arange(len(self.keys) - first)])
        used, faces = np.unique(np.concatenate([self.rest, row[self.faces]]), return_inverse=True)
        vertices = np.concatenate([vertices, self.points[first:]])[used]
        return Mesh(vertices, faces.reshape(-1, 3), np.concatenate([normals, self.normals[first:]])[used])


def pieces(faces: Array, count: int, links: Array | None = None) -> Array:
    """(count,) the number of the piece that each vertex belongs to; ``links`` (2, N) are joined as if by faces."""
    rows, columns = np.concatenate([faces[:, 0], faces[:, 1]]), np.concatenate([faces[:, 1], faces[:, 2]])
    if links is not None:
        rows, columns = np.concatenate([rows, links[0]]), np.concatenate([columns, links[1]])
    joined = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(count, count))
    return np.asarray(connected_components(joined, directed=False)[1])


def _edges(places: Array) -> Array:
    """(V,) the lattice edge of each vertex at ``places`` (V, 3), in cells; of one inside a cell, the cell."""
    nearest = np.round(places)
    between = np.abs(places - nearest) > _ON_EDGE
    axis = np.where(between.sum(axis=1) == 1, between.argmax(axis=1), 3)
    x, y, z = (np.where(between, np.floor(places), nearest).astype(np.int64) + (1 << 8)).T
    return ((x << 40) | (y << 20) | z) * 4 + axis


def _cells(places: Array, faces: Array) -> Array:
    """(F, 3) the lattice cell of each face."""
    return np.floor(places[faces].mean(axis=1)).astype(np.int64)


def _border(faces: Array, count: int) -> Array:
    """Sorted numbers of the directed edges that no face runs along the other way."""
    tail, head = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    return np.setdiff1d(tail * count + head, head * count + tail)
