"""Empty space: boxes that certainly hold no surface, outside the shape and inside of it, and those of which it is open.

Source: Sharp & Jacobson 2022, sec. 5.2: an octree whose boxes are halved where the bound does not rule the surface out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import InputError
from ..geometry import Array, Box
from .bounds import Bound, over_boxes
from .boxes import halved, numbers

OUTSIDE, OPEN, INSIDE = 1, 0, -1
_MOST = 4_000_000  # boxes at one size


@dataclass(frozen=True)
class Space:
    """Boxes that fill the box that was asked about, none over another.

    Args:
        lower, upper: (B, 3) corners.
        state: (B,) int8: 1 is certainly outside the shape, -1 certainly inside, 0 may hold surface.
        bounds: how many boxes were bounded.
    """

    lower: Array
    upper: Array
    state: Array
    bounds: int

    def share(self, state: int) -> float:
        """Of the whole volume."""
        volume = np.prod(self.upper - self.lower, axis=1)
        return float(volume[self.state == state].sum() / volume.sum())


def empty_space(
    bound: Bound,
    box: Box,
    *,
    smallest: float = 1 / 64,
    level: float = 0.0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> Space:
    """Which parts of ``box`` are certainly free of a level set.

    Args:
        bound: of a field, in the coordinates of ``box``.
        smallest: side of a box, as a share of the longest side of ``box``, that is not halved any more.
        device, dtype: that the bound takes.
        on_progress: given a fraction that never falls; what it raises ends the work.
    Raises:
        InputError: ``smallest`` is too small for the memory, or none. UnsupportedLayerError: there is no rule.
    """
    if not 0 < smallest <= 1:
        raise InputError(f"Boxes of {smallest:g} of the whole cannot be.", "Give a share between 0 and 1.")
    centre = torch.from_numpy(box.centre.copy()).to(device, dtype)[None]
    half = torch.from_numpy(box.size / 2).to(device, dtype)[None]
    least, found, asked, known = smallest * float(box.size.max()) / 2 * (1 + 1e-9), [], 0, 0.0
    while len(centre):
        low, high = over_boxes(bound, centre - half, centre + half)
        asked += len(centre)
        state = (low > level).to(torch.int8) - (high < level).to(torch.int8)
        last = float(half.max()) <= least
        kept = (state != OPEN) | last
        found.append((centre[kept] - half[kept], centre[kept] + half[kept], state[kept]))
        known += float((8 * half[kept].prod(dim=1)).sum()) / float(np.prod(box.size))
        on_progress(min(known, 1.0))
        centre, half = halved(centre[~kept], half[~kept])
        if len(centre) > _MOST:
            raise InputError("So small boxes are too many.", "Ask for larger ones.")
    lower, upper, state = (torch.cat(parts) for parts in zip(*found, strict=True))
    on_progress(1.0)
    return Space(numbers(lower), numbers(upper), state.cpu().numpy(), asked)
