"""The suite ``speed``: how soon a user has a mesh as exact as screened Poisson's, from process start to the file.

Three parts. *first*: a draft of one shape, three times. *clean*: ten shapes of exact points. *rough*: the same with
noise, and with a tenth of their surface missing, where nothing but the preset ``balanced`` is run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from sdfcore.geometry import Array, PointCloud
from sdfcore.report import write_json

from .document import BENCHMARKS, ROOT, commit, machine, publish
from .inputs import SHAPES
from .measured import threads_here
from .quality import Settings, run
from .speed_section import bars, section
from .subjects import Subject, cases, load

Body = dict[str, Any]

FIRST = "nefertiti_35k"
PARTS = ("first", "clean", "rough")
NOISE, MISSING, HOLES = 0.005, 0.1, 4  # of the diagonal; of the points, and in how many holes
_LIMIT = 120.0  # seconds, tenfold: what takes longer is broken


def noisy(subject: Subject) -> PointCloud:
    """Every point moved by a Gaussian of :data:`NOISE` diagonals."""
    cloud, random = subject.cloud, np.random.default_rng(1)
    size = float(np.linalg.norm(np.ptp(subject.truth.vertices, axis=0)))
    return PointCloud(cloud.points + NOISE * size * random.normal(size=cloud.points.shape), cloud.normals)


def holed(subject: Subject) -> PointCloud:
    """Without :data:`MISSING` of the points: the nearest to each of :data:`HOLES` of them."""
    points, kept = subject.cloud.points, np.ones(len(subject.cloud), bool)
    for centre in points[np.random.default_rng(2).integers(0, len(points), HOLES)]:
        gap: Array = np.where(kept, np.linalg.norm(points - centre, axis=1), np.inf)
        kept[np.argsort(gap)[: round(MISSING * len(points) / HOLES)]] = False
    return subject.cloud.take(kept)


VARIANTS: dict[str, Callable[[Subject], PointCloud]] = {
    f"noise {NOISE:.1%}": noisy,
    f"{MISSING:.0%} missing": holed,
}


def _settings(points: int, threads: int, presets: tuple[str, ...], steps: int | None = None) -> Settings:
    return Settings(presets=presets, points=points, threads=threads, cap=_LIMIT, steps=steps)


def measured(data: Path, names: tuple[str, ...], parts: tuple[str, ...], body: Body, save: Callable[[], None]) -> None:
    """Fills ``body`` with what is not yet in it."""
    base, threads = body["settings"], body["settings"]["threads"]
    if "first" in parts:
        for number in range(base["runs"]):
            settings = replace(_settings(base["points"], threads, ("draft",), base["steps"]), depths=(7,))
            run(cases(data, (FIRST,)), settings, _rows(body, f"first {number + 1}"), lambda _: save())
    if "clean" in parts:
        settings = _settings(base["points"], threads, ("draft", "balanced", "fine"), base["steps"])
        run(cases(data, names), settings, _rows(body, "clean"), lambda _: save())
    if "rough" in parts:
        for variant, spoil in VARIANTS.items():
            click.echo(variant)
            settings = _settings(base["points"], threads, ("balanced",), base["steps"])
            spoiled = lambda case, points, spoil=spoil: _spoiled(load(case, points), spoil)
            run(cases(data, names), settings, _rows(body, variant), lambda _: save(), spoiled)


def _rows(body: Body, part: str) -> Body:
    found: Body = body["parts"].setdefault(part, {"rows": {}})
    return found


def _spoiled(subject: Subject, spoil: Callable[[Subject], PointCloud]) -> Subject:
    return Subject(subject.case, subject.truth, spoil(subject))


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--shapes", default=",".join(SHAPES), help="By file name without suffix: a,b.")
@click.option("--parts", default=",".join(PARTS), show_default=True, help="Which parts, by comma.")
@click.option("--runs", type=click.IntRange(min=1), default=3, show_default=True, help="Of the first part.")
@click.option("--points", type=click.IntRange(min=1000), default=100_000, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), help="Training steps instead of the presets', for trials.")
@click.option("--threads", type=click.IntRange(min=1), default=threads_here, help="Default: all cores.")
@click.option("--json", "record", type=click.Path(path_type=Path), help="Default: build/speed.json.")
@click.option("--output", type=click.Path(path_type=Path), help="Default: docs/benchmarks.md if all is run.")
@click.option("--resume", is_flag=True, help="Keep the rows already in the JSON file.")
def speed(
    data: Path, shapes: str, parts: str, runs: int, points: int, steps: int | None, threads: int,
    record: Path | None, output: Path | None, resume: bool,
) -> None:  # fmt: skip
    """Seconds until a mesh of DATA's shapes is as exact as screened Poisson's, from process start to the file."""
    record = record or ROOT / "build" / "speed.json"
    chosen = tuple(part for part in parts.split(",") if part)
    if unknown := set(chosen) - set(PARTS):
        raise click.BadParameter(f"no part {unknown.pop()}; there are {', '.join(PARTS)}")
    settings = {"runs": runs, "points": points, "steps": steps, "threads": threads}
    body: Body = {"settings": settings, "machine": machine(), "commit": commit(), "parts": {}}
    if resume and record.exists():
        old = json.loads(record.read_text(encoding="utf-8"))
        if old["settings"] != settings:
            raise click.ClickException(f"{record.name} was measured with other settings; leave --resume out.")
        body["parts"] = old["parts"]
    record.parent.mkdir(parents=True, exist_ok=True)
    names = tuple(name for name in shapes.split(",") if name)
    measured(data, names, chosen, body, lambda: write_json(record, body))
    whole = chosen == PARTS and names == SHAPES and steps is None and points == 100_000
    publish("speed", section(body), bars(body), output or (BENCHMARKS if whole else None))
