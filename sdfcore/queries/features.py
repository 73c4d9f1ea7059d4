"""What the features of grids are over a region: exact at the nodes' scale, ranges of blocks of nodes above it.

Trilinear interpolation is linear along each axis, so within cells it takes its extremes, and strays farthest from any
linear function, at the corners of the region and where it crosses the cells' borders. Of larger regions the features
are between the least and the most of all nodes around: kept for blocks of nodes of every power of two a side.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..networks.grid import FeatureGrid
from ..networks.hashed import HashGrid
from .affine import Form, unit_of

_Around = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]


def of_grid(network: FeatureGrid, points: Form) -> Form:
    """The features (B, L·C) of a sparse grid for forms of ``points`` (B, 3)."""
    held = _blocks_of(network)
    sums = _Sums(network, [float(side) for side in network.levels], network.channels)
    return sums.form(points, lambda level, low, high: held[level](low, high))


def of_hash(network: HashGrid, points: Form) -> Form:
    """The features (B, L·C) of a hashed grid; of regions wider than two cells only their level's range is known."""
    ends, first = [], 0
    for rows in network.rows:
        part = network.features.detach()[first : first + rows]
        ends.append((part.amin(dim=0), part.amax(dim=0)))
        first += rows
    sums = _Sums(network, [float(side) for side in network.cells], network.channels)

    def whole(level: int, first: Tensor, _last: Tensor) -> tuple[Tensor, Tensor]:
        least, most = ends[level]
        return least.expand(len(first), -1), most.expand(len(first), -1)

    return sums.form(points, whole)


