"""The add-on's preferences: where the backend is and what it computes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, IntProperty, StringProperty

from . import ROOT, choices, host, install, interpreter


def _devices(self: SDFPreferences, _context: bpy.types.Context | None) -> list[choices.Item]:
    return choices.device_items(host.backend(), chosen=getattr(self, "device_id", ""))


def _remember_device(self: SDFPreferences, _context: bpy.types.Context) -> None:
    self.device_id = self.device


def _changed(_self: Any, _context: bpy.types.Context) -> None:
    """Another interpreter or device setting: the next fit starts a worker with it."""
    host.restart_backend()


class SDFPreferences(bpy.types.AddonPreferences):
    bl_idname = ROOT

    backend_python: StringProperty(
        name="Backend Python",
        description="A Python 3.11 or newer that has torch, or the folder of its virtual environment; "
        f"the environment variable {interpreter.VARIABLE} goes before it",
        subtype="FILE_PATH",
        update=_changed,
    )
    worker_command: StringProperty(
        name="Worker Command",
        description="Start the backend by this command instead, such as ssh gpu-host python3 -m sdfcore.worker",
        update=_changed,
    )
    device: EnumProperty(
        name="Device",
        description="What to compute on unless the scene says otherwise",
        items=_devices,
        update=_remember_device,
    )
    device_id: StringProperty(  # an enum is stored as a number, which names a device only once a worker has run
        name="Device Name", description="The device that was chosen", options={"HIDDEN"}
    )
    threads: IntProperty(
        name="Threads",
        description="Processor threads the backend may use. 0 leaves it to torch",
        default=0,
        min=0,
        max=256,
        update=_changed,
    )
    warm: BoolProperty(
        name="Start with the Panel",
        description="Start the backend when the SDF tab is first shown, so that the first fit begins at once; "
        "it ends by itself when it is not used",
        default=True,
    )
    torch_build: EnumProperty(
        name="PyTorch",
        description="Which build of PyTorch Install Backend fetches",
        items=[(c.name, c.title, f"Takes {c.gigabytes:g} GB of disk") for c in install.CHOICES.values()],
    )
    with_peers: BoolProperty(
        name="With Classical Methods",
        description="Install pymeshlab (GPL), too: screened Poisson, APSS, RIMLS and ball pivoting for Compare With",
        default=False,
    )

    def draw(self, _context: bpy.types.Context) -> None:
        from . import panels  # panels draw what preferences hold

        panels.draw_preferences(self, self.layout)


def get() -> SDFPreferences | None:
    """The preferences, or ``None`` where the add-on was registered without being enabled (tests, scripts)."""
    addon = bpy.context.preferences.addons.get(ROOT)
    return None if addon is None else addon.preferences


def value(name: str, fallback: Any) -> Any:
    """One preference, or ``fallback`` where there are none."""
    held = get()
    return fallback if held is None else getattr(held, name)


def user_folder(create: bool = True) -> Path:
    """Where this extension may write: logs, the managed environment."""
    try:
        return Path(bpy.utils.extension_path_user(ROOT, create=create))
    except ValueError:  # registered from a checkout, not installed as an extension
        return Path(bpy.utils.user_resource("DATAFILES", path="neural_sdf", create=create))


def log_file() -> Path:
    """What the worker writes to its error stream."""
    return user_folder() / "worker.log"


def managed_environment() -> Path:
    """Where Install Backend puts its virtual environment."""
    return user_folder(create=False) / "env"


def register() -> None:
    bpy.utils.register_class(SDFPreferences)


def unregister() -> None:
    bpy.utils.unregister_class(SDFPreferences)
