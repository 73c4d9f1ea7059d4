"""Where a certain mesh cannot tell, or lacks what is thinner than a cell: boxes over the result, renewed with it."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np

from ..sdfcore.protocol import Message
from . import boxes, results

SUFFIX, POINTER = ".doubt", "sdf_doubt"  # on the result: the object of the boxes
_MOST = 50_000  # boxes: more show nothing more
_MISSING = 2  # state of those where something is
_ARRAYS = ("doubt_lower", "doubt_upper", "doubt_state")


def show(result: Any, message: Message) -> Any | None:
    """The boxes of an answer over ``result``, in place of those of the mesh before; ``None`` where there are none.

    Their faces carry the attribute ``state``: 1 in doubt, 2 where something thinner than a cell is missing. Without any
    of the latter they are hidden at first.
    """
    given = [message.arrays.get(name) for name in _ARRAYS]
    held = _held(result)
    if any(part is None for part in given) or not len(given[0]):  # type: ignore[arg-type]
        if held is not None:
            _exchange(held, bpy.data.meshes.new(held.data.name))
        return None
    lower, upper, state = (np.asarray(part)[-_MOST:] for part in given)  # what is missing stands last
    mesh = boxes.mesh_of(result.name + SUFFIX, result, lower, upper, state)
    if held is None:
        held = result[POINTER] = boxes.over(result, mesh)
    else:
        _exchange(held, mesh)
    if not (state == _MISSING).any():  # what is in doubt only lies close to the mesh, and would cover it
        layer = bpy.context.view_layer
        layer.update()
        if results.in_layer(held, layer):
            held.hide_set(True)
    return held


def _held(result: Any) -> Any:
    """The boxes of the mesh before; ``None`` where there are none, they were deleted, or they are another result's.

    A copy of a result points to the boxes of what it is a copy of.
    """
    held = result.get(POINTER)
    if not isinstance(held, bpy.types.Object):
        return None
    if not results.is_placed(held):
        del result[POINTER]
        if not any(other.get(POINTER) == held for other in bpy.data.objects):
            bpy.data.objects.remove(held)
        return None
    first = min((o for o in bpy.data.objects if o.get(POINTER) == held), key=lambda o: o.session_uid)
    return held if first == result else None


def _exchange(held: Any, mesh: Any) -> None:
    before = held.data
    held.data = mesh
    if not before.users:
        bpy.data.meshes.remove(before)
