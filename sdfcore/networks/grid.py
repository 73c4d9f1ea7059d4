"""A small network fed by features on sparse grids that follow the surface.

Coarse grids fill the box; finer ones hold nodes only in the cells near the data, so capacity goes where detail is and
the cost grows with the surface, not with the volume. Where a grid has no node its feature is zero, and trilinear
weights make it fade to that: the field is continuous everywhere.
Source: multi-resolution feature grids, Müller et al. 2022 (instant-ngp); sparse ones round the surface, Takikawa et al.
2021 (NGLOD). Stored densely by block here instead of hashed: no collisions, and the file lists the nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..geometry import Array
from .layers import Softplus, initialise_as_sphere, linears, push

_BLOCK = 8  # nodes along a block of the index: small enough to stay sparse, large enough to keep its table short


class _Index(nn.Module):
    """Which row of the feature table belongs to which node of one grid: blocks of 8³ nodes, only those in use."""

    def __init__(self, cells: int, keys: Tensor, first: int) -> None:
        super().__init__()
        nodes = cells + 1
        self.cells, self.blocks = cells, -(-nodes // _BLOCK)
        ijk = torch.stack([keys // (nodes * nodes), keys // nodes % nodes, keys % nodes], dim=1).long()
        block = self._flat(ijk // _BLOCK, self.blocks)
        used, row = torch.unique(block, return_inverse=True)
        top = torch.zeros(self.blocks**3, dtype=torch.int32)
        top[used] = torch.arange(1, len(used) + 1, dtype=torch.int32)  # row 0 stands for "no block" and stays empty
        table = torch.zeros((len(used) + 1) * _BLOCK**3, dtype=torch.int32)
        table[(row + 1) * _BLOCK**3 + self._flat(ijk % _BLOCK, _BLOCK)] = torch.arange(
            first, first + len(keys), dtype=torch.int32
        )
        self.register_buffer("top", top, persistent=False)
        self.register_buffer("table", table, persistent=False)
        self.top: Tensor
        self.table: Tensor

    @staticmethod
    def _flat(ijk: Tensor, size: int) -> Tensor:
        return (ijk[..., 0] * size + ijk[..., 1]) * size + ijk[..., 2]

    def forward(self, nodes: Tensor) -> Tensor:
        """(..., 3) int32 node coordinates → (...) rows of the feature table, 0 where there is no node."""
        block = self.top[self._flat(nodes >> 3, self.blocks)]
        return self.table[block * _BLOCK**3 + self._flat(nodes & 7, _BLOCK)]


class FeatureGrid(nn.Module):
    """Softplus MLP on position and sparse multi-resolution features, plus a linear read-out of the features.

    Args:
        levels: cells along the unit box's side, one number per grid, coarse to fine.
        nodes: how many nodes each grid holds; set by :meth:`around`, needed to build the network again.
        channels: features per node.
        width, depth: of the MLP.
        beta: sharpness of its softplus.
        radius: of the initial sphere, unit box.
    """

    kind: ClassVar[str] = "grid"

    def __init__(
        self,
        levels: Sequence[int],
        nodes: Sequence[int],
        channels: int = 2,
        width: int = 64,
        depth: int = 2,
        beta: float = 30.0,
        radius: float = 0.5,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "levels": list(levels),
            "nodes": list(nodes),
            "channels": channels,
            "width": width,
            "depth": depth,
            "beta": beta,
            "radius": radius,
        }
        self.levels, self.channels = list(levels), channels
        self.activation = Softplus(beta)
        self.register_buffer("keys", torch.zeros(sum(nodes), dtype=torch.int32))
        self.keys: Tensor
        self.features = nn.Parameter(torch.zeros(1 + sum(nodes), channels))  # row 0: no node, always zero
        inputs = 3 + channels * len(self.levels)
        self.layers = nn.ModuleList(nn.Linear(width if i else inputs, width) for i in range(depth))
        self.last = nn.Linear(width, 1)
        self.linear = nn.Linear(inputs - 3, 1, bias=False)
        corners = [[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]
        self.register_buffer("corners", torch.tensor(corners, dtype=torch.int32), persistent=False)
        self.corners: Tensor
        self._indices: list[_Index] = []
        self._initialise(radius)

    @classmethod
    def around(
        cls, points: Array, levels: Sequence[int], *, dense: int = 16, reach: int = 1, **options: Any
    ) -> FeatureGrid:
        """A network with nodes near ``points`` (N, 3), unit box.

        Args:
            dense: grids of up to so many cells fill the box.
            reach: cells round an occupied one that get nodes too.
        """
        keys = [_keys(points, cells, dense, reach) for cells in levels]
        network = cls(levels, [len(k) for k in keys], **options)
        network.keys.copy_(torch.from_numpy(np.concatenate(keys)))
        return network

    def node_positions(self) -> list[tuple[int, Array]]:
        """Cells and node positions (n, 3) float64 in the unit box, grid by grid."""
        found, offset = [], 0
        for cells, count in zip(self.levels, self.config["nodes"], strict=True):
            keys = self.keys[offset : offset + count].cpu().numpy().astype(np.int64)
            nodes = cells + 1
            ijk = np.stack([keys // (nodes * nodes), keys // nodes % nodes, keys % nodes], axis=1)
            found.append((cells, ijk * (2 / cells) - 1))
            offset += count
        return found

    @torch.no_grad()
    def _initialise(self, radius: float) -> None:
        initialise_as_sphere(linears(self.layers), self.last, radius)
        self.linear.weight.fill_(1 / self.linear.in_features)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._indices = []  # the keys may have changed

    def _apply(self, fn: Any, recurse: bool = True) -> FeatureGrid:
        self._indices = []  # made anew on the new device
        super()._apply(fn, recurse)
        return self

    def _lookups(self) -> list[_Index]:
        if not self._indices:
            first, offset = 1, 0
            for cells, count in zip(self.levels, self.config["nodes"], strict=True):
                index = _Index(cells, self.keys[offset : offset + count].cpu(), first)
                self._indices.append(index.to(self.keys.device))
                first, offset = first + count, offset + count
        return self._indices

    def _corners(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (N, L, 8) of the corners round each point, and the weights (N, L, 3, 2) of their two sides by axis."""
        rows, sides = [], []
        for cells, index in zip(self.levels, self._lookups(), strict=True):
            u = ((points + 1) * (cells / 2)).clamp(0, cells)
            low = u.floor().clamp(max=cells - 1)
            rows.append(index(low.to(torch.int32)[:, None, :] + self.corners))
            sides.append(torch.stack([1 - (u - low), u - low], dim=-1))
        return torch.stack(rows, dim=1), torch.stack(sides, dim=1)

    def _gather(self, rows: Tensor, weights: Tensor) -> Tensor:
        return gathered(self.features, rows, weights, empty=0)

    def forward(self, points: Tensor) -> Tensor:
        """(N, 3) → (N,)"""
        rows, sides = self._corners(points)
        features = self._gather(rows, outer(sides[..., 0, :], sides[..., 1, :], sides[..., 2, :]))
        h = torch.cat([points, features], dim=1)
        for layer in linears(self.layers):
            h = self.activation(layer(h))
        return (self.last(h) + self.linear(features))[:, 0]

    def pushforward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Value (N,) and derivatives (K, N) along ``directions`` (K, N, 3)."""
        rows, sides = self._corners(points)
        x, y, z = sides.unbind(dim=2)
        features = self._gather(rows, outer(x, y, z))
        slope = points.new_tensor([-1.0, 1.0])
        steps = points.new_tensor([cells / 2 for cells in self.levels])[None, :, None]
        pushed = []
        for d in directions * (points.abs() <= 1):  # outside the box the features stay those of its border
            a, b, c = (d[:, i, None, None] * slope for i in range(3))
            weights = (outer(a, y, z) + outer(x, b, z) + outer(x, y, c)) * steps
            pushed.append(self._gather(rows, weights))
        along = torch.stack(pushed)
        h, tangents = torch.cat([points, features], dim=1), torch.cat([directions, along], dim=2)
        for layer in linears(self.layers):
            h, tangents = push(layer, self.activation, h, tangents)
        value = (self.last(h) + self.linear(features))[:, 0]
        return value, tangents @ self.last.weight[0] + along @ self.linear.weight[0]


def gathered(features: Tensor, rows: Tensor, weights: Tensor, empty: int | None = None) -> Tensor:
    """Weighted sums (N, L·C) of ``features`` (R, C) at ``rows`` (N, L, 8), with ``weights`` of the same shape.

    The row ``empty`` counts for nothing and is not taught.
    """
    flat = weights.reshape(-1, 8)
    if features.device.type == "mps":  # has no weighted embedding_bag
        picked = functional.embedding(rows.reshape(-1, 8).long(), features, padding_idx=empty)
        sums = (picked * flat[..., None]).sum(dim=1)
    else:
        sums = functional.embedding_bag(
            rows.reshape(-1, 8), features, per_sample_weights=flat, mode="sum", padding_idx=empty
        )
    return sums.reshape(len(rows), -1)


def outer(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Products (N, L, 8) of per-axis weights (N, L or 1, 2)."""
    product = x[..., :, None, None] * y[..., None, :, None] * z[..., None, None, :]
    return product.flatten(start_dim=-3)


def _keys(points: Array, cells: int, dense: int, reach: int) -> Array:
    """Sorted int32 keys of the nodes of one grid: all of them, or those of the cells near ``points``."""
    if cells + 1 > 1290:  # (cells + 1)³ must stay an int32
        raise ValueError(f"a grid of {cells} cells is too fine; 1289 is the most")
    nodes = cells + 1
    if cells <= dense:
        return np.arange(nodes**3, dtype=np.int32)
    low = np.clip(np.floor((points.astype(np.float64) + 1) * (cells / 2)).astype(np.int64), 0, cells - 1)
    found = np.unique((low[:, 0] * nodes + low[:, 1]) * nodes + low[:, 2])
    for axis in (nodes * nodes, nodes, 1):
        at = found // axis % nodes
        around = [found[(at + s >= 0) & (at + s <= cells)] + s * axis for s in range(-reach, reach + 2)]
        found = np.unique(np.concatenate(around))
    return found.astype(np.int32)
