"""Compare With: what other methods make of the same object, put beside it and measured as our own results are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import bpy
import numpy as np
from bpy.props import EnumProperty

from ..sdfcore.errors import InputError
from ..sdfcore.geometry import Mesh
from ..sdfcore.protocol import Message
from . import meshes, operators, requests, results
from .states import Job

Context = bpy.types.Context
Outcome = set[str]

METHODS = (
    ("poisson", "Screened Poisson", "Kazhdan and Hoppe 2013: exact on clean, dense points; needs pymeshlab"),
    ("hoppe", "Tangent Planes", "Hoppe et al. 1992: distances to tangent planes; rough and open"),
    ("apss", "APSS", "Guennebaud and Gross 2007: spheres through the neighbours; needs pymeshlab"),
    ("rimls", "RIMLS", "Öztireli et al. 2009: robust moving least squares, keeps edges; needs pymeshlab"),
    ("ball_pivoting", "Ball Pivoting", "Bernardini et al. 1999: triangles between the points; needs pymeshlab"),
    ("voxel", "Voxel Remesh", "Blender's own, of faces only"),
    ("smooth", "Smooth Remesh", "Blender's own, of faces only"),
)
_MODES = {"voxel": "VOXEL", "smooth": "SMOOTH"}  # of Blender's Remesh modifier
_CELLS = 256  # along the longest side, where no resolution is set


def compare_job(obj: Any, method: str, context: Context) -> Job:
    """``method`` on ``obj``, as the scene's settings say.

    Raises:
        InputError: it cannot be read, or the method cannot work on it.
    """
    settings = context.scene.sdf
    reading = meshes.read(obj, context.evaluated_depsgraph_get(), settings.use_modifiers)
    world = meshes.affine(obj.matrix_world, obj.name)
    target = results.Target(
        name=obj.name, source=obj.session_uid, result=0, scene=context.scene.session_uid,
        matrix=meshes.placement(world), source_matrix=world, reading=reading,
    )  # fmt: skip
    arrays = requests.arrays_of(reading.shape)
    if method in _MODES:
        made = remeshed(reading.shape, _MODES[method], settings.resolution or _CELLS, context)
        arrays |= {"result_vertices": made.vertices, "result_faces": made.faces}
    body = {
        "method": method, "resolution": settings.resolution or None, "samples": settings.samples or None,
        "seed": settings.seed, "title": f"{obj.name}: {method}",
    }  # fmt: skip
    put = lambda message, where: _place(target, method, message, where)
    return Job(f"{obj.name}: {method}", Message("compare_with", "", body, arrays), {"put": put})


def _place(target: results.Target, method: str, message: Message, context: Context) -> Any:
    name = f"{results.name_of(target)}.{method}"
    made = results.new_object(name, results.build(name, target, message), target, context)
    results.describe(made, target, message)
    return made


def remeshed(shape: Any, mode: str, cells: int, context: Context) -> Mesh:
    """``shape`` through Blender's Remesh modifier, world units.

    Raises:
        InputError: it has no faces, or nothing is left of it.
    """
    if not isinstance(shape, Mesh):
        raise InputError("Blender's remeshing needs faces, and this object has points only.", "Choose another method.")
    with _in_scene(shape, context) as held:
        modifier = held.modifiers.new("Remesh", "REMESH")
        modifier.mode = mode
        if mode == "VOXEL":
            modifier.voxel_size = float(np.ptp(shape.vertices, axis=0).max()) / cells
        else:
            modifier.octree_depth = max(3, min(12, round(math.log2(cells))))
            modifier.use_remove_disconnected = False
        context.view_layer.update()
        found = meshes.read(held, context.evaluated_depsgraph_get()).shape
    if not isinstance(found, Mesh):
        raise InputError("Blender's remeshing leaves no faces of this object.", "Choose another method.")
    return found


@contextmanager
def _in_scene(shape: Mesh, context: Context) -> Iterator[Any]:
    """An object of ``shape`` in the scene, for as long as its modifiers are to be evaluated."""
    mesh = bpy.data.meshes.new("sdf remesh")
    meshes.fill_from_world(mesh, shape, np.eye(4))
    held = bpy.data.objects.new("sdf remesh", mesh)
    context.scene.collection.objects.link(held)
    try:
        yield held
    finally:
        bpy.data.objects.remove(held)
        bpy.data.meshes.remove(mesh)


class SDF_OT_compare_with(operators.JobOperator):
    bl_idname = "sdf.compare_with"
    bl_label = "Compare With"
    bl_description = "Make a mesh of each selected object by another method, to be compared with Fit SDF"
    bl_options = {"REGISTER"}

    method: EnumProperty(name="Method", items=METHODS, default="poisson", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: Context) -> bool:
        return bool(operators.SDF_OT_fit.poll(context))

    def invoke(self, context: Context, event: Any) -> Outcome:
        if self.properties.is_property_set("method"):
            return super().invoke(context, event)
        context.window_manager.popup_menu(_draw_methods, title=self.bl_label)  # as from Blender's own search
        return {"INTERFACE"}

    def jobs(self, context: Context, preview: bool) -> list[Callable[[], Job]]:
        return [lambda o=o: compare_job(o, self.method, context) for o in operators.fittable(context)]


def _draw_methods(menu: Any, _context: Context) -> None:
    menu.layout.operator_context = "INVOKE_DEFAULT"
    menu.layout.operator_enum("sdf.compare_with", "method")


def register() -> None:
    bpy.utils.register_class(SDF_OT_compare_with)


def unregister() -> None:
    bpy.utils.unregister_class(SDF_OT_compare_with)
