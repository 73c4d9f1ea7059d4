"""One method on one file of points, as a process to be measured: so many seconds of training, everything told."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from sdfcore.geometry import Mesh, PointCloud


@click.command(hidden=True)
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--recipe", required=True)
@click.option("--preset", default="balanced")
@click.option(
    "--training", type=float, default=60.0, help="Seconds of training; preparation and extraction come extra."
)
@click.option("--steps", type=int, help="Training steps instead.")
@click.option("--resolution", type=int, help="Of the mesh, instead of the preset's.")
@click.option("--normals/--no-normals", default=True)
@click.option("--seed", type=int, default=0)
@click.option("--device", default="auto")
def one_method(
    source: Path, output: Path, recipe: str, preset: str, training: float, steps: int | None,
    resolution: int | None, normals: bool, seed: int, device: str,
) -> None:  # fmt: skip
    """Fit SOURCE, write OUTPUT, print what it took as JSON."""
    from sdfcore.reading import read
    from sdfcore.writing import write

    cloud = read(source)
    if not isinstance(cloud, PointCloud):
        raise click.UsageError(f"{source.name} holds no points.")
    given = cloud if normals else PointCloud(cloud.points)
    options = {"recipe": recipe, "preset": preset, "resolution": resolution, "seed": seed, "device": device}
    mesh, told = fitted(given, {"steps": steps} if steps else {"seconds": training}, options)
    write(output, mesh)
    click.echo(json.dumps(told))


def fitted(cloud: PointCloud, budget: dict[str, Any], options: dict[str, Any]) -> tuple[Mesh, dict[str, Any]]:
    """The mesh of a ``Fit`` with ``options``, and the seconds of each stage, the steps and the recipe taken.

    Args:
        budget: ``steps``, or ``seconds`` of training alone.
    """
    from sdfcore.fitting import Fit

    begun = time.perf_counter()
    fit = Fit(cloud, **budget, **options)
    prepared = None
    for progress in fit:
        if prepared is None and progress.stage == "preparing" and "evidence" in fit.__dict__:
            prepared = time.perf_counter()
            fit.began = prepared  # the promise of seconds begins here, so that all recipes train as long
    trained = time.perf_counter()
    mesh = fit.mesh(fit.sdf)
    done = time.perf_counter()
    return mesh, {
        "recipe": fit.plan.recipe, "steps": fit.step, "seed": fit.plan.seed, "device": str(fit.plan.device),
        "preparing": (prepared or begun) - begun, "training": trained - (prepared or begun),
        "extracting": done - trained, "resolution": fit.plan.resolution,
    }  # fmt: skip
