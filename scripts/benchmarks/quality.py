"""The suite ``quality``: how near the command line comes to the truth from points, against screened Poisson."""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from sdfcore.errors import SdfError
from sdfcore.geometry import Mesh
from sdfcore.presets import PRESETS
from sdfcore.reading import read
from sdfcore.report import read_report, write_json
from sdfcore.writing import write

from .document import BENCHMARKS, ROOT, commit, machine, publish
from .measured import Measured, measure, threads_here
from .quality_section import bars, section
from .subjects import Case, Subject, cases, load

Body = dict[str, Any]
_PATIENCE = 10  # times the cap: what takes longer is broken, and is killed


@dataclass(frozen=True)
class Settings:
    """What is measured, and how.

    Args:
        points: taken of each shape; samples: of each comparison. steps: instead of the presets', for trials.
        cap: seconds within which balanced must be done with a shape.
    """

    presets: tuple[str, ...] = ("draft", "balanced")
    depths: tuple[int, ...] = (7, 8, 9)
    points: int = 100_000
    samples: int = 100_000
    steps: int | None = None
    cap: float = 90.0
    threads: int = 1

    def same_as(self, other: dict[str, Any]) -> bool:
        """Whether rows measured with ``other`` can stand beside rows measured with these."""
        return all(other.get(name) == getattr(self, name) for name in ("points", "samples", "steps", "threads"))


@dataclass(frozen=True)
class Method:
    """A way from a file of points to a file of triangles.

    ``command`` makes the command from input, output and a folder; ``details`` reads what else is told of the run.
    """

    name: str
    command: Callable[[Path, Path, Path], list[str]]
    details: Callable[[Measured, Path], Body]


def methods(settings: Settings) -> list[Method]:
    """Ours at each preset, then Poisson at each depth."""
    return [_ours(p, settings.steps) for p in settings.presets] + [_poisson(d, settings) for d in settings.depths]


def _ours(preset: str, steps: int | None) -> Method:
    def command(source: Path, output: Path, folder: Path) -> list[str]:
        files = ["--report", str(folder / "report.json"), "--save", str(folder / "model.safetensors")]
        words = [sys.executable, "-m", "sdfcore", "fit", str(source), "-o", str(output), "--preset", preset, *files]
        return words if steps is None else [*words, "--steps", str(steps)]

    def details(done: Measured, folder: Path) -> Body:
        report = read_report(folder / "report.json")
        stages = report["seconds"]
        alone = sum(float(stages.get(name, 0.0)) for name in ("preparing", "fitting", "extracting"))
        told = {name: report[name] for name in ("recipe", "steps", "resolution", "device", "gradient")}
        model_bytes = (folder / "model.safetensors").stat().st_size
        return {"seconds_alone": alone, "stages": stages, "model_bytes": model_bytes, **told}

    return Method(preset, command, details)


def _poisson(depth: int, settings: Settings) -> Method:
    def command(source: Path, output: Path, folder: Path) -> list[str]:
        words = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), "_poisson", str(source), str(output)]
        return [*words, "--depth", str(depth), "--threads", str(settings.threads)]

    def details(done: Measured, folder: Path) -> Body:
        return {"seconds_alone": json.loads(done.out.splitlines()[-1])["seconds"]}

    return Method(f"poisson{depth}", command, details)


def row(method: Method, subject: Subject, settings: Settings, folder: Path) -> Body:
    """Runs ``method`` on the points of ``subject`` in a process of its own and compares its mesh with the truth."""
    source, output = folder / "input.ply", folder / f"{method.name}.ply"
    write(source, subject.cloud)
    command = method.command(source, output, folder)
    done = measure(command, output, threads=settings.threads, limit=_PATIENCE * settings.cap)
    found: Body = {"seconds": done.seconds_written, "seconds_process": done.seconds, "seconds_cpu": done.seconds_cpu}
    found["peak_mib"] = done.peak_mib
    if done.complaint:
        return {**found, "error": done.complaint}
    try:
        result = read(output)
        if not isinstance(result, Mesh):
            return {**found, "error": "gave no mesh"}
        counts = {"vertices": len(result.vertices), "faces": len(result.faces)}
        found |= method.details(done, folder) | counts | subject.compared(result, settings.samples)
    except SdfError as error:
        return {**found, "error": error.line}
    return found


def run(
    chosen: list[Case],
    settings: Settings,
    body: Body,
    save: Callable[[Body], None],
    loading: Callable[[Case, int], Subject] = load,
) -> None:
    """Fills ``body["rows"]``, shape by shape, with what is not yet there; calls ``save`` after each shape."""
    for number, case in enumerate(chosen, 1):
        subject, source = loading(case, settings.points), commit()
        described = subject.description()
        old = body["rows"].get(case.name, {})
        known = old.get("methods", {}) if old.get("truth") == described else {}
        done = {name: found for name, found in known.items() if "error" not in found}
        with tempfile.TemporaryDirectory() as folder:
            for method in methods(settings):
                if method.name not in done:
                    done[method.name] = {**row(method, subject, settings, Path(folder)), "commit": source}
                    click.echo(f"{number}/{len(chosen)} {case.name:<26} {method.name:<10} {_said(done[method.name])}")
        body["rows"][case.name] = {"truth": described, "methods": done}
        save(body)


