"""Fourier features: an occupancy MLP on random sines of the coordinates (Tancik et al., NeurIPS 2020)."""

from __future__ import annotations

from torch import nn

from ..evidence import Evidence
from ..networks import FourierMLP
from ..objectives import Objective
from ..recipe import Recipe, Size
from .occupancy import cross_entropy, sampler


def _network(evidence: Evidence, size: Size) -> nn.Module:
    """As published for its millions of samples a second; fewer can teach only lower frequencies between them."""
    scale = 6.0 if size.batch >= 16_384 else 1.0
    return FourierMLP(size.width, size.depth, features=size.width, scale=scale)


RECIPE = Recipe(
    name="fourier",
    title="Fourier features",
    source="Tancik et al.: Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains, "
    "NeurIPS 2020",
    summary="sharp occupancy from random sines; may leave specks off the surface, and the value is no distance",
    network=_network,
    sampler=sampler,
    objective=Objective({"cross_entropy": (1.0, cross_entropy)}),
    sizes={
        "draft": Size(width=128, depth=4, steps=2000, batch=1536, rate=1e-3),
        "balanced": Size(width=256, depth=6, steps=4000, batch=2048, rate=5e-4),
        "fine": Size(width=256, depth=8, steps=10_000, batch=32_768, rate=5e-4),  # as published
    },
    needs_normals=True,
    needs_distance=True,
)
