"""A whole shape from a part of it: what was scanned as it was scanned, and the family's knowledge of the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from ..coherence import nearest
from ..extraction import extract_sdf
from ..fields import NeuralSDF
from ..fitting import Progress
from ..geometry import Array, Mesh, PointCloud
from ..planning import Source
from ..preparing import cloud_of
from ..surfaces import MeshDistance, sample_surface
from .inference import SAMPLES, STEPS, Infer, Inferred
from .space import Space
from .tuning import STEPS as TUNING_STEPS
from .tuning import FineTune

OBSERVED, SEEN = "observed", "observed_mask"  # attributes of the mesh: distance to the scan, and 1 where it was scanned
EXTRACTION_SHARE = 0.25  # of promised seconds: what is left for the mesh
_INFERRING = 0.6  # share of the progress


class Complete:
    """A completion in progress: iterating does the work, one :class:`Progress` a step; break off to stop.

    First the code that explains the scan best (:class:`Infer`), then, with ``tune``, the network itself is brought to
    the scan's accuracy where something was scanned (:class:`FineTune`).

    Args:
        space: of the family the scan belongs to. scan: points or a mesh of a part of the shape, world units.
        align, rotate: whether scale and place, and the direction it faces, are to be found.
        steps, seconds: of the inference; ``seconds`` bounds the whole.
    """

    def __init__(
        self,
        space: Space,
        scan: Source,
        *,
        align: bool = True,
        rotate: bool = False,
        tune: bool = True,
        steps: int = STEPS,
        seconds: float | None = None,
        seed: int = 0,
        on_stage: Callable[[str], None] = lambda stage: None,
    ) -> None:
        self.space, self.seed, self.tune, self.on_stage = space, seed, tune, on_stage
        self.scan: PointCloud = cloud_of(scan, SAMPLES, seed)
        self._seconds = seconds
        first = None if seconds is None else seconds * (_INFERRING if tune else 1.0)
        self._infer = Infer(
            space, self.scan, partial=True, align=align, rotate=rotate, steps=steps, seconds=first, seed=seed
        )
        self.inferred: Inferred | None = None
        self._tuning: FineTune | None = None

    def __iter__(self) -> Iterator[Progress]:
        share = _INFERRING if self.tune else 1.0
        self.on_stage("inferring")
        for progress in self._infer:
            yield replace(progress, fraction=share * progress.fraction, seconds_left=None)
        self.inferred = self._infer.found
        if not self.tune:
            return
        self.on_stage("fine-tuning")
        left = None if self._seconds is None else self._seconds * (1 - _INFERRING)
        self._tuning = FineTune(
            self.inferred.field(self.space), self.scan, partial=True, steps=TUNING_STEPS, seconds=left, seed=self.seed
        )
        for progress in self._tuning:
            yield replace(progress, fraction=share + (1 - share) * progress.fraction)

    @property
    def sdf(self) -> NeuralSDF:
        """The completed shape so far, in the scan's world."""
        if self._tuning is not None:
            return self._tuning.sdf
        return (self.inferred or self._infer.found).field(self.space)

    def mesh(self, resolution: int = 256, on_progress: Callable[[float], None] | None = None) -> Mesh:
        """The completed surface with the attributes ``observed`` and ``observed_mask``."""
        return marked(extract_sdf(self.sdf, resolution=resolution, on_progress=on_progress), self.scan.points)


def reach_of(points: Array) -> float:
    """How far from a scan's points a surface still counts as scanned: three times their usual spacing."""
    some = points[np.random.default_rng(0).permutation(len(points))[:4000]]
    count = min(5, len(points))
    gap, _ = cKDTree(points).query(some, k=count, workers=-1)
    return 3 * float(np.median(np.reshape(gap, (len(some), count))[:, -1])) / max(np.sqrt(count - 1), 1.0)


def marked(mesh: Mesh, points: Array) -> Mesh:
    """``mesh`` with each vertex's distance to the nearest of ``points`` (N, 3), and 1 where that is a scanned one."""
    gap, _ = nearest(cKDTree(points), mesh.vertices)
    seen = np.asarray(gap < reach_of(points), dtype=np.float32)
    attributes = {**mesh.attributes, OBSERVED: np.asarray(gap, dtype=np.float32), SEEN: seen}
    return replace(mesh, attributes=attributes)


@dataclass(frozen=True)
class PartErrors:
    """Mean distances between a completion and the truth, world units, on the scanned and on the hidden part.

    Each is the mean of both directions: the truth's samples to the result's triangles, and the result's to the truth's.
    ``observed_share`` is the share of the truth's surface that was scanned.
    """

    observed: float
    hidden: float
    observed_share: float


def errors_by_part(result: Mesh, truth: Mesh, scan: Array, samples: int = 50_000, seed: int = 0) -> PartErrors:
    """How far ``result`` is from ``truth`` where ``scan`` (N, 3) has points, and where it has none."""
    reach = reach_of(scan)
    tree = cKDTree(scan)
    gaps: dict[bool, list[float]] = {True: [], False: []}
    shares = []
    for a, b in ((truth, result), (result, truth)):
        points = sample_surface(a, samples, seed).points.astype(np.float64)
        seen = nearest(tree, points)[0] < reach
        gap = np.abs(MeshDistance(b).unsigned(points))
        for part in (True, False):
            gaps[part].append(float(gap[seen == part].mean()) if (seen == part).any() else float("nan"))
        shares.append(float(seen.mean()))
    return PartErrors(float(np.mean(gaps[True])), float(np.mean(gaps[False])), shares[0])
