"""Losses: small functions of the jets of one batch, and the named, weighted sum that a recipe minimises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .fields import Field, Jet
from .sampling import Batch


@dataclass(frozen=True)
class At:
    """The field of this step at the points of one batch: ``surface`` on the data, ``space`` round it.

    ``progress`` is the share of the budget that is used, for terms that change on the way.
    """

    surface: Jet
    space: Jet
    batch: Batch
    progress: float = 1.0

    @classmethod
    def of(cls, field: Field, batch: Batch, progress: float = 1.0) -> At:
        return cls(Jet(field, batch.surface), Jet(field, batch.space), batch, progress)

    @cached_property
    def near(self) -> Jet:
        """At points near the surface, apart from those in all of space."""
        return Jet(self.space.field, self.batch.known_near)

    @property
    def unsigned(self) -> tuple[Tensor, Tensor]:
        """(M,) distance of the points in space to the surface, and its gradient (M, 3)."""
        away = self.batch.space - self.batch.known_feet
        length = away.norm(dim=-1)
        return length, away / length.clamp(min=1e-9)[:, None]


Term = Callable[[At], Tensor]
Weight = float | Callable[[float], float]


@dataclass(frozen=True)
class Objective:
    """Named terms with weights; a weight may be a function of the progress in [0, 1]."""

    terms: Mapping[str, tuple[Weight, Term]]

    def __call__(self, at: At, progress: float) -> dict[str, Tensor]:
        """Each term times its weight, by name; scalars. Terms of weight 0 are not computed."""
        found = {}
        for name, (weight, term) in self.terms.items():
            factor = weight(progress) if callable(weight) else weight
            if factor:
                found[name] = factor * term(at)
        return found

    def without(self, *names: str) -> Objective:
        """The same with some terms left out."""
        return Objective({name: pair for name, pair in self.terms.items() if name not in names})


def schedule(*knots: tuple[float, float]) -> Callable[[float], float]:
    """A weight that goes straight from knot to knot, each (progress, weight), and stays at the first and the last."""
    at, weights = zip(*knots, strict=True)
    return lambda progress: float(np.interp(progress, at, weights))


def manifold(at: At) -> Tensor:
    """Mean |f| on the surface, which should be 0. Source: Gropp et al. 2020 (IGR), eq. (2), first term."""
    return at.surface.value.abs().mean()


def normals(at: At) -> Tensor:
    """Mean ‖∇f - n‖ on the surface, over points that have normals. Source: Gropp et al. 2020, eq. (2), τ term."""
    return (at.surface.gradient - at.batch.known_normals).norm(dim=-1).mean()


def normals_along(at: At) -> Tensor:
    """Mean |∂f/∂v - n·v| over random unit v, one per surface point: what :func:`normals` asks, at a third of the price.

    The mean over v of the square is ‖∇f - n‖² / 3; the absolute value is kept for its robustness to wrong normals.
    """
    v = at.batch.known_directions
    return (at.surface.along(v) - (at.batch.known_normals * v).sum(dim=-1)).abs().mean()


def eikonal(at: At) -> Tensor:
    """Mean squared departure of the gradient's length from 1, over the volume.

    An SDF has unit gradient almost everywhere; points on its skeleton never will, so the minimum is not zero.
    Source: Gropp et al. 2020, eq. (2), last term.
    """
    return (at.space.gradient.norm(dim=-1) - 1).square().mean()


def eikonal_everywhere(at: At) -> Tensor:
    """Mean | ‖∇f‖ - 1 | over surface and volume. Source: Sitzmann et al. 2020 (SIREN), eq. (6), first term."""
    lengths = torch.cat([at.surface.gradient, at.space.gradient]).norm(dim=-1)
    return (lengths - 1).abs().mean()


def eikonal_on_surface(at: At) -> Tensor:
    """Mean | ‖∇f‖ - 1 | on the surface alone. Source: Wang et al. 2023 (Neural Singular Hessian), as in their code."""
    return (at.surface.gradient.norm(dim=-1) - 1).abs().mean()


def alignment(at: At) -> Tensor:
    """Mean 1 - cos(∇f, n) on the surface. Source: Sitzmann et al. 2020, eq. (6), second term."""
    return (1 - torch.cosine_similarity(at.surface.gradient, at.batch.known_normals, dim=-1)).mean()


def off_surface(at: At) -> Tensor:
    """Mean exp(-100 |f|) off the surface: punishes zeros away from the data. Source: Sitzmann et al. 2020, eq. (6)."""
    return torch.exp(-100 * at.space.value.abs()).mean()


def clamped_distance(delta: float = 0.1) -> Term:
    """Mean |clamp(f, δ) - clamp(d, δ)| off the surface. Source: Park et al. 2019 (DeepSDF), eq. (4), δ = 0.1.

    As published the clamp kills the gradient where |f| > δ; a sign that is wrong out there is then never mended, so f
    is clamped only on the side it should be on.
    """

    def term(at: At) -> Tensor:
        f, d = at.space.value, at.batch.known_distances
        beyond = (f.abs() > delta) & (d.abs() > delta) & (f * d > 0)
        error = (f.clamp(min=-delta) * (d < 0) + f.clamp(max=delta) * (d >= 0)) - d.clamp(-delta, delta)
        return torch.where(beyond, torch.zeros_like(error), error).abs().mean()

    return term


def relative_distance(floor: float = 0.02) -> Term:
    """Mean |f - d| · floor / (|d| + floor): exact near the surface, roughly right far away.

    Source: ours, after the relative error of Müller et al. 2022 (instant-ngp, MAPE); in units of distance near the
    surface.
    """

    def term(at: At) -> Tensor:
        d = at.batch.known_distances
        return ((at.space.value - d).abs() * (floor / (d.abs() + floor))).mean()

    return term


def far_distance(beyond: float = 0.05) -> Term:
    """Mean |f - d| where |d| > ``beyond``, 0 elsewhere: so that the field is a distance far away, too. Source: ours."""

    def term(at: At) -> Tensor:
        d = at.batch.known_distances
        return ((at.space.value - d).abs() * (d.abs() > beyond)).mean()

    return term
