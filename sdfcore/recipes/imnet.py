"""IM-NET's decoder: weighted squared error of occupancy (Chen & Zhang, CVPR 2019), for one shape."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..evidence import Evidence
from ..networks import DeepSDF
from ..networks.layers import linears
from ..objectives import At, Objective
from ..recipe import Recipe, Size
from .occupancy import sampler

_LEAK = 0.01  # slope of the output beyond [0, 1]
_SLOPE = 0.02  # of the leaky ReLUs below zero
_NEAR = 0.05  # points nearer to the surface than that count double


def weighted_square(at: At) -> Tensor:
    """Mean squared error of "inside", ½ - f kept to [0, 1], weighted by density. Source: Chen & Zhang 2019, eq. (2)."""
    raw = 0.5 - at.space.value
    inside = at.batch.known_distances
    clipped = torch.maximum(torch.minimum(raw, _LEAK * raw + 1 - _LEAK), _LEAK * raw)
    weight = 1 + (inside.abs() < _NEAR).to(raw.dtype)
    return (weight * (clipped - (inside < 0).to(raw.dtype)).square()).sum() / weight.sum()


def _network(evidence: Evidence, size: Size) -> nn.Module:
    """Published: 1024, 1024, 1024, 512, 256, 128."""
    wide = [size.width] * (size.depth - 3)
    network = DeepSDF([*wide, size.width // 2, size.width // 4, size.width // 8], squashes=0, slope=_SLOPE)
    with torch.no_grad():
        layers = linears(network.layers)
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, a=_SLOPE)
            layer.bias.zero_()
        layers[-1].weight *= 0.1
        layers[-1].bias.fill_(0.4)  # all of space is outside
    return network


RECIPE = Recipe(
    name="imnet",
    title="IM-NET",
    source="Chen, Zhang: Learning Implicit Fields for Generative Shape Modeling, CVPR 2019",
    summary="occupancy by weighted squares; the value is no distance",
    network=_network,
    sampler=sampler,
    objective=Objective({"weighted_square": (1.0, weighted_square)}),
    sizes={
        "draft": Size(width=256, depth=6, steps=2000, batch=1536, rate=1e-3),
        "balanced": Size(width=512, depth=6, steps=4000, batch=2048, rate=5e-4),
        "fine": Size(width=1024, depth=6, steps=20_000, batch=8192, rate=5e-5),  # as published
    },
    needs_normals=True,
    needs_distance=True,
)
