"""Which Python runs the worker, with what command and in what environment. No bpy, no torch."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from ..sdfcore.errors import EngineMissingError

VARIABLE = "NEURAL_SDF_PYTHON"
COMPLETE = "complete.json"  # in a managed environment: written last, so a half-made one is never used


def worker_command(python: Path, *, idle: float = 900.0) -> list[str]:
    """How the worker is started with ``python``: no user site, no working directory on its path.

    Args:
        idle: seconds without a request after which it ends by itself, should the add-on forget it.
    """
    module = ["-P", "-s", "-m", "sdfcore.worker"]
    return [os.fspath(python), *module, "--parent", str(os.getpid()), "--idle", f"{idle:g}"]


def _words(text: str) -> list[str]:
    """As a shell would split it; on Windows backslashes are part of a path, and outer quotes are not."""
    if os.name != "nt":
        return shlex.split(text)
    found = shlex.split(text, posix=False)
    return [word[1:-1] if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'" else word for word in found]


def custom_command(text: str) -> list[str]:
    """A worker command as the user wrote it, such as ``ssh gpu-host .venv/bin/python -m sdfcore.worker``.

    Raises:
        EngineMissingError: it is empty, or its quotes do not match.
    """
    try:
        words = _words(text)
    except ValueError as error:
        words, text = [], f"{text} ({error})"
    if not words:
        found = f"The worker command cannot be read: {text}"
        raise EngineMissingError(found, "Correct it in the preferences, or empty it.")
    return words


_BLENDERS_OWN = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def worker_environment(
    extension_dir: Path, threads: int = 0, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The worker's environment: Blender's own Python settings removed, ``sdfcore`` found beside the add-on.

    Args:
        extension_dir: the folder that holds the package ``sdfcore``.
        threads: threads the worker may use; 0 leaves it to torch.
    """
    kept = {name: value for name, value in environ.items() if name not in _BLENDERS_OWN}
    kept |= {"PYTHONPATH": os.fspath(extension_dir), "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    kept["PYTHONDONTWRITEBYTECODE"] = "1"  # the extension's folder may be read-only, and is not ours to fill
    if threads > 0:
        kept |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return kept


def environment_python(folder: Path) -> Path:
    """Where the interpreter of the virtual environment ``folder`` is."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def find_python(preference: str, managed: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """The worker's interpreter: variable, preference, managed environment, then our own Python if it has torch.

    Args:
        preference: a Python, or the folder of a virtual environment; empty for none.
        managed: folder of the managed environment; used when its installation was completed.
    Raises:
        EngineMissingError: none was found, or the one asked for is not there; says what was tried.
    """
    for where, text in ((f"The variable {VARIABLE}", environ.get(VARIABLE, "")), ("Backend Python", preference)):
        if text.strip():
            return _named(where, text.strip())
    tried = [f"{VARIABLE} is not set", "the preference Backend Python is empty"]
    if managed is not None:
        python = environment_python(managed)
        if (managed / COMPLETE).is_file() and os.access(python, os.X_OK):
            return python
        tried.append(f"no finished backend in {managed}")
    if _has_torch(Path(sys.executable), environ):
        return Path(sys.executable)
    tried.append(f"{sys.executable} has no torch")
    raise EngineMissingError(
        f"No Python with torch was found: {'; '.join(tried)}.",
        "Press Install Backend in the preferences, or set Backend Python there.",
    )


def _named(where: str, text: str) -> Path:
    path = Path(text).expanduser()
    if path.is_dir():
        path = environment_python(path)
    if path.is_file() and os.access(path, os.X_OK):
        return path.absolute()  # not resolved: a virtual environment's python is a link
    found = f"{where} names {path}, which is not a program."
    raise EngineMissingError(found, "Give the path of a Python that has torch.")


def _has_torch(python: Path, environ: Mapping[str, str]) -> bool:
    """Whether ``python`` could import torch; asks it without importing."""
    if not python.name.lower().startswith("python"):
        return False
    question = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)"
    kept = {name: value for name, value in environ.items() if name not in _BLENDERS_OWN}
    try:
        quiet = subprocess.DEVNULL
        command = [os.fspath(python), "-P", "-s", "-c", question]
        return not subprocess.run(command, env=kept, stdin=quiet, stdout=quiet, stderr=quiet, timeout=20).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False
