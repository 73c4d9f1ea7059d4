"""Points that scatter round their surface, moved back onto it."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from .coherence import nearest
from .geometry import Array

NOISY = 0.1  # spacings that the noise must reach to be worth anything: exact samples stay below 0.04, scans above 0.1
SMOOTH = 0.6  # share of nearest neighbours with like normals, below which heights are those of a shape, not of noise
_REACH = 2.0  # width of the Gaussian that neighbours are weighed with, in deviations of the noise
_LEAST = 1.2  # the same in spacings, at least: fewer neighbours have nothing to say
_PASSES = 2  # the first one finds who is near whom; the second sees clearer
_ALIKE = 0.7  # length of a difference of normals, at which a neighbour counts e⁻¹
_CUT = 2.5  # of that width: neighbours farther off count for nothing
_MOST = 96  # neighbours that are asked; where there are more, evenly thinned ones speak for all
_CHUNK = 20_000
_MAD = 0.6745  # median of |x|, x normal of deviation 1


def noise_of(points: Array, normals: Array, seed: int = 0) -> float:
    """Deviation of ``points`` (N, 3) from their surface along ``normals`` (N, 3), in their own units.

    Points p, q of a sphere see each other at (p - q) · (n_p + n_q) = 0, so curvature adds nothing to these heights, and
    edges do not disturb their median. The nearest neighbours in a cloud thicker than its spacing are those of like
    height, so the neighbourhood grows until it is wider than the noise. Where normals turn from neighbour to neighbour,
    as on thin rods and fine waves of few points, noise cannot be told from shape, and 0 is returned.
    """
    some = np.random.default_rng(seed).permutation(len(points))[:4000]
    at, facing = points[some].astype(np.float64), normals[some].astype(np.float64)
    tree, found = cKDTree(points), 0.0
    for wanted in (16, 64, 256):
        count = min(wanted, len(points) - 1)
        gap, near = nearest(tree, at, k=count + 1)
        near = near[:, 1 + count // 2 :]  # the farther half, which has the least preference for like heights
        alike = np.einsum("nki,ni->nk", normals[near], facing) > 0.7
        if not alike.any() or (wanted == 16 and alike.mean() < SMOOTH):
            return found
        heights = _heights(points[near], normals[near], at, facing)[alike]
        found = float(np.median(np.abs(heights))) / (_MAD * np.sqrt(2))
        if float(np.median(gap[:, -1])) > 4 * found:
            break
    return found


def denoised(points: Array, normals: Array, noise: float, spacing: float) -> Array:
    """(N, 3) float64 ``points``, each moved along its normal to the mean height of its neighbours.

    Neighbours count by their distance along the surface and by the likeness of their normals, so that edges stay edges
    and the far side of a thin part says nothing; a neighbour's height is that of the arc through both points, so that
    round shapes do not shrink. Source: after robust implicit moving least squares, Öztireli, Guennebaud, Gross 2009.

    Args:
        points, normals: (N, 3), outward.
        noise, spacing: of the points, in their units; see :func:`noise_of`.
    """
    width = max(_REACH * noise, _LEAST * spacing)
    within = np.pi * (_CUT * width / spacing) ** 2
    stride = max(1, round(within / _MOST))
    count = min(_MOST, int(np.ceil(within)))
    speakers = np.random.default_rng(0).permutation(len(points))[: max(len(points) // stride, 1)]
    facing, found = normals[speakers].astype(np.float64), points.astype(np.float64)
    for _ in range(_PASSES):
        held, moved = found[speakers], found.copy()
        tree = cKDTree(held)
        for start in range(0, len(points), _CHUNK):
            part = slice(start, start + _CHUNK)
            at, normal = found[part], normals[part].astype(np.float64)
            near = np.reshape(nearest(tree, at, k=min(count, len(held)))[1], (len(at), -1))
            height = _mean_height(held[near], facing[near], at, normal, width)
            moved[part] += np.clip(height, -4 * noise, 4 * noise)[:, None] * normal
        found = moved
    return found


def _mean_height(points: Array, normals: Array, at: Array, facing: Array, width: float) -> Array:
    """(N,) weighted mean of the heights of ``points`` (N, K, 3) above ``at`` (N, 3)."""
    apart = points - at[:, None]
    along = np.einsum("nki,nki->nk", apart, apart) - np.einsum("nki,ni->nk", apart, facing) ** 2
    unlike = ((normals - facing[:, None]) ** 2).sum(axis=2)
    weights = np.exp(-0.5 * along / width**2 - unlike / _ALIKE**2)
    total = (weights * _heights(points, normals, at, facing)).sum(axis=1)
    return np.asarray(total / np.maximum(weights.sum(axis=1), 1e-12))


def _heights(points: Array, normals: Array, at: Array, facing: Array) -> Array:
    """(N, K) heights of ``points`` (N, K, 3) above ``at`` (N, 3), by the mean of both normals."""
    return np.asarray(np.einsum("nki,nki->nk", points - at[:, None], (normals + facing[:, None]) / 2))
