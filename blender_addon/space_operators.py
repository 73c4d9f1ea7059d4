"""A scene's shape space: learn it, show its shapes, save it to a file and load one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
from bpy.props import EnumProperty, IntProperty, StringProperty
from bpy_extras.io_utils import ExportHelper, ImportHelper

from ..sdfcore.errors import InputError, SdfError
from ..sdfcore.protocol import Message
from . import host, requests, spaces
from .operators import JobOperator, Outcome
from .states import Job

Context = bpy.types.Context

SUFFIX = ".safetensors"


def in_object_mode(cls: Any, context: Context) -> bool:
    """Part of a poll: says so where another mode is on."""
    if context.mode != "OBJECT":
        cls.poll_message_set("Leave the current mode: this works in Object Mode")
        return False
    return True


def with_space(cls: Any, context: Context) -> bool:
    """Part of a poll: Object Mode, and a space in the scene."""
    if not spaces.has(context.scene):
        cls.poll_message_set("The scene has no shape space: learn one, or load one")
        return False
    return in_object_mode(cls, context)


def submit(operator: Any, job: Job) -> Outcome:
    """Do ``job``: begun by a click, waited for in a script."""
    try:
        if host.waits(operator):
            host.runtime().run(job)
        else:
            host.runtime().submit(job)
    except SdfError as error:
        operator.report({"ERROR"}, error.line)
        return {"CANCELLED"}
    return {"FINISHED"}


def _keep(scene_uid: int, data: Any = None) -> Callable[[Message, Context], Any]:
    """What puts a ``learn`` answer, or the ``data`` that was described, into the scene."""

    def put(message: Message, context: Context) -> Any:
        scene = spaces.scene_of(scene_uid, context)
        spaces.keep(scene, message.arrays.get("space") if data is None else data, message.body)
        return scene

    return put


class SDF_OT_learn_space(JobOperator):
    bl_idname = "sdf.learn_space"
    bl_label = "Learn Shape Space"
    bl_description = "Learn one network for all shapes of the collection, or for those selected: "
    bl_description += "everything between them can then be shown. It replaces the scene's space"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not in_object_mode(cls, context):
            return False
        if spaces.running({"learn"}):
            cls.poll_message_set("A shape space is being learned")
            return False
        count = len(spaces.members(context))
        if count < 2:
            where = "The collection holds" if context.scene.sdf_shapes.source else "Selected are"
            cls.poll_message_set(f"{where} {count} objects with a surface: two or more are needed")
            return False
        return True

    def jobs(self, context: Context, preview: bool) -> list[Callable[[], Job]]:
        def make() -> Job:
            job = spaces.learn_job(spaces.members(context), context, preview)
            job.target["put"] = _keep(context.scene.session_uid)
            return job

        return [make]


class SDF_OT_show_shape(JobOperator):
    bl_idname = "sdf.show_shape"
    bl_label = "Show Shape"
    bl_description = "Make an object of the chosen shape, as the space remembers it"
    bl_options = {"REGISTER"}

    shape: StringProperty(
        name="Shape", description="Its name; empty for the one chosen in the list", options={"SKIP_SAVE"}
    )

    @classmethod
    def poll(cls, context: Context) -> bool:
        return with_space(cls, context)

    def jobs(self, context: Context, preview: bool) -> list[Callable[[], Job]]:
        scene, settings = context.scene, context.scene.sdf_shapes

        def make() -> Job:
            known = spaces.names(scene)
            name = self.shape or (known[min(settings.active_shape, len(known) - 1)] if known else "")
            body = {"weights": {name: 1.0}, "resolution": settings.resolution, "model": True}
            return shape_job(name, body, spaces.array(scene), scene)

        return [make]


def shape_job(name: str, body: dict[str, Any], data: Any, scene: Any) -> Job:
    """Decode a shape into a new, selected object of its own."""
    job = spaces.request("decode", name, body, data, scene)
    uid = scene.session_uid

    def put(message: Message, context: Context) -> Any:
        obj = spaces.put_shape(f"{name}.shape", message, spaces.scene_of(uid, context))
        spaces.select_only(obj, context)
        return obj

    job.target["put"] = put
    return job


class SDF_OT_save_space(bpy.types.Operator, ExportHelper):
    bl_idname = "sdf.save_space"
    bl_label = "Save Space"
    bl_description = "Write the scene's shape space to a file, for other scenes and for the command line"
    bl_options = {"REGISTER"}

    filename_ext = SUFFIX
    filter_glob: StringProperty(default=f"*{SUFFIX}", options={"HIDDEN"})

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not spaces.has(context.scene):
            cls.poll_message_set("The scene has no shape space: learn one, or load one")
            return False
        return True

    def execute(self, context: Context) -> Outcome:
        try:
            save(context.scene, Path(bpy.path.abspath(self.filepath)))
        except SdfError as error:
            self.report({"ERROR"}, error.line)
            return {"CANCELLED"}
        self.report({"INFO"}, f"Saved {Path(self.filepath).name}")
        return {"FINISHED"}


def save(scene: Any, path: Path) -> None:
    """Write the scene's space to ``path``, whole or not at all.

    Raises:
        InputError: there is none, or the file cannot be written.
    """
    data = spaces.array(scene)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written: {error.strerror}.", "Choose another place.") from error


class SDF_OT_load_space(bpy.types.Operator, ImportHelper):
    bl_idname = "sdf.load_space"
    bl_label = "Load Space"
    bl_description = "Read a shape space from a file. It replaces the scene's space"
    bl_options = {"REGISTER"}

    filename_ext = SUFFIX
    filter_glob: StringProperty(default=f"*{SUFFIX}", options={"HIDDEN"})

    def execute(self, context: Context) -> Outcome:
        try:
            job = load_job(Path(bpy.path.abspath(self.filepath)), context.scene)
        except SdfError as error:
            self.report({"ERROR"}, error.line)
            return {"CANCELLED"}
        return submit(self, job)


def load_job(path: Path, scene: Any) -> Job:
    """Let the worker look at a space's file, and store it in the scene when it is sound.

    Raises:
        InputError: it cannot be opened, or is too large.
    """
    data = requests.bytes_of(path, "Choose a shape space.")
    job = spaces.request("describe", path.name, {}, data, scene)
    job.target["put"] = _keep(scene.session_uid, data)
    return job


class SDF_OT_edit_stops(bpy.types.Operator):
    bl_idname = "sdf.edit_stops"
    bl_label = "Edit Stops"
    bl_description = "Add a shape to the way, or take one from it"
    bl_options = {"REGISTER", "UNDO"}

    action: EnumProperty(
        name="Action", description="What to do", items=[("ADD", "Add", "At the end"), ("REMOVE", "Remove", "This one")]
    )
    index: IntProperty(name="Index", description="Which one is removed", default=-1)

    @classmethod
    def poll(cls, context: Context) -> bool:
        return with_space(cls, context)

    def execute(self, context: Context) -> Outcome:
        settings = context.scene.sdf_shapes
        if self.action == "ADD":
            known = spaces.names(context.scene)
            settings.stops.add().name = known[min(settings.active_shape, len(known) - 1)] if known else ""
        elif len(settings.stops) > 2:
            settings.stops.remove(self.index if 0 <= self.index < len(settings.stops) else len(settings.stops) - 1)
        return {"FINISHED"}


_CLASSES = (SDF_OT_learn_space, SDF_OT_show_shape, SDF_OT_save_space, SDF_OT_load_space, SDF_OT_edit_stops)


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
