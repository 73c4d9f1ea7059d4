"""Where a learning run stands, in one file: weights, codes, their running mean, Adam's moments, the step."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import container
from ..adam import Adam
from ..descent import Average
from ..errors import StorageError
from ..geometry import Mesh
from ..planning import Source
from ..storage import header

KIND = "checkpoint"
PERIOD = 30.0  # seconds between two checkpoints
SHARE = 0.02  # of the time, at most, goes into writing them


@dataclass(frozen=True)
class Standing:
    """How far a run is: steps taken, seconds spent on them (not on preparing), and the curve of its loss."""

    step: int = 0
    seconds: float = 0.0
    history: dict[str, list[float]] = field(default_factory=dict)


class Checkpoint:
    """Reads where a run was broken off, and writes where it stands, now and then.

    Args:
        path: the file, or ``None`` for nothing of the kind.
        settings: what the run was asked; a checkpoint of other settings is refused.
        learner, average, optimiser: whose state it is.
        writes: whether this process is the one that writes.
    """

    def __init__(
        self,
        path: Path | None,
        settings: Mapping[str, Any],
        learner: nn.Module,
        average: Average,
        optimiser: Adam,
        writes: bool = True,
    ) -> None:
        self.path, self.settings, self.writes = path, json.loads(json.dumps(settings)), writes
        self.learner, self.average, self.optimiser = learner, average, optimiser
        self._next = time.monotonic() + PERIOD

    def resume(self) -> Standing:
        """Take up the stored state, in place; returns how far it was, or the beginning if there is no file.

        Raises:
            StorageError: the file is damaged, or belongs to a run with other settings or shapes.
        """
        if self.path is None or not self.path.exists():
            return Standing()
        body, tensors = container.unpack(container.read(self.path), KIND)
        with header("checkpoint"):
            held, best, smoothed = body["settings"], body["best"], body["smoothed"]
            history = {str(name): [_number(v, math.nan) for v in values] for name, values in body["history"].items()}
            standing = Standing(int(body["step"]), float(body["seconds"]), history)
            best, smoothed = _number(best, math.inf), _number(smoothed, math.nan)
        if held != self.settings:
            raise StorageError(
                f"{self.path} is a checkpoint of another run.", "Delete it to begin anew, or ask for the same again."
            )
        container.check(self._tensors(), tensors)
        parts = _by_part(tensors)
        self.learner.load_state_dict(parts["learner"])
        self.average.mean.load_state_dict(parts["mean"])
        self.average.best_state = parts["best"]
        self.average.best, self.average.smoothed = best, smoothed
        self._load_moments(parts["adam"])
        return standing

    def keep(self, standing: Standing) -> None:
        """Write the state if it is time to."""
        if time.monotonic() >= self._next:
            self.write(standing)

    def write(self, standing: Standing) -> None:
        """Write the state: whole, or not at all; and not when the weights are no numbers any more."""
        if self.path is None or not self.writes or not self._finite():
            return
        began = time.monotonic()
        body = {
            "settings": self.settings, "step": standing.step, "seconds": standing.seconds, "history": standing.history,
            "best": self.average.best, "smoothed": self.average.smoothed,
        }  # fmt: skip
        container.write(container.pack(KIND, body, self._tensors()), self.path)
        ended = time.monotonic()
        self._next = ended + max(PERIOD, (ended - began) / SHARE)

    def _finite(self) -> bool:
        return all(bool(parameter.isfinite().all()) for parameter in self.learner.parameters())

    def _tensors(self) -> dict[str, Tensor]:
        average, mean = self.average, self.average.mean.state_dict()
        found = {f"learner.{name}": value for name, value in self.learner.state_dict().items()}
        found |= {f"mean.{name}": value for name, value in mean.items()}
        found |= {f"best.{name}": value for name, value in (average.best_state or mean).items()}
        for index, parameter in enumerate(self.optimiser.parameters):
            moments = self.optimiser.moments.get(parameter, {})
            found[f"adam.{index}.step"] = moments.get("step", torch.zeros(()))
            for name in ("exp_avg", "exp_avg_sq"):
                found[f"adam.{index}.{name}"] = moments.get(name, torch.zeros_like(parameter))
        return found

    def _load_moments(self, stored: dict[str, Tensor]) -> None:
        for index, parameter in enumerate(self.optimiser.parameters):
            self.optimiser.restore(
                parameter, *(stored[f"{index}.{name}"] for name in ("step", "exp_avg", "exp_avg_sq"))
            )


def fingerprint(sources: Mapping[str, Source]) -> dict[str, str]:
    """A digest of each shape, by name: a run must not go on with other shapes than it began with."""

    def digest(source: Source) -> str:
        held = (source.vertices, source.faces) if isinstance(source, Mesh) else (source.points, source.normals)
        found = hashlib.sha256()
        for array in held:
            if array is not None:
                found.update(f"{array.dtype} {array.shape}".encode())
                found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()

    return {name: digest(source) for name, source in sources.items()}


def _number(value: Any, missing: float) -> float:
    """A number of the body; JSON has null for those that are not finite."""
    return missing if value is None else float(value)


def _by_part(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    return parts
