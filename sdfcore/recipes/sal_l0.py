"""SAL with the L⁰ distance: 0 on the points, 1 everywhere else (Atzmon & Lipman, CVPR 2020)."""

from __future__ import annotations

from torch import Tensor, nn

from ..evidence import Evidence
from ..networks import MLP
from ..objectives import At, Objective, manifold
from ..recipe import Recipe, Size
from .sal import sampler, similarity


def indicator(at: At) -> Tensor:
    """Mean τ(f, 1) off the surface. Source: Atzmon & Lipman 2020, sec. 3: h₀ is 1 wherever there are no points."""
    value = at.space.value
    return similarity(value, value.new_ones(())).mean()


def _network(evidence: Evidence, size: Size) -> nn.Module:
    """The authors' for this distance: the input again half-way, a last φ(a) = tanh(a) + a, no weight normalisation."""
    return MLP(size.width, size.depth, skip=size.depth // 2, beta=0, radius=0.8, leak=1.0)


RECIPE = Recipe(
    name="sal_l0",
    title="SAL (L⁰)",
    source="Atzmon, Lipman: SAL: Sign Agnostic Learning of Shapes from Raw Data, CVPR 2020",
    summary="as SAL, but told only where the points are; the value is no distance",
    network=_network,
    sampler=sampler,
    objective=Objective({"indicator": (1.0, indicator), "manifold": (2.0, manifold)}),  # weights of the authors' code
    sizes={
        "draft": Size(width=128, depth=5, steps=2000, batch=2048, rate=1e-3),
        "balanced": Size(width=256, depth=8, steps=4000, batch=3072, rate=5e-4),
        "fine": Size(width=512, depth=8, steps=20_000, batch=16_384, rate=1e-4),  # as published
    },
)
