"""A whole shape from a partial scan and the scene's space, and what of it was seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy
import numpy as np

from ..sdfcore.protocol import Message
from . import meshes, previews, requests, results, spaces
from .operators import JobOperator, Outcome
from .space_operators import in_object_mode, with_space
from .states import Job

Context = bpy.types.Context

OBSERVED, SEEN = "observed", "observed_mask"  # distance to the scan, and 1 where there is some
COLOURS = "observed_colours"
SUFFIX = ".completed"

_SCANNED, _ADDED = np.array([70, 130, 200, 255]), np.array([240, 140, 50, 255])  # sRGB: blue was seen, orange was not


class SDF_OT_complete(JobOperator):
    bl_idname = "sdf.complete"
    bl_label = "Complete Scan"
    bl_description = (
        "Complete the active object, a scan of a part, by what the scene's shape space knows of such shapes"
    )
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not with_space(cls, context):
            return False
        obj = context.active_object
        if obj is None or obj.type not in meshes.READABLE or previews.OWNER in obj:
            cls.poll_message_set("Select the scan: a mesh or a point cloud")
            return False
        return True

    def jobs(self, context: Context, preview: bool) -> list[Callable[[], Job]]:
        return [lambda: complete_job(context.active_object, context)]


def complete_job(scan: Any, context: Context) -> Job:
    """Complete ``scan`` as the scene's settings say.

    Raises:
        InputError: it cannot be read, or the scene has no space.
    """
    scene, settings = context.scene, context.scene.sdf_shapes
    reading = meshes.read(scan, context.evaluated_depsgraph_get(), scene.sdf.use_modifiers)
    world = meshes.affine(scan.matrix_world, scan.name)
    target = results.Target(
        scan.name, scan.session_uid, 0, scene.session_uid, meshes.placement(world), world, None, scene.sdf.hide_source
    )
    body = {
        "rotate": settings.rotate,
        "align": settings.align,
        "tune": settings.tune,
        "seconds": settings.complete_seconds or None,
        "resolution": settings.resolution,
        "seed": scene.sdf.seed,
    }
    arrays = requests.arrays_of(reading.shape)
    job = spaces.request("complete", scan.name, body, spaces.array(scene), scene, **arrays)
    job.target |= {"place": target, "put": lambda message, context: put_completed(target, message, context)}
    return job


def put_completed(target: results.Target, message: Message, context: Context) -> Any:
    """The object of a ``complete`` answer over its scan, with the attributes ``observed`` and ``observed_mask``.

    Raises:
        SdfError: the answer holds no valid mesh.
    """
    name = results.name_of(target) + SUFFIX
    mesh = results.build(name, target, message)
    for attribute in (OBSERVED, SEEN):
        if len(message.arrays.get(attribute, ())) == len(mesh.vertices):
            meshes.set_floats(mesh, attribute, message.arrays[attribute])
    made = results.new_object(name, mesh, target, context)
    results.describe(made, target, message)
    return made


# --- what was seen -----------------------------------------------------------------------------------------------


def _marked(obj: Any) -> bool:
    return obj is not None and obj.type == "MESH" and SEEN in obj.data.attributes


class SDF_OT_show_observed(bpy.types.Operator):
    bl_idname = "sdf.show_observed"
    bl_label = "Show Observed"
    bl_description = (
        "Colour what was scanned blue and what was completed orange, the stronger the farther from the scan; again to "
        "take the colours away. To see them in another viewport: Viewport Shading > Color > Attribute"
    )
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not _marked(context.active_object):
            cls.poll_message_set("Select an object made by Complete Scan")
            return False
        return in_object_mode(cls, context)

    def execute(self, context: Context) -> Outcome:
        mesh = context.active_object.data
        layer = mesh.color_attributes.get(COLOURS)
        if layer is not None:
            mesh.color_attributes.remove(layer)
            _shade(context, "MATERIAL")
            return {"FINISHED"}
        meshes.set_colours(mesh, COLOURS, colours_of(_floats(mesh, OBSERVED), _floats(mesh, SEEN)))
        _shade(context, "VERTEX")
        return {"FINISHED"}


def _floats(mesh: Any, name: str) -> Any:
    layer = mesh.attributes.get(name)
    values = np.zeros(len(mesh.vertices), np.float32)
    if layer is not None:
        layer.data.foreach_get("value", values)
    return values


def colours_of(distance: Any, seen: Any) -> Any:
    """(V, 4) uint8 sRGB from the distance to the scan (V,) and the mask (V,)."""
    farthest = max(float(distance.max(initial=0.0)), 1e-12)
    strength = np.where(seen > 0.5, 0.0, 0.4 + 0.6 * np.clip(distance / farthest, 0, 1))[:, None]
    return np.round(_SCANNED * (1 - strength) + _ADDED * strength).astype(np.uint8)


def _shade(context: Context, color_type: str) -> None:
    """Let the viewport at hand show colours, or materials again."""
    view = context.space_data
    if view is not None and view.type == "VIEW_3D" and view.shading.type == "SOLID":
        view.shading.color_type = color_type


_CLASSES = (SDF_OT_complete, SDF_OT_show_observed)


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
