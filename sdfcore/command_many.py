"""``sdfcore fit-many``: every shape of a folder, resumable; what fails is listed and stops nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from . import many, pools
from .command_batch import fit_one, fit_together
from .console import Console
from .errors import InputError, SdfError, rebuild
from .presets import PRESETS
from .writing import SUFFIXES

FAILED = 3  # exit code where some failed and the rest is done


@dataclass(frozen=True)
class ManyCommand:
    """The options of ``sdfcore fit-many``; :meth:`run` does it.

    Args:
        settings: the options of :class:`FitCommand` that are the same for all shapes.
        save, reports: keep a model (.safetensors) and a report (.json) beside each mesh.
        workers: how many processes; batch: how many shapes each of them fits in one descent.
        again: fit also what is done.
        ray: use a Ray cluster: its address, or an empty text for one of this machine.
    """

    folder: Path
    output: Path
    suffix: str
    recursive: bool
    settings: dict[str, Any]
    save: bool
    reports: bool
    workers: int
    batch: int
    again: bool
    ray: str | None
    quiet: bool

    def run(self) -> int:
        """How many failed.

        Raises:
            SdfError: nothing can be done at all.
        """
        self._check()
        found = many.items(self.folder, self.output, self.suffix, recursive=self.recursive)
        engine = pools.local if self.ray is None else pools.ray(self.ray or None, gpus=self._gpus())
        for item in found:
            item.output.parent.mkdir(parents=True, exist_ok=True)
        record = many.Record(self.output / many.RECORD)
        settings = {**self.settings, "save": self.save, "reports": self.reports}
        keys = {item.name: many.fingerprint(item, settings) for item in found}
        left = {item.name: item for item in found if self.again or not record.has(item, keys[item.name])}
        screen = Console(quiet=self.quiet)
        if len(left) < len(found):
            screen.say(f"{len(found) - len(left)} of {len(found)} are done already.")
        with screen.progress(1000):
            for number, (name, outcome) in enumerate(self._outcomes(engine, left), 1):
                if isinstance(outcome, SdfError):
                    record.failed(left[name], keys[name], outcome)
                else:
                    record.done(left[name], keys[name], outcome)
                screen.say(f"{number}/{len(left)} {name}: {_line(outcome)}")
                screen.fraction(number / len(left))
        failures = record.failures(found)
        click.echo(f"{len(found) - len(failures)} of {len(found)} fitted; what became of each: {record.path}")
        for name, why in failures.items():
            click.echo(f"failed: {name}: {why}", err=True)
        return len(failures)

    def _check(self) -> None:
        if self.suffix not in SUFFIXES:
            raise InputError(f"Meshes cannot be written as {self.suffix}.", f"Choose one of: {', '.join(SUFFIXES)}.")
        if self.batch > 1 and self.settings["seconds"] is not None:
            raise InputError("--batch takes a budget of steps, not of seconds.", "Leave --seconds or --batch out.")
        preset = self.settings["preset"]
        if preset is not None and preset not in PRESETS:
            raise InputError(f"There is no preset {preset!r}.", f"Choose one of: {', '.join(PRESETS)}.")

    def _gpus(self) -> float:
        return 1.0 if self.settings["device"].startswith("cuda") else 0.0

    def _outcomes(self, engine: pools.Engine, left: dict[str, many.Item]) -> Iterator[tuple[str, pools.Outcome]]:
        """What became of each of ``left``, as they end. A batch that could not be done as one is done one by one."""
        alone = {name: self._task(item) for name, item in left.items()}
        if self.batch > 1:
            names = list(alone)
            batches = {
                names[n]: {"tasks": {name: alone[name] for name in names[n : n + self.batch]}}
                for n in range(0, len(names), self.batch)
            }
            for _, outcome in self._done(engine, fit_together, batches):
                for name, found in ({} if isinstance(outcome, SdfError) else outcome["outcomes"]).items():
                    del alone[name]
                    yield name, rebuild(found) if "error" in found else found
        for name, outcome in self._done(engine, fit_one, alone):
            failed = isinstance(outcome, dict) and "error" in outcome
            yield name, rebuild(outcome) if failed and isinstance(outcome, dict) else outcome

    def _done(
        self, engine: pools.Engine, work: pools.Work, tasks: dict[str, pools.Task]
    ) -> Iterator[tuple[str, pools.Outcome]]:
        return engine(work, tasks, min(self.workers, len(tasks))) if tasks else iter(())

    def _task(self, item: many.Item) -> pools.Task:
        beside = {"save": (self.save, ".safetensors"), "report": (self.reports, ".json")}
        extra = {option: str(item.output.with_suffix(end)) for option, (wanted, end) in beside.items() if wanted}
        paths = {"source": str(item.source.resolve()), "output": str(item.output.resolve())}
        return {**self.settings, **paths, **{name: str(Path(path).resolve()) for name, path in extra.items()}}


def _line(outcome: pools.Outcome) -> str:
    if isinstance(outcome, SdfError):
        return f"failed: {outcome.line}"
    closed = "watertight" if outcome["watertight"] else "not watertight"
    parts = "1 part" if outcome["parts"] == 1 else f"{outcome['parts']} parts"
    return f"{outcome['vertices']} vertices, {closed}, {parts}, {outcome['seconds']:.1f} s, {outcome['how']}"
