"""The suite ``extraction``: how long it takes, what memory, and whether it is what a dense evaluation gives."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from sdfcore.extraction import default_box, extract
from sdfcore.fields import NeuralSDF, value_and_gradient
from sdfcore.geometry import Box
from sdfcore.networks import Mended
from sdfcore.storage import load, save

from .document import BENCHMARKS, Bar, bars_table, commit, machine, machine_line, publish, table
from .measured import environment, measure, threads_here
from .subjects import SHAPES, cases

SHAPES_FITTED = "spot,nefertiti_35k,boot_genus12"
NETWORK = {"width": 128, "depth": 3}  # what the recipe siren fits in a draft
RESOLUTIONS = {"coarse": 256, "fine": 512, "finest": 1024}
SECONDS = {"coarse": 1.5, "fine": 6.0}
MIB = {"coarse": 1024.0, "fine": 2048.0, "finest": 4096.0}
APART, OFF = 1e-5, 1e-4  # unit box
_LIMIT = 600.0
_NEWTON, _ON = 6, 1e-9  # steps, and what counts as on the level set
_MEASURE = """
import json, pathlib, sys, time
from sdfcore.extraction import extract_sdf
from sdfcore.storage import load
sdf = load(sys.argv[1], sys.argv[4])
if sys.argv[4] != "cpu":
    extract_sdf(sdf, resolution=64)  # a GPU's first calls load what later ones have
started = time.perf_counter()
mesh = extract_sdf(sdf, resolution=int(sys.argv[2]))
found = {"seconds": time.perf_counter() - started, "vertices": len(mesh.vertices)}
pathlib.Path(sys.argv[3]).write_text(json.dumps(found))
"""


def fit(shape: Path, model: Path, threads: int, steps: int | None) -> None:
    """Fits the network of :data:`NETWORK` to ``shape`` and stores it as ``model``, without what was mended in it."""
    command = [sys.executable, "-m", "sdfcore", "fit", str(shape), "-o", str(model.with_suffix(".ply")), "--quiet"]
    command += ["--recipe", "siren", "--preset", "draft", "--save", str(model)]
    command += [] if steps is None else ["--steps", str(steps)]
    subprocess.run(command, check=True, env=environment(threads), stdout=subprocess.DEVNULL)
    sdf = load(model)
    if isinstance(sdf.network, Mended):
        sdf.network = sdf.network.inner
        save(sdf, model)
    config = sdf.network.config
    if not isinstance(config, dict) or any(config.get(name) != size for name, size in NETWORK.items()):
        raise click.ClickException(f"the recipe siren no longer fits {NETWORK} in a draft, but {config}")


def timing(model: Path, resolution: int, threads: int, device: str = "cpu") -> dict[str, Any]:
    """Seconds of one extraction in a process of its own, and the peak memory of that process (MiB, torch included)."""
    output = model.with_suffix(".timing.json")
    command = [sys.executable, "-c", _MEASURE, str(model), str(resolution), str(output), device]
    done = measure(command, output, threads=threads, limit=_LIMIT)
    if done.complaint:
        raise click.ClickException(f"resolution {resolution}: {done.complaint}")
    return {**json.loads(output.read_text(encoding="utf-8")), "peak_mib": done.peak_mib}


def dense_vertices(sdf: NeuralSDF, box: Box, resolution: int) -> np.ndarray:
    """(V, 3) vertices of scikit-image's marching cubes on the whole lattice over a cube, unit coordinates."""
    axes = [np.linspace(low, high, resolution + 1) for low, high in zip(box.lower, box.upper, strict=True)]
    values = np.empty((resolution + 1,) * 3, np.float32)
    with torch.inference_mode():
        for i, x in enumerate(axes[0]):
            y, z = np.meshgrid(axes[1], axes[2], indexing="ij")
            points = np.stack([np.full(y.size, x), y.ravel(), z.ravel()], axis=1).astype(np.float32)
            parts = [sdf.network(part) for part in torch.from_numpy(points).split(1 << 14)]
            values[i] = torch.cat(parts).numpy().reshape(y.shape)
    vertices = marching_cubes(values, 0.0)[0].astype(np.float64)
    return vertices * (box.size / resolution) + box.lower


def against_dense(sdf: NeuralSDF, resolution: int) -> dict[str, Any]:
    """The largest distance from a vertex of either to the nearest of the other, unit box; and how many there are."""
    wide = default_box(sdf)
    half = float(np.max(wide.size)) / 2
    cube = Box(wide.centre - half, wide.centre + half)
    sparse = extract(sdf.network, cube, resolution, cap=False).vertices
    dense = dense_vertices(sdf, cube, resolution)
    apart = max(float(np.max(cKDTree(a).query(b)[0])) for a, b in ((sparse, dense), (dense, sparse)))
    return {"resolution": resolution, "apart": apart, "vertices": len(sparse), "vertices_dense": len(dense)}


