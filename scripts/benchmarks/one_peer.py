"""One classical method on one file of points, as a process to be measured."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from sdfcore.geometry import PointCloud


@click.command(hidden=True)
@click.argument("name")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--depth", type=int)
def one_peer(name: str, source: Path, output: Path, depth: int | None) -> None:
    """Reconstruct SOURCE, write OUTPUT, print the seconds it took as JSON."""
    from sdfcore.peers import reconstruct
    from sdfcore.reading import read
    from sdfcore.writing import write

    cloud = read(source)
    if not isinstance(cloud, PointCloud):
        raise click.UsageError(f"{source.name} holds no points.")
    begun = time.perf_counter()
    mesh = reconstruct(name, cloud, **({} if depth is None else {"depth": depth}))
    seconds = time.perf_counter() - begun
    write(output, mesh)
    click.echo(json.dumps({"recipe": name, "reconstructing": seconds}))
