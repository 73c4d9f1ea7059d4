"""The sub-panels with what can be asked of a result, and made of several. Nothing here changes anything."""

from __future__ import annotations

import math
from typing import Any

import bpy

from . import details, nearest, overlaps, queries, results, skeletons, stacks
from .panels import SdfPanel, letters, wrapped

Context = bpy.types.Context


class SDF_PT_ask(SdfPanel, bpy.types.Panel):
    bl_idname = "SDF_PT_ask"
    bl_label = "Ask"
    bl_parent_id = "SDF_PT_result"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        result = results.of(context.active_object)
        return result is not None and results.MODEL in result

    def draw(self, context: Context) -> None:
        layout, settings = self.layout, context.scene.sdf
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.operator("sdf.measure", icon="DRIVER_DISTANCE")
        measures = results.report(results.of(context.active_object)).get(results.MEASURES)
        if measures:
            _draw_measures(layout, measures)
        column = layout.column(align=True)
        column.prop(settings, "even_points")
        column.prop(settings, "even_edges", slider=True)
        column.operator("sdf.even_points", icon="POINTCLOUD_DATA")
        column = layout.column(align=True)
        column.prop(settings, "skeleton_delta")
        column.operator("sdf.skeleton", icon="OUTLINER_DATA_ARMATURE")
        column = layout.column(align=True)
        column.prop(settings, "empty_boxes")
        column.operator("sdf.empty_space", icon="MESH_GRID")
        layout.operator("sdf.nearest", icon="PIVOT_CURSOR")
        if told := nearest.told_of(results.of(context.active_object), context.scene):
            layout.label(text=told)
        layout.operator("sdf.picture", icon="RENDER_STILL")
        row = layout.row(align=True)
        row.operator("sdf.export_volume", icon="VOLUME_DATA")
        row.operator("sdf.export_field", icon="EXPORT")
        layout.operator("sdf.overlap", icon="SELECT_INTERSECT")
        if told := overlaps.told_of(results.of(context.active_object)):
            wrapped(layout, told, width=letters(context))


class SDF_PT_skeleton(SdfPanel, bpy.types.Panel):
    bl_idname = "SDF_PT_skeleton"
    bl_label = "Skeleton"

    @classmethod
    def poll(cls, context: Context) -> bool:
        return skeletons.is_skeleton(context.active_object)

    def draw(self, context: Context) -> None:
        self.layout.operator("sdf.armature", icon="ARMATURE_DATA")


class SDF_PT_combine(SdfPanel, bpy.types.Panel):
    bl_idname = "SDF_PT_combine"
    bl_label = "Combine"
    bl_parent_id = "SDF_PT_result"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        return SDF_PT_ask.poll(context)

    def draw(self, context: Context) -> None:
        layout, settings = self.layout, context.scene.sdf
        layout.use_property_split = True
        layout.use_property_decorate = False
        column = layout.column(align=True)
        column.prop(settings, "combine_operation")
        if settings.combine_operation == "morph":
            column.prop(settings, "combine_share", slider=True)
        else:
            _draw_seam(column, settings, "combine_radius", "combine_style")
        count = len(queries.combinable(context))
        row = layout.row(align=True)
        row.operator("sdf.combine", text=f"Combine {count} Results" if count > 1 else "Combine", icon="MOD_BOOLEAN")
        row.operator("sdf.stack", text="Live", icon="FILE_REFRESH")


class SDF_UL_stack(bpy.types.UIList):
    bl_idname = "SDF_UL_stack"

    def draw_item(
        self, _context: Context, layout: Any, _data: Any, item: Any, _icon: int, _active: Any, _property: str,
        index: int = 0, _flag: int = 0,
    ) -> None:  # fmt: skip
        row = layout.row(align=True)
        row.prop(item, "operand", text="", emboss=False)
        if index:
            row.prop(item, "operation", text="", icon_only=True, emboss=False)
        row.prop(item, "use", text="", icon="HIDE_OFF" if item.use else "HIDE_ON", emboss=False)


