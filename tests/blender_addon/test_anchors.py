"""What is applied to a mesh, or moved within it, and what the fit knows of it afterwards."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from bl_ext.test.neural_sdf.blender_addon import anchors, queries, requests, results, sizes
from mathutils import Matrix

pytestmark = pytest.mark.blender


def fitted(location=(1.0, 2.0, 3.0), scale=(1.0, 2.0, 0.5)) -> bpy.types.Object:
    bpy.ops.mesh.primitive_monkey_add(location=location, rotation=(0.3, 0.2, 0.1))
    bpy.context.object.scale = scale
    bpy.context.view_layer.update()
    bpy.ops.sdf.fit()
    return bpy.context.object


def world(obj: bpy.types.Object) -> np.ndarray:
    bpy.context.view_layer.update()
    return np.array([obj.matrix_world @ v.co for v in obj.data.vertices])


def only(obj: bpy.types.Object) -> None:
    bpy.ops.object.select_all(action="DESELECT")
    obj.select_set(True)
    bpy.context.view_layer.objects.active = obj


def apply_all() -> None:
    bpy.ops.object.transform_apply(location=True, rotation=True, scale=True)


def origin() -> None:
    bpy.ops.object.origin_set(type="ORIGIN_CURSOR")


def edited() -> None:
    obj = bpy.context.object
    obj.data.transform(Matrix.Translation((0.5, 0, 0)) @ Matrix.Scale(2.0, 4))


@pytest.mark.parametrize("done", [apply_all, origin, edited])
def test_what_is_done_to_a_result_stays_when_it_is_meshed_again(worker, done):
    made = fitted()
    only(made)
    made.location.x += 4  # and it has moved, too
    done()
    there, sides = world(made), queries.places([made])
    assert bpy.ops.sdf.remesh() == {"FINISHED"}
    np.testing.assert_allclose(world(made), there, atol=1e-4)
    np.testing.assert_allclose(queries.places([made]), sides, atol=1e-4)


def test_parts_are_combined_where_they_are_seen(worker):
    made = fitted()
    only(made)
    before = np.array(queries.places([made])[0])
    apply_all()
    np.testing.assert_allclose(queries.places([made])[0], before, atol=1e-5)
    np.testing.assert_allclose(before, np.eye(4), atol=1e-5)


@pytest.mark.parametrize("done", [apply_all, origin])
def test_a_source_that_is_applied_is_the_same_shape_to_its_fit(worker, done):
    made = fitted()
    source = results.source_of(made)
    first = worker.requests[-1].arrays["vertices"]
    only(source)
    done()
    only(made)
    assert bpy.ops.sdf.continue_fit() == {"FINISHED"}
    np.testing.assert_allclose(worker.requests[-1].arrays["vertices"], first, atol=1e-4)


def test_a_source_that_is_edited_is_taken_as_it_is(worker):
    bpy.ops.mesh.primitive_cube_add()
    cube = bpy.context.object
    bpy.ops.sdf.fit()
    made = bpy.context.object
    for vertex in cube.data.vertices:
        vertex.co.z *= 3 if vertex.co.z > 0 else 1  # one side is moved: of a box that is as if all of it were scaled
    bpy.context.view_layer.update()
    only(made)
    assert bpy.ops.sdf.continue_fit() == {"FINISHED"}
    assert worker.requests[-1].arrays["vertices"][:, 2].max() == pytest.approx(3.0)


def test_a_source_applied_while_it_is_fitted(worker, addon):
    bpy.ops.mesh.primitive_monkey_add(location=(1, 2, 3))
    source = bpy.context.object
    worker.hold = True
    addon.runtime().submit(requests.fit_job(source, bpy.context, True))
    for _ in range(3):
        addon.runtime().tick()
    apply_all()
    worker.release()
    for _ in range(3):
        addon.runtime().tick()
    made = bpy.data.objects["Suzanne.sdf"]
    seen, there = world(made), world(source)
    np.testing.assert_allclose(seen.min(axis=0), there.min(axis=0), atol=1e-4)
    np.testing.assert_allclose(seen.max(axis=0), there.max(axis=0), atol=1e-4)


def test_changes_are_found_and_edits_are_not(scene):
    bpy.ops.mesh.primitive_uv_sphere_add(segments=120, ring_count=60)
    mesh = bpy.context.object.data
    known = anchors.of(mesh)
    assert len(known) < 1 + 4 * 27
    np.testing.assert_array_equal(anchors.change(known, mesh), np.eye(4))
    done = Matrix.LocRotScale((5, -3, 1), Matrix.Rotation(1.0, 3, "X"), (2, 0.5, 1))
    mesh.transform(done)
    np.testing.assert_allclose(anchors.change(known, mesh), np.array(done), atol=1e-4)
    rows = np.array(known[1:]).reshape(-1, 4)[:, 0].astype(int)
    mesh.vertices[int(rows[0])].co.x += 1
    np.testing.assert_array_equal(anchors.change(known, mesh), np.eye(4), "sculpted")
    assert anchors.of(bpy.data.curves.new("c", "CURVE")) == []


def test_a_mesh_is_measured_once_however_it_is_turned(scene, monkeypatch):
    bpy.ops.mesh.primitive_uv_sphere_add(segments=160, ring_count=120)
    obj, calls = bpy.context.object, []
    monkeypatch.setattr(sizes, "_measured", {})
    measure = sizes._measure
    monkeypatch.setattr(sizes, "_measure", lambda *words: calls.append(1) or measure(*words))
    for turn in range(4):
        obj.rotation_euler = (0.3 * turn, 0.2 * turn, 0)
        obj.scale = (1 + turn, 1, 1)
        bpy.context.view_layer.update()
        places = np.array([obj.matrix_world @ v.co for v in obj.data.vertices])
        assert sizes.measure(obj)[0] == pytest.approx(np.ptp(places, axis=0).max(), rel=0.01)
    assert len(calls) == 1
