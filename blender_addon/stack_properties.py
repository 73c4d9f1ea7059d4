"""The list of shapes that an object is combined of: ``object.sdf_stack``. All of it can be keyframed there."""

from __future__ import annotations

from typing import Any

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    IntProperty,
    PointerProperty,
)

from . import choices, live, results, stack_parts

Context = bpy.types.Context

OPERATIONS = [
    ("union", "Union", "What is in either", "SELECT_EXTEND", 0),
    ("intersection", "Intersection", "What is in both", "SELECT_INTERSECT", 1),
    ("difference", "Difference", "What is above it in the list, without this", "SELECT_SUBTRACT", 2),
    ("morph", "Morph", "Between what is above it in the list and this", "MOD_SIMPLEDEFORM", 3),
]


def _changed(self: Any, _context: Context) -> None:
    live.touch(self.id_data)


def _exchanged(self: Any, _context: Context) -> None:
    stack_parts.tidy()
    stack_parts.watch(self.id_data)
    live.touch(self.id_data)


def _fitted(self: Any, obj: Any) -> bool:
    return results.MODEL in obj and obj != self.id_data and not results.fixed(obj)


class SDFStep(bpy.types.PropertyGroup):
    """One shape of the list, and what is done with it; of the first one nothing."""

    operand: PointerProperty(
        type=bpy.types.Object, name="Shape", description="A result of Fit SDF", poll=_fitted, update=_exchanged
    )
    operation: EnumProperty(
        name="Operation", description="How it goes with what is above it", items=OPERATIONS, update=_changed
    )
    radius: FloatProperty(
        name="Blend",
        description="How far from the seam it flows into what is above it; 0 leaves the seam sharp",
        subtype="DISTANCE",
        unit="LENGTH",
        default=0.0,
        min=0.0,
        precision=4,
        update=_changed,
    )
    style: EnumProperty(name="Seam", description="How the seam is blended", items=choices.STYLES, update=_changed)
    share: FloatProperty(
        name="Share",
        description="How far a morph goes from what is above it to this",
        subtype="FACTOR",
        default=0.5,
        min=0.0,
        max=1.0,
        update=_changed,
    )
    use: BoolProperty(name="Use", description="Whether it counts", default=True, update=_changed)


class SDFStack(bpy.types.PropertyGroup):
    """``object.sdf_stack``: the shapes that the object is combined of. Its mesh follows."""

    steps: CollectionProperty(type=SDFStep, name="Shapes", description="What the object is combined of, in turn")
    active: IntProperty(name="Active", description="The shape that is shown below the list", default=0, min=0)
    offset: FloatProperty(
        name="Offset",
        description="How far the surface of the whole is moved outwards",
        subtype="DISTANCE",
        unit="LENGTH",
        default=0.0,
        precision=4,
        update=_changed,
    )
    wall: FloatProperty(
        name="Wall",
        description="Thickness of a shell in the place of the solid; 0 for the solid",
        subtype="DISTANCE",
        unit="LENGTH",
        default=0.0,
        min=0.0,
        precision=4,
        update=_changed,
    )
    resolution: IntProperty(
        name="Resolution",
        description="Cells along the longest side when nothing changes, and when it is rendered",
        default=128,
        min=16,
        soft_max=512,
        max=2048,
        update=_changed,
    )
    drag_resolution: IntProperty(
        name="While Dragging",
        description="Cells along the longest side while something changes",
        default=40,
        min=8,
        soft_max=128,
        max=512,
    )
    seen: FloatProperty(
        name="Seen",
        description="Driven by the places of the shapes, so that they are known",
        options={"HIDDEN", "ANIMATABLE"},
    )


_CLASSES = (SDFStep, SDFStack)


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Object.sdf_stack = PointerProperty(
        type=SDFStack, name="Neural SDF Stack", description="The shapes that the object is combined of"
    )


def unregister() -> None:
    del bpy.types.Object.sdf_stack
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
