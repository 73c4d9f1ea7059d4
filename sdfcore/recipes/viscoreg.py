"""ViscoReg: the eikonal equation with a viscosity that fades (Krishnan & Duraiswami 2025).

‖∇f‖ - 1 = ε Δf has one smooth solution, which tends to the distance as ε goes to 0: that is how the theory of viscosity
solutions singles the distance out among all that meet the eikonal equation.
"""

from __future__ import annotations

from torch import Tensor

from ..objectives import At, Objective, eikonal_everywhere, eikonal_on_surface, manifold, off_surface, schedule
from ..recipe import Recipe, Size
from .digs import network, sampler

# ε by progress, of the authors' settings
VISCOSITY = schedule((0.0, 0.5), (0.2, 0.4), (0.4, 0.04), (0.6, 0.005), (0.8, 0.0))


def viscous_eikonal(at: At) -> Tensor:
    """Mean | ‖∇f‖ - 1 - ε Δf | off the surface, ε by progress, and mean | ‖∇f‖ - 1 | on it; one mean, once ε is 0.

    Source: Krishnan & Duraiswami 2025, sec. 4, and the authors' code for the second part and for the end.
    """
    epsilon = VISCOSITY(at.progress)
    if not epsilon:
        return eikonal_everywhere(at)
    curved = epsilon * at.space.laplacian
    return (at.space.gradient.norm(dim=-1) - 1 - curved).abs().mean() + eikonal_on_surface(at)


RECIPE = Recipe(
    name="viscoreg",
    title="ViscoReg",
    source="Krishnan, Duraiswami: ViscoReg: Neural Signed Distance Functions via Viscosity Solutions, 2025",
    summary="as DiGS, with a viscosity that fades instead of a divergence; without normals",
    network=network,
    sampler=sampler,
    objective=Objective(
        {"eikonal": (5e1, viscous_eikonal), "manifold": (3e3, manifold), "off_surface": (1e2, off_surface)}
    ),
    sizes={
        "draft": Size(width=128, depth=4, steps=1200, batch=1536, rate=2e-4),
        "balanced": Size(width=128, depth=5, steps=2500, batch=2048, rate=1e-4),
        "fine": Size(width=128, depth=6, steps=10_000, batch=15_000, rate=1e-4),  # as published
    },
    clip=10.0,
)
