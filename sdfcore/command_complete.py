"""``sdfcore space complete``: from a partial scan to the whole shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .command_fit import check_mesh_output, check_output, surface_line
from .command_shapes import load_space, write_shape
from .command_space import distinct_files, follow
from .console import Console, seconds_since_start
from .deadline import Stopwatch
from .errors import InputError

if TYPE_CHECKING:
    from .geometry import Mesh
    from .spaces import Complete

_WRITING_SECONDS, _MEASURING_SECONDS = 0.3, 3.0


@dataclass(frozen=True)
class CompleteCommand:
    """The options of ``sdfcore space complete``; :meth:`run` does it.

    Raises:
        SdfError: anything given cannot be used. Outputs are checked first, and written whole or not at all.
    """

    source: Path
    scan: Path
    output: Path
    truth: Path | None
    report: Path | None
    rotate: bool
    no_tune: bool
    seconds: float | None
    resolution: int
    seed: int
    save: Path | None
    picture: Path | None
    up: str
    device: str
    quiet: bool

    def run(self) -> None:
        self._check()
        screen, stages = Console(quiet=self.quiet), Stopwatch("starting", seconds_since_start)
        stages.enter("reading")
        space = load_space(self.source, self.device, screen)
        from . import reading
        from .spaces import Complete

        scan = reading.read(self.scan)
        truth = None if self.truth is None else _truth(self.truth)

        def stage(name: str) -> None:
            stages.enter(name)
            screen.stage(name)

        stage("preparing")
        run = Complete(
            space,
            scan,
            rotate=self.rotate,
            tune=not self.no_tune,
            seconds=self._training_seconds(),
            seed=self.seed,
            on_stage=stage,
        )
        stopped = follow(run, screen, 1)
        if self.save is not None:  # what takes long may fail or be broken off after this
            from . import storage

            storage.save(run.sdf, self.save)
        stages.enter("extracting")
        with screen.progress(1000):
            mesh = run.mesh(self.resolution, on_progress=screen.fraction)
        stages.enter("writing")
        write_shape(self.output, mesh, run.sdf, self.resolution, self.save)
        stages.enter("measuring")
        errors = {} if truth is None else measured(mesh, truth, run)
        if self.picture is not None:
            self._draw(mesh)
        if self.report is not None:
            self._write_report(mesh, stages.finish(), errors, stopped)
        screen.clear()
        end = " (stopped)" if stopped else ""
        click.echo(f"{surface_line(self.output, mesh, seconds_since_start())}{_errors_line(errors)}{end}")

    def _check(self) -> None:
        check_mesh_output(self.output)
        if self.save is not None:
            check_output(self.save, ".safetensors")
        if self.report is not None:
            check_output(self.report, ".json")
        if self.picture is not None:
            check_output(self.picture, ".png")
        inputs = [path for path in (self.source, self.scan, self.truth) if path is not None]
        distinct_files([self.output, self.save, self.report], inputs)

    def _draw(self, mesh: Mesh) -> None:
        """The completion from four sides: clay where it was scanned, orange where it was not."""
        from .spaces.pictures import draw_round

        assert self.picture is not None
        draw_round(mesh, self.picture, up=self.up)

    def _training_seconds(self) -> float | None:
        if self.seconds is None:
            return None
        from .spaces.completion import EXTRACTION_SHARE

        reserved = EXTRACTION_SHARE * self.seconds + _WRITING_SECONDS + _MEASURING_SECONDS * (self.truth is not None)
        return max(self.seconds - reserved - seconds_since_start(), 0.1)

    def _write_report(self, mesh: Mesh, seconds: dict[str, float], errors: dict[str, Any], stopped: bool) -> None:
        from .report import versions, write_json

        assert self.report is not None
        body = {
            "format": "sdfcore-completion",
            "space": self.source.name,
            "scan": self.scan.name,
            "resolution": self.resolution,
            "tuned": not self.no_tune,
            "stopped": stopped,
            "seconds": seconds,
            "observed_share": float(mesh.attributes["observed_mask"].mean()),
            "result": {"vertices": len(mesh.vertices), "faces": len(mesh.faces)},
            **errors,
            "versions": versions(),
        }
        write_json(self.report, body)


def _truth(path: Path) -> Mesh:
    from . import reading
    from .geometry import Mesh

    found = reading.read(path)
    if not isinstance(found, Mesh):
        raise InputError(f"{path} holds points without faces.", "Give --truth a mesh.")
    return found


def measured(mesh: Mesh, truth: Mesh, run: Complete) -> dict[str, Any]:
    """``errors_by_part``, of the scanned and of the hidden part, and ``metrics`` of the whole, world units."""
    from . import metrics
    from .spaces import errors_by_part

    parts = asdict(errors_by_part(mesh, truth, run.scan.points))
    return {"errors_by_part": parts, "metrics": metrics.compare(mesh, truth, samples=50_000).as_dict()}


def _errors_line(errors: Mapping[str, Any]) -> str:
    if not errors:
        return ""
    parts, whole = errors["errors_by_part"], errors["metrics"]
    return f", error {parts['observed']:.4g} scanned, {parts['hidden']:.4g} hidden, {whole['chamfer']:.4g} in all"
