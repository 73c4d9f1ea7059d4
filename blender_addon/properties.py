"""The settings of a fit, kept in the scene; nothing here knows of running jobs."""

from __future__ import annotations

from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, PointerProperty, StringProperty

from . import choices, host, sizes

Context = bpy.types.Context


def _recipes(_self: Any, _context: Context | None) -> list[choices.Item]:
    return choices.recipe_items(host.backend())


def _presets(_self: Any, _context: Context | None) -> list[choices.Item]:
    return choices.preset_items(host.backend())


def _devices(self: SDFSettings, _context: Context | None) -> list[choices.Item]:
    return choices.device_items(host.backend(), choices.DEFAULT_DEVICE, getattr(self, "device_id", ""))


def _remember_device(self: SDFSettings, _context: Context) -> None:
    self.device_id = self.device


def _voxel_size(self: SDFSettings) -> float:
    return sizes.voxel(bpy.context.object, self.cells)


def _set_voxel_size(self: SDFSettings, value: float) -> None:
    wanted = sizes.cells(bpy.context.object, value)
    if wanted:
        self.resolution = min(max(wanted, 16), 2048)


class SDFSettings(bpy.types.PropertyGroup):
    """``scene.sdf``: what Fit SDF and Re-mesh do."""

    recipe: EnumProperty(name="Recipe", description="The method that fits the surface", items=_recipes)
    preset: EnumProperty(
        name="Preset", description="How much work goes into the fit: network size, steps and resolution", items=_presets
    )
    steps: IntProperty(
        name="Steps",
        description="Training steps; more follow the input more closely. 0 takes the preset's",
        default=0,
        min=0,
        soft_max=20_000,
        max=10_000_000,
    )
    seconds: FloatProperty(
        name="Time Limit",
        description="Seconds the fit may take at most. 0 sets no limit",
        default=0.0,
        min=0.0,
        soft_max=600.0,
        precision=0,
    )
    resolution: IntProperty(
        name="Resolution",
        description="Cells along the longest side of the object when the surface is meshed. 0 takes the preset's",
        default=0,
        min=0,
        soft_max=1024,
        max=4096,
    )
    voxel_size: FloatProperty(
        name="Voxel Size",
        description="Edge of one cell in scene units, for the active object: another way to set the resolution",
        subtype="DISTANCE",
        unit="LENGTH",
        min=0.0,
        precision=4,
        get=_voxel_size,
        set=_set_voxel_size,
    )
    level: FloatProperty(
        name="Offset",
        description="Distance from the fitted surface to the mesh in scene units; positive grows, negative shrinks",
        subtype="DISTANCE",
        unit="LENGTH",
        default=0.0,
        step=1,
        precision=4,
    )
    device: EnumProperty(
        name="Device", description="What the backend computes on", items=_devices, update=_remember_device
    )
    device_id: StringProperty(  # an enum is stored as a number, which names a device only once a worker has run
        name="Device Name", description="The device that was chosen", options={"HIDDEN"}
    )
    seed: IntProperty(
        name="Seed", description="Start of all random numbers: the same seed gives the same mesh", default=0, min=0
    )
    use_modifiers: BoolProperty(
        name="Use Modifiers", description="Fit the object as it is shown, with its modifiers applied", default=True
    )
    samples: IntProperty(
        name="Samples",
        description="Points to train with, taken of a mesh's surface or kept of a cloud. 0 takes the usual number",
        default=0,
        min=0,
        soft_max=1_000_000,
        max=20_000_000,
    )
    wall: FloatProperty(
        name="Wall",
        description="Re-mesh a shell of this thickness in scene units, half of it on either side of the surface. "
        "0 makes a solid",
        subtype="DISTANCE",
        unit="LENGTH",
        default=0.0,
        min=0.0,
        step=1,
        precision=4,
    )
    certain: BoolProperty(
        name="Miss Nothing",
        description="Re-mesh by bounds that hold: nothing is missed a cell or more from the mesh, and where that "
        "cannot be told it is said. Slower. Pictures of the field go by such bounds, too",
        default=False,
    )
    combine_operation: EnumProperty(
        name="Operation",
        description="How Combine makes one shape of the selected results",
        items=[
            ("union", "Union", "What is in any of them"),
            ("intersection", "Intersection", "What is in all of them"),
            ("difference", "Difference", "What is in the active one and in none of the others"),
            ("morph", "Morph", "Between two, as far as Share says"),
        ],
    )
    combine_share: FloatProperty(
        name="Share",
        description="How far a morph goes from the active result to the other",
        subtype="FACTOR",
        default=0.5,
        min=0.0,
        max=1.0,
    )
    combine_radius: FloatProperty(
        name="Blend",
        description="How far from the seam shapes flow into each other; 0 leaves it sharp",
        subtype="DISTANCE",
        unit="LENGTH",
        default=0.0,
        min=0.0,
        precision=4,
    )
    combine_style: EnumProperty(
        name="Seam",
        description="How the seam is blended",
        items=choices.STYLES,
    )
    even_points: IntProperty(
        name="Points",
        description="How many points Even Points spreads over the surface",
        default=10_000,
        min=10,
        soft_max=100_000,
        max=5_000_000,
    )
    even_edges: FloatProperty(
        name="At Edges",
        description="The share of the points that Even Points puts where the surface bends sharply",
        default=0.0,
        min=0.0,
        max=0.9,
        subtype="FACTOR",
    )
    detail_strength: FloatProperty(
        name="Strength",
        description="How strong the detail is made: 1 leaves it as it is, 0 takes it off, 2 doubles it, -1 turns it "
        "inside",
        default=1.0,
        soft_min=-1.0,
        soft_max=3.0,
    )
    empty_boxes: IntProperty(
        name="Smallest",
        description="How many of the smallest boxes of Empty Space lie along the longest side",
        default=32,
        min=4,
        max=256,
    )
    skeleton_delta: FloatProperty(
        name="Coarseness",
        description="How far the surface may lie from the balls of the skeleton, as a share of half the fit's box: "
        "larger makes fewer balls and bones",
        default=0.06,
        min=0.005,
        max=0.5,
        precision=3,
    )
    hide_source: BoolProperty(
        name="Hide Source", description="Hide the object that was fitted when its result arrives", default=False
    )
    show_preview: BoolProperty(
        name="Live Preview", description="Show the surface in the viewport while it is being fitted", default=True
    )

    @property
    def cells(self) -> int:
        """The resolution that will be used: this one, or the preset's."""
        return self.resolution or choices.preset_resolution(host.backend(), self.preset)


def register() -> None:
    bpy.utils.register_class(SDFSettings)
    bpy.types.Scene.sdf = PointerProperty(type=SDFSettings, name="Neural SDF", description="Settings of Fit SDF")


def unregister() -> None:
    del bpy.types.Scene.sdf
    bpy.utils.unregister_class(SDFSettings)
