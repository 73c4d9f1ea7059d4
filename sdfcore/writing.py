"""Meshes and points to files, whole or not at all.

The content is made first, written under a temporary name in the same folder and then renamed, so that a failure leaves
neither half a file nor a spoilt older one. PLY is written here (trimesh drops the normals of points and narrows far-off
coordinates to float32), the other mesh formats by trimesh.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError
from .geometry import Array, Mesh, PointCloud

_PLY_TYPES = {"f4": "float", "f8": "double", "u1": "uchar", "i4": "int"}


def write(path: str | Path, mesh: Mesh | PointCloud) -> None:
    """``mesh`` (or points) as the suffix of ``path`` says: .ply .obj .stl .glb .off .npz, for points .ply .npz .xyz.

    PLY and NPZ hold everything: normals, colours and the attributes (such as ``sdf_error``); PLY coordinates are
    float32 where that is enough and else float64. OBJ and GLB hold normals and colours, STL and OFF the shape alone.

    Raises:
        InputError: an unknown suffix, no such folder, or a place that cannot be written to. ``path`` is then unchanged.
    """
    path = Path(path)
    check(path, points=isinstance(mesh, PointCloud))
    writers: dict[str, Callable[[Any], bytes]] = _FOR_POINTS if isinstance(mesh, PointCloud) else _FOR_MESHES
    write_bytes(path, writers[path.suffix.lower()](mesh))


def check(path: str | Path, *, points: bool = False) -> None:
    """Whether :func:`write` knows the suffix and the folder is there: to ask before an hour's work, not after.

    Raises:
        InputError
    """
    path = Path(path)
    known = POINT_SUFFIXES if points else SUFFIXES
    if path.suffix.lower() not in known:
        what = "Points" if points else "Meshes"
        raise InputError(f"{what} cannot be written as {path.name!r}.", f"End the name with {', '.join(known)}.")
    if not path.parent.is_dir():
        raise InputError(f"There is no folder {path.parent}.", "Make it first, or write elsewhere.")
    if path.is_dir():
        raise InputError(f"{path} is a folder.", "Give the name of a file.")


def write_scene(path: str | Path, shapes: Mapping[str, tuple[Mesh, Array]]) -> None:
    """Several meshes as one .glb: a node of its own for each, by name, moved by the vector (3,) beside it.

    Raises:
        InputError: as :func:`write`.
    """
    import trimesh

    path = Path(path)
    check(path)
    scene = trimesh.Scene()
    for name, (mesh, offset) in shapes.items():
        place = np.eye(4)
        place[:3, 3] = offset
        scene.add_geometry(_solid(mesh), node_name=name, geom_name=name, transform=place)
    write_bytes(path, bytes(scene.export(file_type="glb")))


def write_bytes(path: str | Path, data: bytes) -> None:
    """``data`` as the content of ``path``, replacing what was there only once all of it is on disk.

    Raises:
        InputError: the place cannot be written to; ``path`` is then unchanged.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            with part.open("xb") as file:
                file.write(data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error}).", "Write elsewhere.") from error


# PLY ----------------------------------------------------------------------------------------------------------------


def _coordinates(points: Array) -> Array:
    """float32 where its rounding is below a millionth of the extent, else float64: far-off scans keep their detail."""
    narrow = points.astype(np.float32)
    extent = float(np.ptp(points.astype(np.float64), axis=0).max())
    return narrow if float(np.abs(narrow - points.astype(np.float64)).max()) <= 1e-6 * extent else points


def _vertex_rows(places: Array, normals: Array | None, colours: Array | None, attributes: dict[str, Array]) -> Array:
    """All per-vertex values as one structured array, a field per PLY property."""
    columns: dict[str, Array] = dict(zip("xyz", _coordinates(places).T, strict=True))
    if normals is not None:
        columns |= dict(zip(("nx", "ny", "nz"), normals.T, strict=True))
    if colours is not None:
        columns |= dict(zip(("red", "green", "blue", "alpha"), colours.T, strict=True))
    for name, values in attributes.items():
        table = np.asarray(values).reshape(len(places), -1)
        kind = np.int32 if table.dtype.kind in "iub" else np.float32
        base = re.sub(r"\W", "_", name, flags=re.ASCII)
        labels = [base] if table.shape[1] == 1 else [f"{base}_{i}" for i in range(table.shape[1])]
        columns |= {label: column.astype(kind) for label, column in zip(labels, table.T, strict=True)}
    dtype = np.dtype([(name, values.dtype.newbyteorder("<")) for name, values in columns.items()])
    rows = np.empty(len(places), dtype)
    for name, values in columns.items():
        rows[name] = values
    return rows


