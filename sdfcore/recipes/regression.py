"""Regression of signed distances by a plain MLP: DeepSDF's clamped loss, and the distances beyond the clamp.

The recipe of shape spaces, where its codes come in (:mod:`..spaces`). A plain MLP must not be asked for |f| = 0 on the
surface as firmly as a grid: it answers by being flat there. Distances alone tell it both where and how steep.
Against DeepSDF (the recipe ``deepsdf``): softplus for ReLU, Fourier features beside the coordinates (an eighth of the
steps to the same error), and a light term on the distances beyond the clamp, so that the field stays a distance there.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..evidence import Evidence
from ..networks import MLP
from ..objectives import Objective, clamped_distance, relative_distance
from ..recipe import Recipe, Size
from ..sampling import Labelled, Sampler

OCTAVES = 4
THIN = 0.08  # chairs lost their legs (0.004-0.03) without samples in them: the loss's median there is "outside"


def _network(evidence: Evidence, size: Size) -> nn.Module:
    return MLP(size.width, size.depth, skip=size.depth // 2, octaves=OCTAVES)


def _sampler(evidence: Evidence, network: nn.Module, size: Size, seed: int, device: torch.device) -> Sampler:
    pool = int(np.clip(300 * size.steps, 20_000, 500_000))
    return Labelled(evidence, size.batch, seed, device, pool=pool, thin=THIN)


RECIPE = Recipe(
    name="regression",
    title="Regression",
    source="after Park et al. 2019 (DeepSDF) and Mildenhall et al. 2020 (NeRF)",
    summary="regression of exact distances by a plain MLP; smooth, the recipe of shape spaces",
    network=_network,
    sampler=_sampler,
    objective=Objective({"clamped": (1.0, clamped_distance(0.1)), "distance": (1.0, relative_distance())}),
    sizes={
        "draft": Size(width=128, depth=5, steps=1200, batch=1024, rate=2e-3),
        "balanced": Size(width=256, depth=6, steps=3000, batch=2048, rate=1e-3),
        "fine": Size(width=512, depth=8, steps=20_000, batch=8192, rate=5e-4),
    },
    needs_normals=True,
    needs_distance=True,
)
