"""How near a result is to the truth, with the definitions said.

- Distances are **unsquared**, in world units, from area-weighted samples of one mesh to the **triangles** of the other
  (libigl), in both directions. To a scan (:class:`PointCloud`) they are to its nearest point (k-d tree) in the one
  direction, and from its points to the result's triangles in the other.
- ``chamfer``: the mean of the two directed means (not their sum).
- ``hausdorff``: the largest of all distances of both directions, a lower bound that rises with ``samples``.
- ``p99``: the 99th percentile of the distances of both directions pooled.
- ``normal_consistency``: mean |cos| between a sample's normal and that of the nearest face (or point), both directions
  pooled; blind to a part turned inside out. ``normal_error_degrees``: mean angle, 0 to 180, which is not blind to it
  (a mesh turned inside out as a whole is turned back first).
- ``f_score``: harmonic mean of the shares of samples within ``threshold`` of the other surface; the threshold is 1 % of
  the diagonal of the truth's bounding box unless given.
- ``iou``: volume of the intersection over that of the union, by uniform samples in the joint bounding box; only where
  both meshes are closed (:class:`Topology`), else ``None``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .coherence import nearest, tree_of
from .geometry import Array, Box, Mesh, PointCloud
from .surfaces import MeshDistance, face_normals, sample_surface
from .topology import Topology, topology

__all__ = ["Comparison", "Topology", "compare", "iou", "topology"]


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` measured; distances in world units, definitions at the head of the module.

    Args:
        chamfer_to_truth: mean distance from the result's samples to the truth (accuracy).
        chamfer_to_result: mean distance from the truth's samples to the result (completeness).
        threshold: the distance ``f_score`` was taken at.
        watertight, components, euler, boundary_edges, nonmanifold_edges: of the result, see :class:`Topology`.
    """

    chamfer: float
    chamfer_to_truth: float
    chamfer_to_result: float
    hausdorff: float
    p99: float
    normal_consistency: float | None
    normal_error_degrees: float | None
    f_score: float
    threshold: float
    iou: float | None
    watertight: bool
    components: int
    euler: int
    boundary_edges: int
    nonmanifold_edges: int
    samples: int
    seed: int

    def as_dict(self) -> dict[str, Any]:
        """The values as JSON can hold them."""
        return asdict(self)


class _MeshSide:
    """A mesh as one side of a comparison: samples of it, and the way from points to it."""

    def __init__(self, mesh: Mesh, samples: int, random: np.random.Generator) -> None:
        self.distance = MeshDistance(mesh)
        sign = -1.0 if self.distance.inverted else 1.0
        self._normals = sign * face_normals(mesh)
        cloud = sample_surface(mesh, samples, random)
        assert cloud.normals is not None
        self.points, self.normals = cloud.points, sign * cloud.normals

    def nearest(self, points: Array) -> tuple[Array, Array | None]:
        distance, face, _ = self.distance.closest(points)
        return distance, self._normals[face]


class _CloudSide:
    """A scan as one side of a comparison."""

    def __init__(self, cloud: PointCloud, samples: int, random: np.random.Generator) -> None:
        self._tree, self._all_normals = tree_of(cloud.points), cloud.normals
        if len(cloud) > samples:
            cloud = cloud.take(np.sort(random.choice(len(cloud), samples, replace=False)))
        self.points = cloud.points.astype(np.float64)
        self.normals: Array | None = cloud.normals

    def nearest(self, points: Array) -> tuple[Array, Array | None]:
        gap, row = nearest(self._tree, points)
        return gap, None if self._all_normals is None else self._all_normals[row]


def _cosines(own: Array | None, other: Array | None) -> Array | None:
    """(N,) cosine between two sets of unit normals (N, 3), rows without length left out."""
    if own is None or other is None:
        return None
    known = (np.abs(other).sum(axis=1) > 0) & (np.abs(own).sum(axis=1) > 0)
    return np.clip(np.einsum("nd,nd->n", own[known], other[known], dtype=np.float64), -1, 1)


def _normals(cosines: list[Array | None]) -> tuple[float | None, float | None]:
    values = [c for c in cosines if c is not None]
    if not values or sum(map(len, values)) == 0:
        return None, None
    pooled = np.concatenate(values)
    return float(np.abs(pooled).mean()), float(np.degrees(np.arccos(pooled)).mean())


def _f_score(to_truth: Array, to_result: Array, threshold: float) -> float:
    precision, recall = float((to_truth <= threshold).mean()), float((to_result <= threshold).mean())
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def iou(first: Mesh, second: Mesh, *, samples: int = 100_000, seed: int = 0) -> float | None:
    """Volumetric intersection over union in [0, 1], by ``samples`` uniform points in the joint box.

    ``None`` where a mesh is not closed or neither holds a sample: there is no volume to speak of.
    """
    if not (topology(first).closed and topology(second).closed):
        return None
    corners = [mesh.triangles.reshape(-1, 3) for mesh in (first, second)]  # a vertex that no face uses is no part
    box = Box.around(np.concatenate(corners).astype(np.float64))
    points = np.random.default_rng(seed).uniform(box.lower, box.upper, (samples, 3))
    a, b = MeshDistance(first).inside(points), MeshDistance(second).inside(points)
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else None


def compare(
    result: Mesh, truth: Mesh | PointCloud, *, samples: int = 100_000, seed: int = 0, threshold: float | None = None
) -> Comparison:
    """Distances, normals, volume and topology of ``result`` against ``truth``; definitions at the head of the module.

    Args:
        samples: points drawn on each mesh, and uniformly for the volume; a larger scan is thinned to as many.
        threshold: of the F-score, in world units; 1 % of the diagonal of the truth's box if not given.
    Raises:
        EmptyInputError: a mesh without area.
    """
    random = np.random.default_rng(seed)
    ours = _MeshSide(result, samples, random)
    theirs = _MeshSide(truth, samples, random) if isinstance(truth, Mesh) else _CloudSide(truth, samples, random)
    to_truth, truth_normals = theirs.nearest(ours.points)
    to_result, result_normals = ours.nearest(theirs.points)
    pooled = np.concatenate([to_truth, to_result])
    consistency, angle = _normals([_cosines(ours.normals, truth_normals), _cosines(theirs.normals, result_normals)])
    extent = truth.triangles.reshape(-1, 3) if isinstance(truth, Mesh) else truth.points
    limit = 0.01 * Box.around(extent).diagonal if threshold is None else threshold
    shape = topology(result)
    return Comparison(
        chamfer=float((to_truth.mean() + to_result.mean()) / 2),
        chamfer_to_truth=float(to_truth.mean()),
        chamfer_to_result=float(to_result.mean()),
        hausdorff=float(pooled.max()),
        p99=float(np.percentile(pooled, 99)),
        normal_consistency=consistency,
        normal_error_degrees=angle,
        f_score=_f_score(to_truth, to_result, limit),
        threshold=float(limit),
        iou=iou(result, truth, samples=samples, seed=seed) if isinstance(truth, Mesh) else None,
        watertight=shape.watertight,
        components=shape.components,
        euler=shape.euler,
        boundary_edges=shape.boundary_edges,
        nonmanifold_edges=shape.nonmanifold_edges,
        samples=samples,
        seed=seed,
    )
