"""The operators over a fake worker: what is sent, what lands in the scene, and what is said when it fails."""

from __future__ import annotations

import json
from types import SimpleNamespace

import bpy
import numpy as np
import pytest
from bl_ext.test.neural_sdf.blender_addon import meshes, requests, results, spaces
from bl_ext.test.neural_sdf.sdfcore.geometry import PointCloud
from bl_ext.test.neural_sdf.sdfcore.protocol import Message
from fake_worker import MODEL, REPORT, box_of
from mathutils import Euler, Matrix

pytestmark = pytest.mark.blender


def add_monkey(name: str = "Suzanne") -> bpy.types.Object:
    bpy.ops.mesh.primitive_monkey_add()
    bpy.context.object.name = name
    return bpy.context.object


def test_fit_makes_one_object_over_its_source_and_leaves_the_source_alone(worker):
    obj = add_monkey()
    obj.matrix_world = Matrix.Translation((1, 2, 3)) @ Euler((0.1, 0.2, 0.3)).to_matrix().to_4x4() @ Matrix.Scale(-2, 4)
    bpy.context.view_layer.update()
    before = (len(obj.data.vertices), obj.matrix_world.copy(), set(obj.keys()))
    assert bpy.ops.sdf.fit() == {"FINISHED"}
    result = bpy.data.objects["Suzanne.sdf"]
    assert [c.name for c in result.users_collection] == ["SDF"]
    assert bpy.context.object == result
    assert result.select_get()
    assert not obj.select_get()
    assert (len(obj.data.vertices), obj.matrix_world, set(obj.keys())) == before
    assert not obj.hide_get()
    bpy.context.view_layer.update()
    np.testing.assert_allclose(np.array(result.matrix_world), np.array(obj.matrix_world), atol=1e-6)
    # The fake's result is the world bounding box of what was sent.
    sent = worker.requests[1].arrays["vertices"]
    world = np.array([result.matrix_world @ v.co for v in result.data.vertices])
    np.testing.assert_allclose(world.min(axis=0), sent.min(axis=0), atol=1e-5)
    np.testing.assert_allclose(world.max(axis=0), sent.max(axis=0), atol=1e-5)
    assert all(p.normal.dot(p.center - _middle(result)) > 0 for p in result.data.polygons)


def _middle(obj):
    return sum((v.co for v in obj.data.vertices), Matrix().to_3x3().row[0] * 0) / len(obj.data.vertices)


def test_the_result_carries_model_report_and_errors(worker):
    add_monkey()
    bpy.ops.sdf.fit()
    result = bpy.data.objects["Suzanne.sdf"]
    assert result["sdf_model"] == MODEL
    told = json.loads(result["sdf_report"])
    assert told["metrics"] == REPORT["metrics"]
    assert told["result"] == {"vertices": 8, "faces": 12, "watertight": True}
    values = np.empty(8, np.float32)
    result.data.attributes["sdf_error"].data.foreach_get("value", values)
    np.testing.assert_allclose(values, np.linspace(0, 0.7, 8), atol=1e-6)
    assert result.data.attributes["sdf_error"].domain == "POINT"


def test_settings_reach_the_worker_and_zero_means_the_presets_own(worker):
    add_monkey()
    bpy.ops.sdf.fit()
    settings = bpy.context.scene.sdf
    settings.steps, settings.seconds, settings.resolution, settings.seed, settings.samples = 50, 5, 64, 7, 1000
    settings.level, settings.device, settings.recipe = 0.25, "cpu", "igr"
    bpy.ops.object.select_all(action="DESELECT")
    bpy.data.objects["Suzanne"].select_set(True)
    bpy.ops.sdf.fit()
    plain, set_ = worker.bodies("fit")
    assert plain == {
        "recipe": "auto",
        "preset": "draft",
        "device": "auto",
        "seed": 0,
        "level": 0.0,
        "preview": 0,
        **dict.fromkeys(("steps", "seconds", "resolution", "samples")),
        "title": "Suzanne",
    }
    assert (set_["steps"], set_["seconds"], set_["resolution"], set_["seed"], set_["samples"]) == (50, 5, 64, 7, 1000)
    assert (set_["level"], set_["device"], set_["recipe"]) == (0.25, "cpu", "igr")


