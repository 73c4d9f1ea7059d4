"""Buttons about the backend: test it, install it, read its log."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import bpy

from ..sdfcore.errors import SdfError
from . import ROOT, host, install, interpreter, preferences, windows

Context = bpy.types.Context
Outcome = set[str]

_said: list[str] = []
_installation: install.Installation | None = None

#: What Install Backend installs; tests put local packages here.
packages: install.Packages | None = None


def said() -> list[str]:
    """What the last test or installation said, line by line."""
    return _said


def from_variable() -> str:
    """The interpreter that the environment names, "" where it names none."""
    return os.environ.get(interpreter.VARIABLE, "")


def installation_progress() -> tuple[float, str] | None:
    """(share done, what is being done) of a running installation, else ``None``."""
    if _installation is None:
        return None
    told = _installation.poll()
    return told.fraction, told.stage


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
    windows.redraw()
    return False


class SDF_OT_install_backend(bpy.types.Operator):
    bl_idname = "sdf.install_backend"
    bl_label = "Install Backend"
    bl_description = "Make a Python environment with PyTorch in this extension's own folder, apart from Blender's"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, _context: Context) -> bool:
        if _installation is not None:
            cls.poll_message_set("It is being installed")
            return False
        if not bpy.app.online_access and packages is None:
            cls.poll_message_set(
                "Blender was started offline"
                if bpy.app.online_access_override
                else "Allow Online Access first, in Preferences ▸ System ▸ Network"
            )
            return False
        return True

    def invoke(self, context: Context, _event: Any) -> Outcome:
        return context.window_manager.invoke_props_dialog(self, width=460, confirm_text="Install")

    def draw(self, _context: Context) -> None:
        choice = install.CHOICES[preferences.value("torch_build", "cpu")]
        column = self.layout.column(align=True)
        for line in textwrap.wrap(
            f"This downloads PyTorch ({choice.title}) and takes about {choice.gigabytes:g} GB in "
            f"{preferences.managed_environment()}. Blender stays usable meanwhile.",
            64,
        ):
            column.label(text=line)

    def execute(self, _context: Context) -> Outcome:
        global _installation
        python, choice = Path(sys.executable), preferences.value("torch_build", "cpu")
        wanted = packages or install.Packages(extra=(install.PEERS,) if preferences.value("with_peers", False) else ())
        try:
            _installation = install.Installation(python, preferences.managed_environment(), choice, wanted)
        except SdfError as error:
            _said[:] = [error.message, error.hint]
            self.report({"ERROR"}, error.line)
            return {"CANCELLED"}
        if not bpy.app.background:
            host.runtime().chores.append(_watch_installation)
            host.wake()
            return {"FINISHED"}
        while _watch_installation():
            time.sleep(0.1)
        failed = _said[0] != INSTALLED
        self.report({"ERROR"} if failed else {"INFO"}, " ".join(_said))
        return {"CANCELLED"} if failed else {"FINISHED"}


INSTALLED = "The backend is installed."


def _watch_installation() -> bool:
    """Show how the installation goes; at its end the next fit uses what it made."""
    global _installation
    if _installation is None:
        return False
    told = _installation.poll()
    _said[:] = list(told.tail)[-8:]
    windows.redraw()
    if not told.finished:
        return True
    _installation = None
    if told.error is not None:
        _said[:] = [told.error.message, told.error.hint, *_said]
    else:
        _said[:] = ["The installation was cancelled." if told.cancelled else INSTALLED, *told.missing]
    host.restart_backend()
    return False


class SDF_OT_cancel_install(bpy.types.Operator):
    bl_idname = "sdf.cancel_install"
    bl_label = "Cancel Installation"
    bl_description = "Give the installation up; a backend that was there before stays"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, _context: Context) -> bool:
        return _installation is not None

    def execute(self, _context: Context) -> Outcome:
        if _installation is not None:
            _installation.cancel()
        return {"FINISHED"}


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


_CLASSES = (
    SDF_OT_test_backend,
    SDF_OT_install_backend,
    SDF_OT_cancel_install,
    SDF_OT_open_log,
    SDF_OT_open_preferences,
)


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    global _installation
    if _installation is not None:
        _installation.cancel()
        _installation = None
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
    _said.clear()
