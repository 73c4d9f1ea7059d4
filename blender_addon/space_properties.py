"""What a scene is told about shape spaces, and where in a space an object is: all of it can be keyframed there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    FloatVectorProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from . import live, spaces

Context = bpy.types.Context

BLEND, EXPLORE = "BLEND", "EXPLORE"


def _changed(self: Any, _context: Context) -> None:
    live.touch(self.id_data)


class SDFShape(bpy.types.PropertyGroup):
    """A shape of the scene's space, by its name."""


class SDFStop(bpy.types.PropertyGroup):
    """A shape that the way from shape to shape goes through."""

    name: StringProperty(name="Stop", description="The way from shape to shape goes through this one")


class SDFWeight(bpy.types.PropertyGroup):
    """The share of one shape, whose name this has."""

    value: FloatProperty(
        name="Weight",
        description="Share of this shape in the blend; all weights are divided by their sum",
        default=1.0,
        soft_min=0.0,
        soft_max=1.0,
        min=-10.0,
        max=10.0,
        update=_changed,
    )


class SDFBlend(bpy.types.PropertyGroup):
    """``object.sdf_blend``: where the object is in the space it carries. Its mesh follows."""

    kind: StringProperty(
        name="Kind", description="BLEND of shapes, EXPLORE along directions, or nothing", options={"HIDDEN"}
    )
    factor: FloatProperty(
        name="Factor",
        description="0 is the first shape, 1 the second; beyond them the change goes on",
        default=0.5,
        soft_min=0.0,
        soft_max=1.0,
        min=-1.0,
        max=2.0,
        subtype="FACTOR",
        update=_changed,
    )
    weights: CollectionProperty(type=SDFWeight, name="Weights", description="The share of every shape in the blend")
    amounts: FloatVectorProperty(
        name="Directions",
        description="How far along each principal direction, in standard deviations of the learned shapes",
        size=spaces.DIRECTIONS,
        default=(0.0,) * spaces.DIRECTIONS,
        soft_min=-2.5,
        soft_max=2.5,
        min=-10.0,
        max=10.0,
        update=_changed,
    )
    resolution: IntProperty(
        name="Resolution",
        description="Cells along the longest side when the shape is at rest, and when it is rendered",
        default=128,
        min=16,
        soft_max=512,
        max=2048,
        update=_changed,
    )
    drag_resolution: IntProperty(
        name="While Dragging",
        description="Cells along the longest side while a slider is dragged",
        default=32,
        min=8,
        soft_max=128,
        max=512,
    )


class SDFShapeSettings(bpy.types.PropertyGroup):
    """``scene.sdf_shapes``: how spaces are learned, and what is made of them."""

    source: PointerProperty(
        type=bpy.types.Collection,
        name="Collection",
        description="Learn from all objects of this collection; without one, from the selected objects",
    )
    preset: EnumProperty(
        name="Preset",
        description="How much work goes into the space: network size and steps",
        items=[
            ("draft", "Draft", "A small network, in a minute on a laptop"),
            ("balanced", "Balanced", "For a few dozen shapes, in minutes"),
            ("fine", "Fine", "For many shapes with detail; wants a GPU"),
        ],
    )
    steps: IntProperty(
        name="Steps",
        description="Training steps; more follow the shapes more closely. 0 takes the preset's",
        default=0,
        min=0,
        soft_max=20_000,
        max=10_000_000,
    )
    seconds: FloatProperty(
        name="Time Limit",
        description="Seconds the learning may take at most. 0 sets no limit",
        default=0.0,
        min=0.0,
        soft_max=3600.0,
        precision=0,
    )
    code_size: IntProperty(
        name="Code Size",
        description="Numbers that tell one shape from another. 0 takes the preset's",
        default=0,
        min=0,
        soft_max=256,
        max=4096,
    )
    together: BoolProperty(
        name="Together",
        description="Learn sizes and places as part of the shapes, in one frame for all; "
        "else every shape keeps a place of its own, and small ones come out as well as large ones",
        default=False,
    )
    blend_seconds: FloatProperty(
        name="Blend Time",
        description="Seconds that Blend may learn from the selected objects",
        default=20.0,
        min=1.0,
        soft_max=300.0,
        precision=0,
    )
    shapes: CollectionProperty(type=SDFShape, name="Shapes", description="The shapes of this scene's space")
    active_shape: IntProperty(name="Active Shape", description="The shape that is chosen in the list", default=0, min=0)
    stops: CollectionProperty(type=SDFStop, name="Stops", description="The shapes that the way goes through, in order")
    mode: EnumProperty(
        name="Make",
        description="What becomes of the shapes on the way",
        items=[
            ("OBJECTS", "Objects", "An object for every shape on the way, in a collection of its own"),
            ("ANIMATION", "Animation", "Objects of which each is shown in its part of a range of frames"),
            ("SHAPE_KEYS", "Shape Keys", "One mesh of fixed topology with a shape key for every shape on the way"),
        ],
    )
    count: IntProperty(
        name="Shapes", description="How many shapes, the first and the last included", default=5, min=2, max=1000
    )
    frame_start: IntProperty(name="Start", description="Frame at which the first shape is shown", default=1)
    frame_end: IntProperty(name="End", description="Frame at which the last shape is shown", default=60)
    spherical: BoolProperty(
        name="Spherical",
        description="Go along the arc between the codes instead of the straight line: for codes of high dimension",
        default=False,
    )
    resolution: IntProperty(
        name="Resolution",
        description="Cells along the longest side when a shape of the space is meshed",
        default=128,
        min=16,
        soft_max=512,
        max=2048,
    )
    rotate: BoolProperty(
        name="Find Rotation", description="The scan may face any direction: look for it. Takes longer", default=False
    )
    align: BoolProperty(
        name="Find Place and Size", description="Look for the scale and the place of the whole shape", default=True
    )
    tune: BoolProperty(
        name="Follow the Scan",
        description="Bring the surface to the scan's own accuracy where something was scanned",
        default=True,
    )
    complete_seconds: FloatProperty(
        name="Time Limit",
        description="Seconds the completion may take at most. 0 sets no limit",
        default=0.0,
        min=0.0,
        soft_max=600.0,
        precision=0,
    )

    def list_shapes(self, names: Sequence[str]) -> None:
        """Show ``names`` as the shapes of the space, and go from the first to the last where the stops are gone."""
        self.shapes.clear()
        for name in names:
            self.shapes.add().name = name
        self.active_shape = min(self.active_shape, max(len(names) - 1, 0))
        if len(self.stops) < 2 or any(stop.name not in names for stop in self.stops):
            self.set_stops([names[0], names[-1]] if names else [])

    def set_stops(self, names: Sequence[str]) -> None:
        """Let the way go through the shapes of these names."""
        self.stops.clear()
        for name in names:
            self.stops.add().name = name


_CLASSES = (SDFShape, SDFStop, SDFWeight, SDFBlend, SDFShapeSettings)


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.sdf_shapes = PointerProperty(
        type=SDFShapeSettings, name="Shape Space", description="Settings of shape spaces"
    )
    bpy.types.Object.sdf_blend = PointerProperty(
        type=SDFBlend, name="Blend", description="Where in its shape space this object is"
    )


def unregister() -> None:
    del bpy.types.Object.sdf_blend
    del bpy.types.Scene.sdf_shapes
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
