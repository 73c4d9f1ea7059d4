"""Learning a space: the network and one code per shape, trained together (auto-decoder)."""

from __future__ import annotations

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
from ..descent import Average, Budget, Step, adam, descend
from ..errors import InputError
from ..fitting import HISTORY, Progress
from ..networks import Coded, CodedMLP
from ..objectives import At, Objective
from ..planning import Source, device_named
from ..sampling import Batch
from .checkpoints import Checkpoint
from .distributed import Group
from .family import Family, chosen_recipe, prepared, rows_of_step
from .sizes import SIZES, SpaceSize
from .space import Latent, Space

PRIOR = 1e-4  # weight of the codes' squared length: DeepSDF's 1 / σ² (sec. 4.2)
LONGEST = 1.0  # bound of a code's length, as in DeepSDF's published settings
FIRST_LENGTH = 0.1  # of the codes before training
USUAL_SECONDS_A_STEP = 0.1  # foreseen under a budget of seconds alone


class Learner(nn.Module):
    """Network and codes, and the terms of one step as its output.

    All that is differentiated happens within one call, so a wrapper that watches calls (DistributedDataParallel) sees
    every parameter used once a step, input gradients included.
    """

    def __init__(self, network: CodedMLP, codes: Tensor, objective: Objective) -> None:
        super().__init__()
        self.network = network
        self.codes = nn.Parameter(codes)
        self.objective = objective

    def forward(self, rows: Tensor, batch: Batch, progress: float) -> dict[str, Tensor]:
        """The weighted terms over the shapes ``rows`` (B,), whose points ``batch`` holds one after another.

        Source of the prior: Park et al. 2019 (DeepSDF), eq. (9), with the published warm-up of its weight.
        """
        codes = self.codes[rows]
        terms = self.objective(At.of(Coded(self.network, codes), batch), progress)
        warmth = min(1.0, 20 * progress)
        return {**terms, "prior": PRIOR * warmth * codes.square().sum(dim=1).mean()}

    @torch.no_grad()
    def bound(self) -> None:
        """Draw codes that grew too long back onto the sphere of the longest."""
        self.codes.renorm_(2, 0, LONGEST)


@dataclass(frozen=True)
class Settings:
    """What a learning run was asked; a resumed one must be asked the same."""

    recipe: str
    preset: str
    size: SpaceSize
    steps: int
    seed: int
    together: bool

    def as_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "size": dict(self.size.__dict__)}


class Learn:
    """A space being learned: iterating does the work, one :class:`Progress` a step; break off to stop.

    Args:
        sources: shapes by name, world units; at least two.
        recipe: whose terms are used; ``auto`` is ``distance`` where all shapes have a side, else ``igr``.
        preset: ``draft``, ``balanced`` or ``fine``; ``size`` instead of the preset's.
        epochs: passes over all shapes; ``steps`` instead; else the preset's steps.
        seconds: of learning, preparation included; alone, it does not bound the steps.
        code_size: length of the codes, instead of the preset's.
        together: one frame for all shapes; see :func:`family.prepared`.
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
        expected = steps or (chosen.steps if seconds is None else math.ceil(seconds / USUAL_SECONDS_A_STEP))
        self.settings = Settings(recipe, preset, chosen, expected, seed, together)
        self._budget_steps = steps if seconds is not None else expected
        self.device = self.group.device or device_named(device)
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.on_stage = on_stage
        self.step = 0
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
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = CodedMLP(size.code_size, size.width, size.depth, skip=size.depth // 2 + 1)
            codes = torch.randn(len(family), size.code_size) * (FIRST_LENGTH / math.sqrt(size.code_size))
        return Learner(network, codes, family.objective).to(self.device)

    def _descend(self, family: Family, learner: Learner) -> Iterator[Progress]:
        size = self.settings.size
        optimiser = adam([(learner.network.parameters(), size.rate), ([learner.codes], size.code_rate)])
        average = self._average = Average(learner, keep_every=max(10, self.settings.steps // 100))
        held = Checkpoint(self.checkpoint, self.settings.as_dict(), self.group.first)
        taken, spent = held.resume(learner, average, optimiser)
        wrapped = self.group.wrap(learner)
        self.began -= spent
        budget = Budget(self._budget_steps, self.seconds, self.began)
        thin = max(1, -(-self.settings.steps // HISTORY))
        counter = iter(range(taken, 1 << 62))

        def losses(progress: float) -> Mapping[str, Tensor]:
            step = next(counter)
            rows = self.group.share(rows_of_step(step, len(family), size.shapes, self.settings.seed))
            batch = family.batch(rows, self.settings.seed, step)
            terms: dict[str, Tensor] = wrapped(torch.tensor(rows, device=self.device), batch, progress)
            return terms

        for step in descend(losses, optimiser, budget=budget, usual_steps=self.settings.steps, taken=taken):
            self.step = step.number
            learner.bound()
            average.update(step)
            progress = self._progress(step, step.progress, "learning")
            if step.number % thin == 0 or step.progress >= 1 or step.number == 1:
                self._remember(progress)
            held.keep(step.number, progress.seconds, learner, average, optimiser)
            yield progress

    def _progress(self, step: Step | None, fraction: float, stage: str) -> Progress:
        now = time.perf_counter()
        left = (now - self.began) * (1 - fraction) / fraction if fraction > 0.02 else None
        return Progress(stage, self.step, self.settings.steps, fraction, now - self.began, left, step)

    def _remember(self, progress: Progress) -> None:
        if len(self.history["step"]) >= 2 * HISTORY:
            self.history = {name: values[::2] for name, values in self.history.items()}
        for name, value in {"step": progress.step, "loss": progress.loss, **progress.terms}.items():
            self.history.setdefault(name, []).append(value)

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
        codes = learner.codes.detach().cpu().numpy()
        members = self._family.members
        shapes = [Latent(code, m.frame, m.box, m.name) for code, m in zip(codes, members, strict=True)]
        return Space(learner.network, shapes, None, self._info(codes))

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
