"""Where a learning run stands, in one file: weights, codes, their running mean, Adam's moments, the step."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import container
from ..descent import Average
from ..errors import StorageError

KIND = "checkpoint"
PERIOD = 30.0  # seconds between two checkpoints
SHARE = 0.02  # of the time, at most, goes into writing them


class Checkpoint:
    """Reads where a run was broken off, and writes where it stands, now and then.

    Args:
        path: the file, or ``None`` for nothing of the kind.
        settings: what the run was asked; a checkpoint of other settings is refused.
        writes: whether this process is the one that writes.
    """

    def __init__(self, path: Path | None, settings: dict[str, Any], writes: bool = True) -> None:
        self.path, self.settings, self.writes = path, settings, writes
        self._next = time.monotonic() + PERIOD

    def resume(self, learner: nn.Module, average: Average, optimiser: torch.optim.Optimizer) -> tuple[int, float]:
        """Take up the stored state, in place; returns the steps taken and the seconds spent before, or zeros.

        Raises:
            StorageError: the file is damaged, or belongs to a run with other settings.
        """
        if self.path is None or not self.path.exists():
            return 0, 0.0
        body, tensors = container.unpack(container.read(self.path), KIND)
        held = body.get("settings") if isinstance(body, dict) else None
        if held != _plain(self.settings):
            raise StorageError(
                f"{self.path} is a checkpoint of another run.", "Delete it to begin anew, or ask for the same again."
            )
        container.check(_tensors(learner, average, optimiser, full=True), tensors)
        parts = _by_part(tensors)
        learner.load_state_dict(parts["learner"])
        average.mean.load_state_dict(parts["mean"])
        average.best_state = parts["best"]
        average.best, average.smoothed = float(body["best"]), float(body["smoothed"])
        _load_moments(optimiser, parts["adam"])
        return int(body["step"]), float(body["seconds"])

    def keep(
        self, step: int, seconds: float, learner: nn.Module, average: Average, optimiser: torch.optim.Optimizer
    ) -> None:
        """Write the state if it is time to."""
        if self.path is None or not self.writes or time.monotonic() < self._next:
            return
        self.write(step, seconds, learner, average, optimiser)

    def write(
        self, step: int, seconds: float, learner: nn.Module, average: Average, optimiser: torch.optim.Optimizer
    ) -> None:
        """Write the state: whole, or not at all."""
        if self.path is None or not self.writes:
            return
        began = time.monotonic()
        body = {
            "settings": self.settings, "step": step, "seconds": seconds,
            "best": average.best, "smoothed": average.smoothed,
        }  # fmt: skip
        container.write(container.pack(KIND, body, _tensors(learner, average, optimiser)), self.path)
        ended = time.monotonic()
        self._next = ended + max(PERIOD, (ended - began) / SHARE)


def _plain(settings: dict[str, Any]) -> Any:
    """As JSON gives it back."""
    import json

    return json.loads(json.dumps(settings))


def _tensors(
    learner: nn.Module, average: Average, optimiser: torch.optim.Optimizer, full: bool = False
) -> dict[str, Tensor]:
    best = average.best_state if average.best_state is not None else average.mean.state_dict()
    found = {f"learner.{name}": value for name, value in learner.state_dict().items()}
    found |= {f"mean.{name}": value for name, value in average.mean.state_dict().items()}
    found |= {f"best.{name}": value for name, value in best.items()}
    for index, parameter in enumerate(_parameters(optimiser)):
        state = optimiser.state.get(parameter, {})
        empty = {
            "step": torch.zeros(()),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
        for name, blank in empty.items():
            found[f"adam.{index}.{name}"] = blank if full else state.get(name, blank)
    return found


def _parameters(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _by_part(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    return parts


def _load_moments(optimiser: torch.optim.Optimizer, stored: dict[str, Tensor]) -> None:
    for index, parameter in enumerate(_parameters(optimiser)):
        names = ("step", "exp_avg", "exp_avg_sq")
        held = {name: stored[f"{index}.{name}"] for name in names}
        optimiser.state[parameter] = {
            name: value if name == "step" and parameter.device.type == "cpu" else value.to(parameter.device)
            for name, value in held.items()
        }
