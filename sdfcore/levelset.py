"""The lattice cells that a level set crosses, found coarse to fine without looking at the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.ndimage import maximum_filter

from .lattice import CORNERS, Array, Evaluate, Grid, Nodes, Pages, Progress, all_below, batches, column

_FEWEST = 32  # coarse blocks along the longest side, at least
_COARSEST = 16  # cells along the side of a coarse block, at most
_LIKELY = 0.6  # of how much the field may change along a cell: in cells no farther from the level, it is likely
_EXPLAINS = 0.5  # share of the assumed slope: with less, a field may turn round within the block
_SEARCH = 0.3  # share of the time that goes into the search, for progress

_FACES = [  # the neighbour across a face of a cell, and which CORNERS lie on it
    (column([side if a == axis else 0 for a in range(3)]), np.flatnonzero(CORNERS[axis] == (side > 0)))
    for axis in range(3)
    for side in (-1, 1)
]

#: From each corner of a cube the farthest point of each of its eighths, in sides of those.
_FARTHEST = np.sqrt(np.where(CORNERS[:, :, None] == CORNERS[:, None, :], 1, 4).sum(axis=0))


class Finder(Protocol):
    """A way to find the cells that a level set crosses."""

    def find(self, grid: Grid, evaluate: Evaluate, progress: Progress) -> tuple[Array, Array]:
        """The crossed cells (3, N), and the values at their corners, (8, N). N may be 0."""
        ...


@dataclass(frozen=True)
class Search:
    """How a field is searched for its level set.

    A block of cells is dropped when the values at its eight corners rule the level out for a function whose slope is at
    most L. L is ``lipschitz`` where that is given, and then nothing can be missed. Else L is the steepest slope seen
    between coarse nodes around the block, times ``safety``: how much steeper the field may be within a block than from
    corner to corner. (Blocks of two cells are taken at 1: what varies within them is beyond the lattice anyway.)

    A part of which one crossing is found is followed to its end, so a part can only be missed whole: it then lies
    inside one block, and the field falls to it more steeply than assumed.
    """

    lipschitz: float | None = None
    safety: float = 1.5

    def find(self, grid: Grid, evaluate: Evaluate, progress: Progress) -> tuple[Array, Array]:
        """The crossed cells (3, N), and the values at their corners, (8, N). N may be 0."""
        return find(grid, evaluate, self, progress)

    def slopes(self, corners: Array, side: float) -> Array:
        """(N,) the steepest slope seen in cubes of this ``side`` with the values ``corners`` (8, N)."""
        if self.lipschitz is not None:
            return np.full(corners.shape[1], self.lipschitz)
        cube = corners.reshape(2, 2, 2, -1)
        steps = [np.abs(np.diff(cube, axis=axis)).reshape(4, -1).max(axis=0).astype(np.float64) for axis in range(3)]
        return np.sqrt(steps[0] ** 2 + steps[1] ** 2 + steps[2] ** 2) / side

    def reach(self, slopes: Array, stride: int, cell: float) -> Array:
        """(N,) how much the field is assumed to change along ``stride`` cells."""
        margin = 1.0 if self.lipschitz is not None or stride == 2 else _LIKELY if stride == 1 else self.safety
        return slopes * (margin * stride * cell)


def crosses(corners: Array) -> Array:
    """(N,) bool: both signs occur among ``corners`` (K, N)."""
    inside = corners < 0
    return np.asarray(inside.any(axis=0) & ~inside.all(axis=0))


def may_cross(corners: Array, reach: Array) -> Array:
    """(N,) bool: whether a level set can lie in a cube; ``reach`` (N,) is its side times the largest slope.

    A point of the cube is at most √3/2 sides from its nearest corner and √3 from any; its squared distances to the
    eight corners sum to at most 12.
    """
    size = np.abs(corners)
    possible = (size.min(axis=0) <= np.sqrt(3) / 2 * reach) & (size.max(axis=0) <= np.sqrt(3) * reach)
    return crosses(corners) | (possible & (np.square(size, dtype=np.float64).sum(axis=0) <= 12 * reach**2))


def find(grid: Grid, evaluate: Evaluate, search: Search, progress: Progress) -> tuple[Array, Array]:
    """The cells that the level set crosses, (3, N), and the values at their corners, (8, N). N may be 0."""
    strides = _strides(max(grid.cells))
    if not strides:
        return _crossed(grid, all_below(grid.cells), 1, evaluate, progress)
    blocks, known = _Blocks(all_below(_ceil(grid, strides[0]))), None
    for number, stride in enumerate(strides):
        within = _part(progress, _SEARCH * number / len(strides), _SEARCH * (number + 1) / len(strides))
        nodes = Nodes(grid, stride, evaluate)
        if known is not None:
            nodes.know(*known)
        kept = _narrowed(grid, stride, blocks, nodes, search, within)
        blocks, known = _children(grid, stride // 2, kept, search)
    return _crossed(grid, blocks.first, 1, evaluate, _part(progress, _SEARCH, 1.0), known)


@dataclass(frozen=True)
class _Blocks:
    """Cubes of cells: the first block index of each, (3, N), and once known the slopes assumed in them, (N,), those
    that were seen in them, (N,), and the values at their corners, (8, N)."""

    first: Array
    slopes: Array | None = None
    seen: Array | None = None
    corners: Array | None = None


def _strides(resolution: int) -> list[int]:
    """Block sides to search with, in cells, halving down to 2; none where the lattice is small."""
    stride = 1
    while stride < _COARSEST and resolution >= 2 * stride * _FEWEST:
        stride *= 2
    return [stride >> n for n in range(stride.bit_length() - 1)]


def _ceil(grid: Grid, stride: int) -> tuple[int, int, int]:
    x, y, z = (-(-n // stride) for n in grid.cells)
    return x, y, z


def _part(progress: Progress, start: float, end: float) -> Progress:
    return lambda fraction: progress(start + (end - start) * fraction)


def _children(grid: Grid, stride: int, parents: _Blocks, search: Search) -> tuple[_Blocks, tuple[Array, Array]]:
    """The halves of ``parents``, ``stride`` cells a side, that may hold the level; the nodes known there, and values.

    Each has one corner in common with its parent: the one that it is named by. What the parent's slope makes of the
    values at all eight must let the level in. Of a parent that the level crosses for certain the likeliest stays in any
    case, as a part needs but one crossing to be found.
    """
    assert parents.slopes is not None
    assert parents.seen is not None
    assert parents.corners is not None
    blocks = (parents.first[:, :, None] * 2 + CORNERS[:, None, :]).reshape(3, -1)
    shared = (blocks.reshape(3, -1, 8) + CORNERS[:, None, :]).reshape(3, -1)
    values, slopes = parents.corners.T.reshape(-1), np.repeat(parents.slopes, 8)
    likely = parents.slopes
    if stride == 1 and search.lipschitz is None:  # where the slope seen explains the values, cells are told by it
        likely = np.where(parents.seen >= _EXPLAINS * parents.slopes, parents.seen, parents.slopes)
    keep = np.abs(values) <= np.sqrt(3) * search.reach(np.repeat(likely, 8), stride, grid.cell)
    size, reach = np.abs(parents.corners), search.reach(parents.slopes, 2 * stride, grid.cell) / 2
    keep &= np.stack([(size <= far[:, None] * reach).all(axis=0) for far in _FARTHEST], axis=1).reshape(-1)
    certain = np.flatnonzero(crosses(parents.corners))
    keep[8 * certain + np.abs(parents.corners[:, certain]).argmin(axis=0)] = True
    keep |= _at_border(grid, stride, blocks) & (values < 0)
    keep &= (blocks < column(_ceil(grid, stride))).all(axis=0)
    known = (shared[:, keep], values[keep])
    return _Blocks(blocks[:, keep], slopes[keep]), known


def _at_border(grid: Grid, stride: int, blocks: Array) -> Array:
    """(N,) bool: blocks at the border of a capped grid. What is inside there needs its cap, however deep it is."""
    if not grid.pad:
        return np.zeros(blocks.shape[1], bool)
    return np.asarray((blocks == 0).any(axis=0) | ((blocks + 1) * stride >= column(grid.cells)).any(axis=0))


def _narrowed(grid: Grid, stride: int, blocks: _Blocks, nodes: Nodes, search: Search, progress: Progress) -> _Blocks:
    """Those ``blocks`` that may hold the level, and the slopes assumed in them. No slopes yet: these are all blocks."""
    nodes.need(blocks.first, 1, progress)
    corners = nodes.corners(blocks.first)
    own = search.slopes(corners, stride * grid.cell)
    before = blocks.slopes
    slopes = _around(own, corners, _ceil(grid, stride)) if before is None else np.maximum(before, own)
    keep = may_cross(corners, search.reach(slopes, stride, grid.cell))
    keep |= _at_border(grid, stride, blocks.first) & (corners < 0).any(axis=0)
    return _Blocks(blocks.first[:, keep], slopes[keep], own[keep], corners[:, keep])


def _around(slopes: Array, corners: Array, shape: tuple[int, int, int]) -> Array:
    """The steepest of a block's neighbourhood, and no less than what is usual for the field and at its surface.

    A field may be cut off far from its surface (truncated distances), where its slope says nothing.
    """
    usual = float(np.quantile(slopes, 0.95))
    surface = slopes[crosses(corners)]
    if len(surface):
        usual = max(usual, float(np.median(surface)))
    return np.maximum(maximum_filter(slopes.reshape(shape), size=3, mode="nearest").reshape(-1), usual)


def _crossed(
    grid: Grid,
    blocks: Array,
    extent: int,
    evaluate: Evaluate,
    progress: Progress,
    known: tuple[Array, Array] | None = None,
) -> tuple[Array, Array]:
    """The crossed cells in ``blocks`` (first cells of cubes of ``extent`` cells), and all connected with them.

    ``known`` are nodes (3, N) and the values there.
    """
    nodes = Nodes(grid, 1, evaluate)
    if known is not None:
        nodes.know(*known)
    nodes.need(blocks, extent, progress)
    seen = Pages(grid.cells, False, np.bool_)
    found = [(np.empty((3, 0), np.int64), np.empty((8, 0), np.float32))]
    for batch in batches(blocks):
        cells = (batch[:, :, None] + all_below((extent,) * 3)[:, None, :]).reshape(3, -1)
        found.append(_look(nodes, seen, cells[:, (cells < column(grid.cells)).all(axis=0)]))
    front = found
    while front := [_look_on(grid, nodes, seen, cells, corners) for cells, corners in front if cells.size]:
        found += front
    return np.concatenate([cells for cells, _ in found], 1), np.concatenate([corners for _, corners in found], 1)


def _look(nodes: Nodes, seen: Pages, cells: Array) -> tuple[Array, Array]:
    seen.touch(cells)
    seen[cells] = True
    corners = nodes.corners(cells)
    crossed = crosses(corners)
    return cells[:, crossed], corners[:, crossed]


def _look_on(grid: Grid, nodes: Nodes, seen: Pages, cells: Array, corners: Array) -> tuple[Array, Array]:
    """The crossed cells behind the crossed faces of ``cells`` that nobody has looked at."""
    ahead = np.concatenate([cells[:, crosses(corners[on])] + step for step, on in _FACES], axis=1)
    ahead = ahead[:, ((ahead >= 0) & (ahead < column(grid.cells))).all(axis=0)]
    ahead = np.unique(ahead[:, ~seen[ahead]], axis=1)
    nodes.need(ahead, 1, lambda _: None)
    return _look(nodes, seen, ahead)
