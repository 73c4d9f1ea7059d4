"""A regular lattice of which only a part exists: values at its nodes, evaluated once and on demand.

Indices are integers (3, N), a row for each axis, which is twice as fast here as (N, 3). A *node* is a lattice point, a
*cell* the cube between eight nodes, a *block* a cube of several cells a side. Arrays over the lattice live in
:class:`Pages`, so memory grows with what is looked at (the area of a surface), not with the volume. Positions are
(N, 3), as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InputError
from .geometry import Box

Array = NDArray[Any]
Evaluate = Callable[[Array], Array]  # (N, 3) float64 positions -> (N,) float32, finite, negative inside
Progress = Callable[[float], None]  # fraction done; may raise to stop

Shape = tuple[int, int, int]

CORNERS = np.array([(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]).T  # (3, 8)
CAP = np.float32(np.inf)  # the value outside the box where the surface is capped

_BITS = 3  # a page is 8 x 8 x 8 entries
_SIDE = 1 << _BITS
_BATCH = 1 << 18  # indices handled at once
_UNKNOWN, _WANTED = np.float32(np.nan), np.float32(-np.inf)


class Pages:
    """An array over ``shape`` of which only the touched 8³ pages exist; the rest reads as ``empty``."""

    def __init__(self, shape: Shape, empty: Any, dtype: Any) -> None:
        self.shape = shape
        self._pages = tuple((n + _SIDE - 1) >> _BITS for n in shape)
        self._slot = np.zeros(int(np.prod(self._pages)), np.int32)  # 0 is the page nobody writes
        self._page_of_slot = np.zeros(1, np.int64)
        self._empty = empty
        self._data = np.full((1, _SIDE**3), empty, dtype)

    def _page(self, index: Array) -> Array:
        x, y, z = index >> _BITS
        return (x * self._pages[1] + y) * self._pages[2] + z

    @staticmethod
    def _within(index: Array) -> Array:
        x, y, z = index & (_SIDE - 1)
        return (x << 2 * _BITS) | (y << _BITS) | z

    def touch(self, index: Array) -> None:
        """Make the pages that hold ``index`` (3, N) exist."""
        wanted = np.zeros(len(self._slot), bool)
        wanted[self._page(index)] = True
        new = np.flatnonzero(wanted & (self._slot == 0))
        if len(new) == 0:
            return
        self._slot[new] = np.arange(len(self._data), len(self._data) + len(new), dtype=np.int32)
        self._page_of_slot = np.concatenate([self._page_of_slot, new])
        fresh = np.full((len(new), _SIDE**3), self._empty, self._data.dtype)
        self._data = np.concatenate([self._data, fresh])

    def _flat(self, index: Array) -> Array:
        return self._slot[self._page(index)].astype(np.int64) * _SIDE**3 + self._within(index)

    def __getitem__(self, index: Array) -> Array:
        return self._data.reshape(-1)[self._flat(index)]

    def __setitem__(self, index: Array, values: Any) -> None:
        """Write at ``index`` (3, N), whose pages must have been touched."""
        self._data.reshape(-1)[self._flat(index)] = values

    def where(self, value: Any) -> Array:
        """(3, N) the touched entries equal to ``value``, page by page."""
        slot, within = np.divmod(np.flatnonzero(self._data[1:].reshape(-1) == value), _SIDE**3)
        page = self._page_of_slot[slot + 1]
        _, rows, columns = self._pages
        corner = np.stack([page // (rows * columns), page // columns % rows, page % columns]) << _BITS
        mask = _SIDE - 1
        return corner + np.stack([within >> 2 * _BITS, (within >> _BITS) & mask, within & mask])


@dataclass(frozen=True)
class Grid:
    """Cubic cells that cover a box, and around them one layer of cells where the surface is capped, if it is.

    ``cells`` counts the layer; node (pad, pad, pad) lies at ``origin``.
    """

    origin: Array
    cell: float
    cells: Shape
    pad: int

    @classmethod
    def over(cls, box: Box, resolution: int, cap: bool) -> Grid:
        """``resolution`` cells along the longest side; what the other sides need, shared between both ends."""
        longest = float(box.size.max())
        if resolution < 1 or not longest > 0:
            raise InputError(
                f"A grid of {resolution} cells over a box of size {longest:g} is none.",
                "Give a resolution of at least 1 and a box that has a size.",
            )
        cell = longest / resolution
        inner = np.maximum(np.ceil(box.size / cell - 1e-6).astype(np.int64), 1)
        pad = int(cap)
        x, y, z = (int(n) + 2 * pad for n in inner)
        return cls(box.centre - inner * cell / 2, cell, (x, y, z), pad)

    @property
    def nodes(self) -> Shape:
        x, y, z = self.cells
        return x + 1, y + 1, z + 1

    def positions(self, nodes: Array) -> Array:
        """(N, 3) float64; nodes of the cap layer and beyond lie on the border, so the field goes on as a constant."""
        inner = np.array(self.cells) - 2 * self.pad
        return self.origin + np.clip(nodes.T - self.pad, 0, inner) * self.cell

    def outside(self, nodes: Array) -> Array:
        """(N,) bool: nodes of the cap layer."""
        if not self.pad:
            return np.zeros(nodes.shape[1], bool)
        return ((nodes == 0) | (nodes == column(self.cells))).any(axis=0)


class Nodes:
    """The field at lattice nodes ``stride`` cells apart."""

    def __init__(self, grid: Grid, stride: int, evaluate: Evaluate) -> None:
        self._grid, self._stride, self._evaluate = grid, stride, evaluate
        x, y, z = (-(-n // stride) + 1 for n in grid.cells)
        self._last = column((x, y, z)) - 1
        self._values = Pages((x, y, z), _UNKNOWN, np.float32)

    def need(self, blocks: Array, extent: int, progress: Progress) -> None:
        """Evaluate the nodes of ``blocks`` that are not known yet.

        Args:
            blocks: (3, N) first nodes of cubes that are ``extent`` strides a side.
        """
        for batch in batches(blocks):
            for corner in CORNERS.T * extent:
                self._values.touch(np.minimum(batch + column(corner), self._last))
            for offset in all_below((extent + 1,) * 3).T:
                nodes = np.minimum(batch + column(offset), self._last)
                known = self._values[nodes]
                self._values[nodes] = np.where(np.isnan(known), _WANTED, known)
        wanted = self._values.where(_WANTED)
        done = 0
        for nodes in batches(wanted):
            self._values[nodes] = self._at(nodes)
            done += nodes.shape[1]
            progress(done / wanted.shape[1])

    def know(self, nodes: Array, values: Array) -> None:
        """Take ``values`` (N,) at ``nodes`` (3, N) as evaluated."""
        self._values.touch(nodes)
        self._values[nodes] = np.where(self._grid.outside(nodes), CAP, values) if self._stride == 1 else values

    def _at(self, nodes: Array) -> Array:
        values = self._evaluate(self._grid.positions(nodes * self._stride))
        return np.where(self._grid.outside(nodes), CAP, values) if self._stride == 1 else values

    def corners(self, blocks: Array) -> Array:
        """(8, N) values at the corners of ``blocks`` (3, N), in the order of :data:`CORNERS`."""
        return np.stack([self._values[blocks + column(corner)] for corner in CORNERS.T])


def column(index: ArrayLike) -> Array:
    """One index as (3, 1), to add to many."""
    return np.asarray(index).reshape(3, 1)


def all_below(shape: Shape) -> Array:
    """(3, N) every index of an array of this ``shape``, last axis fastest."""
    return np.indices(shape).reshape(3, -1)


def batches(index: Array) -> list[Array]:
    """``index`` (3, N) in pieces that keep temporaries small."""
    return [index[:, start : start + _BATCH] for start in range(0, index.shape[1], _BATCH)]