class _Sums:
    """Features of all grids of a network over regions.

    Args:
        sides: cells along the unit box's side, grid by grid.
    """

    def __init__(self, network: FeatureGrid | HashGrid, sides: list[float], channels: int) -> None:
        self.network, self.channels = network, channels
        table = network.features.detach()
        self.sides = table.new_tensor(sides)[None, :, None]  # (1, L, 1)
        self.largest = float(table.abs().amax())

    def form(self, points: Form, around: _Around) -> Form:
        """(B, L·C) of forms of the position (B, 3); ``around`` tells of a level's cells (b, 3) to (b, 3) the range."""
        low, high = points.bounds()
        within = ((low >= -1) & (high <= 1)).all(dim=1)[:, None]  # beyond the box features stay as on its border
        low, high = low.clamp(-1, 1), high.clamp(-1, 1)
        first, last = self._cell(low), self._cell(high)
        near = ((last - first) <= 1).all(dim=2)  # (B, L)
        base, slopes, err = self._sampled(low, high, first, last, within)
        for level in range(self.sides.shape[1]):
            (far,) = torch.nonzero(~near[:, level], as_tuple=True)
            if len(far):
                least, most = around(level, first[far, level], last[far, level])
                base[far, level], err[far, level] = (least + most) / 2, (most - least) / 2
                slopes[far, level] = 0
        err = err + self._rounding()
        return _tilted(points, (low + high) / 2, base, slopes, err)

    def _cell(self, at: Tensor) -> Tensor:
        """(B, L, 3) the cells of each grid that ``at`` (B, 3) lies in."""
        u = (at[:, None] + 1) * (self.sides / 2)
        return u.floor().clamp(min=0).minimum(self.sides - 1).long()

    def _sampled(
        self, low: Tensor, high: Tensor, first: Tensor, last: Tensor, within: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Base (B, L, C), slopes (B, L, 3, C) and error (B, L, C) of the linear functions that go with the features."""
        knots = self._knots(low, high, first, last)  # (B, L, 3, 3): axis, then low, between, high
        which = torch.cartesian_prod(*3 * [torch.arange(3, device=low.device)])  # (27, 3)
        at = torch.stack([knots[:, :, axis, which[:, axis]] for axis in range(3)], dim=-1)  # (B, L, 27, 3)
        count, levels = at.shape[:2]
        rows = at.transpose(1, 2).reshape(-1, levels, 3)
        with torch.no_grad():
            found = self.network.sampled(rows).reshape(count, 27, levels, self.channels).transpose(1, 2)
        corners = (which != 1).all(dim=1)
        signs = (which[corners] - 1).to(low.dtype)  # (8, 3)
        half = ((high - low) / 2)[:, None, :, None]  # (B, 1, 3, 1)
        slopes = torch.einsum("ka,blkc->blac", signs, found[:, :, corners]) / 8
        slopes = torch.where((half > 1e-9) & within[:, :, None, None], slopes / half.clamp(min=1e-9), 0.0)
        offset = at - ((low + high) / 2)[:, None, None]
        left = found - torch.einsum("blka,blac->blkc", offset, slopes)
        least, most = left.amin(dim=2), left.amax(dim=2)
        return (least + most) / 2, slopes, (most - least) / 2

    def _knots(self, low: Tensor, high: Tensor, first: Tensor, last: Tensor) -> Tensor:
        """(B, L, 3, 3) by axis: the region's ends, and between them the border of cells, or anything."""
        border = last * (2 / self.sides) - 1
        ends = [end[:, None].expand_as(border) for end in (low, high)]
        border = torch.where(last > first, border, (ends[0] + ends[1]) / 2)
        return torch.stack([ends[0], torch.minimum(torch.maximum(border, ends[0]), ends[1]), ends[1]], dim=3)

    def _rounding(self) -> Tensor:
        """(1, L, 1) of an interpolation: its own, and that of the place in the cell, where the features tell it."""
        unit = unit_of(self.sides.dtype)
        return unit * self.largest * (64 + 32 * self.sides)


def _tilted(points: Form, centre: Tensor, base: Tensor, slopes: Tensor, err: Tensor) -> Form:
    """base (B, L, C) + slopes (B, L, 3, C) · (x - centre), and its error, as a form of what x depends on."""
    moved = points.base - centre
    at = base + torch.einsum("ba,blac->blc", moved, slopes)
    coef = torch.einsum("kba,blac->kblc", points.coef, slopes)
    carried = err + torch.einsum("ba,blac->blc", points.err, slopes.abs())
    form = Form(at.flatten(1), coef.flatten(2), carried.flatten(1), points.inputs)
    reach = torch.einsum("ba,blac->blc", moved.abs() + points.magnitude(), slopes.abs())
    return form.widened(16 * unit_of(at.dtype) * (form.magnitude() + reach.flatten(1)))


class Blocks:
    """The least and the most of a grid's nodes in blocks of cells, 1, 2, 4, … a side; a node that is not there is 0."""

    def __init__(self, side: int, nodes: Tensor, values: Tensor) -> None:
        """``nodes`` (n, 3) of a grid of ``side`` cells along each axis, with ``values`` (n, C)."""
        full = len(nodes) == (side + 1) ** 3
        corners = torch.cartesian_prod(*3 * [torch.arange(2, device=nodes.device)])
        cells = (nodes[:, None] - corners).reshape(-1, 3)
        there = ((cells >= 0) & (cells < side)).all(dim=1)
        held = values.repeat_interleave(8, dim=0)[there]
        self._across = [side]
        self._levels = [_reduced(cells[there], side, held, held, full)]
        while self._across[-1] > 1:
            keys, least, most = self._levels[-1]
            across = self._across[-1]
            blocks = torch.stack([keys // (across * across), keys // across % across, keys % across], dim=1) // 2
            self._across.append(-(-across // 2))
            self._levels.append(_reduced(blocks, self._across[-1], least, most, full))

    def __call__(self, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """(b, C) least and most in the cells from ``first`` (b, 3) to ``last`` (b, 3)."""
        channels = self._levels[0][1].shape[1]
        least = first.new_zeros(len(first), channels, dtype=self._levels[0][1].dtype)
        most = least.clone()
        extent = (last - first).amax(dim=1).clamp(min=1)
        level = (extent.double().log2().ceil().long()).clamp(max=len(self._levels) - 1)
        for n in level.unique().tolist():
            (rows,) = torch.nonzero(level == n, as_tuple=True)
            least[rows], most[rows] = self._of_blocks(n, first[rows] >> n, last[rows] >> n)
        return least, most

    def _of_blocks(self, n: int, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        keys, least, most = self._levels[n]
        across, ends = self._across[n], torch.stack([first, last], dim=1)  # (b, 2, 3)
        which = torch.cartesian_prod(*3 * [torch.arange(2, device=first.device)])  # (8, 3)
        x, y, z = (ends[:, which[:, axis], axis] for axis in range(3))
        wanted = (x * across + y) * across + z  # (b, 8)
        at = torch.searchsorted(keys, wanted).clamp(max=max(len(keys) - 1, 0))
        there = (keys[at] == wanted)[..., None] if len(keys) else torch.zeros_like(wanted, dtype=torch.bool)[..., None]
        low, high = (torch.where(there, end[at], 0.0) for end in (least, most))
        return low.amin(dim=1), high.amax(dim=1)


def _reduced(blocks: Tensor, across: int, least: Tensor, most: Tensor, full: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Sorted keys of the different ``blocks`` (n, 3), and the least and most (k, C) in each."""
    flat = (blocks[:, 0] * across + blocks[:, 1]) * across + blocks[:, 2]
    keys, group = torch.unique(flat, return_inverse=True)
    into = group[:, None].expand_as(least)
    begin = least.new_zeros(len(keys), least.shape[1])  # 0 counts, too, unless every node is there
    found = [
        begin.scatter_reduce(0, into, values, reduce, include_self=not full)
        for values, reduce in ((least, "amin"), (most, "amax"))
    ]
    return keys, found[0], found[1]


_held: WeakKeyDictionary[nn.Module, tuple[tuple[int, torch.device], list[Blocks]]] = WeakKeyDictionary()


def _blocks_of(network: FeatureGrid) -> list[Blocks]:
    """The blocks of each level; kept until the features change, or move."""
    version = network.features._version, network.features.device
    if network not in _held or _held[network][0] != version:
        table, found, first = network.features.detach(), [], 1
        for (side, positions), count in zip(network.node_positions(), network.config["nodes"], strict=True):
            nodes = torch.from_numpy(((positions + 1) * (side / 2)).round().astype("int64")).to(table.device)
            found.append(Blocks(side, nodes, table[first : first + count]))
            first += count
        _held[network] = (version, found)
    return _held[network][1]
