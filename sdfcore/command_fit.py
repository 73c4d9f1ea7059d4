"""``sdfcore fit``: from a file to a mesh file, in the time that was asked for."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .console import Console, Interrupt, seconds_since_start
from .deadline import Deadline, Stopwatch
from .errors import InputError
from .geometry import Mesh
from .presets import PRESETS

if TYPE_CHECKING:
    from .fields import NeuralSDF
    from .fitting import Fit

# What comes after the extraction, in seconds on two CPU cores.
_REPORT_SECONDS = 2.0
_PICTURE_SECONDS = 3.0
_WRITING_SECONDS = 0.2
_BALANCED_FROM = 40.0  # seconds: in fewer, balanced spends too large a share on its preparation


@dataclass(frozen=True)
class FitCommand:
    """The options of ``sdfcore fit``; :meth:`run` does it.

    Args:
        settings: of the recipe's size, each as NAME=NUMBER.
        clock: seconds since the work began, for its promise of ``seconds``.
        interruptible: the first Ctrl-C ends the fit early and keeps its result.
    Raises:
        SdfError: anything given cannot be used. Outputs are checked before the fit, and written whole or not at all.
    """

    source: Path
    output: Path
    recipe: str
    preset: str | None
    seconds: float | None
    steps: int | None
    resolution: int | None
    level: float
    device: str
    seed: int
    samples: int | None
    save: Path | None
    report: Path | None
    pictures: Path | None
    quiet: bool
    settings: tuple[str, ...] = ()
    clock: Callable[[], float] = seconds_since_start
    interruptible: bool = True

    @property
    def effort(self) -> str:
        """The preset's name."""
        hurried = self.seconds is not None and self.seconds < _BALANCED_FROM
        return self.preset or ("draft" if hurried else "balanced")

    def run(self) -> None:
        """Does it, and says what was written."""
        mesh, how = self.write()
        click.echo(f"{surface_line(self.output, mesh, self.clock())}, {how}")

    def write(self) -> tuple[Mesh, str]:
        """Does it; the mesh that was written, and how it was made."""
        self.check()
        from .peers import PEERS

        if self.recipe in PEERS:
            from .command_peer import run_peer

            return run_peer(self), self.recipe
        screen, stages, deadline = Console(quiet=self.quiet), Stopwatch("starting", self.clock), self._deadline()
        fit = self.begun(screen, stages, deadline)
        deadline.foresee(fit.source, measured=self.report is not None)
        interrupt = Interrupt(screen) if self.interruptible else None
        with interrupt or nullcontext():  # to the end: what is trained is kept, once it is being meshed, too
            stopped = _train(fit, screen, deadline, interrupt)
            mesh = self.finish(fit, screen, stages, deadline.resolution or fit.plan.resolution, stopped)
        return mesh, f"{fit.plan.recipe}, {fit.step} steps{' (stopped)' if stopped else ''}"

    def begun(self, screen: Console, stages: Stopwatch, deadline: Deadline | None = None) -> Fit:
        """The fit of the file, not a step of it taken; within ``deadline``, if it has one."""
        from . import reading
        from .fitting import Fit

        stages.enter("reading")
        screen.stage("reading")
        source = reading.read(self.source)
        stages.enter("preparing")

        def stage(name: str) -> None:
            stages.enter(name)
            screen.stage(name)

        return Fit(
            source,
            recipe=self.recipe,
            preset=self.effort,
            steps=self.steps,
            seconds=None if deadline is None else deadline.training_seconds(),
            resolution=self.resolution if deadline is None else deadline.resolution,
            seed=self.seed,
            device=self.device,
            samples=self.samples,
            on_stage=stage,
            seconds_left=None if deadline is None else deadline.training_begins,
            settings=settings_of(self.settings),
        )

    def check(self) -> None:
        """Whether the options go together, and the outputs can be written.

        Raises:
            InputError: they do not.
        """
        if self.seconds is not None and self.steps is not None:
            raise InputError("--seconds and --steps are both given.", "Choose one of the two.")
        if not math.isfinite(self.level):
            raise InputError(f"--level {self.level} is no distance.", "Give a finite number, in world units.")
        if self.effort not in PRESETS:
            raise InputError(f"There is no preset {self.effort!r}.", f"Choose one of: {', '.join(PRESETS)}.")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"The seed {self.seed} cannot be used.", f"Give a whole number from 0 to {2**63 - 1}.")
        settings_of(self.settings)
        check_mesh_output(self.output)
        if self.save is not None:
            check_output(self.save, ".safetensors")
        if self.report is not None:
            check_output(self.report, ".json")
        if self.pictures is not None and self.pictures.exists() and not self.pictures.is_dir():
            raise InputError(f"{self.pictures} is not a folder.", "Give --pictures a folder.")
        outputs = [path.resolve() for path in (self.output, self.save, self.report) if path is not None]
        if len(set(outputs)) < len(outputs) or self.source.resolve() in outputs:
            raise InputError("Two of the input and output files are the same.", "Give each a name of its own.")

    def _deadline(self) -> Deadline:
        afterwards = _WRITING_SECONDS + _REPORT_SECONDS * (self.report is not None or self.pictures is not None)
        afterwards += _PICTURE_SECONDS * (self.pictures is not None)
        cells = PRESETS[self.effort].resolution
        return Deadline(self.seconds, self.resolution, cells, afterwards, self.clock)

    def finish(self, fit: Fit, screen: Console, stages: Stopwatch, resolution: int, stopped: bool) -> Mesh:
        """The mesh of a fit that has ended, written with all that was asked for."""
        from . import storage, writing

        sdf = fit.sdf
        if self.save is not None:  # what takes long may fail or be broken off after this, and the fit is kept
            storage.save(sdf, self.save)
        stages.enter("extracting")
        screen.stage("extracting")
        with screen.progress(1000):
            mesh = fit.mesh(sdf, resolution=resolution, level=self.level, on_progress=screen.fraction)
        stages.enter("writing")
        writing.write(self.output, _with_source(mesh, fit))
        if self.save is not None:
            storage.save(sdf, self.save)
        if self.report is not None or self.pictures is not None:
            self._account(fit, sdf, mesh, stages, resolution, stopped)
        screen.clear()
        return mesh

    def _account(self, fit: Fit, sdf: NeuralSDF, mesh: Mesh, stages: Stopwatch, resolution: int, stopped: bool) -> None:
        """Measures and writes the report and the pictures."""
        from . import metrics
        from .field_error import distance_statistics
        from .report import build_report, gradient_statistics, write_json

        stages.enter("measuring")
        # An offset surface is meant to lie elsewhere: its distance from the source says nothing about the fit.
        samples = 100_000 if self.seconds is None else 30_000
        comparison = metrics.compare(mesh, fit.source, samples=samples) if self.level == 0.0 else None
        gradient = gradient_statistics(sdf, seed=self.seed)
        distance = distance_statistics(fit, sdf, samples=samples // 5, seed=self.seed)

        def report(seconds: Mapping[str, float]) -> dict[str, Any]:
            return build_report(
                fit,
                mesh,
                seconds=seconds,
                comparison=comparison,
                gradient=gradient,
                distance=distance,
                level=self.level,
                resolution=resolution,
                stopped=stopped,
            ) | {"source": self.source.name}

        if self.pictures is not None:
            from . import plots  # brings matplotlib

            stages.enter("drawing")
            self.pictures.mkdir(parents=True, exist_ok=True)
            plots.report_pictures(report(stages.finish()), self.pictures)
            plots.cross_section(sdf, self.pictures / "section.png", cloud=fit.cloud, level=self.level)
        if self.report is not None:
            write_json(self.report, report(stages.finish()))


def _train(fit: Fit, screen: Console, deadline: Deadline, interrupt: Interrupt | None = None) -> bool:
    """Runs the fit to its end, its deadline or ``interrupt``, which is entered; says whether it was that."""
    from .descent import surviving

    said = False
    with screen.progress(fit.plan.steps):
        for progress in surviving(fit, fit.warnings):
            screen.update(progress)
            if progress.step > 0:
                if not said:  # not before the input has proved usable: an error is the only line then
                    screen.say(f"{fit.plan.recipe}: {fit.plan.reason}")
                    said = True
                deadline.measure(fit)
                if (interrupt is not None and interrupt.asked) or deadline.left() <= 0.0:
                    break
    for line in fit.warnings:
        screen.say(line)
    return interrupt is not None and interrupt.asked


def _with_source(mesh: Mesh, fit: Fit) -> Mesh:
    """``mesh`` with the source's colours and the distance to it as the attribute ``sdf_error``, world units."""
    from .transfer import transfer

    found = transfer(mesh, fit.source)
    attributes = {**mesh.attributes, "sdf_error": found.error}
    return Mesh(mesh.vertices, mesh.faces, mesh.normals, found.colours, attributes)


def check_mesh_output(path: Path) -> None:
    """Whether a mesh can be written to ``path``, before hours are spent.

    Raises:
        InputError: a suffix that cannot be written, no such folder, or one without the right to write.
    """
    from . import writing

    writing.check(path)
    _check_rights(path)


def settings_of(words: tuple[str, ...]) -> dict[str, float]:
    """The numbers in words like ``width=128``.

    Raises:
        InputError: one is no such word.
    """
    found = {}
    for word in words:
        name, _, number = word.partition("=")
        try:
            found[name] = float(number)
        except ValueError as error:
            raise InputError(f"--set {word} is no NAME=NUMBER.", "As in --set width=128.") from error
    return found


def check_output(path: Path, suffix: str) -> None:
    """The same for a file that must end with ``suffix``."""
    if path.suffix.lower() != suffix:
        raise InputError(f"{path.name!r} does not end with {suffix}.", f"Name it {path.with_suffix(suffix).name}.")
    if path.is_dir():
        raise InputError(f"{path} is a folder.", "Give the name of a file.")
    if not path.parent.is_dir():
        raise InputError(f"There is no folder {path.parent}.", "Make it first, or write elsewhere.")
    _check_rights(path)


def _check_rights(path: Path) -> None:
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"The folder {path.parent} cannot be written to.", "Write elsewhere.")


def surface_line(path: Path, mesh: Mesh, seconds: float) -> str:
    """One line about a written surface."""
    from .topology import topology

    found = topology(mesh)
    parts = "1 part" if found.components == 1 else f"{found.components} parts"
    closed = "watertight" if found.watertight else "not watertight"
    return f"{path}: {len(mesh.vertices)} vertices, {len(mesh.faces)} faces, {closed}, {parts}, {seconds:.1f} s"
