"""The code of an unseen shape, by descending to it with the network frozen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..adam import Adam
from ..descent import Budget, Step, descend
from ..errors import InputError
from ..evidence import Evidence
from ..fields import NeuralSDF
from ..fitting import Progress
from ..geometry import Array, Box, Frame
from ..networks import MLP, Turned
from ..objectives import At, Objective
from ..planning import Source
from ..preparing import cloud_of, prepare
from ..recipe import Recipe, Size
from ..recipes import RECIPES
from ..sampling import Batch, Sampler
from .family import mixed
from .partial import Banded
from .poses import Posed, Poses, frame_through, matched, quarter_turns, turned_box
from .space import Latent, Space
from .tuning import OBJECTIVE

SAMPLES = 30_000  # of the source, at most
STEPS = 400
_SCREEN_STEPS, _SCREEN_POINTS = 50, 160
_STARTS, _KEPT = 12, 3
_POINTS = 640
_RATE, _POSE_RATE = 0.05, 0.01  # in standard deviations of the codes; in unit boxes
_BEYOND = 3.0  # standard deviations of the usual direction learned: what one of a direction that none taught is
_PRIOR = 2e-4  # weight of the squared code, in standard deviations, mean over the directions


@dataclass(frozen=True, eq=False)
class Inferred:
    """What was found: the shape as the space knows it, how it is turned, and how well it explains the source.

    Args:
        latent: code, frame, box. rotation: (3, 3), x = R p, of the source's world into the family's.
        loss: of the objective at the end, unit box.
    """

    latent: Latent
    rotation: Array
    loss: float

    def field(self, space: Space) -> NeuralSDF:
        """The inferred shape in the source's world, turned as the source is."""
        sdf = space.decode(self.latent)
        if np.allclose(self.rotation, np.eye(3)):
            return sdf
        network = Turned(sdf.network, torch.as_tensor(self.rotation)).to(sdf.device).eval()
        return NeuralSDF(network, sdf.frame, turned_box(sdf.box, self.rotation), sdf.info)


def _of_a_part(recipe: Recipe, evidence: Evidence) -> Objective:
    """What is asked of a part: the recipe's own terms, unless they read more than :class:`Banded` has to give.

    Distances to a part's points, or samples near them, say nothing of what is hidden; so instead distances along the
    normals are taken, or IGR's terms where there are none.
    """
    if not recipe.needs_distance:
        few = Size(width=0, depth=0, steps=1, batch=8, rate=_RATE)
        batch = recipe.sampler(evidence, MLP(8, 1, 0), few, 0, torch.device("cpu")).batch()
        if batch.feet is None and batch.near is None:
            return recipe.objective
    return OBJECTIVE if evidence.normals is not None or recipe.needs_distance else RECIPES["igr"].objective


