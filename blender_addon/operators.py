"""What the user does: each operator reads the context, makes one call, and reports.

``invoke`` (a button, F3) starts a job and returns at once; ``execute`` (a script, ``blender --background``) waits
until the result is in the scene, and fails as an operator fails. Repeat Last executes, too, but does not wait.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import bpy
from bpy.props import StringProperty

from ..sdfcore.errors import NoSurfaceError, SdfError, describe, rebuild
from . import doubts, host, importing, meshes, previews, requests, results
from .jobs import Job, State
from .news import unplaced

log = logging.getLogger(__name__)

Context = bpy.types.Context
Outcome = set[str]

#: Kinds of jobs that keep what they have when they are stopped.
STOPPABLE = {"fit", "learn", "complete"}

_LINES_EVERY = 1.0  # seconds between two lines of a waiting script


def fittable(context: Context) -> list[Any]:
    """The objects that Fit SDF would fit, the active one first: those selected, and for a result what it was made from.

    A new result is selected, so that another click with other settings fits the same source again.
    """
    chosen = [o for o in context.selected_objects if o.type in meshes.READABLE and previews.OWNER not in o]
    chosen.sort(key=lambda o: o != context.active_object)
    return list(dict.fromkeys(results.source_of(o) or o for o in chosen))


def _progress_printer() -> Callable[[Job], None]:
    """Writes a line of progress now and then; a script's user has no panel."""
    last = 0.0

    def show(job: Job) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINES_EVERY:
            last = time.monotonic()
            sys.stdout.write(f"{job.title}: {progress_text(job)}\n")
            sys.stdout.flush()

    return show


def progress_text(job: Job) -> str:
    """Step, loss and time left of a running job, as far as they are known."""
    told = job.progress
    parts = []
    if told.get("step") and told.get("steps"):
        parts.append(f"{told['step']}/{told['steps']}")
        if told.get("loss") is not None:
            parts.append(f"loss {told['loss']:.3g}")
        if told.get("seconds_left") is not None:
            parts.append(f"{told['seconds_left']:.0f} s left")
    else:
        parts.append(str(told.get("stage") or "preparing").capitalize() + "…")
    return ", ".join(parts)


def _start(operator: Any, jobs: list[Callable[[], Job]], wait: bool) -> Outcome:
    """Submit each job, or run it to its end; what fails is reported, and the others go on."""
    begun, failures = 0, []
    for make in jobs:
        try:
            if wait:
                host.runtime().run(make(), _progress_printer())
            else:
                host.runtime().submit(make())
            begun += 1
        except SdfError as error:
            failures.append(error.line)
    for index, line in enumerate(failures):  # an error ends a script, so it comes last
        operator.report({"ERROR"} if index == len(failures) - 1 else {"WARNING"}, line)
    return {"FINISHED"} if begun and not (wait and failures) else {"CANCELLED"}


class JobOperator(bpy.types.Operator):
    """An operator that starts jobs; subclasses name them."""

    def jobs(self, context: Context, preview: bool) -> list[Callable[[], Job]]:
        raise NotImplementedError

    def invoke(self, context: Context, _event: Any) -> Outcome:
        return _start(self, self.jobs(context, True), wait=False)

    def execute(self, context: Context) -> Outcome:
        wait = host.waits(self)
        return _start(self, self.jobs(context, not wait), wait)


class SDF_OT_fit(JobOperator):
    bl_idname = "sdf.fit"
    bl_label = "Fit SDF"
    bl_description = "Fit a signed distance function to each selected object and make a watertight mesh of it"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if context.mode != "OBJECT":
            cls.poll_message_set("Leave the current mode: fitting works in Object Mode")
            return False
        if not fittable(context):
            cls.poll_message_set("Select a mesh, a point cloud, a curve or a text")
            return False
        return True

    def jobs(self, context: Context, preview: bool) -> list[Callable[[], Job]]:
        return [lambda o=o: requests.fit_job(o, context, preview) for o in fittable(context)]


