"""Combinations that follow their parts: the list, what is moved, what is applied."""

from __future__ import annotations

from types import SimpleNamespace

import bpy
import numpy as np
import pytest
from bl_ext.test.neural_sdf.blender_addon import frames, host, live, query_panels, results, stack_parts, stacks
from bl_ext.test.neural_sdf.sdfcore.errors import EngineError, NoSurfaceError, describe
from bl_ext.test.neural_sdf.sdfcore.protocol import Message
from recorded_panels import draw

pytestmark = pytest.mark.blender


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """Time stands still unless it is told to go on, and there is a window whose timer is ticked by hand."""
    made = Clock()
    monkeypatch.setattr(live, "_following", live.Following(made))
    monkeypatch.setattr(live, "waits", lambda: False)
    return made


def fitted(x: float) -> bpy.types.Object:
    bpy.ops.object.select_all(action="DESELECT")
    bpy.ops.mesh.primitive_cube_add(location=(x, 0, 0))
    bpy.ops.sdf.fit()
    made = bpy.context.active_object
    assert results.MODEL in made
    return made


@pytest.fixture
def parts(worker) -> list[bpy.types.Object]:
    """Two results, both selected, the first active."""
    made = [fitted(0.0), fitted(3.0)]
    for part in made:
        part.select_set(True)
    bpy.context.view_layer.objects.active = made[0]
    return made


@pytest.fixture
def stack(parts, worker) -> bpy.types.Object:
    settings = bpy.context.scene.sdf
    settings.combine_operation, settings.combine_radius, settings.combine_style = "difference", 0.25, "round"
    assert bpy.ops.sdf.stack() == {"FINISHED"}
    return bpy.context.active_object


def asked(worker) -> dict:
    return worker.bodies("combine")[-1]


def test_it_is_made_of_the_selected_results_where_they_stand(stack, parts, worker):
    body = asked(worker)
    assert body["steps"] == [{"operation": "difference", "radius": 0.25, "style": "round", "share": 0.5}]
    np.testing.assert_allclose(body["places"], [np.eye(4)] * 2, atol=1e-6)
    assert body["model"] is False
    assert set(worker.requests[-1].arrays) == {"model_0", "model_1"}
    assert [step.operand for step in stack.sdf_stack.steps] == parts
    assert {part.display_type for part in parts} == {"WIRE"}
    places = np.array([stack.matrix_world @ v.co for v in stack.data.vertices])
    np.testing.assert_allclose([places.min(axis=0), places.max(axis=0)], [[-1, -1, -1], [2, 1, 1]])
    assert live.is_right(stack)
    shown = draw(query_panels.SDF_PT_stack)
    assert {"sdf.stack_apply", "sdf.stack_add", "sdf.stack_remove"} <= set(shown.texts("operator"))


def test_what_is_moved_and_changed_is_followed_coarse_first(stack, parts, worker, clock, addon):
    worker.requests.clear()
    parts[1].location.x += 2
    bpy.context.view_layer.update()
    assert not live.is_right(stack)
    addon.runtime().tick()
    addon.runtime().tick()
    (body,) = worker.bodies("combine")
    assert body["resolution"] == stack.sdf_stack.drag_resolution
    assert np.array(body["places"])[1][0][3] == pytest.approx(2.0)
    clock.now += 2 * live.SETTLED
    for _ in range(3):
        addon.runtime().tick()
    assert asked(worker)["resolution"] == stack.sdf_stack.resolution
    assert live.is_right(stack)
    stack.sdf_stack.steps[1].operation = "union"
    for _ in range(3):
        clock.now += 2 * live.SETTLED
        addon.runtime().tick()
    assert asked(worker)["steps"][0]["operation"] == "union"
    worker.requests.clear()
    stack.sdf_stack.steps[1].use = False
    addon.runtime().tick()
    assert asked(worker)["steps"] == []


def test_another_object_that_moves_is_nothing_to_it(stack, worker, clock, addon):
    worker.requests.clear()
    bpy.ops.mesh.primitive_cube_add(location=(9, 0, 0))
    bpy.context.active_object.location.x += 1
    bpy.context.view_layer.update()
    addon.runtime().tick()
    assert not worker.bodies("combine")


def test_the_list_can_be_changed(stack, parts, worker):
    third = fitted(6.0)
    third.display_type = "SOLID"
    for o in (third, stack):
        o.select_set(True)
    bpy.context.view_layer.objects.active = stack
    bpy.context.scene.sdf.combine_operation = "morph"
    assert bpy.ops.sdf.stack_add() == {"FINISHED"}
    assert [step.operation for step in stack.sdf_stack.steps] == ["difference", "difference", "morph"]
    assert not bpy.ops.sdf.stack_add.poll(), "it is in the list now"
    assert bpy.ops.sdf.stack_move(direction="UP") == {"FINISHED"}
    assert [step.operand for step in stack.sdf_stack.steps] == [parts[0], third, parts[1]]
    assert len(asked(worker)["steps"]) == 2
    assert bpy.ops.sdf.stack_remove() == {"FINISHED"}
    assert third.display_type == "SOLID", "drawn as before"
    assert parts[1].display_type == "WIRE"
    stack.sdf_stack.active = 0
    assert bpy.ops.sdf.stack_move(direction="UP") == {"CANCELLED"}
    assert bpy.ops.sdf.stack_remove() == {"FINISHED"}
    assert not bpy.ops.sdf.stack_remove.poll(), "one has to stay"


