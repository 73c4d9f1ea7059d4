"""Occupancy networks: is a point inside? (Mescheder et al., CVPR 2019), for one shape.

The network's value is not a distance but how surely a point is outside, on a scale chosen so that its steepness near
the surface is about that of a distance.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..evidence import Evidence
from ..networks import MLP
from ..objectives import At, Objective
from ..recipe import Recipe, Size
from ..sampling import Labelled, Sampler

SCALE = 50.0  # logits per unit of the field


def cross_entropy(at: At) -> Tensor:
    """Binary cross-entropy of "inside", whose logit is -50 f. Source: Mescheder et al. 2019, eq. (3)."""
    inside = (at.batch.known_distances < 0).to(at.space.value.dtype)
    return functional.binary_cross_entropy_with_logits(-SCALE * at.space.value, inside)


def _network(evidence: Evidence, size: Size) -> nn.Module:
    return MLP(size.width, size.depth, skip=size.depth // 2, beta=0)


def sampler(evidence: Evidence, network: nn.Module, size: Size, seed: int, device: torch.device) -> Sampler:
    """Near and uniform points with their sides; as published all are uniform, which takes far more of them."""
    return Labelled(evidence, size.batch, seed, device, pool=min(500_000, 300 * size.steps))


RECIPE = Recipe(
    name="occupancy",
    title="Occupancy",
    source="Mescheder, Oechsle, Niemeyer, Nowozin, Geiger: Occupancy Networks, CVPR 2019",
    summary="learns only inside and outside; the value is no distance, so offsets and ray casts are rough",
    network=_network,
    sampler=sampler,
    objective=Objective({"cross_entropy": (1.0, cross_entropy)}),
    sizes={
        "draft": Size(width=128, depth=5, steps=2000, batch=1536, rate=2e-3),
        "balanced": Size(width=256, depth=5, steps=4000, batch=2048, rate=1e-3),
        "fine": Size(width=256, depth=5, steps=20_000, batch=8192, rate=1e-4),  # published: 256, 5 blocks, 1e-4
    },
    needs_normals=True,
    needs_distance=True,
)
