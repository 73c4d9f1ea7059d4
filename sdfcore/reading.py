"""Meshes and points from files: whatever trimesh reads, and points with their normals and colours.

trimesh drops the normals of points, takes the normals of an XYZ file for colours and has no PCD; those are read here.
A file with faces is a mesh, and its vertex normals are left out, for its faces define them; a file without is a point
cloud. Scenes of several objects become one mesh in the scene's coordinates (glTF stays Y up). Nothing is unpickled.
"""

from __future__ import annotations

import logging
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from . import columns, pcd, ply
from .errors import EmptyInputError, InputError, SdfError
from .geometry import Array, Mesh, PointCloud

_log = logging.getLogger(__name__)

Geometry = Mesh | PointCloud
_TEXT = ("xyz", "xyzn", "xyzrgb", "pts", "asc", "txt", "csv")
_ENOUGH = 100  # with so many sound faces left, a mesh is worth reading however much of it is broken
_LARGEST_ARCHIVE = 8 << 30  # bytes, unpacked
_CURE = "The file is damaged, or not what its name says: export it again."


def suffixes() -> list[str]:
    """All file name suffixes that :func:`read` knows, without the dot."""
    import trimesh

    archives = {"zip", "bz2", "tar.bz2", "tar.gz", "dxf", "stl_ascii"}
    return sorted({*trimesh.available_formats(), *_TEXT, "pcd", "npz", "npy"} - archives)


