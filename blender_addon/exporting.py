"""A result's field for other programs: ONNX, GLSL, OSL; and OpenVDB, which Blender's own Geometry Nodes read."""

from __future__ import annotations

import importlib
import itertools
import os
import secrets
import sys
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from bpy.props import EnumProperty, FloatProperty, StringProperty
from bpy_extras.io_utils import ExportHelper
from mathutils import Matrix

from ..sdfcore.errors import EngineError, InputError
from ..sdfcore.protocol import Message
from . import results
from .operators import OnResult
from .queries import result_job
from .states import Job

Context = bpy.types.Context

GRID = "sdf"  # its name in the file
_FORMATS = [
    (".onnx", "ONNX", "A network that other programs evaluate: places in, signed distances out"),
    (".glsl", "GLSL", "A function of a place, for shaders. Only of plain networks, as of the recipes igr and siren"),
    (".osl", "OSL", "A shader for a Script node of Cycles. Only of plain networks, as of the recipes igr and siren"),
]


def written(path: Path, data: bytes) -> None:
    """``data`` as the content of ``path``, replaced only when all of it is on disk.

    Raises:
        InputError: it cannot be written there.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            part.write_bytes(data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error}).", "Choose another place.") from error


def checked(path: str, suffix: str) -> Path:
    """An absolute path that ends with ``suffix``, in a folder that is there.

    Raises:
        InputError: there is no such folder, or no name.
    """
    found = Path(bpy.path.abspath(path))
    if not found.name:
        raise InputError("No file was named.", "Choose a name.")
    found = found if found.suffix.lower() == suffix else found.with_name(found.name + suffix)
    if not found.parent.is_dir() or not os.access(found.parent, os.W_OK):
        raise InputError(f"{found.parent} cannot be written to.", "Choose another folder.")
    return found


class OnField(OnResult, ExportHelper):
    """One that writes a file about a result; asks for its name first."""

    filepath: StringProperty(
        name="File Path", description="File to write", maxlen=1024, subtype="FILE_PATH", options={"SKIP_SAVE"}
    )  # of another result it is another one

    def invoke(self, context: Context, event: Any) -> set[str]:
        if not self.filepath:
            name = bpy.path.clean_name(results.of(context.active_object).name)
            self.filepath = str(Path(bpy.data.filepath).parent / (name + self.filename_ext))
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}


# --- for other programs ------------------------------------------------------------------------------------------


class SDF_OT_export_field(OnField):
    bl_idname = "sdf.export_field"
    bl_label = "Export Field"
    bl_description = "Write the fitted network for other programs: ONNX, GLSL or OSL. World units of the fit"
    bl_options = {"REGISTER"}

    format: EnumProperty(name="Format", description="What is written", items=_FORMATS)
    filter_glob: StringProperty(default="*.onnx;*.glsl;*.osl", options={"HIDDEN"})

    @property
    def filename_ext(self) -> str:
        return str(self.format)

    def job(self, result: Any, context: Context, preview: bool) -> Job:
        path, suffix = checked(self.filepath, self.format), self.format

        def put(found: Any, message: Message) -> Any:
            data = message.arrays.get("data")
            if data is None:
                raise EngineError(
                    "The backend's answer holds no file.", "Update the backend: it must be of this version."
                )
            written(path, data.tobytes())
            return found

        return result_job("export", result, context, {"suffix": suffix}, put)


# --- for Geometry Nodes ------------------------------------------------------------------------------------------


_OPENVDB = ("openvdb", "pyopenvdb")  # the latter up to Blender 4.3


def openvdb() -> Any:
    """Blender's own OpenVDB module, which its bundled Python finds, and Blender as a Python module does not.

    Raises:
        InputError: this Blender brings none.
    """
    if (found := _imported()) is not None:
        return found
    bundled = Path(bpy.utils.resource_path("LOCAL")) / "python" / "lib"
    places = [str(p) for p in bundled.glob("python*/site-packages") if any(p.glob("*openvdb*"))]
    sys.path += [place for place in places if place not in sys.path]
    if (found := _imported()) is not None:
        return found
    raise InputError("This Blender brings no OpenVDB.", "Use a build from blender.org.")


def _imported() -> Any:
    for name in _OPENVDB:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def write_volume(path: Path, message: Message) -> None:
    """The narrow band of an answer as a level set in a .vdb file, world units of the fit.

    Raises:
        SdfError: the answer holds none, or it cannot be written there.
    """
    arrays, body = message.arrays, message.body
    if not {"first", "values"} <= set(arrays) or "voxel" not in body:
        raise EngineError("The backend's answer holds no volume.", "Update the backend: it must be of this version.")
    vdb = openvdb()
    grid = vdb.FloatGrid(float(body["band"]))
    for first, values in zip(arrays["first"].tolist(), arrays["values"], strict=True):
        grid.copyFromArray(np.ascontiguousarray(values), ijk=tuple(first), tolerance=0.0)
    grid.signedFloodFill()  # what the band encloses is inside
    grid.name, grid.gridClass = GRID, vdb.GridClass.LEVEL_SET
    grid.transform = vdb.createLinearTransform(voxelSize=float(body["voxel"]))
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.vdb")
    try:
        try:
            vdb.write(str(part), grids=[grid])
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path} cannot be written ({error}).", "Choose another place.") from error


def volume_job(result: Any, context: Context, path: Path, width: float) -> Job:
    """A .vdb file of ``result``, and a volume object of it that stands where ``result`` stands."""
    settings = context.scene.sdf
    body = {"resolution": settings.resolution or None, "level": settings.level, "width": width}

    def put(found: Any, message: Message) -> Any:
        write_volume(path, message)
        data = bpy.data.volumes.new(f"{found.name}.{GRID}")
        data.filepath = str(path)
        made = bpy.data.objects.new(data.name, data)
        back = Matrix(np.linalg.inv(results.stored_matrix(found, results.MATRIX)).tolist())
        made.matrix_world = found.matrix_world @ back
        results.home_of(found, bpy.context).objects.link(made)
        return made

    return result_job("volume", result, context, body, put)


class SDF_OT_export_volume(OnField):
    bl_idname = "sdf.export_volume"
    bl_label = "OpenVDB Volume"
    bl_description = (
        "Write the field round the surface as an OpenVDB level set, the grid sdf, and add it as a volume: for the SDF "
        "grid nodes of Geometry Nodes"
    )
    bl_options = {"REGISTER"}

    filename_ext = ".vdb"
    width: FloatProperty(
        name="Band",
        description="Voxels on either side of the surface that hold distances",
        default=3.0,
        min=1.0,
        max=64.0,
    )
    filter_glob: StringProperty(default="*.vdb", options={"HIDDEN"})

    def job(self, result: Any, context: Context, preview: bool) -> Job:
        openvdb()  # is it there? before any work, not after
        path = unused(checked(self.filepath, ".vdb"))
        if path.name != Path(self.filepath).name:
            self.report({"INFO"}, f"Written to {path.name}: Blender shows a volume's file as it was first read")
        return volume_job(result, context, path, self.width)


def unused(path: Path) -> Path:
    """``path``, or with a number after its name if a volume of this file is read from it already.

    Blender keeps what it has read of a volume's file, and would show the old field.
    """
    held = {Path(bpy.path.abspath(volume.filepath)) for volume in bpy.data.volumes if volume.filepath}
    names = itertools.chain([path], (path.with_stem(f"{path.stem}_{number:03d}") for number in itertools.count(1)))
    return next(name for name in names if name not in held)


_CLASSES = (SDF_OT_export_field, SDF_OT_export_volume)


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
