"""HotSpot: a distance as the logarithm of how warm space is round a hot surface (Wang et al., CVPR 2025).

exp(-λ |f|) of a distance f nearly solves the screened Poisson equation; the energy of that equation punishes stray
sheets, is stable, and, other than the eikonal equation, is met by the true distance only.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..evidence import Evidence
from ..objectives import At, Objective, eikonal_everywhere, manifold, schedule
from ..recipe import Recipe, Size
from ..sampling import HalfUniform, Sampler
from .steik import network

# The authors scale a scan so that 70 % of its points are within 0.45 of the middle, which is about 0.6 of its size in
# our box; their settings for scans, in our lengths:
SCALE = 0.6
ABSORPTION = 15.0 * SCALE  # λ
HALF = 1.1 / SCALE  # of the box of the uniform samples
DEVIATION = 0.5**1.5 / SCALE  # of the others: theirs is drawn with the covariance 0.5³


def density(points: Tensor) -> Tensor:
    """(N,) of the samples in space: half of them uniform, half from a Gaussian."""
    within = (points.abs() <= HALF).all(dim=-1) / (2 * HALF) ** 3
    falling = torch.exp(-points.square().sum(dim=-1) / (2 * DEVIATION**2)) / (math.tau * DEVIATION**2) ** 1.5
    return 0.5 * (within + falling)


def heat(at: At) -> Tensor:
    """∫ ½ exp(-2 λ |f|) (‖∇f‖² + 1) over space, from samples. Source: Wang et al. 2025; not 0 even of a distance."""
    warmth = torch.exp(-2 * ABSORPTION * at.space.value.abs())
    energy = 0.5 * warmth * (at.space.gradient.square().sum(dim=-1) + 1)
    return (energy / density(at.space.points)).mean()


def _sampler(evidence: Evidence, network: nn.Module, size: Size, seed: int, device: torch.device) -> Sampler:
    return HalfUniform(evidence, size.batch, seed, device, half=HALF, wide=0.5, deviation=DEVIATION)


_HEAT = 4 / 3 * SCALE**3  # their code divides the sum over both kinds of samples by ¾ of their number; lengths cubed


RECIPE = Recipe(
    name="hotspot",
    title="HotSpot",
    source="Wang, Wang, Yoshino, Tao, Fu, Li: HotSpot: Signed Distance Function Optimization with an Asymptotically "
    "Sufficient Condition, CVPR 2025",
    summary="a distance that is right far away, from points without normals; holes and handles come out well",
    network=network,
    sampler=_sampler,
    # the authors' weights; that of the heat falls from 8 to 1 until six tenths of the way
    objective=Objective(
        {
            "eikonal": (3.0, eikonal_everywhere),
            "manifold": (500.0 * SCALE, manifold),
            "heat": (schedule((0.0, 8.0 * _HEAT), (0.6, _HEAT)), heat),
        }
    ),
    sizes={
        "draft": Size(width=96, depth=4, steps=1000, batch=1024, rate=2e-4),
        "balanced": Size(width=128, depth=5, steps=2500, batch=1536, rate=1e-4),
        "fine": Size(width=128, depth=5, steps=10_000, batch=15_000, rate=5e-5),  # as published
    },
    clip=10.0,
)
