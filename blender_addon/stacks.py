"""Shapes combined live: an object whose mesh follows a list of results, where they stand, until it is applied.

The parts stay as they are and can be moved, refitted, taken out or put in another order; the combination follows
(:mod:`.live`). While they are in a list they are drawn as wires or boxes and are not rendered; taken out they are as
before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy
import numpy as np
from bpy.app.handlers import persistent
from bpy.props import EnumProperty

from ..sdfcore.errors import EngineError
from ..sdfcore.protocol import Message
from . import live, queries, requests, results, spaces, stack_parts
from .following import follow
from .operators import JobOperator, Outcome
from .stack_parts import is_stack, used
from .states import Job

Context = bpy.types.Context

SUFFIX = ".combined"


class Stacks:
    """Makes the mesh of a stack follow its list, and the places of what is in it."""

    def owns(self, obj: Any) -> bool:
        return is_stack(obj) and bool(used(obj.sdf_stack))

    def settings(self, obj: Any) -> Any:
        return obj.sdf_stack

    def body(self, obj: Any, settings: Any, *, coarse: bool) -> dict[str, Any]:
        steps = used(settings)
        operands = [step.operand for step in steps]  # evaluated ones, where the settings are: of the frame of a render
        told = [
            {
                "operation": step.operation, "radius": round(step.radius, 6), "style": step.style,
                "share": round(step.share, 6),
            }
            for step in steps[1:]
        ]  # fmt: skip
        return {
            "steps": told, "offset": round(settings.offset, 6), "wall": round(settings.wall, 6),
            "places": np.round(queries.places(operands), 6).tolist(),
            "models": [results.version(operand.original) for operand in operands], "model": False,
            "resolution": min(settings.drag_resolution, settings.resolution) if coarse else settings.resolution,
        }  # fmt: skip

    def job(self, obj: Any, settings: Any, body: dict[str, Any]) -> Job:
        operands = [step.operand.original for step in used(settings)]
        arrays = {f"model_{number}": requests.model_of(operand) for number, operand in enumerate(operands)}
        full = {**body, "device": requests.device(bpy.context.scene.sdf), "title": obj.name}
        return Job(obj.name, Message("combine", "", full, arrays))


live.FOLLOWERS.append(Stacks())


# --- the list ----------------------------------------------------------------------------------------------------


def add(stack: Any, operand: Any, settings: Any) -> None:
    """``operand`` as the last of the list, in the way the scene's ``settings`` combine; it is drawn as a part then."""
    step = stack.steps.add()
    step.operation, step.share = settings.combine_operation, settings.combine_share
    step.radius, step.style = settings.combine_radius, settings.combine_style
    step.operand = operand


def create(objects: list[Any], context: Context) -> Any:
    """An object combined of ``objects``, results, in turn; the scene's settings say how."""
    settings = context.scene.sdf
    name = objects[0].name + SUFFIX
    made = spaces.put(name, bpy.data.meshes.new(name), np.eye(4), results.collection(context.scene))
    stack = made.sdf_stack
    for operand in objects:
        add(stack, operand, settings)
    if settings.resolution:
        stack.resolution = settings.resolution
    spaces.select_only(made, context)
    return made


class _InObjectMode(bpy.types.Operator):
    @classmethod
    def poll(cls, context: Context) -> bool:
        if context.mode != "OBJECT":
            cls.poll_message_set("Leave the current mode: combining works in Object Mode")
            return False
        return True


class SDF_OT_stack(_InObjectMode):
    bl_idname = "sdf.stack"
    bl_label = "Combine Live"
    bl_description = (
        "Make an object that follows the selected results, combined in turn: move them, change the list, and it is "
        "made anew. Meanwhile they are drawn as wires or boxes, and not rendered"
    )
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not super().poll(context):
            return False
        if len(queries.combinable(context)) < 2:
            cls.poll_message_set("Select two or more results of Fit SDF")
            return False
        return True

    def execute(self, context: Context) -> Outcome:
        return follow(self, create(queries.combinable(context), context), wait=live.waits())


class _OnStack(_InObjectMode):
    @classmethod
    def poll(cls, context: Context) -> bool:
        if not super().poll(context):
            return False
        if not is_stack(context.active_object):
            cls.poll_message_set("Select an object made by Combine Live")
            return False
        return True


class SDF_OT_stack_add(_OnStack):
    bl_idname = "sdf.stack_add"
    bl_label = "Add Shapes"
    bl_description = "Add the other selected results to the list"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not super().poll(context):
            return False
        if not _others(context):
            cls.poll_message_set("Select results of Fit SDF, too, that are not in the list")
            return False
        return True

    def execute(self, context: Context) -> Outcome:
        obj, settings = context.active_object, context.scene.sdf
        for operand in _others(context):
            add(obj.sdf_stack, operand, settings)
        obj.sdf_stack.active = len(obj.sdf_stack.steps) - 1
        return follow(self, obj, wait=live.waits())


def _others(context: Context) -> list[Any]:
    held = {step.operand for step in context.active_object.sdf_stack.steps}
    return [o for o in queries.combinable(context) if o not in held and o != context.active_object]


