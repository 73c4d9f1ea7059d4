"""Shape spaces the whole way: two balls are learned, blended, kept, re-meshed and walked between, by a real worker."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest
from bl_ext.test.neural_sdf.blender_addon import live, meshes, spaces
from bl_ext.test.neural_sdf.sdfcore.geometry import PointCloud

pytestmark = pytest.mark.blender


def world(obj) -> np.ndarray:
    bpy.context.view_layer.update()
    return np.array([obj.matrix_world @ v.co for v in obj.data.vertices])


def box(obj) -> tuple[np.ndarray, np.ndarray]:
    """Middle and sizes of the box round a shape."""
    places = world(obj)
    return (places.min(axis=0) + places.max(axis=0)) / 2, np.ptp(places, axis=0)


def check_ball(obj, x: float, size: float) -> None:
    middle, sizes = box(obj)
    np.testing.assert_allclose(middle, [x, 0, 0], atol=0.25)
    np.testing.assert_allclose(sizes, [size] * 3, rtol=0.2)
    shape = meshes.read(obj, bpy.context.evaluated_depsgraph_get()).shape
    assert meshes.is_closed(shape.faces)
    assert shape.volume() == pytest.approx(np.pi / 6 * size**3, rel=0.35)


def add_balls() -> None:
    for name, x, radius in (("small", 0, 0.5), ("large", 4, 1.0)):
        bpy.ops.mesh.primitive_uv_sphere_add(segments=24, ring_count=12, radius=radius, location=(x, 0, 0))
        bpy.context.object.name = name
    bpy.ops.object.select_all(action="SELECT")


@pytest.fixture
def settings(addon):
    """So few steps that a ball is just known from another."""
    scene = bpy.context.scene
    scene.sdf.device, scene.sdf.samples = "cpu", 3000
    made = scene.sdf_shapes
    made.preset, made.steps, made.resolution, made.blend_seconds = "draft", 40, 24, 60
    return made


def check_blend() -> None:
    bpy.context.view_layer.objects.active = bpy.data.objects["large"]
    assert bpy.ops.sdf.blend() == {"FINISHED"}
    blend = bpy.data.objects["Blend"]
    assert [weight.name for weight in blend.sdf_blend.weights] == ["small", "large"]  # towards the active one
    check_ball(blend, 2, 1.5)
    blend.sdf_blend.factor = 1.0
    assert bpy.ops.sdf.refresh_shape() == {"FINISHED"}
    assert live.is_right(blend)
    check_ball(blend, 4, 2)


def check_kept() -> None:
    assert bpy.ops.sdf.keep_shape() == {"FINISHED"}
    kept = bpy.data.objects["Blend.kept"]
    bpy.context.scene.sdf.resolution = 40
    before = len(kept.data.vertices)
    assert bpy.ops.sdf.remesh() == {"FINISHED"}
    assert len(kept.data.vertices) > 2 * before
    check_ball(kept, 4, 2)


def check_file(path: Path) -> None:
    assert bpy.ops.sdf.save_space(filepath=str(path)) == {"FINISHED"}
    for _ in range(2):
        assert bpy.ops.sdf.load_space(filepath=str(path)) == {"FINISHED"}
        assert bpy.context.scene["sdf_space"] == path.read_bytes()
    assert spaces.names(bpy.context.scene) == ["small", "large"]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RuntimeError, match="cut or damaged"):
        bpy.ops.sdf.load_space(filepath=str(path))


def check_ways(settings) -> None:
    settings.set_stops(["small", "large"])
    settings.mode, settings.count = "SHAPE_KEYS", 3
    assert bpy.ops.sdf.interpolate() == {"FINISHED"}
    keyed = bpy.data.objects["small to large"]
    check_ball(keyed, 0, 1)
    keyed.data.shape_keys.key_blocks["large"].value = 1.0
    shown = keyed.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    places = np.array([keyed.matrix_world @ v.co for v in shown.vertices])
    np.testing.assert_allclose(np.linalg.norm(places - [4, 0, 0], axis=1), 1, atol=0.4)
    settings.mode = "OBJECTS"
    assert bpy.ops.sdf.interpolate() == {"FINISHED"}
    for index, obj in enumerate(bpy.data.collections["small to large"].objects):
        check_ball(obj, 2 * index, 1 + index / 2)


def check_completion(settings) -> None:
    settings.complete_seconds = 2
    directions = np.random.default_rng(0).normal(size=(1500, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    seen = directions[directions[:, 2] > -0.2]
    scan = meshes.points_object("scan", PointCloud(3 * seen + [0, 10, 0], seen))
    bpy.context.scene.collection.objects.link(scan)
    spaces.select_only(scan, bpy.context)
    assert bpy.ops.sdf.complete() == {"FINISHED"}
    made = bpy.data.objects["scan.completed"]
    places, points = world(made), world(scan)
    gap = np.linalg.norm(places[:, None] - points[None], axis=2).min(axis=1)
    values = np.empty(len(places), np.float32)
    made.data.attributes["observed"].data.foreach_get("value", values)
    np.testing.assert_allclose(values, gap, atol=1e-4)
    made.data.attributes["observed_mask"].data.foreach_get("value", values)
    assert gap[values > 0.5].max(initial=0) <= gap[values < 0.5].min(initial=np.inf)
    assert made["sdf_model"]
    assert len(scan.data.vertices) == len(seen)


def test_two_balls_from_blend_to_completion(settings, tmp_path):
    add_balls()
    check_blend()
    check_kept()
    check_file(tmp_path / "balls.safetensors")
    check_ways(settings)
    check_completion(settings)
