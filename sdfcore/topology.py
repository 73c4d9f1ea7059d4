"""What a triangle mesh is as a complex: closed or not, in how many pieces, of which genus. numpy and scipy only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .geometry import Array, Mesh


@dataclass(frozen=True)
class Topology:
    """Counts over the welded mesh: vertices at the same position are one, faces that name one twice are none.

    Args:
        watertight: every edge belongs to exactly two faces, which run along it in opposite directions.
        closed: every edge is run along as often in one direction as in the other, so there is an inside; weaker than
            watertight, for boxes that share an edge are closed but no manifold.
        components: sets of faces connected through edges.
        euler: V - E + F over the vertices that faces use; 2 - 2·genus for each closed component.
        boundary_edges: edges of one face.
        nonmanifold_edges: edges of more than two faces.
        inconsistent_edges: edges of two faces that run along it in the same direction.
        degenerate_faces: faces that have fewer than three positions, or no area.
        duplicate_faces: faces with the same three positions as an earlier one, in any order.
    """

    watertight: bool
    closed: bool
    components: int
    euler: int
    boundary_edges: int
    nonmanifold_edges: int
    inconsistent_edges: int
    degenerate_faces: int
    duplicate_faces: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def weld(vertices: Array, faces: Array, tolerance: float = 1e-8) -> tuple[Array, Array]:
    """Vertices at the same position become one; unused ones go. Formats such as STL share no vertex at all.

    Args:
        vertices: (V, 3); faces: (F, 3).
        tolerance: positions are compared on a grid of this share of the mesh's extent, which forgives writers that
            leave 1e-17 for 0; 0 compares exactly.
    Returns:
        rows (W,) int64: which of the given vertices stay; faces (F, 3) int64 over those.
    """
    used, corner = np.unique(faces, return_inverse=True)
    places = vertices[used].astype(np.float64)
    step = float(np.ptp(places, axis=0).max()) * tolerance
    places = (np.round(places / step) if step > 0 else places) + 0.0  # -0.0 and 0.0 are one place
    order = np.lexsort(places.T)
    new = np.ones(len(order), dtype=bool)
    new[1:] = (places[order[1:]] != places[order[:-1]]).any(axis=1)
    group = np.empty(len(order), dtype=np.int64)
    group[order] = np.cumsum(new) - 1
    return used[order[new]], group[corner].reshape(-1, 3)


def _edges(faces: Array) -> tuple[Array, Array, Array]:
    """Undirected edge id of each half-edge (3F,), its direction (3F,) bool, and faces per edge (E,)."""
    tail, head = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    forward = tail < head
    low, high = np.where(forward, tail, head), np.where(forward, head, tail)
    _, edge, uses = np.unique(low * (faces.max() + 1) + high, return_inverse=True, return_counts=True)
    return edge.reshape(-1), forward, uses


def face_components(faces: Array) -> Array:
    """(F,) label of the edge-connected component of each face; labels count from 0. Faces must be welded to meet."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edge, _, uses = _edges(faces)
    owner = np.repeat(np.arange(len(faces)), 3)
    shape = (len(faces) + len(uses),) * 2  # faces and edges are the two kinds of node
    links = coo_array((np.ones(len(edge), dtype=np.int8), (owner, len(faces) + edge)), shape=shape)
    _, labels = connected_components(links, directed=False)
    return np.unique(labels[: len(faces)], return_inverse=True)[1].reshape(-1)


def undoubled(vertices: Array, faces: Array) -> tuple[Array, float]:
    """Which faces to keep so that none lies on another, and the share of faces that were cancelled by one.

    Args:
        vertices: (V, 3); faces: (F, 3).
    Returns:
        rows (K,) int64 in order: the first of all faces with the same three positions;
        the share in [0, 1] of faces that have a partner of opposite direction.
    """
    first, group, even = _groups(vertices, faces)
    return np.sort(first), _cancelled(first, group, even)


def deciding(vertices: Array, faces: Array, most_cancelled: float) -> Array:
    """Rows (K,) int64, in order, of the faces that decide what is inside: one of those that lie on one another in the
    same direction, and of all others if more than the share ``most_cancelled`` have a partner of opposite direction."""
    first, group, even = _groups(vertices, faces)
    if _cancelled(first, group, even) > most_cancelled:
        return np.sort(first)
    return np.sort(np.unique(2 * group + even, return_index=True)[1])


def _cancelled(first: Array, group: Array, even: Array) -> float:
    forwards = np.bincount(group, weights=even, minlength=len(first))
    backwards = np.bincount(group, weights=~even, minlength=len(first))
    return float(2 * np.minimum(forwards, backwards).sum() / len(group))


def _groups(vertices: Array, faces: Array) -> tuple[Array, Array, Array]:
    """Of faces with the same positions: rows (K,) of the first of each group, the group (F,) of each, and which run
    forwards, (F,) bool."""
    _, welded = weld(vertices, faces)
    order = np.argsort(welded, axis=1)
    a, b, c = np.take_along_axis(welded, order, axis=1).astype(np.int64).T
    even = (order[:, 1] - order[:, 0]) % 3 == 1  # cyclic shifts of (0, 1, 2) run forwards
    many = len(vertices)
    edge = np.unique(a * many + b, return_inverse=True)[1].reshape(-1)  # numbers sort faster than rows of them
    _, first, group = np.unique(edge * many + c, return_index=True, return_inverse=True)
    return first, group.reshape(-1), even


def topology(mesh: Mesh) -> Topology:
    """The counts of :class:`Topology` for ``mesh``."""
    _, welded = weld(mesh.vertices, mesh.faces)
    a, b, c = welded.T
    collapsed = (a == b) | (b == c) | (c == a)
    flat = ~(np.linalg.norm(mesh.face_vectors(), axis=1) > 0)
    faces = welded[~collapsed]
    if len(faces) == 0:
        return Topology(False, False, 0, 0, 0, 0, 0, int((collapsed | flat).sum()), 0)
    edge, forward, uses = _edges(faces)
    balance = np.bincount(edge, weights=np.where(forward, 1.0, -1.0), minlength=len(uses))
    boundary, crowded = int((uses == 1).sum()), int((uses > 2).sum())
    inconsistent = int(((uses == 2) & (balance != 0)).sum())
    ordered = np.sort(faces, axis=1)
    return Topology(
        watertight=boundary == crowded == inconsistent == 0,
        closed=not balance.any(),
        components=int(face_components(faces).max()) + 1,
        euler=len(np.unique(faces)) - len(uses) + len(faces),
        boundary_edges=boundary,
        nonmanifold_edges=crowded,
        inconsistent_edges=inconsistent,
        degenerate_faces=int((collapsed | flat).sum()),
        duplicate_faces=len(ordered) - len(np.unique(ordered, axis=0)),
    )