class SDF_OT_stack_remove(_OnStack):
    bl_idname = "sdf.stack_remove"
    bl_label = "Remove Shape"
    bl_description = "Take the shape out of the list; the object itself stays"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not super().poll(context):
            return False
        if len(context.active_object.sdf_stack.steps) < 2:
            cls.poll_message_set("One shape has to stay: delete the object instead")
            return False
        return True

    def execute(self, context: Context) -> Outcome:
        stack = context.active_object.sdf_stack
        at = min(stack.active, len(stack.steps) - 1)
        stack.steps.remove(at)
        stack.active = max(0, min(at, len(stack.steps) - 1))
        stack_parts.tidy()
        stack_parts.watch(context.active_object)
        return follow(self, context.active_object, wait=live.waits())


class SDF_OT_stack_move(_OnStack):
    bl_idname = "sdf.stack_move"
    bl_label = "Move Shape"
    bl_description = "Let the shape change places with its neighbour in the list"
    bl_options = {"REGISTER", "UNDO"}

    direction: EnumProperty(
        name="Direction", description="Where to", items=[("UP", "Up", "Earlier"), ("DOWN", "Down", "Later")]
    )

    def execute(self, context: Context) -> Outcome:
        stack = context.active_object.sdf_stack
        to = stack.active + (-1 if self.direction == "UP" else 1)
        if not 0 <= to < len(stack.steps):
            return {"CANCELLED"}
        stack.steps.move(stack.active, to)
        stack.active = to
        return follow(self, context.active_object, wait=live.waits())


class SDF_OT_stack_apply(JobOperator):
    bl_idname = "sdf.stack_apply"
    bl_label = "Apply"
    bl_description = "Make the combination a result of its own, that does not follow any more; the parts stay"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        obj = context.active_object
        if context.mode != "OBJECT" or not is_stack(obj) or not used(obj.sdf_stack):
            cls.poll_message_set("Select an object made by Combine Live, in Object Mode")
            return False
        return True

    def jobs(self, context: Context, preview: bool) -> list[Callable[[], Job]]:
        obj = context.active_object
        return [lambda: apply_job(obj, context)]


def apply_job(obj: Any, context: Context) -> Job:
    """``obj`` at its full resolution and with its model; its list is emptied then."""
    body = {**live.wanted(obj), "model": True}
    follower = live.follower(obj)
    assert follower is not None
    job = follower.job(obj, obj.sdf_stack, body)
    uid, name, scene = obj.session_uid, obj.name, context.scene.session_uid

    def put(message: Message, _context: Context) -> Any:
        found = results.by_uid(bpy.data.objects, uid)
        if found is None:
            raise EngineError(f"{name} is no longer in the scene.", "Undo its deletion, or combine again.")
        if live.follower(found) is None or {**live.wanted(found), "model": True} != body:
            raise EngineError(f"{name} was changed meanwhile.", "Apply again: what came is of the list as it was.")
        live.show(found, "", message)
        del found.data[live.SHOWN]
        target = results.Target(name, 0, 0, scene, np.eye(4), np.eye(4), None)
        results.describe(found, target, message)
        found.sdf_stack.steps.clear()
        stack_parts.unwatch(found)
        stack_parts.tidy()
        return found

    job.target["put"] = put
    return job


# --- following what is moved -------------------------------------------------------------------------------------


@persistent
def _on_update(_scene: Any, depsgraph: Any) -> None:
    """A result was moved, refitted or deleted: what it is part of follows. A combination was: its parts are free."""
    changed, regrouped = False, False
    for update in depsgraph.updates:
        if isinstance(update.id, bpy.types.Object):
            anew = update.is_updated_transform or update.is_updated_geometry
            changed = changed or (anew and results.MODEL in update.id.original)
        else:
            regrouped = regrouped or isinstance(update.id, (bpy.types.Scene, bpy.types.Collection))
    regrouped = regrouped and (stack_parts.any_parts() or bool(stack_parts.all_stacks()))
    if regrouped:
        stack_parts.tidy()
    if changed or regrouped:
        for obj in stack_parts.all_stacks():
            if live.follower(obj) is not None and not live.is_right(obj) and not live.has_failed(obj):
                live.touch(obj)


@persistent
def _on_history(*_: Any) -> None:
    """A combination may have come back, or gone: what this did to its parts is in no undo step."""
    stack_parts.tidy()


_HANDLERS = (
    ("depsgraph_update_post", _on_update),
    *((name, _on_history) for name in ("undo_post", "redo_post", "load_post")),
)
_CLASSES = (
    SDF_OT_stack, SDF_OT_stack_add, SDF_OT_stack_remove, SDF_OT_stack_move, SDF_OT_stack_apply
)  # fmt: skip


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    for name, handler in _HANDLERS:
        getattr(bpy.app.handlers, name).append(handler)


def unregister() -> None:
    for name, handler in _HANDLERS:
        held = getattr(bpy.app.handlers, name)
        if handler in held:
            held.remove(handler)
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
