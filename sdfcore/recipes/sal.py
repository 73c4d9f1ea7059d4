"""SAL: sign agnostic learning from unsigned distances (Atzmon & Lipman, CVPR 2020), with their L² distance.

The loss cannot tell f from -f; the sphere that the network begins as makes it choose the signed solution. Network, rate
and loss of ``fine`` are the authors' for reconstruction; of the points in space a tenth is uniform here, and the wide
Gaussian that of their families (0.2, not 1.0), which spends fewer points far from the surface.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..evidence import Evidence
from ..networks import MLP
from ..objectives import At, Objective
from ..recipe import Recipe, Size
from ..sampling import Footed, Sampler


def similarity(value: Tensor, unsigned: Tensor) -> Tensor:
    """τ(a, b) = ||a| - b|, the same for a and -a. Source: Atzmon & Lipman 2020, sec. 3, ℓ = 1."""
    return (value.abs() - unsigned).abs()


def unsigned(at: At) -> Tensor:
    """Mean τ(f, h) round the surface, h the unsigned distance. Source: Atzmon & Lipman 2020, eq. (2)."""
    return similarity(at.space.value, at.unsigned[0]).mean()


def network(evidence: Evidence, size: Size) -> nn.Module:
    """The authors' network for reconstruction: ReLU, weight normalisation, no skip."""
    return MLP(size.width, size.depth, skip=0, beta=0, normed=True, radius=0.8)


def sampler(evidence: Evidence, network: nn.Module, size: Size, seed: int, device: torch.device) -> Sampler:
    return Footed(evidence, size.batch, seed, device, pool=min(250_000, 50 * size.steps))


RECIPE = Recipe(
    name="sal",
    title="SAL",
    source="Atzmon, Lipman: SAL: Sign Agnostic Learning of Shapes from Raw Data, CVPR 2020",
    summary="regression of unsigned distances that finds the sign itself; needs no normals, rounds detail",
    network=network,
    sampler=sampler,
    objective=Objective({"unsigned": (1.0, unsigned)}),
    sizes={
        "draft": Size(width=128, depth=5, steps=2000, batch=2048, rate=2e-3),
        "balanced": Size(width=256, depth=8, steps=4000, batch=3072, rate=1e-3),
        "fine": Size(width=512, depth=8, steps=20_000, batch=16_384, rate=5e-4),  # as published
    },
)
