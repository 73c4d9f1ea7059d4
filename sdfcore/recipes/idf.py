"""Implicit displacement fields: a smooth base and the detail that stands out from it, apart (Yifan et al., ICLR 2022).

Two sine networks of a low and a high frequency. The base learns alone first, then the loss of the displaced field takes
over; what stands out can afterwards be taken off, made stronger, or put onto another shape (:mod:`~sdfcore.detail`).
"""

from __future__ import annotations

import math

import torch
from torch import nn

from ..evidence import Evidence
from ..networks import Displaced, Siren
from ..objectives import At, Objective, Term, Weight, alignment, eikonal_everywhere, manifold, off_surface
from ..recipe import Recipe, Size
from ..sampling import HalfUniform, Sampler

BASE_OMEGA, DETAIL_OMEGA = 15.0, 60.0  # published
AMPLITUDE, REACH = 0.05, 0.05  # published, unit box
_ALONE = 0.2  # share of the steps in which the base learns alone, T_m


def base_share(progress: float) -> float:
    """κ, the weight of the base's own loss: 1 at first, then 0 along a cosine. Source: Yifan et al. 2022, eq. (11)."""
    return 0.5 * (1 + math.cos(math.pi * max(0.0, progress - _ALONE) / (1 - _ALONE)))


def _of_base(term: Term) -> Term:
    """``term`` of the base alone; of a field that has none, of that field."""

    def of(at: At) -> torch.Tensor:
        if "base" not in at.__dict__:  # the derivatives are shared by all terms of a step
            at.__dict__["base"] = At.of(getattr(at.space.field, "base", at.space.field), at.batch, at.progress)
        return term(at.__dict__["base"])

    return of


def _both(weight: float, term: Term, name: str) -> dict[str, tuple[Weight, Term]]:
    return {
        name: (lambda progress: weight * (1 - base_share(progress)), term),
        f"base_{name}": (lambda progress: weight * base_share(progress), _of_base(term)),
    }


def _network(evidence: Evidence, size: Size) -> nn.Module:
    detail = Siren(size.width, size.depth, omega=DETAIL_OMEGA)
    nn.init.zeros_(detail.last.weight)  # at first nothing stands out
    nn.init.zeros_(detail.last.bias)
    return Displaced(Siren(size.width, size.depth, omega=BASE_OMEGA), detail, AMPLITUDE, REACH)


def _sampler(evidence: Evidence, network: nn.Module, size: Size, seed: int, device: torch.device) -> Sampler:
    return HalfUniform(evidence, size.batch, seed, device)


RECIPE = Recipe(
    name="idf",
    title="Displacement field",
    source="Yifan, Rahmann, Sorkine-Hornung: Geometry-Consistent Neural Shape Representation with Implicit "
    "Displacement Fields, ICLR 2022",
    summary="a smooth base and fine detail apart, to soften, strengthen or transfer it; better with normals",
    network=_network,
    sampler=_sampler,
    # weights of the paper, sec. 5: 400, 40, 50, 5
    objective=Objective(
        {
            **_both(400.0, manifold, "manifold"),
            **_both(40.0, alignment, "normals"),
            **_both(50.0, off_surface, "off_surface"),
            **_both(5.0, eikonal_everywhere, "eikonal"),
        }
    ),
    sizes={
        "draft": Size(width=90, depth=3, steps=520, batch=1536, rate=1e-3),
        "balanced": Size(width=180, depth=3, steps=2500, batch=2048, rate=4e-4),
        "fine": Size(width=256, depth=3, steps=10_000, batch=8192, rate=1e-4),  # the published size and rate
    },
    normal_terms=("normals", "base_normals"),
    clip=1.0,
    any_sign=True,
)
