"""The shapes a space is learned from: each prepared in its frame, and the batches drawn from all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError, NoNormalsError, SdfError
from ..geometry import Array, Box, Frame, PointCloud
from ..objectives import Objective
from ..planning import Source
from ..preparing import Prepared, cloud_of, prepare
from ..recipe import Recipe, Size
from ..recipes import RECIPES
from ..sampling import Batch, Sampler, joined
from .sizes import SpaceSize

SAMPLES = 50_000  # of each shape's surface


@dataclass(frozen=True, eq=False)
class Member:
    """One shape of the family, ready to be learned."""

    name: str
    frame: Frame
    box: Box
    oriented: bool
    sampler: Sampler
    points: Array  # (N, 3) float32 of the surface, unit box


@dataclass(frozen=True, eq=False)
class Family:
    """All shapes, and the recipe they are learned by."""

    members: list[Member]
    recipe: Recipe

    @property
    def objective(self) -> Objective:
        """The recipe's terms, without those on normals if a shape has none."""
        terms = self.recipe.objective
        oriented = all(member.oriented for member in self.members)
        return terms if oriented else terms.without(*self.recipe.normal_terms)

    def __len__(self) -> int:
        return len(self.members)

    def batch(self, rows: Sequence[int], seed: int, step: int) -> Batch:
        """Points of the members ``rows``, one after another; the same for the same seed and step."""
        for row in rows:
            self.members[row].sampler.reseed(mixed(seed, step, row))
        return joined([self.members[row].sampler.batch() for row in rows])

    def clouds(self, rows: Sequence[int], count: int, seed: int, step: int) -> Tensor:
        """(B, count, 3): some surface points of each of the members ``rows``; the same for the same seed and step."""
        found = []
        for row in rows:
            points = self.members[row].points
            found.append(points[np.random.default_rng([seed, step, row]).integers(0, len(points), count)])
        return torch.from_numpy(np.stack(found))


def mixed(*numbers: int) -> int:
    """A seed from several numbers; neighbouring numbers give unrelated seeds."""
    return int(np.random.SeedSequence(list(numbers)).generate_state(1, np.uint64)[0] >> 1)


def rows_of_step(step: int, count: int, shapes: int, seed: int) -> list[int]:
    """Which of ``count`` shapes step ``step`` (from 0) takes: a new order every epoch, each shape once in it."""
    if shapes >= count:
        return list(range(count))
    first = step * shapes
    epochs = range(first // count, (first + shapes - 1) // count + 1)
    orders = [np.random.default_rng([seed, epoch]).permutation(count) for epoch in epochs]
    start = first - epochs[0] * count
    return [int(row) for row in np.concatenate(orders)[start : start + shapes]]


def chosen_recipe(sources: Mapping[str, Source], name: str) -> Recipe:
    """The recipe called ``name``; ``auto`` is ``regression`` where every shape has a side, else ``igr``.

    Raises:
        InputError: there is no such recipe. NoNormalsError: it needs normals and a shape has none.
    """
    bare = [key for key, source in sources.items() if isinstance(source, PointCloud) and source.normals is None]
    if name == "auto":
        name = "igr" if bare else "regression"
    if name not in RECIPES:
        raise InputError(f"There is no recipe {name!r}.", f"Choose one of: auto, {', '.join(RECIPES)}.")
    if any(size.refresh for size in RECIPES[name].sizes.values()):
        raise InputError(
            f"{RECIPES[name].title} makes points of one field as it goes on, and a space has many.",
            "Take the recipe siren, or auto.",
        )
    if bare and RECIPES[name].needs_normals:
        raise NoNormalsError(
            f"{RECIPES[name].title} needs normals and {bare[0]} has none.", "Take the recipe auto, or leave it out."
        )
    return RECIPES[name]


def prepared(
    sources: Mapping[str, Source],
    recipe: Recipe,
    *,
    size: SpaceSize,
    seed: int,
    device: torch.device,
    together: bool = False,
    samples: int | None = None,
) -> Iterator[Member]:
    """Every shape of ``sources``, by name, one after the other.

    Args:
        together: one frame for all, so that sizes and places are part of the shapes; else each shape fills the unit
            box and keeps its own frame, and small shapes come out as well as large ones.
        samples: of each shape's surface.
    Raises:
        InputError and its kin, naming the shape.
    """
    clouds = {}
    for name, source in sources.items():
        with about(name):
            clouds[name] = cloud_of(source, samples or SAMPLES, seed)
    shared = Frame.around(np.concatenate([cloud.points for cloud in clouds.values()])) if together else None
    for name, source in sources.items():
        with about(name):
            frame = shared or Frame.around(clouds[name].points)
            found = prepare(source, clouds[name], frame, needs_distance=recipe.needs_distance)
            member = _member(name, found, recipe, size, seed, device)
        yield member


def _member(name: str, prepared: Prepared, recipe: Recipe, size: SpaceSize, seed: int, device: torch.device) -> Member:
    evidence = prepared.evidence
    # The pool of labelled points is in proportion to the steps a single fit would take.
    alone = Size(width=size.width, depth=size.depth, steps=size.pool // 300, batch=size.points, rate=size.rate)
    sampler = recipe.sampler(evidence, nn.Identity(), alone, seed, device)
    box = Box.around(evidence.points.astype(np.float64))
    return Member(name, prepared.frame, box, evidence.normals is not None, sampler, evidence.points)


@contextlib.contextmanager
def about(name: str) -> Iterator[None]:
    """Errors raised within say which shape they are about."""
    try:
        yield
    except SdfError as error:
        error.message = f"{name}: {error.message}"
        error.args = (error.message,)
        raise