class OnResult(JobOperator):
    """One that is about the result of the active object."""

    @classmethod
    def poll(cls, context: Context) -> bool:
        if context.mode != "OBJECT":
            cls.poll_message_set("Leave the current mode: fitting works in Object Mode")
            return False
        result = results.of(context.active_object)
        if result is None:
            cls.poll_message_set("Select a result of Fit SDF, or the object it was made from")
            return False
        if reason := results.fixed(result):
            cls.poll_message_set(reason)
            return False
        return True

    def job(self, result: Any, context: Context, preview: bool) -> Job:
        """What to do with ``result``; subclasses name it."""
        raise NotImplementedError

    def jobs(self, context: Context, preview: bool) -> list[Callable[[], Job]]:
        result = results.of(context.active_object)
        return [lambda: self.job(result, context, preview)]


class SDF_OT_continue_fit(OnResult):
    bl_idname = "sdf.continue_fit"
    bl_label = "Continue"
    bl_description = "Train the stored fit for more steps on its source, and refresh its mesh"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not super().poll(context):
            return False
        if results.source_of(results.of(context.active_object)) is None:
            cls.poll_message_set("The object that it was fitted to is not here, or there never was one")
            return False
        return True

    def job(self, result: Any, context: Context, preview: bool) -> Job:
        return requests.continue_job(result, context, preview)


class SDF_OT_remesh(OnResult):
    bl_idname = "sdf.remesh"
    bl_label = "Re-mesh"
    bl_description = "Mesh the stored fit again at the resolution and offset that are set, without fitting"
    bl_options = {"REGISTER"}

    def job(self, result: Any, context: Context, preview: bool) -> Job:
        return requests.remesh_job(result, context)


def _live(job_id: str) -> Job | None:
    """The job that is meant: by its id, else the running one, else the first in line."""
    jobs = host.runtime().jobs
    if job_id:
        held = jobs.jobs.get(job_id)
        return held if held is not None and not held.state.over else None
    return jobs.active or (jobs.queue[0] if jobs.queue else None)


class _OnJob(bpy.types.Operator):
    job: StringProperty(name="Job", description="Which job; empty for the running one", options={"HIDDEN", "SKIP_SAVE"})

    @classmethod
    def poll(cls, _context: Context) -> bool:
        if _live("") is None:
            cls.poll_message_set("Nothing is being fitted")
            return False
        return True


class SDF_OT_stop(_OnJob):
    bl_idname = "sdf.stop"
    bl_label = "Stop Here"
    bl_description = "End the fit now and keep the result so far"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        job = host.runtime().jobs.active
        if job is None or job.kind not in STOPPABLE:
            cls.poll_message_set("Nothing is being fitted")
            return False
        if job.stopping:
            cls.poll_message_set("It is stopping already: the mesh is being made")
            return False
        return True

    def execute(self, _context: Context) -> Outcome:
        job = _live(self.job)
        if job is None:
            return {"CANCELLED"}
        host.runtime().jobs.stop(job.id)
        host.wake()
        return {"FINISHED"}


class SDF_OT_cancel(_OnJob):
    bl_idname = "sdf.cancel"
    bl_label = "Cancel"
    bl_description = "Give the fit up and throw away what it has reached"
    bl_options = {"REGISTER"}

    def execute(self, _context: Context) -> Outcome:
        job = _live(self.job)
        if job is None:
            return {"CANCELLED"}
        host.runtime().jobs.cancel(job.id)
        host.wake()
        return {"FINISHED"}


