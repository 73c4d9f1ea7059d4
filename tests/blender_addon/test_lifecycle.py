"""A fit in the life of a file: undo, previews, cancel, Edit Mode, deletion, loading, a worker that dies."""

from __future__ import annotations

import bpy
import pytest
from bl_ext.test.neural_sdf.blender_addon import operators, panels, previews, requests, results
from bl_ext.test.neural_sdf.sdfcore.errors import EngineError, NoSurfaceError, describe
from bl_ext.test.neural_sdf.sdfcore.protocol import Message
from fake_worker import MODEL, REPORT, progress
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


def preview_objects() -> list[bpy.types.Object]:
    return [o for o in bpy.data.objects if previews.OWNER in o]


def test_one_fit_is_one_undo_step(worker):
    add_monkey()
    bpy.ops.ed.undo_push(message="add monkey")
    bpy.ops.sdf.fit("EXEC_DEFAULT", True)
    assert "Suzanne.sdf" in bpy.data.objects
    bpy.ops.ed.undo()
    assert "Suzanne.sdf" not in bpy.data.objects
    assert "Suzanne" in bpy.data.objects
    bpy.ops.ed.redo()
    assert bpy.data.objects["Suzanne.sdf"]["sdf_model"] == MODEL


def test_a_worker_that_dies_is_named_and_the_next_fit_works(worker, addon):
    add_monkey()
    worker.hold = True
    (job,) = begin(addon)
    worker.transports[-1].die(137, "Killed")
    addon.runtime().tick()
    assert "Killed" in str(addon.runtime().notice.error)
    assert preview_objects() == []
    assert job.state.value == "failed"
    worker.hold = False
    assert bpy.ops.sdf.fit() == {"FINISHED"}
    assert len(worker.transports) == 2


def test_preview_follows_the_fit_and_goes_with_it(worker, addon):
    add_monkey()
    worker.hold = True
    begin(addon)
    (preview,) = preview_objects()
    assert preview.name == "Suzanne.sdf preview"
    assert len(preview.data.polygons) == 12
    held = worker.transports[-1]
    held.feed(worker.preview(worker._held))
    addon.runtime().tick()
    assert preview_objects() == [preview]
    worker.release()
    addon.runtime().tick()
    assert preview_objects() == []
    assert "Suzanne.sdf" in bpy.data.objects
    assert not [m for m in bpy.data.meshes if "preview" in m.name]


def test_what_a_network_holds_at_first_is_not_shown(worker, addon):
    add_monkey()
    worker.hold = True
    (job,) = begin(addon)
    addon.runtime().sweep()
    for obj in preview_objects():
        bpy.data.objects.remove(obj)
    worker.transports[-1].feed(progress(job.id, 0), worker.preview(worker._held))
    addon.runtime().tick()
    assert preview_objects() == []
    worker.transports[-1].feed(progress(job.id, 1), worker.preview(worker._held))
    addon.runtime().tick()
    assert len(preview_objects()) == 1


@pytest.mark.parametrize("how", ["cancel", "stop"])
def test_cancel_leaves_nothing_and_stop_keeps_the_result(worker, addon, how):
    add_monkey()
    worker.hold = True
    begin(addon)
    getattr(bpy.ops.sdf, how)()
    addon.runtime().tick()
    assert preview_objects() == []
    assert ("Suzanne.sdf" in bpy.data.objects) == (how == "stop")
    assert addon.runtime().jobs.jobs == {}


def test_a_queued_job_is_cancelled_by_its_id(worker, addon):
    worker.hold = True
    for name in ("a", "b", "c"):
        add_monkey(name)
    bpy.ops.object.select_all(action="SELECT")
    first, second, third = begin(addon)
    bpy.ops.sdf.cancel(job=second.id)
    worker.hold = False
    worker.release()
    for _ in range(4):
        addon.runtime().tick()
    assert {o.name for o in bpy.data.collections["SDF"].objects} == {f"{first.title}.sdf", f"{third.title}.sdf"}


