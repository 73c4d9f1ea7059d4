"""DeepSDF: clamped regression of signed distances (Park et al., CVPR 2019), for one shape.

Network and loss as published: 8 × 512 ReLU, weight normalisation, dropout, the input again half-way, a last tanh; eq.
(4) with δ = 0.1 (also the form of the CS348n homework), but for f on the wrong side, which the published clamp does not
teach (see :func:`~sdfcore.objectives.clamped_distance`). Adam's rate falls along a cosine here, not by halves; small
networks do without dropout, which they cannot afford; and the network begins as SAL's sphere, not at random.
"""

from __future__ import annotations

import torch
from torch import nn

from ..evidence import Evidence
from ..networks import MLP
from ..objectives import Objective, clamped_distance
from ..recipe import Recipe, Size
from ..sampling import Labelled, Sampler

_DROPOUT, _WIDE = 0.2, 512  # published, for networks of this width


def _network(evidence: Evidence, size: Size) -> nn.Module:
    dropout = _DROPOUT if size.width >= _WIDE else 0.0
    return MLP(size.width, size.depth, skip=size.depth // 2, beta=0, dropout=dropout, normed=True, leak=0.0)


def _sampler(evidence: Evidence, network: nn.Module, size: Size, seed: int, device: torch.device) -> Sampler:
    return Labelled(evidence, size.batch, seed, device, pool=min(500_000, 300 * size.steps))


RECIPE = Recipe(
    name="deepsdf",
    title="DeepSDF",
    source="Park, Florence, Straub, Newcombe, Lovegrove: DeepSDF, CVPR 2019",
    summary="exact distances, clamped near the surface; a distance only within the clamp",
    network=_network,
    sampler=_sampler,
    objective=Objective({"clamped": (1.0, clamped_distance(0.1))}),
    sizes={
        "draft": Size(width=128, depth=5, steps=2000, batch=1536, rate=2e-3),
        "balanced": Size(width=256, depth=8, steps=4000, batch=2048, rate=1e-3),
        "fine": Size(width=512, depth=8, steps=20_000, batch=16_384, rate=5e-4),  # as published
    },
    needs_normals=True,
    needs_distance=True,
)