class SDF_OT_toggle_source(bpy.types.Operator):
    bl_idname = "sdf.toggle_source"
    bl_label = "Show or Hide Source"
    bl_description = "Show or hide the object that this result was made from: both in one place flicker"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        result = results.shown(context.active_object)
        source = None if result is None else results.source_of(result)
        if not results.in_layer(source, context.view_layer):
            cls.poll_message_set("The object it was made from is not in this view layer")
            return False
        if not (source.visible_get() or source.hide_get()):
            cls.poll_message_set(f"{source.name} is hidden by its monitor icon or its collection: show that first")
            return False
        return True

    def execute(self, context: Context) -> Outcome:
        result = results.shown(context.active_object)
        source = results.source_of(result)
        source.hide_set(source.visible_get())
        if source.hide_get() and context.view_layer.objects.active == source:
            context.view_layer.objects.active = result
        return {"FINISHED"}


def _place(job: Job, context: Context) -> Any:
    """The result of ``job`` in the scene: an object, or the scene where it is a space."""
    assert job.result is not None
    if "put" in job.target:
        return job.target["put"](job.result, context)
    if "import" in job.target:
        return importing.place(job.target["import"], job.result, context)
    made = results.place(job.target["place"], job.result, context)
    doubts.show(made, job.result)
    return made


def _keep(job: Job, context: Context) -> Any:
    """An object that holds the model of a fit that failed after its training; the job's error then says so."""
    assert job.error is not None
    known = {"recipe": job.progress.get("recipe"), "reason": job.progress.get("reason")}
    told = {**known, "preset": job.request.body.get("preset"), "steps": job.progress.get("step")}
    if job.result is not None:
        told = dict(job.result.body.get("report") or {})
    told = {name: value for name, value in told.items() if value}
    made = results.keep(job.target["place"], job.trained, told, context)
    how = "at another offset" if isinstance(job.error, NoSurfaceError) else "at a lower resolution"
    hint = f"{job.error.hint} The fit is kept in {made.name}: Re-mesh {how} will make its mesh."
    job.error = rebuild({**describe(job.error), "hint": hint.strip()})
    return made


# Registered, so that Adjust Last Operation is of it and not of what the user did before it arrived: Blender would undo
# to there, and what took minutes would be lost.
_RECORDED = {"REGISTER", "INTERNAL", "UNDO"}


class _Applying(bpy.types.Operator):
    """Its label is the name of the undo step."""

    job: StringProperty(name="Job", description="Which job", options={"HIDDEN", "SKIP_SAVE"})

    def execute(self, context: Context) -> Outcome:
        held = host.runtime()
        job = held.waiting.get(self.job)
        if job is None:
            return {"CANCELLED"}
        try:
            made = _keep(job, context) if job.state is State.FAILED else _place(job, context)
        except Exception as error:  # of Blender's, too: the runtime sees to what is left in its hands
            log.exception("%s could not be placed", job.title)
            job.error = job.error or unplaced(error)
            return {"CANCELLED"}
        held.forget(job)
        job.target["made"] = made.name
        is_mesh = getattr(made, "type", "") == "MESH"
        self.report({"INFO"}, f"{made.name}: {len(made.data.vertices)} vertices" if is_mesh else f"{job.title}: done")
        return {"FINISHED"}


class SDF_OT_apply_result(_Applying):
    bl_idname = "sdf.apply_result"
    bl_label = "Fit SDF"
    bl_description = "Put a finished job's result into the scene"
    bl_options = _RECORDED


class SDF_OT_apply_shapes(_Applying):
    bl_idname = "sdf.apply_shapes"
    bl_label = "Shape Space"
    bl_description = "Put what came of a shape space into the scene"
    bl_options = _RECORDED


class SDF_OT_apply_made(_Applying):
    bl_idname = "sdf.apply_made"
    bl_label = "SDF Result"
    bl_description = "Put what was asked of a result, or made of results, into the scene"
    bl_options = _RECORDED


_CLASSES = (
    SDF_OT_fit,
    SDF_OT_continue_fit,
    SDF_OT_remesh,
    SDF_OT_stop,
    SDF_OT_cancel,
    SDF_OT_toggle_source,
    SDF_OT_apply_result,
    SDF_OT_apply_shapes,
    SDF_OT_apply_made,
)


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
