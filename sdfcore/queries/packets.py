"""Packets of rays: what lies clear before all rays of a bundle is ruled out for them together.

Source: Sharp & Jacobson 2022, sec. 5.1, frustum casting: the region between two depths of a bundle is one box along its
middle, bounded once. Bundles halve their sides where nothing more can be ruled out for all of them; from there each ray
goes on by itself (:func:`~sdfcore.queries.rays.cast`), so nothing is passed.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..coherence import curve_order
from .bounds import Bound

_SIZES = (256, 64, 16, 4)  # rays of a packet, one after another
_FIRST, _GROWTH, _SHRINK = 1 / 8, 1.5, 0.5  # of a piece: the first, after a success, after a failure
_SHORTEST = 1e-4  # of the way: what is shorter is left to the rays
_WIDER = 1 + 1e-4  # of a box, for the rounding of its corners


def cleared(
    bound: Bound, origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, *, level: float = 0.0
) -> tuple[Tensor, int]:
    """Up to where each ray is clear of the level set, as far as packets tell; and how many boxes were bounded.

    Args:
        bound: of the field, in the coordinates of the rays.
        origins, directions: (N, 3). near, far: (N,) where to look, in lengths of the directions.
    Returns:
        (N,) from ``near`` to ``far``: before it the field does not reach ``level``.
    """
    if not len(origins):
        return near, 0
    entry = origins + near[:, None] * directions
    order = torch.from_numpy(curve_order((entry + functional.normalize(directions, dim=1)).cpu().numpy()))
    order = order.to(origins.device)
    way, length = torch.zeros_like(near), (far - near).clamp(min=0)
    asked = 0
    for size in _SIZES:
        if len(order) < size:
            continue
        short = -len(order) % size
        rows = torch.cat([order, order[-1:].expand(short)]).reshape(-1, size)
        found, count = _march(bound, entry[rows], directions[rows], way[rows], length[rows], level)
        way[rows.reshape(-1)] = torch.maximum(way[rows], found[:, None]).reshape(-1)
        asked += count
    return near + torch.minimum(way, length), asked


def _march(bound: Bound, entry: Tensor, along: Tensor, way: Tensor, length: Tensor, level: float) -> tuple[Tensor, int]:
    """How far (P,) all rays of each packet (P, M, 3) are clear, counted from their entries; and the boxes bounded."""
    packets = _Packets(entry, along)
    done, end = way.amin(dim=1), length.amax(dim=1)
    piece, asked = (end - done) * _FIRST, 0
    active = torch.nonzero(end > done)[:, 0]
    while len(active):
        begin = done[active]
        to = torch.minimum(begin + piece[active], end[active])
        centre, spans, width = packets.between(active, begin, to)
        low, high = bound(centre, spans)
        asked += len(active)
        free = (low > level) | (high < level)
        done[active] = torch.where(free, to, begin)
        piece[active] *= torch.where(free, _GROWTH, _SHRINK)
        # A piece shorter than the packet is wide says no more of the rays than of their neighbours: halve the packet.
        least = torch.maximum(0.5 * width, _SHORTEST * end[active])  # of a packet of one ray over and over: no width
        active = active[(done[active] < end[active]) & (free | (piece[active] > least))]
    return done, asked


class _Packets:
    """Boxes along the middles of packets of rays.

    Args:
        entry, along: (P, M, 3) where the rays begin, and what they move by in a unit of their length.
    """

    def __init__(self, entry: Tensor, along: Tensor) -> None:
        self.start, self.move = entry.mean(dim=1), along.mean(dim=1)
        length, longest = self.move.norm(dim=1, keepdim=True), along.norm(dim=2).amax(dim=1, keepdim=True)
        # Of rays that part in all directions the middle goes nowhere; then any axis is as good as another.
        axis = torch.where(
            length > 1e-6 * longest, self.move / length.clamp(min=1e-30), self.move.new_tensor([1.0, 0, 0])
        )
        other = torch.where(axis[:, :1].abs() < 0.8, axis.new_tensor([[1.0, 0, 0]]), axis.new_tensor([[0, 1.0, 0]]))
        side = functional.normalize(torch.linalg.cross(axis, other), dim=1)
        self.axes = torch.stack([axis, side, torch.linalg.cross(axis, side)], dim=1)  # (P, 3, 3), rows of length 1
        project = lambda v: torch.einsum("pmi,pki->pmk", v, self.axes)
        self.off, self.spread = project(entry - self.start[:, None]), project(along - self.move[:, None])

    def between(self, rows: Tensor, begin: Tensor, end: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Centres (p, 3) and spans (p, 3, 3) of boxes that hold all rays between two depths; and their widths (p,).

        What a ray is beside the middle changes evenly with the depth, so it is largest at one of both ends.
        """
        off, spread = self.off[rows], self.spread[rows]
        ends = torch.stack([off + depth[:, None, None] * spread for depth in (begin, end)])
        reach = ends.abs().amax(dim=(0, 2))  # (p, 3)
        move = self.move[rows]
        half = (end - begin) / 2
        reach[:, 0] += half * move.norm(dim=1)
        centre = self.start[rows] + ((begin + end) / 2)[:, None] * move
        rounding = 8 * torch.finfo(centre.dtype).eps * (centre.norm(dim=1) + end * move.norm(dim=1))
        spans = (_WIDER * reach + rounding[:, None])[:, :, None] * self.axes[rows]
        return centre, spans, 2 * reach[:, 1:].amax(dim=1) / move.norm(dim=1).clamp(min=1e-12)
