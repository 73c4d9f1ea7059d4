"""Blender's objects as sdfcore's values and back, in bulk.

Reading gives **world** coordinates, so that the fitted distance is measured in scene units whatever the object's
scale; writing maps world coordinates into the local space of ``matrix``. A mirroring matrix turns faces inside out
on both ways, so faces are outward in local space, as Blender expects, and outward in world space, as sdfcore does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from ..sdfcore.errors import EmptyInputError, InputError
from ..sdfcore.geometry import Mesh, PointCloud

Array = NDArray[Any]

READABLE = {"MESH", "CURVE", "SURFACE", "FONT", "META", "POINTCLOUD"}
_NORMAL_NAMES = ("normal", "Normal", "normals", "Normals")
_SINGULAR = 1e7  # condition number: float32 has nothing left to tell beyond it


@dataclass(frozen=True)
class Reading:
    """What one object holds, in world coordinates.

    Args:
        shape: triangles, or points where there are no faces.
        face_material: (F,) int32 slot of each triangle, empty for points.
        materials: session uid of the material in each slot, 0 for an empty slot.
        colour_name: name of the colour attribute, "" where there is none.
    """

    shape: Mesh | PointCloud
    face_material: Array
    materials: tuple[int, ...]
    colour_name: str


# --- coordinates -------------------------------------------------------------------------------------------------


def affine(matrix: Any, name: str) -> Array:
    """``matrix`` as (4, 4) float64.

    Raises:
        InputError: it flattens space, so nothing could be mapped back.
    """
    rows = np.array(matrix, dtype=np.float64).reshape(4, 4)
    if not np.isfinite(rows).all() or not rows[:3, :3].any() or np.linalg.cond(rows[:3, :3]) > _SINGULAR:
        raise InputError(f"{name} has a scale of zero along an axis.", "Give it another scale (Alt S resets it).")
    return rows


def transform(matrix: Array, points: Array) -> Array:
    """(N, 3) points through an affine (4, 4) matrix, float64."""
    return points.astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


def transform_normals(matrix: Array, normals: Array) -> Array:
    """(N, 3) normals by the inverse transpose; outward stays outward, mirrored or not. Not of unit length."""
    return normals.astype(np.float64) @ np.linalg.inv(matrix[:3, :3])


def placement(matrix: Array) -> Array:
    """The nearest matrix that an object of its own can have: location, rotation and scale, no shear."""
    return np.array(Matrix.LocRotScale(*Matrix(matrix.tolist()).decompose()), dtype=np.float64)


def mirrors(matrix: Array) -> bool:
    """Whether the matrix turns a right hand into a left one."""
    return bool(np.linalg.det(matrix[:3, :3]) < 0)


# --- reading -----------------------------------------------------------------------------------------------------


def _column(collection: Any, key: str, width: int, dtype: type, count: int | None = None) -> Array:
    values = np.empty((len(collection) if count is None else count) * width, dtype=dtype)
    collection.foreach_get(key, values)
    return values.reshape(-1, width) if width > 1 else values


def positions(data: Any) -> Array:
    """(N, 3) float32 of the vertices or points of a datablock, in its own space."""
    attribute = data.attributes.get("position")
    return np.zeros((0, 3), np.float32) if attribute is None else _column(attribute.data, "vector", 3, np.float32)


def _point_normals(data: Any) -> Array | None:
    """The normals a scan brought along: loose vertices have none of their own that mean anything."""
    for name in _NORMAL_NAMES:
        attribute = data.attributes.get(name)
        if attribute is not None and attribute.data_type == "FLOAT_VECTOR" and attribute.domain == "POINT":
            return _column(attribute.data, "vector", 3, np.float32)
    columns = [data.attributes.get(name) for name in ("nx", "ny", "nz")]
    if all(c is not None and c.data_type == "FLOAT" and c.domain == "POINT" for c in columns):
        return np.stack([_column(c.data, "value", 1, np.float32) for c in columns], axis=1)
    return None


def _colour_attribute(data: Any) -> Any:
    layers = getattr(data, "color_attributes", None)
    if layers is not None and len(layers):
        return getattr(layers, "active_color", None) or layers[0]  # a point cloud has no active one
    wanted = [a for a in data.attributes if a.data_type in {"FLOAT_COLOR", "BYTE_COLOR"} and a.domain == "POINT"]
    return wanted[0] if wanted else None


def _point_colours(data: Any, count: int) -> tuple[Array | None, str]:
    """((V, 4) uint8 sRGB, name); a colour per corner becomes the mean over the vertex."""
    layer = _colour_attribute(data)
    if layer is None or layer.domain not in {"POINT", "CORNER"} or len(layer.data) == 0:
        return None, ""
    colours = _column(layer.data, "color_srgb", 4, np.float32)
    if layer.domain == "CORNER":
        corner = _column(data.attributes[".corner_vert"].data, "value", 1, np.int32)
        weight = np.maximum(np.bincount(corner, minlength=count), 1)
        colours = np.stack([np.bincount(corner, colours[:, i], count) / weight for i in range(4)], axis=1)
    return (np.clip(colours, 0, 1) * 255 + 0.5).astype(np.uint8), layer.name


def _material_uids(obj: Any, data: Any) -> tuple[int, ...]:
    """Slots as the viewer sees them: modifiers may add materials, the object may override them."""
    materials = list(data.materials)
    for index, slot in enumerate(obj.material_slots):
        if slot.link == "OBJECT" and index < len(materials):
            materials[index] = slot.material
    return tuple(0 if m is None else m.original.session_uid for m in materials)


def _read_triangles(obj: Any, data: Any, matrix: Array) -> Reading:
    data.calc_loop_triangles()
    triangles = data.loop_triangles
    faces = _column(triangles, "vertices", 3, np.int32)
    polygon = _column(triangles, "polygon_index", 1, np.int32)
    materials = _material_uids(obj, data)
    slots = _column(data.polygons, "material_index", 1, np.int32)
    vertices = transform(matrix, positions(data))
    colours, name = _point_colours(data, len(vertices))
    if mirrors(matrix):
        faces = faces[:, ::-1]
    return Reading(Mesh(vertices, faces, colours=colours), slots[polygon], materials, name)


def _read_points(obj: Any, data: Any, matrix: Array) -> Reading:
    places = positions(data)
    if len(places) == 0:
        raise EmptyInputError(f"{obj.name} has neither faces nor points.", _empty_hint(obj))
    normals = _point_normals(data)
    colours, name = _point_colours(data, len(places))
    if normals is not None:
        normals = transform_normals(matrix, normals)
    return Reading(PointCloud(transform(matrix, places), normals, colours), np.zeros(0, np.int32), (), name)


def _empty_hint(obj: Any) -> str:
    if obj.type == "META":
        return "Select the first metaball of its family: that one holds the surface."
    if obj.type == "MESH" and obj.modifiers:
        return "If its modifiers make instances, add Realize Instances; or switch Use Modifiers off."
    return "Give it a surface, or select another object."


def _read_data(obj: Any, data: Any, matrix: Array) -> Reading:
    if data is None:
        raise EmptyInputError(f"{obj.name} has neither faces nor points.", _empty_hint(obj))
    if len(getattr(data, "polygons", ())):
        return _read_triangles(obj, data, matrix)
    return _read_points(obj, data, matrix)


def _is_evaluated(obj: Any, shown: Any, depsgraph: Any) -> bool:
    """Whether ``shown``, the evaluated form of ``obj``, has a shape of its own.

    Hidden from the viewport it is not evaluated, unless something shown refers to it: then it is there, but without
    its modifiers, as the bare data or (curves, texts) as nothing.
    """
    if not shown.is_evaluated:
        return False
    if obj.type == "MESH":
        return bool(shown.data != obj.data.evaluated_get(depsgraph))
    if obj.type == "POINTCLOUD":  # its data does not tell: without a change by a modifier it is the object's own
        return not obj.hide_viewport and depsgraph.view_layer.objects.get(obj.name) is not None
    return shown.to_mesh() is not None


def _shown(obj: Any, depsgraph: Any) -> Any:
    """``obj`` with its modifiers, or as it is where they would change nothing.

    Raises:
        InputError: it is hidden so that Blender has not applied them.
    """
    shown = obj.evaluated_get(depsgraph)
    if _is_evaluated(obj, shown, depsgraph):
        return shown
    if obj.modifiers or obj.type == "META" or getattr(obj.data, "shape_keys", None) is not None:
        raise InputError(
            f"{obj.name} is hidden in this view layer, so its modifiers cannot be applied.",
            "Show it first (its monitor icon and its collection), or switch Use Modifiers off.",
        )
    return obj


def read(obj: Any, depsgraph: Any, modifiers: bool = True, matrix: Any = None) -> Reading:
    """The triangles or points of ``obj`` in world coordinates.

    Args:
        obj: a mesh, curve, surface, text, metaball or point cloud, in Object Mode.
        depsgraph: where to look up its evaluated form.
        modifiers: take it with its modifiers, as shown; curves, texts and metaballs become a surface either way.
        matrix: local to world; default the object's own.
    Raises:
        EmptyInputError: neither faces nor points.
        InputError: a type that has no surface, Edit Mode, a scale of zero, coordinates that are not finite, or hidden
            so that its modifiers are not known.
    """
    if obj.type not in READABLE:
        kind = obj.type.title()
        raise InputError(f"{obj.name} is of type {kind}.", "Select a mesh, a point cloud, a curve or a text.")
    if obj.mode == "EDIT":
        raise InputError(f"{obj.name} is being edited.", "Leave Edit Mode first.")
    world = affine(obj.matrix_world if matrix is None else matrix, obj.name)
    shown = _shown(obj, depsgraph) if modifiers or obj.type == "META" else obj
    if obj.type == "POINTCLOUD":
        return _read_points(shown, shown.data, world)
    if obj.type == "MESH" and not modifiers:
        return _read_data(obj, obj.data, world)
    try:
        return _read_data(shown, shown.to_mesh(), world)
    finally:
        shown.to_mesh_clear()


def is_closed(faces: Array) -> bool:
    """Whether each edge of the triangles (F, 3) has exactly two faces, which run along it in opposite directions."""
    edges = faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2).astype(np.int64)
    size = int(faces.max(initial=0)) + 1
    there, back = np.sort(edges[:, 0] * size + edges[:, 1]), np.sort(edges[:, 1] * size + edges[:, 0])
    return len(edges) > 0 and bool((there == back).all()) and bool((np.diff(there) > 0).all())


# --- writing -----------------------------------------------------------------------------------------------------


def fill(mesh: Any, vertices: Array, faces: Array) -> None:
    """Replace the geometry of a Blender mesh; smooth shaded. Faces that Blender finds invalid stay: see ``validate``.

    Args:
        mesh: a ``bpy.types.Mesh``.
        vertices: (V, 3) in the mesh's space.
        faces: (F, 3) in [0, V), F ≥ 0: Blender crashes on others, a :class:`Mesh` has them checked.
    """
    mesh.clear_geometry()
    mesh.vertices.add(len(vertices))
    mesh.attributes["position"].data.foreach_set("vector", np.ascontiguousarray(vertices, np.float32).ravel())
    if len(faces):
        mesh.loops.add(faces.size)
        mesh.polygons.add(len(faces))
        mesh.polygons.foreach_set("loop_start", np.arange(0, faces.size, 3, dtype=np.int32))
        mesh.attributes[".corner_vert"].data.foreach_set("value", np.ascontiguousarray(faces, np.int32).ravel())
    mesh.update(calc_edges=True)


def fill_from_world(mesh: Any, shape: Mesh, matrix: Array) -> None:
    """As :func:`fill`, from world coordinates into the local space of ``matrix``."""
    local = transform(np.linalg.inv(matrix), shape.vertices)
    fill(mesh, local, shape.faces[:, ::-1] if mirrors(matrix) else shape.faces)


def set_floats(mesh: Any, name: str, values: Array) -> None:
    """One float per vertex as a generic attribute, replaced if it is there."""
    layer = mesh.attributes.get(name) or mesh.attributes.new(name, "FLOAT", "POINT")
    layer.data.foreach_set("value", np.ascontiguousarray(values, np.float32))


def set_vectors(mesh: Any, name: str, values: Array) -> None:
    """One vector (V, 3) per vertex as a generic attribute."""
    layer = mesh.attributes.get(name) or mesh.attributes.new(name, "FLOAT_VECTOR", "POINT")
    layer.data.foreach_set("vector", np.ascontiguousarray(values, np.float32).ravel())


def set_colours(mesh: Any, name: str, colours: Array) -> None:
    """(V, 4) uint8 sRGB as the active colour attribute."""
    layer = mesh.color_attributes.get(name) or mesh.color_attributes.new(name, "BYTE_COLOR", "POINT")
    layer.data.foreach_set("color_srgb", (np.ascontiguousarray(colours, np.float32) / 255).ravel())
    mesh.color_attributes.active_color = layer
    mesh.color_attributes.render_color_index = mesh.color_attributes.find(layer.name)


def set_materials(mesh: Any, materials: list[Any], slots: Array) -> None:
    """Materials (``None`` for an empty slot) and the slot of each face (F,)."""
    mesh.materials.clear()
    for material in materials:
        mesh.materials.append(material)
    if materials:
        mesh.polygons.foreach_set("material_index", np.ascontiguousarray(slots, np.int32))
        mesh.update()


def points_object(name: str, cloud: PointCloud) -> Any:
    """A vertices-only mesh object, as Blender's own PLY import makes it: normals in the attribute ``normal``."""
    mesh = bpy.data.meshes.new(name)
    fill(mesh, cloud.points, np.zeros((0, 3), np.int32))
    if cloud.normals is not None:
        set_vectors(mesh, "normal", cloud.normals)
    if cloud.colours is not None:
        set_colours(mesh, "Col", cloud.colours)
    return bpy.data.objects.new(name, mesh)


def mesh_object(name: str, mesh: Mesh) -> Any:
    """A mesh object from triangles read from a file."""
    data = bpy.data.meshes.new(name)
    fill(data, mesh.vertices, mesh.faces)
    if mesh.colours is not None:
        set_colours(data, "Col", mesh.colours)
    data.validate()
    return bpy.data.objects.new(name, data)
