"""Distance: supervised by the signed distance that the input itself gives.

A mesh gives exact distances with the sign of its winding number; oriented points give distances to their tangent planes
near by and to themselves farther off, with the sign of the points' winding number. The field is taught |f| and normals
on the surface and those distances round it, so there is nothing to discover: no stray sheets, and few steps. It begins
at the coarse distances of its finest full grid, not at a sphere, unless they jump, as across a hole.
Sources: supervision by distance, Park et al. 2019 (DeepSDF), whose clamped loss keeps the sign right everywhere; sign
from winding numbers, Barill et al. 2018; sparse feature grids, Takikawa et al. 2021 (NGLOD) and Müller et al. 2022
(instant-ngp).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..evidence import Evidence
from ..geometry import Array
from ..networks import FeatureGrid
from ..objectives import Objective, clamped_distance, far_distance, manifold, normals_along, relative_distance
from ..recipe import Recipe, Size
from ..sampling import Labelled, Sampler

_NODES_PER_CELL = 5.4  # nodes of the finest grid per square of its side on the surface, measured on five shapes
_NOISE = 12.0  # cells of so many deviations of the noise; fewer follow it
_COARSEST, _DENSE = 8, 24
_THIN = 4.0  # in the finest grid's half-sides: what is no thicker than two of its cells


def levels(evidence: Evidence, nodes: int) -> list[int]:
    """Grids, each twice as fine as the last; the finest has about ``nodes`` nodes.

    Its cells are no smaller than the spacing, nor than a few times the noise, which they then average away.
    """
    affordable = np.sqrt(_NODES_PER_CELL * evidence.area / nodes)
    side = max(evidence.spacing, _NOISE * evidence.noise, affordable)
    finest = float(np.clip(2 / side, 2 * _COARSEST, 1200))
    count = 1 + int(np.floor(np.log2(finest / _COARSEST)))
    return [round(finest / 2**k) for k in range(count)][::-1]


def _network(evidence: Evidence, size: Size) -> nn.Module:
    grids = levels(evidence, size.nodes)
    network = FeatureGrid.around(evidence.points, grids, dense=_DENSE, width=size.width, depth=size.depth)
    if evidence.oracle is not None:
        network.begin_at(evidence.oracle)
    return network


def _cells(network: nn.Module) -> list[tuple[float, Array]]:
    """Half a cell's side and the node positions of each sparse grid, unit box."""
    if not isinstance(network, FeatureGrid):
        return []
    return [(2 / cells, nodes) for cells, nodes in network.node_positions() if cells > _DENSE]


def _sampler(evidence: Evidence, network: nn.Module, size: Size, seed: int, device: torch.device) -> Sampler:
    pool = int(np.clip(300 * size.steps, 60_000, 600_000))
    thin = _THIN / network.levels[-1] if isinstance(network, FeatureGrid) else 0.0
    return Labelled(evidence, size.batch, seed, device, cells=_cells(network), pool=pool, thin=thin)


RECIPE = Recipe(
    name="distance",
    title="Distance",
    source="after Park et al. 2019 (DeepSDF), Barill et al. 2018 (fast winding numbers), Takikawa et al. 2021 (NGLOD)",
    summary="exact distances of a mesh or of points, on sparse feature grids; fast, robust, closes holes",
    network=_network,
    sampler=_sampler,
    objective=Objective(
        {
            "normals": (0.01, normals_along),  # first: it brings the values that the next term reads
            "manifold": (3.0, manifold),
            "distance": (1.0, relative_distance()),
            "clamped": (0.1, clamped_distance(0.1)),
            "far": (1.0, far_distance()),  # costs the surface a few per cent, and makes the far field ten times truer
        }
    ),
    sizes={
        "draft": Size(width=64, depth=2, steps=600, batch=1024, rate=6e-4, nodes=200_000),
        "balanced": Size(width=64, depth=2, steps=1400, batch=2048, rate=5e-4, nodes=300_000),
        "fine": Size(width=64, depth=3, steps=8000, batch=4096, rate=5e-4, nodes=800_000),
    },
    needs_normals=True,
    needs_distance=True,
    normal_terms=("normals",),
)
