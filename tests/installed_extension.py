"""Run in a fresh Blender: install the zip as a user does, fit through the real worker, disable, enable, remove.

    python installed_extension.py [--install-only] ZIP
    blender --background --factory-startup --python installed_extension.py -- [--install-only] ZIP

BLENDER_USER_RESOURCES names an empty folder. The last line says ``all well``; the exit code is 0 only then.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

import bpy
import numpy as np

MODULE = "bl_ext.user_default.neural_sdf"


def enabled() -> bool:
    return MODULE in bpy.context.preferences.addons


def fit() -> None:
    bpy.ops.wm.read_homefile(use_empty=True)
    bpy.ops.mesh.primitive_uv_sphere_add(segments=24, ring_count=12, radius=2, location=(5, 0, 0))
    settings = bpy.context.scene.sdf
    settings.steps, settings.resolution = 30, 24
    assert bpy.ops.sdf.fit() == {"FINISHED"}
    result = bpy.data.objects["Sphere.sdf"]
    assert len(result["sdf_model"]) > 1000
    assert json.loads(result["sdf_report"])["steps"] == 30
    assert result.data.attributes["sdf_error"].data_type == "FLOAT"
    sizes = np.ptp([result.matrix_world @ v.co for v in result.data.vertices], axis=0)
    assert np.allclose(sizes, 4, rtol=0.2), sizes
    before = len(result.data.vertices)
    settings.resolution = 48
    assert bpy.ops.sdf.remesh() == {"FINISHED"}
    assert len(result.data.vertices) > 2 * before


def main(path: Path, install_only: bool) -> None:
    assert bpy.ops.extensions.package_install_files(
        filepath=str(path), repo="user_default", enable_on_install=True
    ) == {"FINISHED"}
    assert enabled()
    addon = bpy.context.preferences.addons[MODULE]
    assert addon.preferences.backend_python == ""
    if not install_only:
        fit()
        check_isolation()
    bpy.ops.preferences.addon_disable(module=MODULE)
    assert not enabled()
    assert not hasattr(bpy.types.Scene, "sdf")
    assert not [name for name in dir(bpy.types) if name.startswith("SDF_")]
    bpy.ops.preferences.addon_enable(module=MODULE)
    assert enabled()
    if not install_only:
        fit()
    bpy.ops.preferences.addon_disable(module=MODULE)


def check_isolation() -> None:
    """What the extension must not do to Blender's Python, and where it may write."""
    user_files = Path(bpy.utils.extension_path_user(MODULE))
    assert (user_files / "worker.log").is_file()
    # Debian's Blender shares its Python with the system, so torch may be there; but nothing has loaded it.
    assert "torch" not in sys.modules
    assert not [name for name in sys.modules if name == "sdfcore" or name == "blender_addon"]


if __name__ == "__main__":
    code = 1
    try:
        main(Path(sys.argv[-1]).absolute(), "--install-only" in sys.argv)
        code = 0
        print("all well")
    except Exception:
        logging.getLogger(__name__).exception("failed")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
