"""Ask: measures in the report, even points as an object, a picture as an image; and what cannot be asked."""

from __future__ import annotations

import math

import bpy
import numpy as np
import pytest
from bl_ext.test.neural_sdf.blender_addon import boxes, doubts, empty, overlaps, panels, queries, query_panels, results
from bl_ext.test.neural_sdf.sdfcore.errors import InputError, SdfError
from bl_ext.test.neural_sdf.sdfcore.protocol import Message
from recorded_panels import draw

pytestmark = pytest.mark.blender


@pytest.fixture
def result(worker):
    """A fit of a cube at (1, 2, 3), active."""
    bpy.ops.mesh.primitive_cube_add(location=(1, 2, 3))
    bpy.ops.sdf.fit()
    made = bpy.context.active_object
    assert results.MODEL in made
    return made


def test_measures_are_kept_and_shown(result, worker):
    assert bpy.ops.sdf.measure() == {"FINISHED"}
    assert results.report(result)["measures"]["volume"] == {"low": 4.18, "high": 4.2}
    assert results.report(result)["recipe"] == "distance", "what was known stays"
    assert worker.bodies("measure")[0]["title"] == result.name
    shown = draw(query_panels.SDF_PT_ask).texts("label")
    assert "4.19 ± 0.01" in shown
    assert {"Centroid Z", "Inertia Z", "1.68 ± 0.01"} <= set(shown)
    bpy.ops.sdf.continue_fit()
    assert "measures" not in results.report(result), "another model has others"


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(4.18, 4.2, "4.19 ± 0.01"), (1.0, 1.0, "1"), (99.5, 100.5, "100.0 ± 0.5"), (-0.001, 0.001, "0.000 ± 0.001")],
)
def test_limits_have_the_digits_that_are_certain(low, high, text):
    assert query_panels.limits(low, high) == text


def test_even_points_lie_over_the_result_wherever_it_is_now(result, worker):
    result.location.x += 10
    result.scale = (2, 2, 2)
    bpy.context.view_layer.update()
    bpy.context.scene.sdf.even_points = 200
    bpy.context.scene.sdf.level = 0.1
    assert bpy.ops.sdf.even_points() == {"FINISHED"}
    made = bpy.data.objects[result.name + queries.POINTS_SUFFIX]
    assert worker.bodies("even_points")[0] | {"device": "", "title": ""} == {
        "count": 200, "level": pytest.approx(0.1), "edges": 0.0, "seed": 0, "device": "", "title": ""
    }  # fmt: skip
    assert len(made.data.vertices) == 200
    assert len(made.data.polygons) == 0
    bpy.context.view_layer.update()
    places = np.array([made.matrix_world @ v.co for v in made.data.vertices])
    distance = np.linalg.norm(places - [11, 2, 3], axis=1)
    np.testing.assert_allclose(distance, 2.0, rtol=1e-4)
    normals = np.array([v.vector for v in made.data.attributes["normal"].data])
    outward = (places - [11, 2, 3]) / distance[:, None]
    np.testing.assert_allclose(normals, outward, atol=1e-4)
    assert made.users_collection == result.users_collection


def test_empty_space_as_boxes_over_the_result(result, worker):
    result.location.x += 10
    bpy.context.view_layer.update()
    bpy.context.scene.sdf.empty_boxes = 16
    assert bpy.ops.sdf.empty_space() == {"FINISHED"}
    assert worker.bodies("space")[0]["smallest"] == 1 / 16
    made = bpy.data.objects[result.name + empty.SUFFIX]
    assert len(made.data.polygons) == 12, "the box of which it is open is left out"
    assert [v.value for v in made.data.attributes[boxes.STATE].data] == 6 * [1] + 6 * [-1]
    bpy.context.view_layer.update()
    places = np.array([made.matrix_world @ v.co for v in made.data.vertices])
    np.testing.assert_allclose([places.min(axis=0), places.max(axis=0)], [[10, 1, 2], [12, 2, 3]], atol=1e-5)
    outward = [p.normal @ (p.center - sum((made.data.vertices[v].co for v in range(8)), p.center * 0) / 8)
               for p in list(made.data.polygons)[:6]]  # fmt: skip
    assert min(outward) > 0


