"""Ways through the scene's space: objects, an animation of them, or one mesh with shape keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import bpy
import numpy as np

from ..sdfcore.errors import EngineError, InputError
from ..sdfcore.geometry import Mesh
from ..sdfcore.protocol import Message
from . import meshes, results, spaces
from .operators import JobOperator
from .space_operators import with_space
from .states import Job

Context = bpy.types.Context

_HIDDEN = ("hide_viewport", "hide_render")


def stops_of(scene: Any) -> list[str]:
    """Names of the shapes that the way goes through.

    Raises:
        InputError: fewer than two, or one is not of the space.
    """
    stops = [stop.name for stop in scene.sdf_shapes.stops]
    known = spaces.names(scene)
    strange = [name for name in stops if name not in known]
    if strange:
        raise InputError(f"The space has no shape {strange[0]!r}.", "Choose another stop.")
    if len(stops) < 2:
        raise InputError("A way needs two shapes.", "Add a stop.")
    return stops


class SDF_OT_interpolate(JobOperator):
    bl_idname = "sdf.interpolate"
    bl_label = "Interpolate"
    bl_description = "Make the shapes on the way through the stops: objects, an animation, or shape keys of one mesh"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not with_space(cls, context):
            return False
        settings = context.scene.sdf_shapes
        if len(settings.stops) < 2:
            cls.poll_message_set("Choose two shapes or more to go through")
            return False
        if settings.mode == "ANIMATION" and settings.frame_end <= settings.frame_start:
            cls.poll_message_set("The animation ends before it starts")
            return False
        return True

    def jobs(self, context: Context, preview: bool) -> list[Callable[[], Job]]:
        return [lambda: _job(context.scene)]


def _job(scene: Any) -> Job:
    settings, stops = scene.sdf_shapes, stops_of(scene)
    name, uid, mode = f"{stops[0]} to {stops[-1]}", scene.session_uid, settings.mode
    body = {
        "stops": stops,
        "frames": settings.count,
        "resolution": settings.resolution,
        "spherical": settings.spherical,
        "model": mode == "OBJECTS",
    }
    job = spaces.request("project" if mode == "SHAPE_KEYS" else "interpolate", name, body, spaces.array(scene), scene)
    frames = settings.frame_start, settings.frame_end

    def put(message: Message, context: Context) -> Any:
        home = spaces.scene_of(uid, context)
        if mode == "SHAPE_KEYS":
            return put_shape_keys(name, message, stops, home, context)
        made = put_objects(name, message, home)
        if mode == "ANIMATION":
            show_in_turn(made, *frames)
        else:
            spaces.select_only(made[0], context)
        return made[0].users_collection[0]

    job.target["put"] = put
    return job


# --- objects and their animation -----------------------------------------------------------------------------------


def put_objects(name: str, message: Message, scene: Any) -> list[Any]:
    """The meshes of an ``interpolate`` answer as objects in a collection of their own, in order.

    Raises:
        SdfError: the answer holds none, or one is not valid.
    """
    parts = [_part(message, index) for index in range(int((message.body.get("report") or {}).get("frames") or 0))]
    if not parts:
        raise EngineError("The backend's answer holds no meshes.", "Update the backend: it must be of this version.")
    digits = max(2, len(str(len(parts) - 1)))
    built = [(part, *spaces.mesh_of(f"{name} {i:0{digits}d}", part, scene)) for i, part in enumerate(parts)]
    home = bpy.data.collections.new(name)
    results.collection(scene).children.link(home)
    made = []
    for part, mesh, matrix in built:
        obj = spaces.put(mesh.name, mesh, matrix, home)
        spaces.carry(obj, part)
        made.append(obj)
    return made


def _part(message: Message, index: int) -> Message:
    prefix = f"m{index}_"
    arrays = {k.removeprefix(prefix): values for k, values in message.arrays.items() if k.startswith(prefix)}
    report = dict(message.body.get("report") or {})
    return Message("done", message.job, {"report": {"resolution": report.get("resolution")}}, arrays)


def show_in_turn(objects: Sequence[Any], start: int, end: int) -> None:
    """Key the visibility of ``objects`` so that each is shown in its share of the frames ``start`` to ``end``.

    The first is shown before the range, too, and the last after it.
    """
    firsts = [round(start + (end - start) * index / (len(objects) - 1)) for index in range(len(objects))]
    for index, obj in enumerate(objects):
        on = None if index == 0 else firsts[index]
        off = None if index == len(objects) - 1 else firsts[index + 1]
        keys = {} if on is None else {min(start, on - 1): True, on: False}
        keys |= {start: False} if on is None else {}
        keys |= {} if off is None else {off: True}
        for frame, hidden in sorted(keys.items()):
            for path in _HIDDEN:
                setattr(obj, path, hidden)
                obj.keyframe_insert(path, frame=frame)
        for curve in curves_of(obj):
            for point in curve.keyframe_points:
                point.interpolation = "CONSTANT"
    scene = bpy.context.scene
    scene.frame_set(scene.frame_current)


def curves_of(owner: Any) -> list[Any]:
    """The F-curves that move ``owner``: of its action, or since Blender 4.4 of its slot in the action's layers."""
    held = owner.animation_data
    if held is None or held.action is None:
        return []
    if not hasattr(held.action, "layers"):
        return list(held.action.fcurves)
    bags = (strip.channelbag(held.action_slot) for layer in held.action.layers for strip in layer.strips)
    return [curve for bag in bags if bag is not None for curve in bag.fcurves]


# --- shape keys ------------------------------------------------------------------------------------------------------


def put_shape_keys(name: str, message: Message, stops: Sequence[str], scene: Any, context: Context) -> Any:
    """The mesh of a ``project`` answer, with a shape key at value 0 for every shape after the first.

    Raises:
        SdfError: the answer does not hold them.
    """
    places = message.arrays.get("positions")
    mesh, matrix = spaces.mesh_of(name, message, scene)
    if places is None or places.ndim != 3 or places.shape[1:] != (len(mesh.vertices), 3):
        raise EngineError("The backend's answer holds no positions.", "Update the backend: it must be of this version.")
    Mesh(places.reshape(-1, 3), message.arrays["faces"])  # finite, and of a size that can be shown
    obj = spaces.put(name, mesh, matrix, results.collection(scene))
    obj.shape_key_add(name=stops[0], from_mix=False).value = 0.0  # Blender 5 makes it 1
    inverse = np.linalg.inv(matrix)
    for index in range(1, len(places)):
        key = obj.shape_key_add(name=_label(index / (len(places) - 1), stops), from_mix=False)
        key.value = 0.0
        local = np.ascontiguousarray(meshes.transform(inverse, places[index]), np.float32)
        key.data.foreach_set("co", local.ravel())
    spaces.select_only(obj, context)
    return obj


def _label(t: float, stops: Sequence[str]) -> str:
    """Where on the way: the name of a stop, or how far it is from one to the next."""
    place = t * (len(stops) - 1)
    leg = min(int(place + 1e-6), len(stops) - 2)
    share = place - leg
    if min(share, 1 - share) < 1e-6:
        return stops[leg + round(share)]
    return f"{stops[leg]} to {stops[leg + 1]} {share:.0%}"


_CLASSES = (SDF_OT_interpolate,)


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
