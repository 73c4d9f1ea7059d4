"""Boxes as middles (B, 3) and half sides (B, 3), and their eighths."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..geometry import Array, Mesh

_PARALLEL = 1e-30  # to a side, if no more along its normal
CORNERS = torch.cartesian_prod(*3 * [torch.tensor([-1.0, 1.0])])  # (8, 3), of [-1, 1]³


def halved(centre: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """The eighths (8 B, 3) of boxes, those of one box after one another."""
    smaller = half / 2
    return (centre[:, None] + smaller[:, None] * CORNERS.to(half)).reshape(-1, 3), smaller.repeat_interleave(8, dim=0)


def through(origins: Tensor, directions: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) where rays (N, 3) enter a box, or 0 if they begin in it, and leave it, in lengths of their directions.

    Of a ray that passes by, or comes from it, both are 0.
    """
    safe = torch.where(directions.abs() < _PARALLEL, _PARALLEL, directions)
    ends = torch.stack([(lower - origins) / safe, (upper - origins) / safe])
    enter, leave = ends.amin(dim=0).amax(dim=1).clamp(min=0), ends.amax(dim=0).amin(dim=1)
    meets = enter < leave
    return torch.where(meets, enter, 0.0), torch.where(meets, leave, 0.0)


def numbers(values: Tensor) -> Array:
    """float64, on the processor."""
    return values.double().cpu().numpy()


_TRIANGLES = np.array(
    [
        [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4],
        [1, 5, 7], [1, 7, 3],
    ]
)  # fmt: skip


def boxes_mesh(lower: Array, upper: Array) -> Mesh:
    """Boxes (B, 3) to (B, 3), each closed and apart from the others, as one mesh of triangles."""
    corners = (CORNERS.numpy() + 1) / 2
    vertices = lower[:, None] + (upper - lower)[:, None] * corners
    faces = _TRIANGLES[None] + 8 * np.arange(len(lower))[:, None, None]
    return Mesh(vertices.reshape(-1, 3).astype(np.float32), faces.reshape(-1, 3).astype(np.int32))
