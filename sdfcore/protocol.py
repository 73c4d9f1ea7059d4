"""What add-on and worker say to each other: messages of JSON and arrays, framed on a pipe.

A frame is the length of what follows (8 bytes, little-endian) and an ``.npz`` archive, numpy's own container, written
uncompressed and read without pickle. Its entry ``header`` is the JSON ``{"kind", "job", "body"}`` as bytes; every other
entry is an array. Standard library and numpy only: Blender's Python reads it as well as the worker's.

The reader trusts nothing: sizes are checked before anything of that size is read or made.
"""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from .errors import EngineError, ProtocolError

PROTOCOL = 1
LIMIT = 8 << 30  # bytes of one frame

_LENGTH = struct.Struct("<Q")
_CHUNK = 1 << 20
_NUMBERS = "biuf"  # bool, int, uint, float: what an array may hold
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class Readable(Protocol):
    """A blocking stream; may return fewer bytes than asked, none only at its end."""

    def read(self, size: int, /) -> bytes | None: ...


class Writable(Protocol):
    """A blocking stream; may take fewer bytes than given and says how many."""

    def write(self, data: Any, /) -> int | None: ...


@dataclass(frozen=True, eq=False)
class Message:
    """One request or event.

    Args:
        kind: what it is, an identifier: ``"fit"``, ``"progress"``, …
        job: which job it belongs to; empty when it belongs to none.
        body: JSON values; numpy numbers become plain ones, numbers that are not finite become ``None``.
        arrays: numbers by name; each name an identifier other than ``header``.
    Raises:
        TypeError, ValueError: something that cannot be sent, found where the message is made, not where it is sent.
    """

    kind: str
    job: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _is_name(self.kind):
            raise ValueError(f"a message kind is an identifier, not {self.kind!r}")
        arrays = {name: np.asarray(values) for name, values in self.arrays.items()}
        for name, values in arrays.items():
            if not _is_name(name) or name == "header":
                raise ValueError(f"an array of a message cannot be named {name!r}")
            if values.dtype.kind not in _NUMBERS:
                raise TypeError(f"array {name!r} holds {values.dtype}, which a message cannot carry")
        object.__setattr__(self, "body", _plain(dict(self.body)))
        object.__setattr__(self, "arrays", arrays)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and name.isidentifier() and name.isascii() and len(name) <= 64


def _plain(value: Any) -> Any:
    """``value`` in JSON's own types. Raises TypeError for anything that has none."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("the keys of a message's body are strings")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    raise TypeError(f"a message cannot carry a {type(value).__name__}; send arrays as arrays")


def pack(message: Message, limit: int = LIMIT) -> memoryview:
    """``message`` as one frame, its length included.

    Raises:
        ProtocolError: it would be longer than ``limit`` bytes.
    """
    total = sum(values.nbytes for values in message.arrays.values())
    if total > limit:
        raise _oversized(total, limit)
    header = json.dumps({"kind": message.kind, "job": message.job, "body": message.body}, allow_nan=False)
    entries = {"header": np.frombuffer(header.encode(), np.uint8), **message.arrays}
    buffer = io.BytesIO()
    buffer.write(_LENGTH.pack(0))
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, values in entries.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                npy.write_array(entry, np.asarray(values, order="C"), allow_pickle=False)
    frame = buffer.getbuffer()
    if len(frame) - _LENGTH.size > limit:
        raise _oversized(len(frame), limit)
    frame[: _LENGTH.size] = _LENGTH.pack(len(frame) - _LENGTH.size)
    return frame


def unpack(payload: bytes | bytearray) -> Message:
    """The message in ``payload``, a frame without its length. Its arrays are read-only.

    Raises:
        ProtocolError: damaged, foreign, or not what it says it is.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as archive:
            entries = _entries(archive, len(payload))
        header = entries.pop("header", None)
        if header is None:
            raise ProtocolError("A message has no header.", _CURE)
        said = json.loads(header.tobytes().decode(), parse_constant=_not_json)
        kind, job, body = said["kind"], said["job"], said["body"]
        if not isinstance(job, str) or not isinstance(body, dict):
            raise ProtocolError("A message's header is not of this protocol.", _CURE)
        return Message(kind, job, body, entries)
    except ProtocolError:
        raise
    except Exception as error:  # whatever the parsers of zip, npy and JSON raise on foreign bytes, it means the same
        raise ProtocolError(f"A message cannot be read ({type(error).__name__}: {error}).", _CURE) from error


