"""Neural signed distance functions from meshes and scans.

Public names resolve on first use, so importing the package costs neither torch nor a mesh library.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "PointCloud": "geometry",
    "Mesh": "geometry",
    "Box": "geometry",
    "Frame": "geometry",
    "SdfError": "errors",
    "Fit": "fitting",
    "Progress": "fitting",
    "NeuralSDF": "fields",
    "RECIPES": "recipes",
    "PRESETS": "presets",
    "extract": "extraction",
    "extract_sdf": "extraction",
    "read": "reading",
    "write": "writing",
    "save": "storage",
    "load": "storage",
    "compare": "metrics",
    "MeshDistance": "surfaces",
    "sample_surface": "surfaces",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
