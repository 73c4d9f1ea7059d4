"""Enabling and disabling: any number of times, leaving nothing, and not half when it fails."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import bpy
import pytest

pytestmark = pytest.mark.blender

addon_package = importlib.import_module("bl_ext.test.neural_sdf.blender_addon")


def traces() -> dict[str, object]:
    """All that registration changes in Blender."""
    handlers = {n: len(getattr(bpy.app.handlers, n)) for n in dir(bpy.app.handlers) if n.endswith(("_pre", "_post"))}
    types = sorted(n for n in dir(bpy.types) if n.startswith("SDF_"))
    menus = [len(m._dyn_ui_initialize()) for m in (bpy.types.VIEW3D_MT_object, bpy.types.TOPBAR_MT_file_import)]
    return {"handlers": handlers, "types": types, "scene": hasattr(bpy.types.Scene, "sdf"), "menus": menus}


def test_twice_on_and_off_leaves_nothing(scene):
    before = traces()
    for _ in range(2):
        addon_package.register()
        assert {"SDF_OT_fit", "SDF_OT_stop", "SDF_OT_cancel", "SDF_OT_remesh"} <= set(dir(bpy.types))
        assert bpy.context.scene.sdf.preset == "draft"
        addon_package.unregister()
        assert traces() == before


def test_a_failure_registers_nothing_and_is_not_swallowed(scene, monkeypatch):
    panels = importlib.import_module("bl_ext.test.neural_sdf.blender_addon.panels")

    def fail() -> None:
        raise RuntimeError("broken panel")

    before = traces()
    monkeypatch.setattr(panels, "register", fail)
    with pytest.raises(RuntimeError, match="broken panel"):
        addon_package.register()
    assert traces() == before


def test_disabling_in_the_middle_of_a_fit_ends_the_worker(worker, addon):
    from bl_ext.test.neural_sdf.blender_addon import previews, requests

    bpy.ops.mesh.primitive_monkey_add()
    worker.hold = True
    addon.runtime().submit(requests.fit_job(bpy.context.object, bpy.context, True))
    for _ in range(3):
        addon.runtime().tick()
    assert any(previews.OWNER in o for o in bpy.data.objects)
    addon_package.unregister()
    assert worker.transports[-1].closed
    assert not any(previews.OWNER in o for o in bpy.data.objects)
    addon_package.register()
    assert addon.runtime().jobs.jobs == {}


def test_blenders_exit_ends_the_worker(worker, addon):
    addon.runtime().jobs.start()
    addon._shutdown()
    assert worker.transports[-1].closed


def test_torch_stays_out_of_blender(addon):
    assert not {"torch", "skimage", "trimesh", "igl"} & set(sys.modules)


def test_the_root_module_imports_nothing_by_itself():
    text = (Path(__file__).parents[2] / "__init__.py").read_text(encoding="utf-8")
    assert not [line for line in text.splitlines() if line.startswith(("import", "from"))]
