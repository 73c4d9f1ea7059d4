"""One shape: from a mesh or points to a neural signed distance function."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from . import __version__
from .coherence import nearest
from .descent import Average, Budget, Step, descend
from .errors import InputError
from .evidence import Evidence
from .extraction import default_box, extract_sdf
from .fields import NeuralSDF
from .geometry import Array, Box, Frame, Mesh, PointCloud
from .handles import mend
from .lattice import Grid
from .networks import Mended
from .objectives import At, Objective
from .parts import keep_parts, part_areas, supported
from .planning import Plan, Source, check_number, nearer, plan, resolution_for
from .preparing import MOST, SAMPLES, cloud_of, prepare
from .recipe import Recipe
from .recipes import RECIPES
from .sampling import Sampler

FEWEST_SAMPLES = 16  # a part that fewer of the samples belong to is noise
BACKED = 0.25  # how much less the field is moved where the data agree with it
POINTS_A_SECOND = 20_000  # of a scan, kept under a budget of seconds: preparing more would leave none for training
_MENDING = 0.05  # of a budget of seconds, at most, goes into handles
_ASIDE = 0.01  # from the surface, to see which side of it is which
HISTORY = 500  # entries kept of the loss curve


@dataclass(frozen=True)
class Progress:
    """Where a fit stands. ``stage`` is ``preparing`` or ``fitting``; times in seconds since the fit began."""

    stage: str
    step: int
    steps: int
    fraction: float
    seconds: float
    seconds_left: float | None
    taken: Step | None = None

    @cached_property
    def terms(self) -> dict[str, float]:
        """The weighted terms of this step's loss; waits for the device when first read."""
        return {} if self.taken is None else {name: float(value.detach()) for name, value in self.taken.terms.items()}

    @property
    def loss(self) -> float:
        """Their sum."""
        return sum(self.terms.values())


def remembered(history: dict[str, list[float]], progress: Progress) -> dict[str, list[float]]:
    """The curve of the loss and its terms with one more entry; a term whose weight is 0 for a while leaves a gap."""
    if len(history["step"]) >= 2 * HISTORY:  # a time budget ran longer than foreseen: keep every other entry
        history = {name: values[::2] for name, values in history.items()}
    entry = {"step": progress.step, "loss": progress.loss, **progress.terms}
    before = len(history["step"])
    for name in {**history, **entry}:
        history.setdefault(name, [math.nan] * before).append(entry.get(name, math.nan))
    return history


@torch.no_grad()
def turn_outward(network: nn.Module, evidence: Evidence | None = None) -> None:
    """Turn f into -f, in place, if it falls along most normals; without these, if most of the box's border is inside.

    A field may have its sides right where there are data and yet be negative far from them.
    """
    like, generator = next(network.parameters()), torch.Generator().manual_seed(0)
    if evidence is not None and evidence.normals is not None:
        rows = torch.randint(len(evidence.points), (4096,), generator=generator).numpy()
        at, normals = (torch.from_numpy(part[rows]).to(like) for part in (evidence.points, evidence.normals))
        rise = network(at + _ASIDE * normals) - network(at - _ASIDE * normals)
    else:
        points = torch.rand((4096, 3), generator=generator) * 2 - 1
        rise = network((points / points.abs().amax(dim=1, keepdim=True)).to(like))
    if float(rise.sign().mean()) < 0:
        for head in getattr(network, "heads", None) or [network.last]:
            head.weight.neg_()
            head.bias.neg_()