def test_applied_it_is_a_result_of_its_own(stack, parts, worker):
    assert [(part.display_type, part.hide_render) for part in parts] == [("WIRE", True)] * 2
    assert bpy.ops.sdf.stack_apply() == {"FINISHED"}
    assert asked(worker)["model"] is True
    assert results.MODEL in stack
    assert results.report(stack)["recipe"] == "combined"
    assert not stacks.is_stack(stack)
    assert live.follower(stack) is None
    assert [(part.display_type, part.hide_render) for part in parts] == [("TEXTURED", False)] * 2
    assert stack.animation_data is None or not stack.animation_data.drivers
    assert bpy.ops.sdf.remesh.poll()


def test_a_list_that_changed_meanwhile_is_not_taken_for_what_came(stack, parts, worker):
    job = stacks.apply_job(stack, bpy.context)
    (answer,) = (m for m in worker.answer(job.request) if m.kind == "done")
    stack.sdf_stack.steps[1].radius += 0.5
    with pytest.raises(EngineError, match="changed meanwhile"):
        job.target["put"](answer, bpy.context)
    assert len(stack.sdf_stack.steps) == 2
    assert results.MODEL not in stack


def test_a_part_that_is_gone_is_left_out(stack, parts, worker):
    bpy.data.objects.remove(parts[1])
    assert not live.is_right(stack)
    live.refresh(stack)
    assert asked(worker)["steps"] == []
    bpy.data.objects.remove(parts[0])
    assert live.follower(stack) is None
    assert not bpy.ops.sdf.stack_apply.poll()


def test_a_keyframed_blend_is_rendered_as_it_is_then(stack, worker):
    step = stack.sdf_stack.steps[1]
    for frame, radius in ((1, 0.0), (11, 1.0)):
        step.radius = radius
        step.keyframe_insert("radius", frame=frame)
    worker.requests.clear()
    bpy.context.scene.frame_set(6)
    assert asked(worker)["steps"][0]["radius"] == pytest.approx(0.5, abs=0.01)


def test_a_render_has_the_parts_where_they_are_then(stack, parts, worker, tmp_path):
    """Hidden parts, too, and without those that are switched off by then."""
    scene, moved, step = bpy.context.scene, parts[1], stack.sdf_stack.steps[1]
    for frame, x in ((1, 0.0), (11, 5.0)):
        moved.location.x = x
        moved.keyframe_insert("location", frame=frame)
        step.use = frame == 1
        step.keyframe_insert("use", frame=frame)
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    scene.collection.objects.link(camera)
    scene.camera, scene.render.engine = camera, "CYCLES"
    scene.cycles.samples, scene.cycles.device = 1, "CPU"
    scene.render.resolution_x, scene.render.resolution_y = 4, 4
    scene.render.filepath = str(tmp_path / "frame")
    scene.frame_set(11)
    worker.requests.clear()
    scene.frame_start, scene.frame_end, scene.frame_step = 1, 11, 5
    bpy.ops.render.render(animation=True)
    bodies = worker.bodies("combine")
    places = [np.array(body["places"])[:, 0, 3] for body in bodies]
    assert [len(x) for x in places] == [2, 2, 1]
    before = places[0][1]
    assert places[1][1] == pytest.approx(before + 2.5, abs=0.3)


def test_parts_are_free_when_the_combination_is_deleted(stack, parts):
    bpy.ops.object.select_all(action="DESELECT")
    stack.select_set(True)
    bpy.ops.object.delete()
    bpy.context.view_layer.update()
    assert [(part.display_type, part.hide_render) for part in parts] == [("TEXTURED", False)] * 2


def test_a_part_in_two_lists_stays_a_part(stack, parts, worker):
    for part in parts:
        part.select_set(True)
    stack.select_set(False)
    bpy.context.view_layer.objects.active = parts[0]
    assert bpy.ops.sdf.stack() == {"FINISHED"}
    assert bpy.ops.sdf.stack_apply() == {"FINISHED"}
    assert [part.display_type for part in parts] == ["WIRE", "WIRE"]
    parts[0].display_type = "BOUNDS"  # the user's wish stays
    stack.sdf_stack.steps[0].operand = None
    assert parts[0].display_type == "BOUNDS"


