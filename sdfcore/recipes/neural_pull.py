"""Neural-Pull: pull points onto the surface along the gradient, by the field's value (Ma et al., ICML 2021).

The loss is the paper's, squared, and so are width, depth, rate and steps of ``fine``. The network is IGR's softplus,
whose gradient, which the pull follows, is continuous; the authors' is of ReLUs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..evidence import Evidence
from ..networks import MLP
from ..objectives import At, Objective
from ..recipe import Recipe, Size
from ..sampling import Footed, Sampler


def pull(at: At) -> Tensor:
    """Mean ‖x - f ∇f/‖∇f‖ - t‖², t the surface's point nearest to x. Source: Ma et al. 2021, eq. (1) and (2)."""
    step = at.space.value[:, None] * functional.normalize(at.space.gradient, dim=-1)
    return (at.batch.space - step - at.batch.known_feet).square().sum(dim=-1).mean()


def _network(evidence: Evidence, size: Size) -> nn.Module:
    return MLP(size.width, size.depth, skip=size.depth // 2, radius=0.8)


def _sampler(evidence: Evidence, network: nn.Module, size: Size, seed: int, device: torch.device) -> Sampler:
    """As published near the surface only; a few wide points more keep what is far away from turning over."""
    return Footed(evidence, size.batch, seed, device, wide=0.1, uniform=0.1, pool=min(250_000, 100 * size.steps))


RECIPE = Recipe(
    name="neural_pull",
    title="Neural-Pull",
    source="Ma, Han, Liu, Zwicker: Neural-Pull: Learning Signed Distance Functions from Point Clouds by Learning to "
    "Pull Space onto Surfaces, ICML 2021",
    summary="distances from points without normals, by pulling space onto them",
    network=_network,
    sampler=_sampler,
    objective=Objective({"pull": (100.0, pull)}),  # the weight only keeps the numbers readable
    sizes={
        "draft": Size(width=128, depth=5, steps=1500, batch=1536, rate=1e-3),
        "balanced": Size(width=256, depth=8, steps=3000, batch=2048, rate=5e-4),
        "fine": Size(width=512, depth=8, steps=40_000, batch=5000, rate=1e-4),  # the published length
    },
)
