"""What can be asked of a result's model: measures, even points, a camera's picture; and what is made of several."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from typing import Any

import bpy
import numpy as np

from ..sdfcore.errors import EngineError, InputError
from ..sdfcore.geometry import PointCloud
from ..sdfcore.protocol import Message
from . import meshes, requests, results
from .operators import JobOperator, OnResult
from .states import Job

Context = bpy.types.Context

POINTS_SUFFIX, PICTURE_SUFFIX = ".points", ".field"
PICTURE = "sdf_picture"


def result_job(
    kind: str, result: Any, context: Context, body: dict[str, Any], put: Callable[[Any, Message], Any]
) -> Job:
    """Ask about the model of ``result``; ``put`` is given the result, as it is then, and the answer."""
    uid, name = result.session_uid, result.name
    model = requests.model_of(result)
    version = zlib.crc32(model)

    def placed(message: Message, _context: Context) -> Any:
        found = results.by_uid(bpy.data.objects, uid)
        if found is None:
            raise EngineError(f"{name} is no longer in the scene.", "Undo its deletion, or ask another result.")
        if zlib.crc32(requests.model_of(found)) != version:
            raise EngineError(f"{name} was fitted anew meanwhile.", "Ask again: the answer is about the fit before.")
        return put(found, message)

    settings = context.scene.sdf
    whole = {**body, "device": requests.device(settings), "title": name}
    return Job(name, Message(kind, "", whole, {"model": model}), {"put": placed})


# --- measures ----------------------------------------------------------------------------------------------------


def measure_job(result: Any, context: Context) -> Job:
    """Volume, centroid, inertia and area of the fitted shape, kept in its report."""

    def put(found: Any, message: Message) -> Any:
        found[results.REPORT] = json.dumps({**results.report(found), results.MEASURES: message.body[results.MEASURES]})
        return found

    return result_job("measure", result, context, {"tolerance": 2e-3}, put)


class SDF_OT_measure(OnResult):
    bl_idname = "sdf.measure"
    bl_label = "Measure"
    bl_description = (
        "Volume, centroid and moments of inertia (for a density of 1) of the fitted shape as it was fitted, between "
        "limits that are certain; and its area, by a fine mesh"
    )
    bl_options = {"REGISTER"}

    def job(self, result: Any, context: Context, preview: bool) -> Job:
        return measure_job(result, context)


# --- even points -------------------------------------------------------------------------------------------------


def points_job(result: Any, context: Context) -> Job:
    """As many points as the scene says, evenly on the surface at its offset: a mesh of vertices with normals."""
    settings = context.scene.sdf
    body = {
        "count": settings.even_points, "level": settings.level, "edges": settings.even_edges, "seed": settings.seed
    }  # fmt: skip
    return result_job("even_points", result, context, body, put_points)


def put_points(result: Any, message: Message) -> Any:
    """The points of an answer as an object over ``result``.

    Raises:
        SdfError: the answer holds none.
    """
    arrays = message.arrays
    if not {"points", "normals"} <= set(arrays):
        raise EngineError("The backend's answer holds no points.", "Update the backend: it must be of this version.")
    matrix = results.stored_matrix(result, results.MATRIX)
    places = meshes.transform(np.linalg.inv(matrix), np.asarray(arrays["points"], np.float64))
    normals = meshes.transform_normals(np.linalg.inv(matrix), np.asarray(arrays["normals"]))
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    made = meshes.points_object(result.name + POINTS_SUFFIX, PointCloud(places, normals.astype(np.float32)))
    results.lay_over(result, made)
    return made


class SDF_OT_even_points(OnResult):
    bl_idname = "sdf.even_points"
    bl_label = "Even Points"
    bl_description = "Spread points evenly over the fitted surface: a mesh of vertices, with the attribute normal"
    bl_options = {"REGISTER"}

    def job(self, result: Any, context: Context, preview: bool) -> Job:
        return points_job(result, context)


# --- a picture ---------------------------------------------------------------------------------------------------


def camera_of(result: Any, scene: Any) -> dict[str, Any]:
    """The scene's camera as the worker knows it, in the world of the fit.

    Raises:
        InputError: there is none, or it is none with a perspective.
    """
    camera = scene.camera
    if camera is None or camera.type != "CAMERA" or camera.data.type != "PERSP":
        raise InputError("The scene has no perspective camera.", "Add one: Add ▸ Camera, and make it the active one.")
    width, height = _pixels(scene)
    if camera.data.shift_x or camera.data.shift_y or scene.render.pixel_aspect_x != scene.render.pixel_aspect_y:
        raise InputError("The camera's lens is shifted, or its pixels are not square.", "Set both shifts to 0.")
    back = results.stored_matrix(result, results.MATRIX) @ np.linalg.inv(
        meshes.affine(result.matrix_world, result.name)
    )
    if not _keeps_angles(back):
        raise InputError(
            f"{result.name} is mirrored or scaled unevenly against its fit.", "Undo that, or render its mesh."
        )
    place = back @ np.array(camera.matrix_world, dtype=np.float64)
    position, ahead, up = place[:3, 3], -place[:3, 2], place[:3, 1]
    return {
        "position": position.tolist(), "target": (position + ahead).tolist(), "up": up.tolist(),
        "angle": math.degrees(_widest(camera.data, width, height)),
    }  # fmt: skip


def _keeps_angles(matrix: Any) -> bool:
    rows = matrix[:3, :3]
    squared = float(np.cbrt(np.linalg.det(rows))) ** 2
    return np.linalg.det(rows) > 0 and np.allclose(rows @ rows.T, squared * np.eye(3), atol=1e-4 * squared)


def _pixels(scene: Any) -> tuple[int, int]:
    share = scene.render.resolution_percentage / 100
    return max(1, round(scene.render.resolution_x * share)), max(1, round(scene.render.resolution_y * share))


def _widest(data: Any, width: int, height: int) -> float:
    """Angle of view along the longer side of the picture."""
    if data.sensor_fit == "AUTO":
        return float(data.angle)
    given, shown = (data.angle_x, width) if data.sensor_fit == "HORIZONTAL" else (data.angle_y, height)
    return 2 * math.atan(math.tan(given / 2) * max(width, height) / shown)


def picture_job(result: Any, context: Context) -> Job:
    """What the scene's camera sees of the fitted shape, as an image."""
    settings, scene = context.scene.sdf, context.scene
    width, height = _pixels(scene)
    body = {
        "camera": camera_of(result, scene), "width": width, "height": height, "level": settings.level,
        "certain": settings.certain,
    }  # fmt: skip
    return result_job("render", result, context, body, put_picture)


