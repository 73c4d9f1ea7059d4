"""The point of a result's surface that is nearest to the 3D cursor."""

from __future__ import annotations

import json
from typing import Any

import bpy
import numpy as np

from ..sdfcore.errors import EngineError
from ..sdfcore.protocol import Message
from . import meshes, queries, results, sizes
from .operators import OnResult
from .states import Job

Context = bpy.types.Context


def nearest_job(result: Any, context: Context) -> Job:
    """Where the surface is nearest to the cursor, which is moved there; how far it was is kept in the report."""
    scene, start = context.scene.session_uid, np.array(context.scene.cursor.location, dtype=np.float64)
    now = meshes.affine(result.matrix_world, result.name)
    to_fit = results.stored_matrix(result, results.MATRIX) @ np.linalg.inv(now)

    def put(found: Any, message: Message) -> Any:
        place = message.body.get("point")
        if place is None:
            raise EngineError("The backend's answer holds no point.", "Update the backend: it must be of this version.")
        end = meshes.transform(np.linalg.inv(to_fit), np.array([place], dtype=np.float64))[0]
        held = results.by_uid(bpy.data.scenes, scene) or bpy.context.scene
        held.cursor.location = end.tolist()
        told = {"distance": float(np.linalg.norm(end - start)), "inside": bool(message.body.get("inside"))}
        found[results.REPORT] = json.dumps({**results.report(found), results.NEAREST: told})
        return found

    return queries.result_job(
        "closest", result, context, {"point": meshes.transform(to_fit, start[None])[0].tolist()}, put
    )


def told_of(result: Any, scene: Any) -> str:
    """How far the cursor was from the surface when it was asked last."""
    told = results.report(result).get(results.NEAREST)
    if not isinstance(told, dict):
        return ""
    return f"It was {sizes.length(told['distance'], scene)} away, {'inside' if told['inside'] else 'outside'}"


class SDF_OT_nearest(OnResult):
    bl_idname = "sdf.nearest"
    bl_label = "Cursor to Surface"
    bl_description = (
        "Move the 3D cursor to the nearest point of the fitted surface, found for certain, and say how far it was"
    )
    bl_options = {"REGISTER"}

    def job(self, result: Any, context: Context, preview: bool) -> Job:
        return nearest_job(result, context)


def register() -> None:
    bpy.utils.register_class(SDF_OT_nearest)


def unregister() -> None:
    bpy.utils.unregister_class(SDF_OT_nearest)