def test_preview_is_not_saved_and_does_not_come_back_by_undo(worker, addon, tmp_path):
    add_monkey()
    bpy.ops.ed.undo_push(message="add monkey")
    worker.hold = True
    begin(addon)
    bpy.ops.ed.undo_push(message="something else")  # a state that holds the preview
    bpy.ops.sdf.cancel()
    addon.runtime().tick()
    bpy.ops.ed.undo_push(message="after")
    bpy.ops.ed.undo()
    assert preview_objects() == []
    begin(addon)
    assert len(preview_objects()) == 1
    path = tmp_path / "saved.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path), copy=True)
    with bpy.data.libraries.load(str(path)) as (found, _):
        assert not [name for name in found.objects if "preview" in name]


def test_undo_in_the_middle_of_a_fit_does_not_lose_it(worker, addon):
    obj = add_monkey()
    bpy.ops.ed.undo_push(message="add monkey")
    obj.location.x = 5
    bpy.ops.ed.undo_push(message="move")
    worker.hold = True
    begin(addon)
    bpy.ops.ed.undo()
    worker.release()
    addon.runtime().tick()
    result = bpy.data.objects["Suzanne.sdf"]
    assert result.location.x == pytest.approx(0)  # over the source, where it is now
    source = bpy.data.objects["Suzanne"].data
    assert min(v.co.x for v in result.data.vertices) == pytest.approx(min(v.co.x for v in source.vertices), abs=1e-5)


def test_a_deleted_source_leaves_the_result_where_it_was(worker, addon):
    obj = add_monkey()
    obj.location.x = 5
    bpy.context.view_layer.update()
    worker.hold = True
    begin(addon)
    bpy.data.objects.remove(obj)
    worker.release()
    addon.runtime().tick()
    assert bpy.data.objects["Suzanne.sdf"].location.x == pytest.approx(5)


def test_a_result_waits_until_edit_mode_is_left(worker, addon):
    add_monkey()
    worker.hold = True
    begin(addon)
    bpy.ops.object.mode_set(mode="EDIT")
    worker.release()
    addon.runtime().tick()
    assert "Suzanne.sdf" not in bpy.data.objects
    assert len(addon.runtime().waiting) == 1
    bpy.ops.object.mode_set(mode="OBJECT")
    addon.runtime().tick()
    assert "Suzanne.sdf" in bpy.data.objects


def test_loading_a_file_cancels_what_runs(worker, addon):
    add_monkey()
    worker.hold = True
    (job,) = begin(addon)
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    addon.runtime().tick()
    assert job.state.value == "cancelled"
    assert worker.bodies("cancel") == [{}]
    assert len(bpy.data.objects) == 0


def test_model_and_figures_survive_save_and_load(worker, tmp_path):
    add_monkey()
    bpy.ops.sdf.fit()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "a.blend"))
    result = results.of(bpy.data.objects["Suzanne"])
    assert result.name == "Suzanne.sdf"
    assert result["sdf_model"] == MODEL
    assert results.report(result)["metrics"]["hausdorff"] == REPORT["metrics"]["hausdorff"]
    assert bpy.ops.sdf.remesh.poll()


def test_loading_a_file_lets_go_of_results_that_wait(worker, addon):
    add_monkey()
    worker.hold = True
    begin(addon)
    bpy.ops.object.mode_set(mode="EDIT")
    worker.release()
    addon.runtime().tick()
    assert len(addon.runtime().jobs.jobs) == 1
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    addon.runtime().tick()
    assert addon.runtime().jobs.jobs == {}
    assert len(bpy.data.objects) == 0


# --- the source of a result --------------------------------------------------------------------------------------


def delete(obj: bpy.types.Object) -> None:
    """As the user does: it stays in the file while something points to it."""
    bpy.ops.object.select_all(action="DESELECT")
    obj.select_set(True)
    bpy.ops.object.delete()


def test_a_source_renamed_during_the_fit_is_followed(worker, addon):
    obj = add_monkey()
    worker.hold = True
    begin(addon)
    obj.name = "Ape"
    add_monkey("Suzanne")
    worker.release()
    addon.runtime().tick()
    result = bpy.data.objects["Ape.sdf"]
    assert result["sdf_source"] == "Ape"
    assert results.source_of(result) == obj
    assert results.of(obj) == result
    assert results.of(bpy.data.objects["Suzanne"]) is None


