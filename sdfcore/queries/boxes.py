"""Boxes as middles (B, 3) and half sides (B, 3), and their eighths."""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry import Array

CORNERS = torch.cartesian_prod(*3 * [torch.tensor([-1.0, 1.0])])  # (8, 3), of [-1, 1]³


def halved(centre: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """The eighths (8 B, 3) of boxes, those of one box after one another."""
    smaller = half / 2
    return (centre[:, None] + smaller[:, None] * CORNERS.to(half)).reshape(-1, 3), smaller.repeat_interleave(8, dim=0)


def numbers(values: Tensor) -> Array:
    """float64, on the processor."""
    return values.double().cpu().numpy()
