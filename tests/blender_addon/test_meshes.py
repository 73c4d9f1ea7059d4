"""Reading and writing Blender's meshes: coordinates, orientation, colours, materials."""

from __future__ import annotations

import math

import bpy
import numpy as np
import pytest
from bl_ext.test.neural_sdf.blender_addon import meshes
from bl_ext.test.neural_sdf.sdfcore.errors import EmptyInputError, InputError
from bl_ext.test.neural_sdf.sdfcore.geometry import Mesh, PointCloud
from mathutils import Euler, Matrix

pytestmark = pytest.mark.blender

MATRICES = {
    "moved": Matrix.Translation((1, 2, 3)) @ Euler((0.3, 0.2, 0.1)).to_matrix().to_4x4(),
    "stretched": Matrix.Diagonal((2, 3, 0.5, 1)),
    "mirrored": Matrix.Translation((1, 0, 0)) @ Matrix.Diagonal((-1, 2, 1, 1)),
    "sheared": Matrix(((1, 0.5, 0, 0), (0, 1, 0.25, 0), (0, 0, 1, 0), (0, 0, 0, 1))),
    "thrice mirrored": Matrix.Diagonal((-1, -2, -1, 1)),
}


def sphere() -> bpy.types.Object:
    bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=4, radius=1)
    return bpy.context.object


def read(obj: bpy.types.Object, **options: object) -> meshes.Reading:
    bpy.context.view_layer.update()
    return meshes.read(obj, bpy.context.evaluated_depsgraph_get(), **options)


def place(obj: bpy.types.Object, matrix: Matrix) -> None:
    """Any affine matrix, sheared ones too: an object's own would lose the shear."""
    parent = bpy.data.objects.new("parent", None)
    bpy.context.scene.collection.objects.link(parent)
    obj.parent = parent
    obj.matrix_parent_inverse = matrix
    bpy.context.view_layer.update()


@pytest.mark.parametrize("name", MATRICES)
def test_world_coordinates_have_outward_faces_and_the_scaled_volume(scene, name):
    obj = sphere()
    place(obj, MATRICES[name])
    shape = read(obj).shape
    expected = 4 / 3 * math.pi * abs(MATRICES[name].determinant())
    assert shape.volume() == pytest.approx(expected, rel=0.01)
    np.testing.assert_allclose(shape.vertices[7], MATRICES[name] @ obj.data.vertices[7].co, atol=1e-5)


@pytest.mark.parametrize("name", MATRICES)
def test_written_mesh_overlaps_its_source_and_faces_outward(scene, name):
    obj = sphere()
    place(obj, MATRICES[name])
    shape = read(obj).shape
    matrix = meshes.placement(meshes.affine(obj.matrix_world, obj.name))
    mesh = bpy.data.meshes.new("copy")
    meshes.fill_from_world(mesh, shape, matrix)
    mesh.validate()
    copy = bpy.data.objects.new("copy", mesh)
    scene.collection.objects.link(copy)
    copy.matrix_world = Matrix(matrix.tolist())
    bpy.context.view_layer.update()
    world = [np.array([o.matrix_world @ v.co for v in o.data.vertices]) for o in (obj, copy)]
    np.testing.assert_allclose(*world, atol=1e-5)
    assert len(mesh.polygons) == len(obj.data.polygons)
    # In local space, as Blender wants them: the normal points away from the centre.
    assert min(p.normal.dot(p.center) for p in mesh.polygons) > 0.3
    assert all(p.use_smooth for p in mesh.polygons)


def test_modifiers_are_applied_unless_asked_not_to(scene):
    obj = sphere()
    obj.modifiers.new("sub", "SUBSURF").levels = 1
    assert len(read(obj).shape.vertices) > 3 * len(obj.data.vertices)
    assert len(read(obj, modifiers=False).shape.vertices) == len(obj.data.vertices)


def test_a_given_matrix_replaces_the_objects_own(scene):
    obj = sphere()
    obj.location = (5, 0, 0)
    shape = read(obj, matrix=Matrix.Diagonal((2, 2, 2, 1))).shape
    np.testing.assert_allclose(np.linalg.norm(shape.vertices, axis=1), 2, atol=1e-5)


