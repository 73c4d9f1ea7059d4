"""Results in the scene: the object beside its source, its materials and colours, and the model it carries.

An object with ``sdf_model`` is a result. It also has ``sdf_report`` (JSON), ``sdf_source_object`` (a pointer to its
source, which outlives renames), ``sdf_source`` (the source's name, which counts where there is no pointer: in files of
earlier versions) and two matrices: ``sdf_matrix``, its own local space to world space when it was fitted, and
``sdf_source_matrix``, the same for its source. The model speaks of that world; both objects may have moved since, and
both meshes within their objects (Apply, Set Origin): ``sdf_anchors`` and ``sdf_source_anchors`` tell (:mod:`.anchors`).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from ..sdfcore.errors import EngineError
from ..sdfcore.geometry import Mesh
from ..sdfcore.protocol import Message
from . import anchors, meshes

Array = NDArray[Any]

COLLECTION = "SDF"
SUFFIX = ".sdf"
ERROR_ATTRIBUTE = "sdf_error"
UNMESHED = "It has no mesh yet: press Re-mesh"
MODEL, REPORT = "sdf_model", "sdf_report"
SOURCE, SOURCE_OBJECT = "sdf_source", "sdf_source_object"
MEASURES, OVERLAP, NEAREST = "measures", "overlap", "nearest"  # in the report: what was asked and found
DETAIL = "detail"  # in the report: how strong the detail is that the fit keeps apart
MATRIX, SOURCE_MATRIX = "sdf_matrix", "sdf_source_matrix"
ANCHORS, SOURCE_ANCHORS = "sdf_anchors", "sdf_source_anchors"


@dataclass(frozen=True)
class Target:
    """Where a result belongs; objects by session uid, since undo and file load end every pointer.

    Args:
        name: of the source when it was read, see :func:`name_of`.
        source: session uid of the source, 0 when there is none any more.
        result: session uid of the object to refresh, 0 to make one.
        scene: session uid of the scene.
        matrix: (4, 4) local space of the result to the world of the fit.
        source_matrix: (4, 4) the same for the source, whose mesh had the ``source_anchors`` then.
        reading: the source as it was sent, ``None`` when there is none.
        hide_source: hide the source when the result arrives.
    """

    name: str
    source: int
    result: int
    scene: int
    matrix: Array
    source_matrix: Array
    reading: meshes.Reading | None
    hide_source: bool = False
    source_anchors: tuple[float, ...] = ()


def by_uid(collection: Any, uid: int) -> Any:
    """The datablock with a session uid, or ``None``."""
    return next((item for item in collection if item.session_uid == uid), None) if uid else None


def of(obj: Any) -> Any:
    """The result to speak about when ``obj`` is active: itself, or the newest made from it; else ``None``."""
    if obj is None:
        return None
    if MODEL in obj:
        return obj
    homes = [c for c in bpy.data.collections if _is_home(c)]
    made = [o for home in homes for o in home.objects if MODEL in o and not fixed(o) and source_of(o) == obj]
    return max(made, key=lambda o: o.session_uid) if made else None


def shown(active: Any) -> Any:
    """The result to show figures of when ``active`` is: a fit's, or a mesh that another method made; else ``None``."""
    return of(active) or (active if active is not None and REPORT in active else None)


def source_of(result: Any) -> Any:
    """The object that ``result`` was made from, or ``None`` when it is gone."""
    if SOURCE_OBJECT in result:  # that the name may be another object's by now does not matter
        source = _pointed_to(result)
        return source if source is not None and is_placed(source) else None
    source = bpy.data.objects.get(result[SOURCE]) if result.get(SOURCE) else None
    return None if source == result else source  # earlier versions made what had no source its own


def _pointed_to(result: Any) -> Any:
    held = result.get(SOURCE_OBJECT)
    return held if isinstance(held, bpy.types.Object) else None


