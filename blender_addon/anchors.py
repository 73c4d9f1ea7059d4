"""What was done to a mesh in its own space since it was last known: Apply, Set Origin, all of it moved in Edit Mode.

Blender then rewrites the vertices, and with Apply the object's matrix too; a matrix that was stored for the old space
would put things elsewhere. A few vertices, far apart, are remembered by number and place. What takes them to where they
are now is what was done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import meshes

Array = NDArray[Any]

_MOST = 4096  # vertices that are looked at: of more, every so many
_DIRECTIONS = np.array([(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if (x, y, z) > (0, 0, 0)])


def of(mesh: Any) -> list[float]:
    """How many vertices ``mesh`` has, then number and place of those that lie farthest out; empty for no mesh."""
    places = _places(mesh)
    if not len(places):
        return []
    candidates = np.arange(0, len(places), max(1, len(places) // _MOST))
    along = places[candidates] @ _DIRECTIONS.T
    chosen = candidates[np.unique([along.argmin(axis=0), along.argmax(axis=0)])]
    return [float(len(places)), *np.column_stack([chosen, places[chosen]]).ravel().tolist()]


def change(before: Sequence[float] | None, mesh: Any) -> Array:
    """(4, 4) the affine map by which the vertices of ``mesh`` have moved since ``before`` was taken :func:`of` it.

    The identity if nothing was remembered, or if they were not moved all alike: then the mesh was edited.
    """
    places = _places(mesh) if before else np.zeros((0, 3))
    if not before or len(places) != int(before[0]):
        return np.eye(4)
    rows = np.array(list(before)[1:]).reshape(-1, 4)
    old, new = rows[:, 1:], places[rows[:, 0].astype(np.int64)].astype(np.float64)
    size = float(np.ptp(new, axis=0).max())
    tolerance = 1e-4 * size + 1e-6 * float(np.abs(new).max(initial=0.0))
    if np.abs(new - old).max(initial=0.0) <= tolerance:
        return np.eye(4)
    middle = old.mean(axis=0)
    spread = np.linalg.svd(old - middle, compute_uv=False)
    if len(spread) < 3 or spread[-1] <= 1e-6 * spread[0]:  # flat: what was done across it cannot be seen
        return np.eye(4)
    known = np.column_stack([old - middle, np.ones(len(old))])
    found = np.linalg.lstsq(known, new, rcond=None)[0]
    if np.abs(known @ found - new).max() > tolerance or abs(np.linalg.det(found[:3])) < 1e-12:
        return np.eye(4)
    made = np.eye(4)
    made[:3, :3], made[:3, 3] = found[:3].T, found[3] - found[:3].T @ middle
    return made


def _places(mesh: Any) -> Array:
    """(N, 3) of the vertices; none of what is no mesh."""
    if not hasattr(mesh, "vertices"):
        return np.zeros((0, 3), np.float32)
    return meshes.positions(mesh)
