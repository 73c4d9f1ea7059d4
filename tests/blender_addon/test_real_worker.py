"""The whole way: object, message, worker process, fit, mesh, object. The worker runs in the Python of its own."""

from __future__ import annotations

import json
import os
import signal
import time

import bpy
import numpy as np
import pytest
from bl_ext.test.neural_sdf.blender_addon import meshes, operators, previews, requests, results
from bl_ext.test.neural_sdf.blender_addon.jobs import State
from bl_ext.test.neural_sdf.sdfcore.geometry import PointCloud

pytestmark = pytest.mark.blender

LONG = 1_000_000  # steps: it ends by being told to


def ball(count: int = 3000) -> PointCloud:
    """An oriented scan of a sphere of radius 2 around (10, 0, 0)."""
    directions = np.random.default_rng(0).normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return PointCloud(2 * directions + [10, 0, 0], directions, np.full((count, 4), (200, 100, 50, 255), np.uint8))


@pytest.fixture
def settings(addon):
    made = bpy.context.scene.sdf
    made.steps, made.resolution = 60, 32
    return made


def world(obj) -> np.ndarray:
    bpy.context.view_layer.update()
    return np.array([obj.matrix_world @ v.co for v in obj.data.vertices])


def begin(addon) -> object:
    return addon.runtime().submit(requests.fit_job(operators.fittable(bpy.context)[0], bpy.context, True))