def camera(location=(1, -10, 3), rotation=(math.pi / 2, 0, 0)):
    data = bpy.data.cameras.new("Camera")
    held = bpy.data.objects.new("Camera", data)
    bpy.context.scene.collection.objects.link(held)
    held.location, held.rotation_euler = location, rotation
    bpy.context.scene.camera = held
    bpy.context.view_layer.update()
    return held


def test_a_picture_from_the_scenes_camera(result, worker):
    held = camera()
    render = bpy.context.scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = 40, 60, 50
    bpy.context.scene.sdf.certain = True
    assert bpy.ops.sdf.picture() == {"FINISHED"}
    (body,) = worker.bodies("render")
    assert (body["width"], body["height"], body["certain"]) == (20, 30, True)
    np.testing.assert_allclose(body["camera"]["position"], [1, -10, 3], atol=1e-5)
    np.testing.assert_allclose(body["camera"]["target"], [1, -9, 3], atol=1e-5)
    np.testing.assert_allclose(body["camera"]["up"], [0, 0, 1], atol=1e-5)
    assert body["camera"]["angle"] == pytest.approx(math.degrees(held.data.angle), abs=1e-4)
    image = bpy.data.images[result.name + queries.PICTURE_SUFFIX]
    assert tuple(image.size) == (20, 30)
    pixels = np.array(image.pixels).reshape(30, 20, 4)
    np.testing.assert_allclose(pixels[-1, 0], [1.0, 0.5, 0.25, 1.0], atol=0.01)
    assert pixels[0].max() == 0
    assert image.packed_file is not None
    render.resolution_x = 44
    bpy.ops.sdf.picture()
    assert tuple(image.size) == (22, 30)
    assert len([i for i in bpy.data.images if queries.PICTURE_SUFFIX in i.name]) == 1


def test_the_camera_moves_with_the_result(result):
    camera()
    result.location.x += 5
    bpy.context.view_layer.update()
    told = queries.camera_of(result, bpy.context.scene)
    np.testing.assert_allclose(told["position"], [-4, -10, 3], atol=1e-5)


@pytest.mark.parametrize(("fit", "width", "height"), [("HORIZONTAL", 40, 60), ("VERTICAL", 60, 40), ("AUTO", 60, 40)])
def test_the_angle_is_that_of_the_longer_side(result, fit, width, height):
    held = camera()
    held.data.sensor_fit = fit
    render = bpy.context.scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = width, height, 100
    angle = math.radians(queries.camera_of(result, bpy.context.scene)["angle"])
    frame = held.data.view_frame(scene=bpy.context.scene)
    longer = max(abs(corner.x / corner.z) for corner in frame), max(abs(corner.y / corner.z) for corner in frame)
    assert math.tan(angle / 2) == pytest.approx(max(longer), rel=1e-4)


def test_what_cannot_be_asked(result, worker):
    assert not bpy.ops.sdf.picture.poll(), "there is no camera"
    with pytest.raises(InputError, match="camera"):
        queries.camera_of(result, bpy.context.scene)
    camera().data.type = "ORTHO"
    assert not bpy.ops.sdf.picture.poll()
    bpy.context.view_layer.objects.active = None
    assert not bpy.ops.sdf.measure.poll()
    assert not query_panels.SDF_PT_ask.poll(bpy.context)


def test_the_cursor_goes_to_the_surface(result, worker):
    result.location.x += 10
    result.scale = (2, 2, 2)
    scene = bpy.context.scene
    scene.cursor.location = (11, 2, 3)
    bpy.context.view_layer.update()
    assert bpy.ops.sdf.nearest() == {"FINISHED"}
    np.testing.assert_allclose(worker.bodies("closest")[0]["point"], [1, 2, 3], atol=1e-5)
    np.testing.assert_allclose(scene.cursor.location, [11, 2, 4], atol=1e-5)
    assert "It was 1 m away, inside" in draw(query_panels.SDF_PT_ask).texts("label")


