"""Blender's windows: whether one may act now, what is redrawn, and what is said to the user."""

from __future__ import annotations

import textwrap
from typing import Any

import bpy

from ..sdfcore.errors import SdfError

TAB = "SDF"  # in the sidebar of the 3D viewport

_TRANSFORMS = "TRANSFORM_OT_"
_BLOCKING = (_TRANSFORMS, "VIEW3D_OT_interactive_add", "VIEW3D_OT_select", "OBJECT_OT_")  # modal, and write
_REDRAWN = {"VIEW_3D": "UI", "PREFERENCES": "WINDOW"}


def override() -> Any:
    """A context with a window: a timer has none."""
    windows = bpy.context.window_manager.windows
    if bpy.context.window is not None or not windows:
        return bpy.context.temp_override()
    return bpy.context.temp_override(window=windows[0])


def can_place(context: Any, *, moving: Any = None) -> bool:
    """Whether a result may be put into the scene now: not while an object is edited, or dragged about.

    Args:
        moving: an object that only gets other geometry; others may be dragged meanwhile, if it is not.
    """
    if context.mode != "OBJECT":
        return False
    windows = context.window_manager.windows if not bpy.app.background else ()
    dragged = moving is None or moving.select_get()
    blocking = _BLOCKING if dragged else tuple(kind for kind in _BLOCKING if kind != _TRANSFORMS)
    return not any(op.bl_idname.startswith(blocking) for w in windows for op in w.modal_operators)


def remember(title: str) -> None:
    """An undo step, where there is a history."""
    if not bpy.app.background and bpy.context.window is not None:
        bpy.ops.ed.undo_push(message=title)


def redraw() -> None:
    """Let the panels show what changed; not the viewport beside them, which is dear and draws itself when it must."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in _REDRAWN:
                for region in area.regions:
                    if region.type == _REDRAWN[area.type]:
                        region.tag_redraw()


def _tab_is_open() -> bool:
    """Whether our tab is before the user's eyes: it tells of failures by itself."""
    areas = (a for w in bpy.context.window_manager.windows for a in w.screen.areas if a.type == "VIEW_3D")
    shown = (r for a in areas if a.spaces.active.show_region_ui for r in a.regions if r.type == "UI")
    return any(getattr(region, "active_panel_category", "") == TAB for region in shown)


def popup(title: str, error: SdfError) -> None:
    if bpy.app.background or not bpy.context.window_manager.windows or _tab_is_open():
        return

    def draw(self: Any, _context: Any) -> None:
        for line in (*textwrap.wrap(error.message, 70), *textwrap.wrap(error.hint, 70)):
            self.layout.label(text=line)

    with override():
        bpy.context.window_manager.popup_menu(draw, title=f"Neural SDF: {title}", icon="ERROR")
