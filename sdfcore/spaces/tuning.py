"""Bringing a decoded shape to a scan's own accuracy: its network alone descends a little further."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator

import numpy as np
import torch
from scipy.spatial import cKDTree

from ..descent import Average, Budget, Step, descend
from ..errors import NoSurfaceError
from ..evidence import Evidence
from ..extraction import extract
from ..fields import NeuralSDF
from ..fitting import Progress
from ..geometry import Array, Box
from ..networks import DeepSDF
from ..objectives import At, Objective, clamped_distance, manifold, normals_along, relative_distance
from ..planning import Source
from ..preparing import cloud_of, prepare
from ..recipes.regression import THIN
from ..sampling import Labelled
from ..surfaces import sample_surface
from .partial import FADE, corrected

STEPS = 1000
#: DeepSDF's, and a light hand on what the surface itself says: the field has found it already.
OBJECTIVE = Objective(
    {
        "normals": (0.003, normals_along),
        "manifold": (0.3, manifold),
        "distance": (1.0, relative_distance()),
        "clamped": (1.0, clamped_distance(0.1)),
    }
)
_SAMPLES, _POINTS = 60_000, 1024
_RATE, _CAREFUL = 2e-3, 2e-4  # the second for networks with kinks, learned elsewhere: larger steps fold them
_COARSE = 96  # cells of the mesh that says where the prior's own surface is


class FineTune:
    """The network of a decoded shape, fitted further to ``source``: iterating does the work.

    It leaves the family: what comes out is one shape's network, no longer a code. Of a part, only the part and its
    surroundings move; elsewhere the inferred shape is the teacher.

    Args:
        sdf: the inferred shape, in the source's world. source: world units. partial: as of ``Infer``.
    """

    def __init__(
        self,
        sdf: NeuralSDF,
        source: Source,
        *,
        partial: bool = False,
        steps: int = STEPS,
        seconds: float | None = None,
        seed: int = 0,
    ) -> None:
        self.began = time.perf_counter()
        self.prior, self.steps, self.seconds, self.seed = sdf, steps, seconds, seed
        cloud = cloud_of(source, _SAMPLES, seed)
        whole = not partial and cloud.normals is not None
        evidence = prepare(cloud if partial else source, cloud, sdf.frame, needs_distance=whole).evidence
        self.evidence = evidence if whole else self._beside(evidence)
        self._thin = THIN if whole else 0.0  # of a part scanned from one side nobody knows how thick it is
        plain = self.evidence.normals is None
        self.objective = OBJECTIVE.without("normals") if plain else OBJECTIVE
        self._average: Average | None = None

    def _values(self, points: Array) -> Array:
        """(N,) of the prior at unit points."""
        rows = torch.as_tensor(np.asarray(points, dtype=np.float32), device=self.prior.device)
        with torch.inference_mode():
            return np.concatenate([self.prior.network(part).cpu().numpy() for part in rows.split(1 << 14)])

    def _beside(self, part: Evidence) -> Evidence:
        """The scanned part, and the prior's surface where nothing was scanned."""
        oracle = corrected(self._values, part.points.astype(np.float64))
        hidden = self._hidden(part)
        if hidden is None:
            return Evidence(part.points, part.normals, oracle)
        points = np.concatenate([part.points, hidden.points])
        normals = None
        if part.normals is not None and hidden.normals is not None:
            normals = np.concatenate([part.normals, hidden.normals])
        return Evidence(points.astype(np.float32), normals, oracle)

    def _hidden(self, part: Evidence) -> Evidence | None:
        try:
            mesh = extract(self.prior.network, self.prior.box.expanded(0.05), _COARSE, device=self.prior.device)
        except NoSurfaceError:
            return None
        cloud = sample_surface(mesh, _SAMPLES, self.seed)
        gap, _ = cKDTree(part.points).query(cloud.points, workers=-1)
        far = np.asarray(gap > 2 * FADE)
        if not far.any():
            return None
        kept = cloud.take(far)
        return Evidence(kept.points.astype(np.float32), kept.normals, None)

    def __iter__(self) -> Iterator[Progress]:
        device = self.prior.device
        network = copy.deepcopy(self.prior.network).requires_grad_(True).train()
        sampler = Labelled(self.evidence, _POINTS, self.seed, device, pool=150_000, thin=self._thin)
        average = self._average = Average(network, keep_every=50)
        losses = lambda progress: self.objective(At.of(network, sampler.batch()), progress)
        budget = Budget(self.steps, self.seconds, self.began)
        rate = _CAREFUL if any(isinstance(part, DeepSDF) for part in network.modules()) else _RATE
        for step in descend(losses, list(network.parameters()), budget=budget, rate=rate):
            average.update(step)
            yield self._progress(step)

    def _progress(self, step: Step) -> Progress:
        taken = time.perf_counter() - self.began
        left = taken * (1 - step.progress) / step.progress if step.progress > 0.02 else None
        return Progress("fine-tuning", step.number, self.steps, step.progress, taken, left, step)

    @property
    def sdf(self) -> NeuralSDF:
        """The shape so far; the prior before the first step."""
        if self._average is None:
            return self.prior
        network = self._average.result().eval().requires_grad_(False)
        seen = self.evidence.points
        box = Box(
            np.minimum(self.prior.box.lower, seen.min(axis=0)), np.maximum(self.prior.box.upper, seen.max(axis=0))
        )
        return NeuralSDF(network, self.prior.frame, box, {**self.prior.info, "fine_tuned": True})
