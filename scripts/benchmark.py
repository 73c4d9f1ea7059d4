"""Benchmarks: ``python scripts/benchmark.py SUITE --data DIR``. Each suite is a file of scripts/benchmarks.

A suite is a click command named as its file. Only the one that is asked for is imported.
"""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path

import click

SUITES = Path(__file__).resolve().parent / "benchmarks"


def suite(name: str) -> click.Command | None:
    """The command ``name`` of the file ``benchmarks/name.py``; ``None`` where there is none."""
    if not name.isidentifier() or not (SUITES / f"{name}.py").is_file():
        return None
    command = getattr(importlib.import_module(f"benchmarks.{name}"), name, None)
    return command if isinstance(command, click.Command) else None


class Suites(click.Group):
    """The suites found, beside the commands of this file."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        found = [path.stem for path in SUITES.glob("*.py") if suite(path.stem) is not None]
        return sorted([*super().list_commands(ctx), *found])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or suite(cmd_name)


@click.group(cls=Suites, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def benchmarks() -> None:
    """Measure sdfcore, and write what was found into docs."""


@benchmarks.command(name="_poisson", hidden=True)
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--depth", type=click.IntRange(1, 14), default=8)
@click.option("--threads", type=click.IntRange(min=1), default=1)
def poisson(source: Path, output: Path, depth: int, threads: int) -> None:
    """Screened Poisson of a point file, as a process to be measured; prints the seconds of the reconstruction alone."""
    import pymeshlab  # noqa: F401 - loaded before the clock runs

    from sdfcore.geometry import PointCloud
    from sdfcore.peers import reconstruct
    from sdfcore.reading import read
    from sdfcore.writing import write

    cloud = read(source)
    if not isinstance(cloud, PointCloud):
        raise click.UsageError(f"{source.name} holds no points.")
    started = time.perf_counter()
    mesh = reconstruct("poisson", cloud, depth=depth, threads=threads)
    seconds = time.perf_counter() - started
    write(output, mesh)
    click.echo(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    benchmarks()
