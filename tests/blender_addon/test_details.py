"""Detail apart: the base with its attribute, other strengths, and detail from one result to another."""

from __future__ import annotations

import json

import bpy
import numpy as np
import pytest
from bl_ext.test.neural_sdf.blender_addon import details, query_panels, results
from recorded_panels import draw

pytestmark = pytest.mark.blender


def fitted(location=(1, 2, 3), recipe="idf"):
    """A result at ``location``, said to be of ``recipe``; active and alone."""
    for held in list(bpy.context.selected_objects):
        held.select_set(False)
    bpy.ops.mesh.primitive_cube_add(location=location)
    bpy.ops.sdf.fit()
    made = bpy.context.active_object
    assert results.MODEL in made
    made[results.REPORT] = json.dumps({**results.report(made), "recipe": recipe})
    return made


def test_the_base_lies_in_the_result_with_the_detail_on_it(worker):
    result = fitted()
    result.location.x += 10
    result.scale = (2, 2, 2)
    bpy.context.view_layer.update()
    bpy.context.scene.sdf.resolution = 64
    assert bpy.ops.sdf.split_detail() == {"FINISHED"}
    assert worker.bodies("split_detail")[0]["resolution"] == 64
    made = bpy.data.objects[result.name + details.BASE_SUFFIX]
    bpy.context.view_layer.update()
    places = np.array([made.matrix_world @ v.co for v in made.data.vertices])
    np.testing.assert_allclose([places.min(axis=0), places.max(axis=0)], [[9, 0, 1], [13, 4, 5]], atol=1e-5)
    told = [v.value for v in made.data.attributes[details.ATTRIBUTE].data]
    np.testing.assert_allclose(told, 0.25)


def test_another_strength_is_another_result(worker):
    result = fitted()
    result.location.x += 10
    bpy.context.view_layer.update()
    bpy.context.scene.sdf.detail_strength = 2.5
    assert bpy.ops.sdf.detail_strength() == {"FINISHED"}
    assert worker.bodies("detail_strength")[0]["strength"] == 2.5
    made = bpy.data.objects[result.name + details.DETAIL_SUFFIX]
    assert results.MODEL in made
    assert details.has_detail(made)
    bpy.context.view_layer.update()
    np.testing.assert_allclose(np.array(made.matrix_world), np.array(result.matrix_world), atol=1e-6)
    places = np.array([made.matrix_world @ v.co for v in made.data.vertices])
    np.testing.assert_allclose(places.min(axis=0), [10, 1, 2], atol=1e-5)


def test_detail_goes_onto_the_active_result_where_both_stand(worker):
    source, target = fitted(), fitted((4, 2, 3), recipe="distance")
    assert not bpy.ops.sdf.transfer_detail.poll()
    source.location.x += 3
    bpy.context.view_layer.update()
    source.select_set(True)
    target.select_set(True)
    bpy.context.view_layer.objects.active = target
    assert bpy.ops.sdf.transfer_detail.poll()
    assert {"sdf.transfer_detail", "sdf.split_detail"} <= set(draw(query_panels.SDF_PT_detail).texts("operator"))
    assert bpy.ops.sdf.transfer_detail() == {"FINISHED"}
    (body,) = worker.bodies("transfer_detail")
    onto, taken = (np.array(place) for place in body["places"])
    np.testing.assert_allclose(onto, np.eye(4), atol=1e-6)
    np.testing.assert_allclose(taken[:3, 3], [3, 0, 0], atol=1e-6)
    made = bpy.data.objects[target.name + details.DETAIL_SUFFIX]
    told = {**results.report(made), "recipe": "distance", "detail": 1.0}
    made[results.REPORT] = json.dumps(told)  # as the backend says it of a target of another recipe
    assert details.has_detail(made)
    made[results.REPORT] = json.dumps({**told, "detail": None})
    assert not details.has_detail(made)
    bpy.context.view_layer.objects.active = source
    assert not bpy.ops.sdf.transfer_detail.poll(), "the target has none to give"


def test_results_of_other_recipes_have_no_detail(worker):
    fitted(recipe="distance")
    assert not bpy.ops.sdf.split_detail.poll()
    assert not bpy.ops.sdf.detail_strength.poll()
    assert not query_panels.SDF_PT_detail.poll(bpy.context)
