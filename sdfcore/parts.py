"""The connected parts of a mesh, and doing without the small ones."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from .coherence import nearest
from .geometry import Mesh
from .lattice import Array

_ROOM = 0.25  # of the area that the fewest points stand for on average


def parts(mesh: Mesh) -> Array:
    """(F,) the number, from 0, of the connected part each face belongs to; faces hang together by shared vertices."""
    a, b, c = mesh.faces.T
    links = coo_array(
        (np.ones(2 * len(a), bool), (np.concatenate([a, b]), np.concatenate([b, c]))), (len(mesh.vertices),) * 2
    )
    of_vertex = connected_components(links, directed=False)[1]
    return np.unique(of_vertex[a], return_inverse=True)[1].reshape(-1)


def part_areas(mesh: Mesh) -> Array:
    """(P,) the area of each part, in the order of :func:`parts`."""
    return np.bincount(parts(mesh), np.linalg.norm(mesh.face_vectors(), axis=1) / 2)


def drop_parts(mesh: Mesh, smaller_than: float) -> Mesh:
    """Without the parts whose area is less than the share ``smaller_than``, in [0, 1], of the largest part's.

    Parts stay closed if they were. The walls of hollows are parts of their own.
    """
    areas = part_areas(mesh)
    return _kept(mesh, areas >= smaller_than * areas.max())


def largest_parts(mesh: Mesh, count: int = 1) -> Mesh:
    """The ``count`` parts of the largest area; ``count`` ≥ 1."""
    areas = part_areas(mesh)
    keep = np.zeros(len(areas), bool)
    keep[np.argsort(-areas, kind="stable")[: max(count, 1)]] = True
    return _kept(mesh, keep)


def supported(mesh: Mesh, points: Array, normals: Array | None, reach: float, fewest: int = 1) -> Array:
    """(P,) bool: the parts that have data behind them, in the order of :func:`parts`.

    A part is supported if at least two thirds of its vertices lie within ``reach`` of one of ``points`` (N, 3) whose
    normal, where there are ``normals``, faces the same way; and if ``fewest`` of the points are nearer to it than to
    any other part, two thirds of them facing its way, and it is not much smaller than what so many points stand for: a
    sliver beside a surface has the surface's points within reach, but none of its own, or more than it has room for.
    For the part with the largest area a quarter of its vertices is enough, for it may span large holes, or that half
    of the points are nearest to it, for it may be rough yet; it is the answer where no part is supported. A stray sheet
    can be the largest, too.
    """
    of_face = parts(mesh)
    of_vertex = np.zeros(len(mesh.vertices), np.int64)
    of_vertex[mesh.faces.reshape(-1)] = np.repeat(of_face, 3)

    def alike(vertices: Array, rows: Array) -> Array:
        if normals is None or mesh.normals is None:
            return np.ones(len(rows), bool)
        return np.asarray(np.einsum("ni,ni->n", mesh.normals[vertices], normals[rows]) > 0.3)

    gap, near = nearest(cKDTree(points), mesh.vertices, distance_upper_bound=reach)
    close = np.isfinite(gap)
    good = close & alike(np.arange(len(mesh.vertices)), np.where(close, near, 0))
    share, areas = np.bincount(of_vertex, good) / np.maximum(np.bincount(of_vertex), 1), part_areas(mesh)
    found, most = share >= 2 / 3, np.zeros(len(share), bool)
    if len(share) > 1:
        owner = nearest(cKDTree(mesh.vertices), points)[1]
        own = np.bincount(of_vertex[owner], minlength=len(share))
        facing = np.bincount(of_vertex[owner], alike(owner, np.arange(len(points))), minlength=len(share))
        most = facing >= len(points) / 2
        room = areas >= _ROOM * fewest / len(points) * areas.sum()
        found &= (own >= fewest) & (facing >= 2 / 3 * own) & room
    largest = np.argmax(areas)
    alone = areas[found].sum() < 0.1 * areas[largest]  # specks do not stand for a surface
    found[largest] = share[largest] >= 1 / 4 or most[largest] or alone
    return np.asarray(found)


def keep_parts(mesh: Mesh, keep: Array) -> Mesh:
    """The parts where ``keep`` (P,) bool, in the order of :func:`parts`."""
    return _kept(mesh, keep)


def _kept(mesh: Mesh, keep: Array) -> Mesh:
    """The faces of the parts where ``keep`` (P,), and the vertices they use."""
    if keep.all():
        return mesh
    used, faces = np.unique(mesh.faces[keep[parts(mesh)]], return_inverse=True)
    return Mesh(
        mesh.vertices[used],
        faces.reshape(-1, 3),
        None if mesh.normals is None else mesh.normals[used],
        None if mesh.colours is None else mesh.colours[used],
        {name: values[used] for name, values in mesh.attributes.items()},
    )
