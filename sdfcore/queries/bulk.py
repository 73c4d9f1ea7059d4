"""Volume, centroid and inertia of the inside, between limits that are certain.

A box is halved where the bound cannot tell. What is left in the end is cut by the two planes between which affine
arithmetic knows the field, so the limits close with the square of the boxes' size, not with the size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..geometry import Array, Box
from .bounds import Slabs
from .boxes import halved, numbers

Progress = Callable[[float], None]
_SLANT = 1e-3  # a plane is taken to rise by this share of its steepest slope along every axis: its error grows by that

_ROUNDED = 1e-9  # of a share: what is left of 16 places when 6 cancel


@dataclass(frozen=True)
class Limits:
    """A quantity is between ``low`` and ``high``, arrays of one shape."""

    low: Array
    high: Array

    @property
    def middle(self) -> Array:
        return (self.low + self.high) / 2

    def contains(self, value: Array | float) -> bool:
        return bool(np.all((self.low <= value) & (value <= self.high)))

    def __add__(self, other: Limits) -> Limits:
        return _out(self.low + other.low, self.high + other.high)

    def __sub__(self, other: Limits) -> Limits:
        return _out(self.low - other.high, self.high - other.low)

    def __mul__(self, other: Limits) -> Limits:
        ends = np.stack(np.broadcast_arrays(*(a * b for a in (self.low, self.high) for b in (other.low, other.high))))
        return _out(ends.min(axis=0), ends.max(axis=0))

    def __truediv__(self, other: Limits) -> Limits:
        """By something positive."""
        return self * Limits(1 / other.high, 1 / other.low)


def _out(low: Array, high: Array) -> Limits:
    """A little wider, for the rounding of what led there."""
    return Limits(low - 1e-12 * np.abs(low), high + 1e-12 * np.abs(high))


@dataclass(frozen=True)
class Bulk:
    """What is inside of a box, with limits that hold.

    Args:
        volume: (). centroid: (3,). inertia: (3, 3) about the centroid, for a density of 1.
        least_area: no surface round so much volume is smaller (the isoperimetric inequality).
        bounds: how many boxes were bounded. left: how many were left undecided, and cut by planes.
    """

    volume: Limits
    centroid: Limits
    inertia: Limits
    least_area: float
    bounds: int
    left: int


def bulk(
    bound: Slabs,
    box: Box,
    *,
    tolerance: float = 1e-3,
    most: int = 2_000_000,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
    on_progress: Progress = lambda fraction: None,
) -> Bulk:
    """Volume, centroid and inertia of what is inside (the field negative) in ``box``.

    Args:
        bound: of the field, in the coordinates of ``box``.
        tolerance: halve boxes until the limits of the volume are so near, as a share of it, and those of the centroid
            ten times that, as a share of the longest side of ``box``.
        most: boxes that may be bounded.
        device, dtype: that the bound takes.
        on_progress: given a fraction that never falls.
    Raises:
        UnsupportedLayerError: the bound has no rule for the field.
    """
    origin = torch.from_numpy(box.centre.copy()).to(device, dtype)
    half = torch.from_numpy(box.size / 2).to(device, dtype)[None].expand(1, 3).clone()
    centre, inside, asked, share = torch.zeros_like(half), _Moments(), 0, 0.0
    while True:
        spans = torch.diag_embed(half)
        low, high = bound(origin + centre, spans)
        asked += len(centre)
        full, open_ = high < 0, (low <= 0) & (high >= 0)
        inside.add_whole(centre[full], half[full])
        centre, half = centre[open_], half[open_]
        cut = _Moments()
        cut.add_cut(centre, half, *_shares(bound, origin + centre, half))
        moments = (inside.volume + cut.volume, inside.first + cut.first, inside.second + cut.second)
        found = _told(*moments, box, asked, len(centre))
        need = max(_width(found.volume) / max(float(found.volume.low), 1e-300),
                   _width(found.centroid) / (10 * float(box.size.max())))  # fmt: skip
        share = max(share, min(1.0, tolerance / max(need, 1e-300)))
        on_progress(share)
        if need <= tolerance or not len(centre) or asked + 8 * len(centre) > most:
            on_progress(1.0)
            return found
        centre, half = halved(centre, half)


class _Moments:
    """Sums of ∫1, ∫x and ∫x xᵀ over pieces, between limits."""

    def __init__(self) -> None:
        self.volume = Limits(np.zeros(()), np.zeros(()))
        self.first = Limits(np.zeros(3), np.zeros(3))
        self.second = Limits(np.zeros((3, 3)), np.zeros((3, 3)))

    def add_whole(self, centre: Tensor, half: Tensor) -> None:
        """Boxes that are inside."""
        middle, size = numbers(centre), 2 * numbers(half)
        volume = size.prod(axis=1)
        outer = middle[:, :, None] * middle[:, None, :] + np.eye(3) * (size**2 / 12)[:, None, :]
        self._add(volume.sum(), (volume[:, None] * middle).sum(axis=0), (volume[:, None, None] * outer).sum(axis=0))

    def _add(self, volume: Array, first: Array, second: Array) -> None:
        self.volume, self.first, self.second = (
            kept + _out(value, value)
            for kept, value in ((self.volume, volume), (self.first, first), (self.second, second))
        )

    def add_cut(self, centre: Tensor, half: Tensor, least: Tensor, most: Tensor) -> None:
        """Boxes of which between ``least`` and ``most`` (n,), shares, is inside, wherever in them."""
        middle, size = numbers(centre), numbers(half)
        whole = (2 * size).prod(axis=1)
        volume = Limits(whole * numbers(least), whole * numbers(most))
        place = Limits(middle - size, middle + size)
        rows, columns = (
            Limits(f(place.low), f(place.high)) for f in (lambda v: v[:, :, None], lambda v: v[:, None, :])
        )
        first = Limits(volume.low[:, None], volume.high[:, None]) * place
        second = Limits(volume.low[:, None, None], volume.high[:, None, None]) * (rows * columns)
        sums = [_out(v.low.sum(axis=0), v.high.sum(axis=0)) for v in (volume, first, second)]
        self.volume, self.first, self.second = self.volume + sums[0], self.first + sums[1], self.second + sums[2]


def _shares(bound: Slabs, centre: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) of each box at least and at most inside."""
    base, slopes, err = (v.double() for v in bound.planes(centre, torch.diag_embed(half)))
    steep = slopes.abs()
    slanted = torch.maximum(steep, _SLANT * steep.amax(dim=1, keepdim=True)).clamp(min=1e-30)
    err = err + (slanted - steep).sum(dim=1)
    least, most = _below(slanted, -base - err), _below(slanted, -base + err)
    return (least - _ROUNDED).clamp(min=0), (most + _ROUNDED).clamp(max=1)


