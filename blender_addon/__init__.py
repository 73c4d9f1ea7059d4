"""The Blender side of Neural SDF: panels, operators and scene data. It never imports torch.

Fitting happens in a worker process (``engine``), one job after another (``jobs``); ``host`` is what the jobs act on.
Only the modules named in ``_MODULES`` and ``meshes``, ``anchors``, ``results``, ``previews``, ``requests``, ``live``
know Blender.
"""

from __future__ import annotations

import importlib
import logging

ROOT = __package__.rpartition(".")[0]  # the extension's own name: bl_ext.<repository>.neural_sdf

log = logging.getLogger(__name__)

_MODULES = (
    "preferences",
    "properties",
    "space_properties",
    "stack_properties",
    "operators",
    "comparing",
    "queries",
    "overlaps",
    "skeletons",
    "empty",
    "details",
    "exporting",
    "nearest",
    "stacks",
    "space_operators",
    "models",
    "blending",
    "sequences",
    "completing",
    "importing",
    "backend",
    "panels",
    "query_panels",
    "space_panels",
    "commands",
    "host",
    "frames",
)
_registered: list[str] = []


def register() -> None:
    """Register every module in order; after a failure none stays registered."""
    for name in _MODULES:
        try:
            importlib.import_module(f".{name}", __package__).register()
        except Exception:
            unregister()
            raise
        _registered.append(name)


def unregister() -> None:
    """Take back what :func:`register` did, last first; ends the worker."""
    while _registered:
        importlib.import_module(f".{_registered.pop()}", __package__).unregister()
