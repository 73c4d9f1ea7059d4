"""What may be concluded from a part of a shape: its points, and a little way along their normals."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree

from ..evidence import Evidence
from ..geometry import Array
from ..oracles import Oracle
from ..sampling import Batch, Labelled, tensor

_LEAST, _MOST = 0.004, 0.06  # distances along the normals, unit box
_INWARD = 0.01  # so deep may be asked within: parts may be thin
FADE = 0.06  # unit box: as far from the scan what it says of the prior's error still counts


class Banded(Labelled):
    """Batches from a partial scan: its points, and points along their normals labelled with how far they went.

    Winding numbers of an open part say nothing far from it, so no more is asked. Labels are corrected to the distance
    of the nearest scan point where that is nearer. Without normals there are only the points.
    """

    def __init__(self, evidence: Evidence, count: int, seed: int, device: torch.device) -> None:
        moved = _along_normals(evidence, 40_000, np.random.default_rng(seed))
        points, labels = (evidence.points[:1], np.zeros(1, np.float32)) if moved is None else moved
        super().__init__(
            Evidence(evidence.points, evidence.normals, lambda q: np.zeros(len(q))), count, seed, device, pool=1000
        )
        self.near, self.near_distances = tensor(points, device), tensor(labels, device)

    def batch(self) -> Batch:
        drawing, count = self.drawing, self.count
        points, normals, _ = drawing.surface(count)
        rows = drawing.rows(count, len(self.near))
        directions = torch.nn.functional.normalize(drawing.gauss(count, 3), dim=1)
        return Batch(points, self.near[rows], normals, directions, self.near_distances[rows])


def _along_normals(evidence: Evidence, count: int, rng: np.random.Generator) -> tuple[Array, Array] | None:
    if evidence.normals is None:
        return None
    rows = rng.integers(0, len(evidence.points), count)
    length = np.exp(rng.uniform(np.log(_LEAST), np.log(_MOST), count))
    inward = rng.random(count) < 0.3
    signed = np.where(inward, -np.minimum(length, _INWARD), length)
    moved = evidence.points[rows] + signed[:, None] * evidence.normals[rows]
    gap, _ = cKDTree(evidence.points).query(moved, workers=-1)
    return moved, np.sign(signed) * np.minimum(np.abs(signed), gap)


def corrected(prior: Oracle, points: Array) -> Oracle:
    """``prior`` moved so that it vanishes at the scan's ``points`` (N, 3), the less the farther from them.

    The prior's values at the nearest points are subtracted, with a weight that falls from 1 at the scan to nothing a
    few times :data:`FADE` away: near the scan the scan is right, far from it the prior stays as it was.
    """
    tree = cKDTree(points)
    wrong = prior(points)
    count = min(8, len(points))

    def field(queries: Array) -> Array:
        gap, near = tree.query(queries, k=count, workers=-1)
        gap, near = np.reshape(gap, (len(queries), count)), np.reshape(near, (len(queries), count))
        weight = 1 / np.maximum(gap, 1e-6) ** 2
        mean = (weight * wrong[near]).sum(axis=1) / weight.sum(axis=1)
        return np.asarray(prior(queries) - mean * np.exp(-((gap[:, 0] / FADE) ** 2)))

    return field
