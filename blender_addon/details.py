"""Detail apart from its shape, for results of the recipe idf: shown on the base, strengthened, put onto another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy
import numpy as np

from ..sdfcore.errors import EngineError
from ..sdfcore.geometry import Mesh
from ..sdfcore.protocol import Message
from . import meshes, queries, requests, results
from .operators import JobOperator, OnResult
from .states import Job

Context = bpy.types.Context

RECIPE = "idf"
BASE_SUFFIX, DETAIL_SUFFIX, ATTRIBUTE = ".base", ".detail", "sdf_detail"


def has_detail(result: Any) -> bool:
    """Whether the fit of ``result`` keeps detail apart."""
    if result is None or results.MODEL not in result:
        return False
    told = results.report(result)
    return told.get("recipe") == RECIPE or told.get(results.DETAIL) is not None


class OnDetailed(OnResult):
    """One that is about a result with detail."""

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not super().poll(context):
            return False
        if not has_detail(results.of(context.active_object)):
            cls.poll_message_set("Fit with the recipe Displacement field: it keeps detail apart")
            return False
        return True


# --- the base ----------------------------------------------------------------------------------------------------


def split_job(result: Any, context: Context) -> Job:
    """The smooth base as a mesh over ``result``, with the detail as an attribute."""
    body = {"resolution": context.scene.sdf.resolution or None}
    return queries.result_job("split_detail", result, context, body, put_base)


def put_base(result: Any, message: Message) -> Any:
    """The base of an answer as an object over ``result``.

    Raises:
        SdfError: the answer holds none.
    """
    arrays = message.arrays
    if not {"vertices", "faces", "detail"} <= set(arrays):
        raise EngineError("The backend's answer holds no base.", "Update the backend: it must be of this version.")
    matrix = results.stored_matrix(result, results.MATRIX)
    mesh = bpy.data.meshes.new(result.name + BASE_SUFFIX)
    meshes.fill_from_world(mesh, Mesh(arrays["vertices"], arrays["faces"]), matrix)
    shrink = abs(float(np.linalg.det(np.linalg.inv(matrix)[:3, :3]))) ** (1 / 3)
    meshes.set_floats(mesh, ATTRIBUTE, np.asarray(arrays["detail"]) * shrink)
    mesh.validate()
    made = bpy.data.objects.new(mesh.name, mesh)
    results.lay_over(result, made)
    return made


class SDF_OT_split_detail(OnDetailed):
    bl_idname = "sdf.split_detail"
    bl_label = "Split Detail"
    bl_description = (
        "Mesh the smooth base alone; its attribute sdf_detail says how far out of it the surface lies, for materials "
        "and geometry nodes"
    )
    bl_options = {"REGISTER"}

    def job(self, result: Any, context: Context, preview: bool) -> Job:
        return split_job(result, context)


# --- other strengths, other shapes -------------------------------------------------------------------------------


def _new_fit(kind: str, target_result: Any, body: dict[str, Any], arrays: dict[str, Any], context: Context) -> Job:
    """A job whose answer becomes a result of its own, standing where ``target_result`` stands."""
    name = target_result.name + DETAIL_SUFFIX
    fitted = results.stored_matrix(target_result, results.MATRIX)
    target = results.Target(name, 0, 0, context.scene.session_uid, fitted, fitted, None)
    uid = target_result.session_uid

    def put(message: Message, put_context: Context) -> Any:
        made = results.new_object(name, results.build(name, target, message), target, put_context)
        results.describe(made, target, message)
        over = results.by_uid(bpy.data.objects, uid)
        if over is not None:
            made.matrix_world = over.matrix_world.copy()
        return made

    whole = {**body, "device": requests.device(context.scene.sdf), "title": name}
    return Job(name, Message(kind, "", whole, arrays), {"put": put})


def strength_job(result: Any, context: Context) -> Job:
    """``result`` with its detail as strong as the scene says, as another result."""
    settings = context.scene.sdf
    body = {"strength": settings.detail_strength, "resolution": settings.resolution or None}
    return _new_fit("detail_strength", result, body, {"model": requests.model_of(result)}, context)


class SDF_OT_detail_strength(OnDetailed):
    bl_idname = "sdf.detail_strength"
    bl_label = "Change Detail"
    bl_description = "Make the shape anew with its detail this many times as strong; the result stays as it is"
    bl_options = {"REGISTER"}

    def job(self, result: Any, context: Context, preview: bool) -> Job:
        return strength_job(result, context)


def pair(context: Context) -> tuple[Any, Any] | None:
    """The active result and the one other selected result, which has detail to give; ``None`` if they are not so."""
    found = queries.combinable(context)
    if len(found) != 2 or found[0] != context.active_object or not has_detail(found[1]):
        return None
    return found[0], found[1]


def transfer_job(target: Any, source: Any, context: Context) -> Job:
    """``target`` with the detail of ``source``, as they stand now, as another result."""
    settings = context.scene.sdf
    body = {
        "strength": settings.detail_strength, "resolution": settings.resolution or None,
        "places": queries.places([target, source]),
    }  # fmt: skip
    arrays = {f"model_{number}": requests.model_of(o) for number, o in enumerate((target, source))}
    return _new_fit("transfer_detail", target, body, arrays, context)


class SDF_OT_transfer_detail(JobOperator):
    bl_idname = "sdf.transfer_detail"
    bl_label = "Transfer Detail"
    bl_description = (
        "Give the active result the detail of the other selected one, as they stand: lay them over one another first. "
        "Each place takes the detail of the nearest place"
    )
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if context.mode != "OBJECT" or pair(context) is None:
            cls.poll_message_set(
                "Select a result of the recipe Displacement field, then, as the active one, the result it goes onto"
            )
            return False
        return True

    def jobs(self, context: Context, preview: bool) -> list[Callable[[], Job]]:
        chosen = pair(context)
        return [] if chosen is None else [lambda: transfer_job(*chosen, context)]


_CLASSES = (SDF_OT_split_detail, SDF_OT_detail_strength, SDF_OT_transfer_detail)


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
