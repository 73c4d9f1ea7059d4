"""Empty space round a result as a mesh of boxes, each of which certainly holds no surface."""

from __future__ import annotations

from typing import Any

import bpy

from ..sdfcore.errors import EngineError
from ..sdfcore.protocol import Message
from . import boxes
from .operators import OnResult
from .queries import result_job
from .states import Job

Context = bpy.types.Context

SUFFIX = ".space"


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
    return boxes.over(result, boxes.mesh_of(name, result, *(arrays[k][free] for k in ("lower", "upper", "state"))))


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
