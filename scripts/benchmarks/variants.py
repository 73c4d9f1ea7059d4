"""The suite ``variants``: every recipe and classical method on one clean shape, its points spoilt in several ways."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import numpy as np

from sdfcore.geometry import Box, PointCloud
from sdfcore.report import write_json

from .document import BENCHMARKS, ROOT, Bar, bars_table, machine_line, publish
from .inputs import noisy
from .measured import threads_here
from .methods import Body, Settings, begun, chosen, fill
from .methods_section import PEERS, devices, rows_table, trained
from .protocol import SrbMeasures
from .subjects import cases, load

FEW, NOISE, MANY = 2000, 0.005, 20_000  # points of a sparse cloud; deviation in diagonals, and points of a noisy one


def spoilt(cloud: PointCloud, diagonal: float) -> dict[str, PointCloud]:
    """``cloud`` sparse, and noisy; that normals are missing is a method's own row in either."""
    random = np.random.default_rng(1)
    thinned = lambda count: cloud.take(random.permutation(len(cloud))[:count])
    return {
        f"sparse: {FEW:,} points": thinned(FEW),
        f"noise of {NOISE:.1%}, {MANY:,} points": noisy(NOISE)(thinned(MANY), diagonal, random),
    }


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--shape", default="spot", show_default=True, help="By file name without suffix.")
@click.option("--only", default="", help="Only these methods, as the table names them, separated by semicolons.")
@click.option("--training", type=float, default=10.0, show_default=True, help="Seconds of training of each recipe.")
@click.option("--preset", default="draft", show_default=True, help="Whose network sizes are taken.")
@click.option("--device", default="auto", show_default=True)
@click.option("--json", "record", type=click.Path(path_type=Path), help="Default: build/variants.json.")
@click.option("--output", type=click.Path(path_type=Path), help="Default: docs/benchmarks.md if all is run.")
@click.option("--resume", is_flag=True, help="Keep the rows already in the JSON file.")
def variants(
    data: Path, shape: str, only: str, training: float, preset: str, device: str, record: Path | None,
    output: Path | None, resume: bool,
) -> None:  # fmt: skip
    """Every method on sparse and on noisy points of a shape of DATA, with normals and without."""
    record = record or ROOT / "build" / "variants.json"
    settings = replace(Settings(training, preset=preset), samples=200_000, threads=threads_here(), device=device)
    body = begun(record, settings, resume)
    subject = load(cases(data, (shape,))[0], 100_000)
    diagonal = Box.around(subject.truth.vertices.astype(np.float64)).diagonal
    for name, cloud in spoilt(subject.cloud, diagonal).items():
        measures = SrbMeasures(subject.truth, cloud, settings.samples, settings.seed)
        rows = body["rows"].setdefault(f"{shape}, {name}", {})
        fill(rows, chosen(only), cloud, measures, settings, partial(write_json, record, body))
    publish("variants", section(body, diagonal), bars(body), output or (None if only else BENCHMARKS))


def section(body: Body, diagonal: float) -> str:
    """Head, bars and a table for each variant."""
    settings = body["settings"]
    commits = {row.get("commit", "") for rows in body["rows"].values() for row in rows.values()}
    head = (
        f"## Variants of a clean shape\n\n{trained(settings)} a recipe at the sizes of `{settings['preset']}`, seed "
        f"{settings['seed']}. Lengths are those of the section on methods, in the shape's units; its diagonal is "
        f"{diagonal:.3g}.\n\n```\npython scripts/benchmark.py variants --data DIR\n```\n\n"
        f"Machine: {machine_line(body['machine'], commits)} Device: {devices(body)}."
    )
    tables = [f"### {name}\n\n{rows_table(rows, digits=5)}" for name, rows in body["rows"].items()]
    return "\n\n".join([head, bars_table(bars(body)), *tables])


def bars(body: Body) -> list[Bar]:
    """Whether every recipe gave a surface of everything; classical methods may fail."""
    failed = [
        f"{name} on {variant}"
        for variant, rows in body["rows"].items()
        for name, row in rows.items()
        if "error" in row and name not in PEERS
    ]
    return [Bar("every recipe gives a surface", ", ".join(failed) or "all", not failed)]
