"""The commands about shape spaces over a fake worker: files in, files out, exit codes."""

from __future__ import annotations

import json

import bpy
import pytest
from bl_ext.test.neural_sdf.blender_addon import commands, space_commands
from fake_worker import SPACE

pytestmark = pytest.mark.blender


@pytest.fixture
def shapes(worker):
    for name in "abc":
        bpy.ops.mesh.primitive_cube_add(size=1)
        bpy.context.object.name = name


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "family.safetensors"
    path.write_bytes(SPACE.tobytes())
    return path


def test_between_objects_of_the_file(shapes, worker, tmp_path):
    out, kept = tmp_path / "between.blend", tmp_path / "kept.safetensors"
    options = ["--seconds", "3", "--code-size", "5", "--resolution", "20", "--seed", "4", "--save-space", str(kept)]
    words = ["--object", "c", "--object", "a", "--count", "3", *options, "-o", str(out)]
    assert space_commands.interpolate(words) == 0
    (learned,), (asked,) = worker.bodies("learn"), worker.bodies("interpolate")
    assert (learned["names"], learned["preset"], learned["seconds"], learned["code_size"]) == (
        ["a", "c"],
        "draft",
        3,
        5,
    )
    assert (asked["stops"], asked["frames"], asked["resolution"]) == (["c", "a"], 3, 20)
    assert learned["seed"] == 4
    assert kept.read_bytes() == SPACE.tobytes()
    bpy.ops.wm.read_factory_settings(use_empty=True)
    with bpy.data.libraries.load(str(out)) as (found, _):
        assert set(found.objects) == {"a", "b", "c", *(f"c to a 0{i}" for i in range(3))}


def test_between_files_one_file_for_each(worker, tmp_path):
    for name, x in (("first", 0), ("second", 2)):
        (tmp_path / f"{name}.obj").write_text(f"v {x} 0 0\nv {x + 1} 0 0\nv {x} 1 1\nf 1 2 3\n")
    inputs = [word for name in ("first", "second") for word in ("--input", str(tmp_path / f"{name}.obj"))]
    assert space_commands.interpolate([*inputs, "--count", "2", "-o", str(tmp_path / "out.ply")]) == 0
    assert worker.bodies("learn")[0]["names"] == ["first", "second"]
    assert sorted(p.name for p in tmp_path.glob("*.ply")) == ["out_00.ply", "out_01.ply"]


def test_through_a_space_as_animation_and_shape_keys(worker, space, tmp_path):
    out = tmp_path / "out.blend"
    words = ["--space", str(space), "--stop", "a", "--stop", "b", "--mode", "animation", "--frames", "1", "9"]
    assert space_commands.interpolate([*words, "-o", str(out)]) == 0
    assert worker.bodies("learn") == []
    made = bpy.data.collections["a to b"].objects
    assert len(made) == 5
    bpy.context.scene.frame_set(9)
    assert [o.name for o in made if not o.hide_render] == ["a to b 04"]
    words = ["--space", str(space), "--mode", "shape-keys", "-o", str(tmp_path / "out.glb")]
    assert space_commands.interpolate(words) == 0
    assert (tmp_path / "out.glb").stat().st_size > 100


def test_a_scan_is_completed_with_a_space_from_a_file(shapes, worker, space, tmp_path):
    report = tmp_path / "report.json"
    words = ["--object", "b", "--space", str(space), "--no-tune", "--rotate", "--seconds", "9", "--report", str(report)]
    assert space_commands.complete([*words, "-o", str(tmp_path / "whole.ply")]) == 0
    (body,) = worker.bodies("complete")
    assert (body["tune"], body["rotate"], body["align"], body["seconds"]) == (False, True, True, 9)
    assert json.loads(report.read_text())["object"] == "b.completed"
    assert (tmp_path / "whole.ply").stat().st_size > 100


def test_the_exit_code_tells_misuse_from_failure(shapes, worker, space, tmp_path, capfd):
    out = ["-o", str(tmp_path / "a.ply")]
    assert space_commands.interpolate(["--help"]) == 0
    assert space_commands.interpolate([]) == 2
    assert space_commands.interpolate(["--object", "a", *out]) == 2  # one is no way
    assert space_commands.interpolate(["--object", "a", "--object", "x", *out]) == 2
    assert space_commands.interpolate(["--object", "a", "--space", str(space), *out]) == 2
    assert space_commands.complete(["--object", "a", *out]) == 2  # no space
    assert space_commands.complete(["--object", "a", "--space", str(tmp_path / "none"), *out]) == 2
    space.write_bytes(b"cut")
    assert space_commands.complete(["--object", "a", "--space", str(space), *out]) == 1
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 6
    assert "It is damaged. Save it again." in lines[-1]
    assert list(tmp_path.glob("*.ply")) == []


def test_blenders_command_names_what_it_can_do(shapes, tmp_path, capfd):
    assert commands._command(["dance"]) == 2
    assert "{fit|interpolate|complete}" in capfd.readouterr().err
    assert commands._command(["interpolate", "-o", str(tmp_path / "all.blend")]) == 0
    assert len(bpy.data.collections["a to c"].objects) == 5
