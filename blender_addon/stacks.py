"""Shapes combined live: an object whose mesh follows a list of results, where they stand, until it is applied.

The parts stay as they are and can be moved, refitted, taken out or put in another order; the combination follows
(:mod:`.live`). While they are in a list they are drawn as wires; taken out they are drawn as before.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import bpy
import numpy as np
from bpy.app.handlers import persistent
from bpy.props import EnumProperty

from ..sdfcore.errors import EngineError, SdfError
from ..sdfcore.protocol import Message
from . import live, queries, requests, results, spaces
from .operators import JobOperator, Outcome
from .states import Job

Context = bpy.types.Context

SUFFIX = ".combined"


def is_stack(obj: Any) -> bool:
    """Whether the mesh of ``obj`` follows a list of shapes."""
    return obj is not None and obj.type == "MESH" and not obj.library and len(obj.sdf_stack.steps) > 0


def used(stack: Any) -> list[Any]:
    """The steps that count: switched on, and with a shape that has a model."""
    return [s for s in stack.steps if s.use and s.operand is not None and results.MODEL in s.operand]


class Stacks:
    """Makes the mesh of a stack follow its list, and the places of what is in it."""

    def owns(self, obj: Any) -> bool:
        return is_stack(obj) and bool(used(obj.sdf_stack))

    def settings(self, obj: Any) -> Any:
        return obj.sdf_stack

    def body(self, obj: Any, settings: Any, *, coarse: bool) -> dict[str, Any]:
        steps = used(settings)
        operands = [step.operand.original for step in steps]
        told = [
            {"operation": step.operation, "radius": round(step.radius, 6), "style": step.style} for step in steps[1:]
        ]
        return {
            "steps": told, "places": np.round(queries.places(operands), 6).tolist(),
            "models": [_version(operand) for operand in operands], "model": False,
            "resolution": min(settings.drag_resolution, settings.resolution) if coarse else settings.resolution,
        }  # fmt: skip

    def job(self, obj: Any, body: dict[str, Any]) -> Job:
        operands = [step.operand for step in used(obj.sdf_stack)]
        arrays = {f"model_{number}": requests.model_of(operand) for number, operand in enumerate(operands)}
        full = {**body, "device": requests.device(bpy.context.scene.sdf), "title": obj.name}
        return Job(obj.name, Message("combine", "", full, arrays))


def _version(result: Any) -> int:
    """Another number for another model: the report of a fit says when and how it was made."""
    return zlib.crc32(str(result.get(results.REPORT, "")).encode())


live.FOLLOWERS.append(Stacks())


# --- the list ----------------------------------------------------------------------------------------------------


def add(stack: Any, operand: Any, operation: str, radius: float, style: str) -> None:
    """``operand`` as the last of the list, drawn as wires from now on."""
    step = stack.steps.add()
    step.shown, step.operand = operand.display_type, operand
    step.operation, step.radius, step.style = operation, radius, style
    operand.display_type = "WIRE"


def show_as_before(step: Any) -> None:
    """What leaves the list is drawn as it was before, if nobody has changed that since."""
    if step.operand is not None and step.shown and step.operand.display_type == "WIRE":
        step.operand.display_type = step.shown


def create(objects: list[Any], context: Context) -> Any:
    """An object combined of ``objects``, results, in turn; the scene's settings say how."""
    settings = context.scene.sdf
    name = objects[0].name + SUFFIX
    made = spaces.put(name, bpy.data.meshes.new(name), np.eye(4), results.collection(context.scene))
    stack = made.sdf_stack
    operation = "union" if settings.combine_operation == "morph" else settings.combine_operation
    for operand in objects:
        add(stack, operand, operation, settings.combine_radius, settings.combine_style)
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

    def followed(self, obj: Any) -> Outcome:
        """Bring the mesh up to date, by and by, or at once where there is no timer."""
        if not live.waits():
            live.follow(obj)
            return {"FINISHED"}
        try:
            live.refresh(obj)
        except SdfError as error:
            self.report({"ERROR"}, error.line)
            return {"CANCELLED"}
        return {"FINISHED"}


class SDF_OT_stack(_InObjectMode):
    bl_idname = "sdf.stack"
    bl_label = "Combine Live"
    bl_description = (
        "Make an object that follows the selected results, combined in turn: move them, change the list, and it is "
        "made anew. Nothing of them is changed"
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
        return self.followed(create(queries.combinable(context), context))


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
        operation = "union" if settings.combine_operation == "morph" else settings.combine_operation
        for operand in _others(context):
            add(obj.sdf_stack, operand, operation, settings.combine_radius, settings.combine_style)
        obj.sdf_stack.active = len(obj.sdf_stack.steps) - 1
        return self.followed(obj)


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
        show_as_before(stack.steps[at])
        stack.steps.remove(at)
        stack.active = max(0, min(at, len(stack.steps) - 1))
        return self.followed(context.active_object) if used(stack) else {"FINISHED"}


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
        return self.followed(context.active_object)


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
    job = follower.job(obj, body)
    uid, name, scene = obj.session_uid, obj.name, context.scene.session_uid

    def put(message: Message, _context: Context) -> Any:
        found = results.by_uid(bpy.data.objects, uid)
        if found is None:
            raise EngineError(f"{name} is no longer in the scene.", "Undo its deletion, or combine again.")
        live.show(found, "", message)
        del found.data[live.SHOWN]
        target = results.Target(name, 0, 0, scene, np.eye(4), np.eye(4), None)
        results.describe(found, target, message)
        for step in found.sdf_stack.steps:
            show_as_before(step)
        found.sdf_stack.steps.clear()
        return found

    job.target["put"] = put
    return job


# --- following what is moved -------------------------------------------------------------------------------------


def _with(operand: Any) -> Iterator[Any]:
    """The stacks that ``operand`` is part of."""
    for obj in bpy.data.objects:
        if is_stack(obj) and any(step.operand == operand for step in obj.sdf_stack.steps):
            yield obj


@persistent
def _on_update(_scene: Any, depsgraph: Any) -> None:
    """A result was moved: what it is part of follows."""
    for update in depsgraph.updates:
        moved = update.id.original
        if isinstance(moved, bpy.types.Object) and update.is_updated_transform and results.MODEL in moved:
            for stack in _with(moved):
                if not live.is_right(stack):
                    live.touch(stack)


_CLASSES = (
    SDF_OT_stack, SDF_OT_stack_add, SDF_OT_stack_remove, SDF_OT_stack_move, SDF_OT_stack_apply
)  # fmt: skip


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    bpy.app.handlers.depsgraph_update_post.append(_on_update)


def unregister() -> None:
    if _on_update in bpy.app.handlers.depsgraph_update_post:
        bpy.app.handlers.depsgraph_update_post.remove(_on_update)
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
