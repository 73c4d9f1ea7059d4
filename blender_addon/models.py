"""Results without a fit: plain bodies at the 3D cursor, and models from files; asked and combined as fits are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from bpy.props import EnumProperty, FloatVectorProperty, StringProperty
from bpy_extras.io_utils import ImportHelper
from mathutils import Matrix

from ..sdfcore.errors import SdfError
from ..sdfcore.protocol import Message
from . import requests, results, spaces
from .operators import JobOperator, Outcome
from .space_operators import in_object_mode, submit
from .states import Job

Context = bpy.types.Context

BODIES = [
    ("sphere", "Sphere", "Of a radius", "MESH_UVSPHERE", 0),
    ("box", "Box", "Of three half sides", "MESH_CUBE", 1),
    ("torus", "Torus", "Of a ring and a tube, round its Z axis", "MESH_TORUS", 2),
    ("cylinder", "Cylinder", "Of a radius and half a height, along its Z axis", "MESH_CYLINDER", 3),
    ("capsule", "Capsule", "Of a radius and half a length, along its Z axis", "MESH_CAPSULE", 4),
]
#: What the sizes of each are called, and what they are where nothing is said.
SIZES = {
    "sphere": {"Radius": 1.0},
    "box": {"Half X": 1.0, "Half Y": 1.0, "Half Z": 1.0},
    "torus": {"Ring": 1.0, "Tube": 0.25},
    "cylinder": {"Radius": 0.5, "Half Height": 1.0},
    "capsule": {"Radius": 0.5, "Half Length": 0.5},
}
SUFFIXES = (".safetensors", ".npz")


def _result_job(
    kind: str, name: str, body: dict[str, Any], matrix: Matrix, context: Context, arrays: dict[str, Any] | None = None
) -> Job:
    """A job whose answer becomes a result called ``name``, its world moved by ``matrix``."""
    here = np.eye(4)
    target = results.Target(name, 0, 0, context.scene.session_uid, here, here, None)

    def put(message: Message, put_context: Context) -> Any:
        made = results.new_object(name, results.build(name, target, message), target, put_context)
        results.describe(made, target, message)
        made.matrix_world = matrix
        spaces.select_only(made, put_context)
        return made

    whole = {**body, "device": requests.device(context.scene.sdf), "title": name}
    return Job(name, Message(kind, "", whole, arrays or {}), {"put": put})


def body_job(shape: str, sizes: list[float], context: Context) -> Job:
    """A plain body at the 3D cursor, upright."""
    titles = {key: title for key, title, *_ in BODIES}
    place = Matrix.Translation(context.scene.cursor.location)
    return _result_job("body", f"{titles[shape]}.sdf", {"shape": shape, "sizes": sizes}, place, context)


class SDF_OT_add_body(JobOperator):
    bl_idname = "sdf.add_body"
    bl_label = "SDF Body"
    bl_description = "Add a plain body whose field is its exact distance, to be combined with fitted shapes"
    bl_options = {"REGISTER"}

    shape: EnumProperty(name="Shape", description="Which body", items=BODIES)
    sizes: FloatVectorProperty(
        name="Sizes",
        description="Its measures, in their order; 0 for the usual one",
        size=3,
        min=0.0,
        subtype="NONE",
        unit="LENGTH",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context: Context) -> bool:
        return in_object_mode(cls, context)

    def invoke(self, context: Context, _event: Any) -> Outcome:
        self.sizes = [*SIZES[self.shape].values(), 0.0, 0.0, 0.0][:3]
        return context.window_manager.invoke_props_dialog(self)

    def draw(self, _context: Context) -> None:
        self.layout.use_property_split = True
        for index, name in enumerate(SIZES[self.shape]):
            self.layout.prop(self, "sizes", index=index, text=name)

    def jobs(self, context: Context, preview: bool) -> list[Callable[[], Job]]:
        usual = SIZES[self.shape].values()
        sizes = [given or size for given, size in zip(self.sizes, usual, strict=False)]
        return [lambda: body_job(self.shape, sizes, context)]


def load_job(path: Path, context: Context) -> Job:
    """The model in a file, where it was fitted.

    Raises:
        InputError: it cannot be opened, or is too large.
    """
    body = {"name": path.name, "resolution": context.scene.sdf.resolution or None}
    arrays = {"file": requests.bytes_of(path, "Choose a fitted model.")}
    return _result_job("load_model", f"{path.stem}.sdf", body, Matrix.Identity(4), context, arrays)


class SDF_OT_load_model(bpy.types.Operator, ImportHelper):
    bl_idname = "sdf.load_model"
    bl_label = "Load Model"
    bl_description = "Read a fitted shape from a file, or the layers of a published network, as a result"
    bl_options = {"REGISTER"}

    filter_glob: StringProperty(default=";".join(f"*{suffix}" for suffix in SUFFIXES), options={"HIDDEN"})

    @classmethod
    def poll(cls, context: Context) -> bool:
        return in_object_mode(cls, context)

    def execute(self, context: Context) -> Outcome:
        try:
            job = load_job(Path(bpy.path.abspath(self.filepath)), context)
        except SdfError as error:
            self.report({"ERROR"}, error.line)
            return {"CANCELLED"}
        return submit(self, job)


def _add_menu(self: Any, _context: Context) -> None:
    column = self.layout.column()  # a part of its own: what other add-ons append below is called as they expect
    column.operator_context = "INVOKE_DEFAULT"  # the menu's own calls as scripts do: without the dialog, and waiting
    column.operator_menu_enum("sdf.add_body", "shape", text="SDF Body", icon="META_BALL")


def _import_menu(self: Any, _context: Context) -> None:
    self.layout.operator(SDF_OT_load_model.bl_idname, text="Fitted SDF (.safetensors, .npz)")


_CLASSES = (SDF_OT_add_body, SDF_OT_load_model)


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.VIEW3D_MT_add.append(_add_menu)
    bpy.types.TOPBAR_MT_file_import.append(_import_menu)


def unregister() -> None:
    bpy.types.TOPBAR_MT_file_import.remove(_import_menu)
    bpy.types.VIEW3D_MT_add.remove(_add_menu)
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
