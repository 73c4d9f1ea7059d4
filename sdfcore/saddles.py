"""Where a surface nearly changes its topology: saddles of the field, close to the level, where the shape is thin."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache

import numpy as np

from .lattice import CORNERS, Array, Evaluate, Grid

_BLOCK = 3  # cells: two sheets that are closer may touch at a saddle within a cell of the level
_OPPOSED = 0.6  # the length of the mean of unit normals, below which some of them face away from the others
_AT_ONCE = 100_000  # nodes, for each of which some hundred others are looked at
_CUBE = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
# Neighbours in a lattice whose cubes are cut along their diagonals into six tetrahedra each (Freudenthal 1942).
_LINK = np.array([step for step in _CUBE if step.any() and (step.min() >= 0 or step.max() <= 0)])
_BITS = 1 << np.arange(len(_LINK))


def saddles(
    points: Array,
    normals: Array,
    grid: Grid,
    evaluate: Evaluate,
    limit: float,
    *,
    tick: Callable[[], None] = lambda: None,
    enough: Callable[[], bool] = lambda: False,
) -> tuple[Array, Array]:
    """The saddles that a shift of the level by ``limit`` would reach, found on the lattice.

    A node is a saddle if its neighbours that are below it, or those that are above it, fall into several pieces (the
    lower and upper link of a function that is linear on tetrahedra; Banchoff 1970).

    Args:
        points: (V, 3) vertices of the level set 0, in the coordinates of ``grid``. normals: (V, 3) unit.
        tick: called often; what it raises ends the search. enough: asked as often; where it says so, the rest is left.
    Returns:
        nodes (N, 3), counted from the grid's origin, the nearest to the level first; the field (N,) there. Negative: a
        neck of the solid, of index 1; positive: a neck of what is around it, of index 2.
    """
    thin = _thin((points - grid.origin) / grid.cell, normals)
    found = [(np.empty((0, 3), np.int64), np.empty(0))]
    for start in range(0, len(thin), _AT_ONCE):
        tick()
        if enough():
            break
        found.append(_among(thin[start : start + _AT_ONCE], grid, evaluate, limit))
    places, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    once = np.unique(_keys(places), return_index=True)[1]
    rows = once[np.argsort(np.abs(values[once]), kind="stable")]
    return places[rows], values[rows]


def _among(thin: Array, grid: Grid, evaluate: Evaluate, limit: float) -> tuple[Array, Array]:
    """The saddles round the nodes ``thin`` (N, 3), in the order of their keys, and the field there."""
    nodes = _around(thin)
    known = _around(nodes)
    values = evaluate(grid.origin + known * grid.cell)
    order = _keys(known)
    near = np.abs(values) <= limit
    nodes = nodes[near[np.searchsorted(order, _keys(nodes))]]
    own = values[np.searchsorted(order, _keys(nodes))]
    link = values[np.searchsorted(order, _keys(nodes[:, None] + _LINK))]
    lower = ((link < own[:, None]) * _BITS).sum(axis=1)
    pieces = _pieces()
    saddle = np.where(own < 0, pieces[lower], pieces[_BITS.sum() - lower]) > 1
    return nodes[saddle], own[saddle]


def _thin(places: Array, normals: Array) -> Array:
    """(N, 3) nodes at vertices, ``places`` (V, 3) in cells, some of whose neighbours face the other way."""
    found = []
    for corner in CORNERS.T:
        _, block, count = np.unique(
            _keys(np.floor(places / _BLOCK + corner / 2).astype(np.int64)), return_inverse=True, return_counts=True
        )
        mean = np.stack([np.bincount(block, normals[:, axis]) for axis in range(3)], axis=1) / count[:, None]
        found.append((np.linalg.norm(mean, axis=1) < _OPPOSED)[block])
    return np.unique(np.round(places[np.any(found, axis=0)]).astype(np.int64), axis=0)


def _around(nodes: Array) -> Array:
    """(M, 3) ``nodes`` (N, 3) and all that share a cell with one, in the order of their keys."""
    every = (nodes[:, None] + _CUBE).reshape(-1, 3)
    return every[np.unique(_keys(every), return_index=True)[1]]


def _keys(nodes: Array) -> Array:
    """One number for each node (..., 3) of a lattice, or a little outside of it."""
    x, y, z = np.moveaxis(nodes + (1 << 8), -1, 0)
    return (x << 40) | (y << 20) | z


@cache
def _pieces() -> Array:
    """(2¹⁴,) how many connected pieces a set of neighbours, given by its bits, falls into."""
    count = len(_LINK)
    steps = _LINK[:, None] - _LINK
    joined = (steps[:, :, None] == _LINK).all(axis=-1).any(axis=-1) | np.eye(count, dtype=bool)
    present = (np.arange(1 << count)[:, None] & _BITS) > 0
    label = np.where(present, np.arange(count), count)
    for _ in range(count):  # the least number spreads over its piece
        spread = np.stack([np.where(joined[n], label, count).min(axis=1) for n in range(count)], axis=1)
        label = np.where(present, spread, count)
    return np.asarray((label == np.arange(count)).sum(axis=1))