def tick_until(addon, condition, seconds: float = 60) -> None:
    """What the timer does in a window."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        assert addon.runtime().notice is None, addon.runtime().notice
        addon.runtime().tick()
        time.sleep(0.02)


def check_sphere(result, radius: float, centre) -> None:
    away = np.linalg.norm(world(result) - np.array(centre), axis=1)
    assert away.mean() == pytest.approx(radius, rel=0.05)
    assert away.max() < 1.25 * radius
    assert meshes.is_closed(meshes.read(result, bpy.context.evaluated_depsgraph_get()).shape.faces)


def test_a_mesh_and_its_materials(settings):
    bpy.ops.mesh.primitive_uv_sphere_add(segments=32, ring_count=16, location=(3, 0, 0))
    obj = bpy.context.object
    obj.scale = (-1, 1, 1)
    for name in ("south", "north"):
        obj.data.materials.append(bpy.data.materials.new(name))
    for polygon in obj.data.polygons:
        polygon.material_index = int(polygon.center.z > 0)
    assert bpy.ops.sdf.fit() == {"FINISHED"}
    result = bpy.data.objects["Sphere.sdf"]
    check_sphere(result, 1.0, (3, 0, 0))
    for polygon in result.data.polygons:
        if abs(polygon.center.z) > 0.2:
            assert polygon.material_index == int(polygon.center.z > 0)
    told = json.loads(result["sdf_report"])
    assert told["result"]["watertight"]
    assert told["metrics"]["chamfer"] < 0.1
    assert told["steps"] == 60
    error = np.empty(len(result.data.vertices), np.float32)
    result.data.attributes["sdf_error"].data.foreach_get("value", error)
    assert 0 <= np.abs(error).mean() < 0.1


def test_a_scan_then_another_mesh_of_the_same_fit(settings, tmp_path):
    obj = meshes.points_object("scan", ball())
    bpy.context.scene.collection.objects.link(obj)
    bpy.context.view_layer.objects.active = obj
    obj.select_set(True)
    assert bpy.ops.sdf.fit() == {"FINISHED"}
    result = bpy.data.objects["scan.sdf"]
    check_sphere(result, 2.0, (10, 0, 0))
    colours, _ = meshes._point_colours(result.data, len(result.data.vertices))
    assert np.abs(colours.astype(int) - (200, 100, 50, 255)).max() <= 2
    path = str(tmp_path / "kept.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    bpy.ops.wm.open_mainfile(filepath=path)
    result = bpy.data.objects["scan.sdf"]
    before = len(result.data.vertices)
    bpy.context.scene.sdf.resolution, bpy.context.scene.sdf.level = 48, 0.2
    bpy.context.view_layer.objects.active = result
    assert bpy.ops.sdf.remesh() == {"FINISHED"}
    assert len(result.data.vertices) > 1.5 * before
    assert 2.1 < np.linalg.norm(world(result) - (10, 0, 0), axis=1).mean() < 2.5  # off the surface a short fit is rough
    bpy.context.scene.sdf.level = 0
    assert bpy.ops.sdf.continue_fit() == {"FINISHED"}
    check_sphere(result, 2.0, (10, 0, 0))
    assert results.report(result)["metrics"]["chamfer"] < 0.2


def test_a_file_of_points_is_imported_with_its_normals(addon, tmp_path):
    cloud = ball(50)
    path = tmp_path / "skän.xyz"
    np.savetxt(path, np.hstack([cloud.points, cloud.normals]))
    assert bpy.ops.sdf.import_points(filepath=str(path)) == {"FINISHED"}
    read = meshes.read(bpy.context.object, bpy.context.evaluated_depsgraph_get()).shape
    np.testing.assert_allclose(read.points, cloud.points, atol=1e-4)
    np.testing.assert_allclose(read.normals, cloud.normals, atol=1e-4)


def test_preview_cancel_and_stop(addon, settings):
    settings.steps = LONG
    bpy.ops.mesh.primitive_monkey_add()
    job = begin(addon)
    tick_until(addon, lambda: any(previews.OWNER in o for o in bpy.data.objects))
    bpy.ops.sdf.cancel()
    begun = time.monotonic()
    tick_until(addon, lambda: not addon.runtime().jobs._occupant)
    assert time.monotonic() - begun < 3
    assert job.state is State.CANCELLED
    assert {o.name for o in bpy.data.objects} == {"Suzanne"}
    job = begin(addon)
    tick_until(addon, lambda: (job.progress.get("step") or 0) > 20)
    bpy.ops.sdf.stop()
    tick_until(addon, lambda: job.state.over)
    assert {o.name for o in bpy.data.objects} == {"Suzanne", "Suzanne.sdf"}
    told = results.report(bpy.data.objects["Suzanne.sdf"])
    assert told["stopped"]
    assert 20 < told["steps"] < LONG


def test_a_killed_worker_is_named_and_replaced(addon, settings):
    settings.steps = LONG
    bpy.ops.mesh.primitive_monkey_add()
    job = begin(addon)
    tick_until(addon, lambda: (job.progress.get("step") or 0) > 2)
    os.kill(addon.runtime().jobs._transport.pid, signal.SIGKILL)
    tick_until(addon, lambda: job.state.over)
    assert "SIGKILL" in str(addon.runtime().notice.error)
    settings.steps = 20
    assert bpy.ops.sdf.fit() == {"FINISHED"}


def test_what_the_worker_refuses_is_said(addon, settings):
    obj = meshes.points_object("dot", PointCloud(np.zeros((50, 3))))
    bpy.context.scene.collection.objects.link(obj)
    bpy.context.view_layer.objects.active = obj
    obj.select_set(True)
    with pytest.raises(RuntimeError, match="too little"):
        bpy.ops.sdf.fit()


def test_a_fit_without_a_surface_at_the_offset_is_kept_and_meshed_at_another(settings):
    bpy.ops.mesh.primitive_uv_sphere_add(radius=2, location=(5, 0, 0))
    settings.level = -50
    with pytest.raises(RuntimeError, match=r"kept in Sphere.sdf: Re-mesh at another offset will make its mesh"):
        bpy.ops.sdf.fit()
    kept = bpy.context.object
    assert len(kept.data.vertices) == 0
    assert results.report(kept)["steps"] > 0
    settings.level = 0
    assert bpy.ops.sdf.remesh() == {"FINISHED"}
    check_sphere(kept, 2, (5, 0, 0))
    assert results.report(kept)["warnings"] == []
