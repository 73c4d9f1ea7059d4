"""StEik: the divergence along the gradient only, and quadratic neurons (Yang et al., NeurIPS 2023).

The eikonal loss by itself is unstable where a field is steeper than 1 in the normal direction; damping the second
derivative in that direction alone steadies it and, unlike DiGS's divergence, smooths no detail along the surface.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..evidence import Evidence
from ..networks import SphereSiren
from ..objectives import At, Objective, eikonal_everywhere, manifold, off_surface
from ..recipe import Recipe, Size
from .digs import fading, sampler, scaling


def directional_divergence(at: At) -> Tensor:
    """Mean |∇fᵀ H ∇f| / ‖∇f‖² off the surface; of a distance it is 0.

    Source: Yang et al. 2023, sec. 4.2; divided by the squared length as in the authors' code.
    """
    along = at.space.curvature_along(at.space.gradient)
    return (along.abs() / (at.space.gradient.square().sum(dim=-1) + 1e-5)).mean()


def network(evidence: Evidence, size: Size) -> nn.Module:
    return SphereSiren(size.width, size.depth, quadratic=True, scaling=scaling(size))


RECIPE = Recipe(
    name="steik",
    title="StEik",
    source="Yang, Sun, Sundaramoorthi, Yezzi: StEik: Stabilizing the Optimization of Neural Signed Distance Functions "
    "and Finer Shape Representation, NeurIPS 2023",
    summary="as DiGS, steadier and finer; without normals",
    network=network,
    sampler=sampler,
    objective=Objective(
        {
            "divergence": (fading(1e2), directional_divergence),
            "manifold": (2e3, manifold),  # weights of the authors' code
            "off_surface": (1e2, off_surface),
            "eikonal": (5e1, eikonal_everywhere),
        }
    ),
    sizes={
        "draft": Size(width=96, depth=4, steps=1100, batch=1024, rate=5e-5),
        "balanced": Size(width=128, depth=5, steps=2500, batch=1536, rate=1e-4),
        "fine": Size(width=128, depth=5, steps=10_000, batch=15_000, rate=1e-4),  # as published
    },
    clip=10.0,
)