def test_materials_and_colours_come_along(worker):
    obj = add_monkey()
    red, blue = bpy.data.materials.new("red"), bpy.data.materials.new("blue")
    obj.data.materials.append(red)
    obj.data.materials.append(blue)
    obj.data.polygons[-1].material_index = 1
    layer = obj.data.color_attributes.new("Paint", "BYTE_COLOR", "POINT")
    layer.data.foreach_set("color_srgb", np.tile([1.0, 0.5, 0.0, 1.0], len(layer.data)).astype(np.float32))
    bpy.ops.sdf.fit()
    mesh = bpy.data.objects["Suzanne.sdf"].data
    assert list(mesh.materials) == [red, blue]
    assert [p.material_index for p in mesh.polygons] == [0] * 6 + [1] * 6  # first and last source triangle
    assert mesh.color_attributes.active_color.name == "Paint"
    colours, _ = meshes._point_colours(mesh, 8)
    np.testing.assert_array_equal(colours, [[255, 128, 0, 255]] * 8)


def test_fit_with_a_result_selected_fits_its_source_again(worker):
    add_monkey()
    bpy.ops.sdf.fit()
    assert bpy.context.selected_objects == [bpy.data.objects["Suzanne.sdf"]]
    bpy.ops.sdf.fit()
    assert [body["title"] for body in worker.bodies("fit")] == ["Suzanne", "Suzanne"]
    assert {o.name for o in bpy.data.collections["SDF"].objects} == {"Suzanne.sdf", "Suzanne.sdf.001"}


def test_the_source_can_be_hidden(worker):
    obj = add_monkey()
    bpy.context.scene.sdf.hide_source = True
    bpy.ops.sdf.fit()
    assert obj.hide_get()


def test_the_source_is_shown_and_hidden_by_a_button(worker):
    obj = add_monkey()
    with pytest.raises(RuntimeError, match="not in this view layer"):
        bpy.ops.sdf.toggle_source()
    bpy.ops.sdf.fit()
    for hidden in (True, False):
        assert bpy.ops.sdf.toggle_source() == {"FINISHED"}
        assert obj.hide_get() is hidden
        assert bpy.data.objects["Suzanne.sdf"].visible_get()


def test_each_selected_object_is_fitted_and_one_failure_spares_the_others(worker):
    worker.fail = {"bad"}
    for name in ("first", "bad", "last"):
        add_monkey(name)
    bpy.ops.object.select_all(action="SELECT")
    with pytest.raises(RuntimeError, match=r"It is too flat\. Thicken it\."):
        bpy.ops.sdf.fit()
    assert {o.name for o in bpy.data.collections["SDF"].objects} == {"first.sdf", "last.sdf"}


def test_poll_says_why(worker):
    with pytest.raises(RuntimeError, match="Select a mesh"):
        bpy.ops.sdf.fit()
    add_monkey()
    with pytest.raises(RuntimeError, match="Select a result"):
        bpy.ops.sdf.remesh()
    with pytest.raises(RuntimeError, match="Nothing is being fitted"):
        bpy.ops.sdf.cancel()
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(RuntimeError, match="Object Mode"):
        bpy.ops.sdf.fit()


def test_remesh_sends_the_model_and_refreshes_in_place(worker):
    add_monkey()
    bpy.ops.sdf.fit()
    result = bpy.data.objects["Suzanne.sdf"]
    result.location.x = 9
    bpy.context.scene.sdf.resolution, bpy.context.scene.sdf.level = 77, 0.1
    assert bpy.ops.sdf.remesh() == {"FINISHED"}
    request = worker.requests[-1]
    assert request.kind == "extract"
    assert request.arrays["model"].tobytes() == MODEL
    assert request.body["resolution"] == 77
    assert request.body["level"] == pytest.approx(0.1)
    assert len(request.arrays["vertices"]) == len(bpy.data.objects["Suzanne"].data.vertices)
    assert [o.name for o in bpy.data.collections["SDF"].objects] == ["Suzanne.sdf"]
    assert result.location.x == 9
    assert result["sdf_model"] == MODEL
    assert json.loads(result["sdf_report"])["recipe"] == "distance"


def test_remesh_works_from_the_source_and_without_one(worker):
    obj = add_monkey()
    bpy.ops.sdf.fit()
    bpy.context.view_layer.objects.active = obj
    assert bpy.ops.sdf.remesh() == {"FINISHED"}
    bpy.context.view_layer.objects.active = bpy.data.objects["Suzanne.sdf"]
    bpy.data.objects.remove(obj)
    # Without a source the worker has nothing to measure against; the fake needs points, so look at the request only.
    job = requests.remesh_job(bpy.context.object, bpy.context)
    assert set(job.request.arrays) == {"model"}


def test_a_moved_source_is_sent_in_the_coordinates_of_the_fit(worker):
    obj = add_monkey()
    bpy.ops.sdf.fit()
    obj.location = (100, 0, 0)
    bpy.ops.sdf.remesh()
    np.testing.assert_allclose(worker.requests[-1].arrays["vertices"], worker.requests[1].arrays["vertices"], atol=1e-6)