class Infer:
    """An inference in progress: iterating does the work, one :class:`Progress` a step; break off to stop.

    Of a part, the code moves within the span of the learned codes, in standard deviations of their principal
    directions, so that what no shape has taught is not used; of a whole shape, where every place is checked by data, it
    may leave the span. Several learned shapes are starts; the best go on.
    Source: test-time optimisation, Park et al. 2019 (DeepSDF), eq. (10); several starts and the span are ours.

    Args:
        source: a mesh or points, world units; all of the shape, or a part of it.
        partial: whether ``source`` is only a part: then nothing is concluded from where it has no points.
        align: let the scale and place be found, too; else the source's own box is the family's. By default it is done
            but for spaces learned ``together``, whose places are part of the shapes.
        rotate: let it be turned as well, in any direction.
        steps, seconds: budgets, as of a fit.
    Raises:
        InputError and its kin.
    """

    def __init__(
        self,
        space: Space,
        source: Source,
        *,
        partial: bool = False,
        align: bool | None = None,
        rotate: bool = False,
        steps: int = STEPS,
        seconds: float | None = None,
        seed: int = 0,
        on_stage: Callable[[str], None] = lambda stage: None,
    ) -> None:
        self.began = time.perf_counter()
        self.space, self.seed, self.partial, self.rotate = space, seed, partial, rotate
        self.align = not space.info.get("together") or partial or rotate if align is None else align
        self._lay = partial or rotate  # the box of a whole shape is the family's already, but for a little
        self.steps, self.seconds, self.on_stage = steps, seconds, on_stage
        recipe = RECIPES.get(str(space.info.get("recipe")), RECIPES["regression"])
        cloud = cloud_of(source, SAMPLES, seed)
        if cloud.normals is None and recipe.needs_normals:
            recipe = RECIPES["igr"]
        self.scan_frame = self._frame(cloud.points)
        needs = recipe.needs_distance and not partial
        whole = cloud if partial else source  # of a part with faces, too, only the points count
        self.evidence = prepare(whole, cloud, self.scan_frame, needs_distance=needs).evidence
        plain = self.evidence.normals is None
        terms = _of_a_part(recipe, self.evidence) if partial else recipe.objective
        self.objective: Objective = terms.without("normals", *recipe.normal_terms) if plain else terms
        size = Size(width=0, depth=0, steps=200, batch=_POINTS, rate=_RATE)
        device = space.device
        self.sampler: Sampler = (
            Banded(self.evidence, _POINTS, seed, device)
            if partial
            else recipe.sampler(self.evidence, MLP(8, 1, 0), size, seed, device)
        )
        self.step = 0
        self._codes = _Codes(space, [])
        self._poses: Poses | None = None
        self._smoothed: Tensor | None = None

    def _frame(self, points: Array) -> Frame:
        if not self.align and self.space.info.get("together"):
            return self.space.shapes[0].frame
        return Frame.around(points)

    # The work --------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Progress]:
        self.on_stage("inferring")
        starts, rotations = self._starts()
        self._codes = _Codes(self.space, starts, beyond=not self.partial).to(self.space.device)
        boxes = [start.box for start in starts]
        self._poses = matched(self.evidence, boxes, rotations) if self.align and self._lay else _still(len(starts))
        self._poses.to(self.space.device)
        if len(starts) > _KEPT:
            yield from self._descend(_SCREEN_STEPS, _SCREEN_POINTS, 0.0, 0.25)
            self._keep_best(_KEPT)
        yield from self._descend(self.steps, _POINTS, 0.25, 1.0)

    def _starts(self) -> tuple[list[Latent], Array]:
        """Pairs of shape and rotation to begin from: the encoder's, the mean, and learned shapes far apart."""
        chosen = [self.space.mean(), *spread_out(self.space, _STARTS - 1)]
        if self.space.encoder is not None:
            seen = self.scan_frame.to_world(self.evidence.points)
            chosen.insert(0, self.space.encode(seen, self.scan_frame))
        if self.rotate:
            turns = quarter_turns()
            pairs = [(shape, turn) for turn in turns for shape in chosen[:3]]
            return [shape for shape, _ in pairs], np.stack([turn for _, turn in pairs])
        return chosen, np.tile(np.eye(3), (len(chosen), 1, 1))

    def _descend(self, steps: int, points: int, start: float, end: float) -> Iterator[Progress]:
        codes, poses = self._codes, self._poses
        assert poses is not None
        groups: list[tuple[list[nn.Parameter], float]] = [([codes.amounts], _RATE)]
        if self.align:
            groups.append(([poses.log_scale, poses.shift, *([poses.turn] if self.rotate else [])], _POSE_RATE))
        self._smoothed = None

        def losses(progress: float) -> dict[str, Tensor]:
            self.sampler.reseed(mixed(self.seed, self.step))
            batch = _thinned(self.sampler.batch(), points)
            each = self._each_loss(codes(), poses, batch)
            smoothed = self._smoothed
            self._smoothed = each.detach() if smoothed is None else 0.9 * smoothed + 0.1 * each.detach()
            amounts = codes.amounts  # (K, 0) where there is but one code
            prior = amounts.square().sum(dim=1) / max(amounts.shape[1], 1)
            return {"data": each.sum(), "prior": _PRIOR * prior.sum()}

        for step in descend(losses, Adam(groups), budget=Budget(steps, self.seconds, self.began)):
            self.step += 1
            yield self._progress(step, start + (end - start) * step.progress)

    def _each_loss(self, codes: Tensor, poses: Poses, batch: Batch) -> Tensor:
        """(K,) the objective of every start, on the same points."""
        found = []
        for k in range(len(codes)):
            terms = self.objective(At.of(Posed(self.space.decoder, codes, poses, k), batch), 1.0)
            found.append(torch.stack(list(terms.values())).sum())
        return torch.stack(found)

    def _keep_best(self, count: int) -> None:
        assert self._smoothed is not None
        assert self._poses is not None
        rows = self._smoothed.argsort()[:count]
        self._codes, self._poses = self._codes.take(rows), self._poses.take(rows)

    def _progress(self, step: Step, fraction: float) -> Progress:
        now = time.perf_counter()
        total = _SCREEN_STEPS + self.steps
        left = (now - self.began) * (1 - fraction) / fraction if fraction > 0.02 else None
        return Progress("inferring", self.step, total, fraction, now - self.began, left, step)

    # What came of it -------------------------------------------------------------------------------------------------

    @property
    def found(self) -> Inferred:
        """The best start's result so far.

        Raises:
            InputError: no step has been taken yet.
        """
        if self._smoothed is None or self._poses is None:
            raise InputError("The inference has not taken a step yet.", "Give it more time.")
        best = int(self._smoothed.argmin())
        with torch.no_grad():
            code = self._codes()[best].cpu().numpy()
            pose = self._poses
            rotation = pose.rotation[best].cpu().numpy().astype(np.float64)
            scale, shift = float(pose.scale[best]), pose.shift[best].cpu().numpy().astype(np.float64)
        frame = frame_through(self.scan_frame, scale, rotation, shift)
        # As far as the family reaches: a part says little of how far the whole does.
        lower = np.min([shape.box.lower for shape in self.space], axis=0)
        upper = np.max([shape.box.upper for shape in self.space], axis=0)
        return Inferred(Latent(code, frame, Box(lower, upper)), rotation, float(self._smoothed[best]))


