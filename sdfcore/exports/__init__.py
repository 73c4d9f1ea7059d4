"""Fitted shapes for other programs: ONNX, and functions in the shading languages GLSL and OSL."""

from __future__ import annotations

import numpy as np

from ..errors import ExportError
from ..extraction import default_box
from ..fields import NeuralSDF
from ..geometry import Array

TOLERANCE = 1e-4  # unit box: how far an export may be from the network


def trial_points(sdf: NeuralSDF, count: int = 256, seed: int = 0) -> Array:
    """(count, 3) in the box the shape was fitted in, world units: where exports are compared with the network."""
    box = sdf.frame.box_to_world(default_box(sdf))
    return np.random.default_rng(seed).uniform(box.lower, box.upper, (count, 3))


def differs(sdf: NeuralSDF, found: Array, expected: Array, what: str) -> None:
    """Raises an ExportError if values of an export, world units, are not those of the network."""
    worst = float(np.abs(found - expected).max()) / sdf.frame.scale
    if found.shape != expected.shape or not worst <= TOLERANCE:
        raise ExportError(
            f"The {what} gives other values than the network: by {worst:.2g} of half its box.",
            "Write a volume (.vdb) or a mesh instead; a shape far from the origin exports better from near it.",
        )
