"""What a fit knows of its surface, and the batches drawn from it. Everything here is in the unit box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from .errors import NoNormalsError
from .fields import Field
from .geometry import Array
from .oracles import Oracle


@dataclass(frozen=True, eq=False)
class Evidence:
    """Points of the surface, what is known of their normals, and a signed distance where one can be had.

    Args:
        points: (N, 3) float32; normals: (N, 3) float32 outward, or ``None``.
        oracle: (M, 3) → (M,) signed distance, negative inside, or ``None``.
    """

    points: Array
    normals: Array | None
    oracle: Oracle | None

    @cached_property
    def spacing(self) -> float:
        """Typical distance between neighbouring points: √(area per point), from 8 neighbours of some points.

        At least 1e-6: points that are closer may be one and the same in float32.
        """
        some = self.points[np.random.default_rng(0).permutation(len(self.points))[:4000]]
        count = min(9, len(self.points))
        gap, _ = cKDTree(self.points).query(some, k=count, workers=-1)
        radius = np.reshape(gap, (len(some), count))[:, -1]
        return max(float(np.median(np.sqrt(np.pi * radius**2 / max(count - 1, 1)))), 1e-6)

    def neighbour_distance(self, k: int) -> Array:
        """(N,) float32 distance of each point to its k-th neighbour: the local scale of IGR's near samples."""
        count = min(k + 1, len(self.points))
        gap, _ = cKDTree(self.points).query(self.points, k=[count], workers=-1)
        return np.asarray(gap, dtype=np.float32)[:, 0]


@dataclass(frozen=True, eq=False)
class Batch:
    """Points of one step. ``None`` stands for what the sampler does not give."""

    surface: Tensor
    space: Tensor
    normals: Tensor | None = None
    directions: Tensor | None = None
    distances: Tensor | None = None

    @property
    def known_normals(self) -> Tensor:
        """(S, 3) of the surface points."""
        if self.normals is None:
            raise NoNormalsError(
                "The objective reads normals and the points have none.", "Choose a recipe without normals."
            )
        return self.normals

    @property
    def known_directions(self) -> Tensor:
        """(S, 3) random unit vectors, one per surface point."""
        if self.directions is None:
            raise ValueError("this sampler draws no directions")
        return self.directions

    @property
    def known_distances(self) -> Tensor:
        """(M,) signed distance of the points in space."""
        if self.distances is None:
            raise ValueError("this sampler knows no distances")
        return self.distances


class Sampler(Protocol):
    """Draws the batches of one fit; seeded when made."""

    def batch(self) -> Batch: ...

    def refresh(self, field: Field) -> None:
        """Look at the field so far; called a few times in a fit. Most samplers have no use for it."""


class _Drawing:
    """What all samplers share: the surface on its device and one random generator, on the CPU for repeatability."""

    def __init__(self, evidence: Evidence, seed: int, device: torch.device) -> None:
        self.device = device
        self.generator = torch.Generator().manual_seed(seed)
        self.points = tensor(evidence.points, device)
        self.normals = None if evidence.normals is None else tensor(evidence.normals, device)

    def rows(self, count: int, total: int) -> Tensor:
        return torch.randint(total, (count,), generator=self.generator).to(self.device)

    def gauss(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator).to(self.device)

    def uniform(self, count: int, half: float) -> Tensor:
        return ((torch.rand((count, 3), generator=self.generator) * 2 - 1) * half).to(self.device)

    def surface(self, count: int) -> tuple[Tensor, Tensor | None, Tensor]:
        rows = self.rows(count, len(self.points))
        return self.points[rows], None if self.normals is None else self.normals[rows], rows


def tensor(values: Array, device: torch.device) -> Tensor:
    return torch.tensor(np.ascontiguousarray(values, dtype=np.float32), device=device)


