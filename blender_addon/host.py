"""The one running instance: jobs, their timer, and what becomes of results in the scene.

A timer pumps the jobs, so no modal operator runs and autosave goes on. Results are placed by an operator, because
operators push undo steps and may always write; a result that comes while an object is edited or moved waits.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import bpy
from bpy.app.handlers import persistent

from ..sdfcore.errors import EngineError, EngineMissingError, SdfError
from ..sdfcore.protocol import Message
from . import connection, engine, preferences, previews, results, windows
from .jobs import Job, Jobs, State
from .news import unplaced
from .states import SPACE_KINDS

log = logging.getLogger(__name__)

_PAUSE = 0.2  # seconds between two looks at whether a result can be placed
_QUICK = 0.03  # seconds between two turns of the timer while a shape follows a slider
_SOON = 0.05  # seconds until the timer runs when it is woken
_MODELLED = {"fit", "complete"}  # kinds of jobs whose model can be meshed again
_FIRST_SHOWN = 40  # steps: what the network holds before is a random blob

Connect = Callable[[], engine.Transport]


@dataclass(frozen=True)
class Notice:
    """What the panel says of the last thing that ended badly, until the next job is begun."""

    title: str
    error: SdfError
    kind: str = "fit"


class Runtime:
    """What lives as long as the add-on is enabled. Also the ``Host`` of its jobs."""

    def __init__(self, connect: Connect) -> None:
        self.jobs = Jobs(connect, self)
        self.waiting: dict[str, Job] = {}  # done, and not yet in the scene
        self.notice: Notice | None = None
        self.known: dict[str, Any] | None = None  # what the last worker had, also while none runs
        self.blocking = False  # a script waits for its job and reports by itself
        self.chores: list[Callable[[], bool]] = []  # further work of the timer; False: over
        self.warmed = False  # the worker was started for who looks at the panel
        self.quick = False  # somebody drags a slider: look more often
        self._turn = threading.RLock()  # while Blender renders, its thread pumps, too

    # -- Host: called by the jobs ----------------------------------------------------------------------------------

    def finished(self, job: Job) -> None:
        if "receive" in job.target:  # what is shown on the way, outside the undo history
            self.forget(job)
            job.target["receive"](job)
            return
        self.waiting[job.id] = job
        self.settle()

    def failed(self, job: Job) -> None:
        self.forget(job)
        if job.error is None:
            return
        log.error("%s: %s", job.title, job.error)
        if job.kind in _MODELLED and job.trained is not None:  # no mesh of it, but the training is not lost
            self.waiting[job.id] = job
            self.settle()
        self.notice = Notice(job.title, job.error, job.kind)
        if not (self.blocking or "receive" in job.target):
            windows.popup(job.title, job.error)

    def cancelled(self, job: Job) -> None:
        self.forget(job)

    def preview(self, job: Job, message: Message) -> None:
        early = (job.progress.get("step") or 0) < _FIRST_SHOWN
        if not (self.blocking or early) and "place" in job.target:
            previews.show(job.id, job.target["place"], message, bpy.context)
            windows.redraw()

    def changed(self) -> None:
        windows.redraw()

    # -- the rest --------------------------------------------------------------------------------------------------

    def submit(self, job: Job) -> Job:
        """Queue ``job`` and keep the timer going; returns at once."""
        if "receive" not in job.target:  # what follows a slider says nothing of what the user began
            self.notice = None
        self.jobs.submit(job)
        wake()
        return job

    def run(self, job: Job, on_progress: Callable[[Job], None] | None = None) -> Job:
        """Do ``job`` and wait for it, result placed: for scripts.

        Raises:
            SdfError: why it failed.
        """
        self.notice, self.blocking = None, True
        try:
            with self._turn:
                self.jobs.run(job, on_progress=on_progress)
        finally:
            self.blocking = False
        if job.error is not None:
            raise job.error
        return job

    def forget(self, job: Job) -> None:
        """Nothing more comes of ``job``: let go of its arrays and its preview."""
        self.waiting.pop(job.id, None)
        self.jobs.jobs.pop(job.id, None)
        self.sweep()

    def settle(self) -> None:
        """Place what waits, as far as the user is not in the middle of something."""
        if threading.current_thread() is not threading.main_thread():
            return  # of a render, whose thread runs no operators
        for job in list(self.waiting.values()):
            if job.id not in self.waiting:  # what failed before it has settled the others
                continue
            with windows.override():
                if not windows.can_place(bpy.context):
                    return
                self._apply(job)

    def _apply(self, job: Job) -> None:
        """Place what came of ``job``; of one that failed that is its model, and the notice then says so.

        The operator leaves in ``waiting`` what it could not place: that fails, and waits no longer.
        """
        kept = job.state is State.FAILED
        try:
            put = "put" in job.target and not kept
            name = "apply_result" if not put else "apply_shapes" if job.kind in SPACE_KINDS else "apply_made"
            getattr(bpy.ops.sdf, name)("EXEC_DEFAULT", True, job=job.id)
        except RuntimeError as error:  # Blender did not let it run
            log.error("%s: %s", job.title, error)
            job.error = job.error or unplaced(error)
        if self.waiting.pop(job.id, None) is not None and not kept:
            job.state = State.FAILED
            job.error = job.error or EngineError("The result could not be placed.", "The log has the details.")
            self.failed(job)
        if kept and job.error is not None:
            self.notice = Notice(job.title, job.error, job.kind)

    def sweep(self) -> None:
        """Remove the previews of jobs that are no more."""
        active = self.jobs.active
        previews.sweep({active.id} if active is not None and active.state is State.RUNNING else ())

    def tick(self) -> float | None:
        """One turn of the timer: seconds to the next, ``None`` when there is nothing left to do."""
        if not self._turn.acquire(blocking=False):
            return _PAUSE
        try:
            return self._tick()
        finally:
            self._turn.release()

    def _tick(self) -> float | None:
        pause = self.jobs.pump()
        if self.jobs.backend is not None:
            self.known = self.jobs.backend
        self.sweep()
        self.settle()
        self.chores = [chore for chore in self.chores if chore()]
        if self.waiting or self.chores:
            pause = min(pause or _PAUSE, _QUICK if self.quick else _PAUSE)
        return pause

    def close(self) -> None:
        """End the worker and forget all jobs."""
        self.waiting.clear()
        self.chores.clear()
        self.jobs.close()


_runtime: Runtime | None = None


def runtime() -> Runtime:
    """The running instance.

    Raises:
        EngineMissingError: the add-on is not enabled.
    """
    if _runtime is None:
        raise EngineMissingError("The add-on is not enabled.", "Enable Neural SDF in the preferences.")
    return _runtime


def backend() -> dict[str, Any] | None:
    """What the worker offers, the last one's when none runs; ``None`` before the first."""
    if _runtime is None:
        return None
    return _runtime.jobs.backend or _runtime.known