class SDF_PT_stack(SdfPanel, bpy.types.Panel):
    bl_idname = "SDF_PT_stack"
    bl_label = "Combination"

    @classmethod
    def poll(cls, context: Context) -> bool:
        return stacks.is_stack(context.active_object)

    def draw(self, context: Context) -> None:
        layout, stack = self.layout, context.active_object.sdf_stack
        row = layout.row()
        row.template_list("SDF_UL_stack", "", stack, "steps", stack, "active", rows=3)
        column = row.column(align=True)
        column.operator("sdf.stack_add", icon="ADD", text="")
        column.operator("sdf.stack_remove", icon="REMOVE", text="")
        column.separator()
        column.operator("sdf.stack_move", icon="TRIA_UP", text="").direction = "UP"
        column.operator("sdf.stack_move", icon="TRIA_DOWN", text="").direction = "DOWN"
        layout.use_property_split = True
        if 0 < stack.active < len(stack.steps):
            _draw_step(layout, stack.steps[stack.active])
        column = layout.column(align=True)
        column.prop(stack, "offset")
        column.prop(stack, "wall")
        column = layout.column(align=True)
        column.prop(stack, "resolution")
        column.prop(stack, "drag_resolution")
        row = layout.row(align=True)
        row.operator("sdf.stack_apply", icon="CHECKMARK")
        row.operator("sdf.refresh_shape", text="", icon="FILE_REFRESH")


def _draw_step(layout: Any, step: Any) -> None:
    column = layout.column(align=True)
    column.prop(step, "operation")
    if step.operation == "morph":
        column.prop(step, "share", slider=True)
    else:
        _draw_seam(column, step, "radius", "style")


def _draw_seam(column: Any, settings: Any, radius: str, style: str) -> None:
    column.prop(settings, radius)
    row = column.row()
    row.active = getattr(settings, radius) > 0
    row.prop(settings, style)


class SDF_PT_detail(SdfPanel, bpy.types.Panel):
    bl_idname = "SDF_PT_detail"
    bl_label = "Detail"
    bl_parent_id = "SDF_PT_result"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        return details.has_detail(results.of(context.active_object)) or details.pair(context) is not None

    def draw(self, context: Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.operator("sdf.split_detail", icon="MOD_SMOOTH")
        column = layout.column(align=True)
        column.prop(context.scene.sdf, "detail_strength")
        column.operator("sdf.detail_strength", icon="MOD_DISPLACE")
        column.operator("sdf.transfer_detail", icon="TRACKING_FORWARDS_SINGLE")


_CLASSES = (SDF_PT_ask, SDF_PT_skeleton, SDF_UL_stack, SDF_PT_stack, SDF_PT_combine, SDF_PT_detail)


def _draw_measures(layout: Any, measures: dict[str, Any]) -> None:
    box = layout.box().column(align=True)
    volume, centroid = measures["volume"], measures["centroid"]
    rows = [("Volume", limits(volume["low"], volume["high"]))]
    rows += [
        (f"Centroid {axis}", limits(low, high))
        for axis, low, high in zip("XYZ", centroid["low"], centroid["high"], strict=True)
    ]
    inertia = measures["inertia"]
    rows += [(f"Inertia {a}", limits(inertia["low"][i][i], inertia["high"][i][i])) for i, a in enumerate("XYZ")]
    rows.append(("Area", f"{measures['area']:.4g}"))
    for name, text in rows:
        split = box.split(factor=0.4)
        split.label(text=name)
        split.label(text=text)


def limits(low: float, high: float) -> str:
    """The middle of two limits to the digits that are certain, and how far they are from it."""
    middle, half = (low + high) / 2, (high - low) / 2
    if half <= 0:
        return f"{middle:.6g}"
    digits = max(0, -math.floor(math.log10(half)))
    return f"{middle:.{min(digits, 9)}f} ± {half:.1g}"


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
