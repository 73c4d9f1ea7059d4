"""Vertices on the edges of a lattice, moved along them onto the level set."""

from __future__ import annotations

import numpy as np

from .lattice import Array, Grid
from .marching import NEAREST, Marched

_INNER = 0.02  # of a cell: how close vertices inside it come to its sides


class Edges:
    """Vertices on their lattice edges, and between which ends the level set is known to cross each.

    A vertex never leaves its edge, so no face can fold; those of the cap stay.

    Attributes:
        movable: (M,) which vertices can be moved; ``rows`` (M,) their numbers among themselves.
        inside: (I,) the few inside cells, at saddles of the field; they stay in them.
    """

    def __init__(self, marched: Marched, grid: Grid) -> None:
        self._marched, self._grid = marched, grid
        self._along = marched.along.copy()
        self.movable = np.flatnonzero((marched.axis < 3) & np.isfinite(marched.ends).all(axis=1))
        self.inside = np.flatnonzero((marched.axis == 3) & ~np.isinf(marched.ends).any(axis=1))
        self._axis = marched.axis[self.movable]
        self.rows = np.arange(len(self.movable))
        self._between = np.tile([0.0, 1.0], (len(self.movable), 1))
        self._ends = marched.ends[self.movable].astype(np.float64)
        self._weights = np.ones_like(self._ends)  # of an end that secants kept, ever less
        self._kept = np.full(len(self.movable), -1)  # which end the last step kept

    def places(self, vertices: Array | slice = slice(None)) -> Array:
        """(V, 3) float64, where the field is asked; or of some ``vertices``."""
        nodes, along = self._marched.nodes[vertices], self._along[vertices]
        return self._grid.origin + (nodes - self._grid.pad + along) * self._grid.cell

    def secant(self, rows: Array, values: Array) -> Array:
        """A bracketed step (Anderson and Björck 1973) from the field's ``values`` (n,) where the vertices ``rows`` (n,)
        are; how far each has moved, in cells."""
        return self._move(rows, self._narrowed(rows, values.astype(np.float64)))

    def parabola(self, values: Array, gradients: Array) -> Array:
        """A step from ``values`` (M,) and ``gradients`` (M, 3): to where the parabola is zero that has both, and the
        value at the end on the other side. It has one zero in between, whatever the gradient says. As :meth:`secant`.
        """
        rows, values, middle = self.rows, values.astype(np.float64), self._along[self.movable, self._axis]
        secant = self._narrowed(rows, values)
        far, other = self._between[rows, self._kept] - middle, self._ends[rows, self._kept]
        slope = gradients[rows, self._axis].astype(np.float64) * self._grid.cell
        with np.errstate(divide="ignore", invalid="ignore"):
            bend = (other - values - slope * far) / far**2
            root = np.sqrt(np.maximum(slope**2 - 4 * bend * values, 0.0))
            steps = -2 * values / np.stack([slope + root, slope - root]) / far  # as shares of the way to that end
        fits = (steps > 0) & (steps < 1)
        share = np.where(fits[0], steps[0], steps[1])
        return self._move(rows, np.where(fits.any(axis=0), middle + share * far, secant))

    def within(self, values: Array, gradients: Array) -> bool:
        """One of Newton's steps for the vertices inside cells, from ``values`` (I,) and ``gradients`` (I, 3), no longer
        than a quarter of a cell; whether any moved."""
        square = np.square(gradients, dtype=np.float64).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = -(values / square)[:, None] * gradients / self._grid.cell
        length = np.abs(step).max(axis=1, keepdims=True)
        step = np.where(np.isfinite(length), step * np.minimum(1.0, 0.25 / np.maximum(length, 1e-30)), 0.0)
        before = self._along[self.inside]
        self._along[self.inside] = np.clip(before + step, _INNER, 1 - _INNER)
        return bool((np.abs(self._along[self.inside] - before) > 1e-4).any())

    def _narrowed(self, rows: Array, values: Array) -> Array:
        """(n,) where the secant is zero once ``values`` (n,) have replaced those of the ends of their sign."""
        moved = ((values < 0) == (self._ends[rows, 1] < 0)).astype(np.int64)  # the end whose sign the middle has
        with np.errstate(divide="ignore", invalid="ignore"):
            shrink = 1 - values / self._ends[rows, moved]
        shrink = np.where(shrink > 0, shrink, 0.5)
        self._weights[rows, 1 - moved] *= np.where(self._kept[rows] == 1 - moved, shrink, 1.0)
        self._between[rows, moved] = self._along[self.movable[rows], self._axis[rows]]
        self._ends[rows, moved], self._weights[rows, moved], self._kept[rows] = values, 1.0, 1 - moved
        (start, end), (first, last) = self._between[rows].T, (self._ends[rows] * self._weights[rows]).T
        return start + (end - start) * first / (first - last)

    def _move(self, rows: Array, along: Array) -> Array:
        place = self.movable[rows], self._axis[rows]
        before, self._along[place] = self._along[place], np.clip(along, NEAREST, 1 - NEAREST)
        return np.abs(self._along[place] - before)
