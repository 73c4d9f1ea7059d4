"""Rays: where they first meet a level set.

:func:`cast` goes along each ray in pieces that a bound rules the level out in, longer ones after each success, shorter
ones after each failure, so it passes no surface, however steep the field is (Sharp & Jacobson 2022, sec. 5.1).
:func:`trace` is sphere tracing (Hart 1996): steps as long as the field's value, right for fields that nowhere rise
faster than distance does, and cheap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError
from ..fields import Field
from .bounds import Bound
from .packets import cleared

_GROWTH, _SHRINK = 1.5, 0.5  # of a piece after a success and a failure
_FIRST = 1 / 16  # of the way from near to far
_BEFORE = 4  # pieces before a hit in which doubts are about the hit itself
_CHUNK = 1 << 14  # points at once
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Hits:
    """What rays met, each (N,).

    Args:
        distance: along the ray, in lengths of its direction; infinite where nothing was met.
        hit: whether the field changes its sign there.
        doubtful: whether somewhere well before (some tolerances) the bound could not rule the level out, down to the
            tolerance, while the field has the same sign on both sides: the ray grazes the level set there, or passes
            it twice within that.
        evaluations: of the field, in all. bounds: pieces that were bounded, in all.
    """

    distance: Tensor
    hit: Tensor
    doubtful: Tensor
    evaluations: int
    bounds: int


def cast(
    bound: Bound,
    field: Field,
    origins: Tensor,
    directions: Tensor,
    *,
    near: Tensor | float = 0.0,
    far: Tensor | float = 10.0,
    level: float = 0.0,
    tolerance: float = 1e-4,
    packets: bool = True,
    capped: bool = False,
    on_progress: Progress = lambda fraction: None,
) -> Hits:
    """Where rays first meet the level set, missing none.

    Args:
        bound: of ``field``, in the same coordinates.
        origins, directions: (N, 3); distances count in lengths of the direction.
        near, far: where to look, for all or (N,) for each.
        tolerance: shortest piece; where the sign changes within one, the place is then found by the secant.
        packets: whether rays that run side by side are cleared together first (:mod:`~sdfcore.queries.packets`).
        capped: whether rays that begin at a ``near`` above 0, inside, meet the shape there: it ends at its box.
        on_progress: given a fraction that never falls; what it raises ends the casting.
    Raises:
        InputError: a nearest or farthest distance is not finite.
        UnsupportedLayerError: the bound has no rule for the field.
    """
    march = _March(bound, field, origins, directions, level, tolerance)
    begin = torch.as_tensor(near, dtype=origins.dtype, device=origins.device).expand(len(origins)).clone()
    end = torch.as_tensor(far, dtype=origins.dtype, device=origins.device).expand(len(origins)).clone()
    if not (begin.isfinite().all() and end.isfinite().all()):
        raise InputError("A ray without an end cannot be followed.", "Give finite nearest and farthest distances.")
    entry, met = begin, torch.zeros(len(begin), dtype=torch.bool, device=begin.device)
    if capped:
        rows = torch.nonzero((begin > 0) & (end > begin))[:, 0]
        met[rows] = march.at(rows, begin[rows]) < 0
        end = torch.where(met, begin, end)
    if packets:
        begin, march.bounds = cleared(bound, origins, directions, begin, end, level=level)
    hits = march.run(begin, end, on_progress)
    return replace(hits, distance=torch.where(met, entry, hits.distance), hit=hits.hit | met) if capped else hits


class _March:
    """The state of :func:`cast`: for each ray how far it is known to be clear, and the next piece to be tried."""

    def __init__(
        self, bound: Bound, field: Field, origins: Tensor, directions: Tensor, level: float, tolerance: float
    ) -> None:
        self.bound, self.field, self.level, self.shortest = bound, field, level, tolerance
        self.origins, self.directions = origins, directions
        self.evaluations = self.bounds = 0

    def at(self, rows: Tensor, distance: Tensor) -> Tensor:
        """(n,) the field less the level on the rays ``rows`` at ``distance`` (n,)."""
        self.evaluations += len(rows)
        points = self.origins[rows] + distance[:, None] * self.directions[rows]
        with torch.no_grad():
            return torch.cat([self.field(part) for part in points.split(_CHUNK)] or [distance]) - self.level

    def clear(self, rows: Tensor, begin: Tensor, end: Tensor) -> Tensor:
        """(n,) bool: whether the level is ruled out between ``begin`` and ``end`` (n,)."""
        self.bounds += len(rows)
        along = self.directions[rows]
        centre = self.origins[rows] + ((begin + end) / 2)[:, None] * along
        low, high = self.bound(centre, (((end - begin) / 2)[:, None] * along)[:, None])
        return (low > self.level) | (high < self.level)

    def run(self, done: Tensor, far: Tensor, on_progress: Progress) -> Hits:
        count = len(done)
        distance = torch.full_like(done, float("inf"))
        doubt = torch.full_like(done, float("inf"))  # where the first one was
        hit = torch.zeros(count, dtype=torch.bool, device=done.device)
        piece, start = (far - done) * _FIRST, done.clone()
        # Far along a ray no piece may be shorter than what a number there can be told from the next by.
        tolerance = (8 * torch.finfo(far.dtype).eps * torch.maximum(done.abs(), far.abs())).clamp(min=self.shortest)
        active = torch.nonzero(far > done)[:, 0]
        while len(active):
            begin = done[active]
            end = torch.minimum(begin + piece[active], far[active])
            free = self.clear(active, begin, end)
            short = ~free & (piece[active] <= tolerance[active])
            rows = active[short]
            before, behind = self.at(rows, begin[short]), self.at(rows, end[short])
            crossed = (before < 0) != (behind < 0)
            met = rows[crossed]
            distance[met] = _secant(begin[short], end[short], before, behind)[crossed]
            hit[met] = True
            doubt[rows[~crossed]] = torch.minimum(doubt[rows[~crossed]], begin[short][~crossed])
            passed = free | short
            done[active] = torch.where(passed, end, begin)
            piece[active] *= torch.where(passed, _GROWTH, _SHRINK)
            active = active[~hit[active] & (done[active] < far[active])]
            share = torch.where(hit, 1.0, (done - start) / (far - start).clamp(min=1e-30))
            on_progress(float(share.mean()) if count else 1.0)
        return Hits(distance, hit, doubt + _BEFORE * tolerance < distance, self.evaluations, self.bounds)


def _secant(begin: Tensor, end: Tensor, before: Tensor, behind: Tensor) -> Tensor:
    """Where a straight line between the values is 0."""
    return begin + (end - begin) * (before / (before - behind)).nan_to_num(0.5).clamp(0, 1)


def trace(
    field: Field,
    origins: Tensor,
    directions: Tensor,
    *,
    near: Tensor | float = 0.0,
    far: Tensor | float = 10.0,
    level: float = 0.0,
    slope: float = 1.0,
    tolerance: float = 1e-4,
    steps: int = 512,
) -> Hits:
    """Sphere tracing: steps as long as the field's value says.

    Args:
        field: (N, 3) → (N,); nowhere steeper than ``slope``, else surfaces may be passed.
        origins, directions: (N, 3), directions of length 1. near, far, level: as :func:`cast`.
        tolerance: a value so small is a hit. steps: a ray that takes more is doubtful.
    """
    count = len(origins)
    as_rays = lambda value: torch.as_tensor(value, dtype=origins.dtype, device=origins.device).expand(count).clone()
    done, end = as_rays(near), as_rays(far)
    hit = torch.zeros(count, dtype=torch.bool, device=origins.device)
    active, evaluations = torch.nonzero(end > done)[:, 0], 0
    for _ in range(steps):
        if not len(active):
            break
        points = origins[active] + done[active, None] * directions[active]
        with torch.no_grad():
            value = torch.cat([field(part) for part in points.split(_CHUNK)]) - level
        evaluations += len(active)
        hit[active] = value < tolerance
        done[active] += torch.where(value < tolerance, 0.0, value / slope)
        active = active[~hit[active] & (done[active] < end[active])]
    doubtful = torch.zeros_like(hit)
    doubtful[active] = True
    return Hits(torch.where(hit, done, float("inf")), hit, doubtful, evaluations, 0)
