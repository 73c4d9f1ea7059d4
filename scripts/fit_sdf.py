"""Fit meshes and scans in Blender without a window.

    blender --background [FILE.blend] --python scripts/fit_sdf.py -- [--object NAME | --input FILE] --output OUT ...
    python scripts/fit_sdf.py -- --input scan.ply --output scan.blend          (a Python that has the module bpy)

OUT is a .blend, or the results alone as .ply, .obj, .stl or .glb. It uses the add-on that is enabled, or else the one
this script belongs to. The exit code is 0, 1 when a fit failed, 2 when the request cannot be met.
The backend's Python is found as in Blender; NEURAL_SDF_PYTHON names it.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import bpy

PACKAGE = "neural_sdf"


def addon() -> tuple[ModuleType, bool]:
    """The add-on's package, and whether it was registered here."""
    for name in bpy.context.preferences.addons.keys():  # noqa: SIM118 - iterating gives the add-ons, not their names
        if name.rpartition(".")[2] == PACKAGE:
            return importlib.import_module(f"{name}.blender_addon"), False
    root = Path(__file__).resolve().parents[1]
    spec = importlib.util.spec_from_file_location(PACKAGE, root / "__init__.py", submodule_search_locations=[str(root)])
    assert spec is not None
    assert spec.loader is not None
    sys.modules[PACKAGE] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    package = importlib.import_module(f"{PACKAGE}.blender_addon")
    package.register()
    return package, True


def leave(code: int) -> NoReturn:
    """End with ``code``: Blender as a module may crash in its own clean-up, so that is left out."""
    sys.stdout.flush()
    sys.stderr.flush()
    if not bpy.app.binary_path:
        os._exit(code)
    sys.exit(code)


def run(module: str, command: str) -> NoReturn:
    """Call ``command`` of the add-on's ``module`` with the arguments behind ``--``, and end with what it returns."""
    arguments = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:]
    package, registered = addon()
    code = 1
    try:
        code = getattr(importlib.import_module(f"{package.__name__}.{module}"), command)(arguments)
    except Exception:  # Blender itself would go on, and end with 0
        logging.getLogger(PACKAGE).exception("unexpected")
    finally:
        if registered:
            package.unregister()
    leave(code)


if __name__ == "__main__":
    run("commands", "main")
