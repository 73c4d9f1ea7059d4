"""The surface while it is being fitted: an object that is never saved, never selected and never outlives its job.

Previews are made outside the undo history. An undo step that was pushed while one was shown holds it nevertheless, so
:func:`sweep` runs after undo, redo and file load.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import bpy
from mathutils import Matrix

from ..sdfcore.geometry import Mesh
from ..sdfcore.protocol import Message
from . import meshes, results

OWNER = "sdf_preview"  # id of the job it belongs to


def show(job: str, target: results.Target, message: Message, context: Any) -> Any:
    """Make or replace the preview of ``job`` by the mesh in ``message``."""
    shape = Mesh(message.arrays["vertices"], message.arrays["faces"])
    obj = _find(job)
    if obj is None:
        obj = _make(job, target, context)
    meshes.fill_from_world(obj.data, shape, target.matrix)
    return obj


def _find(job: str) -> Any:
    return next((o for o in bpy.data.objects if o.get(OWNER) == job), None)


def _make(job: str, target: results.Target, context: Any) -> Any:
    name = f"{target.name}{results.SUFFIX} preview"
    obj = bpy.data.objects.new(name, bpy.data.meshes.new(name))
    obj[OWNER] = job
    refreshed = results.by_uid(bpy.data.objects, target.result)
    obj.matrix_world = Matrix(target.matrix.tolist()) if refreshed is None else refreshed.matrix_world
    obj.hide_select = obj.hide_render = True
    obj.show_in_front = True  # it nearly coincides with its source, and both would flicker through each other
    scene = results.by_uid(bpy.data.scenes, target.scene) or context.scene
    scene.collection.objects.link(obj)
    return obj


def sweep(keep: Container[str] = ()) -> int:
    """Remove all previews but those of the jobs in ``keep``; returns how many went."""
    stale = [o for o in bpy.data.objects if OWNER in o and o[OWNER] not in keep]
    for obj in stale:
        mesh = obj.data
        bpy.data.objects.remove(obj)
        if mesh is not None and mesh.users == 0:
            bpy.data.meshes.remove(mesh)
    return len(stale)