def test_a_certain_mesh_says_so(result, worker):
    settings = bpy.context.scene.sdf
    settings.certain, settings.wall = True, 0.25
    bpy.ops.sdf.remesh()
    assert worker.bodies("extract")[-1]["certain"] is True
    assert worker.bodies("extract")[-1]["wall"] == pytest.approx(0.25)


def test_where_a_certain_mesh_is_in_doubt_is_shown_over_it(result, worker):
    settings = bpy.context.scene.sdf
    settings.certain = True
    result.location.x += 10
    bpy.context.view_layer.update()
    worker.in_doubt = True
    bpy.ops.sdf.remesh()
    made = result[doubts.POINTER]
    assert [v.value for v in made.data.attributes[boxes.STATE].data] == 6 * [1] + 6 * [2]
    bpy.context.view_layer.update()
    places = np.array([made.matrix_world @ v.co for v in made.data.vertices])
    np.testing.assert_allclose([places.min(axis=0), places.max(axis=0)], [[10, 1, 2], [12, 2, 3]], atol=1e-5)
    assert made.visible_get()
    assert "Missing: something" in draw(panels.SDF_PT_result).texts("label")
    worker.in_doubt = False
    bpy.ops.sdf.remesh()
    assert result[doubts.POINTER] == made
    assert len(made.data.polygons) == 0, "this mesh is in no doubt"


def test_boxes_of_doubt_are_not_rendered_and_can_be_deleted(result, worker):
    bpy.context.scene.sdf.certain, worker.in_doubt = True, True
    bpy.ops.sdf.remesh()
    made = result[doubts.POINTER]
    assert made.hide_render
    bpy.ops.object.select_all(action="DESELECT")
    made.select_set(True)
    bpy.ops.object.delete()
    assert made.name in bpy.data.objects, "the result points to it"
    bpy.context.view_layer.objects.active = result
    result.select_set(True)
    count = len(bpy.data.objects)
    assert bpy.ops.sdf.remesh() == {"FINISHED"}
    assert result[doubts.POINTER].visible_get()
    assert len(bpy.data.objects) == count, "the deleted one is gone for good"


def test_a_copy_has_boxes_and_a_picture_of_its_own(result, worker):
    bpy.context.scene.sdf.certain, worker.in_doubt = True, True
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    bpy.context.scene.collection.objects.link(camera)
    bpy.context.scene.camera = camera
    bpy.ops.sdf.remesh()
    bpy.ops.sdf.picture()
    boxes_before, picture = result[doubts.POINTER], result[queries.PICTURE]
    mesh = boxes_before.data
    bpy.ops.object.select_all(action="DESELECT")
    result.select_set(True)
    bpy.context.view_layer.objects.active = result
    bpy.ops.object.duplicate()
    copy = bpy.context.active_object
    assert copy[doubts.POINTER] == boxes_before
    copy.location.x += 5
    bpy.ops.sdf.remesh()
    bpy.ops.sdf.picture()
    assert (copy[doubts.POINTER], copy[queries.PICTURE]) != (boxes_before, picture)
    assert boxes_before.data == mesh
    assert result[doubts.POINTER] == boxes_before


def test_selected_results_are_combined_where_they_stand(result, worker):
    bpy.ops.object.select_all(action="DESELECT")
    bpy.ops.mesh.primitive_cube_add(location=(5, 0, 0))
    bpy.ops.sdf.fit()
    other = bpy.context.active_object
    other.location.x += 1
    bpy.context.view_layer.update()
    assert not bpy.ops.sdf.combine.poll(), "one alone"
    result.select_set(True)
    settings = bpy.context.scene.sdf
    settings.combine_operation, settings.combine_radius, settings.combine_style = "difference", 0.25, "round"
    assert "Combine 2 Results" in draw(query_panels.SDF_PT_combine).texts("operator")
    assert bpy.ops.sdf.combine() == {"FINISHED"}
    (body,) = worker.bodies("combine")
    assert (body["operation"], body["style"], body["radius"]) == ("difference", "round", pytest.approx(0.25))
    np.testing.assert_allclose(np.array(body["places"][0])[:3, 3], [1, 0, 0], atol=1e-6)  # the active one first
    np.testing.assert_allclose(body["places"][1], np.eye(4), atol=1e-6)
    made = bpy.context.view_layer.objects[f"{other.name}.difference"]
    assert results.MODEL in made
    assert results.report(made)["recipe"] == "combined"
    np.testing.assert_allclose(made.matrix_world, np.eye(4), atol=1e-6)
    assert results.source_of(made) is None
    assert {result.name, other.name} <= set(bpy.data.objects.keys())
    made.select_set(True)
    settings.combine_operation = "morph"
    assert not bpy.ops.sdf.combine.poll(), "three"