def off_surface(sdf: NeuralSDF, resolution: int) -> float:
    """How far the vertices lie from the network's own zero level at most, unit box: what Newton's steps along the
    gradient move them by, in double precision. (The level set is no farther than where they end.)"""
    network = copy.deepcopy(sdf.network).double()
    start = torch.from_numpy(extract(sdf.network, default_box(sdf), resolution, refine=1, cap=False).vertices.copy())
    farthest = 0.0
    for begun in start.split(1 << 14):
        points = begun
        for _ in range(_NEWTON):
            value, gradient = value_and_gradient(network, points)
            with torch.no_grad():
                points = points - value[:, None] * gradient / gradient.square().sum(dim=1, keepdim=True)
        with torch.no_grad():
            missed = float(network(points).abs().max())
            if missed > _ON:
                raise click.ClickException(f"Newton's steps end at {missed:.1e}, not on the level set")
            farthest = max(farthest, float((points - begun).norm(dim=1).max()))
    return farthest


def trial(name: str, model: Path, threads: int) -> dict[str, Any]:
    """All that is measured of one stored network."""
    timings = {key: timing(model, resolution, threads) for key, resolution in RESOLUTIONS.items()}
    sdf, coarse = load(model), RESOLUTIONS["coarse"]
    found = {"name": name, **timings, "dense": against_dense(sdf, coarse), "off": off_surface(sdf, coarse)}
    click.echo(json.dumps(found))
    return found


def bars(rows: list[dict[str, Any]]) -> list[Bar]:
    """Each holds for all networks."""
    found = []
    for key, resolution in RESOLUTIONS.items():
        seconds = max(row[key]["seconds"] for row in rows)
        if key in SECONDS:
            name = f"resolution {resolution}: ≤ {SECONDS[key]:g} s"
            found.append(Bar(name, f"slowest {seconds:.2f} s", seconds <= SECONDS[key]))
        most = max(row[key]["peak_mib"] for row in rows)
        name = f"resolution {resolution}: < {MIB[key] / 1024:g} GiB"
        found.append(Bar(name, f"most {most:.0f} MiB", most < MIB[key]))
    apart, off = max(row["dense"]["apart"] for row in rows), max(row["off"] for row in rows)
    return [
        *found,
        Bar(f"vertices as of dense evaluation, to {APART:g}", f"farthest apart {apart:.1e}", apart <= APART),
        Bar(f"vertices within {OFF:g} of the network's level set", f"farthest {off:.1e}", off <= OFF),
    ]


def section(rows: list[dict[str, Any]], command: str, threads: int) -> str:
    """The whole section, Markdown."""
    head = ["network fitted to"]
    head += [f"{what}, {cells}" for cells in RESOLUTIONS.values() for what in ("seconds", "MiB", "vertices")]
    last = lambda row: [*_dense_cells(row["dense"]), f"{row['off']:.1e}"]
    cells = [[f"`{row['name']}`", *_timing_cells(row), *last(row)] for row in rows]
    return "\n\n".join(
        [
            "## Extraction",
            f"SIREN of {NETWORK['depth']} × {NETWORK['width']}, fitted by `sdfcore fit SHAPE --recipe siren --preset "
            "draft`. Seconds of `extract_sdf` alone; memory is the peak of its process, torch included. *Apart*: the "
            f"farthest any vertex at {RESOLUTIONS['coarse']}, not refined, lies from the nearest of marching cubes on "
            "a dense evaluation of the same lattice, and the other way round; *off*: the farthest a vertex, refined as "
            "usual, lies from the network's own zero level; both in the unit box [-1, 1]³. "
            f"{threads} threads.",
            f"```\n{command}\n```",
            f"Machine: {machine_line(machine(), [commit()])}",
            bars_table(bars(rows)),
            table([*head, "apart", "vertices, sparse", "vertices, dense", "off"], cells),
        ]
    )


def _timing_cells(row: dict[str, Any]) -> list[str]:
    found = [row[key] for key in RESOLUTIONS]
    return [cell for t in found for cell in (f"{t['seconds']:.1f}", f"{t['peak_mib']:.0f}", f"{t['vertices']:,}")]


def _dense_cells(dense: dict[str, Any]) -> list[str]:
    return [f"{dense['apart']:.1e}", f"{dense['vertices']:,}", f"{dense['vertices_dense']:,}"]


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--shapes", default=SHAPES_FITTED, show_default=True, help="By file name without suffix: a,b.")
@click.option("--steps", type=click.IntRange(min=1), help="Training steps instead of the preset's, for trials.")
@click.option("--threads", type=click.IntRange(min=1), default=threads_here, help="Default: all cores.")
@click.option("--output", type=click.Path(path_type=Path), help="Default: docs/benchmarks.md, unless in trials.")
def extraction(data: Path, shapes: str, steps: int | None, threads: int, output: Path | None) -> None:
    """Seconds and memory of extraction from three networks fitted to shapes of DATA, against dense evaluation."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(data, tuple(shapes.split(","))):
            if case.kind != SHAPES:
                raise click.BadParameter(f"{case.name} is a scan; give shapes")
            model = Path(folder) / f"{case.name}.safetensors"
            fit(case.truth, model, threads, steps)
            rows.append(trial(case.name, model, threads))
    given = [f"--shapes {shapes}"] * (shapes != SHAPES_FITTED) + [f"--steps {steps}"] * (steps is not None)
    command = " ".join(["python scripts/benchmark.py extraction --data DIR", *given])
    whole = shapes == SHAPES_FITTED and steps is None
    publish("extraction", section(rows, command, threads), bars(rows), output or (BENCHMARKS if whole else None))
