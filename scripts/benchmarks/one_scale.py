"""One size of a network, or of a space, as a process to be measured; and the shapes that all sizes are made of."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from sdfcore.geometry import Array, Mesh, PointCloud

STEPS = 60  # of a network
EPOCHS = 40  # of a space
_SKIPPED = 10  # first steps, which are slower


def bumpy(directions: Array, seed: int = 0) -> PointCloud:
    """Points (N, 3) of a sphere with soft bumps along unit ``directions``, and their exact normals."""
    random = np.random.default_rng(seed)
    waves, heights = random.normal(size=(6, 3)) * 3, random.uniform(0.01, 0.03, 6)
    phase = directions @ waves.T
    radius = 0.7 + np.sin(phase) @ heights
    slope = (np.cos(phase) * heights) @ waves  # of the radius, along space; its part along the sphere counts
    slope -= np.einsum("ni,ni->n", slope, directions)[:, None] * directions
    normals = directions - slope / radius[:, None]
    return PointCloud(radius[:, None] * directions, normals / np.linalg.norm(normals, axis=1, keepdims=True))


def even_directions(count: int) -> Array:
    """(N, 3) unit vectors, spread evenly: a Fibonacci lattice."""
    n = np.arange(count) + 0.5
    z, turn = 1 - 2 * n / count, np.pi * (1 + 5**0.5) * n
    ring = np.sqrt(1 - z * z)
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), z], axis=1)


def bumpy_mesh(triangles: int) -> Mesh:
    """A closed skin of about so many triangles."""
    rows = max(round((triangles / 4) ** 0.5), 3)
    columns = 2 * rows
    polar, turn = np.pi * np.arange(1, rows) / rows, 2 * np.pi * np.arange(columns) / columns
    ring = np.stack(np.broadcast_arrays(
        np.sin(polar)[:, None] * np.cos(turn), np.sin(polar)[:, None] * np.sin(turn), np.cos(polar)[:, None]
    ), axis=-1).reshape(-1, 3)  # fmt: skip
    directions = np.concatenate([ring, [[0, 0, 1], [0, 0, -1]]])
    row, column = np.arange((rows - 2) * columns) // columns, np.arange((rows - 2) * columns) % columns
    a, b = row * columns + column, row * columns + (column + 1) % columns
    c, d = a + columns, b + columns
    top, bottom = len(directions) - 2, len(directions) - 1
    around = np.arange(columns)
    last = (rows - 2) * columns
    caps = [
        np.stack([np.full(columns, top), around, (around + 1) % columns], axis=1),
        np.stack([np.full(columns, bottom), last + (around + 1) % columns, last + around], axis=1),
    ]
    faces = np.concatenate([np.stack([a, c, b], axis=1), np.stack([b, c, d], axis=1), *caps])
    return Mesh(bumpy(directions).points, faces)


def of_width(width: int) -> dict[str, Any]:
    """Milliseconds of one step of an MLP of 5 layers of ``width``, on exact distances."""
    from dataclasses import replace

    from sdfcore.fitting import Fit
    from sdfcore.recipes import RECIPES

    recipe = RECIPES["regression"]
    size = replace(recipe.sizes["draft"], width=width)
    RECIPES["regression"] = replace(recipe, sizes={"draft": size})
    fit = Fit(bumpy(even_directions(20_000)), recipe="regression", preset="draft", steps=STEPS)
    begun = time.perf_counter()
    for progress in fit:
        if progress.step <= _SKIPPED:
            begun = time.perf_counter()
    return {"milliseconds": 1000 * (time.perf_counter() - begun) / (STEPS - _SKIPPED)}


def of_shapes(count: int) -> dict[str, Any]:
    """Seconds of learning ``count`` shapes, every one as often."""
    from sdfcore.spaces import Learn
    from sdfcore.spaces.sizes import SpaceSize

    directions = even_directions(10_000)
    shapes = {f"{number:03d}": bumpy(directions, number) for number in range(count)}
    size = SpaceSize(width=64, depth=4, code_size=32, shapes=4, points=256, pool=10_000)
    run = Learn(shapes, size=size, epochs=EPOCHS)
    begun = time.perf_counter()
    prepared = 0.0
    for progress in run:
        if progress.step == 0:
            prepared = time.perf_counter() - begun
    seconds = time.perf_counter() - begun
    return {"preparing": prepared, "learning": seconds - prepared, "seconds": seconds}


KINDS = {"width": of_width, "shapes": of_shapes}


@click.command(hidden=True)
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("value", type=int)
@click.argument("output", type=click.Path(path_type=Path))
def one_scale(kind: str, value: int, output: Path) -> None:
    """What VALUE of KIND takes, as JSON in OUTPUT."""
    output.write_text(json.dumps(KINDS[kind](value)), encoding="utf-8")
