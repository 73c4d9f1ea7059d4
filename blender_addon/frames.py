"""When shapes that follow something may be wrong: at another frame, after undo and loading, in a render."""

from __future__ import annotations

import logging
import threading
from typing import Any

import bpy
from bpy.app.handlers import persistent

from ..sdfcore.errors import SdfError
from . import live

log = logging.getLogger(__name__)


@persistent
def _on_frame(_scene: Any, depsgraph: Any = None) -> None:
    """Another frame: animated shapes follow; those that are rendered are waited for."""
    waited = live.waits()
    for obj in list(live.objects()):
        followed = live.follower(obj)
        blend = None if depsgraph is None or followed is None else followed.settings(obj.evaluated_get(depsgraph))
        if live.is_right(obj, blend):
            continue
        if not waited:
            live.follow(obj)
            continue
        try:
            live.refresh(obj, blend)
        except SdfError as error:  # the render goes on with the shape it has
            log.error("%s: %s", obj.name, error)


@persistent
def _on_history(*_: Any) -> None:
    """Undo, redo or another file: a mesh may be of another time than its sliders."""
    for obj in live.objects():
        if not live.is_right(obj):
            live.touch(obj)


@persistent
def _on_load(*_: Any) -> None:
    live.forget_all()


@persistent
def _on_render(*_: Any) -> None:
    live.set_rendering(True)


@persistent
def _on_rendered(*_: Any) -> None:
    """What was changed meanwhile, and what stands at a frame of the render, follows now."""
    live.set_rendering(False)
    if threading.current_thread() is threading.main_thread():  # not a job's: that may start no timer
        _on_history()


_HANDLERS = {
    "render_init": _on_render,
    "render_complete": _on_rendered,
    "render_cancel": _on_rendered,
    "load_pre": _on_load,
    "load_post": _on_history,
    "undo_post": _on_history,
    "redo_post": _on_history,
    "frame_change_post": _on_frame,
}


def register() -> None:
    for name, handler in _HANDLERS.items():
        getattr(bpy.app.handlers, name).append(handler)


def unregister() -> None:
    for name, handler in _HANDLERS.items():
        held = getattr(bpy.app.handlers, name)
        if handler in held:
            held.remove(handler)
    live.forget_all()
