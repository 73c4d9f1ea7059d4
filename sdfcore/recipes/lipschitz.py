"""A 1-Lipschitz network that learns sides only (Coiffier & Béthune, SGP 2024).

The network cannot be steeper than 1, so a loss that asks for the largest possible values on the right side makes it a
distance: one that never says more than the truth, by construction and everywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..evidence import Evidence
from ..networks import Lipschitz
from ..objectives import At, Objective
from ..recipe import Recipe, Size
from ..sampling import Footed, Sampler

MARGIN = 0.01


def _sides(at: At) -> Tensor:
    """(M,) f on the right side: positive where its sign is that of the distance."""
    return at.space.value * at.batch.known_distances.sign()


def kantorovich_rubinstein(at: At) -> Tensor:
    """Mean -y f, y = ±1 the side. Source: Coiffier & Béthune 2024, the hKR loss, first part: least of a distance."""
    return -_sides(at).mean()


def hinge(at: At) -> Tensor:
    """Mean max(0, m - y f), m = 0.01. Source: Coiffier & Béthune 2024, the hKR loss, second part."""
    return (MARGIN - _sides(at)).clamp(min=0).mean()


def _network(evidence: Evidence, size: Size) -> nn.Module:
    return Lipschitz(size.width, size.depth)


def _sampler(evidence: Evidence, network: nn.Module, size: Size, seed: int, device: torch.device) -> Sampler:
    return Footed(evidence, size.batch, seed, device, uniform=0.8, signed=True, pool=min(250_000, 50 * size.steps))


# λ. Published: 1 at first, 10 and 100 after 5 and 10 of 200 epochs. While it is small, what is more of the box (the
# outside) lifts the whole field, which short fits do not recover from: on a scan, in 20 s, an error of 3.8, not 0.6.
_HARD = 100.0


RECIPE = Recipe(
    name="lipschitz",
    title="1-Lipschitz",
    source="Coiffier, Béthune: 1-Lipschitz Neural Distance Fields, SGP 2024; layers of Araujo et al., ICLR 2023",
    summary="a certified lower bound of the distance, safe for ray casting; rounds detail",
    network=_network,
    sampler=_sampler,
    objective=Objective({"transport": (1.0, kantorovich_rubinstein), "hinge": (_HARD, hinge)}),
    sizes={
        "draft": Size(width=64, depth=10, steps=2000, batch=1024, rate=5e-3),
        "balanced": Size(width=128, depth=15, steps=3000, batch=1536, rate=2e-3),
        "fine": Size(width=128, depth=20, steps=30_000, batch=4096, rate=5e-4),  # the published size
    },
    needs_normals=True,
    needs_distance=True,
    certified=True,
)
