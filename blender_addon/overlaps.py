"""Whether two results meet where they stand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import bpy
import numpy as np

from ..sdfcore.errors import EngineError
from ..sdfcore.protocol import Message
from . import queries, requests, results
from .operators import JobOperator
from .states import Job

Context = bpy.types.Context

WITNESS = "Overlap"


def overlap_job(objects: list[Any], context: Context) -> Job:
    """Whether the insides of two results meet where they stand; an empty shows where."""
    of = [o.name for o in objects]
    names = " and ".join(of)
    body = {
        "places": queries.places(objects), "device": requests.device(context.scene.sdf), "title": names
    }  # fmt: skip
    arrays = {f"model_{number}": requests.model_of(o) for number, o in enumerate(objects)}
    uid, owner, state = context.scene.session_uid, objects[0].session_uid, _state(objects)

    def put(message: Message, put_context: Context) -> Any:
        held = results.by_uid(bpy.data.objects, owner)
        if held is None:
            raise EngineError(f"{names} are no longer in the scene.", "Undo their deletion, or ask others.")
        text = {True: f"{names} overlap", False: f"{names} are apart, for certain"}.get(
            message.body["overlap"], f"{names} come too close to tell"
        )
        told = {"text": text, "of": of, "state": state}
        held[results.REPORT] = json.dumps({**results.report(held), results.OVERLAP: told})
        if message.body.get("place") is None:
            return held
        scene = results.by_uid(bpy.data.scenes, uid) or put_context.scene
        empty = bpy.data.objects.new(WITNESS, None)
        empty.empty_display_type, empty.location = "SPHERE", message.body["place"]
        empty.empty_display_size = 0.05 * max(max(held.dimensions), 1e-6)
        results.collection(scene).objects.link(empty)
        return empty

    return Job(names, Message("overlap", "", body, arrays), {"put": put})


def _state(objects: list[Any]) -> list[Any]:
    """What an answer about several is about: their fits, and where they stand."""
    return [[results.version(o) for o in objects], np.round(queries.places(objects), 5).tolist()]


def told_of(result: Any) -> str:
    """What was found, as long as it holds: until one of the two is moved, renamed or fitted anew."""
    told = results.report(result).get(results.OVERLAP)
    if not isinstance(told, dict):
        return ""
    objects = [bpy.data.objects.get(name) for name in told["of"]]
    if any(o is None or results.MODEL not in o for o in objects) or _state(objects) != told["state"]:
        return ""
    return str(told["text"])


class SDF_OT_overlap(JobOperator):
    bl_idname = "sdf.overlap"
    bl_label = "Overlap"
    bl_description = (
        "Whether the two selected results meet where they stand: yes, with an empty at a point that is in both, or no, "
        "for certain"
    )
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if context.mode != "OBJECT" or len(queries.combinable(context)) != 2:
            cls.poll_message_set("Select two results of Fit SDF, in Object Mode")
            return False
        return True

    def jobs(self, context: Context, preview: bool) -> list[Callable[[], Job]]:
        chosen = queries.combinable(context)
        return [lambda: overlap_job(chosen, context)]


def register() -> None:
    bpy.utils.register_class(SDF_OT_overlap)


def unregister() -> None:
    bpy.utils.unregister_class(SDF_OT_overlap)
