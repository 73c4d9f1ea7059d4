"""The suite ``extraction``: how long it takes, what memory, and whether it is what a dense evaluation gives."""

from __future__ import annotations

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
from sdfcore.fields import NeuralSDF
from sdfcore.geometry import Box
from sdfcore.networks import Mended
from sdfcore.storage import load, save

from .document import BENCHMARKS, Bar, bars_table, commit, machine, machine_line, publish, table
from .measured import environment, measure, threads_here
from .subjects import SHAPES, cases

SHAPES_FITTED = "spot,nefertiti_35k,boot_genus12"
NETWORK = {"width": 128, "depth": 3}  # what the recipe siren fits in a draft
COARSE, FINE = 256, 512
SECONDS, COARSE_MIB, FINE_MIB, APART = 5.0, 1024.0, 2048.0, 1e-5
_LIMIT = 600.0
_MEASURE = """
import json, pathlib, sys, time
from sdfcore.extraction import extract_sdf
from sdfcore.storage import load
sdf = load(sys.argv[1])
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


def timing(model: Path, resolution: int, threads: int) -> dict[str, Any]:
    """Seconds of one extraction in a process of its own, and the peak memory of that process (MiB, torch included)."""
    output = model.with_suffix(".timing.json")
    command = [sys.executable, "-c", _MEASURE, str(model), str(resolution), str(output)]
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


def trial(name: str, model: Path, threads: int) -> dict[str, Any]:
    """All that is measured of one stored network."""
    coarse, fine = (timing(model, resolution, threads) for resolution in (COARSE, FINE))
    found = {"name": name, "coarse": coarse, "fine": fine, "dense": against_dense(load(model), COARSE)}
    click.echo(json.dumps(found))
    return found


def bars(rows: list[dict[str, Any]]) -> list[Bar]:
    """Each holds for all networks."""
    seconds = max(row["coarse"]["seconds"] for row in rows)
    coarse, fine = (max(row[name]["peak_mib"] for row in rows) for name in ("coarse", "fine"))
    apart = max(row["dense"]["apart"] for row in rows)
    return [
        Bar(f"resolution {COARSE}: ≤ {SECONDS:g} s", f"slowest {seconds:.1f} s", seconds <= SECONDS),
        Bar(f"resolution {COARSE}: < {COARSE_MIB / 1024:g} GiB", f"most {coarse:.0f} MiB", coarse < COARSE_MIB),
        Bar(f"resolution {FINE}: < {FINE_MIB / 1024:g} GiB", f"most {fine:.0f} MiB", fine < FINE_MIB),
        Bar(f"vertices as of dense evaluation, to {APART:g}", f"farthest apart {apart:.1e}", apart <= APART),
    ]


def section(rows: list[dict[str, Any]], command: str, threads: int) -> str:
    """The whole section, Markdown."""
    head = ["network fitted to"]
    head += [f"{what}, {cells}" for cells in (COARSE, FINE) for what in ("seconds", "MiB", "vertices")]
    cells = [[f"`{row['name']}`", *_timing_cells(row), *_dense_cells(row["dense"])] for row in rows]
    return "\n\n".join(
        [
            "## Extraction",
            f"SIREN of {NETWORK['depth']} × {NETWORK['width']}, fitted by `sdfcore fit SHAPE --recipe siren --preset "
            "draft`. Seconds of `extract_sdf` alone; memory is the peak of its process, torch included. *Apart*: the "
            f"farthest any vertex at {COARSE} lies from the nearest of marching cubes on a dense evaluation of the "
            f"same lattice, and the other way round, in the unit box [-1, 1]³. {threads} threads.",
            f"```\n{command}\n```",
            f"Machine: {machine_line(machine(), [commit()])}",
            bars_table(bars(rows)),
            table([*head, "apart", "vertices, sparse", "vertices, dense"], cells),
        ]
    )


def _timing_cells(row: dict[str, Any]) -> list[str]:
    found = (row["coarse"], row["fine"])
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
