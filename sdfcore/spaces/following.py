"""A mesh of fixed triangles that follows a shape as it changes, step by step: what shape keys are made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array

from ..fields import Field, value_and_gradient
from ..geometry import Array, Box

_CHUNK = 1 << 15
_STEPS, _AGAIN = 5, 2  # of Newton's method: at first, and after neighbours were evened out
_NEAR = 1e-4  # of half the shape's size: near enough to be there
_LONGEST = 0.1  # of one step, of half the shape's size
_FLATTEST = 0.3  # a gradient shorter than this is of a place where the nearest point is not clear
_ROUNDS, _SMOOTHING, _EVENING = 2, 0.5, 0.1


def follow(
    vertices: Array,
    faces: Array,
    stages: Iterable[tuple[Field, Box]],
    *,
    device: torch.device | str = "cpu",
    on_stage: Callable[[], None] = lambda: None,
) -> Iterator[Array]:
    """Positions (V, 3) float64 of the mesh's vertices on each of ``stages``, world units.

    From one stage to the next the mesh first moves as the box round the shape does, which carries places, sizes and
    proportions, then onto the new surface. What neighbours are moved by is evened out along the surface, so that
    triangles keep their side: the nearest points of neighbours may lie far apart, or be one.

    Args:
        vertices: (V, 3) on the surface of the first stage, world units. faces: (F, 3).
        stages: each a field, negative inside, and the box of its surface, world units; near one another.
        device: of the fields. on_stage: called between the stages; may raise, to be cancelled.
    """
    mean = _neighbours(faces, len(vertices))
    place: Array = np.array(vertices, dtype=np.float64)
    before: Box | None = None
    for field, around in stages:
        on_stage()
        if before is not None:
            least = 1e-9 * before.diagonal
            place = (place - before.centre) / np.maximum(before.size, least) * around.size + around.centre
        place = _settled(_On(field, float(around.size.max()) / 2, device), place, mean)
        before = around
        yield place


class _On:
    """A field's values and gradients at numpy points, in pieces; ``scale`` is half the size of its surface."""

    def __init__(self, field: Field, scale: float, device: torch.device | str) -> None:
        self.field, self.scale, self.device = field, scale, device

    def __call__(self, points: Array) -> tuple[Array, Array]:
        """World values (N,) and gradients (N, 3) at world points (N, 3)."""
        found = []
        with torch.no_grad():
            for part in self._points(points).split(_CHUNK):
                value, gradient = value_and_gradient(self.field, part)
                found.append((value.detach().cpu().numpy(), gradient.detach().cpu().numpy()))
        return np.concatenate([v for v, _ in found]), np.concatenate([g for _, g in found])

    def _points(self, points: Array) -> torch.Tensor:
        kind = torch.float32 if torch.device(self.device).type == "mps" else torch.float64  # which has no others
        return torch.as_tensor(points, dtype=kind, device=self.device)

    def landed(self, points: Array, steps: int) -> tuple[Array, Array]:
        """``points`` moved onto the surface by Newton's method, p - f ∇f / |∇f|², and the unit normals about there."""
        for _ in range(steps):
            value, gradient = self(points)
            squared = np.maximum((gradient**2).sum(axis=1), _FLATTEST**2)
            step = (value / squared)[:, None] * gradient
            length = np.linalg.norm(step, axis=1, keepdims=True)
            points = points - step * np.minimum(1.0, _LONGEST * self.scale / np.maximum(length, 1e-30))
            if length.max(initial=0.0) < _NEAR * self.scale:
                break
        return points, gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-12)


def _settled(field: _On, start: Array, mean: csr_array) -> Array:
    """``start`` (V, 3) moved onto the surface: every vertex about as its neighbours."""
    landed, normal = field.landed(start, _STEPS)
    for _ in range(_ROUNDS):
        moved = landed - start
        change = _SMOOTHING * (mean @ moved - moved) + _EVENING * (mean @ landed - landed) * _stretch(moved, field)
        change = change - (change * normal).sum(axis=1, keepdims=True) * normal
        landed, normal = field.landed(landed + change, _AGAIN)
    return landed


def _stretch(moved: Array, field: _On) -> Array:
    """(V, 1) in [0, 1]: how far each vertex went, so that a shape at rest keeps its triangles where they are."""
    return np.minimum(1.0, np.linalg.norm(moved, axis=1, keepdims=True) / (0.02 * field.scale))


def _neighbours(faces: Array, count: int) -> csr_array:
    """(V, V): the mean over the vertices that share an edge with each one; itself where there are none."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    alone = np.setdiff1d(np.arange(count), edges)
    rows = np.concatenate([edges[:, 0], edges[:, 1], alone])
    columns = np.concatenate([edges[:, 1], edges[:, 0], alone])
    linked = csr_array(coo_array((np.ones(len(rows)), (rows, columns)), shape=(count, count)))
    linked.data[:] = 1.0  # an edge of two faces counts once
    degree = np.asarray(linked.sum(axis=1)).reshape(-1)
    return csr_array(linked.multiply(1.0 / degree[:, None]))
