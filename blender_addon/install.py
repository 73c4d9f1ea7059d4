"""Install Backend: a virtual environment with torch, made by child processes and watched without waiting. No bpy.

It is made beside its final place and moved there when all of it was tried out, so a half-made one is never used and a
working one is replaced only by a working one. Nothing here asks for leave to use the network: the caller does.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..sdfcore.errors import EngineError, InputError, SdfError
from .interpreter import COMPLETE, environment_python

log = logging.getLogger(__name__)

#: What the worker needs besides torch; the same as in pyproject.toml.
OTHERS = ("libigl>=2.6", "numpy>=1.26", "safetensors>=0.4.5", "scikit-image>=0.25", "scipy>=1.14", "trimesh>=4.5")
TORCH = "torch>=2.6,<=2.13.0"
#: What the classical methods of Compare With need; the same as the extra ``benchmark``. GPL-3.0, so nobody has to.
PEERS = "pymeshlab>=2023.12"
_IMPORTS = ("torch", "igl", "numpy", "safetensors.torch", "skimage", "scipy", "trimesh")
_INDEX = "https://download.pytorch.org/whl/"


@dataclass(frozen=True)
class Choice:
    """A build of torch: where it comes from, and what it takes."""

    name: str
    title: str
    index: str
    gigabytes: float


#: On macOS the one build computes on both processor and graphics chip, and comes from PyPI.
CHOICES: Mapping[str, Choice] = {
    choice.name: choice
    for choice in (
        [Choice("cpu", "PyTorch for Mac", "", 1.5)]
        if sys.platform == "darwin"
        else [
            Choice("cpu", "CPU only", _INDEX + "cpu", 1.8),
            Choice("cuda", "NVIDIA graphics card (CUDA 13)", _INDEX + "cu130", 8.0),
        ]
    )
}


@dataclass(frozen=True)
class Packages:
    """What is installed and then imported to see that it works.

    Args:
        arguments: further arguments of ``pip install``, such as ``--no-index --find-links DIR``.
        extra: what the backend works without, too: that it cannot be had is said, but is no failure.
    """

    torch: str = TORCH
    others: tuple[str, ...] = OTHERS
    imports: tuple[str, ...] = _IMPORTS
    arguments: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One child process; ``share`` is its part of the whole time. Without what is not ``needed`` it goes on."""

    title: str
    command: tuple[str, ...]
    share: float
    needed: bool = True


def plan(python: Path, folder: Path, choice: str = "cpu", packages: Packages | None = None) -> list[Step]:
    """The commands that make an environment in ``folder``, a folder that does not exist.

    Raises:
        InputError: there is no such choice.
    """
    if choice not in CHOICES:
        raise InputError(f"There is no build {choice!r}.", f"Take one of: {', '.join(CHOICES)}.")
    packages = packages or Packages()
    inside = os.fspath(environment_python(folder))
    quiet = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off")
    pip = (inside, "-P", "-s", "-m", "pip", "install", *quiet)
    index = ("--index-url", CHOICES[choice].index) if CHOICES[choice].index else ()
    trial = f"import {', '.join(packages.imports)}; print('imports work')"
    steps = [
        Step("Making an environment", (os.fspath(python), "-P", "-s", "-m", "venv", os.fspath(folder)), 0.05),
        Step("Installing torch", (*pip, *index, packages.torch, *packages.arguments), 0.65),
        Step("Installing the rest", (*pip, *packages.others, *packages.arguments), 0.2),
        Step("Trying it out", (inside, "-P", "-s", "-c", trial), 0.1),
        Step("Installing what is optional", (*pip, *packages.extra, *packages.arguments), 0.05, needed=False),
    ]
    empty = {"Installing the rest": not packages.others, "Installing what is optional": not packages.extra}
    return [step for step in steps if not empty.get(step.title)]


@dataclass
class Progress:
    """How far an installation is."""

    fraction: float = 0.0
    stage: str = ""
    line: str = ""
    finished: bool = False
    cancelled: bool = False
    error: SdfError | None = None
    missing: list[str] = field(default_factory=list)  # what was not needed and failed: a line each
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=40))


