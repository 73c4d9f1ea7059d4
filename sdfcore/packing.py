"""Several fits in one descent: for accelerators, which one small network cannot fill.

Each becomes what it would have become alone: every parameter's gradient is of its own shape's loss, and Adam looks at
each parameter by itself. Only what falls back to earlier weights does so for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from .descent import Average, Budget, descend
from .fitting import Fit, Progress
from .networks import FeatureGrid
from .networks.packed import PackedGrids
from .objectives import At
from .recipes import RECIPES
from .sampling import Batch, stacked


class Pack:
    """Iterating does the work; afterwards every fit has its ``sdf``, and can be meshed.

    Args:
        fits: of one recipe on feature grids, of the same preset, steps and device; those that are not prepared yet are,
            one after another, before the first step.
    Raises:
        ValueError: they differ. SdfError, while iterating: a fit cannot be prepared, or the descent diverged.
    """

    def __init__(self, fits: Sequence[Fit]) -> None:
        self.fits = list(fits)
        self._check()
        if self.fits[0].plan.seconds is not None:
            raise ValueError("a pack has a budget of steps, not of seconds")

    def _check(self) -> None:
        plans = [fit.plan for fit in self.fits]
        alike = {(p.recipe, p.preset, p.steps, p.size, p.device, p.seconds) for p in plans}
        if len(alike) != 1:
            raise ValueError(f"fits that differ cannot be packed: {sorted(map(str, alike))}")

    def __iter__(self) -> Iterator[Progress]:
        for fit in self.fits:
            if not fit.is_prepared:
                yield from fit.prepare()
        self._check()  # what was prepared may have changed its plan
        networks = [fit.network for fit in self.fits]
        if not all(isinstance(network, FeatureGrid) for network in networks):
            raise ValueError(f"the recipe {self.fits[0].plan.recipe} has no feature grids to pack")
        yield from self._descend(PackedGrids([network for network in networks if isinstance(network, FeatureGrid)]))

    def _descend(self, packed: PackedGrids) -> Iterator[Progress]:
        plan = self.fits[0].plan
        recipe = RECIPES[plan.recipe]
        objective = self.fits[0].objective
        average = Average(packed, keep_every=max(10, plan.steps // 100))
        samplers = [fit.sampler for fit in self.fits]

        def losses(progress: float) -> dict[str, torch.Tensor]:
            batch: Batch = stacked([sampler.batch() for sampler in samplers])
            return objective(At.of(packed, batch, progress), progress)

        budget = Budget(plan.steps)
        try:
            for step in descend(
                losses, list(packed.parameters()), budget=budget, rate=plan.size.rate, clip=recipe.clip,
                usual_steps=plan.size.steps,
            ):  # fmt: skip
                average.update(step)
                for fit in self.fits:
                    progress = fit.took(step)
                yield progress
        finally:  # whatever ended it, what was reached is kept
            if self.fits[0].step:
                self._hand_out(average)

    def _hand_out(self, average: Average) -> None:
        result = average.result()
        assert isinstance(result, PackedGrids)
        for fit, network in zip(self.fits, result.unpacked(), strict=True):
            fit.finished = network
