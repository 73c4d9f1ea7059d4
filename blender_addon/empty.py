"""Empty space round a result as a mesh of boxes, each of which certainly holds no surface."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np

from ..sdfcore.errors import EngineError
from ..sdfcore.geometry import Array
from ..sdfcore.protocol import Message
from . import meshes, results
from .operators import OnResult
from .queries import result_job
from .states import Job

Context = bpy.types.Context

SUFFIX, STATE = ".space", "state"
_CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float64)
_SIDES = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])  # outward


def boxes_mesh(name: str, lower: Array, upper: Array, state: Array) -> Any:
    """A mesh of boxes (B, 3), (B, 3), apart from one another, whose faces carry the attribute ``state``."""
    places = lower[:, None] + (upper - lower)[:, None] * _CORNERS
    faces = _SIDES[None] + 8 * np.arange(len(lower))[:, None, None]
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(8 * len(lower))
    mesh.loops.add(4 * len(_SIDES) * len(lower))
    mesh.polygons.add(len(_SIDES) * len(lower))
    mesh.vertices.foreach_set("co", np.ascontiguousarray(places, np.float32).ravel())
    mesh.loops.foreach_set("vertex_index", np.ascontiguousarray(faces, np.int32).ravel())
    mesh.polygons.foreach_set("loop_start", np.arange(0, faces.size, 4, dtype=np.int32))
    mesh.update(calc_edges=True)
    layer = mesh.attributes.new(STATE, "INT", "FACE")
    layer.data.foreach_set("value", np.repeat(np.asarray(state, np.int32), len(_SIDES)))
    return mesh


def put(result: Any, message: Message) -> Any:
    """The boxes of an answer in which there certainly is no surface, as an object over ``result``, drawn as wires.

    Raises:
        SdfError: the answer holds none.
    """
    arrays = message.arrays
    if not {"lower", "upper", "state"} <= set(arrays):
        raise EngineError("The backend's answer holds no boxes.", "Update the backend: it must be of this version.")
    free = arrays["state"] != 0
    name = result.name + SUFFIX
    mesh = boxes_mesh(name, arrays["lower"][free], arrays["upper"][free], arrays["state"][free])
    back = np.linalg.inv(results.stored_matrix(result, results.MATRIX))
    places = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", places)
    local = meshes.transform(back, places.reshape(-1, 3).astype(np.float64))
    mesh.vertices.foreach_set("co", np.ascontiguousarray(local, np.float32).ravel())
    mesh.update()
    made = bpy.data.objects.new(name, mesh)
    made.display_type = "WIRE"
    results.lay_over(result, made)
    return made


class SDF_OT_empty_space(OnResult):
    bl_idname = "sdf.empty_space"
    bl_label = "Empty Space"
    bl_description = (
        "Fill the space that certainly holds nothing of the surface with boxes: a mesh whose faces carry the attribute "
        "state, 1 outside the shape and -1 inside"
    )
    bl_options = {"REGISTER"}

    def job(self, result: Any, context: Context, preview: bool) -> Job:
        settings = context.scene.sdf
        return result_job(
            "space", result, context, {"smallest": 1 / settings.empty_boxes, "level": settings.level}, put
        )


def register() -> None:
    bpy.utils.register_class(SDF_OT_empty_space)


def unregister() -> None:
    bpy.utils.unregister_class(SDF_OT_empty_space)
