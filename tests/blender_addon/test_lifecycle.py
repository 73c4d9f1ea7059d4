"""A fit in the life of a file: undo, previews, cancel, Edit Mode, deletion, loading, a worker that dies."""

from __future__ import annotations

import bpy
import pytest
from bl_ext.test.neural_sdf.blender_addon import operators, previews, requests, results
from fake_worker import MODEL, REPORT, progress

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
