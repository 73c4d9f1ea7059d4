"""LightSAL: SALD's loss on a network of a few ten thousand parameters (Basher, Sarmad, Boutellier 2021)."""

from __future__ import annotations

from torch import nn

from ..evidence import Evidence
from ..networks import MLP
from ..objectives import Objective
from ..recipe import Recipe, Size
from .sal import sampler
from .sald import unsigned, unsigned_slope


def _network(evidence: Evidence, size: Size) -> nn.Module:
    return MLP(size.width, size.depth, skip=size.depth // 2, radius=0.8)


RECIPE = Recipe(
    name="lightsal",
    title="LightSAL",
    source="Basher, Sarmad, Boutellier: LightSAL: Lightweight Sign Agnostic Learning, 2021",
    summary="SALD's loss on 12,606 (draft) to 66,302 (fine) parameters, not 1.8 million: small files",
    network=_network,
    sampler=sampler,
    objective=Objective({"slope": (1.0, unsigned_slope), "unsigned": (1.0, unsigned)}),
    sizes={
        "draft": Size(width=64, depth=4, steps=2000, batch=1536, rate=4e-3),
        "balanced": Size(width=96, depth=5, steps=4000, batch=2048, rate=2e-3),
        "fine": Size(width=128, depth=5, steps=20_000, batch=8100, rate=5e-4),
    },
)