def test_continue_sends_model_and_source_and_keeps_one_object(worker):
    add_monkey()
    bpy.ops.sdf.fit()
    settings = bpy.context.scene.sdf
    settings.steps, settings.recipe = 33, "igr"
    told = json.loads(bpy.context.object["sdf_report"])
    bpy.context.object["sdf_report"] = json.dumps({**told, "preset": "fine"})
    assert bpy.ops.sdf.continue_fit() == {"FINISHED"}
    request = worker.requests[-1]
    assert request.kind == "fit"
    assert request.body["steps"] == 33
    assert (request.body["recipe"], request.body["preset"]) == ("auto", "fine")  # not the panel's: those of the fit
    assert request.arrays["model"].tobytes() == MODEL
    assert len(bpy.data.collections["SDF"].objects) == 1
    assert bpy.context.object["sdf_model"] == MODEL  # Blender cuts bytes at a zero when it replaces others


def test_points_are_imported_with_normals_and_colours(worker, tmp_path):
    path = tmp_path / "scan.xyz"
    path.write_text("0 0 0\n")
    directions = np.eye(3, dtype=np.float32)
    worker.scan = PointCloud(directions, directions, np.array([[255, 0, 0, 255]] * 3, np.uint8))
    assert bpy.ops.sdf.import_points(filepath=str(path)) == {"FINISHED"}
    assert worker.requests[-1].arrays["file"].tobytes() == b"0 0 0\n"
    assert worker.requests[-1].body == {"name": "scan.xyz"}
    obj = bpy.context.object
    assert obj.name == "scan"
    cloud = meshes.read(obj, bpy.context.evaluated_depsgraph_get()).shape
    np.testing.assert_allclose(cloud.points, directions)
    np.testing.assert_allclose(cloud.normals, directions)
    np.testing.assert_array_equal(cloud.colours, worker.scan.colours)


def test_a_missing_file_is_an_error(worker, tmp_path):
    with pytest.raises(RuntimeError, match="cannot be opened"):
        bpy.ops.sdf.import_points(filepath=str(tmp_path / "none.xyz"))


def test_the_imports_last_file_is_not_remembered(addon):
    properties = bpy.ops.sdf.import_points.get_rna_type().properties
    assert all(properties[name].is_skip_save for name in ("filepath", "files", "directory"))


@pytest.mark.parametrize("how", ["is_invoke", "is_repeat", "is_repeat_last", ""])
def test_only_scripts_are_waited_for_where_there_is_a_window(addon, monkeypatch, how):
    options = SimpleNamespace(**{name: name == how for name in ("is_invoke", "is_repeat", "is_repeat_last")})
    operator = SimpleNamespace(options=options)
    assert addon.waits(operator), "in the background nothing else goes on"
    monkeypatch.setattr(addon, "bpy", SimpleNamespace(app=SimpleNamespace(background=False)))
    assert addon.waits(operator) == (how == "")


def test_a_repeated_fit_is_begun_and_not_waited_for(worker, addon, monkeypatch):
    add_monkey()
    worker.hold = True
    monkeypatch.setattr(addon, "waits", lambda _operator: False)
    assert bpy.ops.sdf.fit() == {"FINISHED"}
    assert [job.title for job in addon.runtime().jobs.jobs.values()] == ["Suzanne"]
    addon.runtime().tick()
    assert worker.bodies("fit")[0]["preview"] > 0


@pytest.mark.parametrize("named", [False, True])
def test_a_model_without_a_source_is_not_made_its_own(worker, scene, named):
    message = Message("done", "", {"report": {}}, {**box_of({}), "model": np.frombuffer(MODEL, np.uint8)})
    kept = spaces.put_shape("kept", message, scene)
    if named:  # as earlier versions left it behind
        kept["sdf_source"] = kept.name
    bpy.context.view_layer.objects.active = kept
    # The fake worker needs a shape to answer with, so the answer is given here.
    job = requests.remesh_job(kept, bpy.context)
    assert set(job.request.arrays) == {"model"}
    results.place(job.target["place"], message, bpy.context)
    assert results.source_of(kept) is None
    assert bpy.ops.sdf.remesh.poll()
    with pytest.raises(RuntimeError, match="there never was one"):
        bpy.ops.sdf.continue_fit()


def test_continue_says_that_the_source_is_gone(worker):
    obj = add_monkey()
    bpy.ops.sdf.fit()
    bpy.data.objects.remove(obj)
    with pytest.raises(RuntimeError, match="is not here"):
        bpy.ops.sdf.continue_fit()
