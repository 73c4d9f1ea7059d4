"""HotSpot: a distance as the logarithm of how warm space is round a hot surface (Wang et al., CVPR 2025).

exp(-λ |f|) of a distance f nearly solves the screened Poisson equation; the energy of that equation punishes stray
sheets, is stable, and, other than the eikonal equation, is met by the true distance only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..evidence import Evidence
from ..objectives import At, Objective, eikonal_everywhere, manifold, schedule
from ..recipe import Recipe, Size
from ..sampling import HalfUniform, Sampler
from .steik import network

ABSORPTION = 15.0  # λ of the authors' settings for scans


def heat(at: At) -> Tensor:
    """Mean ½ exp(-2 λ |f|) (‖∇f‖² + 1) in space. Source: Wang et al. 2025, the heat loss; not 0 even of a distance."""
    warmth = torch.exp(-2 * ABSORPTION * at.space.value.abs())
    return (0.5 * warmth * (at.space.gradient.square().sum(dim=-1) + 1)).mean()


def _sampler(evidence: Evidence, network: nn.Module, size: Size, seed: int, device: torch.device) -> Sampler:
    return HalfUniform(evidence, size.batch, seed, device, half=1.5, wide=0.5)


RECIPE = Recipe(
    name="hotspot",
    title="HotSpot",
    source="Wang, Wang, Yoshino, Tao, Fu, Li: HotSpot: Signed Distance Function Optimization with an Asymptotically "
    "Sufficient Condition, CVPR 2025",
    summary="a distance that is right far away, from points without normals; holes and handles come out well",
    network=network,
    sampler=_sampler,
    # weights of the authors' settings, which fall from 8 to 1 for the heat
    objective=Objective(
        {
            "eikonal": (3.0, eikonal_everywhere),
            "manifold": (500.0, manifold),
            "heat": (schedule((0.0, 8.0), (1.0, 1.0)), heat),
        }
    ),
    sizes={
        "draft": Size(width=96, depth=4, steps=1000, batch=1024, rate=2e-4),
        "balanced": Size(width=128, depth=5, steps=2500, batch=1536, rate=1e-4),
        "fine": Size(width=128, depth=5, steps=10_000, batch=15_000, rate=5e-5),  # as published
    },
    clip=10.0,
)
