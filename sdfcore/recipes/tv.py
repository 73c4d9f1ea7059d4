"""A distance whose slope varies as little as can be (Clémot & Digne, SMI 2023): made to be asked for skeletons.

‖∇f‖ of a distance is 1 but for the medial axis, where it drops; total variation keeps the drop sharp instead of washing
it out, as the eikonal term alone does. Weights, schedules and width are those of the authors' code. Ours are DiGS's
network and sphere instead of a SIREN taught one beforehand, an unsquared eikonal term that is asked on the surface too,
and hints without directions in every batch, not at fixed points.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..evidence import Evidence
from ..objectives import At, Objective, alignment, eikonal_everywhere
from ..recipe import Recipe, Size
from ..sampling import Footed, Sampler
from .digs import network

_EPOCHS = 50  # published; the schedules are in these


def total_variation(at: At) -> Tensor:
    """Mean ‖∇‖∇f‖‖ = ‖H ∇f‖ / ‖∇f‖ in space. Source: Clémot & Digne 2023, the TV term."""
    gradient = at.space.gradient
    length = gradient.norm(dim=-1).clamp(min=1e-6)
    return (at.space.hessian_times(gradient).norm(dim=-1) / length).mean()


def manifold_squared(at: At) -> Tensor:
    """Mean f² on the surface. Source: Clémot & Digne 2023, the data term."""
    return at.surface.value.square().mean()


def hints(at: At) -> Tensor:
    """Mean (f - d)² in space: where the distance is known beforehand. Source: Clémot & Digne 2023, the hints."""
    return (at.space.value - at.batch.known_distances).square().mean()


def _sampler(evidence: Evidence, network: nn.Module, size: Size, seed: int, device: torch.device) -> Sampler:
    return Footed(evidence, size.batch, seed, device, uniform=0.8, signed=True, pool=min(100_000, 50 * size.steps))


RECIPE = Recipe(
    name="tv",
    title="Total variation",
    source="Clémot, Digne: Neural skeleton: Implicit neural representation away from the surface, SMI 2023",
    summary="a distance that is sharp at the medial axis, for skeletons; needs normals",
    network=network,
    sampler=_sampler,
    # weights of the authors' code: 100 (100 f² + alignment), 200, 100 for 20 of 50 epochs, 20 / (1 + (epoch / 10)²)
    objective=Objective(
        {
            "variation": (lambda progress: 20 / (1 + (progress * _EPOCHS / 10) ** 2), total_variation),
            "eikonal": (200.0, eikonal_everywhere),
            "manifold": (1e4, manifold_squared),
            "normals": (100.0, alignment),
            "hints": (lambda progress: 100.0 if progress < 0.4 else 0.0, hints),
        }
    ),
    sizes={
        "draft": Size(width=64, depth=4, steps=1000, batch=1024, rate=2e-4),
        "balanced": Size(width=64, depth=6, steps=3000, batch=2048, rate=2e-4),
        "fine": Size(width=64, depth=6, steps=10_000, batch=8192, rate=2e-4),  # the published size
    },
    needs_normals=True,
    needs_distance=True,
    normal_terms=("normals",),
    clip=10.0,
)
