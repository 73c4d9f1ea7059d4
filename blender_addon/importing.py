"""File ▸ Import of scans: files that Blender itself does not read, or reads without their normals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
from bpy.props import CollectionProperty, StringProperty
from bpy_extras.io_utils import ImportHelper

from ..sdfcore.errors import SdfError
from ..sdfcore.geometry import Mesh, PointCloud
from ..sdfcore.protocol import Message
from . import host, meshes, requests, results, spaces

Context = bpy.types.Context

SUFFIXES = (".xyz", ".pcd", ".npz", ".npy", ".ply")


def place(name: str, message: Message, context: Context) -> Any:
    """The object of a file that was read: vertices only for points, with normals and colours. Selected and active.

    Raises:
        SdfError: the message holds no valid shape.
    """
    arrays = message.arrays
    if "points" in arrays:
        obj = meshes.points_object(name, PointCloud(arrays["points"], arrays.get("normals"), arrays.get("colours")))
    else:
        obj = meshes.mesh_object(name, Mesh(arrays["vertices"], arrays["faces"], colours=arrays.get("colours")))
    _link(obj, context)
    spaces.select_only(obj, context)
    return obj


def _link(obj: Any, context: Context) -> None:
    """Into the active collection; where that is of another file, or excluded, into the scene's."""
    everything, home = context.scene.collection, context.collection
    if home is None or results.of_another_file(home):
        home = everything
    home.objects.link(obj)
    context.view_layer.update()
    if home != everything and not results.in_layer(obj, context.view_layer):
        everything.objects.link(obj)
        home.objects.unlink(obj)


def import_file(path: str) -> None:
    """Import one file and wait for it: for scripts."""
    bpy.ops.sdf.import_points(filepath=path)


class SDF_OT_import_points(bpy.types.Operator, ImportHelper):
    bl_idname = "sdf.import_points"
    bl_label = "Import Points"
    bl_description = "Import a scan with its normals and colours as a mesh of vertices, ready for Fit SDF"
    bl_options = {"REGISTER"}

    # Remembered, the last file would look like one that was dropped, and no browser would open.
    filepath: StringProperty(
        name="File Path", description="File to import", maxlen=1024, subtype="FILE_PATH", options={"SKIP_SAVE"}
    )
    filter_glob: StringProperty(default=";".join(f"*{s}" for s in SUFFIXES), options={"HIDDEN"})
    files: CollectionProperty(type=bpy.types.OperatorFileListElement, options={"HIDDEN", "SKIP_SAVE"})
    directory: StringProperty(subtype="DIR_PATH", options={"HIDDEN", "SKIP_SAVE"})

    def invoke(self, context: Context, event: Any) -> set[str]:
        if self.filepath or self.files:  # dropped into the window
            return self.execute(context)
        return ImportHelper.invoke(self, context, event)

    def paths(self) -> list[Path]:
        """All that was chosen."""
        named = [Path(self.directory) / f.name for f in self.files if f.name] if self.directory else []
        return named or [Path(bpy.path.abspath(self.filepath))]

    def execute(self, _context: Context) -> set[str]:
        wait = host.waits(self)
        failures = []
        for path in self.paths():
            try:
                job = requests.read_job(path)
                if wait:
                    host.runtime().run(job)
                else:
                    host.runtime().submit(job)
            except SdfError as error:
                failures.append(f"{path.name}: {error.line}")
        for line in failures:
            self.report({"ERROR"}, line)
        return {"CANCELLED"} if failures else {"FINISHED"}


class SDF_FH_points(bpy.types.FileHandler):
    bl_idname = "SDF_FH_points"
    bl_label = "Points"
    bl_import_operator = "sdf.import_points"
    bl_file_extensions = ".xyz;.pcd;.npz;.npy"

    @classmethod
    def poll_drop(cls, context: Context) -> bool:
        return context.area is not None and context.area.type in {"VIEW_3D", "OUTLINER"}


def _menu(self: Any, _context: Context) -> None:
    self.layout.operator(SDF_OT_import_points.bl_idname, text="Points for SDF (.xyz, .pcd, .npz, .npy, .ply)")


def register() -> None:
    bpy.utils.register_class(SDF_OT_import_points)
    bpy.utils.register_class(SDF_FH_points)
    bpy.types.TOPBAR_MT_file_import.append(_menu)


def unregister() -> None:
    bpy.types.TOPBAR_MT_file_import.remove(_menu)
    bpy.utils.unregister_class(SDF_FH_points)
    bpy.utils.unregister_class(SDF_OT_import_points)
