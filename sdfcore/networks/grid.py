"""A small network fed by features on sparse grids that follow the surface.

Coarse grids fill the box; finer ones hold nodes only in the cells near the data, so capacity goes where detail is and
the cost grows with the surface, not with the volume. Where a grid has no node its feature is zero, and trilinear
weights make it fade to that: the field is continuous everywhere.
Source: multi-resolution feature grids, Müller et al. 2022 (instant-ngp); sparse ones round the surface, Takikawa et al.
2021 (NGLOD). Stored densely by block here instead of hashed: no collisions, and the file lists the nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..geometry import Array
from .gathering import gathered, trilinear
from .layers import Softplus, initialise_as_sphere, linears, push

_BLOCK = 8  # nodes along a block of the index: small enough to stay sparse, large enough to keep its table short


class Cells(nn.Module):
    """Which rows of the feature table belong to the corners of which cell, of all grids at once.

    A cell is found in two steps: its block of 8³ cells, of which only those in use exist, and its place in there. What
    is found is the number of the cell's eight rows; so all work but the last step is for cells, not for corners.

    Args:
        levels: cells along the box's side, grid by grid.
        keys: the nodes of each grid; their rows follow each other from 1 on, and row 0 stands for "no node".
        shapes: for so many shapes side by side: their grids one shape after another, as many for each.
    """

    def __init__(self, levels: Sequence[int], keys: Sequence[Tensor], shapes: int | None = None) -> None:
        super().__init__()
        tops, tables, rows, bases = [], [torch.zeros(_BLOCK**3, dtype=torch.int32)], [torch.zeros(1, 8)], [0]
        blocks, cells, first = 1, 1, 1  # number 0 of each stands for "none"
        for side, held in zip(levels, keys, strict=True):
            top, table, corners = _of_grid(side, held.long(), first)
            tops.append(torch.where(top > 0, top + (blocks - 1), 0))
            tables.append(torch.where(table > 0, table + (cells - 1), 0))
            rows.append(corners)
            blocks, cells, first = blocks + len(table) // _BLOCK**3, cells + len(corners), first + len(held)
            bases.append(bases[-1] + len(top))
        sides = torch.tensor([float(side) for side in levels])
        self.register_buffer("top", torch.cat(tops).to(torch.int32), persistent=False)
        self.register_buffer("table", torch.cat(tables).to(torch.int32), persistent=False)
        self.register_buffer("rows", torch.cat(rows).to(torch.int32), persistent=False)
        by_grid = (-1,) if shapes is None else (shapes, 1, len(levels) // shapes)
        base, across = torch.tensor(bases[:-1], dtype=torch.int32), (-(-(sides + 1) // _BLOCK)).to(torch.int32)
        self.register_buffer("base", base.reshape(by_grid), persistent=False)
        self.register_buffer("across", across.reshape(by_grid), persistent=False)
        self.register_buffer("sides", sides.reshape(*by_grid, 1), persistent=False)
        self.top: Tensor
        self.table: Tensor
        self.rows: Tensor
        self.base: Tensor
        self.across: Tensor
        self.sides: Tensor

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1, 3) → rows (N, L, 8) of the corners of the cells they lie in, and where in these (N, L, 3), in [0, 1].

        Other points in every grid are (N, L, 3). Of several shapes (S, N, 1, 3) → (S, N, L, 8) and (S, N, L, 3).
        """
        u = ((points + 1) * (self.sides / 2)).clamp(min=0).minimum(self.sides)
        low = u.floor().minimum(self.sides - 1)
        whole = torch.int64 if torch.compiler.is_compiling() else torch.int32  # ONNX has indices of 64 bits only
        x, y, z = low.to(whole).unbind(dim=-1)
        block = ((x >> 3) * self.across + (y >> 3)) * self.across + (z >> 3) + self.base
        place = (self.top[block] << 9) | ((x & 7) << 6) | ((y & 7) << 3) | (z & 7)
        cell = self.table[place]
        return self.rows.index_select(0, cell.reshape(-1)).reshape(*cell.shape, 8), u - low


