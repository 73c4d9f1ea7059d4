"""scripts/interpolate.py and scripts/complete.py as they are run: processes of their own, the real worker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import bpy
import pytest

pytestmark = pytest.mark.blender

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command: list[object] = [sys.executable, SCRIPTS / script, "--"]
    if bpy.app.binary_path:
        command = [bpy.app.binary_path, "--background", "--factory-startup", "--python", SCRIPTS / script, "--"]
    words = [str(word) for word in (*command, *arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=150)


def test_shapes_between_two_files(scene, tmp_path):
    for name, x in (("here", 0), ("there", 5)):
        bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=3, location=(x, 0, 0))
        bpy.ops.wm.obj_export(
            filepath=str(tmp_path / f"{name}.obj"), export_selected_objects=True, up_axis="Z", forward_axis="Y"
        )
    out, space = tmp_path / "between.blend", tmp_path / "balls.safetensors"
    inputs = ["--input", tmp_path / "here.obj", "--input", tmp_path / "there.obj"]
    options = ["--count", 3, "--steps", 15, "--resolution", 16, "--device", "cpu", "--save-space", space]
    ended = run("interpolate.py", *inputs, *options, "--output", out)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    bpy.ops.wm.open_mainfile(filepath=str(out))
    assert [o.name for o in bpy.data.collections["here to there"].objects] == [f"here to there 0{i}" for i in range(3)]
    assert bpy.context.scene["sdf_space"] == space.read_bytes()


def test_misuse_is_one_line_and_has_its_exit_code(tmp_path):
    ended = run("complete.py", "--object", "Cube", "--output", tmp_path / "whole.ply")
    assert ended.returncode == 2
    assert [line for line in ended.stderr.splitlines() if line.startswith("error: ")] == [
        "error: There is no shape space. Give one with --space."
    ]
    assert not list(tmp_path.iterdir())
