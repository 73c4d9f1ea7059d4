"""The only optimiser loop: fits, and later shape spaces and codes, all descend here."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from .adam import Adam
from .errors import DivergedError

_WORTH_KEEPING = 0.1  # of a budget

Losses = Callable[[float], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Budget:
    """When to stop: after ``steps``, or ``seconds`` after ``started`` (of ``time.perf_counter``), what comes first."""

    steps: int | None
    seconds: float | None = None
    started: float = 0.0

    def progress(self, step: int) -> float:
        """The share of the budget used, in [0, 1]; 1 is the end."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = (time.perf_counter() - self.started) / self.seconds if self.seconds else 0.0
        return min(max(by_steps, by_time), 1.0)

    def expected_steps(self, step: int) -> float:
        """How many steps the budget will allow, judged by ``step`` steps so far."""
        if self.seconds is None or step == 0:
            return float(self.steps or 1)
        return step / max(self.progress(step), 1e-6)


@dataclass(frozen=True)
class Step:
    """One step taken: its number from 1, the share of the budget used, and the terms of its loss, on their device."""

    number: int
    progress: float
    terms: Mapping[str, Tensor]

    @property
    def loss(self) -> float:
        """The sum of the terms; waits for the device."""
        return float(sum(t.detach() for t in self.terms.values()))


def rate_at(progress: float, step: int, *, warm: int = 20, least: float = 0.01) -> float:
    """Cosine from 1 to ``least`` over the budget, after a linear start over ``warm`` steps."""
    return min(1.0, step / warm) * (least + (1 - least) * 0.5 * (1 + math.cos(math.pi * progress)))


def hastened(expected: float, usual: int | None) -> float:
    """How much larger steps must be when there are only ``expected`` of them: √(usual / expected), from 1 to 4."""
    return 1.0 if usual is None else min(max(math.sqrt(usual / max(expected, 1.0)), 1.0), 4.0)


def descend(
    losses: Losses,
    parameters: list[nn.Parameter] | Adam,
    *,
    budget: Budget,
    rate: float = 1.0,
    clip: float | None = None,
    usual_steps: int | None = None,
    taken: int = 0,
) -> Iterator[Step]:
    """Minimise with Adam; yield each step; stop by not asking for more.

    Args:
        losses: progress in [0, 1] → named scalar terms, freshly computed.
        parameters: what is optimised, or an optimiser of them; the caller owns it.
        rate: Adam's largest step size, of an optimiser's groups a factor; it falls along a cosine over the budget.
        clip: largest norm of the gradient, or ``None``.
        usual_steps: for which ``rate`` is meant; a smaller budget takes larger steps.
        taken: steps of the budget that an interrupted descent has taken already.
    Raises:
        DivergedError: a term is no longer finite; the parameters are those before the step that would have used it.
    """
    optimiser = parameters if isinstance(parameters, Adam) else Adam([(parameters, 1.0)])
    held = optimiser.parameters
    # Reading a loss makes an accelerator wait, so there the check is made now and then.
    check_every = 1 if held[0].device.type == "cpu" else 16
    step, progress = taken, budget.progress(taken)
    if taken == 0:  # one step is taken even when nothing is left
        progress = min(progress, 1 - 1e-9)
    while progress < 1.0:
        step += 1
        factor = rate * rate_at(progress, step) * hastened(budget.expected_steps(step - 1), usual_steps)
        terms = losses(progress)
        if step % check_every == 0:
            _check(terms, step)
        optimiser.forget_gradients()
        torch.stack(list(terms.values())).sum().backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(held, clip)
        optimiser.step(factor)
        progress = budget.progress(step)  # asked once a step, so that the last step yielded is the one that says 1
        yield Step(step, progress, terms)


def _check(terms: Mapping[str, Tensor], step: int) -> None:
    for name, value in terms.items():
        if not math.isfinite(float(value.detach())):
            raise DivergedError(
                f"The fit diverged at step {step}: the term {name!r} is no longer a number.",
                "Try another seed or recipe, or scale the object so that its parts are of similar size.",
                step,
                name,
            )


class _Shown(Protocol):
    @property
    def fraction(self) -> float: ...


Shown = TypeVar("Shown", bound=_Shown)


def surviving(run: Iterable[Shown], warnings: list[str]) -> Iterator[Shown]:
    """``run`` to its end, or to where its loss stopped being a number: if a tenth was done by then, what came before is
    kept, and ``warnings`` says so.

    Raises:
        DivergedError: it came to that before there was anything worth keeping.
    """
    done = 0.0
    try:
        for progress in run:
            done = progress.fraction
            yield progress
    except DivergedError as error:
        if done < _WORTH_KEEPING:
            raise
        warnings.append(f"{error.message} What came before is kept.")


class Average:
    """A running mean of a network's weights, and the best one so far.

    The mean over the last steps is smoother than any single step, so stopping early costs little; "best" is the mean at
    the lowest smoothed loss. Source: Polyak & Juditsky 1992, with an exponential window that widens with the steps.
    """

    def __init__(self, network: nn.Module, keep_every: int) -> None:
        self.network = network
        self.mean = copy.deepcopy(network).requires_grad_(False)
        self.keep_every = keep_every
        self.best = math.inf
        self.best_state: dict[str, Tensor] | None = None
        self.smoothed = math.nan

    @torch.no_grad()
    def update(self, step: Step) -> None:
        """Take one step's weights in."""
        weight = max(0.02, 1 / (1 + step.number / 4))
        for mean, now in zip(self.mean.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(now, weight)
        if step.number == 1:
            self.best_state = self._state()  # something to fall back on if the very next steps diverge
        if step.number % self.keep_every == 0:
            self._keep(step.loss)

    def _state(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.mean.state_dict().items()}

    def _keep(self, loss: float) -> None:
        if not (math.isfinite(loss) and _finite(self.mean)):
            return
        self.smoothed = loss if math.isnan(self.smoothed) else 0.8 * self.smoothed + 0.2 * loss
        if self.smoothed <= self.best:
            self.best = self.smoothed
            self.best_state = self._state()

    def result(self) -> nn.Module:
        """A copy of the network with the mean weights; with the best ones if the loss has since risen by half.

        A finite loss can have a gradient that is not, so the last weights before a divergence may be no numbers: then
        too the best ones are given.
        """
        found = copy.deepcopy(self.mean)
        worse = self.smoothed > 1.5 * self.best or not _finite(found)
        if self.best_state is not None and worse:
            found.load_state_dict(self.best_state)
        return found


def _finite(network: nn.Module) -> bool:
    return all(bool(parameter.isfinite().all()) for parameter in network.parameters())
