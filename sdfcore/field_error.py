"""How far a fitted field is from the distance it stands for, in all of its box and not just on the surface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .geometry import Array
from .oracles import Oracle, PointDistance
from .report import json_values

if TYPE_CHECKING:
    from .fields import NeuralSDF
    from .fitting import Fit

_CHUNK = 16384
_FAR = 0.1  # of the unit box's half side: beyond it is the far field


def distance_statistics(fit: Fit, sdf: NeuralSDF, *, samples: int = 20_000, seed: int = 0) -> dict[str, Any] | None:
    """The field of ``sdf``, of a finished ``fit``, against the signed distance of what was fitted.

    Uniform samples of the data's box, grown by a tenth. The truth is the distance to the triangles of a mesh, or to the
    points and their tangent planes, with the sign of the winding number; ``None`` where there are no normals.

    Returns:
        ``samples``; ``mean``, ``p95``: absolute errors, world units; ``far``: the mean farther than a tenth of the unit
        box from the surface, ``None`` if nothing is; ``sign_agreement``: share of samples on the right side.
    """
    truth = _truth(fit)
    if truth is None:
        return None
    box = sdf.box.expanded(0.1 * float(sdf.box.size.max()))
    points = np.random.default_rng(seed).uniform(box.lower, box.upper, (samples, 3)).astype(np.float32)
    true, value = truth(points), _values(sdf, points)
    error, far = np.abs(value - true), np.abs(true) > _FAR
    scale = float(sdf.frame.scale)
    found: dict[str, Any] = json_values(
        {
            "samples": samples,
            "mean": error.mean() * scale,
            "p95": np.percentile(error, 95) * scale,
            "far": error[far].mean() * scale if far.any() else None,
            "sign_agreement": float(((value < 0) == (true < 0)).mean()),
        }
    )
    return found


def _truth(fit: Fit) -> Oracle | None:
    evidence = fit.evidence
    if evidence.oracle is not None:
        return evidence.oracle
    return None if evidence.normals is None else PointDistance(evidence.points, evidence.normals)


def _values(sdf: NeuralSDF, points: Array) -> Array:
    with torch.inference_mode():
        chunks = torch.from_numpy(points).split(_CHUNK)
        return torch.cat([sdf.network(chunk.to(sdf.device)).cpu() for chunk in chunks]).numpy().astype(np.float64)
