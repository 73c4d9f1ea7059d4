"""Learning a space: the network, trained with one code per shape (auto-decoder) or with an encoder (variational)."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import __version__
from ..adam import Adam
from ..descent import Average, Step, descend
from ..errors import InputError
from ..fitting import HISTORY, Progress, remembered
from ..networks import Coded, CodedMLP
from ..objectives import At, Objective
from ..planning import Source, device_named
from ..sampling import Batch
from .checkpoints import Checkpoint, Standing, fingerprint
from .codes import ENCODED, Drawn, Predicted, Stored, encoder_for
from .distributed import Group
from .family import Family, chosen_recipe, prepared, rows_of_step
from .sizes import SIZES, SpaceSize
from .space import Latent, Space

ENCODER_RATE = 3e-4  # Adam's; SAL takes 5e-4 for longer runs
USUAL_SECONDS_A_STEP = 0.1  # foreseen under a budget of seconds alone


class Learner(nn.Module):
    """Network and codes, and the terms of one step as its output.

    All that is differentiated happens within one call, so a wrapper that watches calls (DistributedDataParallel) sees
    every parameter used once a step, input gradients included.

    Args:
        codes: what gives the codes of a step.
    """

    def __init__(self, network: CodedMLP, codes: Stored | Predicted, objective: Objective) -> None:
        super().__init__()
        self.network, self.codes, self.objective = network, codes, objective

    def forward(self, drawn: Drawn, batch: Batch, progress: float) -> dict[str, Tensor]:
        """The weighted terms over the shapes ``drawn``, whose points ``batch`` holds one after another."""
        codes, terms = self.codes(drawn, progress)
        return {**self.objective(At.of(Coded(self.network, codes), batch, progress), progress), **terms}

    def bound(self) -> None:
        """Keep the codes from growing too long."""
        self.codes.bound()


@dataclass(frozen=True)
class Settings:
    """What a learning run was asked; a resumed one must be asked the same."""

    recipe: str
    preset: str
    size: SpaceSize
    steps: int
    seed: int
    together: bool
    encoder: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "size": dict(self.size.__dict__)}


class Learn:
    """A space being learned: iterating does the work, one :class:`Progress` a step; break off to stop.

    Args:
        sources: shapes by name, world units; at least two.
        recipe: whose terms are used; ``auto`` is ``regression`` where all shapes have a side, else ``igr``.
        preset: ``draft``, ``balanced`` or ``fine``; ``size`` instead of the preset's.
        epochs: passes over all shapes; ``steps`` instead; else the preset's steps.
        seconds: of learning, preparation included; alone, it does not bound the steps.
        code_size: length of the codes, instead of the preset's.
        together: one frame for all shapes; see :func:`family.prepared`.
        encoder: learn an encoder, too, that gives a shape's code from its points in one pass (variational
            auto-encoder); the learned shapes' codes then are the encoder's.
        checkpoint: a file that is written now and then, and resumed from if it is there.
        group: the processes that learn together; one by default.
    Raises:
        InputError and its kin while preparing. StorageError: the checkpoint belongs to another run. DivergedError while
        iterating; ``space`` then still is the best so far.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        *,
        recipe: str = "auto",
        preset: str = "balanced",
        size: SpaceSize | None = None,
        epochs: int | None = None,
        steps: int | None = None,
        seconds: float | None = None,
        code_size: int | None = None,
        together: bool = False,
        encoder: bool = False,
        seed: int = 0,
        device: str = "auto",
        samples: int | None = None,
        checkpoint: str | Path | None = None,
        group: Group | None = None,
        on_stage: Callable[[str], None] = lambda stage: None,
    ) -> None:
        self.began = time.perf_counter()
        if len(sources) < 2:
            raise InputError("A space needs at least two shapes.", "Give more shapes.")
        if preset not in SIZES:
            raise InputError(f"There is no preset {preset!r}.", f"Choose one of: {', '.join(SIZES)}.")
        for name, number in (("epochs", epochs), ("steps", steps), ("seconds", seconds), ("code size", code_size)):
            if number is not None and not number > 0:
                raise InputError(f"{name} is {number}.", "Give a number above zero, or none.")
        self.sources, self.samples, self.seconds = dict(sources), samples, seconds
        self.group = group or Group()
        chosen = size or SIZES[preset]
        chosen = replace(
            chosen,
            code_size=code_size or chosen.code_size,
            shapes=self.group.divisible(min(chosen.shapes, len(sources))),
        )
        if epochs is not None:
            steps = math.ceil(epochs * len(sources) / chosen.shapes)
        foreseen = chosen.steps if seconds is None else math.ceil(seconds / USUAL_SECONDS_A_STEP)
        expected = steps or self.group.common(foreseen)
        self.settings = Settings(recipe, preset, chosen, expected, seed, together, encoder)
        self._budget_steps = steps if seconds is not None else expected
        self.device = self.group.device or device_named(device)
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.on_stage = on_stage
        self.step = 0
        self.warnings: list[str] = []
        self.history: dict[str, list[float]] = {"step": [], "loss": []}
        self._family: Family | None = None
        self._average: Average | None = None

    # The work --------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Progress]:
        if self._family is not None:
            raise RuntimeError("a Learn can be iterated once; make another to learn again")
        yield self._progress(None, 0.0, "preparing")
        yield from self._prepare()
        family = self._family
        assert family is not None
        self.on_stage("learning")
        yield from self._descend(family, self._learner(family))

    def _prepare(self) -> Iterator[Progress]:
        self.on_stage("preparing")
        settings = self.settings
        recipe = chosen_recipe(self.sources, settings.recipe)
        members = []
        for member in prepared(
            self.sources, recipe, size=settings.size, seed=settings.seed, device=self.device,
            together=settings.together, samples=self.samples,
        ):  # fmt: skip
            members.append(member)
            yield self._progress(None, 0.0, "preparing")
        self._family = Family(members, recipe)

    def _learner(self, family: Family) -> Learner:
        size, seed = self.settings.size, self.settings.seed
        skip = size.depth // 2 + 1 if size.depth > 2 else 0
        codes: Stored | Predicted
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = CodedMLP(size.code_size, size.width, size.depth, skip=skip, octaves=size.octaves)
            if self.settings.encoder:
                encoder = encoder_for(size.code_size, size.width)
                encoder.tell_apart(family.clouds(range(len(family)), ENCODED, seed, 0))
                codes = Predicted(encoder)
            else:
                codes = Stored.random(len(family), size.code_size)
        return Learner(network, codes, family.objective).to(self.device)

    def _drawn(self, family: Family, rows: list[int], step: int) -> Drawn:
        """What the codes of a step depend on; of each shape the same, however the shapes are dealt out."""
        index = torch.tensor(rows, device=self.device)
        if not self.settings.encoder:
            return Drawn(index)
        seed, size = self.settings.seed, self.settings.size.code_size
        noise = np.stack([np.random.default_rng([seed, step, row, 1]).standard_normal(size) for row in rows])
        points = family.clouds(rows, ENCODED, seed, step)
        return Drawn(index, points.to(self.device), torch.from_numpy(noise.astype(np.float32)).to(self.device))

    def _descend(self, family: Family, learner: Learner) -> Iterator[Progress]:
        size, seed = self.settings.size, self.settings.seed
        groups = [(learner.network.parameters(), size.rate), (learner.codes.parameters(), self._code_rate)]
        optimiser = Adam(groups)
        average = self._average = Average(learner, keep_every=max(10, self.settings.steps // 100))
        held = Checkpoint(self.checkpoint, self._asked(), learner, average, optimiser, self.group.first)
        preparing = time.perf_counter() - self.began
        before = held.resume()
        self.step, self.began = before.step, self.began - before.seconds
        self.history = before.history or self.history
        wrapped = self.group.wrap(learner)
        budget = self.group.budget(self._budget_steps, self.seconds, self.began)
        thin = max(1, -(-self.settings.steps // HISTORY))
        counter = itertools.count(before.step)

        def losses(progress: float) -> Mapping[str, Tensor]:
            step = next(counter)
            rows = self.group.share(rows_of_step(step, len(family), size.shapes, seed))
            terms: dict[str, Tensor] = wrapped(
                self._drawn(family, rows, step), family.batch(rows, seed, step), progress
            )
            return terms

        standing = lambda: Standing(self.step, time.perf_counter() - self.began - preparing, self.history)
        try:
            for step in descend(
                losses, optimiser, budget=budget, usual_steps=self.settings.steps, taken=before.step
            ):  # fmt: skip
                self.step = step.number
                learner.bound()
                average.update(step)
                progress = self._progress(step, step.progress, "learning")
                if step.number % thin == 0 or step.progress >= 1 or step.number == 1:
                    self.history = remembered(self.history, progress)
                held.keep(standing())
                yield progress
        except GeneratorExit:  # broken off: it goes on from here
            held.write(standing())
            raise
        if self.step > before.step:
            held.write(standing())

    @property
    def _code_rate(self) -> float:
        return ENCODER_RATE if self.settings.encoder else self.settings.size.code_rate

    def _asked(self) -> dict[str, Any]:
        """What a checkpoint must have been asked, to be gone on from; how many seconds there are may change."""
        if self.checkpoint is None:
            return {}
        asked = {**self.settings.as_dict(), "steps": self._budget_steps}
        return {**asked, "samples": self.samples, "shapes": fingerprint(self.sources)}

    def _progress(self, step: Step | None, fraction: float, stage: str) -> Progress:
        now = time.perf_counter()
        left = (now - self.began) * (1 - fraction) / fraction if fraction > 0.02 else None
        return Progress(stage, self.step, self.settings.steps, fraction, now - self.began, left, step)

    # What came of it -------------------------------------------------------------------------------------------------

    @property
    def space(self) -> Space:
        """The best space so far: an independent copy.

        Raises:
            InputError: no step has been taken yet.
        """
        if self._average is None or self._family is None or self.step == 0:
            raise InputError("The space has not been learned for a single step.", "Give it more time.")
        learner = self._average.result().eval().requires_grad_(False)
        assert isinstance(learner, Learner)
        members = self._family.members
        codes = learner.codes.of_shapes([member.points for member in members])
        shapes = [Latent(code, m.frame, m.box, m.name) for code, m in zip(codes, members, strict=True)]
        encoder = learner.codes.encoder if isinstance(learner.codes, Predicted) else None
        return Space(learner.network, shapes, encoder, self._info(codes))

    def _info(self, codes: np.ndarray[Any, Any]) -> dict[str, Any]:
        family = self._family
        assert family is not None
        return {
            **self.settings.as_dict(),
            "recipe": family.recipe.name,
            "source": family.recipe.source,
            "title": f"{len(family)} shapes",
            "steps": self.step,
            "seconds": time.perf_counter() - self.began,
            "code_length": float(np.linalg.norm(codes, axis=1).mean()),
            "version": __version__,
        }


def learn(sources: Mapping[str, Source], **options: Any) -> Space:
    """Learn to the end; options as :class:`Learn`."""
    run = Learn(sources, **options)
    for _ in run:
        pass
    return run.space
