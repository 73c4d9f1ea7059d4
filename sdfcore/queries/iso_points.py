"""Iso-points: points on a level set, evenly spaced, with normals.

Source: Yifan et al. 2021 (Iso-Points), sec. 3.1 and 3.2: projection by Newton's method with bounded steps, resampling
by repulsion along the surface, and more points where the surface bends (Huang et al. 2013, EAR, eq. 6). The repulsion
here reaches as far as the spacing that so many points have on such an area, so that it ends at rest.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ..errors import InputError
from ..extraction import default_box, extract_sdf
from ..fields import Field, NeuralSDF, value_and_gradient
from ..geometry import Array, PointCloud
from ..surfaces import sample_surface

Progress = Callable[[float], None]
Project = Callable[[Array, int, float], tuple[Array, Array]]  # places, steps, longest step -> places on it, normals
_ROUNDS = 40  # of repulsion
_NEIGHBOURS = 12
_REACH = 1.45  # of the repulsion, in spacings of a triangular lattice
_STEP = 0.45  # of the way that would part two points
_NEWTON, _SETTLED = 3, 10  # steps after a round, and in the end
_CAP = 0.5  # of a spacing: the longest Newton step while points settle
_FLATTEST = 0.2  # a gradient shorter than this does not say how far the surface is
_SHARPNESS = 5.0  # ρ, as published
_OPPOSITE = -0.8  # cosine of normals beyond which neighbours are on the two sides of a thin part, not of an edge
_FLAT = float(np.cos(np.radians(20)))  # neighbours whose normals differ by less are on no edge, as published
_CHUNK = 1 << 15
_TRIAL = 128  # cells along the longest side of the mesh that points begin on


def iso_points(
    sdf: NeuralSDF,
    count: int = 10_000,
    *,
    level: float = 0.0,
    edges: float = 0.0,
    rounds: int = _ROUNDS,
    seed: int = 0,
    on_progress: Progress = lambda fraction: None,
) -> PointCloud:
    """About evenly spaced points on a level set of a fitted shape, with normals; world units, float64.

    Args:
        count: how many. level: world units.
        edges: the share of them that is put where the surface bends sharply, up to 0.9.
        rounds: of repulsion; none leaves samples that are random.
        on_progress: given a fraction that never falls; what it raises ends the work.
    Raises:
        InputError: fewer than 10 points, or no such share. NoSurfaceError: there is no such level set.
    """
    if count < 10:
        raise InputError(f"{count} points are too few to be spaced.", "Ask for 10 or more.")
    if not 0 <= edges <= 0.9:
        raise InputError(f"A share of {edges:g} at the edges cannot be.", "Give a number from 0 to 0.9.")
    box = sdf.frame.box_to_world(default_box(sdf, level))
    mesh = extract_sdf(sdf, resolution=_TRIAL, level=level, cap=False, box=box)
    on_progress(0.1)
    even = max(10, round((1 - edges) * count))
    points = sample_surface(mesh, even, seed).points.astype(np.float64)
    kept = lambda at: np.clip(at, box.lower, box.upper)  # a surface that leaves the box ends there
    project = lambda at, steps, longest: projected(
        sdf, kept(at), level=level, steps=steps, longest=longest, device=sdf.device
    )
    spacing = spacing_of(mesh.area(), even)
    points, normals = evenly(project, points, spacing, rounds, lambda part: on_progress(0.1 + 0.8 * part))
    if even < count:
        points, normals = with_edges(project, points, normals, count)
    on_progress(1.0)
    return PointCloud(points, normals.astype(np.float32))


def spacing_of(area: float, count: int) -> float:
    """Of ``count`` points in a triangular lattice on such an area."""
    return float(np.sqrt(2 / np.sqrt(3) * area / count))


def evenly(
    project: Project, points: Array, spacing: float, rounds: int, on_progress: Progress = lambda fraction: None
) -> tuple[Array, Array]:
    """``points`` (N, 3) on the surface that ``project`` knows, pushed apart; and unit normals there."""
    points, normals = project(points, _NEWTON, _CAP * spacing)
    for number in range(rounds):
        points, normals = project(points + _pushed(points, normals, spacing), _NEWTON, _CAP * spacing)
        on_progress((number + 1) / (rounds + 1))
    return project(points, _SETTLED, _CAP * spacing)


def with_edges(project: Project, points: Array, normals: Array, count: int) -> tuple[Array, Array]:
    """``points`` and more between them up to ``count``, first where neighbours' normals differ, then where gaps are.

    Source: Huang et al. 2013 (EAR), eq. (6): what lies between two points i and j counts as (2 - nᵢ·nⱼ)^ρ times its
    distance from all of them; here Newton's method moves it onto the surface, which they do not know. Pairs
    across a thin part do not count.
    """
    while len(points) < count:
        near = np.asarray(cKDTree(points).query(points, k=min(7, len(points)), workers=-1)[1])[:, 1:]
        pairs = np.unique(
            np.sort(np.stack([np.repeat(np.arange(len(points)), near.shape[1]), near.ravel()], 1), 1), axis=0
        )
        a, b = points[pairs[:, 0]], points[pairs[:, 1]]
        gap = np.linalg.norm(a - b, axis=1)
        bent = np.einsum("ni,ni->n", normals[pairs[:, 0]], normals[pairs[:, 1]])
        urgent = gap * (2 - bent) ** _SHARPNESS * (bent > _OPPOSITE)
        order = np.argsort(-urgent, kind="stable")
        order = order[urgent[order] >= urgent.max() / 2]  # the others wait until these are closed
        taken: list[int] = []
        busy = np.zeros(len(points), bool)  # one new neighbour for each in a round, so that gaps are seen to close
        for row in order:
            if len(points) + len(taken) >= count:
                break
            if not busy[pairs[row]].any():
                busy[pairs[row]] = True
                taken.append(int(row))
        ends = [(points[pairs[taken, side]], normals[pairs[taken, side]]) for side in (0, 1)]
        new, turned = project(_between(*ends[0], *ends[1]), _SETTLED, float(gap[taken].max()))
        points, normals = np.concatenate([points, new]), np.concatenate([normals, turned])
    return points, normals


def _between(a: Array, along_a: Array, b: Array, along_b: Array) -> Array:
    """Middles (N, 3) of pairs of points; where their planes meet at an angle, the nearest place that is on both."""
    middle = (a + b) / 2
    cosine = np.einsum("ni,ni->n", along_a, along_b)
    off_a, off_b = (np.einsum("ni,ni->n", end - middle, along) for end, along in ((a, along_a), (b, along_b)))
    sine = np.maximum(1 - cosine**2, 1e-9)
    shift = ((off_a - cosine * off_b) / sine)[:, None] * along_a + ((off_b - cosine * off_a) / sine)[:, None] * along_b
    near = np.linalg.norm(shift, axis=1) < np.linalg.norm(a - b, axis=1)
    return np.where(((cosine < _FLAT) & near)[:, None], middle + shift, middle)


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
    field: Field,
    points: Array,
    *,
    level: float = 0.0,
    steps: int = 10,
    longest: float = np.inf,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> tuple[Array, Array]:
    """``points`` (N, 3) moved onto a level set by Newton's method, p - (f - level) ∇f / |∇f|², and unit normals there.

    Args:
        field: in the coordinates of ``points``. device, dtype: what it takes.
        longest: no step is longer.
    """
    place: Array = np.array(points, dtype=np.float64)
    normals = np.zeros_like(place)
    for start in range(0, len(place), _CHUNK):
        part = slice(start, start + _CHUNK)
        at = torch.from_numpy(place[part]).to(device, dtype)
        place[part], normals[part] = (v.double().cpu().numpy() for v in _newton(field, at, level, steps, longest))
    return place, normals


def _newton(field: Field, at: Tensor, level: float, steps: int, longest: float) -> tuple[Tensor, Tensor]:
    for step in range(steps + 1):
        with torch.no_grad():
            value, gradient = value_and_gradient(field, at)
        if step == steps:
            break
        squared = gradient.square().sum(dim=1).clamp(min=_FLATTEST**2)
        move = ((value - level) / squared)[:, None] * gradient
        length = move.norm(dim=1, keepdim=True)
        at = at - move * (longest / length.clamp(min=1e-300)).clamp(max=1.0)
    return at, torch.nn.functional.normalize(gradient, dim=1)