_CURE = "Another program writes to the stream, or the versions differ: restart Blender."


def _not_json(word: str) -> NoReturn:
    raise ProtocolError(f"A message's header holds {word}, which is not JSON.", _CURE)


def _oversized(size: int, limit: int) -> ProtocolError:
    found = f"A message of {size:,} bytes is longer than the {limit:,} allowed."
    return ProtocolError(found, "Send fewer points or faces.")


def _entries(archive: zipfile.ZipFile, size: int) -> dict[str, NDArray[Any]]:
    """The arrays of ``archive``, which is ``size`` bytes long: no member may claim to be larger."""
    entries: dict[str, NDArray[Any]] = {}
    members = archive.infolist()
    if sum(member.file_size for member in members) > size:
        raise ProtocolError("A message's entries claim to be larger than the message.", _CURE)
    for member in members:
        name = member.filename.removesuffix(".npy")
        if not _is_name(name) or name in entries or not member.filename.endswith(".npy"):
            raise ProtocolError(f"A message has an entry {member.filename!r}, or has it twice.", _CURE)
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise ProtocolError(f"A message's entry {name!r} is compressed or encrypted.", _CURE)
        entries[name] = _array(name, archive.read(member))
    return entries


def _array(name: str, data: bytes) -> NDArray[Any]:
    """The array in the bytes of an ``.npy`` file, after its shape was found to fit them."""
    stream = io.BytesIO(data)
    read_header = _HEADERS.get(npy.read_magic(stream))
    if read_header is None:
        raise ProtocolError(f"Array {name!r} is in a newer form of .npy.", _CURE)
    shape, fortran, dtype = read_header(stream)
    if dtype.kind not in _NUMBERS:
        raise ProtocolError(f"Array {name!r} holds {dtype}; only numbers are allowed.", _CURE)
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(data) - stream.tell():
        raise ProtocolError(f"Array {name!r} says it is {shape}, which is not what follows.", _CURE)
    flat = np.frombuffer(data, dtype, count, stream.tell())
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def write(stream: Writable, message: Message, limit: int = LIMIT) -> None:
    """Write one frame, however few bytes ``stream`` takes at a time.

    Raises:
        ProtocolError: longer than ``limit``; nothing was written.
        OSError: the other end is gone.
    """
    send(stream, pack(message, limit))


def send(stream: Writable, frame: memoryview) -> None:
    """Write a frame that :func:`pack` made."""
    sent = 0
    while sent < len(frame):
        sent += stream.write(frame[sent : sent + _CHUNK]) or 0


def read(stream: Readable, limit: int = LIMIT) -> Message | None:
    """The next message, or ``None`` at an end of the stream between two frames.

    Raises:
        ProtocolError: the stream ends inside a frame, the frame is longer than ``limit``, or it cannot be read.
    """
    head = _read_exactly(stream, _LENGTH.size)
    if not head:
        return None
    if len(head) < _LENGTH.size:
        raise ProtocolError("The stream ends inside a message's length.", _CURE)
    (length,) = _LENGTH.unpack(head)
    if length > limit:
        raise _oversized(length, limit)
    payload = _read_exactly(stream, length)
    if len(payload) < length:
        raise ProtocolError(f"The stream ends after {len(payload):,} of a message's {length:,} bytes.", _CURE)
    return unpack(payload)


def _read_exactly(stream: Readable, size: int) -> bytearray:
    """``size`` bytes, fewer only at the end; grows as bytes come, so a false length costs nothing."""
    data = bytearray()
    while len(data) < size:
        part = stream.read(min(size - len(data), _CHUNK))
        if not part:
            break
        data += part
    return data


def agree(worker: object, addon: object) -> None:
    """Refuse to go on with another version of the protocol.

    Raises:
        EngineError: the two numbers differ.
    """
    if worker != addon:
        found = f"worker speaks {worker}, add-on speaks {addon}"
        raise EngineError(found, "Restart Blender after updating the extension.")
