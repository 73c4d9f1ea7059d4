"""Points of the medial axis: where a field stops being the distance to one side and becomes that to another.

Source: Clémot & Digne 2023 (Neural skeleton): from even points of the surface one goes inwards along the normal, in 50
steps, to where the field bends. Here the bend is looked for in the slope along the way, which is 1 before it, and taken
at its middle: so it is found in a field that is smooth there as well as in an exact one. What is thinner than the field
knows has no bend; there balls shrink until the surface lets them in (Ma et al. 2012).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ..coherence import nearest
from ..errors import NoSurfaceError
from ..fields import NeuralSDF, value_and_gradient
from ..geometry import Array, Mesh, PointCloud
from ..surfaces import MeshDistance

Progress = Callable[[float], None]
_SAMPLES = 50  # of a trace, as published
_TURNED = 0.2  # of the slope, after a bend: what two sides that meet at a right angle make is no part of a skeleton
_BEFORE = 3  # steps before the sample that is past a bend, where it may begin
_HALVINGS = 12
_CHUNK = 1 << 16
_SHRINKS, _LET_IN = 30, 1e-3  # of a ball, at most; and how much of its radius may stick out
_DEPTH_TRIAL = 48  # cells along the longest side, to see how deep the shape is


@dataclass(frozen=True)
class Medial:
    """Points (N, 3) of the medial axis, world units, and the distance from each to the surface, (N,)."""

    points: Array
    radii: Array


def medial_points(
    sdf: NeuralSDF, surface: PointCloud, mesh: Mesh, *, on_progress: Progress = lambda fraction: None
) -> Medial:
    """What is met on the way inwards from points of the surface; traces that meet nothing are left out.

    Args:
        surface: even points with normals on the surface, world units.
        mesh: of the same surface, closed; the radii are the exact distances to it.
    Raises:
        NoSurfaceError: no trace ends on a medial axis.
    """
    if surface.normals is None:
        raise ValueError("traces begin along normals, and the points have none")
    distance = MeshDistance(mesh)
    deep = _deepest(mesh, distance)
    origins, inward = surface.points.astype(np.float64), -surface.normals.astype(np.float64)
    ends = []
    for start in range(0, len(origins), _CHUNK // _SAMPLES):
        part = slice(start, start + _CHUNK // _SAMPLES)
        ends.append(_traced(sdf, origins[part], inward[part], deep))
        on_progress(min(1.0, part.stop / len(origins)))
    way = np.concatenate(ends)
    found = np.isfinite(way)
    points = origins[found] + way[found, None] * inward[found]
    inside = distance.inside(points)
    points = points[inside]
    if not len(points):
        raise NoSurfaceError(
            "The field has no medial axis that could be found.", "Fit with the recipe tv, or with more steps."
        )
    return Medial(points, distance.unsigned(points))


def shrunk_balls(surface: PointCloud, rows: Array, mesh: Mesh) -> Medial:
    """The largest ball inside that touches the surface at each of ``rows`` of its points (N,); world units.

    Source: Ma, Bae & Choi 2012 (3D medial axis point approximation using nearest neighbors and the normal field).
    """
    if surface.normals is None:
        raise ValueError("balls touch along normals, and the points have none")
    tree, distance = cKDTree(surface.points), MeshDistance(mesh)
    touched, inward = surface.points[rows].astype(np.float64), -surface.normals[rows].astype(np.float64)
    radii = np.full(len(rows), _deepest(mesh, distance))
    for _ in range(_SHRINKS):
        gap, near = nearest(tree, touched + radii[:, None] * inward)
        over = gap < (1 - _LET_IN) * radii
        if not over.any():
            break
        chord = surface.points[near[over]] - touched[over]
        rise = np.maximum((chord * inward[over]).sum(axis=1), 1e-12)
        radii[over] = np.minimum(radii[over], np.square(chord).sum(axis=1) / (2 * rise))
    centres = touched + radii[:, None] * inward
    centres = centres[distance.inside(centres)] if len(centres) else centres
    return Medial(centres, distance.unsigned(centres) if len(centres) else np.zeros(0))


def _deepest(mesh: Mesh, distance: MeshDistance) -> float:
    """About the radius of the largest ball inside."""
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    step = float((high - low).max()) / _DEPTH_TRIAL
    axes = [np.arange(a + step / 2, b, step) for a, b in zip(low, high, strict=True)]
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    inside = nodes[distance.inside(nodes)] if len(nodes) else nodes
    return step + (float(distance.unsigned(inside).max()) if len(inside) else 0.0)


def _traced(sdf: NeuralSDF, origins: Array, inward: Array, deep: float) -> Array:
    """How far along each (N,) the middle of the first bend of the field lies; infinite where it does not bend."""
    start, way = (torch.from_numpy(v).to(sdf.device) for v in (origins, inward))
    step = 1.05 * deep / _SAMPLES
    steps = torch.arange(1, _SAMPLES + 1, dtype=torch.float64, device=sdf.device) * step
    places = start[:, None] + steps[None, :, None] * way[:, None]
    deeper = _deeper(sdf, places.reshape(-1, 3), way.repeat_interleave(_SAMPLES, dim=0)).reshape(-1, _SAMPLES)
    low = deeper < _TURNED
    first = low.to(torch.int8).argmax(dim=1)
    rows, last = torch.arange(len(first), device=first.device), _SAMPLES - 1
    after = torch.minimum(deeper[rows, first], deeper[rows, (first + 1).clamp(max=last)])
    half = (1 + after) / 2  # between what it was before and what it is after
    near, far = (steps[first] - _BEFORE * step).clamp(min=0), steps[(first + 1).clamp(max=last)]
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        over = _deeper(sdf, start + middle[:, None] * way, way) < half
        near, far = torch.where(over, near, middle), torch.where(over, middle, far)
    return torch.where(low.any(dim=1), (near + far) / 2, torch.inf).cpu().numpy()


def _deeper(sdf: NeuralSDF, points: Tensor, way: Tensor) -> Tensor:
    """(N,) how fast the field falls along the unit vectors ``way``: 1 on the way to the medial axis."""
    with torch.no_grad():
        parts = [value_and_gradient(sdf, part)[1].detach() for part in points.split(_CHUNK)]
    return -(torch.cat(parts) * way).sum(dim=1)
