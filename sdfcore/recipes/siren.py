"""SIREN: a sine network on points, with or without normals (Sitzmann et al., NeurIPS 2020).

Without normals nothing in the loss tells inside from outside, and the signs of separate regions fall as they may. The
weights are the authors' for means that are each over the term's own points; their code takes all of them over surface
and space together, where the eikonal term weighs twice as much beside the others.
"""

from __future__ import annotations

import torch
from torch import nn

from ..evidence import Evidence
from ..networks import Siren
from ..objectives import Objective, alignment, eikonal_everywhere, manifold, off_surface
from ..recipe import Recipe, Size
from ..sampling import HalfUniform, Sampler


def _network(evidence: Evidence, size: Size) -> nn.Module:
    return Siren(size.width, size.depth)


def _sampler(evidence: Evidence, network: nn.Module, size: Size, seed: int, device: torch.device) -> Sampler:
    return HalfUniform(evidence, size.batch, seed, device)


RECIPE = Recipe(
    name="siren",
    title="SIREN",
    source="Sitzmann, Martel, Bergman, Lindell, Wetzstein: Implicit Neural Representations with Periodic Activation "
    "Functions, NeurIPS 2020",
    summary="sharp detail from points, better with normals; may leave stray sheets where there are no points",
    network=_network,
    sampler=_sampler,
    # Sitzmann et al. 2020, eq. (6): 3e3, 1e2, 1e2, 5e1
    objective=Objective(
        {
            "manifold": (3e3, manifold),
            "normals": (1e2, alignment),
            "off_surface": (1e2, off_surface),
            "eikonal": (5e1, eikonal_everywhere),
        }
    ),
    sizes={
        "draft": Size(width=128, depth=3, steps=1000, batch=2048, rate=1e-3),
        "balanced": Size(width=256, depth=4, steps=2500, batch=3072, rate=2e-4),
        "fine": Size(width=256, depth=4, steps=10000, batch=15000, rate=1e-4),  # the published rate and length
    },
    normal_terms=("normals",),
    clip=1.0,
    any_sign=True,
)
