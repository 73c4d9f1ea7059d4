"""The batches that a fit draws from what is known of its surface. Everything here is in the unit box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from .errors import NoNormalsError
from .evidence import Evidence
from .geometry import Array
from .oracles import Oracle


@dataclass(frozen=True, eq=False)
class Batch:
    """Points of one step. ``None`` stands for what the sampler does not give."""

    surface: Tensor
    space: Tensor
    normals: Tensor | None = None
    directions: Tensor | None = None
    distances: Tensor | None = None
    feet: Tensor | None = None
    near: Tensor | None = None
    iso: Tensor | None = None
    iso_normals: Tensor | None = None

    @property
    def known_feet(self) -> Tensor:
        """(M, 3) where the surface is nearest to the points in space."""
        if self.feet is None:
            raise ValueError("this sampler knows no nearest points")
        return self.feet

    @property
    def known_near(self) -> Tensor:
        """(N, 3) points near the surface, beside those in all of space."""
        if self.near is None:
            raise ValueError("this sampler draws no points near the surface apart")
        return self.near

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
    """Draws the batches of one shape; seeded when made."""

    def batch(self) -> Batch: ...

    def reseed(self, seed: int) -> None:
        """Draw from here on as ``seed`` says, whatever was drawn before: so an interrupted descent can be resumed."""


def joined(batches: Sequence[Batch]) -> Batch:
    """The rows of several batches one after another; what one of them lacks, the whole lacks."""
    return _together(batches, torch.cat)


def stacked(batches: Sequence[Batch]) -> Batch:
    """Batches of several shapes side by side: each tensor (S, …); what one of them lacks, the whole lacks."""
    return _together(batches, torch.stack)


def _together(batches: Sequence[Batch], join: Callable[[list[Tensor]], Tensor]) -> Batch:
    def of(name: str) -> Tensor | None:
        held = [getattr(batch, name) for batch in batches]
        return None if any(part is None for part in held) else join(held)

    surface, space = of("surface"), of("space")
    assert surface is not None  # every batch has these two
    assert space is not None
    others = ("normals", "directions", "distances", "feet", "near", "iso", "iso_normals")
    return Batch(surface, space, *(of(name) for name in others))


class _Drawing:
    """What all samplers share: the surface on its device and one random generator, on the CPU for repeatability."""

    def __init__(self, evidence: Evidence, seed: int, device: torch.device) -> None:
        self.device = device
        self.generator = torch.Generator().manual_seed(seed)
        self.points = tensor(evidence.points, device)
        self.normals = None if evidence.normals is None else tensor(evidence.normals, device)

    def reseed(self, seed: int) -> None:
        self.generator.manual_seed(seed)

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


class _Drawn:
    """A sampler that draws from :class:`_Drawing`."""

    drawing: _Drawing

    def reseed(self, seed: int) -> None:
        self.drawing.reseed(seed)


class NearAndUniform(_Drawn):
    """IGR's batches: surface points; these moved by a Gaussian of their 50th neighbour's distance; some uniform ones.

    Source: Gropp et al. 2020, sec. 5 and its supplement: one uniform point for eight near ones. The neighbour distance
    is taken from positions alone (the published code mixes the normals in).
    """

    def __init__(self, evidence: Evidence, count: int, seed: int, device: torch.device, *, half: float = 1.1) -> None:
        self.drawing = _Drawing(evidence, seed, device)
        self.count, self.half = count, half
        self.sigma = tensor(evidence.neighbour_distance(50), device)

    def batch(self) -> Batch:
        points, normals, rows = self.drawing.surface(self.count)
        near = points + self.drawing.gauss(self.count, 3) * self.sigma[rows, None]
        space = torch.cat([near, self.drawing.uniform(self.count // 8, self.half)])
        return Batch(points, space, normals)


class HalfUniform(_Drawn):
    """SIREN's batches: half on the surface, half uniform in the box. Source: Sitzmann et al. 2020, supplement 3.

    Args:
        near: as many more points near the surface, apart: moved by a Gaussian of the 50th neighbour's distance.
        wide: share of the uniform points that is drawn from a Gaussian of this ``deviation`` instead (HotSpot).
    """

    def __init__(
        self,
        evidence: Evidence,
        count: int,
        seed: int,
        device: torch.device,
        *,
        half: float = 1.0,
        near: bool = False,
        wide: float = 0.0,
        deviation: float = 0.5,
    ) -> None:
        self.drawing = _Drawing(evidence, seed, device)
        self.count, self.half, self.wide, self.deviation = count, half, round(wide * count), deviation
        self.sigma = tensor(evidence.neighbour_distance(50), device) if near else None

    def batch(self) -> Batch:
        drawing, count = self.drawing, self.count
        points, normals, rows = drawing.surface(count)
        space = drawing.uniform(count - self.wide, self.half)
        if self.wide:
            space = torch.cat([space, self.deviation * drawing.gauss(self.wide, 3)])
        near = None if self.sigma is None else points + drawing.gauss(count, 3) * self.sigma[rows, None]
        return Batch(points, space, normals, near=near)


class Footed(_Drawn):
    """SAL's batches: surface points, and points round it of which the nearest point of the surface is known.

    Source: Atzmon & Lipman 2020 (SAL), sec. 5 and their supplement: half of the points are moved off the surface by a
    Gaussian of the 50th neighbour's distance, half by a wide one. All are made, and their feet found, beforehand.

    Args:
        wide: deviation of the wide Gaussian; published are 0.2 (families) and 1.0 (reconstruction).
        uniform: share of the second half that is uniform in the box instead.
        signed: ask the oracle for signed distances, too.
        pool: number of points of each half.
    """

    def __init__(
        self,
        evidence: Evidence,
        count: int,
        seed: int,
        device: torch.device,
        *,
        wide: float = 0.2,
        uniform: float = 0.2,
        signed: bool = False,
        pool: int = 100_000,
    ) -> None:
        self.drawing, self.count = _Drawing(evidence, seed, device), count
        rng = np.random.default_rng(seed)
        rows = rng.integers(0, len(evidence.points), 2 * pool)
        sigma = evidence.neighbour_distance(50)[rows[:pool], None]
        near = evidence.points[rows[:pool]] + rng.normal(size=(pool, 3)) * sigma
        away = evidence.points[rows[pool:]] + rng.normal(size=(pool, 3)) * wide
        even = round(uniform * pool)
        away[:even] = rng.uniform(-1.1, 1.1, (even, 3))
        away = away[np.abs(away).max(axis=1) <= 1.5]
        self.near, self.away = ([tensor(v, device) for v in _known(evidence, part, signed)] for part in (near, away))

    def batch(self) -> Batch:
        drawing, half = self.drawing, self.count // 2
        points, normals, _ = drawing.surface(self.count)
        a, b = drawing.rows(half, len(self.near[0])), drawing.rows(self.count - half, len(self.away[0]))
        space, feet, *signed = (torch.cat([x[a], y[b]]) for x, y in zip(self.near, self.away, strict=True))
        return Batch(points, space, normals, distances=signed[0] if signed else None, feet=feet)


def _known(evidence: Evidence, points: Array, signed: bool) -> list[Array]:
    """``points``, their feet, and their signed distances if those are asked for."""
    found = [points, evidence.feet(points)]
    if signed:
        if evidence.oracle is None:
            raise ValueError("signed distances need evidence with an oracle")
        found.append(evidence.oracle(points))
    return found


class Labelled(_Drawn):
    """Surface points, and points round the surface whose signed distance an oracle has said beforehand.

    Three pools, labelled once: points moved off the surface by log-uniform Gaussians from one spacing to ``far`` (thin
    parts see short moves, open space long ones); points even over the cells of sparse grids, so that every node is
    taught; points uniform in the box. Far queries are dear, so the last pool is small.

    Args:
        thin: what is no thicker than this gets points between its two sides besides, which moves in all directions
            seldom hit: so seldom, that the thin would be outvoted by the empty space round it.
        inner: how many of those, as a share of ``pool``, if all of the surface is thin.
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
        thin: float = 0.0,
        inner: float = 0.5,
    ) -> None:
        if evidence.oracle is None:
            raise ValueError("labelled samples need evidence with an oracle")
        self.drawing = _Drawing(evidence, seed, device)
        self.count = count
        rng = np.random.default_rng(seed)
        under = _under(evidence, thin, round(inner * pool), np.random.default_rng([seed, 1])) if thin else []
        near = np.concatenate([_moved(evidence, pool, far, rng), *_within(cells, pool // 2, rng), *under])
        wide = rng.uniform(-1, 1, (max(pool // 7, 1000), 3))
        self.near, self.near_distances = self._labelled(near, evidence.oracle)
        self.wide, self.wide_distances = self._labelled(wide, evidence.oracle)

    def _labelled(self, points: Array, oracle: Oracle) -> tuple[Tensor, Tensor]:
        device = self.drawing.device
        return tensor(points, device), tensor(oracle(points), device)

    def batch(self) -> Batch:
        drawing, count = self.drawing, self.count
        points, normals, _ = drawing.surface(count)
        a = drawing.rows(count, len(self.near))
        b = drawing.rows(count // 4, len(self.wide))
        directions = torch.nn.functional.normalize(drawing.gauss(count, 3), dim=1)
        space = torch.cat([self.near[a], self.wide[b]])
        distances = torch.cat([self.near_distances[a], self.wide_distances[b]])
        return Batch(points, space, normals, directions, distances)


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


_DEPTHS, _EACH, _ANY_THIN = 8, 4, 0.005


def _under(evidence: Evidence, thin: float, count: int, rng: np.random.Generator) -> list[Array]:
    """Points between the two sides of what is no thicker than ``thin``: ``count`` of them if all of the surface is.

    Nothing if next to nothing of the surface is thin, which a few points of it tell at a small price.
    """
    if evidence.normals is None:
        return []
    depths = np.geomspace(min(evidence.spacing / 2, thin / 2), thin, _DEPTHS)
    found: list[Array] = []
    rays = max(count // _EACH, 1)
    for some in (min(2000, rays), rays - 2000):
        if some <= 0:
            break
        rows = rng.integers(0, len(evidence.points), some)
        points, normals = evidence.points[rows], evidence.normals[rows]
        thick = evidence.thickness(points, normals, depths)
        is_thin = (thick > 0) & (thick < thin)
        if is_thin.mean() < _ANY_THIN:
            break
        depth = rng.uniform(0, 1.2, (_EACH, int(is_thin.sum()), 1)) * thick[is_thin, None]
        found.append(np.reshape(points[is_thin] - depth * normals[is_thin], (-1, 3)))
    return found
