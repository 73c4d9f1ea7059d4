"""How long extraction of stored fits takes, what memory, and whether it is what a dense evaluation gives.

python scripts/benchmarks/extraction.py FIT.safetensors …
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from sdfcore.extraction import default_box, extract
from sdfcore.fields import NeuralSDF
from sdfcore.geometry import Box
from sdfcore.storage import load

_MEASURE = """
import json, resource, sys, time
import torch
from sdfcore.extraction import extract_sdf
from sdfcore.storage import load
sdf = load(sys.argv[1])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, started = peak(), time.perf_counter()
mesh = extract_sdf(sdf, resolution=int(sys.argv[2]))
print(json.dumps({"seconds": round(time.perf_counter() - started, 2), "vertices": len(mesh.vertices),
                  "peak_mib": round(peak()), "mib_before": round(before), "threads": torch.get_num_threads()}))
"""


def measure(model: Path, resolution: int) -> dict[str, Any]:
    """Seconds and peak resident memory (MiB, torch included) of one extraction, in a process of its own."""
    command = [sys.executable, "-c", _MEASURE, str(model), str(resolution)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {"resolution": resolution, **json.loads(done.stdout)}


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
    half = float(wide.size.max()) / 2
    cube = Box(wide.centre - half, wide.centre + half)
    sparse = extract(sdf.network, cube, resolution, cap=False).vertices
    dense = dense_vertices(sdf, cube, resolution)
    apart = max(float(cKDTree(a).query(b)[0].max()) for a, b in ((sparse, dense), (dense, sparse)))
    return {"resolution": resolution, "apart": apart, "vertices": len(sparse), "vertices_dense": len(dense)}


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per file of ``args.models``."""
    rows = []
    for model in map(Path, args.models):
        timings = [measure(model, resolution) for resolution in args.resolutions]
        rows.append({"model": model.name, "timings": timings, "dense": against_dense(load(model), args.dense)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="+", metavar="FIT.safetensors")
    parser.add_argument("--resolutions", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--dense", type=int, default=256, help="resolution of the dense evaluation")
    for row in run(parser.parse_args()):
        sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
