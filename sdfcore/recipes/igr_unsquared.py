"""IGR with an unsquared eikonal term, all terms of weight 1: the form of Stanford's CS348n homework 2, eq. (5)."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ..objectives import At, Objective, manifold, normals
from .igr import RECIPE as IGR


def eikonal_unsquared(at: At) -> Tensor:
    """Mean | ‖∇f‖ - 1 | in space. Source: CS348n homework 2, eq. (5), last term."""
    return (at.space.gradient.norm(dim=-1) - 1).abs().mean()


RECIPE = replace(
    IGR,
    name="igr_unsquared",
    title="IGR (unsquared)",
    source="Gropp et al. 2020 (IGR), in the form of Stanford CS348n, homework 2, eq. (5)",
    summary="as IGR with | ‖∇f‖ - 1 | and equal weights: a straighter distance, rougher steps",
    objective=Objective({"manifold": (1.0, manifold), "normals": (1.0, normals), "eikonal": (1.0, eikonal_unsquared)}),
)
