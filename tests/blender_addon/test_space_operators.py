"""Shape spaces over a fake worker: what is sent, what the scene keeps, and what becomes of it."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from bl_ext.test.neural_sdf.blender_addon import live, meshes, results, sequences, spaces
from fake_worker import MODEL, SPACE

pytestmark = pytest.mark.blender


def add(name: str, x: float = 0.0) -> bpy.types.Object:
    bpy.ops.mesh.primitive_cube_add(size=1, location=(x, 0, 0))
    bpy.context.object.name = name
    return bpy.context.object


@pytest.fixture
def family(worker):
    """Three selected objects."""
    made = [add(name, 3 * i) for i, name in enumerate("abc")]
    bpy.ops.object.select_all(action="SELECT")
    return made


@pytest.fixture
def learned(family):
    bpy.ops.sdf.learn_space()
    return bpy.context.scene


def world(obj: bpy.types.Object) -> np.ndarray:
    bpy.context.view_layer.update()
    return np.array([obj.matrix_world @ v.co for v in obj.data.vertices])


def contents() -> set[str]:
    return {o.name for o in bpy.data.objects}


def test_a_space_is_learned_from_what_is_selected_and_kept_in_the_scene(family, worker):
    settings = bpy.context.scene.sdf_shapes
    settings.preset, settings.seconds, settings.code_size, settings.together = "fine", 7, 12, True
    assert bpy.ops.sdf.learn_space() == {"FINISHED"}
    (body,) = worker.bodies("learn")
    assert body["names"] == ["a", "b", "c"]
    assert (body["preset"], body["seconds"], body["code_size"], body["together"]) == ("fine", 7, 12, True)
    sent = worker.requests[-1].arrays
    assert set(sent) == {f"s{i}_{kind}" for i in range(3) for kind in ("vertices", "faces")}
    np.testing.assert_allclose(sent["s2_vertices"].mean(axis=0), [6, 0, 0], atol=1e-5)
    scene = bpy.context.scene
    assert scene["sdf_space"] == SPACE.tobytes()
    assert spaces.names(scene) == ["a", "b", "c"]
    assert [shape.name for shape in settings.shapes] == ["a", "b", "c"]
    assert [stop.name for stop in settings.stops] == ["a", "c"]
    assert contents() == {"a", "b", "c"}
    assert bpy.ops.sdf.learn_space() == {"FINISHED"}
    assert scene["sdf_space"] == SPACE.tobytes()


def test_a_collection_goes_before_the_selection(family, worker):
    home = bpy.data.collections.new("home")
    for obj in family[:2]:
        home.objects.link(obj)
    bpy.context.scene.sdf_shapes.source = home
    bpy.ops.object.select_all(action="DESELECT")
    bpy.ops.sdf.learn_space()
    assert worker.bodies("learn")[0]["names"] == ["a", "b"]


def test_learning_is_one_undo_step(family):
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.sdf.learn_space("EXEC_DEFAULT", True)
    assert spaces.has(bpy.context.scene)
    bpy.ops.ed.undo()
    assert not spaces.has(bpy.context.scene)
    assert len(bpy.context.scene.sdf_shapes.shapes) == 0


def test_a_space_goes_to_a_file_and_comes_back(learned, tmp_path):
    path = tmp_path / "family.safetensors"
    assert bpy.ops.sdf.save_space(filepath=str(path)) == {"FINISHED"}
    assert path.read_bytes() == SPACE.tobytes()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    assert bpy.ops.sdf.load_space(filepath=str(path)) == {"FINISHED"}
    assert bpy.context.scene["sdf_space"] == SPACE.tobytes()
    assert spaces.names(bpy.context.scene) == ["a", "b", "c"]


def test_a_damaged_or_missing_file_is_an_error_and_changes_nothing(learned, tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(SPACE.tobytes()[:-1])
    with pytest.raises(RuntimeError, match=r"It is damaged\. Save it again\."):
        bpy.ops.sdf.load_space(filepath=str(path))
    with pytest.raises(RuntimeError, match="cannot be opened"):
        bpy.ops.sdf.load_space(filepath=str(tmp_path / "none.safetensors"))
    with pytest.raises(RuntimeError, match="cannot be written"):
        bpy.ops.sdf.save_space(filepath=str(tmp_path / "no folder" / "a.safetensors"))
    assert learned["sdf_space"] == SPACE.tobytes()


def test_a_shape_of_the_list_is_shown_with_its_model(learned, worker):
    learned.sdf_shapes.active_shape = 1
    assert bpy.ops.sdf.show_shape() == {"FINISHED"}
    assert worker.bodies("decode")[-1]["weights"] == {"b": 1.0}
    obj = bpy.data.objects["b.shape"]
    assert obj["sdf_model"] == MODEL
    assert bpy.context.object == obj
    assert results.of(obj) == obj  # so Re-mesh works
    assert bpy.ops.sdf.remesh.poll()
    assert bpy.ops.sdf.show_shape(shape="c") == {"FINISHED"}
    assert "c.shape" in bpy.data.objects


def test_objects_on_the_way(learned, worker):
    learned.sdf_shapes.count = 4
    assert bpy.ops.sdf.interpolate() == {"FINISHED"}
    (body,) = worker.bodies("interpolate")
    assert (body["stops"], body["frames"]) == (["a", "c"], 4)
    home = bpy.data.collections["a to c"]
    assert [o.name for o in home.objects] == [f"a to c 0{i}" for i in range(4)]
    for index, obj in enumerate(home.objects):
        np.testing.assert_allclose(world(obj).min(axis=0), [index, 0, 0], atol=1e-6)
        assert obj["sdf_model"] == MODEL
    assert {"a", "b", "c"} <= contents()


def test_stops_are_added_and_removed(learned, worker):
    learned.sdf_shapes.active_shape = 1
    bpy.ops.sdf.edit_stops(action="ADD")
    assert [stop.name for stop in learned.sdf_shapes.stops] == ["a", "c", "b"]
    bpy.ops.sdf.edit_stops(action="REMOVE", index=1)
    bpy.ops.sdf.edit_stops(action="REMOVE", index=0)  # two must stay
    assert [stop.name for stop in learned.sdf_shapes.stops] == ["a", "b"]
    learned.sdf_shapes.stops[0].name = "nobody"
    with pytest.raises(RuntimeError, match="no shape 'nobody'"):
        bpy.ops.sdf.interpolate()


@pytest.mark.parametrize(("count", "start", "end"), [(2, 1, 11), (3, 1, 11), (5, 10, 13)])
def test_an_animation_shows_one_shape_at_a_time(learned, count, start, end):
    settings = learned.sdf_shapes
    settings.mode, settings.count, settings.frame_start, settings.frame_end = "ANIMATION", count, start, end
    bpy.ops.sdf.interpolate()
    made = list(bpy.data.collections["a to c"].objects)
    shown = []
    for frame in range(start - 3, end + 4):
        learned.frame_set(frame)
        visible = [i for i, o in enumerate(made) if not o.hide_viewport]
        assert visible == [i for i, o in enumerate(made) if not o.hide_render]
        assert len(visible) == 1, frame
        shown += visible
    assert shown == sorted(shown)
    assert (shown[0], shown[-1]) == (0, count - 1)
    curves = [curve for obj in made for curve in sequences.curves_of(obj)]
    assert len(curves) == 2 * count
    assert {p.interpolation for curve in curves for p in curve.keyframe_points} == {"CONSTANT"}


def test_shape_keys_start_at_zero_and_move_the_one_mesh(learned, worker):
    settings = learned.sdf_shapes
    settings.mode, settings.count = "SHAPE_KEYS", 5
    settings.set_stops(["a", "b", "c"])
    assert bpy.ops.sdf.interpolate() == {"FINISHED"}
    obj = bpy.data.objects["a to c"]
    keys = obj.data.shape_keys.key_blocks
    assert [key.name for key in keys] == ["a", "a to b 50%", "b", "b to c 50%", "c"]
    assert [key.value for key in keys] == [0.0] * 5
    before = world(obj)
    keys["c"].value = 1.0
    shown = obj.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    moved = np.array([obj.matrix_world @ v.co for v in shown.vertices])
    np.testing.assert_allclose(moved - before, [[4, 0, 0]] * 8, atol=1e-5)


def test_a_scan_is_completed_beside_itself(learned, worker):
    scan = add("scan", 5)
    scan.scale = (2, 2, 2)
    learned.sdf_shapes.rotate = True
    assert bpy.ops.sdf.complete() == {"FINISHED"}
    request = worker.requests[-1]
    assert request.arrays["space"].tobytes() == SPACE.tobytes()
    assert (request.body["rotate"], request.body["align"], request.body["tune"]) == (True, True, True)
    made = bpy.data.objects["scan.completed"]
    np.testing.assert_allclose(world(made).min(axis=0), [4, -1, -1], atol=1e-5)
    values = np.empty(8, np.float32)
    made.data.attributes["observed_mask"].data.foreach_get("value", values)
    np.testing.assert_array_equal(values, [1, 1, 1, 1, 0, 0, 0, 0])
    made.data.attributes["observed"].data.foreach_get("value", values)
    np.testing.assert_allclose(values, np.linspace(0, 0.7, 8), atol=1e-6)
    assert len(scan.data.vertices) == 8
    assert scan.scale[:] == (2, 2, 2)


def test_what_was_observed_is_shown_as_colours_and_hidden_again(learned):
    add("scan")
    with pytest.raises(RuntimeError, match="made by Complete Scan"):
        bpy.ops.sdf.show_observed()
    bpy.ops.sdf.complete()
    mesh = bpy.context.object.data
    assert bpy.ops.sdf.show_observed() == {"FINISHED"}
    assert mesh.color_attributes.active_color.name == "observed_colours"
    colours, _ = meshes._point_colours(mesh, 8)
    assert (colours[:4] == colours[0]).all()
    assert colours[0][2] > colours[0][0]  # blue was seen
    assert (colours[4:, 0] > colours[4:, 2]).all()
    bpy.ops.sdf.show_observed()
    assert len(mesh.color_attributes) == 0


def test_poll_says_why(worker):
    for operator in ("show_shape", "interpolate", "complete", "explore", "save_space"):
        with pytest.raises(RuntimeError, match="no shape space: learn one, or load one"):
            getattr(bpy.ops.sdf, operator)()
    add("one")
    with pytest.raises(RuntimeError, match="Selected are 1 objects"):
        bpy.ops.sdf.learn_space()
    with pytest.raises(RuntimeError, match="Select two or more"):
        bpy.ops.sdf.blend()
    with pytest.raises(RuntimeError, match="made by Blend or Explore"):
        bpy.ops.sdf.keep_shape()
    add("two")
    bpy.ops.object.select_all(action="SELECT")
    bpy.ops.sdf.learn_space()
    bpy.ops.object.select_all(action="DESELECT")
    bpy.context.view_layer.objects.active = None
    with pytest.raises(RuntimeError, match="Select the scan"):
        bpy.ops.sdf.complete()


def test_a_blend_is_learned_from_two_objects_and_starts_between_them(worker):
    add("a")
    add("b", 4)
    bpy.ops.object.select_all(action="SELECT")
    bpy.context.scene.sdf_shapes.blend_seconds = 3
    assert bpy.ops.sdf.blend() == {"FINISHED"}
    (body,) = worker.bodies("learn")
    assert (body["names"], body["preset"], body["seconds"]) == (["a", "b"], "draft", 3)
    assert worker.bodies("decode") == []  # its mesh came along
    blend = bpy.data.objects["Blend"]
    np.testing.assert_allclose(world(blend).mean(axis=0)[0], 2, atol=1e-5)
    assert blend.sdf_blend.factor == 0.5
    assert live.is_right(blend)
    assert spaces.has(bpy.context.scene)
    assert contents() == {"a", "b", "Blend"}


def test_a_blend_of_three_has_a_weight_for_each(family, worker):
    bpy.ops.sdf.blend()
    blend = bpy.data.objects["Blend"]
    assert [(w.name, w.value) for w in blend.sdf_blend.weights] == [("a", 1), ("b", 1), ("c", 1)]
    blend.sdf_blend.weights["c"].value = 0
    assert bpy.ops.sdf.refresh_shape() == {"FINISHED"}
    assert worker.bodies("decode")[-1]["weights"] == {"a": 1, "b": 1, "c": 0}
    np.testing.assert_allclose(world(blend).mean(axis=0)[0], 2, atol=1e-5)
    for weight in blend.sdf_blend.weights:
        weight.value = 0
    with pytest.raises(RuntimeError, match="sum to zero"):
        bpy.ops.sdf.refresh_shape()
    np.testing.assert_allclose(world(blend).mean(axis=0)[0], 2, atol=1e-5)


def test_exploring_and_drawing_at_random(learned, worker):
    assert bpy.ops.sdf.explore() == {"FINISHED"}
    obj = bpy.context.object
    assert worker.bodies("decode")[-1]["amounts"] == [0, 0]  # three shapes have two directions
    bpy.context.view_layer.objects.active = obj
    drawn = []
    for seed in (1, 2, 1):
        assert bpy.ops.sdf.randomise(seed=seed) == {"FINISHED"}
        drawn.append(tuple(obj.sdf_blend.amounts))
        assert np.ptp(world(obj)[:, 2]) == pytest.approx(2 + drawn[-1][0], abs=1e-5)
    assert drawn[0] == drawn[2] != drawn[1]
    assert drawn[0][2:] == (0, 0, 0, 0)


def test_a_shape_is_kept_where_it_was_moved_to(worker):
    add("a")
    add("b", 4)
    bpy.ops.object.select_all(action="SELECT")
    bpy.ops.sdf.blend()
    blend = bpy.context.object
    blend.location.z += 10
    blend.sdf_blend.factor = 0.25
    bpy.context.view_layer.update()
    before = contents()
    assert bpy.ops.sdf.keep_shape() == {"FINISHED"}
    assert contents() - before == {"Blend.kept"}
    kept = bpy.data.objects["Blend.kept"]
    assert worker.bodies("decode")[-1]["weights"] == {"a": 0.75, "b": 0.25}
    np.testing.assert_allclose(world(kept).mean(axis=0), [1, 0, 10], atol=1e-5)
    assert kept["sdf_model"] == MODEL
    assert not live.is_live(kept)
    assert bpy.ops.sdf.remesh.poll()
