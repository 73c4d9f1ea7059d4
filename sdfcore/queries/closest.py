"""The nearest point of a surface, and a distance that it cannot be nearer than."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import NoSurfaceError
from ..fields import Field
from ..geometry import Box
from .bounds import Bound, over_boxes
from .boxes import CORNERS, halved

_PAIRS = 1 << 20  # of query and box, looked at together
_MOST = 1 << 21  # pairs that are kept
_BOXES = 1 << 13  # whose corners are evaluated together


@dataclass(frozen=True)
class Closest:
    """Of each query the nearest point found.

    Args:
        points: (N, 3) on the surface. distance: (N,) to them, not negative.
        least: (N,) nothing of the surface is nearer than this. evaluations, bounds: how many, in all.
    """

    points: Tensor
    distance: Tensor
    least: Tensor
    evaluations: int
    bounds: int


def closest(bound: Bound, field: Field, queries: Tensor, box: Box, *, smallest: float = 1 / 512) -> Closest:
    """The nearest points of the surface in ``box``, for any field, distance or not.

    Boxes that may hold surface are halved for as long as they may hold a nearer point than one that is known (Sharp &
    Jacobson 2022, sec. 5.5); a box whose corners differ in sign gives such a point.

    Args:
        bound, field: of one shape, in the coordinates and the dtype of ``queries`` (N, 3).
        smallest: side of a box, as a share of the longest side of ``box``, that is not halved any more.
    Raises:
        NoSurfaceError: no change of sign was found. UnsupportedLayerError: there is no rule for the field.
    """
    parts = [found for part in queries.split(4096) for found in _parts(bound, field, part, box, smallest)]
    return Closest(
        torch.cat([p.points for p in parts]),
        torch.cat([p.distance for p in parts]),
        torch.cat([p.least for p in parts]),
        sum(p.evaluations for p in parts),
        sum(p.bounds for p in parts),
    )


def _parts(bound: Bound, field: Field, queries: Tensor, box: Box, smallest: float) -> Iterator[Closest]:
    """The queries together, or, where that takes too much memory, either half of them."""
    found = _Search(bound, field, queries, box, smallest).run()
    if found is not None:
        yield found
        return
    for half in queries.tensor_split(2):
        yield from _parts(bound, field, half, box, smallest)


class _Search:
    def __init__(self, bound: Bound, field: Field, queries: Tensor, box: Box, smallest: float) -> None:
        self.bound, self.field, self.queries = bound, field, queries
        self.lower, self.upper = (queries.new_tensor(v) for v in (box.lower, box.upper))
        self.smallest = smallest * float(box.size.max()) / 2
        self.distance = torch.full_like(queries[:, 0], float("inf"))
        self.points = torch.zeros_like(queries)
        self.least = torch.full_like(self.distance, float("inf"))
        self.evaluations = self.bounds = 0

    def run(self) -> Closest | None:
        """``None`` where the queries are too many to be looked at together."""
        centre, half = ((self.lower + self.upper) / 2)[None], ((self.upper - self.lower) / 2)[None]
        who = torch.arange(len(self.queries), device=self.queries.device)
        which = torch.zeros_like(who)  # pairs: the query ``who`` and the box ``which``
        while len(which):
            low, high = over_boxes(self.bound, centre - half, centre + half)
            self.bounds += len(centre)
            maybe = (low <= 0) & (high >= 0)
            who, which = who[maybe[which]], which[maybe[which]]
            self._learn(centre, half, maybe, who, which)
            near = self._to_boxes(centre, half, who, which)
            kept = near < self.distance[who]
            who, which, near = who[kept], which[kept], near[kept]
            many = 8 * len(which) > _MOST
            if many and len(self.queries) > 1:
                return None
            if not len(which) or many or float(half.max()) <= self.smallest:  # of one alone no more can be told
                self.least.scatter_reduce_(0, who, near, "amin")
                break
            centre, half, who, which = _halved(centre, half, who, which)
        if torch.isinf(self.distance).any():
            raise NoSurfaceError("There is no surface in the box.", "Look in a larger box, or at another level.")
        return Closest(self.points, self.distance, self.least.minimum(self.distance), self.evaluations, self.bounds)

    def _learn(self, centre: Tensor, half: Tensor, maybe: Tensor, who: Tensor, which: Tensor) -> None:
        """Points of the surface on the diagonals of boxes whose corners differ in sign, and what they are near to."""
        rows = torch.nonzero(maybe)[:, 0]
        found = [self._crossings(centre[some], half[some]) for some in rows.split(_BOXES)]
        crossed = torch.cat([bent for bent, _ in found] or [rows.bool()])
        point = torch.cat([at for _, at in found] or [centre[:0]])
        known = torch.full((len(centre),), -1, device=rows.device)
        known[rows[crossed]] = torch.arange(len(point), device=rows.device)
        for part in torch.arange(len(which), device=which.device).split(_PAIRS):
            at = known[which[part]]
            queries, at = who[part][at >= 0], at[at >= 0]
            apart = (self.queries[queries] - point[at]).norm(dim=1)
            best = torch.full_like(self.distance, float("inf")).scatter_reduce(0, queries, apart, "amin")
            better = (apart == best[queries]) & (apart < self.distance[queries])
            self.distance[queries[better]], self.points[queries[better]] = apart[better], point[at[better]]

    def _crossings(self, centre: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) whether corners of a box differ in sign, and of those that do a point of the surface (b, 3) in it."""
        corners = centre[:, None] + half[:, None] * CORNERS.to(half)
        with torch.no_grad():
            values = self.field(corners.reshape(-1, 3)).reshape(-1, 8)
        self.evaluations += values.numel()
        inside, outside = values.argmin(dim=1), values.argmax(dim=1)
        pick = torch.arange(len(centre), device=centre.device)
        crossed = (values[pick, inside] < 0) & (values[pick, outside] >= 0)
        pick, inside, outside = pick[crossed], inside[crossed], outside[crossed]
        return crossed, self._between(corners[pick, inside], corners[pick, outside])

    def _between(self, a: Tensor, b: Tensor) -> Tensor:
        """Where the field changes its sign between points (n, 3) in and out: by halves, to a millionth of the way."""
        for _ in range(20):
            middle = (a + b) / 2
            with torch.no_grad():
                inside = (self.field(middle) < 0)[:, None]
            self.evaluations += len(middle)
            a, b = torch.where(inside, middle, a), torch.where(inside, b, middle)
        return (a + b) / 2

    def _to_boxes(self, centre: Tensor, half: Tensor, who: Tensor, which: Tensor) -> Tensor:
        return ((self.queries[who] - centre[which]).abs() - half[which]).clamp(min=0).norm(dim=1)


def _halved(centre: Tensor, half: Tensor, who: Tensor, which: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The eighths of the boxes that a pair is left of, and the pairs with them."""
    used, rank = torch.unique(which, return_inverse=True)
    eighth = torch.arange(8, device=which.device)
    return *halved(centre[used], half[used]), who.repeat_interleave(8), (rank[:, None] * 8 + eighth).reshape(-1)
