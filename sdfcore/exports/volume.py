"""A fitted shape as a narrow band of voxels round its surface: what OpenVDB calls a level set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import InputError
from ..extraction import extract_sdf
from ..fields import NeuralSDF
from ..geometry import Array

SIDE = 8  # of a block: that of OpenVDB's leaves
BAND = 3.0  # voxels on either side of the surface, as OpenVDB's own level sets have
_BLOCKS_AT_ONCE = 256


@dataclass(frozen=True)
class NarrowBand:
    """Blocks of voxels; the voxel (i, j, k) stands at ``voxel`` · (i, j, k), world units.

    Args:
        first: (B, 3) int32 index of the first voxel of each block.
        values: (B, 8, 8, 8) float32 signed distance, negative inside, from -``band`` to ``band``.
        voxel, band: world units. Beyond the blocks the value is ``band`` outside and -``band`` inside.
    """

    first: Array
    values: Array
    voxel: float
    band: float


def narrow_band(
    sdf: NeuralSDF,
    *,
    resolution: int = 256,
    width: float = BAND,
    level: float = 0.0,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> NarrowBand:
    """The signed distance round a level set, in blocks that hold all voxels within ``width`` voxels of it.

    Args:
        resolution: voxels along the longest side of the shape.
        level: world units; values are distances to that level set.
    Raises:
        InputError: a width below one voxel. NoSurfaceError: there is no such level set.
    """
    if not 1 <= width <= 64:
        raise InputError(f"A band of {width:g} voxels cannot be.", "Give 1 to 64; OpenVDB's tools expect 3.")
    mesh = extract_sdf(sdf, resolution=resolution, level=level, on_progress=lambda part: on_progress(0.3 * part))
    voxel = float(sdf.box.size.max()) * sdf.frame.scale / resolution
    band = width * voxel
    first = _blocks_round(mesh.vertices / voxel, width + 1)
    values = np.empty((len(first), SIDE, SIDE, SIDE), np.float32)
    within = np.stack(np.meshgrid(*3 * [np.arange(SIDE)], indexing="ij"), axis=-1)
    for start in range(0, len(first), _BLOCKS_AT_ONCE):
        part = first[start : start + _BLOCKS_AT_ONCE]
        places = (part[:, None, None, None] + within) * voxel
        with torch.no_grad():
            found = sdf(torch.from_numpy(places.reshape(-1, 3)).to(sdf.device)) - level
        values[start : start + len(part)] = found.reshape(-1, SIDE, SIDE, SIDE).cpu().numpy()
        on_progress(0.3 + 0.7 * min(1.0, (start + len(part)) / len(first)))
    used = (np.abs(values) < band).any(axis=(1, 2, 3))
    return NarrowBand(first[used].astype(np.int32), np.clip(values[used], -band, band), voxel, band)


def _blocks_round(places: Array, reach: float) -> Array:
    """(B, 3) first voxels of the blocks that come within ``reach`` voxels of ``places`` (N, 3), in voxels."""
    steps = np.stack(np.meshgrid(*3 * [np.array([-1.0, 0.0, 1.0])], indexing="ij"), axis=-1).reshape(-1, 3)
    near = np.unique(np.floor(places).astype(np.int64), axis=0)
    count = max(1, int(np.ceil(reach / SIDE)))
    blocks = [np.unique((near + np.rint(step * reach * n / count).astype(np.int64)) // SIDE, axis=0)
              for step in steps for n in range(1, count + 1)]  # fmt: skip
    return np.unique(np.concatenate(blocks), axis=0) * SIDE
