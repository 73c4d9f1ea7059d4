"""Neural Singular Hessian: a field whose Hessian is singular near the surface (Wang et al., SIGGRAPH Asia 2023).

Of a distance the Hessian always is: nothing changes along the gradient. Asking for a determinant of 0 keeps spurious
critical points away from thin walls and narrow gaps. The network begins as DiGS's sphere; the authors' begins as a
plain SIREN, whose sides fall as they may in short runs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..evidence import Evidence
from ..objectives import At, Objective, eikonal_on_surface, manifold, off_surface, schedule
from ..recipe import Recipe, Size
from ..sampling import HalfUniform, Sampler
from .digs import network


def singularity(at: At) -> Tensor:
    """Half the mean |det H| near the surface. Source: Wang et al. 2023, sec. 3, halved as in the authors' code."""
    (a, b, c), (_, d, e), (_, _, f) = at.near.hessian.permute(1, 2, 0)
    determinant = a * (d * f - e * e) - b * (b * f - c * e) + c * (b * e - c * d)  # of a symmetric matrix, in full
    return 0.5 * determinant.abs().mean()


def _sampler(evidence: Evidence, network: nn.Module, size: Size, seed: int, device: torch.device) -> Sampler:
    return HalfUniform(evidence, size.batch, seed, device, half=1.1, near=True)


RECIPE = Recipe(
    name="singular_hessian",
    title="Singular Hessian",
    source="Wang, Wang, Wang, Chen, Xin, Tu, Wang: Neural-Singular-Hessian: Implicit Neural Representation of "
    "Unoriented Point Clouds by Enforcing Singular Hessian, SIGGRAPH Asia 2023",
    summary="faithful surfaces of points without normals, thin walls too; the distance is poor far away",
    network=network,
    sampler=_sampler,
    # weights and schedule of the authors' code
    objective=Objective(
        {
            "singularity": (schedule((0.2, 3.0), (0.4, 1e-3), (1.0, 1e-4)), singularity),
            "manifold": (7e3, manifold),
            "off_surface": (6e2, off_surface),
            "eikonal": (5e1, eikonal_on_surface),
        }
    ),
    sizes={
        "draft": Size(width=128, depth=4, steps=900, batch=1024, rate=2e-4),
        "balanced": Size(width=256, depth=4, steps=2000, batch=1536, rate=1e-4),
        "fine": Size(width=256, depth=5, steps=10_000, batch=15_000, rate=5e-5),  # as published
    },
    clip=10.0,
)