def test_two_results_are_asked_whether_they_overlap(result, worker):
    bpy.ops.object.select_all(action="DESELECT")
    bpy.ops.mesh.primitive_cube_add(location=(2.5, 2, 3))
    bpy.ops.sdf.fit()
    assert not bpy.ops.sdf.overlap.poll()
    result.select_set(True)
    assert bpy.ops.sdf.overlap() == {"FINISHED"}
    assert len(worker.bodies("overlap")[0]["places"]) == 2
    empty = bpy.data.objects[overlaps.WITNESS]
    np.testing.assert_allclose(empty.location, [3.0, 1.0, 1.5])
    shown = " ".join(draw(query_panels.SDF_PT_ask).texts("label"))
    assert "overlap" in shown
    result.location.x += 0.5
    bpy.context.view_layer.update()
    assert "overlap" not in " ".join(draw(query_panels.SDF_PT_ask).texts("label")), "it stands elsewhere now"
    result.location.x -= 0.5
    bpy.context.view_layer.update()
    owner = bpy.context.active_object
    assert overlaps.told_of(owner)
    assert bpy.ops.sdf.continue_fit() == {"FINISHED"}
    assert not overlaps.told_of(owner)


def test_an_answer_about_the_fit_before_is_no_answer(result, worker):
    job = queries.measure_job(result, bpy.context)
    result[results.MODEL] = bytes(result[results.MODEL]) + b"anew"
    with pytest.raises(SdfError, match="fitted anew"):
        job.target["put"](Message("measure", "", {"measures": {}}, {}), bpy.context)


@pytest.mark.parametrize("spoil", ["mirror", "uneven", "flat", "shift", "aspect"])
def test_what_no_camera_of_the_field_could_see_is_refused(result, spoil):
    held = camera()
    if spoil == "shift":
        held.data.shift_x = 0.1
    elif spoil == "aspect":
        bpy.context.scene.render.pixel_aspect_x = 2.0
    else:
        result.scale = {"mirror": (-1, 1, 1), "uneven": (1, 2, 1), "flat": (1, 1, 0)}[spoil]
    bpy.context.view_layer.update()
    with pytest.raises(InputError):
        queries.camera_of(result, bpy.context.scene)
    bpy.context.scene.render.pixel_aspect_x = 1.0


def test_a_long_name_has_one_picture(result, worker):
    camera()
    result.name = "a" * 62
    for _ in range(2):
        assert bpy.ops.sdf.picture() == {"FINISHED"}
    assert len([image for image in bpy.data.images if image.name.startswith("aaaa")]) == 1


def test_what_is_made_is_where_the_user_sees_it(result, worker):
    away = bpy.data.collections.new("Archive")
    bpy.context.scene.collection.children.link(away)
    for home in list(result.users_collection):
        home.objects.unlink(result)
    away.objects.link(result)
    shown = bpy.data.collections.new("Shown")
    bpy.context.scene.collection.children.link(shown)
    shown.objects.link(result)
    bpy.context.view_layer.layer_collection.children["Archive"].exclude = True
    assert results.home_of(result, bpy.context) == shown
    bpy.context.view_layer.layer_collection.children["Shown"].exclude = True
    assert results.home_of(result, bpy.context) == results.collection(bpy.context.scene)
