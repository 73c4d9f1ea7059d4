"""What becomes of a fit that cannot be meshed, or not be put into the scene: nothing finished is lost."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from bl_ext.test.neural_sdf.blender_addon import importing, operators, panels, previews, requests, results, spaces
from bl_ext.test.neural_sdf.sdfcore.errors import EngineError, NoSurfaceError, describe
from bl_ext.test.neural_sdf.sdfcore.geometry import PointCloud
from bl_ext.test.neural_sdf.sdfcore.protocol import Message
from fake_worker import MODEL, REPORT, SPACE, about
from recorded_panels import draw

pytestmark = pytest.mark.blender


def add_monkey(name: str = "Suzanne") -> bpy.types.Object:
    bpy.ops.mesh.primitive_monkey_add()
    bpy.context.object.name = name
    return bpy.context.object


def begin(addon) -> list:
    """What a click on Fit SDF does, without a window."""
    made = [addon.runtime().submit(requests.fit_job(o, bpy.context, True)) for o in operators.fittable(bpy.context)]
    for _ in range(3):  # hello, the request, its first events
        addon.runtime().tick()
    return made


# --- what failed after its training ------------------------------------------------------------------------------


OUT_OF_MEMORY = EngineError("The worker ran out of memory.", "Choose a smaller resolution.")


def fail_after_training(worker, addon, error=OUT_OF_MEMORY) -> None:
    worker.fail_after_training(Message("failed", worker._held.job, describe(error)))
    addon.runtime().tick()


@pytest.mark.parametrize("how", ["out of memory", "killed"])
def test_a_fit_that_cannot_be_meshed_is_kept_and_meshed_again(worker, addon, how):
    obj = add_monkey()
    bpy.context.scene.sdf.hide_source = True
    worker.hold = True
    begin(addon)
    if how == "killed":
        worker.fail_after_training()
        worker.transports[-1].die(-9)
        addon.runtime().tick()
    else:
        fail_after_training(worker, addon)
    kept = bpy.data.objects["Suzanne.sdf"]
    assert kept["sdf_model"] == MODEL
    assert [c.name for c in kept.users_collection] == ["SDF"]
    assert results.source_of(kept) == obj
    assert not obj.hide_get(), "without it there is nothing to be seen"
    assert bpy.context.object == kept
    told = results.report(kept)
    assert (told["recipe"], told["preset"], told["steps"]) == ("distance", "draft", 1000)
    assert "It has no mesh yet: press Re-mesh" in told["warnings"]
    error = addon.runtime().notice.error
    assert "out of memory" in error.line
    assert error.hint.endswith("The fit is kept in Suzanne.sdf: Re-mesh at a lower resolution will make its mesh.")
    assert not [o for o in bpy.data.objects if previews.OWNER in o]
    assert (addon.runtime().jobs.jobs, addon.runtime().waiting) == ({}, {})
    assert bpy.ops.sdf.continue_fit.poll()
    assert bpy.ops.sdf.remesh() == {"FINISHED"}
    assert len(kept.data.vertices) == 8
    assert kept["sdf_model"] == MODEL
    assert results.report(kept)["warnings"] == []


def test_the_panel_draws_a_result_without_a_mesh(worker, addon):
    add_monkey()
    worker.hold = True
    begin(addon)
    fail_after_training(worker, addon)
    labels = draw(panels.SDF_PT_result).texts("label")
    assert "It has no mesh yet: press Re-mesh" in labels
    draw(panels.SDF_PT_advanced)


def test_a_script_hears_of_the_failure_and_finds_the_fit(worker, addon):
    add_monkey()
    worker.hold = True

    def answer(request):
        events = plain(request)
        if request.kind == "fit":
            error = NoSurfaceError("There is no surface at 9.", "Choose another offset.", 0.0, 1.0)
            worker.fail_after_training(Message("failed", request.job, describe(error)))
        return events

    plain, worker.answer = worker.answer, answer
    with pytest.raises(RuntimeError, match=r"no surface at 9.*kept in Suzanne.sdf: Re-mesh at another offset"):
        bpy.ops.sdf.fit()
    assert bpy.data.objects["Suzanne.sdf"]["sdf_model"] == MODEL


def test_a_fit_is_kept_when_edit_mode_is_left(worker, addon):
    add_monkey()
    worker.hold = True
    begin(addon)
    bpy.ops.object.mode_set(mode="EDIT")
    fail_after_training(worker, addon)
    assert "kept" not in addon.runtime().notice.error.hint
    assert "Suzanne: fit kept, placed when you leave this mode" in draw(panels.SDF_PT_fit).texts("label")
    bpy.ops.object.mode_set(mode="OBJECT")
    addon.runtime().tick()
    assert bpy.data.objects["Suzanne.sdf"]["sdf_model"] == MODEL
    assert "kept in Suzanne.sdf" in addon.runtime().notice.error.hint


def test_continue_that_cannot_be_meshed_leaves_the_result_and_keeps_the_new_fit(worker, addon):
    add_monkey()
    bpy.ops.sdf.fit()
    result = bpy.context.object
    worker.hold = True
    addon.runtime().submit(requests.continue_job(result, bpy.context, True))
    for _ in range(3):
        addon.runtime().tick()
    fail_after_training(worker, addon)
    assert len(result.data.vertices) == 8
    assert results.report(result)["warnings"] == []
    assert len(bpy.data.objects["Suzanne.sdf.001"].data.vertices) == 0
    assert bpy.data.objects["Suzanne.sdf.001"]["sdf_model"] == MODEL


def test_a_fit_that_failed_in_training_leaves_nothing(worker, addon):
    add_monkey()
    worker.hold = True
    begin(addon)
    worker.transports[-1].die(-9)
    addon.runtime().tick()
    assert [o.name for o in bpy.data.objects] == ["Suzanne"]


def test_a_kept_fit_is_one_undo_step(worker, addon):
    add_monkey()
    bpy.ops.ed.undo_push(message="add monkey")
    worker.hold = True
    begin(addon)
    fail_after_training(worker, addon)
    bpy.ops.ed.undo()
    assert "Suzanne.sdf" not in bpy.data.objects
    bpy.ops.ed.redo()
    assert bpy.data.objects["Suzanne.sdf"]["sdf_model"] == MODEL


# --- what could not be placed ------------------------------------------------------------------------------------


def break_(monkeypatch, *names: str) -> None:
    def broken(*_args):
        raise ValueError("a fault")

    for name in names:
        monkeypatch.setattr(results, name, broken)


def test_a_result_that_cannot_be_placed_fails_a_script_and_is_kept(worker, addon, monkeypatch):
    add_monkey()
    break_(monkeypatch, "place")
    with pytest.raises(RuntimeError, match=r"could not be placed: ValueError: a fault.*kept in Suzanne.sdf"):
        bpy.ops.sdf.fit()
    assert bpy.data.objects["Suzanne.sdf"]["sdf_model"] == MODEL
    assert results.report(bpy.data.objects["Suzanne.sdf"])["metrics"] == REPORT["metrics"]
    assert (addon.runtime().jobs.jobs, addon.runtime().waiting) == ({}, {})
    monkeypatch.undo()
    assert bpy.ops.sdf.remesh() == {"FINISHED"}


def test_a_result_that_cannot_be_placed_is_told_and_spares_the_others(worker, addon, monkeypatch):
    plain = results.place

    def place(target, *rest):
        if target.name == "bad":
            raise ValueError("a fault")
        return plain(target, *rest)

    monkeypatch.setattr(results, "place", place)
    worker.hold = True
    for name in ("bad", "good"):
        add_monkey(name)
    bpy.ops.object.select_all(action="SELECT")
    bpy.context.view_layer.objects.active = bpy.data.objects["bad"]
    first, second = begin(addon)
    bpy.ops.object.mode_set(mode="EDIT")
    for _ in range(2):
        worker.release()
        for _ in range(3):
            addon.runtime().tick()
    assert list(addon.runtime().waiting) == [first.id, second.id]
    bpy.ops.object.mode_set(mode="OBJECT")
    addon.runtime().tick()
    assert (len(bpy.data.objects["bad.sdf"].data.vertices), len(bpy.data.objects["good.sdf"].data.vertices)) == (0, 8)
    assert first.state.value == "failed"
    assert addon.runtime().notice.title == "bad"
    assert "kept in bad.sdf" in addon.runtime().notice.error.hint
    assert (addon.runtime().jobs.jobs, addon.runtime().waiting) == ({}, {})


def test_what_cannot_be_kept_either_is_told_once(worker, addon, monkeypatch):
    add_monkey()
    break_(monkeypatch, "place", "keep")
    with pytest.raises(RuntimeError, match="could not be placed") as caught:
        bpy.ops.sdf.fit()
    assert "kept" not in str(caught.value)
    assert addon.runtime().notice.title == "Suzanne"
    assert addon.runtime().waiting == {}
    assert addon.runtime().tick() == 1.0, "nothing is tried again"


def test_a_mesh_that_cannot_be_placed_fails(worker, addon, monkeypatch):
    add_monkey()
    bpy.ops.sdf.fit()
    break_(monkeypatch, "place")
    with pytest.raises(RuntimeError, match="could not be placed"):
        bpy.ops.sdf.remesh()
    assert len(bpy.data.collections["SDF"].objects) == 1, "its model was there before"


def test_a_continued_fit_is_kept_when_its_result_was_deleted(worker, addon):
    add_monkey()
    bpy.ops.sdf.fit()
    worker.hold = True
    addon.runtime().submit(requests.continue_job(bpy.context.object, bpy.context, True))
    addon.runtime().tick()
    bpy.data.objects.remove(bpy.data.objects["Suzanne.sdf"])
    worker.release()
    addon.runtime().tick()
    assert "no longer in the scene" in addon.runtime().notice.error.message
    assert bpy.data.objects["Suzanne.sdf"]["sdf_model"] == MODEL


def library(path) -> str:
    """A file whose collection SDF holds the result of a fit; returns its path. The open file is empty then."""
    add_monkey("Theirs")
    bpy.ops.sdf.fit()
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    return str(path)


def link(path: str, override: bool = False):
    """The collection SDF of ``path``, linked to the scene."""
    with bpy.data.libraries.load(path, link=True) as (_, wanted):
        wanted.collections = ["SDF"]
    (held,) = wanted.collections
    bpy.context.scene.collection.children.link(held)
    if not override:
        return held
    made = held.override_hierarchy_create(bpy.context.scene, bpy.context.view_layer, do_fully_editable=True)
    bpy.context.scene.collection.children.unlink(held)
    return made


@pytest.mark.parametrize("override", [False, True])
def test_a_collection_of_another_file_is_no_place_for_results(worker, tmp_path, override):
    theirs = link(library(tmp_path / "library.blend"), override)
    add_monkey()
    assert bpy.ops.sdf.fit() == {"FINISHED"}
    (home,) = bpy.data.objects["Suzanne.sdf"].users_collection
    assert home != theirs
    assert results._is_home(home)
    assert home in bpy.context.scene.collection.children_recursive


@pytest.mark.parametrize("override", [False, True])
def test_a_linked_result_cannot_be_refreshed_and_says_why(worker, tmp_path, override):
    theirs = link(library(tmp_path / "library.blend"), override)
    bpy.context.view_layer.objects.active = next(o for o in theirs.all_objects if "sdf_model" in o)
    for operator in (bpy.ops.sdf.remesh, bpy.ops.sdf.continue_fit):
        with pytest.raises(RuntimeError, match="linked from another file: make it local first"):
            operator()
    assert draw(panels.SDF_PT_result).texts("label")[0].startswith("Theirs.sdf")


def test_a_result_that_is_no_mesh_any_more_cannot_be_refreshed_and_says_why(worker):
    obj = add_monkey()
    bpy.ops.sdf.fit()
    result = bpy.context.object
    bpy.ops.object.convert(target="CURVE")
    if bpy.context.object.type == "MESH":  # a closed surface has no loose edges to make a curve of
        bpy.ops.object.mode_set(mode="EDIT")
        bpy.ops.mesh.select_all(action="SELECT")
        bpy.ops.mesh.delete(type="ONLY_FACE")
        bpy.ops.object.mode_set(mode="OBJECT")
        bpy.ops.object.convert(target="CURVE")
    assert result.type == "CURVE"
    assert "sdf_model" in result
    for operator in (bpy.ops.sdf.remesh, bpy.ops.sdf.continue_fit):
        with pytest.raises(RuntimeError, match="no mesh any more"):
            operator()
    assert draw(panels.SDF_PT_result).texts("label")[0] == "Suzanne.sdf"
    draw(panels.SDF_PT_advanced)
    assert results.of(obj) is None, "another that can be refreshed is looked for"


def test_an_import_goes_to_the_scene_where_the_active_collection_is_of_another_file(worker, tmp_path):
    held = link(library(tmp_path / "library.blend"))
    layer = bpy.context.view_layer
    layer.active_layer_collection = layer.layer_collection.children[held.name]
    assert bpy.context.collection == held
    path = tmp_path / "scan.xyz"
    path.write_text("0 0 0\n")
    worker.scan = PointCloud(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32))
    assert bpy.ops.sdf.import_points(filepath=str(path)) == {"FINISHED"}
    assert bpy.data.objects["scan"].users_collection == (bpy.context.scene.collection,)


def test_an_import_goes_to_the_scene_where_the_view_layer_leaves_the_collection_out(worker, scene):
    """Blender takes another active collection when one is excluded, but a script's context may name it."""
    held = bpy.data.collections.new("held")
    scene.collection.children.link(held)
    bpy.context.view_layer.layer_collection.children["held"].exclude = True
    message = Message("done", "", {}, {"points": np.eye(3, dtype=np.float32)})
    with bpy.context.temp_override(collection=held):
        obj = importing.place("scan", message, bpy.context)
    assert obj.users_collection == (scene.collection,)
    assert bpy.context.object == obj


