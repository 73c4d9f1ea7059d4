"""A skeleton: few balls of the medial axis that cover a shape, and how they hang together.

Sources: Clémot & Digne 2023 (Neural skeleton), sec. 5 and 6: medial points by tracing, the fewest balls that cover the
surface by a mixed-integer program, links by the regular triangulation of these balls and the surface; the cover and
the triangulation are those of Dou et al. 2022 (Coverage axis).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from scipy.spatial import ConvexHull, cKDTree
from scipy.spatial.distance import cdist

from ..coherence import nearest
from ..errors import InputError
from ..extraction import default_box, extract_sdf
from ..fields import NeuralSDF
from ..geometry import Array
from ..surfaces import MeshDistance, sample_surface
from .iso_points import iso_points
from .medial import Medial, medial_points, shrunk_balls

Progress = Callable[[float], None]
DELTA = 0.06  # as published, of shapes in a box of side 2
_TRACES = 4000
_COVERED = 1500  # points of the surface that are to be covered
_BETWEEN = 6000  # others, for which balls are added one by one
_CANDIDATES = 1000  # balls, at most, of which a cover is chosen
_GAP = 0.05  # a cover may have so many more balls than the fewest
_NODES = 50  # of the search for a better cover
_SECONDS = 60.0  # a search that takes longer is ended with what it has
_MESH = 128  # cells of the mesh that distances are taken to
_STRAIGHT = 0.15  # of delta: a link that leaves the medial axis by more is bent towards it
_BENDS = 3  # halvings of a link, at most
_TESTED = 9  # places on a link that have to be inside


@dataclass(frozen=True)
class Skeleton:
    """Balls and their links; world units.

    Args:
        points: (N, 3) centres. radii: (N,).
        edges: (E, 2) pairs of centres, once each. triangles: (T, 3) of centres, where the medial axis is a sheet.
        delta: how far a ball may miss the surface and still cover it.
        coverage: the share of the surface, of points that had no part in it, that is covered.
    """

    points: Array
    radii: Array
    edges: Array
    triangles: Array
    delta: float
    coverage: float

    def bones(self) -> list[tuple[int, int]]:
        """(parent, child) of a tree in each part, the parent first, from the largest ball outwards; loops are cut."""
        graph = _graph(self.points, self.edges)
        tree = minimum_spanning_tree(graph)
        tree = tree + tree.T
        found: list[tuple[int, int]] = []
        _, label = connected_components(tree, directed=False)
        for part in range(int(label.max()) + 1 if len(label) else 0):
            rows = np.nonzero(label == part)[0]
            root = rows[self.radii[rows].argmax()]
            order, before = breadth_first_order(tree, root, directed=False)
            found += [(int(before[child]), int(child)) for child in order[1:]]
        return found


def skeleton(
    sdf: NeuralSDF,
    *,
    delta: float = DELTA,
    seed: int = 0,
    on_progress: Progress = lambda fraction: None,
) -> Skeleton:
    """The skeleton of a fitted shape.

    Args:
        delta: how far from a ball a point of the surface may lie, in the unit box: larger is coarser.
        on_progress: given a fraction that never falls; what it raises ends the work.
    Raises:
        InputError: a delta that is no part of the box. NoSurfaceError: there is no surface, or no medial axis.
    """
    if not 0 < delta < 1:
        raise InputError(f"A delta of {delta} cannot be.", "Give a number between 0.01 and 0.3.")
    reach = delta * sdf.frame.scale
    mesh = extract_sdf(sdf, resolution=_MESH, box=sdf.frame.box_to_world(default_box(sdf)))
    on_progress(0.1)
    even = iso_points(sdf, _TRACES, seed=seed, on_progress=lambda part: on_progress(0.1 + 0.5 * part))
    medial = medial_points(sdf, even, mesh, on_progress=lambda part: on_progress(0.6 + 0.2 * part))
    rows = _spread(even.points, _COVERED)
    covered = even.points[rows]
    pick = _spread(medial.points, _CANDIDATES)
    candidates = Medial(medial.points[pick], medial.radii[pick])
    thin = shrunk_balls(even, rows[~_holds(medial, covered, reach).any(axis=1)], mesh)
    medial = _together(medial, thin)
    candidates = _together(candidates, thin)
    chosen = _cover(candidates, covered, reach)
    on_progress(0.9)
    cover = Medial(candidates.points[chosen], candidates.radii[chosen])
    cover = _together(cover, _between(cover, medial, sample_surface(mesh, _BETWEEN, seed).points, reach))
    points, radii = cover.points, cover.radii
    distance = MeshDistance(mesh)
    edges, triangles = _links(points, radii, covered, reach)
    edges, triangles = _inside(points, edges, triangles, distance)
    edges = _hung_together(points, edges, distance)
    points, radii, edges = _bent(Medial(points, radii), edges, triangles, medial, _STRAIGHT * reach)
    fresh = sample_surface(mesh, 10_000, seed + 1).points
    on_progress(1.0)
    return Skeleton(points, radii, edges, triangles, reach, covered_share(points, radii, fresh, reach))


def covered_share(points: Array, radii: Array, surface: Array, reach: float) -> float:
    """The share of ``surface`` (S, 3) that lies no farther than ``reach`` from one of the balls."""
    missed = np.full(len(surface), np.inf)
    for centre, radius in zip(points, radii, strict=True):
        missed = np.minimum(missed, np.linalg.norm(surface - centre, axis=1) - radius)
    return float((missed <= reach).mean())


def _spread(points: Array, most: int) -> Array:
    """Rows of at most ``most`` points, each as far from those before as can be."""
    if len(points) <= most:
        return np.arange(len(points))
    rows = np.empty(most, np.int64)
    gap, row = np.full(len(points), np.inf), 0
    for number in range(most):
        rows[number] = row
        gap = np.minimum(gap, np.square(points - points[row]).sum(axis=1))
        row = int(gap.argmax())
    return rows


def _together(one: Medial, other: Medial) -> Medial:
    return Medial(np.concatenate([one.points, other.points]), np.concatenate([one.radii, other.radii]))


def _holds(balls: Medial, surface: Array, reach: float) -> Array:
    """(S, N) whether each of ``surface`` is in each ball, ``reach`` larger."""
    return np.asarray(cdist(surface, balls.points) <= balls.radii[None] + reach)


def _between(cover: Medial, balls: Medial, surface: Array, reach: float) -> Medial:
    """Few of ``balls`` that hold what of ``surface`` the cover leaves out: between the points it was made for."""
    missed = surface[~_holds(cover, surface, reach).any(axis=1)]
    holds = _holds(balls, missed, reach)
    rows = _greedy(holds[holds.any(axis=1)])
    return Medial(balls.points[rows], balls.radii[rows])


def _cover(balls: Medial, surface: Array, reach: float) -> Array:
    """Rows of few balls that, ``reach`` larger, hold all of ``surface`` that any of them holds."""
    holds = _holds(balls, surface, reach)
    holds = np.unique(holds[holds.any(axis=1)], axis=0)
    whole = csr_array(holds.astype(np.float64))
    found = milp(
        np.ones(len(balls.points)),
        integrality=np.ones(len(balls.points), dtype=np.int64),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(whole, lb=1),
        options={"mip_rel_gap": _GAP, "node_limit": _NODES, "time_limit": _SECONDS},
    )
    return np.nonzero(found.x > 0.5)[0] if found.x is not None else _greedy(holds)


def _greedy(holds: Array) -> Array:
    """Columns that between them hold every row, each the one that holds most of what was left."""
    left, rows = np.ones(len(holds), bool), []
    while left.any():
        best = int(holds[left].sum(axis=0).argmax())
        rows.append(best)
        left &= ~holds[:, best]
    return np.array(sorted(rows), dtype=np.int64)


def _links(points: Array, radii: Array, surface: Array, reach: float) -> tuple[Array, Array]:
    """Edges (E, 2) and triangles (T, 3) between balls in the regular triangulation of balls and surface.

    A regular triangulation is the lower hull of the points raised to |x|² - weight; a ball weighs the square of its
    radius, ``reach`` included, a point of the surface that of ``reach``.
    """
    centre = surface.mean(axis=0)
    places = np.concatenate([points, surface]) - centre
    weight = np.concatenate([np.square(radii + reach), np.full(len(surface), reach**2)])
    raised = np.concatenate([places, (np.square(places).sum(axis=1) - weight)[:, None]], axis=1)
    hull = ConvexHull(raised, qhull_options="Qt QJ")
    solids = hull.simplices[hull.equations[:, 3] < 0]
    among = np.sort(np.where(solids < len(points), solids, -1), axis=1)  # those of the surface first
    corners = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    edges = np.concatenate([among[:, pair] for pair in corners])
    faces = np.concatenate([among[:, three] for three in [(0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)]])
    once = lambda rows: np.unique(rows[(rows >= 0).all(axis=1)], axis=0)
    return once(edges), once(faces)


def _along(points: Array, edges: Array) -> Array:
    """(E, places, 3) on each edge, ends left out."""
    share = np.linspace(0, 1, _TESTED + 2)[1:-1, None]
    return points[edges[:, 0], None] * (1 - share) + points[edges[:, 1], None] * share


def _are_inside(points: Array, edges: Array, distance: MeshDistance) -> Array:
    """(E,) whether all of an edge is."""
    if not len(edges):
        return np.zeros(0, bool)
    return np.asarray(distance.inside(_along(points, edges).reshape(-1, 3)).reshape(len(edges), -1).all(axis=1))


def _inside(points: Array, edges: Array, triangles: Array, distance: MeshDistance) -> tuple[Array, Array]:
    """The links that do not leave the shape, and the triangles of such."""
    edges = edges[_are_inside(points, edges, distance)]
    kept = {tuple(edge) for edge in edges.tolist()}
    sides = [all(pair in kept for pair in ((a, b), (a, c), (b, c))) for a, b, c in triangles.tolist()]
    return edges, triangles[np.array(sides, bool)] if len(triangles) else triangles


def _graph(points: Array, edges: Array) -> csr_array:
    length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    return coo_array((length, (edges[:, 0], edges[:, 1])), shape=(len(points),) * 2).tocsr()


def _hung_together(points: Array, edges: Array, distance: MeshDistance) -> Array:
    """The edges, and the shortest ones besides that join what lies in one solid and is not joined."""
    if len(points) < 2:
        return edges
    near = nearest(cKDTree(points), points, k=min(len(points), 12))[1][:, 1:]
    pairs = np.stack([np.repeat(np.arange(len(points)), near.shape[1]), near.ravel()], axis=1)
    _, label = connected_components(_graph(points, edges), directed=False)
    pairs = np.unique(np.sort(pairs[label[pairs[:, 0]] != label[pairs[:, 1]]], axis=1), axis=0)
    pairs = pairs[_are_inside(points, pairs, distance)]
    if not len(pairs):
        return edges
    length = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    whole = np.concatenate([np.full(len(edges), length.min() * 1e-3), length])  # what is linked stays so
    ends = np.concatenate([edges, pairs])
    tree = minimum_spanning_tree(coo_array((whole, (ends[:, 0], ends[:, 1])), shape=(len(points),) * 2)).tocoo()
    added = np.sort(np.stack([tree.row, tree.col], axis=1), axis=1)
    return np.unique(np.concatenate([edges, added]), axis=0)


def _bent(
    balls: Medial, edges: Array, triangles: Array, medial: Medial, tolerance: float
) -> tuple[Array, Array, Array]:
    """Links that are no side of a triangle, halved at the medial axis where they leave it by ``tolerance``."""
    sheet = {tuple(sorted(pair)) for a, b, c in triangles.tolist() for pair in ((a, b), (a, c), (b, c))}
    tree = cKDTree(medial.points)
    points, radii = list(balls.points), list(balls.radii)
    done, todo = [], [(int(a), int(b), 0 if (int(a), int(b)) not in sheet else _BENDS) for a, b in edges]
    while todo:
        a, b, halvings = todo.pop()
        middle, long = (points[a] + points[b]) / 2, float(np.linalg.norm(points[a] - points[b]))
        gap, row = tree.query(middle)
        way = points[b] - points[a]
        share = float((medial.points[row] - points[a]) @ way) / max(long**2, 1e-30)
        if halvings >= _BENDS or gap <= tolerance or gap > long / 2 or not 0.25 < share < 0.75:
            done.append((a, b))
            continue
        points.append(medial.points[row])
        radii.append(float(medial.radii[row]))
        new = len(points) - 1
        todo += [(a, new, halvings + 1), (new, b, halvings + 1)]
    made = np.array(sorted(tuple(sorted(pair)) for pair in done), dtype=np.int64).reshape(-1, 2)
    return np.array(points), np.array(radii), np.unique(made, axis=0)
