"""Shapes while they are parts of a combination: drawn as wires or boxes, not rendered, and watched.

What they were before is kept on the parts themselves, so that it comes back however they leave: taken out of the list,
exchanged in it, or because the combination is applied or deleted.
"""

from __future__ import annotations

from typing import Any

import bpy

from . import results

SHOWN_AS, HIDDEN, DRAWN_AS = "sdf_shown_as", "sdf_hidden_before", "sdf_drawn_as"
_WIRES = 5000  # faces, up to which wires are drawn: more would be a black cloud over the combination
_WATCHED = "sdf_stack.seen"


def is_stack(obj: Any) -> bool:
    """Whether the mesh of ``obj`` follows a list of shapes."""
    return obj is not None and obj.type == "MESH" and not obj.library and len(obj.sdf_stack.steps) > 0


def all_stacks() -> list[Any]:
    """The combinations of the file that have not been deleted."""
    return [obj for obj in bpy.data.objects if is_stack(obj) and results.is_placed(obj)]


def used(stack: Any) -> list[Any]:
    """The steps that count: switched on, and with a shape that has a model and has not been deleted."""
    return [step for step in stack.steps if step.use and _counts(step.operand)]


def _counts(operand: Any) -> bool:
    return operand is not None and results.MODEL in operand and results.is_placed(operand.original)


def tidy() -> None:
    """Draw what is in a list as a part, and what is in none any more as before."""
    held = {step.operand for obj in all_stacks() for step in obj.sdf_stack.steps if step.operand is not None}
    for obj in bpy.data.objects:
        if SHOWN_AS in obj and obj not in held and not results.of_another_file(obj):
            _show_as_before(obj)
    for part in held:
        if SHOWN_AS not in part and not results.of_another_file(part):
            part[SHOWN_AS], part[HIDDEN] = part.display_type, part.hide_render
            part.display_type = part[DRAWN_AS] = "WIRE" if _faces(part) <= _WIRES else "BOUNDS"
            part.hide_render = True


def _faces(part: Any) -> int:
    return len(part.data.polygons) if part.type == "MESH" else 0


def _show_as_before(part: Any) -> None:
    """If nobody has changed that since."""
    if part.display_type == part.pop(DRAWN_AS, "WIRE"):
        part.display_type = part[SHOWN_AS]
    if part.hide_render:
        part.hide_render = bool(part[HIDDEN])
    del part[SHOWN_AS], part[HIDDEN]


def any_parts() -> bool:
    """Whether anything is drawn as a part."""
    return any(SHOWN_AS in obj and not results.of_another_file(obj) for obj in bpy.data.objects)


def watch(obj: Any) -> None:
    """Let Blender know that ``obj`` depends on where its parts are: a render moves no hidden object otherwise."""
    obj.driver_remove(_WATCHED)
    driver = obj.driver_add(_WATCHED).driver
    driver.type = "SUM"
    for operand in dict.fromkeys(step.operand for step in obj.sdf_stack.steps if step.operand is not None):
        variable = driver.variables.new()
        variable.type = "TRANSFORMS"
        variable.targets[0].id = operand


def unwatch(obj: Any) -> None:
    """It follows nothing any more."""
    obj.driver_remove(_WATCHED)
    if obj.animation_data is not None and not obj.animation_data.drivers and obj.animation_data.action is None:
        obj.animation_data_clear()
