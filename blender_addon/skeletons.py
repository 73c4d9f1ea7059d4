"""The skeleton of a result as a mesh of centres and links, and an armature made of it."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np

from ..sdfcore.errors import EngineError, InputError
from ..sdfcore.geometry import Array
from ..sdfcore.protocol import Message
from . import meshes, results
from .operators import OnResult
from .queries import result_job
from .states import Job

Context = bpy.types.Context

SUFFIX, ARMATURE = ".skeleton", "Armature"
RADIUS, PARENT = "radius", "bone_parent"  # attributes of the skeleton's vertices
_SHORTEST = 1e-6  # of the whole: Blender drops shorter bones when it leaves Edit Mode


def skeleton_job(result: Any, context: Context) -> Job:
    """The balls that cover the fitted shape, as a mesh over ``result``."""
    settings = context.scene.sdf
    return result_job("skeleton", result, context, {"delta": settings.skeleton_delta, "seed": settings.seed}, put)


def put(result: Any, message: Message) -> Any:
    """The skeleton of an answer as an object over ``result``: edges, faces, and the radius of every vertex.

    Raises:
        SdfError: the answer holds none.
    """
    arrays = message.arrays
    if not {"points", "radii", "edges", "triangles", "parents"} <= set(arrays):
        raise EngineError("The backend's answer holds no skeleton.", "Update the backend: it must be of this version.")
    back = np.linalg.inv(results.stored_matrix(result, results.MATRIX))
    places = meshes.transform(back, np.asarray(arrays["points"], np.float64))
    shrink = abs(float(np.linalg.det(back[:3, :3]))) ** (1 / 3)  # radii are of the world that was fitted in
    mesh = bpy.data.meshes.new(result.name + SUFFIX)
    mesh.from_pydata(places.tolist(), np.asarray(arrays["edges"]).tolist(), np.asarray(arrays["triangles"]).tolist())
    mesh.update()
    meshes.set_floats(mesh, RADIUS, np.asarray(arrays["radii"]) * shrink)
    mesh.attributes.new(PARENT, "INT", "POINT").data.foreach_set("value", np.asarray(arrays["parents"], np.int32))
    made = bpy.data.objects.new(result.name + SUFFIX, mesh)
    made.show_in_front = True  # it lies inside
    results.lay_over(result, made)
    return made


def is_skeleton(obj: Any) -> bool:
    """Whether :func:`put` made it, or a copy of it."""
    return obj is not None and obj.type == "MESH" and {RADIUS, PARENT} <= set(obj.data.attributes.keys())


class SDF_OT_skeleton(OnResult):
    bl_idname = "sdf.skeleton"
    bl_label = "Skeleton"
    bl_description = (
        "Find few balls inside the fitted shape that cover it, and how they hang together: a mesh whose vertices "
        "carry the attribute radius, of which an armature can be made"
    )
    bl_options = {"REGISTER"}

    def job(self, result: Any, context: Context, preview: bool) -> Job:
        return skeleton_job(result, context)


# --- the armature ------------------------------------------------------------------------------------------------


def tree_of(mesh: Any) -> tuple[Array, Array, Array]:
    """Places (N, 3), radii (N,) and parents (N,) of a skeleton's vertices, in its own space.

    Raises:
        InputError: its vertices were edited so that they are no tree any more.
    """
    count = len(mesh.vertices)
    places, radii, parents = np.empty(3 * count, np.float32), np.empty(count, np.float32), np.empty(count, np.int32)
    mesh.vertices.foreach_get("co", places)
    mesh.attributes[RADIUS].data.foreach_get("value", radii)
    mesh.attributes[PARENT].data.foreach_get("value", parents)
    above = np.where(parents < 0, np.arange(count), parents)
    if count == 0 or above.max() >= count:
        raise InputError("The skeleton's vertices were changed.", "Make the skeleton again.")
    root = above
    for _ in range(max(1, count.bit_length())):
        root = root[root]  # after so many doublings everything has come to its root, unless it goes in circles
    if (parents[root] >= 0).any():
        raise InputError("The skeleton's vertices were changed.", "Make the skeleton again.")
    return places.reshape(-1, 3), radii, parents


def armature(skeleton: Any, context: Context) -> Any:
    """An armature object over ``skeleton`` with a bone along each link of its tree; Object Mode, the main thread.

    Raises:
        InputError: as :func:`tree_of`, or there is no link at all.
    """
    places, radii, parents = tree_of(skeleton.data)
    long = np.linalg.norm(places - places[parents], axis=1)
    shortest = _SHORTEST * float(np.ptp(places, axis=0).max())
    children = [int(child) for child in np.nonzero((parents >= 0) & (long > shortest))[0]]
    if not children:
        raise InputError("The skeleton is a single ball.", "Make it with a smaller coarseness.")
    data = bpy.data.armatures.new(skeleton.name.removesuffix(SUFFIX) + f".{ARMATURE.lower()}")
    made = bpy.data.objects.new(data.name, data)
    made.matrix_world = skeleton.matrix_world.copy()
    made.show_in_front = True
    results.home_of(skeleton, context).objects.link(made)
    for chosen in context.selected_objects:
        chosen.select_set(False)
    context.view_layer.objects.active = made
    made.select_set(True)
    bpy.ops.object.mode_set(mode="EDIT")
    try:
        _add_bones(data, places, radii, parents, children)
    finally:
        bpy.ops.object.mode_set(mode="OBJECT")
    return made


def _add_bones(data: Any, places: Array, radii: Array, parents: Array, children: list[int]) -> None:
    bones = {}
    for child in children:
        bone = bones[child] = data.edit_bones.new(f"Bone.{child:03d}")
        bone.head, bone.tail = places[parents[child]].tolist(), places[child].tolist()
        bone.head_radius, bone.tail_radius = float(radii[parents[child]]), float(radii[child])
        bone.envelope_distance = 0.5 * bone.tail_radius
    for child, bone in bones.items():
        above = bones.get(int(parents[child]))
        if above is not None:
            bone.parent, bone.use_connect = above, True


class SDF_OT_armature(bpy.types.Operator):
    bl_idname = "sdf.armature"
    bl_label = "Armature"
    bl_description = "Make an armature with a bone along each link of the skeleton, as thick as the shape is there"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if context.mode != "OBJECT" or not is_skeleton(context.active_object):
            cls.poll_message_set("Select a skeleton, in Object Mode")
            return False
        return True

    def execute(self, context: Context) -> set[str]:
        try:
            armature(context.active_object, context)
        except InputError as error:
            self.report({"ERROR"}, error.line)
            return {"CANCELLED"}
        return {"FINISHED"}


_CLASSES = (SDF_OT_skeleton, SDF_OT_armature)


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
