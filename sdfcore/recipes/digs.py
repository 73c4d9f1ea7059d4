"""DiGS: a sine network kept smooth by its divergence while it finds the shape (Ben-Shabat et al., CVPR 2022).

For points without normals. The divergence of the gradient, the Laplacian, is small where a field is locally planar;
asking for that first, and letting go later, leads to a simple shape first and to detail later.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..evidence import Evidence
from ..networks import SphereSiren
from ..objectives import At, Objective, eikonal_everywhere, manifold, off_surface, schedule
from ..recipe import Recipe, Size
from ..sampling import HalfUniform, Sampler

_PUBLISHED_BATCH = 15_000
_LEAST, _MOST = 0.1, 50.0  # between which |Δf| is kept, as in the authors' code


def divergence(at: At) -> Tensor:
    """Mean |Δf| off the surface, each kept to [0.1, 50]. Source: Ben-Shabat et al. 2022, sec. 3.2."""
    return at.space.laplacian.abs().clamp(_LEAST, _MOST).mean()


def fading(weight: float) -> Callable[[float], float]:
    """``weight`` up to a fifth of the steps, nothing from two fifths on, as published."""
    return schedule((0.2, weight), (0.4, 0.0))


def scaling(size: Size) -> float:
    """Of the first sphere: the published 0.1 for runs of the published length.

    That field has a sixth of a distance's slope, and a short run that has to make it steeper does so with noise.
    """
    return 0.1 if size.batch >= _PUBLISHED_BATCH else 0.4


def network(evidence: Evidence, size: Size) -> nn.Module:
    return SphereSiren(size.width, size.depth, scaling=scaling(size))


def sampler(evidence: Evidence, network: nn.Module, size: Size, seed: int, device: torch.device) -> Sampler:
    return HalfUniform(evidence, size.batch, seed, device, half=1.1)


RECIPE = Recipe(
    name="digs",
    title="DiGS",
    source="Ben-Shabat, Hewa Koneputugodage, Gould: DiGS: Divergence Guided Shape Implicit Neural Representation for "
    "Unoriented Point Clouds, CVPR 2022",
    summary="detail from points without normals; slow, and the distance is rough far away",
    network=network,
    sampler=sampler,
    # weights of the authors' code; the divergence first: it brings the values and gradients the others read
    objective=Objective(
        {
            "divergence": (fading(1e2), divergence),
            "manifold": (3e3, manifold),
            "off_surface": (1e2, off_surface),
            "eikonal": (5e1, eikonal_everywhere),
        }
    ),
    sizes={
        "draft": Size(width=128, depth=4, steps=1300, batch=1536, rate=2e-4),
        "balanced": Size(width=256, depth=4, steps=2500, batch=2048, rate=1e-4),
        "fine": Size(width=256, depth=5, steps=10_000, batch=15_000, rate=5e-5),  # as published
    },
    clip=10.0,
)
