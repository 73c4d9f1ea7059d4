"""Iso-points: points on a level set, evenly spaced, with normals.

Source: Yifan et al. 2021 (Iso-Points), sec. 3.1: projection by Newton's method with bounded steps, and resampling by
repulsion along the surface; the repulsion here reaches as far as the spacing that so many points have on such an area,
so that it ends at rest.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.spatial import cKDTree

from ..errors import InputError
from ..extraction import default_box, extract_sdf
from ..fields import NeuralSDF, value_and_gradient
from ..geometry import Array, PointCloud
from ..surfaces import sample_surface

Progress = Callable[[float], None]
_ROUNDS = 40  # of repulsion
_NEIGHBOURS = 12
_REACH = 1.45  # of the repulsion, in spacings of a triangular lattice
_STEP = 0.45  # of the way that would part two points
_NEWTON = 3  # steps after a round; ten in the end
_CAP = 0.5  # of a spacing: the longest Newton step while points settle
_FLATTEST = 0.2  # a gradient shorter than this does not say how far the surface is
_CHUNK = 1 << 15
_TRIAL = 128  # cells along the longest side of the mesh that points begin on


def iso_points(
    sdf: NeuralSDF,
    count: int = 10_000,
    *,
    level: float = 0.0,
    rounds: int = _ROUNDS,
    seed: int = 0,
    on_progress: Progress = lambda fraction: None,
) -> PointCloud:
    """About evenly spaced points on a level set of a fitted shape, with normals; world units, float64.

    Args:
        count: how many. level: world units.
        rounds: of repulsion; none leaves samples that are random.
        on_progress: given a fraction that never falls; what it raises ends the work.
    Raises:
        InputError: fewer than 10 points. NoSurfaceError: there is no such level set.
    """
    if count < 10:
        raise InputError(f"{count} points are too few to be spaced.", "Ask for 10 or more.")
    mesh = extract_sdf(sdf, resolution=_TRIAL, level=level, box=sdf.frame.box_to_world(default_box(sdf, level)))
    on_progress(0.1)
    points = sample_surface(mesh, count, seed).points.astype(np.float64)
    spacing = float(np.sqrt(2 / np.sqrt(3) * mesh.area() / count))
    project = lambda at, steps: projected(sdf, at, level=level, steps=steps, longest=_CAP * spacing)
    points, normals = project(points, _NEWTON)
    for number in range(rounds):
        points, normals = project(points + _pushed(points, normals, spacing), _NEWTON)
        on_progress(0.1 + 0.85 * (number + 1) / rounds)
    points, normals = project(points, 10)
    on_progress(1.0)
    return PointCloud(points, normals.astype(np.float32))


def _pushed(points: Array, normals: Array, spacing: float) -> Array:
    """(N, 3) where each is pushed along the surface, by those neighbours that are nearer than the reach."""
    count = min(_NEIGHBOURS + 1, len(points))
    gap, near = (np.asarray(v)[:, 1:] for v in cKDTree(points).query(points, k=count, workers=-1))
    apart = points[:, None] - points[near]
    facing = np.einsum("nki,ni->nk", normals[near], normals) > 0  # the far side of a thin part does not push
    close = np.clip(1 - gap / (_REACH * spacing), 0, None) * facing
    push = (close / np.maximum(gap, 1e-12))[:, :, None] * apart
    whole = _STEP * spacing * push.sum(axis=1)
    along = whole - np.einsum("ni,ni->n", whole, normals)[:, None] * normals
    length = np.linalg.norm(along, axis=1, keepdims=True)
    return np.asarray(along * np.minimum(1, 0.4 * spacing / np.maximum(length, 1e-300)))


def projected(
    sdf: NeuralSDF, points: Array, *, level: float = 0.0, steps: int = 10, longest: float = np.inf
) -> tuple[Array, Array]:
    """``points`` (N, 3) moved onto a level set by Newton's method, p - (f - level) ∇f / |∇f|², and unit normals there.

    Args:
        longest: no step is longer; world units.
    """
    place: Array = np.array(points, dtype=np.float64)
    normals = np.zeros_like(place)
    for start in range(0, len(place), _CHUNK):
        part = slice(start, start + _CHUNK)
        place[part], normals[part] = _newton(sdf, place[part], level, steps, longest)
    return place, normals


def _newton(sdf: NeuralSDF, place: Array, level: float, steps: int, longest: float) -> tuple[Array, Array]:
    at = torch.from_numpy(place).to(sdf.device)
    for step in range(steps + 1):
        with torch.no_grad():
            value, gradient = value_and_gradient(sdf, at)
        if step == steps:
            break
        squared = gradient.square().sum(dim=1).clamp(min=_FLATTEST**2)
        move = ((value - level) / squared)[:, None] * gradient
        length = move.norm(dim=1, keepdim=True)
        at = at - move * (longest / length.clamp(min=1e-300)).clamp(max=1.0)
    normal = torch.nn.functional.normalize(gradient, dim=1)
    return at.cpu().numpy(), normal.cpu().numpy()