def _said(found: Body) -> str:
    if "error" in found:
        return f"failed: {found['error']}"
    closed = "" if found["watertight"] else ", not watertight"
    return (
        f"chamfer {1e5 * found['chamfer']:6.1f}e-5, parts {found['components']}, euler {found['euler']}{closed}, "
        f"{found['seconds']:.1f} s, {found['peak_mib']:.0f} MiB"
    )


def begun(path: Path, settings: Settings, resume: bool) -> Body:
    """The body to start with: empty, or to ``resume`` that in ``path``.

    Raises:
        click.ClickException: what is there was measured with other settings or elsewhere, or is something else.
    """
    fresh: Body = {"settings": asdict(settings), "machine": machine(), "rows": {}}
    if not resume:
        return fresh
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        alike = settings.same_as(old["settings"]) and _same_machine(old["machine"], fresh["machine"])
        rows = old["rows"]
    except FileNotFoundError:
        return fresh
    except (ValueError, KeyError) as error:
        raise click.ClickException(f"{path} is no result of this suite; move it away.") from error
    if not alike:
        raise click.ClickException(
            f"{path.name} was measured with other settings or elsewhere; leave --resume out to start anew."
        )
    return {**fresh, "rows": rows}


def _same_machine(one: Body, other: Body) -> bool:
    return all(one[name] == other[name] for name in ("cpu", "cores"))


def words(presets: str) -> tuple[str, ...]:
    """The names in ``a,b``."""
    return tuple(word.strip() for word in presets.split(",") if word.strip())


def _check(settings: Settings) -> None:
    unknown = [preset for preset in settings.presets if preset not in PRESETS]
    if unknown:
        raise click.BadParameter(f"no preset {unknown[0]}; there are {', '.join(PRESETS)}")
    if settings.depths and importlib.util.find_spec("pymeshlab") is None:
        raise click.ClickException("Poisson needs pymeshlab: pip install -e '.[benchmark]', or give --depths ''.")


def invocation(shapes: str, settings: Settings) -> str:
    """The command that measures the same."""
    given = ["python scripts/benchmark.py quality --data DIR"]
    defaults = Settings()
    given += [f"--shapes {shapes}"] if shapes else []
    given += [f"--presets {','.join(settings.presets)}"] if settings.presets != defaults.presets else []
    given += [f"--depths {','.join(map(str, settings.depths))}"] if settings.depths != defaults.depths else []
    given += [f"--steps {settings.steps}"] if settings.steps is not None else []
    given += [f"--seconds-cap {settings.cap:g}"] if settings.cap != defaults.cap else []
    given += [f"--threads {settings.threads}"] if settings.threads != threads_here() else []
    return " ".join(given)


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--shapes", default="", help="Only these, by file name without suffix: a,b.")
@click.option("--presets", default="draft,balanced", show_default=True)
@click.option("--depths", default="7,8,9", show_default=True, help="Of Poisson's octree; '' leaves Poisson out.")
@click.option("--seconds-cap", type=float, default=90.0, show_default=True, help="Bar for balanced, seconds a shape.")
@click.option("--steps", type=click.IntRange(min=1), help="Training steps instead of the presets', for trials.")
@click.option("--threads", type=click.IntRange(min=1), default=threads_here, help="Default: all cores.")
@click.option("--output", type=click.Path(path_type=Path), help="Default: docs/benchmarks.md if all is run.")
@click.option(
    "--json", "record", type=click.Path(path_type=Path), help="Default: build/quality.json, unless in trials."
)
@click.option("--resume", is_flag=True, help="Keep the rows already in the JSON file; failed ones are run again.")
def quality(
    data: Path, shapes: str, presets: str, depths: str, seconds_cap: float, steps: int | None, threads: int,
    output: Path | None, record: Path | None, resume: bool,
) -> None:  # fmt: skip
    """Chamfer and more of every preset and of screened Poisson, on all shapes and scans of DATA."""
    levels = tuple(int(depth) for depth in words(depths))
    settings = Settings(words(presets), levels, steps=steps, cap=seconds_cap, threads=threads)
    _check(settings)
    chosen = cases(data, words(shapes))
    if record is None:  # a trial must not take the place of hours of work
        trial = steps is not None or (shapes and not resume)
        record = ROOT / "build" / ("quality_trial.json" if trial else "quality.json")
    body = begun(record, settings, resume) | {"command": invocation(shapes, settings)}
    record.parent.mkdir(parents=True, exist_ok=True)
    run(chosen, settings, body, partial(write_json, record))
    names = [case.name for case in chosen]
    whole = not (shapes or steps)
    publish("quality", section(body, names), bars(body, names), output or (BENCHMARKS if whole else None))
