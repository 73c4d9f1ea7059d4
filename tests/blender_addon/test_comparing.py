"""Compare With: other methods' meshes beside the source, through the worker or by Blender itself."""

from __future__ import annotations

import json
from types import SimpleNamespace

import bpy
import numpy as np
import pytest
from bl_ext.test.neural_sdf.blender_addon import comparing, meshes, panels
from bl_ext.test.neural_sdf.sdfcore import peers
from recorded_panels import draw

pytestmark = pytest.mark.blender


def test_all_methods_of_the_backend_are_offered():
    ours = {name for name, _, _ in comparing.METHODS}
    assert ours == set(peers.PEERS) | set(comparing._MODES)


def test_a_method_of_the_backend_puts_its_mesh_beside_the_source(worker):
    bpy.ops.mesh.primitive_monkey_add(location=(1, 2, 3))
    bpy.context.scene.sdf.resolution = 64
    assert bpy.ops.sdf.compare_with(method="hoppe") == {"FINISHED"}
    made = bpy.data.objects["Suzanne.hoppe"]
    assert [c.name for c in made.users_collection] == ["SDF"]
    assert worker.bodies("compare_with")[0]["method"] == "hoppe"
    assert worker.bodies("compare_with")[0]["resolution"] == 64
    told = json.loads(made["sdf_report"])
    assert told["metrics"]["chamfer"] == 0.0012
    assert "sdf_model" not in made  # there is nothing to mesh again
    assert bpy.context.object == made
    shown = draw(panels.SDF_PT_result)
    assert "1.2 mm" in shown.texts("label")
    assert "sdf.remesh" not in shown.texts("operator")
    assert bpy.data.objects["Suzanne"].data.users == 1


@pytest.mark.parametrize(("method", "tolerance"), [("voxel", 0.03), ("smooth", 0.1)])
def test_blenders_own_remeshing_is_sent_to_be_measured(worker, method, tolerance):
    bpy.ops.mesh.primitive_uv_sphere_add(segments=48, ring_count=24, radius=2, location=(5, 0, 0))
    before = len(bpy.data.objects), len(bpy.data.meshes)
    bpy.context.scene.sdf.resolution = 64
    assert bpy.ops.sdf.compare_with(method=method) == {"FINISHED"}
    sent = next(m for m in worker.requests if m.kind == "compare_with").arrays
    away = np.linalg.norm(sent["result_vertices"] - [5, 0, 0], axis=1)
    assert np.abs(away - 2).max() < 2 * tolerance
    assert meshes.is_closed(sent["result_faces"])
    assert len(sent["result_faces"]) > len(sent["faces"])
    assert (len(bpy.data.objects), len(bpy.data.meshes)) == (before[0] + 1, before[1] + 1)


def test_points_without_faces_cannot_be_remeshed_by_blender(worker):
    bpy.ops.mesh.primitive_monkey_add()
    mesh = bpy.context.object.data
    places = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", places)
    mesh.clear_geometry()
    mesh.vertices.add(len(places) // 3)
    mesh.vertices.foreach_set("co", places)
    with pytest.raises(RuntimeError, match="needs faces"):
        bpy.ops.sdf.compare_with(method="voxel")
    assert not worker.bodies("compare_with")


def test_without_a_method_the_search_asks_for_one(addon):
    """From Blender's search nothing is chosen yet, and the last method is not to be taken unasked."""
    shown = []
    manager = SimpleNamespace(popup_menu=lambda draw, title: shown.append((draw, title)))
    unnamed = SimpleNamespace(properties=SimpleNamespace(is_property_set=lambda _name: False), bl_label="Compare With")
    invoke = comparing.SDF_OT_compare_with.invoke
    assert invoke(unnamed, SimpleNamespace(window_manager=manager), None) == {"INTERFACE"}
    drawn = []
    layout = SimpleNamespace(operator_enum=lambda *words: drawn.append(words), operator_context="")
    shown[0][0](SimpleNamespace(layout=layout), None)
    assert drawn == [("sdf.compare_with", "method")]
    assert layout.operator_context == "INVOKE_DEFAULT", "else the window would wait for the worker"
    assert bpy.ops.sdf.compare_with.get_rna_type().properties["method"].is_skip_save
