"""Sobolev training: values and slopes of a signed distance (Czarnecki et al., NeurIPS 2017); SALD's supervised twin."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..evidence import Evidence
from ..networks import MLP
from ..objectives import At, Objective
from ..recipe import Recipe, Size
from ..sampling import Footed, Sampler

_SLOPE = 0.01  # weight of the slopes: distances near the surface are a tenth of a unit and less, slopes are 1


def signed_slope(at: At) -> Tensor:
    """Mean ‖∇f - ∇d‖² round the surface, d the signed distance. Source: Czarnecki et al. 2017, eq. (1), K = 1."""
    wanted = at.unsigned[1] * at.batch.known_distances.sign()[:, None]
    return (at.space.gradient - wanted).square().sum(dim=-1).mean()


def signed_value(at: At) -> Tensor:
    """Mean (f - d)². Source: Czarnecki et al. 2017, eq. (1), first term."""
    return (at.space.value - at.batch.known_distances).square().mean()


def _network(evidence: Evidence, size: Size) -> nn.Module:
    return MLP(size.width, size.depth, skip=size.depth // 2)


def _sampler(evidence: Evidence, network: nn.Module, size: Size, seed: int, device: torch.device) -> Sampler:
    return Footed(evidence, size.batch, seed, device, signed=True, pool=min(250_000, 50 * size.steps))


RECIPE = Recipe(
    name="sobolev",
    title="Sobolev",
    source="Czarnecki, Osindero, Jaderberg, Świrszcz, Pascanu: Sobolev Training for Neural Networks, NeurIPS 2017",
    summary="regression of exact distances and their slopes: a true distance far from the surface, too",
    network=_network,
    sampler=_sampler,
    objective=Objective({"slope": (_SLOPE, signed_slope), "value": (1.0, signed_value)}),
    sizes={
        "draft": Size(width=128, depth=5, steps=1500, batch=1536, rate=2e-3),
        "balanced": Size(width=256, depth=8, steps=3000, batch=2048, rate=1e-3),
        "fine": Size(width=512, depth=8, steps=20_000, batch=8192, rate=5e-4),
    },
    needs_normals=True,
    needs_distance=True,
)
