"""What a scanner on one side sees of a mesh: ``python scripts/scan.py MESH -o SCAN.ply --towards 1,0.3,1``."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from benchmarks.one_sided import one_sided

from sdfcore.geometry import Mesh
from sdfcore.reading import read
from sdfcore.writing import write


@click.command()
@click.argument("source", metavar="MESH", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--towards", default="1,0.3,1", show_default=True, help="Where the camera stands, far off: x,y,z.")
@click.option("--points", type=click.IntRange(min=100), default=40_000, show_default=True)
@click.option("--noise", type=float, default=0.0005, show_default=True, help="Deviation, in diagonals of the box.")
def scan(source: Path, output: Path, towards: str, points: int, noise: float) -> None:
    """Points with normals of the part of MESH that one camera sees."""
    mesh = read(source)
    if not isinstance(mesh, Mesh):
        raise click.UsageError(f"{source.name} holds no mesh.")
    direction = np.array([float(word) for word in towards.split(",")])
    seen = one_sided(mesh, direction, points=points, noise=noise)
    write(output, seen)
    click.echo(f"{output}: {len(seen)} points")


if __name__ == "__main__":
    scan()
