"""A fitted shape as a narrow band of voxels round its surface: what OpenVDB calls a level set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..combining import boxed
from ..errors import InputError
from ..extraction import extract_sdf
from ..fields import NeuralSDF
from ..geometry import Array

SIDE = 8  # of a block: that of OpenVDB's leaves
BAND = 3.0  # voxels on either side of the surface, as OpenVDB's own level sets have
_BLOCKS_AT_ONCE = 256
_FARTHEST = 2.0**31 - 1024  # OpenVDB numbers voxels by 32 bits


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
        InputError: a width below one voxel, or voxels too many from the origin to be numbered.
        NoSurfaceError: there is no such level set.
    """
    if not 1 <= width <= 64:
        raise InputError(f"A band of {width:g} voxels cannot be.", "Give 1 to 64; OpenVDB's tools expect 3.")
    mesh = extract_sdf(sdf, resolution=resolution, level=level, on_progress=lambda part: on_progress(0.3 * part))
    voxel = float(sdf.box.size.max()) * sdf.frame.scale / resolution
    band = width * voxel
    if float(np.abs(mesh.vertices).max()) / voxel > _FARTHEST:
        raise InputError(
            "The shape is too far from the origin for voxels this small.",
            "Move it to the origin, or take fewer voxels.",
        )
    first = _blocks_round(mesh.vertices / voxel, width + 1)
    field = NeuralSDF(boxed(sdf, max(level, 0.0)), sdf.frame, sdf.box)  # as the mesh does, it ends at its box
    values = np.empty((len(first), SIDE, SIDE, SIDE), np.float32)
    within = np.stack(np.meshgrid(*3 * [np.arange(SIDE)], indexing="ij"), axis=-1)
    for start in range(0, len(first), _BLOCKS_AT_ONCE):
        part = first[start : start + _BLOCKS_AT_ONCE]
        places = (part[:, None, None, None] + within) * voxel
        with torch.no_grad():
            found = field(torch.from_numpy(places.reshape(-1, 3)).to(sdf.device)) - level
        values[start : start + len(part)] = found.reshape(-1, SIDE, SIDE, SIDE).cpu().numpy()
        on_progress(0.3 + 0.7 * min(1.0, (start + len(part)) / len(first)))
    used = (np.abs(values) < band).any(axis=(1, 2, 3))
    return NarrowBand(first[used].astype(np.int32), np.clip(values[used], -band, band), voxel, band)


def _blocks_round(places: Array, reach: float) -> Array:
    """(B, 3) first voxels of the blocks that come within ``reach`` voxels of ``places`` (N, 3), in voxels."""
    lower, upper = (np.floor((places + side * reach) / SIDE).astype(np.int64) for side in (-1, 1))
    found = np.unique(np.concatenate([lower, upper], axis=1), axis=0)  # many places come within reach of the same
    for axis in range(3):
        widest = int((found[:, 3 + axis] - found[:, axis]).max())
        steps = [found[:, axis] + n for n in range(widest + 1)]
        rows = []
        for step in steps:
            some = found[step <= found[:, 3 + axis]].copy()
            some[:, axis] = some[:, 3 + axis] = step[step <= found[:, 3 + axis]]
            rows.append(some)
        found = np.unique(np.concatenate(rows), axis=0)
    return found[:, :3] * SIDE