def put_picture(result: Any, message: Message) -> Any:
    """The picture of an answer as an image, made anew or refreshed.

    Raises:
        SdfError: the answer holds none.
    """
    colour = message.arrays.get("colour")
    if colour is None or colour.ndim != 3 or colour.shape[2] != 4:
        raise EngineError("The backend's answer holds no picture.", "Update the backend: it must be of this version.")
    name, (height, width) = result.name + PICTURE_SUFFIX, colour.shape[:2]
    image = result.get(PICTURE)  # by name it could not be found: long ones are cut
    copied = any(other != result and other.get(PICTURE) == image for other in bpy.data.objects)  # each has its own
    if not isinstance(image, bpy.types.Image) or copied:
        image = result[PICTURE] = bpy.data.images.new(name, width, height, alpha=True)
    elif tuple(image.size) != (width, height):
        image.scale(width, height)
    image.pixels.foreach_set(np.ascontiguousarray(colour[::-1], np.float32).ravel())  # Blender's rows rise
    image.update()
    image.pack()  # else it would not be saved with the file
    _show(image)
    return image


def _show(image: Any) -> None:
    """In the image editors that are open; not in UV editors, nor where a picture is pinned."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.ui_type == "IMAGE_EDITOR" and not area.spaces.active.use_image_pin:
                area.spaces.active.image = image


class SDF_OT_picture(OnResult):
    bl_idname = "sdf.picture"
    bl_label = "Picture of the Field"
    bl_description = (
        "Render the fitted shape from its field, without a mesh, as the scene's camera sees it: an image named as the "
        "result, of the size of the scene's renders"
    )
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not super().poll(context):
            return False
        camera = context.scene.camera
        if camera is None or camera.type != "CAMERA" or camera.data.type != "PERSP":
            cls.poll_message_set("The scene has no perspective camera")
            return False
        return True

    def job(self, result: Any, context: Context, preview: bool) -> Job:
        return picture_job(result, context)


# --- one of several ----------------------------------------------------------------------------------------------


def combinable(context: Context) -> list[Any]:
    """The results among what is selected, the active one first."""
    found = [o for o in context.selected_objects if results.MODEL in o and not results.fixed(o)]
    return sorted(found, key=lambda o: (o != context.active_object, o.name_full))


def places(objects: list[Any]) -> list[Any]:
    """(4, 4) rows for each: from the world it was fitted in to where it stands now."""
    now = [np.array(o.matrix_world, dtype=np.float64) for o in objects]
    fitted = [results.stored_matrix(o, results.MATRIX) for o in objects]
    return [(a @ np.linalg.inv(b)).tolist() for a, b in zip(now, fitted, strict=True)]


def combine_job(objects: list[Any], context: Context) -> Job:
    """The shapes of ``objects``, where they stand now, as one new result; world space is its own.

    Raises:
        InputError: one of them carries no model.
    """
    settings, scene = context.scene.sdf, context.scene
    body = {
        "operation": settings.combine_operation, "radius": settings.combine_radius, "style": settings.combine_style,
        "share": settings.combine_share, "resolution": settings.resolution or None, "places": places(objects),
        "device": requests.device(settings), "title": f"{settings.combine_operation.title()} of {len(objects)}",
    }  # fmt: skip
    arrays = {f"model_{number}": requests.model_of(o) for number, o in enumerate(objects)}
    name = f"{objects[0].name}.{settings.combine_operation}"
    target = results.Target(name, 0, 0, scene.session_uid, np.eye(4), np.eye(4), None)

    def put(message: Message, put_context: Context) -> Any:
        made = results.new_object(name, results.build(name, target, message), target, put_context)
        results.describe(made, target, message)
        return made

    return Job(str(body["title"]), Message("combine", "", body, arrays), {"put": put})


class SDF_OT_combine(JobOperator):
    bl_idname = "sdf.combine"
    bl_label = "Combine"
    bl_description = (
        "Make one fitted shape of the selected results, exactly, where they stand; it can be meshed, asked and "
        "combined again, and the parts stay"
    )
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if context.mode != "OBJECT":
            cls.poll_message_set("Leave the current mode: combining works in Object Mode")
            return False
        count = len(combinable(context))
        if count < 2:
            cls.poll_message_set("Select two or more results of Fit SDF")
            return False
        if count > 2 and context.scene.sdf.combine_operation == "morph":
            cls.poll_message_set("A morph is between two")
            return False
        return True

    def jobs(self, context: Context, preview: bool) -> list[Callable[[], Job]]:
        chosen = combinable(context)
        return [lambda: combine_job(chosen, context)]


_CLASSES = (SDF_OT_measure, SDF_OT_even_points, SDF_OT_picture, SDF_OT_combine)


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