def is_placed(obj: Any) -> bool:
    """Whether ``obj`` is in a collection: a deleted object that something points to is in none, but in the file."""
    homes = [*bpy.data.collections, *(scene.collection for scene in bpy.data.scenes)]
    return any(home.objects.get(obj.name) == obj for home in homes) or bool(obj.users_collection)


def let_go_of_sources() -> None:
    """Remove the sources that the user has deleted and that only our pointers keep: a scan may be large."""
    held = [source for source in map(_pointed_to, bpy.data.objects) if source is not None]
    for source in dict.fromkeys(held):
        ours = source.users <= held.count(source) and not source.use_fake_user and source.library is None
        if ours and not is_placed(source):
            bpy.data.objects.remove(source)


def name_of(target: Target) -> str:
    """The source's name: the present one, which may have changed while it was fitted."""
    source = by_uid(bpy.data.objects, target.source)
    return target.name if source is None else source.name


def report(result: Any) -> dict[str, Any]:
    """The report of the fit, empty where there is none or it cannot be read."""
    try:
        body = json.loads(result.get(REPORT, "{}"))
    except (TypeError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def stored_matrix(result: Any, key: str) -> Array:
    """``sdf_matrix`` or ``sdf_source_matrix``, for the vertices as they are now; the object's own where it has none."""
    result = result.original
    held = result.get(key)
    if held is None:
        return meshes.affine(result.matrix_world, result.name)
    matrix = meshes.affine(list(held), result.name)
    if key == MATRIX:
        return _since(matrix, result.get(ANCHORS), result)
    return _of_source(matrix, result.get(SOURCE_ANCHORS), source_of(result))


def _since(matrix: Array, known: Any, obj: Any) -> Array:
    """``matrix``, local space to a world, for the vertices of ``obj`` as they are now, not as they were ``known``."""
    if obj is None or not known:
        return matrix
    return matrix @ np.linalg.inv(anchors.change(list(known), obj.data))


def _of_source(matrix: Array, known: Any, source: Any) -> Array:
    """As :func:`_since`, of a source: one that stands where it stood was edited, and is to be taken as it is."""
    if source is None or np.allclose(np.array(source.matrix_world), matrix, atol=1e-6 * (1 + np.abs(matrix).max())):
        return matrix
    return _since(matrix, known, source)


def anchor(obj: Any) -> None:
    """Remember where the vertices of ``obj`` are in its own space: what its ``sdf_matrix`` speaks of."""
    found = anchors.of(obj.data)
    if found:
        obj[ANCHORS] = found
    elif ANCHORS in obj:
        del obj[ANCHORS]


def store_bytes(owner: Any, key: str, data: Array) -> None:
    """Keep ``data`` (N,) uint8 as bytes on a datablock.

    Blender gives a property that is there already new bytes only up to the first zero among them, so it goes first.
    """
    if key in owner:
        del owner[key]
    owner[key] = np.ascontiguousarray(data, np.uint8).tobytes()


def place(target: Target, message: Message, context: Any) -> Any:
    """Make or refresh the result object from a ``done`` message; returns it.

    Raises:
        SdfError: the message holds no valid mesh.
    """
    result = by_uid(bpy.data.objects, target.result)
    if target.result and result is None:
        raise EngineError(f"The result of {target.name} is no longer in the scene.", "Undo its deletion, or fit again.")
    if result is not None:  # its mesh may have been moved within it since the job was begun
        target = replace(target, matrix=stored_matrix(result, MATRIX))
    name = name_of(target) + SUFFIX if result is None else result.data.name
    mesh = build(name, target, message, None if result is None else result.data)
    if result is None:
        result = new_object(name, mesh, target, context)
    else:
        _exchange(result, mesh)
    describe(result, target, message)
    return result


def keep(target: Target, model: Array, told: Mapping[str, Any], context: Any) -> Any:
    """A new object without a mesh that holds a ``model`` and what was ``told`` of its fit: Re-mesh makes the mesh.

    The result that was to be refreshed, if any, stays as it is: its own model may be the better one.
    """
    name = name_of(target) + SUFFIX
    arrays = {"vertices": np.zeros((0, 3), np.float32), "faces": np.zeros((0, 3), np.int32), "model": model}
    target = replace(target, result=0, hide_source=False)  # without it nothing could be seen
    result = new_object(name, bpy.data.meshes.new(name), target, context)
    describe(result, target, Message("done", "", {"report": {**told, "warnings": [UNMESHED]}}, arrays))
    return result


def build(name: str, target: Target, message: Message, previous: Any = None) -> Any:
    """The Blender mesh of a ``done`` message, in the local space of ``target.matrix``."""
    arrays = message.arrays
    if not {"vertices", "faces"} <= set(arrays):
        raise EngineError("The backend's answer holds no mesh.", "Update the backend: it must be of this version.")
    shape = Mesh(arrays["vertices"], arrays["faces"])
    mesh = bpy.data.meshes.new(name)
    meshes.fill_from_world(mesh, shape, target.matrix)
    if len(arrays.get(ERROR_ATTRIBUTE, ())) == len(shape.vertices):
        meshes.set_floats(mesh, ERROR_ATTRIBUTE, arrays[ERROR_ATTRIBUTE])
    if len(arrays.get("colours", ())) == len(shape.vertices):
        kept = target.reading.colour_name if target.reading else ""
        meshes.set_colours(mesh, kept or "Color", arrays["colours"])
    _give_materials(mesh, target, arrays.get("source_face"), previous)
    mesh.validate()
    return mesh


def _give_materials(mesh: Any, target: Target, source_face: Array | None, previous: Any) -> None:
    reading = target.reading
    slots = list(previous.materials) if previous is not None else []
    index = np.zeros(len(mesh.polygons), np.int32)
    if reading is not None and reading.materials:
        found = [by_uid(bpy.data.materials, uid) for uid in reading.materials]
        if len(slots) != len(found):  # what the user has put on the result stays on a refreshed one
            slots = found
        if source_face is not None and len(source_face) == len(index) and len(reading.face_material):
            known = (source_face >= 0) & (source_face < len(reading.face_material))
            index = np.where(known, reading.face_material[np.where(known, source_face, 0)], 0)
    meshes.set_materials(mesh, slots, np.clip(index, 0, max(len(slots) - 1, 0)))


def new_object(name: str, mesh: Any, target: Target, context: Any) -> Any:
    """An object of ``mesh`` over its source, wherever that is now, in the scene's collection for results; selected."""
    result = bpy.data.objects.new(name, mesh)
    scene = by_uid(bpy.data.scenes, target.scene) or context.scene
    shown_home(scene, context).objects.link(result)
    source = by_uid(bpy.data.objects, target.source)
    matrix = target.matrix
    if source is not None:  # it may have moved while it was fitted
        moved = np.array(source.matrix_world, dtype=np.float64)
        before = _of_source(target.source_matrix, target.source_anchors, source)
        matrix = meshes.placement(moved @ np.linalg.inv(before) @ target.matrix)
    result.matrix_world = Matrix(matrix.tolist())
    _show(result, source, target, context)
    return result


def lay_over(result: Any, made: Any) -> None:
    """Put ``made``, in the local space of ``result``, where ``result`` stands, into its collection."""
    made.matrix_world = result.matrix_world.copy()
    home_of(result, bpy.context).objects.link(made)


def home_of(obj: Any, context: Any) -> Any:
    """A collection of ``obj`` that the view layer shows; that for results, if there is none."""
    shown = set(_shown(context.view_layer.layer_collection))
    return next((home for home in obj.users_collection if home in shown), None) or shown_home(context.scene, context)


def shown_home(scene: Any, context: Any) -> Any:
    """The scene's collection for results; the scene's own where the view layer leaves that out, or nothing showed."""
    home = collection(scene)
    if scene == context.scene and home not in set(_shown(context.view_layer.layer_collection)):
        return scene.collection
    return home


def _shown(layer: Any) -> Iterator[Any]:
    """The collections of a layer that are not excluded from it."""
    if not layer.exclude:
        yield layer.collection
    for child in layer.children:
        yield from _shown(child)


def _show(result: Any, source: Any, target: Target, context: Any) -> None:
    """Select the result in place of its source, unless the user has turned to something else."""
    layer = context.view_layer
    layer.update()  # a new object is in the layer's list only then
    if in_layer(result, layer) and layer.objects.active in (None, source):
        if in_layer(source, layer):
            source.select_set(False)
        result.select_set(True)
        layer.objects.active = result
    if target.hide_source and in_layer(source, layer) and in_layer(result, layer):
        source.hide_set(True)


def _exchange(result: Any, mesh: Any) -> None:
    old, name = result.data, result.data.name
    result.data = mesh
    if old.users == 0:
        bpy.data.meshes.remove(old)
    mesh.name = name


def of_another_file(item: Any) -> bool:
    """Whether a datablock is linked, or an override of what is linked: nothing can be put into it."""
    return item.library is not None or item.override_library is not None


def fixed(result: Any) -> str:
    """Why ``result`` cannot get another mesh, in the words of a poll; "" where it can."""
    if of_another_file(result):
        return f"{result.name} is linked from another file: make it local first"
    if result.type != "MESH":
        return f"{result.name} is no mesh any more: convert it to one first"
    return ""


def version(result: Any) -> int:
    """Another number for another fit, by what its report says of it."""
    told = {key: value for key, value in report(result).items() if key not in (MEASURES, OVERLAP, NEAREST)}
    return zlib.crc32(json.dumps(told, sort_keys=True).encode())


def in_layer(obj: Any, layer: Any) -> bool:
    """Whether a view layer has ``obj``: what it has not can neither be selected nor be active."""
    return obj is not None and layer.objects.get(obj.name) == obj


def _is_home(held: Any) -> bool:
    named = held.name == COLLECTION or held.name.startswith(COLLECTION + ".")
    return named and not of_another_file(held)


def collection(scene: Any) -> Any:
    """The scene's collection for results, made when it is missing."""
    for held in scene.collection.children_recursive:
        if _is_home(held):
            return held
    made = bpy.data.collections.new(COLLECTION)
    scene.collection.children.link(made)
    return made


def describe(result: Any, target: Target, message: Message) -> None:
    """Keep on the object what the panel shows and what the next Re-mesh needs; saved with the file."""
    source = by_uid(bpy.data.objects, target.source)
    if source is not None:
        result[SOURCE], result[SOURCE_OBJECT] = source.name, source
    result[MATRIX] = [float(v) for v in target.matrix.ravel()]
    anchor(result)
    result[SOURCE_MATRIX] = [float(v) for v in target.source_matrix.ravel()]
    if target.source_anchors:
        result[SOURCE_ANCHORS] = list(target.source_anchors)
    elif SOURCE_ANCHORS in result:
        del result[SOURCE_ANCHORS]
    model = message.arrays.get("model")
    if model is not None and len(model):
        store_bytes(result, MODEL, model)
    told: Mapping[str, Any] = message.body.get("report") or {}
    before = report(result)  # a new mesh of the same fit: what was said of the fit stays
    if model is not None and len(model):
        for outdated in (MEASURES, OVERLAP, NEAREST, DETAIL):
            before.pop(outdated, None)
    body = {**before, "warnings": [], "certain": "", "wall": 0.0, **told}
    count = {"vertices": len(result.data.vertices), "faces": len(result.data.polygons)}
    closed = (told.get("metrics") or {}).get("watertight")  # counting again takes a second for four million faces
    body["result"] = {**count, "watertight": meshes.is_closed(message.arrays["faces"]) if closed is None else closed}
    result[REPORT] = json.dumps(body)