def _below(slopes: Tensor, level: Tensor) -> Tensor:
    """(n,) share of [-1, 1]³ where slopes · s ≤ level, slopes (n, 3) positive: corners by inclusion and exclusion."""
    over = level + slopes.sum(dim=1)
    total = torch.zeros_like(over)
    for pick in torch.cartesian_prod(*3 * [torch.arange(2)]):
        sign = -1.0 if int(pick.sum()) % 2 else 1.0
        total += sign * (over - 2 * (slopes * pick.to(slopes)).sum(dim=1)).clamp(min=0) ** 3
    share = total / (48 * slopes.prod(dim=1))
    share = torch.where(level <= -slopes.sum(dim=1), 0.0, torch.where(level >= slopes.sum(dim=1), 1.0, share))
    return share.clamp(0, 1)


def _width(limits: Limits) -> float:
    return float(np.max(limits.high - limits.low))


def _told(volume: Limits, first: Limits, second: Limits, box: Box, asked: int, left: int) -> Bulk:
    """``first`` and ``second`` moments are about the middle of ``box``, and so are its halves' ends."""
    centroid = Limits(-box.size / 2, box.size / 2)
    if volume.low > 0:
        mean = first / volume
        centroid = Limits(np.maximum(mean.low, centroid.low), np.minimum(mean.high, centroid.high))
    spread = second - _outer(centroid, volume)
    trace = Limits(np.trace(spread.low), np.trace(spread.high))
    inertia = Limits(np.eye(3) * trace.low, np.eye(3) * trace.high) - spread
    place = Limits(centroid.low + box.centre, centroid.high + box.centre)
    least = (36 * math.pi * max(float(volume.low), 0.0) ** 2) ** (1 / 3)
    return Bulk(volume, place, inertia, least, asked, left)


def _outer(centroid: Limits, volume: Limits) -> Limits:
    rows = Limits(centroid.low[:, None], centroid.high[:, None])
    columns = Limits(centroid.low[None, :], centroid.high[None, :])
    return volume * (rows * columns)