class NearAndUniform:
    """IGR's batches: surface points; these moved by a Gaussian of their 50th neighbour's distance; some uniform ones.

    Source: Gropp et al. 2020, sec. 5 and its supplement: one uniform point for eight near ones. The neighbour distance
    is taken from positions alone (the published code mixes the normals in).
    """

    def __init__(self, evidence: Evidence, count: int, seed: int, device: torch.device, *, half: float = 1.1) -> None:
        self.drawing = _Drawing(evidence, seed, device)
        self.count, self.half = count, half
        self.sigma = tensor(evidence.neighbour_distance(50), device)

    def refresh(self, field: Field) -> None:
        """Nothing: the samples do not depend on the field."""

    def batch(self) -> Batch:
        points, normals, rows = self.drawing.surface(self.count)
        near = points + self.drawing.gauss(self.count, 3) * self.sigma[rows, None]
        space = torch.cat([near, self.drawing.uniform(self.count // 8, self.half)])
        return Batch(points, space, normals)


class HalfUniform:
    """SIREN's batches: half on the surface, half uniform in the box. Source: Sitzmann et al. 2020, supplement 3."""

    def __init__(self, evidence: Evidence, count: int, seed: int, device: torch.device, *, half: float = 1.0) -> None:
        self.drawing = _Drawing(evidence, seed, device)
        self.count, self.half = count, half

    def refresh(self, field: Field) -> None:
        """Nothing: the samples do not depend on the field."""

    def batch(self) -> Batch:
        points, normals, _ = self.drawing.surface(self.count)
        return Batch(points, self.drawing.uniform(self.count, self.half), normals)


class Labelled:
    """Surface points, and points round the surface whose signed distance an oracle has said beforehand.

    Three pools, labelled once: points moved off the surface by log-uniform Gaussians from one spacing to ``far`` (thin
    parts see short moves, open space long ones); points even over the cells of sparse grids, so that every node is
    taught; points uniform in the box. Far queries are dear, so the last pool is small.
    """

    def __init__(
        self,
        evidence: Evidence,
        count: int,
        seed: int,
        device: torch.device,
        *,
        cells: Sequence[tuple[float, Array]] = (),
        pool: int = 200_000,
        far: float = 0.08,
    ) -> None:
        if evidence.oracle is None:
            raise ValueError("labelled samples need evidence with an oracle")
        self.drawing = _Drawing(evidence, seed, device)
        self.count = count
        rng = np.random.default_rng(seed)
        near = np.concatenate([_moved(evidence, pool, far, rng), *_within(cells, pool // 2, rng)])
        wide = rng.uniform(-1, 1, (max(pool // 7, 1000), 3))
        self.near, self.near_distances = self._labelled(near, evidence.oracle)
        self.wide, self.wide_distances = self._labelled(wide, evidence.oracle)
        # Rows of each pool to draw from; refresh() repeats those that need it.
        self.on_surface = torch.arange(len(evidence.points), device=device)
        self.in_space = torch.arange(len(self.near), device=device)
        self.far_off = torch.arange(len(self.wide), device=device)

    def _labelled(self, points: Array, oracle: Oracle) -> tuple[Tensor, Tensor]:
        device = self.drawing.device
        return tensor(points, device), tensor(oracle(points), device)

    @torch.no_grad()
    def refresh(self, field: Field) -> None:
        """Draw more from where ``field`` is still wrong: half of each pool evenly, half in proportion to the error.

        Narrow gaps and thin parts hold few samples and are learned last; this finds them. An error counts as in
        :func:`~sdfcore.objectives.relative_distance`, and no sample more than twenty times the mean.
        Source: importance sampling by loss, Katharopoulos & Fleuret 2018, in its simplest form.
        """
        drawing = self.drawing
        self.on_surface = self._harder(in_chunks(field, drawing.points).abs())
        self.in_space = self._harder(_relative(in_chunks(field, self.near), self.near_distances))
        self.far_off = self._harder(_relative(in_chunks(field, self.wide), self.wide_distances))

    def _harder(self, errors: Tensor) -> Tensor:
        mean = errors.mean()
        weights = (errors.clamp(max=20 * mean) + mean + 1e-12).double().cpu().cumsum(0)
        draws = torch.rand(len(errors), generator=self.drawing.generator, dtype=torch.float64) * weights[-1]
        return torch.searchsorted(weights, draws).clamp(max=len(errors) - 1).to(errors.device)

    def batch(self) -> Batch:
        drawing, count = self.drawing, self.count
        rows = self.on_surface[drawing.rows(count, len(self.on_surface))]
        a = self.in_space[drawing.rows(count, len(self.in_space))]
        b = self.far_off[drawing.rows(count // 4, len(self.far_off))]
        directions = torch.nn.functional.normalize(drawing.gauss(count, 3), dim=1)
        space = torch.cat([self.near[a], self.wide[b]])
        distances = torch.cat([self.near_distances[a], self.wide_distances[b]])
        normals = None if drawing.normals is None else drawing.normals[rows]
        return Batch(drawing.points[rows], space, normals, directions, distances)


def _relative(values: Tensor, distances: Tensor, floor: float = 0.02) -> Tensor:
    return (values - distances).abs() * (floor / (distances.abs() + floor))


def in_chunks(field: Field, points: Tensor, chunk: int = 16384) -> Tensor:
    """``field`` at many points (N, 3) → (N,), in pieces that stay in the processor's cache."""
    return torch.cat([field(part) for part in points.split(chunk)])


def _moved(evidence: Evidence, count: int, far: float, rng: np.random.Generator) -> Array:
    low = np.log(min(evidence.spacing, far / 2))
    sigma = np.exp(rng.uniform(low, np.log(far), (count, 1)))
    return evidence.points[rng.integers(0, len(evidence.points), count)] + rng.normal(size=(count, 3)) * sigma


def _within(cells: Sequence[tuple[float, Array]], count: int, rng: np.random.Generator) -> list[Array]:
    """Points even over boxes of side 2·size round the given nodes, the same number for every grid."""
    parts = []
    for size, nodes in cells:
        rows = rng.integers(0, len(nodes), count // len(cells))
        parts.append(nodes[rows] + rng.uniform(-size, size, (len(rows), 3)))
    return parts