def test_a_completion_that_cannot_be_placed_is_kept(worker, addon, scene, monkeypatch):
    spaces.keep(scene, SPACE, about(["a", "b", "c"]))
    add_monkey("Scan")
    break_(monkeypatch, "build")
    with pytest.raises(RuntimeError, match=r"could not be placed.*kept in Scan.sdf"):
        bpy.ops.sdf.complete()
    assert bpy.data.objects["Scan.sdf"]["sdf_model"] == SPACE.tobytes()


def test_a_result_is_seen_though_the_collection_of_results_is_left_out(worker):
    add_monkey()
    bpy.ops.sdf.fit()
    layer = bpy.context.view_layer
    layer.layer_collection.children["SDF"].exclude = True
    obj = add_monkey("Second")
    bpy.context.scene.sdf.hide_source = True
    bpy.ops.sdf.fit()
    made = bpy.data.objects["Second.sdf"]
    assert results.in_layer(made, layer)
    assert not obj.visible_get()


def test_what_arrives_is_the_last_operation(addon):
    """Else Adjust Last Operation would undo to before what the user did while it was fitted, and lose the fit."""
    for name in ("apply_result", "apply_shapes", "apply_made"):
        operator = getattr(bpy.types, f"SDF_OT_{name}")
        assert {"REGISTER", "UNDO", "INTERNAL"} <= operator.bl_options


def test_what_the_worker_counted_is_not_counted_again(worker, monkeypatch):
    monkeypatch.setattr(results.meshes, "is_closed", lambda faces: pytest.fail("it takes long"))
    add_monkey()
    bpy.ops.sdf.fit()
    assert results.report(bpy.context.object)["result"]["watertight"] is True
