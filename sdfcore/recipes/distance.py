"""Distance: supervised by the signed distance that the input itself gives.

A mesh gives exact distances with the sign of its winding number; oriented points give distances to their tangent planes
near by and to themselves farther off, with the sign of the points' winding number. The field is taught |f| and normals
on the surface and those distances round it, so there is nothing to discover: no stray sheets, and few steps. It begins
at the coarse distances of its finest full grid, not at a sphere, unless they jump, as across a hole. Where nothing is
open and noise does not matter it begins at those of all its grids, and is only mended, in small steps.
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
from ..networks.grid import jumps
from ..objectives import Objective, clamped_distance, far_distance, manifold, normals_along, relative_distance
from ..recipe import Recipe, Size
from ..sampling import Labelled, Sampler

_NODES_PER_CELL = 5.4  # nodes of the finest grid per square of its side on the surface, measured on five shapes
_NOISE = 12.0  # cells of so many deviations of the noise; fewer follow it
_COARSEST, _DENSE = 8, 24
_ACROSS, _FEW = 2.0, 0.01  # cells across, for two sides to be held apart without an MLP, but for this share
_THIN = 4.0  # in the finest grid's half-sides: what is no thicker than two of its cells


def levels(evidence: Evidence, nodes: int) -> list[int]:
    """Grids, each twice as fine as the last; the finest has about ``nodes`` nodes.

    Its cells are no smaller than the spacing, nor than a few times the noise, which they then average away.
    """
    side = max(_finest_side(evidence, nodes), _NOISE * evidence.noise)
    finest = float(np.clip(2 / side, 2 * _COARSEST, 1200))
    count = 1 + int(np.floor(np.log2(finest / _COARSEST)))
    return [round(finest / 2**k) for k in range(count)][::-1]


def _finest_side(evidence: Evidence, nodes: int) -> float:
    return max(evidence.spacing, float(np.sqrt(_NODES_PER_CELL * evidence.area / nodes)))


def near(evidence: Evidence, size: Size) -> bool:
    """Whether the distances that are known can be taken for the field's.

    There is no noise and no hole to be smoothed over, and the cells are small enough for all but little that is thin.
    """
    side = _finest_side(evidence, size.nodes)
    if evidence.oracle is None or _NOISE * evidence.noise > side or evidence.share_thinner(_ACROSS * side) > _FEW:
        return False
    return not jumps(evidence.oracle, max(cells for cells in levels(evidence, size.nodes) if cells <= _DENSE))


def _network(evidence: Evidence, size: Size) -> nn.Module:
    grids = levels(evidence, size.nodes)
    channels = 1 if size.near else 2  # one for the distance, that the MLP does not hear
    network = FeatureGrid.around(
        evidence.points, grids, dense=_DENSE, channels=channels, width=size.width, depth=size.depth
    )
    if evidence.oracle is not None:
        network.begin_at(evidence.oracle, finer=size.near)
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
    near=near,
    near_sizes={
        "draft": Size(width=64, depth=2, steps=250, batch=1024, rate=1e-5, nodes=200_000, near=True),
        "balanced": Size(width=64, depth=2, steps=400, batch=2048, rate=1e-5, nodes=600_000, near=True),
        "fine": Size(width=64, depth=3, steps=600, batch=4096, rate=1e-5, nodes=1_600_000, near=True),
    },
    needs_normals=True,
    needs_distance=True,
    normal_terms=("normals",),
)
