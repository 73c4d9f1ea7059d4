"""SALD: sign agnostic learning with derivatives (Atzmon & Lipman, ICLR 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..evidence import Evidence
from ..networks import MLP
from ..objectives import At, Objective
from ..recipe import Recipe, Size
from .sal import sampler, similarity


def unsigned_slope(at: At) -> Tensor:
    """Mean min(‖∇f - ∇h‖, ‖∇f + ∇h‖) round the surface, h the unsigned distance.

    Source: Atzmon & Lipman 2021, eq. (4), with the norm of their code (the sum of the components).
    """
    gradient, wanted = at.space.gradient, at.unsigned[1]
    either = torch.stack([(gradient - wanted).abs().sum(dim=-1), (gradient + wanted).abs().sum(dim=-1)])
    return either.amin(dim=0).mean()


def unsigned(at: At) -> Tensor:
    """SAL's term, from values that came with the gradients. Source: Atzmon & Lipman 2021, eq. (2)."""
    return similarity(at.space.value, at.unsigned[0]).mean()


def _network(evidence: Evidence, size: Size) -> nn.Module:
    return MLP(size.width, size.depth, skip=size.depth // 2, radius=0.8)


RECIPE = Recipe(
    name="sald",
    title="SALD",
    source="Atzmon, Lipman: SALD: Sign Agnostic Learning with Derivatives, ICLR 2021",
    summary="as SAL, and the slopes too: sharper, still without normals or a side",
    network=_network,
    sampler=sampler,
    objective=Objective({"slope": (1.0, unsigned_slope), "unsigned": (1.0, unsigned)}),
    sizes={
        "draft": Size(width=128, depth=5, steps=1500, batch=1536, rate=2e-3),
        "balanced": Size(width=256, depth=8, steps=3000, batch=2048, rate=1e-3),
        "fine": Size(width=512, depth=8, steps=20_000, batch=8100, rate=5e-4),  # as published
    },
)
