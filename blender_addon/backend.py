"""Buttons about the backend: test it, install it, read its log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import bpy

from ..sdfcore.errors import SdfError
from . import ROOT, host, interpreter, preferences

Context = bpy.types.Context
Outcome = set[str]

_said: list[str] = []


def said() -> list[str]:
    """What the last test or installation said, line by line."""
    return _said


def from_variable() -> str:
    """The interpreter that the environment names, "" where it names none."""
    return os.environ.get(interpreter.VARIABLE, "")


def installation_progress() -> tuple[float, str] | None:
    """(share done, what is being done) of a running installation, else ``None``."""
    return None


def describe(ready: dict[str, Any]) -> list[str]:
    """The body of ``ready`` in lines for people."""
    devices = ", ".join(f"{d.get('name', d['id'])} ({d['id']})" for d in ready.get("devices", []))
    recipes = ", ".join(r["name"] for r in ready.get("recipes", []))
    return [
        f"Python {ready.get('python', '?')}, torch {ready.get('torch', '?')}, sdfcore {ready.get('version', '?')}",
        f"Devices: {devices or 'none'}",
        f"Recipes: {recipes or 'none'}",
    ]


class SDF_OT_test_backend(bpy.types.Operator):
    bl_idname = "sdf.test_backend"
    bl_label = "Test Backend"
    bl_description = "Start the backend and show its Python, torch and devices"
    bl_options = {"REGISTER"}

    def invoke(self, _context: Context, _event: Any) -> Outcome:
        jobs = host.runtime().jobs
        _said[:] = ["Starting…"]
        try:
            jobs.start()
        except SdfError as error:
            _said[:] = [error.message, error.hint]
            self.report({"ERROR"}, error.line)
            return {"CANCELLED"}
        host.runtime().chores.append(_watch)
        host.wake()
        return {"FINISHED"}

    def execute(self, _context: Context) -> Outcome:
        try:
            _said[:] = describe(host.runtime().jobs.probe())
        except SdfError as error:
            _said[:] = [error.message, error.hint]
            self.report({"ERROR"}, error.line)
            return {"CANCELLED"}
        self.report({"INFO"}, "; ".join(_said))
        return {"FINISHED"}


def _watch() -> bool:
    """Wait for the worker to say what it has; then show it."""
    jobs = host.runtime().jobs
    if jobs.backend is not None:
        _said[:] = describe(jobs.backend)
    elif jobs.problem is not None:
        _said[:] = [jobs.problem.message, jobs.problem.hint, *jobs.tail[-8:]]
    else:
        return True
    host.redraw()
    return False


class SDF_OT_open_log(bpy.types.Operator):
    bl_idname = "sdf.open_log"
    bl_label = "Open Log"
    bl_description = "Open the folder of the backend's log file"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, _context: Context) -> bool:
        if not preferences.log_file().exists():
            cls.poll_message_set("The backend has written nothing yet")
            return False
        return True

    def execute(self, _context: Context) -> Outcome:
        return show_text(preferences.log_file())


def show_text(path: Path) -> Outcome:
    """Open a file with the system's program for it."""
    bpy.ops.wm.path_open(filepath=str(path))
    return {"FINISHED"}


class SDF_OT_open_preferences(bpy.types.Operator):
    bl_idname = "sdf.open_preferences"
    bl_label = "Backend Preferences"
    bl_description = "Show the add-on's preferences: where the backend is, test it, install it"
    bl_options = {"REGISTER"}

    def execute(self, _context: Context) -> Outcome:
        bpy.ops.preferences.addon_show(module=ROOT)
        return {"FINISHED"}


_CLASSES = (SDF_OT_test_backend, SDF_OT_open_log, SDF_OT_open_preferences)


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
    _said.clear()
