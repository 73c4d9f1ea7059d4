"""Meshes that follow their sliders: the newest request wins, and nothing of it is an undo step."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import bpy
import numpy as np
import pytest
from bl_ext.test.neural_sdf.blender_addon import host, live
from bl_ext.test.neural_sdf.sdfcore.errors import NoSurfaceError, describe

pytestmark = pytest.mark.blender

addon_package = importlib.import_module("bl_ext.test.neural_sdf.blender_addon")


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


def add_blend(count: int = 2) -> bpy.types.Object:
    for index in range(count):
        bpy.ops.mesh.primitive_cube_add(size=1, location=(4 * index, 0, 0))
    bpy.ops.object.select_all(action="SELECT")
    bpy.ops.sdf.blend()
    return bpy.context.object


@pytest.fixture
def blend(worker):
    made = add_blend()
    made.sdf_blend.resolution, made.sdf_blend.drag_resolution = 100, 40
    bpy.ops.sdf.refresh_shape()
    worker.requests.clear()
    return made


def place(obj: bpy.types.Object) -> float:
    """Where the box is that the fake worker answered: at 4 times the factor."""
    bpy.context.view_layer.update()
    return float(np.mean([(obj.matrix_world @ v.co).x for v in obj.data.vertices]))


def asked(worker) -> list[tuple[float, int]]:
    """(factor, resolution) of every request."""
    return [(body["weights"]["Cube.001"], body["resolution"]) for body in worker.bodies("decode")]


def tick(addon, times: int = 1) -> None:
    for _ in range(times):
        addon.runtime().tick()


def answer(worker, addon) -> None:
    """The slow worker is done with what it has."""
    worker.transports[-1].feed(*worker.decode_next())
    tick(addon)


def test_while_a_shape_is_decoded_only_the_newest_of_all_changes_waits(worker, addon, blend, clock):
    worker.slow = True
    for factor in (0.1, 0.2, 0.3):
        blend.sdf_blend.factor = factor
    tick(addon)
    assert asked(worker) == [(0.3, 40)]
    for factor in (0.4, 0.5, 0.6, 0.7):
        blend.sdf_blend.factor = factor
        tick(addon)
    assert asked(worker) == [(0.3, 40)]  # no queue behind the one that runs
    assert len(addon.runtime().jobs.jobs) == 1
    answer(worker, addon)
    assert place(blend) == pytest.approx(1.2)
    assert asked(worker) == [(0.3, 40), (0.7, 40)]
    answer(worker, addon)
    assert place(blend) == pytest.approx(2.8)
    tick(addon, 3)
    assert len(asked(worker)) == 2  # the user may go on


def test_the_full_resolution_comes_a_moment_after_the_last_change(worker, addon, blend, clock):
    blend.sdf_blend.factor = 0.25
    tick(addon, 3)
    assert asked(worker) == [(0.25, 40)]
    clock.now += live.SETTLED / 2
    blend.sdf_blend.factor = 0.75
    clock.now += live.SETTLED / 2 + 0.01
    tick(addon, 3)
    assert asked(worker) == [(0.25, 40), (0.75, 40)]
    assert not live.is_right(blend)
    clock.now += live.SETTLED
    tick(addon, 3)
    assert asked(worker)[2:] == [(0.75, 100)]
    assert live.is_right(blend)
    assert live._following.slots == {}
    assert addon.runtime().quick is False


def test_a_change_gives_up_the_full_resolution_that_is_under_way(worker, addon, blend, clock):
    blend.sdf_blend.factor = 0.25
    tick(addon, 2)
    clock.now += 1
    worker.slow = True
    tick(addon)
    assert asked(worker)[-1] == (0.25, 100)
    blend.sdf_blend.factor = 0.8
    worker.slow = False
    tick(addon, 3)
    assert len(worker.bodies("cancel")) == 1
    assert asked(worker)[-1] == (0.8, 40)
    assert place(blend) == pytest.approx(3.2)


def test_what_waits_behind_another_job_is_replaced(worker, addon, blend, clock):
    worker.hold = True
    for obj in (bpy.data.objects["Cube"], bpy.data.objects["Cube.001"]):
        obj.select_set(True)
    from bl_ext.test.neural_sdf.blender_addon import spaces

    job = addon.runtime().submit(spaces.learn_job(spaces.members(bpy.context), bpy.context, False))
    job.target["put"] = lambda message, context: context.scene
    tick(addon)
    for factor in (0.1, 0.9):
        blend.sdf_blend.factor = factor
        tick(addon)
    assert asked(worker) == []
    assert len(addon.runtime().jobs.queue) == 1
    worker.release()
    tick(addon, 3)
    assert asked(worker) == [(0.9, 40)]


def test_following_is_no_undo_step_and_undo_brings_back_the_mesh_of_its_time(worker, addon, blend, clock):
    bpy.ops.ed.undo_push(message="at a half")
    blend.sdf_blend.factor = 1.0
    bpy.ops.ed.undo_push(message="at one")  # what the interface does when the slider is let go
    tick(addon, 2)
    clock.now += 1
    tick(addon, 2)
    assert place(blend) == pytest.approx(4)
    bpy.ops.ed.undo()
    blend = bpy.data.objects["Blend"]
    assert blend.sdf_blend.factor == 0.5
    clock.now += 1
    tick(addon, 2)
    clock.now += 1
    tick(addon, 2)
    assert place(blend) == pytest.approx(2)
    bpy.ops.ed.redo()
    blend = bpy.data.objects["Blend"]
    tick(addon, 2)
    assert place(blend) == pytest.approx(4)


def test_a_deleted_object_is_forgotten_with_its_request(worker, addon, blend, clock):
    worker.slow = True
    blend.sdf_blend.factor = 0.1
    tick(addon)
    bpy.data.objects.remove(blend)
    tick(addon)
    assert worker.bodies("cancel") == [{}]
    assert live._following.slots == {}
    tick(addon, 2)
    assert addon.runtime().notice is None


@pytest.mark.parametrize("end", ["load", "disable"])
def test_loading_a_file_and_disabling_in_the_middle(worker, addon, blend, clock, end):
    worker.slow = True
    blend.sdf_blend.factor = 0.1
    tick(addon)
    if end == "load":
        bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
        tick(addon, 2)
        assert addon.runtime().jobs.jobs == {}
    else:
        addon_package.unregister()
        assert worker.transports[-1].closed
        addon_package.register()
    assert live._following.slots == {}


def test_a_linked_duplicate_follows_its_own_sliders(worker, addon, blend, clock):
    twin = blend.copy()
    bpy.context.scene.collection.objects.link(twin)
    assert twin.data == blend.data
    twin.sdf_blend.factor = 1.0
    tick(addon, 2)
    assert place(twin) == pytest.approx(4)
    assert place(blend) == pytest.approx(2)


def test_nothing_is_shown_while_an_object_is_edited(worker, addon, blend, clock):
    worker.slow = True
    blend.sdf_blend.factor = 1.0
    tick(addon)
    bpy.ops.object.mode_set(mode="EDIT")
    answer(worker, addon)
    bpy.ops.object.mode_set(mode="OBJECT")
    assert place(blend) == pytest.approx(2)
    tick(addon)
    assert place(blend) == pytest.approx(4)


def test_what_fails_is_said_once_and_the_shape_stays(worker, addon, clock):
    blend = add_blend(3)
    for weight in blend.sdf_blend.weights:
        weight.value = 0.0
    tick(addon, 3)
    clock.now += 1
    tick(addon, 3)
    assert "sum to zero" in addon.runtime().notice.error.message
    assert len(worker.bodies("decode")) == 1
    assert place(blend) == pytest.approx(4)
    blend.sdf_blend.weights[2].value = 1.0
    tick(addon, 2)
    assert place(blend) == pytest.approx(8)


def animate(blend: bpy.types.Object) -> None:
    for frame, factor in ((1, 0.0), (11, 1.0)):
        blend.sdf_blend.factor = factor
        blend.keyframe_insert("sdf_blend.factor", frame=frame)
    from bl_ext.test.neural_sdf.blender_addon import sequences

    for curve in sequences.curves_of(blend):
        for point in curve.keyframe_points:
            point.interpolation = "LINEAR"


def test_an_animated_blend_is_right_at_every_frame_in_the_background(worker, blend):
    animate(blend)
    for frame in (1, 6, 11, 3):
        bpy.context.scene.frame_set(frame)
        assert place(blend) == pytest.approx(4 * (frame - 1) / 10, abs=1e-5)
    assert {resolution for _, resolution in asked(worker)} == {100}
    count = len(asked(worker))
    bpy.context.scene.frame_set(3)
    assert len(asked(worker)) == count  # it is right already


def test_in_a_window_playback_asks_for_the_newest_frame_only(worker, addon, blend, clock):
    animate(blend)
    bpy.context.scene.frame_set(1)
    tick(addon, 3)
    worker.requests.clear()
    worker.slow = True
    for frame in (2, 3, 4, 5, 6):
        bpy.context.scene.frame_set(frame)
        tick(addon)
    answer(worker, addon)
    tick(addon)
    assert asked(worker) == [(0.1, 40), (0.5, 40)]


def test_a_render_shows_the_blend_of_its_frame(worker, blend, tmp_path):
    animate(blend)
    scene = bpy.context.scene
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    scene.collection.objects.link(camera)
    scene.camera, camera.location = camera, (2, 0, 20)
    camera.data.type, camera.data.ortho_scale = "ORTHO", 8
    for obj in scene.objects:
        obj.hide_render = obj not in (camera, blend)
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.device = 1, "CPU"
    scene.render.resolution_x, scene.render.resolution_y, scene.render.film_transparent = 32, 8, True
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGBA"
    scene.render.filepath = str(tmp_path / "frame")
    scene.frame_start, scene.frame_end, scene.frame_step = 1, 11, 10
    bpy.ops.render.render(animation=True)
    middles = []
    for frame in (1, 11):
        image = bpy.data.images.load(str(tmp_path / f"frame{frame:04d}.png"))
        alpha = np.array(image.pixels).reshape(8, 32, 4)[:, :, 3]
        assert alpha.max() > 0.9
        middles.append(float((alpha.sum(axis=0) * np.arange(32)).sum() / alpha.sum()))
        bpy.data.images.remove(image)
    assert middles[1] - middles[0] == pytest.approx(16, abs=1)  # 4 of the 8 units that are seen


def test_a_slider_that_is_dragged_does_not_put_the_timer_off(addon, monkeypatch):
    """Each movement wakes the timer: only the first may set it anew, or it would never run."""
    now, registered = [0.0], []
    timers = SimpleNamespace(
        is_registered=lambda _: bool(registered),
        register=lambda _, first_interval, persistent: registered.append(now[0] + first_interval),
        unregister=lambda _: registered.clear(),
    )
    monkeypatch.setattr(addon, "bpy", SimpleNamespace(app=SimpleNamespace(background=False, timers=timers)))
    monkeypatch.setattr(addon, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(addon, "_due", 10.0)
    registered.append(10.0)  # an idle worker is looked after once in a while
    for now[0] in (1.0, 1.01, 1.02, 1.03, 1.2, 1.6):
        addon.wake()
        assert registered == [pytest.approx(1.05)]


def test_a_blend_without_a_surface_halfway_is_kept_and_shows_where_there_is_one(worker):
    worker.undecodable = describe(NoSurfaceError("There is no surface.", "Choose another level.", 0.1, 0.5))
    blend = add_blend()
    assert live.is_live(blend)
    assert len(blend.data.vertices) == 0
    assert not live.is_right(blend)
    notice = host.runtime().notice
    assert notice is not None
    assert blend.name in notice.error.line
    blend.sdf_blend.factor = 0.25
    assert bpy.ops.sdf.refresh_shape() == {"FINISHED"}
    assert len(blend.data.vertices) == 8
