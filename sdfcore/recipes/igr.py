"""IGR: implicit geometric regularisation (Gropp et al., ICML 2020).

|f| on the points, ∇f along the normals where there are any, and the eikonal equation elsewhere; the sphere of the
geometric initialisation decides inside from outside when there are no normals. Loss, network and kinds of points are
the paper's. A scan's box has a half side of 1 here, not one by its spread: the sphere begins at 0.5, not 1, uniform
points reach to 1.1, not 1.8, and the rate of 5e-3 is lower. ``fine`` has a fifth of the authors' 100,000 steps.
"""

from __future__ import annotations

import torch
from torch import nn

from ..evidence import Evidence
from ..networks import MLP
from ..objectives import Objective, eikonal, manifold, normals
from ..recipe import Recipe, Size
from ..sampling import NearAndUniform, Sampler


def _network(evidence: Evidence, size: Size) -> nn.Module:
    return MLP(size.width, size.depth, skip=size.depth // 2)


def _sampler(evidence: Evidence, network: nn.Module, size: Size, seed: int, device: torch.device) -> Sampler:
    return NearAndUniform(evidence, size.batch, seed, device)


RECIPE = Recipe(
    name="igr",
    title="IGR",
    source="Gropp, Yariv, Haim, Atzmon, Lipman: Implicit Geometric Regularization for Learning Shapes, ICML 2020",
    summary="smooth surface through points, with or without normals; closes holes, slow on fine detail",
    network=_network,
    sampler=_sampler,
    # weights τ = 1, λ = 0.1 of sec. 5
    objective=Objective({"manifold": (1.0, manifold), "normals": (1.0, normals), "eikonal": (0.1, eikonal)}),
    sizes={
        "draft": Size(width=128, depth=4, steps=1200, batch=1024, rate=2e-3),
        "balanced": Size(width=256, depth=6, steps=3000, batch=1536, rate=1e-3),
        "fine": Size(width=512, depth=8, steps=20000, batch=4096, rate=5e-4),  # the published width and depth
    },
    normal_terms=("normals",),
)
