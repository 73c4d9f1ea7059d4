"""Boxes as a mesh drawn as wires over a result: empty space, and places where a certain mesh is in doubt."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np

from ..sdfcore.geometry import Array
from . import meshes, results

STATE = "state"  # the attribute of the faces
_CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float64)
_SIDES = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])  # outward


def mesh_of(name: str, result: Any, lower: Array, upper: Array, state: Array) -> Any:
    """A mesh of boxes (B, 3) to (B, 3), apart from one another, whose faces carry the attribute ``state``.

    The corners are in the world ``result`` was fitted in, the mesh is in its local space.
    """
    back = np.linalg.inv(results.stored_matrix(result, results.MATRIX))
    corners = (lower[:, None] + (upper - lower)[:, None] * _CORNERS).reshape(-1, 3)
    places = meshes.transform(back, corners.astype(np.float64))
    faces = _SIDES[None] + 8 * np.arange(len(lower))[:, None, None]
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(8 * len(lower))
    mesh.loops.add(4 * len(_SIDES) * len(lower))
    mesh.polygons.add(len(_SIDES) * len(lower))
    mesh.vertices.foreach_set("co", np.ascontiguousarray(places, np.float32).ravel())
    mesh.loops.foreach_set("vertex_index", np.ascontiguousarray(faces, np.int32).ravel())
    mesh.polygons.foreach_set("loop_start", np.arange(0, faces.size, 4, dtype=np.int32))
    mesh.update(calc_edges=True)
    layer = mesh.attributes.new(STATE, "INT", "FACE")
    layer.data.foreach_set("value", np.repeat(np.asarray(state, np.int32), len(_SIDES)))
    return mesh


def over(result: Any, mesh: Any) -> Any:
    """An object of ``mesh`` where ``result`` is, drawn as wires."""
    made = bpy.data.objects.new(mesh.name, mesh)
    made.display_type, made.hide_render = "WIRE", True
    results.lay_over(result, made)
    return made
