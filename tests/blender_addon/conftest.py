"""The add-on under test is the package ``bl_ext.test.neural_sdf``, named as Blender names an installed extension.

So an import that only works in a checkout fails here. Files marked ``blender`` need bpy: where it is missing they are
left out, and the header says so. Blender 4.2 and 4.5 crash or hang at exit with classes still registered, so the
session unregisters and leaves by ``os._exit``.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent
PACKAGE = "bl_ext.test.neural_sdf"
HAS_BPY = importlib.util.find_spec("bpy") is not None
BPY_FILES = sorted(p.name for p in HERE.glob("test_*.py") if "mark.blender" in p.read_text(encoding="utf-8"))
collect_ignore = [] if HAS_BPY else BPY_FILES

USER_FILES = tempfile.mkdtemp(prefix="sdf-blender-") if HAS_BPY else ""  # Blender must not see the user's own

if HAS_BPY:
    os.environ["BLENDER_USER_RESOURCES"] = USER_FILES
    os.environ.setdefault("NEURAL_SDF_PYTHON", str(HERE.parents[1] / ".venv" / "bin" / "python"))  # make test's own
    import bpy  # before the package is named: it defines bl_ext itself


def _name_the_package() -> None:
    parts = PACKAGE.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        if name not in sys.modules:
            module = ModuleType(name)
            module.__path__ = [str(HERE.parents[1])] if name == PACKAGE else []
            sys.modules[name] = module
            if depth > 1:
                setattr(sys.modules[".".join(parts[: depth - 1])], parts[depth - 1], module)


_name_the_package()


def pytest_report_header() -> str:
    if HAS_BPY:
        return f"Blender {bpy.app.version_string}, Python {sys.version.split()[0]}"
    return f"no bpy here: {len(BPY_FILES)} files left out of tests/blender_addon ({', '.join(BPY_FILES)})"


_exit_status = 0


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(exitstatus: int) -> None:
    global _exit_status
    _exit_status = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    if HAS_BPY:
        importlib.import_module(f"{PACKAGE}.blender_addon").unregister()
        shutil.rmtree(USER_FILES, ignore_errors=True)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_exit_status)


@pytest.fixture
def scene() -> Iterator[Any]:
    """An empty scene."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    yield bpy.context.scene
    bpy.ops.wm.read_factory_settings(use_empty=True)


@pytest.fixture
def addon(scene: Any) -> Iterator[Any]:
    """The add-on, registered, over a :class:`fake_worker.FakeWorker`; yields its host module."""
    module = importlib.import_module(f"{PACKAGE}.blender_addon")
    host = importlib.import_module(f"{PACKAGE}.blender_addon.host")
    module.register()
    yield host
    module.unregister()


@pytest.fixture
def worker(addon: Any) -> Any:
    """The fake worker behind ``addon``; change its behaviour before the first job."""
    from fake_worker import FakeWorker

    made = FakeWorker()
    addon.runtime().jobs._connect = made.connect
    return made