class Fit:
    """A fit in progress: iterating does the work, one :class:`Progress` a step; break off to stop.

    Args:
        source: mesh or points, world units.
        recipe: a name in ``RECIPES``, or ``auto`` for the one that suits the input.
        preset: ``draft``, ``balanced`` or ``fine``.
        steps: instead of the preset's. seconds: of fitting, preparation included; the first budget spent ends the fit.
            With ``seconds`` alone the steps are not bounded.
        resolution: for extraction, instead of the preset's.
        samples: of a mesh's surface, or the most points kept of a scan; by default a million, fewer in few seconds.
        start: a fit to go on from; its network, frame and recipe are taken.
        seconds_left: asked once, when the preparation is done: what is left of ``seconds`` by then, if that is not the
            difference.
        settings: numbers of the recipe's ``Size``, by name, that are to be others: width, depth, batch, rate.
    Raises:
        InputError and its kin, from the plan. DivergedError while iterating; ``sdf`` then still is the best so far.
    """

    def __init__(
        self,
        source: Source,
        *,
        recipe: str = "auto",
        preset: str = "balanced",
        steps: int | None = None,
        seconds: float | None = None,
        resolution: int | None = None,
        seed: int = 0,
        device: str = "auto",
        samples: int | None = None,
        start: NeuralSDF | None = None,
        on_stage: Callable[[str], None] | None = None,
        seconds_left: Callable[[], float] | None = None,
        settings: Mapping[str, float] | None = None,
    ) -> None:
        self.seconds_left = seconds_left
        self.began = time.perf_counter()
        self.source = source
        self.start = start
        self.samples = samples
        if samples is not None:
            check_number(samples, "samples")
        self.on_stage = on_stage or (lambda stage: None)
        if start is not None and recipe == "auto":
            recipe = str(start.info.get("recipe", "auto"))
        self.plan: Plan = plan(
            source,
            recipe=recipe,
            preset=preset,
            steps=steps,
            seconds=seconds,
            resolution=resolution,
            device=device,
            seed=seed,
            settings=settings,
        )
        self._asked = steps, settings
        self._fixed_resolution = resolution is not None
        self.step = 0
        self.warnings: list[str] = []  # what the user is to hear of a fit that did not go as planned
        self.history: dict[str, list[float]] = {"step": [], "loss": []}
        self.network: nn.Module
        self.finished: nn.Module | None = None  # what a descent elsewhere came to
        self.is_prepared = False
        self._average: Average | None = None
        self._descending = self.began

    # What the fit is made of, each made on first use -----------------------------------------------------------------

    @cached_property
    def cloud(self) -> PointCloud:
        """What the surface is taken from, world units: samples of the mesh, or the points, once each."""
        most = self.samples
        if most is None and isinstance(self.source, PointCloud) and self.plan.seconds is not None:
            most = int(np.clip(POINTS_A_SECOND * self.plan.seconds, SAMPLES, MOST))
        return cloud_of(self.source, most, self.plan.seed)

    @cached_property
    def frame(self) -> Frame:
        """World ↔ unit; a continued fit keeps the frame of its start."""
        return self.start.frame if self.start is not None else Frame.around(self.cloud.points)

    @cached_property
    def evidence(self) -> Evidence:
        """The surface in the unit box: of a mesh, what bounds its solid; a signed distance if the recipe needs one."""
        recipe = RECIPES[self.plan.recipe]
        prepared = prepare(
            self.source, self.cloud, self.frame,
            needs_distance=recipe.needs_distance, needs_normals=recipe.needs_normals,
        )  # fmt: skip
        if prepared.note:
            self.plan = replace(self.plan, reason=f"{self.plan.reason} {prepared.note}")
        return prepared.evidence

    def _network(self, recipe: Recipe) -> nn.Module:
        if self.start is not None:
            start = self.start.network
            start = start.inner if isinstance(start, Mended) else start  # what was mended is to be fitted, not kept
            return copy.deepcopy(start).requires_grad_(True)  # what a fit gives away is frozen
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.plan.seed)
            try:
                return recipe.network(self.evidence, self.plan.size)
            except ValueError as error:  # sizes can be set one by one, and some do not go together
                raise InputError(f"{recipe.title} has no such network: {error}.", "Leave width and depth.") from error

    # The work --------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Progress]:
        yield from self.prepare()
        yield from self.descend()

    def prepare(self) -> Iterator[Progress]:
        """All that comes before the first step; afterwards there are ``network``, ``sampler`` and ``objective``."""
        if self.is_prepared:
            raise RuntimeError("a Fit can be iterated once; make another to fit again")
        self.is_prepared = True
        yield self._progress(None, 0.0, "preparing")
        self.on_stage("preparing")
        recipe = RECIPES[self.plan.recipe]
        self._settle_resolution()
        if self.start is None or self.start.info.get("near"):  # what has been learned from afar goes on so
            self.plan = nearer(self.plan, self.evidence, *self._asked)
        yield self._progress(None, 0.0, "preparing")
        device = torch.device(self.plan.device)
        self.network = self._network(recipe).to(device)
        self.sampler: Sampler = recipe.sampler(self.evidence, self.network, self.plan.size, self.plan.seed, device)
        self.objective: Objective = recipe.objective
        if self.evidence.normals is None:
            self.objective = self.objective.without(*recipe.normal_terms)
        self.on_stage("fitting")
        self._descending = time.perf_counter()

    def descend(self) -> Iterator[Progress]:
        """The steps, of a fit that is prepared."""
        network, sampler, objective = self.network, self.sampler, self.objective
        seconds = self.plan.seconds
        if seconds is not None:  # one step is taken even if nothing is left
            left = seconds - (self._descending - self.began) if self.seconds_left is None else self.seconds_left()
            seconds = max(left, 1e-6)
        budget = Budget(self.plan.steps if seconds is None else self._asked[0], seconds, self._descending)
        average = self._average = Average(network.train(), keep_every=max(10, self.plan.steps // 100))
        losses = lambda progress: objective(At.of(network, sampler.batch(), progress), progress)
        parameters = list(network.parameters())
        rate, usual, clip = self.plan.size.rate, self.plan.size.steps, RECIPES[self.plan.recipe].clip
        for step in descend(losses, parameters, budget=budget, rate=rate, clip=clip, usual_steps=usual):
            average.update(step)
            yield self.took(step)

    def took(self, step: Step) -> Progress:
        """One step was taken: note it."""
        self.step = step.number
        progress = self._progress(step, step.progress, "fitting")
        thin = max(1, -(-self.plan.steps // HISTORY))
        if step.number % thin == 0 or step.progress >= 1 or step.number == 1:
            self.history = remembered(self.history, progress)
        return progress

    def _settle_resolution(self) -> None:
        if self._fixed_resolution:
            return
        evidence = self.evidence
        longest = float(np.ptp(evidence.points, axis=0).max())
        found = resolution_for(evidence.area, self.plan.resolution, longest=longest, thinness=evidence.thinness)
        self.plan = replace(self.plan, resolution=found)

    def _progress(self, step: Step | None, fraction: float, stage: str) -> Progress:
        now = time.perf_counter()
        left = (now - self._descending) * (1 - fraction) / fraction if fraction > 0.02 else None
        return Progress(stage, self.step, self.plan.steps, fraction, now - self.began, left, step)

    @property
    def sdf(self) -> NeuralSDF:
        """The best shape so far: an independent copy, on the fit's device.

        Raises:
            InputError: no step has been taken yet, and there is no start to fall back on.
        """
        network = self._reached()
        if network is None:
            if self.start is not None:
                return self.start
            raise InputError("The fit has not taken a step yet.", "Give it more time.")
        network = network.eval()
        if RECIPES[self.plan.recipe].any_sign:
            turn_outward(network, self.evidence)
        box = Box.around(self.evidence.points.astype(np.float64))
        return NeuralSDF(network, self.frame, box, self._info())

    def _reached(self) -> nn.Module | None:
        """A copy of the best network so far; ``None`` before the first step."""
        if self.step == 0:
            return None
        if self.finished is not None:
            return copy.deepcopy(self.finished)
        return None if self._average is None else self._average.result()

    def mesh(
        self,
        sdf: NeuralSDF,
        *,
        resolution: int | None = None,
        level: float = 0.0,
        on_progress: Callable[[float], None] | None = None,
    ) -> Mesh:
        """The level set of ``sdf``, a result of this fit, as a mesh in world units, without stray parts and handles.

        Handles of level 0 that the data cannot tell from none are mended (:mod:`~sdfcore.handles`), in the network of
        ``sdf``, too, unless that is certified. A part without data behind it is left out. ``sdf.info`` then remembers,
        as ``smallest_part``, how small a part may be next to the largest, so that later extractions need no data.

        Raises:
            NoSurfaceError: the field does not reach ``level``.
        """
        cells = resolution or self.plan.resolution
        found = extract_sdf(sdf, resolution=cells, level=level, on_progress=on_progress)
        if level == 0 and not RECIPES[self.plan.recipe].certified:
            found = self._mended(sdf, found, cells, on_progress)
        unit = Mesh(self.frame.to_unit(found.vertices), found.faces, found.normals)
        step = float(sdf.box.size.max()) / cells
        reach = 2 * max(self.evidence.spacing, step) + 1.5 * abs(level) / self.frame.scale
        areas = part_areas(unit)
        points = self.evidence.points
        keep = supported(unit, points, self.evidence.normals, reach, min(FEWEST_SAMPLES, len(points) // 16))
        shares = areas / areas.max()
        sdf.info["smallest_part"] = min(0.5 * float(shares[keep].min()), 0.01)
        return keep_parts(found, keep)

    def _mended(self, sdf: NeuralSDF, mesh: Mesh, cells: int, on_progress: Callable[[float], None] | None) -> Mesh:
        """``mesh``, of level 0 of ``sdf``, without needless handles; ``sdf`` gets the network that it is of."""
        frame, tick = self.frame, on_progress or (lambda fraction: None)
        unit = Mesh((mesh.vertices - frame.centre) / frame.scale, mesh.faces, mesh.normals)
        grid = Grid.over(default_box(sdf), cells, True)
        # Steps are to be repeatable, whatever they take; a promise of seconds goes before the last handle.
        until = time.perf_counter() + _MENDING * (self.plan.seconds or math.inf)
        enough = lambda: time.perf_counter() > until
        network, after = mend(
            sdf.network, unit, grid, lambda *at: self._movable(grid.cell, *at), lambda: tick(1.0), enough
        )
        if network is sdf.network:
            return mesh
        sdf.network = network
        return Mesh(frame.to_world(after.vertices), after.faces, after.normals)

    def _movable(self, cell: float, points: Array, values: Array) -> Array:
        """(N,) how much the field may be moved at ``points`` (N, 3), where it has ``values``: half the data's spacing.

        Less where data are near that say what the field says: whether they are inside.
        """
        most = np.full(len(points), min(0.5 * self.evidence.spacing, cell))
        if self.evidence.oracle is not None and len(points):
            near = nearest(self.evidence.tree, points)[0] < self.evidence.spacing
            most[near & ((self.evidence.oracle(points) < 0) == (values < 0))] *= BACKED
        return most

    def _info(self) -> dict[str, Any]:
        before = 0 if self.start is None else int(self.start.info.get("steps", 0))
        return {
            "recipe": self.plan.recipe,
            "reason": self.plan.reason,
            "input_kind": self.plan.input_kind,
            "preset": self.plan.preset,
            "steps": before + self.step,
            "resolution": self.plan.resolution,
            "near": self.plan.size.near,
            "area": self.evidence.area,
            "seed": self.plan.seed,
            "version": __version__,
        }
