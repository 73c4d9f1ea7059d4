"""Normals of points that have none, or that look to the wrong side: estimated, and turned outward all together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial import cKDTree

from .coherence import nearest
from .geometry import Array, Box, PointCloud
from .surfaces import PointWinding, point_areas

NEIGHBOURS = 12  # that a tangent plane is laid through
NOISY_NEIGHBOURS = (24, 48, 96)  # the same where points scatter: the fewest that lie flat
FLAT = 0.25  # of the neighbours' variance along the plane, how much there may be across it
COARSE = 3000  # points that are oriented all at once; the work grows with the cube
MIDDLE = 40_000  # points that are then turned one by one; the rest follow their neighbours
_ALPHA = 1.3  # regularisation of Gauss's formula: more smooths more
_REACHES = (1.0, 2.0, 4.0)  # spacings off the surface at which the sides are compared, all together
_PASSES = 8  # through all points, at most
_OWN = 0.05  # of a point's sides, what it says by itself, whichever way it looks
MIXED = 0.05  # share of neighbours that look the other way, from which on normals are no longer trusted
INWARD = -0.4  # mean winding number beside the points, below which all look inward; -½ of closed surfaces
SURE = 0.9  # share of points whose two sides are told apart, below which nothing is sure


@dataclass(frozen=True, eq=False)
class Oriented:
    """Normals (N, 3), outward, and how sure that is: the share of points that have an inside on one side only."""

    normals: Array
    certainty: float


def estimate_normals(points: Array, neighbours: int | None = None) -> Array:
    """(N, 3) unit normals of the planes through each point's neighbours, either way.

    Args:
        neighbours: of each point; by default :data:`NEIGHBOURS`, or where not even half of those lie flat (two sides
            of a thin part may not all) as many as do, so that planes are laid through noise and not into it.

    Source: principal components, Hoppe et al. 1992, sec. 3.2.
    """
    tree = cKDTree(points)
    if neighbours is None:
        some = points[np.random.default_rng(0).permutation(len(points))[:2000]]
        flat = lambda count: np.median(_thickness(_planes(points, tree, some, count)[0])) < FLAT
        most = NOISY_NEIGHBOURS[-1]
        neighbours = NEIGHBOURS if flat(NEIGHBOURS // 2) else next(filter(flat, NOISY_NEIGHBOURS), most)
    found = np.empty((len(points), 3))
    for start in range(0, len(points), 50_000):
        rows = slice(start, start + 50_000)
        found[rows] = _planes(points, tree, points[rows], neighbours)[1][:, :, 0]
    return found


def _planes(points: Array, tree: cKDTree, at: Array, neighbours: int) -> tuple[Array, Array]:
    """Variances (N, 3), ascending, of the neighbours of ``at`` (N, 3), and the axes (N, 3, 3) they lie along."""
    count = min(neighbours + 1, len(points))
    near = np.reshape(nearest(tree, at, k=count)[1], (len(at), count))
    around = points[near].astype(np.float64)
    around -= around.mean(axis=1, keepdims=True)
    variances, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", around, around))
    return variances, axes


def _thickness(variances: Array) -> Array:
    """(N,) of the neighbours across their plane, of the variance along its shorter axis."""
    return np.asarray(variances[:, 0] / np.maximum(variances[:, 1], 1e-300))


def disagreement(points: Array, normals: Array, neighbours: int = 6) -> float:
    """The share of neighbours on about the same plane whose normals look the other way: 0 where all is consistent.

    Neighbours through a thin part look the other way, too, but stand off each other's planes.
    """
    some = np.random.default_rng(0).permutation(len(points))[:20_000]
    count = min(neighbours + 1, len(points))
    gap, near = cKDTree(points).query(points[some], k=count, workers=-1)
    gap, near = np.reshape(gap, (len(some), count))[:, 1:], np.reshape(near, (len(some), count))[:, 1:]
    apart = points[near] - points[some, None]
    height = np.abs(np.einsum("nki,ni->nk", apart, normals[some]))
    cosine = np.einsum("nki,ni->nk", normals[near], normals[some])
    level = (height < 0.3 * gap) & (np.abs(cosine) > 0.7)
    return float((cosine < 0)[level].mean()) if level.any() else 0.0


def orient(points: Array, lines: Array, *, seed: int = 0) -> Oriented:
    """``lines`` (N, 3), normals either way, turned outward.

    A few thousand points are oriented all at once by Gauss's formula: the winding number is ½ on every one of them, and
    the shortest normals for which that holds are solved for (Lin et al. 2022, "Surface reconstruction from point clouds
    without normals by parametrizing the Gauss formula", sec. 4). Then every point is turned so that the winding number
    falls along its normal, until none is (after Lin, Shi & Liu 2024, "Fast and globally consistent normal orientation
    based on the winding number normal consistency").
    """
    middle = np.sort(np.random.default_rng(seed).permutation(len(points))[:MIDDLE])
    unit = _unit(points)
    held, own = unit[middle], lines[middle].astype(np.float64)
    found = _settled(held, own, seed)
    normals = lines.astype(np.float64).copy()
    normals[middle] = found.normals
    rest = np.setdiff1d(np.arange(len(points)), middle)
    if len(rest):
        normals[rest] = _followed(unit[rest], normals[rest], held, found.normals)
    return Oriented(normals, found.certainty)


def oriented(cloud: PointCloud, seed: int = 0) -> tuple[PointCloud, str]:
    """``cloud`` with normals to rely on, and in a sentence what was done to it; nothing where they were consistent.

    Normals that are there but mixed keep their lines and are only turned.
    """
    places = cloud.points.astype(np.float64)
    if cloud.normals is None:
        found = orient(places, estimate_normals(places), seed=seed)
        note = "Normals were estimated and turned outward by winding numbers."
    else:
        lines = cloud.normals.astype(np.float64)
        share = disagreement(places, lines)
        if share < MIXED:
            if not _inward(places, lines):
                return cloud, ""
            return PointCloud(cloud.points, -lines, cloud.colours), "Its normals looked inward and were turned."
        found = orient(places, lines, seed=seed)
        turned = float((np.einsum("ni,ni->n", found.normals, lines) < 0).mean())
        note = f"{turned:.0%} of its normals looked the other way and were turned."
    if found.certainty < SURE:
        note += " Inside and outside are unsure in places."
    return PointCloud(cloud.points, found.normals, cloud.colours), note


def _inward(points: Array, normals: Array) -> bool:
    """Whether consistent ``normals`` look inward: the winding number beside points is then -1 and 0, not 0 and 1."""
    some = np.random.default_rng(0).permutation(len(points))[:10_000]
    at, facing = points[some], normals[some]
    areas = point_areas(at, facing)
    winding, step = PointWinding(at, facing, areas), 0.5 * np.sqrt(areas)[:, None] * facing
    return float(winding(np.concatenate([at - step, at + step])[::5]).mean()) < INWARD


def _unit(points: Array) -> Array:
    box = Box.around(points)
    return np.asarray((points - box.centre) / (float(box.size.max()) / 2 or 1.0), dtype=np.float64)


def _settled(points: Array, lines: Array, seed: int) -> Oriented:
    """``lines`` at all of ``points`` turned until their sides agree."""
    coarse = np.random.default_rng(seed).permutation(len(points))[:COARSE]
    normals = _followed(points, lines, points[coarse], gauss_normals(points[coarse]))
    certainty = 0.0
    for _ in range(_PASSES):
        areas = point_areas(points, normals)
        winding, spacing = PointWinding(points, normals, areas), np.sqrt(np.maximum(areas, 1e-16))[:, None]
        falls, clear = np.zeros(len(points)), np.zeros(len(points), bool)
        for reach in _REACHES:
            before, behind = (winding(points + side * reach * spacing * normals) for side in (1, -1))
            falls += behind - before - _OWN
            clear |= (np.maximum(before, behind) > 0.5) & (np.minimum(before, behind) < 0.5)
        certainty, wrong = float(clear.mean()), falls < 0
        normals = np.where(wrong[:, None], -normals, normals)
        if wrong.mean() < 1e-4:
            break
    volume = float((point_areas(points, normals) * np.einsum("ni,ni->n", points, normals)).sum())
    return Oriented(normals if volume >= 0 else -normals, certainty)


def gauss_normals(points: Array) -> Array:
    """(N, 3) outward normals of ``points`` (N, 3), not of length one, from Gauss's formula. O(N³); see :func:`orient`.

    w(q) = Σ μⱼ · (pⱼ - q) / (4π |pⱼ - q|³) = ½ at every point, kernels flattened within the distance to the 7th
    neighbour; the shortest μ = Aᵀ (A Aᵀ + R)⁻¹ ½ with R = (α - 1) diag(A Aᵀ).
    """
    p = points.astype(np.float32)
    width = nearest(cKDTree(p), p, k=[min(8, len(p))])[0].astype(np.float32)[:, 0]
    apart = p[None] - p[:, None]  # (query, dipole, 3)
    length = np.maximum(np.linalg.norm(apart, axis=2), np.maximum(width, 1e-6)[:, None])
    kernel = np.ascontiguousarray((apart / (4 * np.pi * length[..., None] ** 3)).transpose(2, 0, 1))
    gram = sum(k @ k.T for k in kernel)
    gram[np.diag_indices(len(p))] *= _ALPHA
    weights = cho_solve(cho_factor(gram, overwrite_a=True, check_finite=False), np.full(len(p), 0.5, np.float32))
    return np.stack([k.T @ weights for k in kernel], axis=1).astype(np.float64)


def _followed(points: Array, lines: Array, known: Array, normals: Array) -> Array:
    """``lines`` at ``points`` turned the way the nearest ``known`` ones look, those on the same plane above all."""
    count = min(6, len(known))
    gap, near = nearest(cKDTree(known), points, k=count)
    gap, near = np.reshape(gap, (len(points), count)), np.reshape(near, (len(points), count))
    votes = np.einsum("nki,ni->nk", normals[near], lines)
    height = np.abs(np.einsum("nki,ni->nk", known[near] - points[:, None], lines))
    weight = np.exp(-(gap**2) / np.maximum(gap[:, -1:] ** 2, 1e-18) - 4 * height / np.maximum(gap, 1e-9))
    total = (votes * weight).sum(axis=1)
    return np.where((total < 0)[:, None], -lines, lines)
