"""Iso-points: a sine network kept smooth by points of its own surface (Yifan et al., CVPR 2021), for noisy scans.

From time to time points are spread evenly over the zero level set that the network has by then. Their normals, each of
a plane through its neighbours, change more slowly than those of noisy data; the field is asked to follow them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

from ..coherence import nearest
from ..evidence import Evidence
from ..fields import Jet
from ..geometry import Array
from ..objectives import At, Objective, alignment, eikonal_everywhere, manifold, off_surface
from ..queries.iso_points import evenly, projected, spacing_of
from ..recipe import Recipe, Size
from ..sampling import Batch, HalfUniform, Sampler, tensor
from .siren import RECIPE as SIREN

COUNT = 8000  # as published
_ROUNDS = 8  # of repulsion, at each refresh
_NEIGHBOURS = 16  # of a point, for its normal, as published
_ASKED = 8  # data points round one, whose normals say where outside is
_STRAY = 3.0  # spacings: points farther from all data are of no surface that was scanned


class WithIsoPoints:
    """The batches of another sampler, with as many iso-points of ``network`` and their normals.

    Args:
        warm_up: steps before the first iso-points. refresh: steps after which they are made anew.
    """

    def __init__(
        self, inner: Sampler, evidence: Evidence, network: nn.Module, warm_up: int, refresh: int, seed: int,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.inner, self.evidence, self.network, self.device = inner, evidence, network, device
        self.warm_up, self.refresh = max(1, warm_up), max(1, refresh)
        self.generator = torch.Generator().manual_seed(seed + 1)
        self.rng = np.random.default_rng(seed)
        self.taken = 0
        self.points: Tensor | None = None
        self.normals: Tensor | None = None

    def reseed(self, seed: int) -> None:
        self.inner.reseed(seed)
        self.generator.manual_seed(seed + 1)
        self.rng = np.random.default_rng(seed)

    def batch(self) -> Batch:
        since = self.taken - self.warm_up
        if since >= 0 and since % self.refresh == 0:
            self._refresh()
        self.taken += 1
        batch = self.inner.batch()
        if self.points is None or self.normals is None:
            return batch
        rows = torch.randint(len(self.points), (len(batch.surface),), generator=self.generator).to(self.device)
        return replace(batch, iso=self.points[rows], iso_normals=self.normals[rows])

    def _refresh(self) -> None:
        given = self.evidence.points
        rows = self.rng.permutation(len(given))[:COUNT]
        spacing = spacing_of(self.evidence.area, len(rows))
        project = lambda at, steps, longest: projected(
            self.network, at, steps=steps, longest=longest, device=self.device, dtype=torch.float32
        )
        training = self.network.training
        self.network.eval()
        points, slopes = evenly(project, given[rows].astype(np.float64), spacing, _ROUNDS)
        self.network.train(training)
        reach = _STRAY * max(spacing, self.evidence.spacing)
        away, closest = nearest(cKDTree(given), points, k=min(_ASKED, len(given)))
        away, closest = away.reshape(len(points), -1), closest.reshape(len(points), -1)
        near = away[:, 0] < reach  # Newton's method may have gone astray
        if near.sum() > _NEIGHBOURS:
            known = self.evidence.normals
            # The network's own slopes only where nothing else is known: it would be held to the sides it has by then.
            outward = slopes if known is None else known[closest].mean(axis=1)
            normals = plane_normals(points[near], outward[near])
            self.points, self.normals = tensor(points[near], self.device), tensor(normals, self.device)


def plane_normals(points: Array, outward: Array, neighbours: int = _NEIGHBOURS) -> Array:
    """(N, 3) unit normals of the planes through each point's neighbours, to the side that ``outward`` (N, 3) points to.

    Source: Yifan et al. 2021, eq. (8): principal components of the iso-points round each.
    """
    near = nearest(cKDTree(points), points, k=min(neighbours, len(points)))[1]
    around = points[near] - points[near].mean(axis=1, keepdims=True)
    normals = np.linalg.eigh(np.einsum("nki,nkj->nij", around, around))[1][:, :, 0]
    return np.asarray(normals * np.where(np.einsum("ni,ni->n", normals, outward) < 0, -1.0, 1.0)[:, None])


def _iso(at: At) -> Jet | None:
    """At the iso-points of this step, once there are some."""
    if at.batch.iso is None:
        return None
    if "iso" not in at.__dict__:  # both terms read it
        at.__dict__["iso"] = Jet(at.space.field, at.batch.iso)
    found: Jet = at.__dict__["iso"]
    return found


def iso_manifold(at: At) -> Tensor:
    """Mean |f| at the iso-points. Source: Yifan et al. 2021, eq. (9)."""
    jet = _iso(at)
    return at.space.value.new_zeros(()) if jet is None else jet.value.abs().mean()


def iso_alignment(at: At) -> Tensor:
    """Mean 1 - cos(∇f, n), n the iso-points' own normals. Source: Yifan et al. 2021, eq. (8)."""
    jet = _iso(at)
    if jet is None or at.batch.iso_normals is None:
        return at.space.value.new_zeros(())
    return (1 - torch.cosine_similarity(jet.gradient, at.batch.iso_normals, dim=-1)).mean()


def _sampler(evidence: Evidence, network: nn.Module, size: Size, seed: int, device: torch.device) -> Sampler:
    inner = HalfUniform(evidence, size.batch, seed, device)
    return WithIsoPoints(inner, evidence, network, size.warm_up, size.refresh, seed, device)


RECIPE = Recipe(
    name="isopoints",
    title="Iso-points",
    source="Yifan, Wu, Öztireli, Sorkine-Hornung: Iso-Points: Optimizing Neural Implicit Surfaces with Hybrid "
    "Representations, CVPR 2021",
    summary="SIREN kept smooth by points of its own surface, for scans with noise; better with normals",
    network=SIREN.network,
    sampler=_sampler,
    # weights of the authors' code: 1e3 and 1e2 on both data and iso-points, 1e2 between, 5e1
    objective=Objective(
        {
            "manifold": (1e3, manifold),
            "normals": (1e2, alignment),
            "iso_manifold": (1e3, iso_manifold),
            "iso_normals": (1e2, iso_alignment),
            "off_surface": (1e2, off_surface),
            "eikonal": (5e1, eikonal_everywhere),
        }
    ),
    sizes={
        "draft": Size(width=128, depth=3, steps=1500, batch=1536, rate=5e-4, warm_up=200, refresh=200),
        "balanced": Size(width=256, depth=4, steps=2500, batch=2048, rate=2e-4, warm_up=300, refresh=500),
        # published: 500 and 2000 in the code, 300 and 1000 elsewhere
        "fine": Size(width=256, depth=4, steps=10_000, batch=8000, rate=1e-4, warm_up=500, refresh=2000),
    },
    normal_terms=("normals",),
    clip=1.0,
    any_sign=True,
)
