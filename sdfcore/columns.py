"""Points from columns of numbers: which are normals, which are colours, which points to leave out.

Shared by every point format: named columns (PLY, PCD, text with a header) and bare tables (XYZ, NPY).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from io import BytesIO

import numpy as np

from .errors import EmptyInputError, InputError
from .geometry import Array, PointCloud

_log = logging.getLogger(__name__)

LARGEST = 1e15  # what geometry accepts
_NORMALS = (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z"), ("normalx", "normaly", "normalz"))
_COLOURS = (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"))
_MARK = b"\xef\xbb\xbf"  # of the byte order, which some programs begin UTF-8 with
_HEAD = 1000  # lines, in which the first point is looked for
_COMMA_NUMBER = re.compile(rb"[+-]?\d+(,\d+)?([eE][+-]?\d+)?")
_FEW = 0.1  # up to this share of points without a usable normal, the points go rather than all normals


def usable(points: Array) -> Array:
    """(N,) bool: rows of ``points`` (N, 3) that are finite and small enough to compute with."""
    with np.errstate(invalid="ignore"):
        return np.all(np.abs(points) <= LARGEST, axis=1)  # NaN compares false


def cloud(points: Array, normals: Array | None = None, colours: Array | None = None) -> PointCloud:
    """A point cloud of what is usable, with a logged warning for what is not.

    Points that are not finite go. Normals that are not finite or have no length take their points along if they are few
    (10 %), and go themselves, all of them, if they are many.

    Raises:
        EmptyInputError: no points. InputError: none usable, or wrong shapes.
    """
    if len(points) == 0:
        raise EmptyInputError("There are no points in it.", "Export the points again.")
    keep = usable(points)
    if not keep.any():
        raise InputError("None of its points has finite coordinates below 1e15.", "Scale it down, or export it again.")
    if normals is not None:
        with np.errstate(invalid="ignore"):
            lengths = np.linalg.norm(np.asarray(normals, dtype=np.float64), axis=1)
        pointed = np.isfinite(lengths) & (lengths > 1e-6)
        lost = int((keep & ~pointed).sum())
        if lost > _FEW * keep.sum():
            _log.warning("%d of %d normals have no length: the normals are left out", lost, len(points))
            normals = None
        else:
            keep &= pointed
    if not keep.all():
        _log.warning("%d of %d points are not finite or have no normal: they are left out", (~keep).sum(), len(keep))
    pick = lambda a: None if a is None else a[keep]
    return PointCloud(points[keep], pick(normals), pick(colours))


def as_colours(values: Array) -> Array:
    """(N, 3) or (N, 4) colours of any type as uint8; floats up to 1 are shares, up to 255 bytes, beyond that 16 bit."""
    if values.dtype == np.uint8:
        return values
    with np.errstate(invalid="ignore"):
        numbers = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    most = float(numbers.max(initial=0.0))
    whole = np.issubdtype(values.dtype, np.integer)
    full = 65535.0 if most > 255 else 255.0 if most > 1 or whole else 1.0
    return np.clip(numbers / full * 255 + 0.5, 0, 255).astype(np.uint8)


def _triple(columns: Mapping[str, Array], choices: tuple[tuple[str, str, str], ...]) -> list[Array] | None:
    for names in choices:
        if all(name in columns for name in names):
            return [np.asarray(columns[name]) for name in names]
    return None


def _whole(values: Array) -> bool:
    """Whether colours in floats are numbers, as text has them, and not bits: those of a float are tiny, or huge."""
    return bool(((values == 0) | ((values >= 1) & (values < 2**32) & (values == np.floor(values)))).all())


def _packed(values: Array) -> Array:
    """(N, 3) uint8 from colours packed as 0xAARRGGBB, in an integer or in the bits of a float, as PCL writes them."""
    if values.dtype.kind != "f" or _whole(values):
        bits = values.astype(np.int64).astype(np.uint32)
    else:
        bits = values.astype(np.float32).view(np.uint32)
    return np.stack([bits >> 16 & 255, bits >> 8 & 255, bits & 255], axis=1).astype(np.uint8)


def from_named(columns: Mapping[str, Array]) -> PointCloud:
    """Points from columns (N,) by name: x y z; nx ny nz or normal_x …; red green blue (alpha), r g b or packed rgb(a).

    Raises:
        InputError: x, y or z is missing.
    """
    places = _triple(columns, (("x", "y", "z"),))
    if places is None:
        raise InputError(f"It has the columns {', '.join(columns) or 'none'}; x, y and z are needed.", "Export points.")
    normals, colours = _triple(columns, _NORMALS), _triple(columns, _COLOURS)
    rgba = None
    if colours is not None:
        alpha = [np.asarray(columns[name]) for name in ("alpha", "a") if name in columns][:1]
        rgba = as_colours(np.stack(colours + alpha, axis=1))
    else:
        packed = [np.asarray(columns[name]) for name in ("rgb", "rgba") if name in columns]
        rgba = _packed(packed[0]) if packed else None
    return cloud(np.stack(places, axis=1), None if normals is None else np.stack(normals, axis=1), rgba)


def _unit_rows(values: Array) -> bool:
    with np.errstate(invalid="ignore", over="ignore"):
        return bool((np.abs(np.linalg.norm(values, axis=1) - 1) < 0.02).mean() >= 1 - _FEW)


def _bytes(values: Array) -> bool:
    with np.errstate(invalid="ignore"):
        return bool(((values >= 0) & (values <= 255)).all())


def from_table(table: Array) -> PointCloud:
    """Points from a bare table (N, C): x y z first; then three columns of unit length are normals, and three or four in
    [0, 255] colours, wherever they stand (an intensity in between is passed over).

    Raises:
        InputError: fewer than three columns.
    """
    if table.ndim != 2 or table.shape[1] < 3:
        raise InputError(
            f"It holds a table of shape {table.shape}; (N, 3) or wider is needed.", "Export x y z columns."
        )
    rest = table[:, 3:]
    starts = range(rest.shape[1] - 2)
    normal = next((i for i in starts if len(table) and _unit_rows(rest[:, i : i + 3])), None)
    free = [i for i in starts if normal is None or i + 2 < normal or i > normal + 2]
    colour = next((i for i in _colour_starts(rest, free)), None)
    colours = None
    if colour is not None:
        alpha = colour + 3 < rest.shape[1] and (normal is None or normal != colour + 3)
        width = 4 if alpha and np.ptp(rest[:, colour + 3]) == 0 and rest[0, colour + 3] in (1, 255) else 3
        colours = as_colours(rest[:, colour : colour + width])
    if rest.shape[1] >= 3 and normal is None and colours is None:
        _log.warning("the %d further columns are neither normals nor colours: they are left out", rest.shape[1])
    return cloud(table[:, :3], None if normal is None else rest[:, normal : normal + 3], colours)


def _colour_starts(rest: Array, free: list[int]) -> list[int]:
    """Where colours may begin: with four columns and no alpha in the last, the first is taken for an intensity."""
    fits = [i for i in free if _bytes(rest[:, i : i + 3])]
    if len(fits) > 1 and fits[1] == fits[0] + 1:
        last = rest[:, fits[1] + 2]
        if np.ptp(last) > 0 or last[0] not in (1, 255):
            return fits[1:]
    return fits


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _names(line: str) -> list[str]:
    words = [re.sub(r"[^a-z_]", "", word) for word in line.lower().lstrip("#/ ").split()]
    return ["x" if w == "px" else "y" if w == "py" else "z" if w == "pz" else w for w in words]


def _plain(data: bytes) -> bytes:
    """Numbers with points, split by blanks, in lines."""
    if any(_decimal_commas(line) for line in data[: 1 << 16].removeprefix(_MARK).splitlines()[:_HEAD]):
        data = data.replace(b",", b".")
    split = b",;\t\r"
    return data.translate(bytes.maketrans(split, b"   \n")) if any(data.find(c) >= 0 for c in split) else data


def _decimal_commas(line: bytes) -> bool:
    """Whether a line is of numbers as much of Europe writes them: 0,5;1,25;3 and not 0.5,1.25,3."""
    words = line.replace(b";", b" ").split()
    return len(words) >= 3 and any(b"," in word for word in words) and all(map(_COMMA_NUMBER.fullmatch, words))


def from_text(data: bytes) -> PointCloud:
    """Points from text: a row of numbers per point, split by blanks, tabs, commas or semicolons; # and // are comments.

    Decimal commas are understood where commas split nothing. A line with the number of points, and a line that names
    the columns, may come first.

    Raises:
        EmptyInputError, InputError: nothing in it, or rows that are not numbers or of unequal length.
    """
    if not data.strip(_MARK + b" \t\r\n,;"):
        raise EmptyInputError("The file is empty.", "Export the points again.")
    data = _plain(data)  # bytes, and read as such: of ten million points each copy is a gigabyte
    names: list[str] = []
    start, first = 0, None
    for _ in range(_HEAD):
        stop = data.find(b"\n", start)
        line = data[start : stop if stop >= 0 else len(data)].decode("utf-8-sig", errors="replace")
        words = line.split()
        if len(words) >= 3 and all(map(_is_number, words[:3])):
            first = start
            break
        found = _names(line)
        names = found if {"x", "y", "z"} <= set(found) else names
        if stop < 0:
            break
        start = stop + 1
    if first is None:
        raise InputError(
            "No row of three numbers was found.", "A line per point is needed: x y z, then normals or colours."
        )
    body = BytesIO(data)
    body.seek(first + 3 * (first == 0 and data.startswith(_MARK)))  # behind a mark of the byte order
    try:
        table = np.loadtxt(body, ndmin=2, comments=["#", "//"] if b"//" in data else "#", encoding="latin1")
    except ValueError as error:
        raise InputError(f"Its rows cannot be read ({error}).", "Give every row the same number of columns.") from error
    if len(names) == table.shape[1]:
        return from_named(dict(zip(names, table.T, strict=True)))
    return from_table(table)
