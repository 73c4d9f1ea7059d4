"""How large an object is in the scene, and how many vertices its mesh will have; cheap enough for a panel."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np

_KEPT = 64
_FEW = 4096  # vertices: of so many all are kept
_LOOKED_AT = 1 << 16  # vertices of larger meshes that are looked at for the outermost
_measured: dict[tuple[Any, ...], tuple[np.ndarray, float]] = {}

# The box that is meshed is the object's, grown by a twentieth of its longest side on both ends.
_GROWN = 1.1

# Share of its bounding box's surface that a common object has (a ball has 0.52).
_AREA_OF_BOX = 0.6

_WITHOUT_SIZE = {"EMPTY", "LIGHT", "CAMERA", "SPEAKER", "LIGHT_PROBE", "ARMATURE", "LATTICE"}


def measure(obj: Any) -> tuple[float, float]:
    """(longest side of the world's bounding box, surface) of what is shown, world units; zeros where there is none.

    Counted once for each state of the mesh, however it is turned. Where there are no faces to count, the surface is a
    guess.
    """
    if obj is None or obj.type in _WITHOUT_SIZE:
        return 0.0, 0.0
    data = _shown_data(obj)
    matrix = np.array(obj.matrix_world)[:3, :3]
    counts = (0, 0) if data is None else (len(data.vertices), len(data.polygons))
    box = np.array([tuple(corner) for corner in obj.bound_box], dtype=np.float32)
    state = (obj.session_uid, *counts, box.tobytes())
    if state not in _measured:
        if len(_measured) >= _KEPT:
            _measured.clear()
        _measured[state] = _measure(box, data)
    outermost, local = _measured[state]
    x, y, z = (float(side) for side in np.ptp(outermost @ matrix.T, axis=0))
    surface = local * abs(float(np.linalg.det(matrix))) ** (2 / 3)
    return max(x, y, z), surface if surface else 2 * (x * y + y * z + z * x) * _AREA_OF_BOX


def _shown_data(obj: Any) -> Any:
    """The mesh with modifiers, where Blender has evaluated it; ``None`` for other types and in Edit Mode."""
    if obj.type != "MESH" or obj.mode == "EDIT":
        return None
    depsgraph = bpy.context.view_layer.depsgraph
    return obj.data if depsgraph is None else obj.evaluated_get(depsgraph).data


def _measure(box: np.ndarray, data: Any) -> tuple[np.ndarray, float]:
    """The outermost vertices (K, 3) and the surface, local; without a mesh the corners of its ``box``, and 0."""
    outermost, surface = box, 0.0
    if data is not None and len(data.vertices):
        outermost = np.empty((len(data.vertices), 3), np.float32)
        data.attributes["position"].data.foreach_get("vector", outermost.ravel())
        outermost = _outermost(outermost)
    if data is not None and len(data.polygons):
        faces = np.empty(len(data.polygons), np.float32)
        data.polygons.foreach_get("area", faces)
        surface = float(faces.sum(dtype=np.float64))
    return outermost, surface


def _outermost(places: np.ndarray) -> np.ndarray:
    """Those of ``places`` (N, 3) that bound a box however it is turned, to half a per cent."""
    if len(places) <= _FEW:
        return places
    rows = [places.argmin(axis=0), places.argmax(axis=0)]
    some = np.arange(0, len(places), -(-len(places) // _LOOKED_AT))
    along = places[some] @ _DIRECTIONS.T
    return places[np.unique(np.concatenate([*rows, some[along.argmin(axis=0)], some[along.argmax(axis=0)]]))]


def _spread(count: int) -> np.ndarray:
    """Directions (count, 3) of a half sphere, about evenly (Vogel 1979)."""
    number = np.arange(count) + 0.5
    height, turn = number / count, np.pi * (3 - 5**0.5) * number
    flat = np.sqrt(1 - height**2)
    return np.column_stack([flat * np.cos(turn), flat * np.sin(turn), height]).astype(np.float32)


_DIRECTIONS = _spread(96)


def voxel(obj: Any, resolution: int) -> float:
    """Edge of one cell in world units; 0 where the object has no size."""
    return measure(obj)[0] * _GROWN / resolution if resolution else 0.0


def cells(obj: Any, edge: float) -> int:
    """The resolution whose cells have this ``edge``; 0 where the object has no size."""
    return round(measure(obj)[0] * _GROWN / edge) if edge > 0 else 0


def expected_vertices(obj: Any, resolution: int) -> int:
    """Vertices of marching cubes: one for each grid edge that crosses the surface, 3/2 per cell face of area."""
    edge = voxel(obj, resolution)
    return round(1.5 * measure(obj)[1] / edge**2) if edge else 0


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