def test_parts_of_many_faces_are_drawn_as_boxes(parts, worker):
    """Wires of a fitted mesh would be a black cloud over the combination."""
    parts[0].data = parts[0].data.copy()
    bpy.ops.object.select_all(action="DESELECT")
    bpy.ops.mesh.primitive_uv_sphere_add(segments=100, ring_count=60)
    dense = bpy.context.active_object.data
    parts[0].data = dense
    bpy.data.objects.remove(bpy.context.active_object)
    for part in parts:
        part.select_set(True)
    bpy.context.view_layer.objects.active = parts[0]
    assert bpy.ops.sdf.stack() == {"FINISHED"}
    assert [part.display_type for part in parts] == ["BOUNDS", "WIRE"]
    assert bpy.ops.sdf.stack_apply() == {"FINISHED"}
    assert [part.display_type for part in parts] == ["TEXTURED", "TEXTURED"]


def test_another_shape_in_a_row(stack, parts, worker):
    third = fitted(6.0)
    stack.sdf_stack.steps[1].operand = third
    assert (third.display_type, parts[1].display_type) == ("WIRE", "TEXTURED")


def test_a_part_deleted_by_the_user_is_left_out(stack, parts, worker):
    bpy.ops.object.select_all(action="DESELECT")
    parts[1].select_set(True)
    bpy.ops.object.delete()
    assert parts[1].name in bpy.data.objects, "the list holds it"
    live.refresh(stack)
    assert asked(worker)["steps"] == []


def test_a_part_fitted_anew_is_followed(stack, parts, worker, clock, addon):
    bpy.ops.object.select_all(action="DESELECT")
    parts[1].select_set(True)
    bpy.context.view_layer.objects.active = parts[1]
    report = results.report(parts[1])
    parts[1][results.REPORT] = parts[1][results.REPORT].replace('"recipe"', '"note": 1, "recipe"')
    assert results.report(parts[1]) != report
    parts[1].data.update_tag()
    worker.requests.clear()
    bpy.context.view_layer.update()
    addon.runtime().tick()
    assert worker.bodies("combine")


def test_with_all_switched_off_nothing_breaks(stack, parts, worker):
    for step in stack.sdf_stack.steps:
        step.use = False
    parts[1].location.x += 1
    bpy.context.view_layer.update()
    assert bpy.ops.sdf.stack_move(direction="DOWN") == {"FINISHED"}
    assert not bpy.ops.sdf.refresh_shape.poll()


def test_undoing_the_deletion_of_a_combination_makes_parts_of_its_parts(stack, parts):
    bpy.ops.ed.undo_push(message="before")
    names, name = [part.name for part in parts], stack.name
    bpy.ops.object.select_all(action="DESELECT")
    stack.select_set(True)
    bpy.ops.object.delete()
    bpy.ops.ed.undo_push(message="deleted")
    bpy.context.view_layer.update()
    assert {bpy.data.objects[part].display_type for part in names} == {"TEXTURED"}
    bpy.ops.ed.undo()
    bpy.context.view_layer.update()
    assert name in bpy.data.objects
    assert {bpy.data.objects[part].display_type for part in names} == {"WIRE"}


def test_linked_parts_stay_as_their_file_has_them(stack, parts, worker, tmp_path):
    path = str(tmp_path / "parts.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    names = [part.name for part in parts]
    bpy.ops.wm.read_homefile(use_empty=True)
    with bpy.data.libraries.load(path, link=True) as (held, into):
        into.objects = list(held.objects)
    for obj in into.objects:
        bpy.context.scene.collection.objects.link(obj)
    bpy.context.view_layer.update()
    stack_parts.tidy()
    linked = [obj for obj in into.objects if obj.name in names]
    assert len(linked) == 2
    assert {(part.display_type, part.hide_render) for part in linked} == {("WIRE", True)}


def test_what_cannot_be_made_is_asked_for_once(stack, parts, worker, clock, addon):
    answer = worker.answer

    def failing(request):
        if request.kind != "combine":
            return answer(request)
        worker.requests.append(request)
        return [Message("failed", request.job, describe(NoSurfaceError("Nothing is left.", "Move it.")))]

    worker.transports[-1]._answer = failing
    parts[1].location.x += 50
    bpy.context.view_layer.update()
    for _ in range(4):
        clock.now += 2 * live.SETTLED
        addon.runtime().tick()
    assert live.has_failed(stack)
    addon.runtime().notice = kept = host.Notice("another fit", EngineError("It failed.", "Fit again."))
    asked_before = len(worker.bodies("combine"))
    bpy.context.scene.update_tag()
    bpy.context.view_layer.update()
    addon.runtime().tick()
    assert len(worker.bodies("combine")) == asked_before
    assert addon.runtime().notice is kept
    parts[1].location.x -= 40
    bpy.context.view_layer.update()
    assert not live.has_failed(stack)
    addon.runtime().tick()
    assert len(worker.bodies("combine")) > asked_before


def test_a_scripts_render_in_a_window_is_waited_for(scene, monkeypatch):
    app = SimpleNamespace(background=False, is_job_running=lambda _: False)
    monkeypatch.setattr(live, "bpy", SimpleNamespace(app=app, data=bpy.data))
    assert not live.waits()
    frames._on_render()
    assert live.waits()
    frames._on_rendered()
    assert not live.waits()
