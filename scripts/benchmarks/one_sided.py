"""A scan from one side: what a single camera sees of a mesh, with a scanner's noise."""

from __future__ import annotations

import numpy as np

from sdfcore.geometry import Array, Box, Mesh, PointCloud
from sdfcore.surfaces import sample_surface

_DENSE = 400_000
_PIXELS = 300


def one_sided(mesh: Mesh, towards: Array, *, points: int = 40_000, noise: float = 0.0005, seed: int = 0) -> PointCloud:
    """Samples of ``mesh`` that a camera far off in the direction ``towards`` (3,) sees, with normals.

    A sample is seen if it faces the camera and nothing lies in front of it in its pixel of a depth picture.

    Args:
        noise: standard deviation of every coordinate, in diagonals of the box.
    """
    view = np.asarray(towards, dtype=np.float64) / np.linalg.norm(towards)
    aside = np.linalg.svd(view[None])[2][1:]
    cloud = sample_surface(mesh, _DENSE, seed)
    assert cloud.normals is not None
    places, depth = cloud.points @ aside.T, cloud.points @ view
    cell = float(np.ptp(places, axis=0).max()) / _PIXELS
    column, row = ((places - places.min(axis=0)) / cell).astype(np.int64).T
    pixel = row * (_PIXELS + 2) + column
    nearest = np.full(int(pixel.max()) + 1, -np.inf)
    np.maximum.at(nearest, pixel, depth)
    slope = np.abs(cloud.normals @ view)
    seen = (cloud.normals @ view > 0.1) & (depth > nearest[pixel] - 3 * cell / np.maximum(slope, 0.2))
    random = np.random.default_rng(seed)
    rows = random.permutation(np.flatnonzero(seen))[:points]
    spread = noise * Box.around(mesh.vertices.astype(np.float64)).diagonal
    return PointCloud(cloud.points[rows] + random.normal(0.0, spread, (len(rows), 3)), cloud.normals[rows])
