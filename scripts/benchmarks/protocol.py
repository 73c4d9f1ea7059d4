"""The measures of the Surface Reconstruction Benchmark's protocol, as the papers of the field report them."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from sdfcore.geometry import Array, Mesh, PointCloud
from sdfcore.surfaces import MeshDistance, sample_surface


def srb_measures(result: Mesh, truth: Mesh, scan: PointCloud, samples: int, seed: int = 0) -> dict[str, float]:
    """Distances in the original units, unsquared.

    ``paper_chamfer`` and ``paper_hausdorff`` are between samples of both meshes: half the sum of both means, the larger
    of both maxima. ``exact_chamfer`` and ``exact_hausdorff`` are from the same samples to the other mesh's triangles.
    ``scan_mean`` and ``scan_most`` are from the scan's points to the result's triangles.
    """
    ours, theirs = (sample_surface(mesh, samples, seed).points for mesh in (result, truth))
    there, back = _nearest(ours, theirs), _nearest(theirs, ours)
    exact_there, exact_back = MeshDistance(truth).unsigned(ours), MeshDistance(result).unsigned(theirs)
    from_scan = MeshDistance(result).unsigned(scan.points)
    return {
        "paper_chamfer": float(there.mean() + back.mean()) / 2,
        "paper_hausdorff": float(max(there.max(), back.max())),
        "exact_chamfer": float(exact_there.mean() + exact_back.mean()) / 2,
        "exact_hausdorff": float(max(exact_there.max(), exact_back.max())),
        "scan_mean": float(from_scan.mean()),
        "scan_most": float(from_scan.max()),
    }


def _nearest(points: Array, among: Array) -> Array:
    return np.asarray(cKDTree(among).query(points, workers=-1)[0])