class Installation:
    """An environment being made in ``folder``; :meth:`poll` says how far it is, :meth:`cancel` gives it up.

    Args:
        python: makes the environment, so it decides the version of Python; 3.11 or newer.
        folder: where it goes. One that is there is replaced at the end, if it is an environment.
        choice: of :data:`CHOICES`.
    Raises:
        InputError: no such choice, too little space, or ``folder`` holds something else.
    """

    def __init__(self, python: Path, folder: Path, choice: str = "cpu", packages: Packages | None = None) -> None:
        self._folder, self._choice = folder, choice
        self._new = folder.with_name(folder.name + ".new")
        self._steps = plan(python, self._new, choice, packages)
        self._total = sum(step.share for step in self._steps) * 1.01  # moving it into place is the last part
        self._process: subprocess.Popen[bytes] | None = None
        self._cancelled = threading.Event()
        self._progress = Progress(stage=self._steps[0].title)
        self._lock = threading.Lock()
        _check_place(folder)
        official = packages is None or packages.torch == TORCH
        _check_space(folder, CHOICES[choice].gigabytes if official else 0.0)
        self._thread = threading.Thread(target=self._work, name="sdf installation", daemon=True)
        self._thread.start()

    def poll(self) -> Progress:
        """How far it is now; never waits."""
        return self._progress

    def wait(self, timeout: float | None = None) -> Progress:
        """Wait until it is finished, or so many seconds: for scripts."""
        self._thread.join(timeout)
        return self._progress

    def cancel(self) -> None:
        """Give it up; what was there before stays. :meth:`poll` is finished soon after."""
        with self._lock:
            self._cancelled.set()
            if self._process is not None:
                _kill(self._process)

    def _work(self) -> None:
        progress = self._progress
        try:
            _remove(self._new)
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            progress.cancelled = not all(self._run(step) for step in self._steps)
            if not progress.cancelled:
                self._replace()
                progress.fraction = 1.0
        except SdfError as error:
            progress.error = error
        except OSError as error:
            progress.error = EngineError(f"{progress.stage} failed: {error}", "Free the folder, then install again.")
        if progress.error is not None:
            log.error("installation: %s", progress.error.line)
        with contextlib.suppress(OSError):
            _remove(self._new)
        progress.finished = True

    def _run(self, step: Step) -> bool:
        """Do ``step``; false when the installation was cancelled."""
        tail = self._progress.tail
        self._progress.stage = step.title
        with self._lock:
            if self._cancelled.is_set():
                return False
            self._process = _start(step.command)
        process = self._process
        assert process.stdout is not None
        with process.stdout as lines:
            for raw in lines:
                line = raw.decode("utf-8", "replace").strip()
                if line:
                    tail.append(line)
                    self._progress.line = line
                    log.info("installation: %s", line)
        code = process.wait()
        with self._lock:
            self._process = None
        if self._cancelled.is_set():
            return False
        if code != 0:
            failure = _failure(step, code, tail)
            if step.needed:
                raise failure
            log.warning("installation: %s", failure.line)
            self._progress.missing.append(failure.line)
        self._progress.fraction += step.share / self._total
        return True

    def _replace(self) -> None:
        """Mark the new environment as complete and put it in the place of the old one."""
        note = {"choice": self._choice, "commands": [list(step.command) for step in self._steps]}
        (self._new / COMPLETE).write_text(json.dumps(note, indent=1), encoding="utf-8")
        old = self._folder.with_name(self._folder.name + ".old")
        _remove(old)
        if self._folder.exists():
            _moved(self._folder, old)
        try:
            _moved(self._new, self._folder)
        except OSError:
            if old.exists():  # the working one stays
                _moved(old, self._folder)
            raise
        with contextlib.suppress(OSError):  # a worker may still use it; the next installation removes it
            _remove(old)


def _moved(folder: Path, to: Path) -> None:
    """``folder`` renamed; more than once, for on Windows what has just been written is often being looked at."""
    for wait in (0.5, 2.0, 5.0):
        try:
            folder.replace(to)
            return
        except PermissionError:
            time.sleep(wait)
    folder.replace(to)


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    own = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "PIP_TARGET", "PIP_PREFIX")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    environment |= {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "PYTHONNOUSERSITE": "1"}
    options: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        **options,
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)


def _check_place(folder: Path) -> None:
    known = (COMPLETE, "pyvenv.cfg")
    if folder.exists() and not any((folder / name).is_file() for name in known):
        raise InputError(f"{folder} is there and is no environment.", "Move it away, then install again.")


def _check_space(folder: Path, gigabytes: float) -> None:
    place = next(parent for parent in folder.absolute().parents if parent.exists())
    free = shutil.disk_usage(place).free / 1e9
    if free < gigabytes:
        found = f"{free:.1f} GB are free in {place}; about {gigabytes:g} GB are needed."
        raise InputError(found, "Free some space, or choose the CPU build.")


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


_CURES = (
    (("No space left",), "Free some space on that disk."),
    (("No module named venv", "ensurepip is not available"), "Install the venv package of that Python (python3-venv)."),
    (("No matching distribution", "Could not find a version"), "There is no such package for this Python or system."),
    (("Temporary failure", "NewConnectionError", "ConnectionError", "Network is unreachable", "timed out"),
     "The server cannot be reached: check the network, or a proxy's settings."),
    (("nknown option: -P", "nknown option -P"), "Python 3.11 or newer is needed."),
)  # fmt: skip


def _failure(step: Step, code: int, tail: deque[str]) -> EngineError:
    text = "\n".join(tail)
    cures = [cure for words, cure in _CURES if any(word in text for word in words)]
    errors = [line for line in tail if line.startswith("ERROR")]
    last = (errors or list(tail) or ["it said nothing"])[-1]
    hint = cures[0] if cures else "The log has the details; the command can also be run by hand."
    return EngineError(f"{step.title} failed (exit code {code}): {last}", hint)