def _ply(shape: Mesh | PointCloud) -> bytes:
    places = shape.vertices if isinstance(shape, Mesh) else shape.points
    attributes = dict(shape.attributes) if isinstance(shape, Mesh) else {}
    rows = _vertex_rows(places, shape.normals, shape.colours, attributes)
    assert rows.dtype.names is not None
    properties = [f"property {_PLY_TYPES[rows.dtype[name].str[1:]]} {name}" for name in rows.dtype.names]
    header = ["ply", "format binary_little_endian 1.0", "comment sdfcore", f"element vertex {len(rows)}", *properties]
    body = rows.tobytes()
    if isinstance(shape, Mesh):
        faces = np.empty(len(shape.faces), np.dtype([("count", "u1"), ("corners", "<i4", (3,))]))
        faces["count"], faces["corners"] = 3, shape.faces
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
        body += faces.tobytes()
    return ("\n".join([*header, "end_header"]) + "\n").encode("ascii") + body


# Other formats ------------------------------------------------------------------------------------------------------


def _npz(shape: Mesh | PointCloud) -> bytes:
    arrays: dict[str, Any]
    if isinstance(shape, Mesh):
        arrays = {**shape.attributes, "vertices": shape.vertices, "faces": shape.faces}
    else:
        arrays = {"points": shape.points}
    arrays |= {k: v for k, v in (("normals", shape.normals), ("colours", shape.colours)) if v is not None}
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _xyz(cloud: PointCloud) -> bytes:
    columns: list[Array] = [cloud.points, *([] if cloud.normals is None else [cloud.normals])]
    formats = ["%.9g" if cloud.points.dtype == np.float32 else "%.17g"] * 3 + ["%.6g"] * (3 * len(columns) - 3)
    if cloud.colours is not None:
        columns.append(cloud.colours[:, :3])
        formats += ["%d"] * 3
    buffer = BytesIO()
    np.savetxt(buffer, np.concatenate(columns, axis=1), fmt=formats)
    return buffer.getvalue()


def _solid(mesh: Mesh) -> Any:
    import trimesh

    return trimesh.Trimesh(
        mesh.vertices, mesh.faces, vertex_normals=mesh.normals, vertex_colors=mesh.colours, process=False
    )


def _through_trimesh(mesh: Mesh, kind: str) -> bytes:
    solid = _solid(mesh)
    extent = float(np.ptp(mesh.vertices, axis=0).max())
    decimals = 8 + max(0, int(np.ceil(-np.log10(extent)))) if extent > 0 else 8
    options: dict[str, Any] = {"digits": decimals} if kind in ("obj", "off") else {}
    if kind == "obj":
        options["include_normals"] = mesh.normals is not None
    data = solid.export(file_type=kind, **options)
    return data.encode("utf-8") if isinstance(data, str) else bytes(data)


_FOR_POINTS: dict[str, Callable[[Any], bytes]] = {".ply": _ply, ".npz": _npz, ".xyz": _xyz}
_FOR_MESHES: dict[str, Callable[[Any], bytes]] = {
    ".ply": _ply,
    ".obj": lambda mesh: _through_trimesh(mesh, "obj"),
    ".stl": lambda mesh: _through_trimesh(mesh, "stl"),
    ".glb": lambda mesh: _through_trimesh(mesh, "glb"),
    ".off": lambda mesh: _through_trimesh(mesh, "off"),
    ".npz": _npz,
}
SUFFIXES = tuple(_FOR_MESHES)
POINT_SUFFIXES = tuple(_FOR_POINTS)
