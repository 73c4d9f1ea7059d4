"""Do two shapes overlap? Yes, with a point that is in both; no, for certain; or how near they come where it is open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..extraction import default_box
from ..fields import Field, NeuralSDF
from ..geometry import Array, Box
from .bounds import Bound, bound_of, over_boxes
from .boxes import halved, numbers

_CHUNK = 1 << 14  # points at once


@dataclass(frozen=True)
class Overlap:
    """Whether two shapes share a point.

    Args:
        answer: ``True``, ``False``, or ``None`` where boxes became as small as was asked for without an answer.
        witness: (3,) a point that is inside of both, or ``None``.
        open: (O, 2, 3) lower and upper corners of the boxes without an answer.
        bounds: how many boxes were bounded, for both together.
    """

    answer: bool | None
    witness: Array | None
    open: Array
    bounds: int


def shapes_overlap(one: NeuralSDF, other: NeuralSDF, *, smallest: float = 1e-3) -> Overlap:
    """Whether two shapes meet, world units: in what the boxes of both have in common, for beyond its box a network
    knows nothing, and a shape ends there.

    Args:
        smallest: as of :func:`overlap`.
    Raises:
        UnsupportedLayerError: a network has a layer without a rule.
    """
    boxes = [sdf.frame.box_to_world(default_box(sdf)) for sdf in (one, other)]
    lower, upper = np.maximum(boxes[0].lower, boxes[1].lower), np.minimum(boxes[0].upper, boxes[1].upper)
    if (lower > upper).any():
        return Overlap(False, None, np.empty((0, 2, 3)), 0)
    bounds = bound_of(one), bound_of(other)
    return overlap(bounds, (one, other), Box(lower, upper), smallest=smallest, device=one.device)


def overlap(
    bounds: tuple[Bound, Bound],
    fields: tuple[Field, Field],
    box: Box,
    *,
    smallest: float = 1e-3,
    most: int = 1_000_000,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> Overlap:
    """Whether the insides of two fields (where both are negative) meet in ``box``.

    Source: Sharp & Jacobson 2022, sec. 5.4, with a witness.

    Args:
        bounds: of the ``fields``, all in the coordinates of ``box``.
        smallest: side of a box, as a share of the longest side of ``box``, that is not halved any more.
        most: boxes that may be bounded, for each field. device, dtype: that bounds and fields take.
    Raises:
        UnsupportedLayerError: a bound has no rule for its field.
    """
    centre = torch.from_numpy(box.centre.copy()).to(device, dtype)[None]
    half = torch.from_numpy(box.size / 2).to(device, dtype)[None]
    least_half, asked = smallest * float(box.size.max()) / 2, 0
    while len(centre):
        found = [over_boxes(bound, centre - half, centre + half) for bound in bounds]
        asked += 2 * len(centre)
        with torch.no_grad():
            inside = torch.stack(
                [torch.cat([field(part) < 0 for part in centre.split(_CHUNK)]) for field in fields]
            ).all(dim=0)
        if inside.any():
            return Overlap(True, numbers(centre[inside])[0], np.empty((0, 2, 3)), asked)
        kept = (found[0][0] <= 0) & (found[1][0] <= 0)
        centre, half = centre[kept], half[kept]
        if len(centre) and (float(half.max()) <= least_half or asked + 16 * len(centre) > 2 * most):
            return Overlap(None, None, numbers(torch.stack([centre - half, centre + half], dim=1)), asked)
        centre, half = halved(centre, half)
    return Overlap(False, None, np.empty((0, 2, 3)), asked)