def read(path: str | Path) -> Geometry:
    """The mesh or the points in the file at ``path``, in the file's units.

    Faces and points that cannot be used (not finite, beyond 1e15, naming missing vertices) are left out with a logged
    warning as long as something remains; degenerate and doubled faces are kept.

    Raises:
        EmptyInputError: neither faces nor points in it.
        InputError: no such file, an unknown suffix, a damaged file.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.", "Check the path.") from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}).", "Give a file that can be read."
        ) from error
    return _read(path.name, data, path)


def read_bytes(name: str, data: bytes) -> Geometry:
    """As :func:`read`, from the content of a file called ``name``; files it refers to are not looked for."""
    return _read(Path(name).name, data, None)


def _read(name: str, data: bytes, path: Path | None) -> Geometry:
    suffix = Path(name).suffix.lower().lstrip(".")
    known = suffixes()
    if suffix not in known:
        raise InputError(f"{name}: files of the kind .{suffix} are not known.", f"Known are {', '.join(known)}.")
    if not data.strip():
        raise EmptyInputError(f"{name} is empty.", "Export it again.")
    reader = _READERS.get(suffix)
    try:
        return reader(data) if reader else _read_with_trimesh(suffix, data, path)
    except SdfError as error:
        raise type(error)(f"{name}: {error.message}", error.hint) from error
    except Exception as error:  # a damaged file may fail anywhere, in any way
        _log.debug("reading %s failed", name, exc_info=True)
        raise InputError(f"{name} cannot be read ({type(error).__name__}: {str(error)[:200]}).", _CURE) from error


# Arrays -------------------------------------------------------------------------------------------------------------


def _read_npy(data: bytes) -> PointCloud:
    return columns.from_table(_numbers(np.load(BytesIO(data), allow_pickle=False), "array"))


def _numbers(array: Array, name: str) -> Array:
    if array.dtype.kind not in "fiu":
        raise InputError(f"The {name} holds {array.dtype}; numbers are needed.", "Save it as float32 or float64.")
    return array.astype(np.float64) if array.dtype not in (np.float32, np.float64) else array


def _read_npz(data: bytes) -> Geometry:
    try:
        with zipfile.ZipFile(BytesIO(data)) as held:
            inflated = sum(item.file_size for item in held.infolist())
        if inflated > _LARGEST_ARCHIVE:
            raise InputError(f"Unpacked it would be {inflated / 2**30:.1f} GiB.", "Give fewer points.")
        with np.load(BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in _NPZ if name in archive.files}
            found = archive.files
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError) as error:
        raise InputError(f"It is no archive of plain arrays ({error}).", "Save it with numpy.savez.") from error
    colours = arrays.get("colours", arrays.get("colors"))
    colours = None if colours is None else columns.as_colours(colours)
    if "vertices" in arrays and "faces" in arrays:
        return sound_mesh(_numbers(arrays["vertices"], "vertices"), arrays["faces"], colours)
    places = arrays.get("points", arrays.get("vertices"))
    if places is None:
        hint = "Save it with points (and normals, colours), or with vertices and faces."
        raise InputError(f"It holds {', '.join(found) or 'nothing'}; points, or vertices and faces, are needed.", hint)
    places = _numbers(places, "points")
    if "normals" not in arrays and colours is None:
        return columns.from_table(places)
    return columns.cloud(places, arrays.get("normals"), colours)


_NPZ = ("points", "vertices", "faces", "normals", "colours", "colors")


# Meshes -------------------------------------------------------------------------------------------------------------


def sound_mesh(vertices: Array, faces: Array, colours: Array | None = None) -> Mesh:
    """A mesh of the faces that can be used, with a logged warning for those that cannot.

    Raises:
        InputError: fewer than half of the faces, and fewer than 100, can be used.
    """
    faces = np.asarray(faces).astype(np.int64) if len(faces) else np.zeros((0, 3), np.int64)
    if len(faces) == 0:
        raise EmptyInputError("There are no faces in it.", "Give a surface, or fit its vertices as points.")
    if faces.ndim != 2 or faces.shape[1] != 3:
        raise InputError(f"Its faces have the shape {faces.shape}; (F, 3) is needed.", "Triangulate the mesh.")
    present = np.all((faces >= 0) & (faces < len(vertices)), axis=1)
    good_vertex = columns.usable(vertices)
    good = present.copy()
    good[present] = np.all(good_vertex[faces[present]], axis=1)
    kept = int(good.sum())
    if kept < len(faces) and kept < _ENOUGH and 2 * kept < len(faces):
        finite = np.abs(vertices[np.isfinite(vertices)])
        raise InputError(
            f"{len(faces) - kept} of its {len(faces)} faces name vertices that are missing, not finite or too far out "
            f"(coordinates reach {finite.max(initial=0.0):.3g}; {columns.LARGEST:.0e} is the limit).",
            "Scale it down, or clean it and export it again.",
        )
    if kept < len(faces):
        _log.warning("%d of %d faces are broken: they are left out", len(faces) - kept, len(faces))
    if good_vertex.all():
        return Mesh(vertices, faces[good], colours=colours)
    new = np.cumsum(good_vertex) - 1
    return Mesh(vertices[good_vertex], new[faces[good]], colours=None if colours is None else colours[good_vertex])


def _read_with_trimesh(suffix: str, data: bytes, path: Path | None) -> Geometry:
    import trimesh

    resolver = None if path is None else trimesh.resolvers.FilePathResolver(str(path.resolve()))
    try:
        with np.errstate(all="ignore"):
            loaded = trimesh.load(BytesIO(data), file_type=suffix, resolver=resolver, process=False)
            parts = _placed(loaded)
    except ValueError:
        if suffix == "ply" and ply.is_binary(data):  # polygons of different sizes, which it does not read
            return _of_polygons(data)
        raise
    solids = [(part, matrix) for part, matrix in parts if len(getattr(part, "faces", ()))]
    if solids:
        return _joined(solids)
    if suffix == "ply":
        raw: dict[str, Any] = next((p.metadata["_ply_raw"] for p, _ in parts if "_ply_raw" in p.metadata), {})
        if "vertex" in raw:
            return columns.from_named(_raw_columns(raw["vertex"]["data"]))
    if suffix == "obj":
        return columns.from_text(b"\n".join(line[2:] for line in data.splitlines() if line.startswith(b"v ")))
    points = [(part, matrix) for part, matrix in parts if len(getattr(part, "vertices", ()))]
    if not points:
        raise EmptyInputError("There are neither faces nor points in it.", "Export it again, with its geometry.")
    return columns.cloud(np.concatenate([_moved(part.vertices, matrix) for part, matrix in points]))


def _of_polygons(data: bytes) -> Geometry:
    vertices, faces = ply.parse(data)
    if not len(faces):
        return columns.from_named(vertices)
    places = np.stack([vertices[name] for name in "xyz"], axis=1)
    names = ("red", "green", "blue", "alpha")[: 4 if "alpha" in vertices else 3]
    coloured = all(name in vertices for name in names)
    colours = columns.as_colours(np.stack([vertices[name] for name in names], axis=1)) if coloured else None
    return sound_mesh(places, faces, colours)


def _placed(loaded: Any) -> list[tuple[Any, Array]]:
    """Every geometry of what trimesh loaded, as often as the scene shows it, with its matrix (4, 4)."""
    if not hasattr(loaded, "graph"):
        return [(loaded, np.eye(4))]
    places = (loaded.graph[node] for node in loaded.graph.nodes_geometry)
    return [(loaded.geometry[name], np.asarray(matrix)) for matrix, name in places]


def _moved(vertices: Array, matrix: Array) -> Array:
    places = np.asarray(vertices, dtype=np.float64)
    if np.array_equal(matrix, np.eye(4)):
        return places  # and an infinite coordinate does not spoil the other two
    with np.errstate(all="ignore"):
        return places @ matrix[:3, :3].T + matrix[:3, 3]


def _joined(parts: list[tuple[Any, Array]]) -> Mesh:
    vertices, faces, colours, offset = [], [], [], 0
    for part, matrix in parts:
        corners = np.asarray(part.faces, dtype=np.int64)
        mirrored = np.linalg.det(matrix[:3, :3]) < 0
        vertices.append(_moved(part.vertices, matrix))
        faces.append((corners[:, ::-1] if mirrored else corners) + offset)
        colours.append(_vertex_colours(part))
        offset += len(part.vertices)
    white = lambda count: np.full((count, 4), 255, np.uint8)
    found = [white(len(v)) if c is None else c for v, c in zip(vertices, colours, strict=True)]
    rgba = np.concatenate(found) if any(c is not None for c in colours) else None
    return sound_mesh(np.concatenate(vertices), np.concatenate(faces), rgba)


def _vertex_colours(part: Any) -> Array | None:
    """(V, 4) uint8, or ``None`` where the file gave the vertices none; colours of faces and textures are not theirs."""
    visual: Any = getattr(part, "visual", None)
    if visual is None or visual.kind != "vertex":
        return None
    with np.errstate(all="ignore"):
        colours = np.asarray(visual.vertex_colors)
    return colours if colours.shape == (len(part.vertices), 4) else None


def _raw_columns(rows: Any) -> dict[str, Array]:
    """trimesh keeps what a PLY said of its points, as a structured array (binary) or a dict (ascii)."""
    names = rows.dtype.names if hasattr(rows, "dtype") else list(rows)
    return {name: np.asarray(rows[name]).reshape(-1) for name in names if np.asarray(rows[name]).dtype.kind in "fiu"}


_READERS: dict[str, Callable[[bytes], Geometry]] = {
    **dict.fromkeys(_TEXT, columns.from_text),
    "pcd": lambda data: columns.from_named(pcd.parse(data)),
    "npy": _read_npy,
    "npz": _read_npz,
}
