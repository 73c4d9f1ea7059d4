"""The skeleton of a result as a mesh with radii, and an armature of it."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from bl_ext.test.neural_sdf.blender_addon import query_panels, results, skeletons
from recorded_panels import draw

pytestmark = pytest.mark.blender


@pytest.fixture
def skeleton(worker):
    """Of a fit of a cube at (1, 2, 3) that was made twice as large and moved by 10 since; active."""
    bpy.ops.mesh.primitive_cube_add(location=(1, 2, 3))
    bpy.ops.sdf.fit()
    result = bpy.context.active_object
    assert results.MODEL in result
    result.location.x += 10
    result.scale = (2, 2, 2)
    bpy.context.view_layer.update()
    bpy.context.scene.sdf.skeleton_delta = 0.1
    assert bpy.ops.sdf.skeleton() == {"FINISHED"}
    made = bpy.data.objects[result.name + skeletons.SUFFIX]
    bpy.context.view_layer.update()
    bpy.context.view_layer.objects.active = made
    return made


def test_it_lies_in_the_result_with_its_radii(skeleton, worker):
    (body,) = worker.bodies("skeleton")
    assert body["delta"] == pytest.approx(0.1)
    places = np.array([skeleton.matrix_world @ v.co for v in skeleton.data.vertices])
    np.testing.assert_allclose(places, [[11, 2, 2], [11, 2, 3], [11, 2, 4], [12, 2, 3]], atol=1e-5)
    radii = [v.value for v in skeleton.data.attributes[skeletons.RADIUS].data]
    np.testing.assert_allclose(radii, 0.5, atol=1e-6)
    assert len(skeleton.data.edges) == 4, "three links and the side of a triangle"
    assert len(skeleton.data.polygons) == 1
    assert skeletons.is_skeleton(skeleton)
    assert not skeletons.is_skeleton(None)
    assert "sdf.armature" in draw(query_panels.SDF_PT_skeleton).texts("operator")


def test_its_armature_has_a_bone_along_each_link_of_the_tree(skeleton):
    assert bpy.ops.sdf.armature() == {"FINISHED"}
    made = bpy.context.active_object
    assert made.type == "ARMATURE"
    assert bpy.context.mode == "OBJECT"
    bpy.context.view_layer.update()
    bones = {bone.name: bone for bone in made.data.bones}
    assert set(bones) == {"Bone.001", "Bone.002", "Bone.003"}
    ends = {n: [made.matrix_world @ p for p in (b.head_local, b.tail_local)] for n, b in bones.items()}
    np.testing.assert_allclose(ends["Bone.001"], [[11, 2, 2], [11, 2, 3]], atol=1e-5)
    np.testing.assert_allclose(ends["Bone.003"], [[11, 2, 3], [12, 2, 3]], atol=1e-5)
    assert bones["Bone.001"].parent is None
    assert bones["Bone.002"].parent.name == bones["Bone.003"].parent.name == "Bone.001"
    assert bones["Bone.002"].use_connect
    assert bones["Bone.002"].tail_radius == pytest.approx(0.5)


def test_a_skeleton_that_was_edited_is_refused(skeleton):
    parents = skeleton.data.attributes[skeletons.PARENT].data
    parents[0].value = 2
    with pytest.raises(RuntimeError, match="Make the skeleton again"):
        bpy.ops.sdf.armature()
    parents[0].value = 9
    with pytest.raises(RuntimeError, match="Make the skeleton again"):
        bpy.ops.sdf.armature()
    assert not bpy.data.armatures


def test_without_a_skeleton_there_is_no_armature(worker):
    bpy.ops.mesh.primitive_cube_add()
    assert not bpy.ops.sdf.armature.poll()
    assert not query_panels.SDF_PT_skeleton.poll(bpy.context)
