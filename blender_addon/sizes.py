"""How large an object is in the scene, and how many vertices its mesh will have; cheap enough for a panel."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np

_areas: dict[tuple[Any, ...], float] = {}
_KEPT = 64

# The box that is meshed is the object's, grown by a twentieth of its longest side on both ends.
_GROWN = 1.1

# Share of its bounding box's surface that a common object has (a ball has 0.52).
_AREA_OF_BOX = 0.6


def world_corners(obj: Any) -> np.ndarray:
    """(8, 3) corners of the bounding box as shown, world units."""
    corners = np.array([tuple(corner) for corner in obj.bound_box])
    matrix = np.array(obj.matrix_world)
    return corners @ matrix[:3, :3].T + matrix[:3, 3]


def longest_side(obj: Any) -> float:
    """Longest side of the world-aligned bounding box; 0 where there is none."""
    if obj is None or not hasattr(obj, "bound_box") or obj.type in {"EMPTY", "LIGHT", "CAMERA", "SPEAKER"}:
        return 0.0
    corners = world_corners(obj)
    return float((corners.max(axis=0) - corners.min(axis=0)).max())


def _box_area(obj: Any) -> float:
    corners = world_corners(obj)
    x, y, z = corners.max(axis=0) - corners.min(axis=0)
    return float(2 * (x * y + y * z + z * x) * _AREA_OF_BOX)


def area(obj: Any) -> float:
    """Surface in square world units: a mesh's own faces, a guess from the bounding box for others."""
    if obj.type != "MESH" or obj.mode == "EDIT" or not len(obj.data.polygons):
        return _box_area(obj)
    scale = tuple(round(s, 6) for s in obj.matrix_world.to_scale())
    key = (obj.data.session_uid, len(obj.data.polygons), scale, *(round(d, 6) for d in obj.dimensions))
    if key not in _areas:
        faces = np.empty(len(obj.data.polygons), np.float32)
        obj.data.polygons.foreach_get("area", faces)
        if len(_areas) >= _KEPT:
            _areas.clear()
        _areas[key] = float(faces.sum(dtype=np.float64)) * float(np.abs(np.prod(scale))) ** (2 / 3)
    return _areas[key]


def voxel(obj: Any, cells: int) -> float:
    """Edge of one cell in world units; 0 where the object has no size."""
    return longest_side(obj) * _GROWN / cells if cells else 0.0


def cells(obj: Any, edge: float) -> int:
    """The resolution whose cells have this ``edge``; 0 where the object has no size."""
    return round(longest_side(obj) * _GROWN / edge) if edge > 0 else 0


def expected_vertices(obj: Any, resolution: int) -> int:
    """Vertices of marching cubes: one for each grid edge that crosses the surface, 3/2 per cell face of area."""
    edge = voxel(obj, resolution)
    return round(1.5 * area(obj) / edge**2) if edge else 0


def count(value: float) -> str:
    """A count for people: 812, 12k, 3.4M."""
    if value < 1000:
        return str(round(value))
    if value < 1e6:
        return f"{value / 1e3:.3g}k" if value < 1e5 else f"{value / 1e3:.0f}k"
    return f"{value / 1e6:.3g}M"


def length(value: float, scene: Any) -> str:
    """A distance for people, in the scene's unit, three digits or so."""
    units = scene.unit_settings
    if units.system == "NONE":
        return f"{value:.3g}"
    return bpy.utils.units.to_string(units.system, "LENGTH", value * units.scale_length, precision=3)
