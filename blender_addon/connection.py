"""How a worker is started: as the preferences and the environment say."""

from __future__ import annotations

import os
from pathlib import Path

import bpy

from . import engine, interpreter, preferences


def connect() -> engine.Transport:
    """Start a worker as the preferences say.

    Raises:
        EngineMissingError: no Python with torch was found, or it cannot be started.
    """
    extension = Path(__file__).resolve().parents[1]
    threads = preferences.value("threads", 0)
    custom = preferences.value("worker_command", "").strip()
    if custom and not os.environ.get(interpreter.VARIABLE):
        command = interpreter.custom_command(custom)
    else:
        chosen = preferences.value("backend_python", "")
        managed = preferences.managed_environment()
        python = interpreter.find_python(bpy.path.abspath(chosen) if chosen else "", managed)
        command = interpreter.worker_command(python)
    folder = preferences.user_folder()
    return engine.ProcessTransport(
        command,
        environment=interpreter.worker_environment(extension, threads),
        cwd=folder / "worker",
        log=preferences.log_file(),
    )
