"""Objects that are a place in a shape space: blends of what is selected, and explorations of the scene's space.

Each carries its space and follows the sliders in ``object.sdf_blend`` (:mod:`.live`); a shape that is liked is kept as
an object of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy
import numpy as np
from bpy.props import FloatProperty, IntProperty
from mathutils import Matrix

from ..sdfcore.errors import SdfError, describe, rebuild
from ..sdfcore.protocol import Message
from . import host, live, results, spaces
from .following import follow
from .operators import JobOperator, Outcome
from .space_operators import in_object_mode, shape_job, with_space
from .space_properties import BLEND, EXPLORE
from .states import Job

Context = bpy.types.Context


def _live_object(name: str, message: Message, owner: tuple[Any, dict[str, Any]], scene: Any) -> Any:
    """A new object whose mesh is the one in ``message`` and which carries the space of ``owner``, (bytes, about).

    If there was no surface where it begins, it is empty: it has one as soon as its sliders are where there is.
    """
    if "undecoded" in message.body:
        mesh, matrix = bpy.data.meshes.new(name), np.eye(4)
    else:
        mesh, matrix = spaces.mesh_of(name, message, scene)
    obj = spaces.put(name, mesh, matrix, results.collection(scene))
    spaces.keep(obj, *owner)
    return obj


class SDF_OT_blend(JobOperator):
    bl_idname = "sdf.blend"
    bl_label = "Blend"
    bl_description = (
        "Learn a shape space from the selected objects alone, and make an object between them with a slider"
    )
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not in_object_mode(cls, context):
            return False
        if spaces.running({"learn"}):
            cls.poll_message_set("A shape space is being learned")
            return False
        if sum(spaces.learnable(obj) for obj in context.selected_objects) < 2:
            cls.poll_message_set("Select two or more objects with a surface")
            return False
        return True

    def jobs(self, context: Context, preview: bool) -> list[Callable[[], Job]]:
        chosen = [obj for obj in context.selected_objects if spaces.learnable(obj)]
        chosen.sort(key=lambda obj: (obj == context.active_object, obj.name_full))  # towards the active one
        return [lambda: _blend_job(chosen, context, preview)]


def _blend_job(objects: list[Any], context: Context, preview: bool) -> Job:
    settings, scene = context.scene.sdf_shapes, context.scene
    names = [obj.name_full for obj in objects]
    share = 0.5 if len(names) == 2 else 1.0
    place = {"weights": dict.fromkeys(names, share), "resolution": settings.resolution}
    options = {"preset": "draft", "seconds": settings.blend_seconds, "code_size": None, "decode": place}
    job = spaces.learn_job(objects, context, preview, **options)
    job.title = f"Blend of {len(names)} shapes"
    uid, resolution = scene.session_uid, settings.resolution

    def put(message: Message, context: Context) -> Any:
        home = spaces.scene_of(uid, context)
        owner = message.arrays.get("space"), dict(message.body)
        obj = _live_object("Blend", message, owner, home)
        if not spaces.has(home):  # so that it can be interpolated and explored, too
            spaces.keep(home, *owner)
        for name in names:
            obj.sdf_blend.weights.add().name = name
        begun = _begin(obj, BLEND, resolution, context)
        if "undecoded" in message.body:
            _say_empty(job.title, obj, rebuild(message.body["undecoded"]))
        return begun

    job.target["put"] = put
    return job


def _say_empty(title: str, obj: Any, error: SdfError) -> None:
    del obj.data[live.SHOWN]
    hint = f"{error.hint} What was learned is kept in {obj.name}: move its slider."
    host.runtime().notice = host.Notice(title, rebuild({**describe(error), "hint": hint.strip()}), "learn")


def _begin(obj: Any, kind: str, resolution: int, context: Context) -> Any:
    """From now on the mesh follows; what it shows now is what its sliders say."""
    blend = obj.sdf_blend
    blend.resolution = resolution
    blend.kind = kind
    obj.data[live.SHOWN] = live.key_of(live.body_of(obj))
    spaces.select_only(obj, context)
    return obj


class SDF_OT_explore(JobOperator):
    bl_idname = "sdf.explore"
    bl_label = "Explore"
    bl_description = (
        "Make an object of the space's mean shape, with sliders along the directions in which shapes differ most"
    )
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not with_space(cls, context):
            return False
        if spaces.directions(context.scene) == 0:
            cls.poll_message_set("The space has a single shape: there is no direction to go")
            return False
        return True

    def jobs(self, context: Context, preview: bool) -> list[Callable[[], Job]]:
        return [lambda: _explore_job(context)]


def _explore_job(context: Context) -> Job:
    scene = context.scene
    data, about = spaces.array(scene), spaces.about(scene)
    resolution, uid = scene.sdf_shapes.resolution, scene.session_uid
    body = {"amounts": [0.0] * spaces.directions(scene), "resolution": resolution}
    job = spaces.request("decode", "Explore", body, data, scene)

    def put(message: Message, context: Context) -> Any:
        obj = _live_object("Explored", message, (data, about), spaces.scene_of(uid, context))
        return _begin(obj, EXPLORE, resolution, context)

    job.target["put"] = put
    return job


class _OnLive(bpy.types.Operator):
    """An operator on the active object, which follows sliders."""

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not in_object_mode(cls, context):
            return False
        if live.follower(context.active_object) is None:
            cls.poll_message_set("Select an object made by Blend, Explore or Combine Live")
            return False
        return True


class SDF_OT_randomise(_OnLive):
    bl_idname = "sdf.randomise"
    bl_label = "Randomise"
    bl_description = "Draw a shape of the space at random: the same seed gives the same shape"
    bl_options = {"REGISTER", "UNDO"}

    seed: IntProperty(name="Seed", description="Start of the random numbers", default=0, min=0)
    spread: FloatProperty(
        name="Spread",
        description="How far from the mean, in standard deviations of the learned shapes",
        default=1.0,
        min=0.0,
        soft_max=2.0,
        max=5.0,
    )

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not super().poll(context):
            return False
        if context.active_object.sdf_blend.kind != EXPLORE:
            cls.poll_message_set("Select an object made by Explore")
            return False
        return True

    def invoke(self, context: Context, _event: Any) -> Outcome:
        self.seed += 1  # another click, another shape; the seed can be set below the viewport
        return self.execute(context)

    def execute(self, context: Context) -> Outcome:
        obj = context.active_object
        drawn = np.random.default_rng(self.seed).normal(size=spaces.DIRECTIONS) * self.spread
        drawn[spaces.directions(obj) :] = 0
        obj.sdf_blend.amounts = [float(np.clip(value, -3, 3)) for value in drawn]
        return follow(self, obj, wait=bpy.app.background)  # the seed may be dragged, too


class SDF_OT_refresh_shape(_OnLive):
    bl_idname = "sdf.refresh_shape"
    bl_label = "Refresh"
    bl_description = "Bring the mesh up to date with its sliders, at full resolution"
    bl_options = {"REGISTER"}

    def invoke(self, context: Context, _event: Any) -> Outcome:
        return self.execute(context)

    def execute(self, context: Context) -> Outcome:
        return follow(self, context.active_object, wait=host.waits(self))


class SDF_OT_keep_shape(JobOperator):
    bl_idname = "sdf.keep_shape"
    bl_label = "Keep Shape"
    bl_description = (
        "Copy the shape, as it is now and at full resolution, to an object of its own that can be re-meshed"
    )
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not in_object_mode(cls, context):
            return False
        if not live.is_live(context.active_object):
            cls.poll_message_set("Select an object made by Blend or Explore")
            return False
        return True

    def jobs(self, context: Context, preview: bool) -> list[Callable[[], Job]]:
        return [lambda: _keep_job(context.active_object, context.scene)]


def _keep_job(obj: Any, scene: Any) -> Job:
    job = shape_job(obj.name, {**live.body_of(obj), "model": True}, spaces.array(obj), scene)
    decoded = Matrix(results.stored_matrix(obj, results.MATRIX).tolist())
    moved = obj.matrix_world @ decoded.inverted()  # where it has been taken since it was made
    materials = [0 if material is None else material.session_uid for material in obj.data.materials]
    name, plain = f"{obj.name}.kept", job.target["put"]

    def put(message: Message, context: Context) -> Any:
        kept = plain(message, context)
        kept.name = kept.data.name = name
        kept.matrix_world = moved @ kept.matrix_world
        for uid in materials:
            kept.data.materials.append(results.by_uid(bpy.data.materials, uid))
        return kept

    job.target["put"] = put
    return job


_CLASSES = (SDF_OT_blend, SDF_OT_explore, SDF_OT_randomise, SDF_OT_refresh_shape, SDF_OT_keep_shape)


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