@pytest.mark.parametrize("attribute", ["normal", "nx ny nz"])
@pytest.mark.parametrize("name", MATRICES)
def test_scanned_normals_stay_outward(scene, name, attribute):
    directions = np.random.default_rng(0).normal(size=(500, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    obj = meshes.points_object("scan", PointCloud(directions, directions if attribute == "normal" else None))
    if attribute != "normal":
        for axis, part in enumerate(attribute.split()):
            meshes.set_floats(obj.data, part, directions[:, axis])
    scene.collection.objects.link(obj)
    place(obj, MATRICES[name])
    cloud = read(obj).shape
    assert isinstance(cloud, PointCloud)
    # The ellipsoid |M⁻¹x| = 1 has the outward normal M⁻ᵀM⁻¹x.
    inverse = np.array(MATRICES[name].inverted())
    unit = cloud.points @ inverse[:3, :3].T + inverse[:3, 3]
    expected = unit @ inverse[:3, :3]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(cloud.normals, expected, atol=1e-4)


def test_loose_vertices_without_normals_get_none(scene):
    mesh = bpy.data.meshes.new("loose")
    mesh.from_pydata([(0, 0, 1), (1, 0, 0), (0, 1, 0)], [], [])
    obj = bpy.data.objects.new("loose", mesh)
    scene.collection.objects.link(obj)
    shape = read(obj).shape
    assert isinstance(shape, PointCloud)
    assert shape.normals is None
    assert shape.colours is None


def test_blenders_ply_import_of_points_is_read_with_normals_and_colours(scene, tmp_path):
    path = tmp_path / "scan.ply"
    rows = ["0 0 1 0 0 1 255 0 0", "1 0 0 1 0 0 0 255 0", "0 1 0 0 1 0 0 128 255"]
    names = [f"float {n}" for n in ("x", "y", "z", "nx", "ny", "nz")] + [f"uchar {n}" for n in ("red", "green", "blue")]
    header = ["ply", "format ascii 1.0", "element vertex 3", *(f"property {n}" for n in names), "end_header"]
    path.write_text("\n".join([*header, *rows, ""]))
    bpy.ops.wm.ply_import(filepath=str(path), forward_axis="Y", up_axis="Z")
    reading = read(bpy.context.object)
    np.testing.assert_allclose(reading.shape.points, [[0, 0, 1], [1, 0, 0], [0, 1, 0]], atol=1e-6)
    np.testing.assert_allclose(reading.shape.normals, reading.shape.points, atol=1e-6)
    np.testing.assert_array_equal(reading.shape.colours[:, :3], [[255, 0, 0], [0, 255, 0], [0, 128, 255]])
    assert reading.colour_name


@pytest.mark.parametrize("add", ["curve", "text", "metaball"])
def test_curves_texts_and_metaballs_are_read_as_surfaces(scene, add):
    if add == "curve":
        bpy.ops.curve.primitive_bezier_circle_add()
        bpy.context.object.data.bevel_depth = 0.2
    elif add == "text":
        bpy.ops.object.text_add()
        bpy.context.object.data.extrude = 0.2
    else:
        bpy.ops.object.metaball_add()
    shape = read(bpy.context.object).shape
    assert isinstance(shape, Mesh)
    assert len(shape.faces) > 50


def test_a_point_cloud_object_is_read(scene):
    directions = np.eye(3, dtype=np.float32)
    obj = meshes.points_object("scan", PointCloud(directions, directions, np.full((3, 4), 200, np.uint8)))
    scene.collection.objects.link(obj)
    bpy.context.view_layer.objects.active = obj
    obj.select_set(True)
    if bpy.app.version < (4, 5):  # no way yet to make one with points in it
        empty = bpy.data.objects.new("empty", bpy.data.pointclouds.new("empty"))
        with pytest.raises(EmptyInputError, match="empty"):
            read(empty)
        return
    bpy.ops.object.convert(target="POINTCLOUD")
    obj = bpy.context.object
    assert obj.type == "POINTCLOUD"
    obj.location.x = 5
    cloud = read(obj).shape
    np.testing.assert_allclose(cloud.points, directions + np.array([5, 0, 0]))
    np.testing.assert_allclose(cloud.normals, directions)
    np.testing.assert_array_equal(cloud.colours, np.full((3, 4), 200))


def test_materials_are_those_shown_on_each_triangle(scene):
    obj = sphere()
    red, green, blue = (bpy.data.materials.new(n) for n in ("red", "green", "blue"))
    for material in (red, None, green):
        obj.data.materials.append(material)
    obj.material_slots[2].link = "OBJECT"
    obj.material_slots[2].material = blue
    for polygon in obj.data.polygons:
        polygon.material_index = 2 if polygon.center.z > 0 else 0
    reading = read(obj)
    assert reading.materials == (red.session_uid, 0, blue.session_uid)
    up = reading.shape.triangles[:, :, 2].mean(axis=1) > 0
    np.testing.assert_array_equal(reading.face_material, np.where(up, 2, 0))


@pytest.mark.parametrize("domain", ["POINT", "CORNER"])
def test_colours_survive_reading_and_writing(scene, domain):
    obj = sphere()
    layer = obj.data.color_attributes.new("Paint", "BYTE_COLOR", domain)
    layer.data.foreach_set("color_srgb", np.tile([1.0, 0.5, 0.0, 1.0], len(layer.data)).astype(np.float32))
    reading = read(obj)
    assert reading.colour_name == "Paint"
    np.testing.assert_array_equal(np.unique(reading.shape.colours, axis=0), [[255, 128, 0, 255]])
    copy = meshes.mesh_object("copy", reading.shape)
    again, _ = meshes._point_colours(copy.data, len(copy.data.vertices))
    np.testing.assert_array_equal(again, reading.shape.colours)


def test_a_closed_surface_is_told_from_others():
    closed = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]], np.int32)
    assert meshes.is_closed(closed)
    assert not meshes.is_closed(closed[:3])
    assert not meshes.is_closed(np.concatenate([closed[:3], closed[3:, ::-1]]))  # one face turned over
    assert not meshes.is_closed(np.concatenate([closed, closed]))
    assert not meshes.is_closed(np.zeros((0, 3), np.int32))


