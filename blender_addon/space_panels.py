"""What is drawn about shape spaces, below the other panels of the tab. Nothing here changes anything."""

from __future__ import annotations

from typing import Any

import bpy

from . import live, meshes, panels, spaces
from .panels import SdfPanel
from .states import SPACE_KINDS

Context = bpy.types.Context
Layout = bpy.types.UILayout


def _ours(kind: str) -> bool:
    return kind in SPACE_KINDS


def _split(layout: Layout) -> None:
    layout.use_property_split = True


class SDF_PT_space(SdfPanel, bpy.types.Panel):
    bl_idname = "SDF_PT_space"
    bl_label = "Shape Space"
    bl_order = 10
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: Context) -> None:
        layout, scene = self.layout, context.scene
        settings = scene.sdf_shapes
        _split(layout)
        layout.use_property_decorate = False
        column = layout.column()
        column.prop(settings, "source")
        column.prop(settings, "preset")
        column.prop(settings, "steps")
        column.prop(settings, "seconds")
        column.prop(settings, "code_size")
        column.prop(settings, "together")
        row = layout.row()
        row.scale_y = 1.5
        row.operator("sdf.learn_space", text=_learn_text(context), icon="OUTLINER_OB_POINTCLOUD")
        panels.draw_jobs(layout, _ours)
        panels.draw_notice(layout, panels.letters(context), _ours)
        _draw_shapes(layout, scene)
        row = layout.row(align=True)
        row.operator("sdf.load_space", text="Load", icon="FILE_FOLDER")
        row.operator("sdf.save_space", text="Save", icon="FILE_TICK")


class SDF_PT_blend(SdfPanel, bpy.types.Panel):
    bl_idname = "SDF_PT_blend"
    bl_label = "Blend and Explore"
    bl_parent_id = "SDF_PT_space"

    def draw(self, context: Context) -> None:
        layout, settings, obj = self.layout, context.scene.sdf_shapes, context.active_object
        _split(layout)
        layout.use_property_decorate = False
        layout.prop(settings, "blend_seconds")
        row = layout.row(align=True)
        row.operator("sdf.blend", icon="MOD_SIMPLEDEFORM")
        row.operator("sdf.explore", icon="ORIENTATION_GIMBAL")
        if live.is_live(obj):
            _draw_sliders(layout, obj)


class SDF_PT_interpolate(SdfPanel, bpy.types.Panel):
    bl_idname = "SDF_PT_interpolate"
    bl_label = "Interpolate"
    bl_parent_id = "SDF_PT_space"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: Context) -> None:
        layout, settings = self.layout, context.scene.sdf_shapes
        for index, stop in enumerate(settings.stops):
            row = layout.row(align=True)
            row.prop_search(stop, "name", settings, "shapes", text="", icon="MESH_ICOSPHERE")
            if len(settings.stops) > 2:
                remove = row.operator("sdf.edit_stops", text="", icon="X")
                remove.action, remove.index = "REMOVE", index
        layout.operator("sdf.edit_stops", text="Add Stop", icon="ADD").action = "ADD"
        _split(layout)
        layout.use_property_decorate = False
        column = layout.column()
        column.prop(settings, "mode")
        column.prop(settings, "count")
        if settings.mode == "ANIMATION":
            column.prop(settings, "frame_start")
            column.prop(settings, "frame_end")
        column.prop(settings, "resolution")
        column.prop(settings, "spherical")
        layout.operator("sdf.interpolate", icon="IPO_LINEAR")


class SDF_PT_complete(SdfPanel, bpy.types.Panel):
    bl_idname = "SDF_PT_complete"
    bl_label = "Complete"
    bl_parent_id = "SDF_PT_space"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: Context) -> None:
        layout, settings, obj = self.layout, context.scene.sdf_shapes, context.active_object
        _split(layout)
        layout.use_property_decorate = False
        column = layout.column()
        for name in ("align", "rotate", "tune", "complete_seconds", "resolution"):
            column.prop(settings, name)
        readable = obj is not None and obj.type in meshes.READABLE
        text = f"Complete {obj.name}" if readable and spaces.has(context.scene) else "Complete Scan"
        layout.operator("sdf.complete", text=text, icon="MOD_MESHDEFORM")
        layout.operator("sdf.show_observed", icon="COLOR")


def _learn_text(context: Context) -> str:
    count = len(spaces.members(context)) if context.mode == "OBJECT" else 0
    return f"Learn from {count} Objects" if count > 1 else "Learn Shape Space"


def _draw_shapes(layout: Layout, scene: Any) -> None:
    """The shapes of the scene's space, and where the chosen one is in it."""
    if not spaces.has(scene):
        return
    settings, about = scene.sdf_shapes, spaces.about(scene)
    shares = [f"{share:.0%}" for share in (about.get("explained") or ())[:3]]
    text = f"{len(settings.shapes)} shapes, codes of {about.get('code_size', '?')}"
    layout.label(text=text, icon="OUTLINER_OB_POINTCLOUD")
    if shares:
        layout.label(text=f"First directions: {', '.join(shares)}", icon="BLANK1")
    layout.template_list("UI_UL_list", "sdf_shapes", settings, "shapes", settings, "active_shape", rows=3)
    codes = about.get("amounts") or []
    if settings.active_shape < len(codes):
        layout.label(text="Code: " + " ".join(f"{amount:+.1f}" for amount in codes[settings.active_shape]) + " σ")
    layout.operator("sdf.show_shape", icon="HIDE_OFF")


def _draw_sliders(layout: Layout, obj: Any) -> None:
    """Where the object is in its space; every slider can be keyframed."""
    blend = obj.sdf_blend
    box = layout.box()
    box.label(text=obj.name, icon="OUTLINER_OB_MESH")
    box.use_property_decorate = True
    column = box.column(align=True)
    if blend.kind == "EXPLORE":
        explained = spaces.about(obj).get("explained") or []
        for index in range(spaces.directions(obj)):
            share = f" ({explained[index]:.0%})" if index < len(explained) else ""
            column.prop(blend, "amounts", index=index, text=f"Direction {index + 1}{share}", slider=True)
        box.operator("sdf.randomise", icon="FILE_REFRESH")
    elif len(blend.weights) == 2:
        column.prop(blend, "factor", text=f"{blend.weights[0].name} to {blend.weights[1].name}", slider=True)
    else:
        for weight in blend.weights:
            column.prop(weight, "value", text=weight.name, slider=True)
    column = box.column(align=True)
    column.use_property_decorate = False
    column.prop(blend, "resolution")
    column.prop(blend, "drag_resolution")
    row = box.row(align=True)
    row.operator("sdf.keep_shape", icon="DUPLICATE")
    row.operator("sdf.refresh_shape", text="", icon="FILE_REFRESH")


_CLASSES = (SDF_PT_space, SDF_PT_blend, SDF_PT_interpolate, SDF_PT_complete)


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