def waits(operator: Any) -> bool:
    """Whether an operator is to wait for its jobs: one that a script calls, and any without a window.

    What the user clicks or repeats (Shift R) is not waited for: the window would freeze, with no Cancel to be clicked.
    """
    options = operator.options
    return bpy.app.background or not (options.is_invoke or options.is_repeat or options.is_repeat_last)


def status() -> str:
    """One line about the worker."""
    held = runtime()
    if held.known and held.jobs.backend is None and held.jobs.problem is None and held.jobs.queue == []:
        return f"Backend: resting · torch {_short(held.known.get('torch', '?'))}"
    return _short(held.jobs.status)


def _short(version: str) -> str:
    """Without a build's own suffix: torch 2.13.0+cpu is torch 2.13.0."""
    return re.sub(r"\+\S+", "", version)


def warm() -> None:
    """Start the worker soon, once, if the preferences say so: somebody looks at the panel and may want to fit.

    A panel that is being drawn may not wait; and a worker that cannot be started shows in its status line.
    """
    if _runtime is None or _runtime.warmed or bpy.app.background or not preferences.value("warm", True):
        return
    _runtime.warmed = True
    bpy.app.timers.register(_start, first_interval=_SOON)


def _start() -> None:
    if _runtime is not None:
        with contextlib.suppress(SdfError):
            _runtime.jobs.start()
        wake()
        windows.redraw()


def restart_backend() -> None:
    """Settings of the worker changed: an idle one is ended, the next job starts another."""
    if _runtime is not None:
        _runtime.jobs.release()
        _runtime.jobs.problem, _runtime.jobs.ended = None, False
        windows.redraw()


# --- timer and handlers ------------------------------------------------------------------------------------------


def _tick() -> float | None:
    if _runtime is None:
        return None
    global _due
    _due = 0.0  # it is now
    pause: float | None = 1.0
    try:
        pause = _runtime.tick()
    except Exception:
        log.exception("the timer failed")
    _due = time.monotonic() + (pause or 0.0)
    return pause


_due = 0.0  # when the timer runs next, in seconds of the monotonic clock


def wake() -> None:
    """See to it that the timer runs, and soon: a long pause is cut short, but one that is nearly over is left alone.

    A slider that is dragged wakes it with every movement; put off each time, it would never run.
    """
    global _due
    if bpy.app.background:
        return
    if bpy.app.timers.is_registered(_tick):
        if _due - time.monotonic() <= _SOON:
            return
        bpy.app.timers.unregister(_tick)
    _due = time.monotonic() + _SOON
    bpy.app.timers.register(_tick, first_interval=_SOON, persistent=True)


@persistent
def _on_load(*_: Any) -> None:
    """Another file is loaded: what was running belonged to the old one."""
    if _runtime is not None:
        _runtime.waiting.clear()
        _runtime.jobs.abandon()
        _runtime.notice = None


@persistent
def _on_history(*_: Any) -> None:
    """After undo, redo and loading: previews that came back with an old state go, as soon as Blender is at rest."""
    if _runtime is not None and any(previews.OWNER in o for o in bpy.data.objects):
        if bpy.app.background:
            _runtime.sweep()
        else:
            wake()


@persistent
def _on_save(*_: Any) -> None:
    """A preview is never part of a file (the next one comes by itself), nor is a source that was deleted."""
    previews.sweep()
    results.let_go_of_sources()


_HANDLERS = {
    "load_pre": _on_load,
    "load_post": _on_history,
    "undo_post": _on_history,
    "redo_post": _on_history,
    "save_pre": _on_save,
}


def _shutdown(*_: Any) -> None:
    """Blender ends: so does the worker. It would notice by itself, but only seconds later."""
    if _runtime is not None:
        _runtime.close()


def register() -> None:
    global _runtime
    _runtime = Runtime(connection.connect)
    for name, handler in _HANDLERS.items():
        getattr(bpy.app.handlers, name).append(handler)
    if hasattr(bpy.app.handlers, "exit_pre"):  # 5.1
        bpy.app.handlers.exit_pre.append(_shutdown)
    atexit.register(_shutdown)


def unregister() -> None:
    global _runtime
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    atexit.unregister(_shutdown)
    for name, handler in {**_HANDLERS, "exit_pre": _shutdown}.items():
        held = getattr(bpy.app.handlers, name, [])
        if handler in held:
            held.remove(handler)
    if _runtime is not None:
        _runtime.close()
        previews.sweep()
    _runtime = None
