"""Files in, files out, exit codes: what ``blender --command sdf fit`` and scripts/fit_sdf.py do, over a fake worker."""

from __future__ import annotations

import json

import bpy
import numpy as np
import pytest
from bl_ext.test.neural_sdf.blender_addon import commands
from bl_ext.test.neural_sdf.sdfcore.geometry import PointCloud

pytestmark = pytest.mark.blender


@pytest.fixture
def monkey(worker):
    bpy.ops.mesh.primitive_monkey_add()
    return bpy.context.object


def write_triangle_pair(path) -> None:
    """Two separate objects in one file."""
    lines = []
    for index in range(2):
        lines += [f"o part{index}", *(f"v {x + 3 * index} {y} {z}" for x, y, z in ((0, 0, 0), (1, 0, 0), (0, 1, 1)))]
        lines.append("f {} {} {}".format(*(3 * index + i for i in (1, 2, 3))))
    path.write_text("\n".join([*lines, ""]))


@pytest.mark.parametrize("suffix", [".blend", ".ply", ".obj", ".stl", ".glb"])
def test_every_kind_of_output_is_written_and_holds_the_result(monkey, tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    assert commands.main(["--object", "Suzanne", "-o", str(path)]) == 0
    assert path.stat().st_size > 100
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]
    bpy.ops.wm.read_factory_settings(use_empty=True)
    if suffix == ".blend":
        with bpy.data.libraries.load(str(path)) as (found, _):
            assert set(found.objects) == {"Suzanne", "Suzanne.sdf"}
    else:
        commands._IMPORTERS[suffix](str(path))
        (obj,) = [o for o in bpy.data.objects if o.type == "MESH"]
        assert len(obj.data.polygons) == 12


def test_settings_are_passed_on_and_the_report_is_written(monkey, worker, tmp_path):
    options = ["--steps", "7", "--resolution", "33", "--level", "-0.5", "--seed", "3", "--no-modifiers"]
    report = tmp_path / "report.json"
    assert commands.main([*options, "-o", str(tmp_path / "a.ply"), "--report", str(report)]) == 0
    (body,) = worker.bodies("fit")
    assert (body["steps"], body["resolution"], body["level"], body["seed"]) == (7, 33, -0.5, 3)
    assert commands.main([*options, "-o", str(tmp_path / "b.ply"), "--report", str(tmp_path / "no" / "r.json")]) == 2
    assert not (tmp_path / "b.ply").exists(), "said before any work"
    (told,) = json.loads(report.read_text())
    assert (told["object"], told["recipe"]) == ("Suzanne.sdf", "distance")


def test_a_file_of_several_objects_is_fitted_as_one_unless_asked(worker, tmp_path):
    path = tmp_path / "pair.obj"
    write_triangle_pair(path)
    assert commands.main(["--input", str(path), "-o", str(tmp_path / "a.blend")]) == 0
    assert [len(r.arrays["faces"]) for r in worker.requests if r.kind == "fit"] == [2]
    assert "pair.sdf" in bpy.data.objects
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    assert commands.main(["--input", str(path), "--separate", "-o", str(tmp_path / "b.blend")]) == 0
    assert [len(r.arrays["faces"]) for r in worker.requests if r.kind == "fit"] == [2, 1, 1]


def test_a_scan_goes_through_the_worker(worker, tmp_path):
    worker.scan = PointCloud(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32))
    path = tmp_path / "my scan.xyz"
    path.write_text("0 0 0\n")
    assert commands.main(["--input", str(path), "-o", str(tmp_path / "a.blend")]) == 0
    assert "my scan.sdf" in bpy.data.objects


def test_the_exit_code_tells_misuse_from_failure(monkey, worker, tmp_path, capfd):
    out = str(tmp_path / "a.ply")
    assert commands.main(["--help"]) == 0
    assert commands.main([]) == 2
    assert commands.main(["-o", str(tmp_path / "a.doc")]) == 2
    assert commands.main(["-o", str(tmp_path / "no folder" / "a.ply")]) == 2
    assert commands.main(["--object", "Nobody", "-o", out]) == 2
    assert commands.main(["--input", str(tmp_path / "none.ply"), "-o", out]) == 2
    assert commands.main(["--recipe", "magic", "-o", out]) == 2
    bpy.ops.mesh.primitive_cube_add()
    assert commands.main(["-o", out]) == 2  # which of the two?
    worker.fail = {"Cube"}
    assert commands.main(["--object", "Cube", "-o", out]) == 1
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 7
    assert "It is too flat. Thicken it." in lines[-1]
    assert not (tmp_path / "a.ply").exists()


def test_hidden_and_edited_objects_are_named(monkey, tmp_path, capfd):
    monkey.hide_set(True)
    assert commands.main(["--object", "Suzanne", "-o", str(tmp_path / "a.ply")]) == 2
    assert "hidden" in capfd.readouterr().err
