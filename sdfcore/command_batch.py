"""Several shapes of ``sdfcore fit-many`` in one descent, which is what fills an accelerator."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .command_fit import FitCommand
from .console import Console
from .deadline import Stopwatch
from .descent import surviving
from .errors import DivergedError, SdfError, describe
from .fitting import Fit
from .geometry import Mesh
from .networks import FeatureGrid
from .packing import Pack
from .pools import Task
from .topology import topology

Clock = Callable[[], float]


def fit_one(task: Task) -> dict[str, Any]:
    """In a process of its own: one fit. What came of it, or the error, as plain values."""
    clock = _begin()
    try:
        mesh, how = command_of(task, clock).write()
    except SdfError as error:
        return describe(error)
    return told(mesh, how, clock())


def fit_together(task: Task) -> dict[str, Any]:
    """The same for all of the task's ``tasks`` by name, those that can be packed in one descent: outcomes by name."""
    clock, screen = _begin(), Console(quiet=True)
    held: dict[str, tuple[FitCommand, Fit, Stopwatch]] = {}
    outcomes: dict[str, dict[str, Any]] = {}
    for name, one in task["tasks"].items():
        stages = Stopwatch("starting", clock)
        try:
            command = command_of(one, clock)
            command.check()
            fit = command.begun(screen, stages)
            for _ in fit.prepare():
                pass
            held[name] = command, fit, stages
        except SdfError as error:
            outcomes[name] = describe(error)
    for names in alike({name: fit for name, (_, fit, _) in held.items()}):
        outcomes |= _together({name: held[name] for name in names}, screen, clock)
    return {"outcomes": outcomes}


def alike(fits: dict[str, Fit]) -> list[list[str]]:
    """Names of prepared fits that can be packed; those that cannot are alone."""
    groups: dict[Any, list[str]] = {}
    for name, fit in fits.items():
        packs = isinstance(fit.network, FeatureGrid)
        key = (fit.plan.recipe, fit.plan.size, fit.plan.steps, fit.plan.device) if packs else name
        groups.setdefault(key, []).append(name)
    return list(groups.values())


def _together(held: dict[str, tuple[FitCommand, Fit, Stopwatch]], screen: Console, clock: Clock) -> dict[str, Any]:
    fits = [fit for _, fit, _ in held.values()]
    outcomes: dict[str, Any] = {}
    try:
        for _ in Pack(fits) if len(fits) > 1 else surviving(fits[0].descend(), fits[0].warnings):
            pass
    except DivergedError as error:
        if len(fits) > 1:  # one of them: each by itself then, and only that one fails
            return {}
        return dict.fromkeys(held, describe(error))
    except SdfError as error:
        return dict.fromkeys(held, describe(error))
    for name, (command, fit, stages) in held.items():
        try:
            mesh = command.finish(fit, screen, stages, command.resolution or fit.plan.resolution, False)
            outcomes[name] = told(mesh, f"{fit.plan.recipe}, {fit.step} steps, {len(fits)} at once", clock())
        except SdfError as error:
            outcomes[name] = describe(error)
    return outcomes


def command_of(task: Task, clock: Clock) -> FitCommand:
    """The command that ``task``, plain values, asks for."""
    files = {name: Path(task[name]) if name in task else None for name in ("source", "output", "save", "report")}
    options = {**task, **files, "pictures": None, "quiet": True}
    return FitCommand(**options, clock=clock, interruptible=False)


def told(mesh: Mesh, how: str, seconds: float) -> dict[str, Any]:
    """What the record holds of a shape that is done."""
    shape = topology(mesh)
    return {
        "how": how, "seconds": round(seconds, 2), "vertices": len(mesh.vertices), "watertight": shape.watertight,
        "parts": shape.components,
    }  # fmt: skip


def _begin() -> Clock:
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    begun = time.monotonic()
    return lambda: time.monotonic() - begun