def _of_grid(side: int, keys: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
    """Blocks (B³,) → number of the block in use, from 1, or 0; places in these → number of the cell, from 1, or 0;
    and of each cell its rows (C, 8). The nodes ``keys`` have the rows from ``first`` on."""
    across, nodes = -(-(side + 1) // _BLOCK), side + 1
    ijk = torch.stack([keys // (nodes * nodes), keys // nodes % nodes, keys % nodes], dim=1)
    around = (ijk[:, None] - _CORNERS).reshape(-1, 3)  # the cells of which a node is a corner, many times
    around = around[((around >= 0) & (around < side)).all(dim=1)]
    blocks = _flat(around >> 3, across)
    top = torch.zeros(across**3, dtype=torch.long)
    top[blocks] = 1
    top[_flat(ijk >> 3, across)] = 1
    used = top.nonzero()[:, 0]
    top[used] = torch.arange(1, len(used) + 1)
    cell_of = torch.zeros(len(used) * _BLOCK**3, dtype=torch.long)
    cell_of[(top[blocks] - 1) * _BLOCK**3 + _flat(around & 7, _BLOCK)] = 1
    places = cell_of.nonzero()[:, 0]
    cell_of[places] = torch.arange(1, len(places) + 1)
    # Nodes in a table of the same blocks; the last entry stands for all that is in none of them.
    place = lambda at: (top[_flat(at >> 3, across)] - 1) * _BLOCK**3 + _flat(at & 7, _BLOCK)
    row_of = torch.zeros((len(used) + 1) * _BLOCK**3, dtype=torch.long)
    row_of[place(ijk)] = torch.arange(first, first + len(keys))
    block, within = used[places // _BLOCK**3], places % _BLOCK**3
    corner = torch.stack([block // (across * across), block // across % across, block % across], dim=1) << 3
    cells = corner + torch.stack([within >> 6, within >> 3 & 7, within & 7], dim=1)
    corners = torch.stack([row_of[place(cells + offset)] for offset in _CORNERS], dim=1)
    return top, cell_of, corners


_JUMP = 1.5  # of a distance from node to node, in the length between them: a distance itself changes by 1 at most
_ODD = 2.0  # cells: what a grid lacks is less, or the distance is that to another side of something thin
_AT_ONCE = 1 << 16  # nodes that are evaluated together: each takes a kilobyte meanwhile
_CORNERS = torch.tensor([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)])


def _flat(ijk: Tensor, size: int) -> Tensor:
    return (ijk[..., 0] * size + ijk[..., 1]) * size + ijk[..., 2]


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
        self._held: list[Cells] = []  # in a list, so that it is no part of the network
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
    def begin_at(self, distance: Callable[[Array], Array], *, finer: bool = False) -> bool:
        """Let the untrained field be about ``distance``, (N, 3) → (N,), unit box: interpolated on the finest full grid.

        One channel of that grid holds what the initial sphere lacks there, and is read out linearly; the MLP does not
        hear it at first. Nothing is done, and ``False`` said, where ``distance`` jumps from node to node: across the
        hole of an open surface, where the field is to be smooth instead.

        Args:
            finer: on every grid that is finer than that, too, what the coarser ones lack there. The field is then as
                near to ``distance`` as its grids can be where they have nodes.
        """
        full = [i for i, cells in enumerate(self.levels) if self.config["nodes"][i] == (cells + 1) ** 3]
        if not full or jumps(distance, self.levels[full[-1]]):
            return False
        positions = self.node_positions()
        for level in range(full[-1], len(self.levels) if finer else full[-1] + 1):
            (cells, nodes), column = positions[level], self.channels * level
            first = 1 + sum(self.config["nodes"][:level])
            linears(self.layers)[0].weight[:, 3 + column] = 0
            self.linear.weight[0, column] = 1
            here = [self(part.to(self.features)) for part in torch.from_numpy(nodes).split(_AT_ONCE)]
            lacking = distance(nodes) - torch.cat(here).cpu().numpy()
            if level > full[-1]:
                lacking[np.abs(lacking) > _ODD * 2 / cells] = 0
            self.features[first : first + len(nodes), 0] = torch.from_numpy(lacking).to(self.features)
        return True

    @torch.no_grad()
    def _initialise(self, radius: float) -> None:
        initialise_as_sphere(linears(self.layers), self.last, radius)
        self.linear.weight.fill_(1 / self.linear.in_features)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._held = []  # the keys may have changed

    def _apply(self, fn: Any, recurse: bool = True) -> FeatureGrid:
        self._held = []  # made anew on the new device
        super()._apply(fn, recurse)
        return self

    def _cells(self) -> Cells:
        if not self._held:
            with torch.inference_mode(False):  # else gradients could not pass through it later
                keys = self.keys.cpu().split(self.config["nodes"])
                self._held = [Cells(self.levels, keys).to(self.keys.device)]
        return self._held[0]

    def _corners(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (N, L, 8) of the corners round each point, and the weights (N, L, 3, 2) of their two sides by axis."""
        rows, part = self._cells()(points[:, None] if points.dim() == 2 else points)
        return rows, torch.stack([1 - part, part], dim=-1)

    def sampled(self, points: Tensor) -> Tensor:
        """Features (N, L, C) at points (N, L, 3), others in every grid."""
        rows, sides = self._corners(points)
        (features,) = gathered(self.features, rows, trilinear(sides, self._half_cells(points)), empty=0)
        return features.unflatten(1, (-1, self.channels))

    def forward(self, points: Tensor) -> Tensor:
        """(N, 3) → (N,)"""
        rows, sides = self._corners(points)
        (features,) = gathered(self.features, rows, trilinear(sides, self._half_cells(points)), empty=0)
        h = torch.cat([points, features], dim=1)
        for layer in linears(self.layers):
            h = self.activation(layer(h))
        return (self.last(h) + self.linear(features))[:, 0]

    def pushforward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Value (N,) and derivatives (K, N) along ``directions`` (K, N, 3)."""
        rows, sides = self._corners(points)
        within = directions * (points.abs() <= 1)  # outside the box the features stay those of its border
        weights = trilinear(sides, self._half_cells(points), list(within))
        features, *pushed = gathered(self.features, rows, weights, empty=0)
        along = torch.stack(pushed)
        h, tangents = torch.cat([points, features], dim=1), torch.cat([directions, along], dim=2)
        for layer in linears(self.layers):
            h, tangents = push(layer, self.activation, h, tangents)
        value = (self.last(h) + self.linear(features))[:, 0]
        return value, tangents @ self.last.weight[0] + along @ self.linear.weight[0]

    def _half_cells(self, points: Tensor) -> Tensor:
        return points.new_tensor(self.levels) / 2


def jumps(distance: Callable[[Array], Array], cells: int) -> bool:
    """Whether ``distance``, (N, 3) → (N,), changes faster than distances do on the nodes of a grid of the unit box."""
    axis = np.linspace(-1, 1, cells + 1)
    values = distance(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3))
    steps = [np.abs(np.diff(values.reshape(3 * (cells + 1,)), axis=axis)).max() for axis in range(3)]
    return bool(max(steps) > _JUMP * 2 / cells)


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
