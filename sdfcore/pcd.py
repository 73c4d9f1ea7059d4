"""The Point Cloud Data format of PCL, read into named columns: ascii, binary and binary_compressed, versions .5 to .7.

Source: the format's page at pointclouds.org. Written here because the maintained reader brings pydantic and lzf along.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np

from .errors import InputError
from .geometry import Array

_CURE = "The file is damaged: export it again, as binary PCD or as PLY."
_HEADER = 4096  # bytes in which DATA must come


@dataclass(frozen=True)
class _Header:
    names: list[str]
    types: list[np.dtype]
    counts: list[int]
    points: int
    data: str
    end: int

    @property
    def row(self) -> int:
        """Bytes of one point."""
        return sum(t.itemsize * c for t, c in zip(self.types, self.counts, strict=True))


def _read_header(data: bytes) -> _Header:
    entries: dict[str, list[str]] = {}
    end = 0
    while "DATA" not in entries:
        stop = data.find(b"\n", end, _HEADER)
        if stop < 0:
            raise InputError("The PCD header has no DATA line.", _CURE)
        words = data[end:stop].decode("ascii", errors="replace").split()
        end = stop + 1
        if words and not words[0].startswith("#"):
            entries[words[0].upper()] = words[1:]
    try:
        names, sizes = entries["FIELDS"], entries["SIZE"]
        counts = [int(c) for c in entries.get("COUNT", ["1"] * len(names))]
        types = [np.dtype(f"<{'fiu'['FIU'.index(t)]}{s}") for t, s in zip(entries["TYPE"], sizes, strict=True)]
        size = int(entries["WIDTH"][0]) * int(entries["HEIGHT"][0])
        points = int(entries.get("POINTS", [str(size)])[0])
        header = _Header([n.lower() for n in names], types, counts, points, entries["DATA"][0].lower(), end)
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise InputError(f"The PCD header cannot be understood ({error}).", _CURE) from error
    if points < 0 or min(counts, default=0) < 1 or not len(names) == len(types) == len(counts):
        raise InputError("The PCD header contradicts itself.", _CURE)
    return header


def _ascii(body: bytes, header: _Header) -> dict[str, Array]:
    try:
        table = np.loadtxt(BytesIO(body), ndmin=2, max_rows=header.points or None, encoding="latin1")
    except ValueError as error:
        raise InputError(f"The PCD table cannot be read ({error}).", _CURE) from error
    if table.shape != (header.points, sum(header.counts)):
        raise InputError(
            f"The PCD table is {table.shape}; its header says ({header.points}, {sum(header.counts)}).", _CURE
        )
    starts = np.cumsum([0, *header.counts[:-1]])
    # Packed colours of type F are written as whole numbers that a float32 does not hold: they stay as they were read.
    kept = lambda dtype: np.dtype(np.float64) if np.dtype(dtype).kind == "f" else np.dtype(dtype)
    return {
        name: table[:, start].astype(kept(dtype))
        for name, start, dtype in zip(header.names, starts, header.types, strict=True)
    }


def _binary(body: bytes, header: _Header) -> dict[str, Array]:
    dtype = np.dtype([(str(i), t, (c,)) for i, (t, c) in enumerate(zip(header.types, header.counts, strict=True))])
    rows = np.frombuffer(body, dtype, count=header.points)
    return {name: rows[str(i)][:, 0].copy() for i, name in enumerate(header.names)}


def _columns(body: bytes, header: _Header) -> dict[str, Array]:
    """Compressed files hold one field after the other."""
    found, start = {}, 0
    for name, dtype, count in zip(header.names, header.types, header.counts, strict=True):
        values = np.frombuffer(body, dtype, count=header.points * count, offset=start)
        start += values.nbytes
        found[name] = values.reshape(header.points, count)[:, 0].copy()
    return found


def decompress(data: bytes, size: int) -> bytes:
    """LZF (Lehmann's liblzf), to ``size`` bytes.

    Raises:
        InputError: the data are cut, refer to before their beginning, or do not give ``size`` bytes.
    """
    out, at = bytearray(), 0
    try:
        while at < len(data) and len(out) <= size:
            control = data[at]
            at += 1
            if control < 32:  # literal run
                out += data[at : at + control + 1]
                at += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += data[at]
                at += 1
            distance = ((control & 31) << 8) + data[at] + 1
            at += 1
            start = len(out) - distance
            if start < 0:
                raise InputError("The compressed PCD data refer to before their beginning.", _CURE)
            piece = bytes(out[start : start + length + 2])
            out += (piece * (length // len(piece) + 2))[: length + 2]  # a run may overlap itself
    except IndexError as error:
        raise InputError("The compressed PCD data are cut.", _CURE) from error
    if len(out) != size:
        raise InputError(f"The compressed PCD data give {len(out)} bytes of {size}.", _CURE)
    return bytes(out)


def parse(data: bytes) -> dict[str, Array]:
    """The columns of a PCD file by lower-case field name, each (N,); of fields with several values the first.

    Raises:
        InputError: not a PCD file, damaged, or cut.
    """
    header = _read_header(data)
    body = data[header.end :]
    if header.data == "ascii":
        return _ascii(body, header)
    if header.data == "binary":
        if len(body) < header.points * header.row:
            raise InputError(f"The PCD file is cut: {len(body)} bytes of {header.points * header.row}.", _CURE)
        return _binary(body, header)
    if header.data == "binary_compressed":
        packed, size = (int(n) for n in np.frombuffer(body[:8].ljust(8, b"\0"), "<u4"))
        if size != header.points * header.row or len(body) < 8 + packed:
            raise InputError("The PCD file is cut: its compressed part is shorter than it says.", _CURE)
        return _columns(decompress(body[8 : 8 + packed], size), header)
    raise InputError(f"PCD data of the kind {header.data!r} are not known.", "Export as ascii or binary PCD.")
