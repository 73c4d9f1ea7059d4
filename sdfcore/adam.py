"""Adam, by torch's own kernels, but not through ``torch.optim``'s classes.

Making one of those imports torch's compiler, which takes more than a second at the start of every process, and nothing
here is compiled. Source: Kingma & Ba 2015.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

_BETAS, _EPSILON = (0.9, 0.999), 1e-12
_FUSED = ("cpu", "cuda")


@dataclass(frozen=True)
class Group:
    """Parameters of one kind, and the largest step size they may take."""

    parameters: list[nn.Parameter]
    rate: float


class Adam:
    """Groups of parameters and the running moments of their gradients.

    Args:
        groups: parameters, all on one device, and the largest step size of each group.
    """

    def __init__(self, groups: Sequence[tuple[Iterable[nn.Parameter], float]]) -> None:
        self.groups = [Group(list(parameters), rate) for parameters, rate in groups]
        self.moments: dict[nn.Parameter, dict[str, Tensor]] = {}

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those of all groups, in order."""
        return [parameter for group in self.groups for parameter in group.parameters]

    def forget_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, factor: float = 1.0) -> None:
        """One step against the gradients, of each group's rate times ``factor``; those without a gradient stay."""
        for group in self.groups:
            held = [parameter for parameter in group.parameters if parameter.grad is not None]
            if held:
                self._step(held, group.rate * factor)

    def _step(self, held: list[nn.Parameter], rate: float) -> None:
        for parameter in held:
            if parameter not in self.moments:
                self.restore(parameter, torch.zeros(()), torch.zeros_like(parameter), torch.zeros_like(parameter))
        moments = [self.moments[parameter] for parameter in held]
        means, squares, steps = ([one[name] for one in moments] for name in ("exp_avg", "exp_avg_sq", "step"))
        fused = held[0].device.type in _FUSED
        adam(
            list[Tensor](held), [parameter.grad for parameter in held if parameter.grad is not None],
            means, squares, [], steps, fused=fused, foreach=False,
            amsgrad=False, beta1=_BETAS[0], beta2=_BETAS[1], lr=rate, weight_decay=0.0, eps=_EPSILON, maximize=False,
        )  # fmt: skip

    def restore(self, parameter: nn.Parameter, step: Tensor, mean: Tensor, square: Tensor) -> None:
        """Set the moments of one parameter: the number of steps taken, mean and mean square of its gradient."""
        place = parameter.device
        self.moments[parameter] = {
            "step": step.to(place if place.type in _FUSED else "cpu", torch.float32),
            "exp_avg": mean.to(place),
            "exp_avg_sq": square.to(place),
        }
