"""A hashed multi-resolution feature grid on exact distances, after instant-ngp (Müller et al., SIGGRAPH 2022).

The published loss is relative, and lets the field be off by a hundredth of the box far away; a term of ours does not.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..evidence import Evidence
from ..networks import HashGrid
from ..objectives import At, Objective, far_distance
from ..recipe import Recipe, Size
from ..sampling import Labelled, Sampler

_FLOOR = 0.01  # of the denominator, as published


def relative_error(at: At) -> Tensor:
    """Mean |f - d| / (|d| + 0.01) round the surface, |f| / 0.01 on it. Source: Müller et al. 2022, sec. 5.2 (MAPE)."""
    off = (at.space.value - at.batch.known_distances).abs() / (at.batch.known_distances.abs() + _FLOOR)
    return 0.5 * (off.mean() + at.surface.value.abs().mean() / _FLOOR)


def _network(evidence: Evidence, size: Size) -> nn.Module:
    """An eighth as many rows as ``nodes`` for each grid; the finest cell is no smaller than the points' spacing."""
    finest = int(np.clip(2 / evidence.spacing, 64, 1024))
    log_rows = int(np.log2(max(size.nodes // 8, 2)))
    return HashGrid(levels=12, finest=finest, log_rows=log_rows, width=size.width, depth=size.depth)


def _sampler(evidence: Evidence, network: nn.Module, size: Size, seed: int, device: torch.device) -> Sampler:
    return Labelled(evidence, size.batch, seed, device, pool=int(np.clip(300 * size.steps, 60_000, 600_000)))


RECIPE = Recipe(
    name="hash",
    title="Hash grid",
    source="Müller, Evans, Schied, Keller: Instant Neural Graphics Primitives with a Multiresolution Hash Encoding, "
    "SIGGRAPH 2022",
    summary="exact distances on hashed grids: fast and detailed, as rough as its cells; for meshes",
    network=_network,
    sampler=_sampler,
    objective=Objective({"relative": (1.0, relative_error), "far": (3.0, far_distance())}),
    sizes={
        "draft": Size(width=64, depth=2, steps=800, batch=1536, rate=5e-3, nodes=2**17),
        "balanced": Size(width=64, depth=2, steps=2000, batch=3072, rate=3e-3, nodes=2**19),
        "fine": Size(width=64, depth=2, steps=10_000, batch=8192, rate=2e-3, nodes=2**22),  # the published table
    },
    needs_normals=True,
    needs_distance=True,
)