def test_a_source_renamed_after_the_fit_is_followed(worker):
    obj = add_monkey()
    bpy.ops.sdf.fit()
    result = bpy.data.objects["Suzanne.sdf"]
    obj.name = "Ape"
    add_monkey("Suzanne")
    assert results.source_of(result) == obj
    assert results.of(obj) == result
    assert results.of(bpy.data.objects["Suzanne"]) is None


@pytest.mark.parametrize("how", ["by the user", "by a script"])
def test_a_deleted_source_is_not_mistaken_for_another_of_its_name(worker, how):
    obj = add_monkey()
    bpy.ops.sdf.fit()
    if how == "by the user":
        delete(obj)
        obj.name = "gone"
    else:
        bpy.data.objects.remove(obj)
    other = add_monkey("Suzanne")
    assert other.name == "Suzanne"
    assert results.source_of(bpy.data.objects["Suzanne.sdf"]) is None
    assert results.of(other) is None


def test_a_deleted_source_is_not_saved(worker, tmp_path):
    obj = add_monkey()
    bpy.ops.sdf.fit()
    bpy.ops.ed.undo_push(message="fit")
    delete(obj)
    bpy.ops.ed.undo_push(message="delete")
    assert "Suzanne" in bpy.data.objects
    path = tmp_path / "saved.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path), copy=True)
    with bpy.data.libraries.load(str(path)) as (found, _):
        assert found.objects == ["Suzanne.sdf"]
    assert results.source_of(bpy.data.objects["Suzanne.sdf"]) is None
    bpy.ops.ed.undo()
    assert results.source_of(bpy.data.objects["Suzanne.sdf"]) == bpy.context.scene.objects["Suzanne"]


def test_a_source_in_another_scene_is_saved(worker, tmp_path):
    obj = add_monkey()
    bpy.ops.sdf.fit()
    bpy.data.scenes.new("other").collection.objects.link(obj)
    bpy.context.scene.collection.objects.unlink(obj)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "saved.blend"), copy=True)
    assert results.source_of(bpy.data.objects["Suzanne.sdf"]) == obj


def test_the_source_survives_undo_redo_saving_and_loading(worker, tmp_path):
    add_monkey()
    bpy.ops.ed.undo_push(message="add monkey")
    bpy.ops.sdf.fit("EXEC_DEFAULT", True)
    bpy.ops.ed.undo()
    bpy.ops.ed.redo()
    assert results.source_of(bpy.data.objects["Suzanne.sdf"]) == bpy.data.objects["Suzanne"]
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "a.blend"))
    assert results.source_of(bpy.data.objects["Suzanne.sdf"]) == bpy.data.objects["Suzanne"]


def test_duplicates_have_the_source_that_was_duplicated_with_them(worker):
    obj = add_monkey()
    bpy.ops.sdf.fit()
    bpy.ops.object.duplicate()  # the result alone
    assert results.source_of(bpy.context.object) == obj
    assert results.of(obj) == bpy.context.object, "the newest"
    bpy.ops.object.select_all(action="DESELECT")
    obj.select_set(True)
    bpy.data.objects["Suzanne.sdf"].select_set(True)
    bpy.ops.object.duplicate()
    (copy,) = (o for o in bpy.context.selected_objects if "sdf_model" in o)
    (source,) = (o for o in bpy.context.selected_objects if "sdf_model" not in o)
    assert results.source_of(copy) == source
    assert results.of(source) == copy


def test_an_appended_result_is_not_taken_for_one_of_an_object_here(worker, tmp_path):
    add_monkey()
    bpy.ops.sdf.fit()
    path = str(tmp_path / "other.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    here = add_monkey()
    bpy.ops.wm.append(filename="Suzanne.sdf", directory=f"{path}/Object/")
    result = bpy.data.objects["Suzanne.sdf"]
    assert results.source_of(result) == bpy.data.objects["Suzanne.001"], "its own comes with it"
    assert results.of(here) is None
    bpy.context.view_layer.objects.active = result
    assert bpy.ops.sdf.remesh() == {"FINISHED"}


def test_a_file_of_an_earlier_version_has_the_name_only(worker):
    obj = add_monkey()
    bpy.ops.sdf.fit()
    result = bpy.context.object
    del result["sdf_source_object"]
    assert results.source_of(result) == obj
    assert results.of(obj) == result
    bpy.ops.sdf.remesh()
    assert result["sdf_source_object"] == obj


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
    assert preview_objects() == []
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