def test_what_cannot_be_read_says_why(scene):
    obj = sphere()
    obj.scale = (1, 0, 1)
    with pytest.raises(InputError, match="scale of zero"):
        read(obj)
    obj.scale = (1, 1, 1)
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(InputError, match="edited"):
        read(obj)
    bpy.ops.object.mode_set(mode="OBJECT")
    obj.data.vertices[0].co.x = float("nan")
    with pytest.raises(InputError, match="not finite"):
        read(obj)
    obj.data.clear_geometry()
    with pytest.raises(EmptyInputError, match="neither faces nor points"):
        read(obj)
    bpy.ops.object.light_add()
    with pytest.raises(InputError, match="type Light"):
        read(bpy.context.object)


def subdivided(scene) -> bpy.types.Object:
    bpy.ops.mesh.primitive_cube_add()
    obj = bpy.context.object
    obj.modifiers.new("finer", "SUBSURF")
    home = bpy.data.collections.new("home")
    scene.collection.children.link(home)
    home.objects.link(obj)
    scene.collection.objects.unlink(obj)
    return obj


def referred_to(scene, obj) -> None:
    """Something that is shown points to ``obj``, which brings it into the depsgraph, but not its modifiers."""
    other = bpy.data.objects.new("other", bpy.data.meshes.new("other"))
    scene.collection.objects.link(other)
    other["source"] = obj


def hide(obj: bpy.types.Object, how: str) -> None:
    home = bpy.context.view_layer.layer_collection.children["home"]
    if how == "monitor":
        obj.hide_viewport = True
    elif how == "monitor of the collection":
        home.collection.hide_viewport = True
    elif how == "excluded collection":
        home.exclude = True
    elif how == "other scene":
        bpy.context.window.scene = bpy.data.scenes.new("other")
    elif how == "eye":
        obj.hide_set(True)
    elif how == "eye of the collection":
        home.hide_viewport = True


HIDDEN = ["monitor", "monitor of the collection", "excluded collection", "other scene"]


@pytest.mark.parametrize("pointed", [False, True])
@pytest.mark.parametrize("how", HIDDEN)
def test_a_hidden_object_is_not_read_without_its_modifiers(scene, how, pointed):
    obj = subdivided(scene)
    if pointed:
        referred_to(scene, obj)
    hide(obj, how)
    with pytest.raises(InputError, match="hidden in this view layer") as caught:
        read(obj)
    assert "Show it first" in caught.value.hint
    assert len(read(obj, modifiers=False).shape.vertices) == 8
    obj.modifiers.clear()
    assert len(read(obj).shape.vertices) == 8, "there is nothing to be missed"


@pytest.mark.parametrize("pointed", [False, True])
@pytest.mark.parametrize("how", ["", "eye", "eye of the collection"])
def test_an_object_hidden_by_the_eye_is_read_with_its_modifiers(scene, how, pointed):
    obj = subdivided(scene)
    if pointed:
        referred_to(scene, obj)
    hide(obj, how)
    assert len(read(obj).shape.vertices) == 26


@pytest.mark.parametrize("pointed", [False, True])
def test_a_hidden_curve_is_read_unless_it_has_modifiers(scene, pointed):
    bpy.ops.curve.primitive_bezier_circle_add()
    obj = bpy.context.object
    obj.data.bevel_depth = 0.2
    if pointed:
        referred_to(scene, obj)
    shown = len(read(obj).shape.vertices)
    obj.hide_viewport = True
    assert len(read(obj).shape.vertices) == shown
    obj.modifiers.new("twice", "ARRAY")
    with pytest.raises(InputError, match="hidden in this view layer"):
        read(obj)


def test_a_hidden_metaball_says_that_it_is_hidden(scene):
    bpy.ops.object.metaball_add()
    bpy.context.object.hide_viewport = True
    with pytest.raises(InputError, match="hidden in this view layer"):
        read(bpy.context.object)


@pytest.mark.skipif(bpy.app.version < (4, 5), reason="no way yet to make one with points in it")
@pytest.mark.parametrize("pointed", [False, True])
def test_a_hidden_point_cloud_is_read_unless_it_has_modifiers(scene, pointed):
    bpy.ops.mesh.primitive_cube_add()
    bpy.ops.object.convert(target="POINTCLOUD")
    obj = bpy.context.object
    if pointed:
        referred_to(scene, obj)
    obj.hide_viewport = True
    assert len(read(obj).shape) == 8
    obj.modifiers.new("nodes", "NODES")
    with pytest.raises(InputError, match="hidden in this view layer"):
        read(obj)
    obj.hide_viewport = False
    assert len(read(obj).shape) == 8