class _Codes(nn.Module):
    """Codes as amounts of the principal directions, in standard deviations; ``beyond`` them in all others, too."""

    def __init__(self, space: Space, starts: list[Latent], beyond: bool = False) -> None:
        super().__init__()
        found = space.directions()
        useful = found.deviations > 1e-3 * max(float(found.deviations.max(initial=0.0)), 1e-12)
        axes = (found.axes * found.deviations[:, None])[useful]
        self.register_buffer("mean", torch.as_tensor(found.mean, dtype=torch.float32))
        self.register_buffer("axes", torch.as_tensor(axes, dtype=torch.float32))
        offsets = np.stack([start.code for start in starts]) - found.mean if starts else np.zeros((0, len(found.mean)))
        amounts = offsets @ found.axes[useful].T / found.deviations[useful]
        if beyond:
            others = np.linalg.qr(found.axes[useful].T, mode="complete")[0][:, int(useful.sum()) :].T
            others = others * (_BEYOND * np.median(found.deviations[useful])) if useful.any() else others * 0
            self.axes = torch.cat([self.axes, torch.as_tensor(others, dtype=torch.float32)])
            amounts = np.pad(amounts, ((0, 0), (0, len(others))))
        self.amounts = nn.Parameter(torch.as_tensor(amounts, dtype=torch.float32))

    mean: Tensor
    axes: Tensor

    def forward(self) -> Tensor:
        """(K, L)"""
        return self.mean + self.amounts @ self.axes

    def take(self, rows: Tensor) -> _Codes:
        """The codes at ``rows``, free to move on their own."""
        with torch.no_grad():
            kept = self.amounts[rows].clone()
        self.amounts = nn.Parameter(kept)
        return self


def _still(count: int) -> Poses:
    return Poses(np.tile(np.eye(3), (count, 1, 1)), np.ones(count), np.zeros((count, 3)))


def spread_out(space: Space, count: int) -> list[Latent]:
    """At most ``count`` learned shapes whose codes lie far apart: each is the farthest from those before it."""
    codes = space.codes.astype(np.float64)
    gap = np.linalg.norm(codes - codes.mean(axis=0), axis=1)
    chosen: list[int] = []
    for _ in range(min(count, len(codes))):
        chosen.append(int(gap.argmax()))
        gap = np.minimum(gap, np.linalg.norm(codes - codes[chosen[-1]], axis=1))
    return [space.shapes[row] for row in chosen]


def _thinned(batch: Batch, points: int) -> Batch:
    """The first ``points`` rows of everything: rows come in random order."""
    rows = lambda values: None if values is None else values[:points]
    step = max(1, len(batch.space) // points)  # of the space, evenly: near ones come first, wide ones last
    some = lambda values: None if values is None else values[::step]
    space = batch.space[::step]
    return Batch(
        batch.surface[:points], space, rows(batch.normals), rows(batch.directions), some(batch.distances),
        some(batch.feet), rows(batch.near),
    )  # fmt: skip
