"""The file everything here is stored in: safetensors, with a versioned JSON body in its metadata.

The metadata is ``{"format": "sdfcore", "version": "1", "kind": KIND, "body": JSON}``. Nothing is unpickled and nothing
imported by name, so a file from a stranger cannot run code.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch

from .errors import StorageError
from .files import replacing

FORMAT, VERSION = "sdfcore", 1
NAMES = {"neural_sdf": "fit", "space": "space", "checkpoint": "checkpoint"}

Stored = TypeVar("Stored")

AGAIN = "Copy the file again, or save it again."


def pack(kind: str, body: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> bytes:
    """One file's bytes. Numbers in ``body`` that are not finite become null.

    Raises:
        StorageError: ``body`` is not JSON.
    """
    try:
        text = json.dumps(_finite(body), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StorageError(
            f"What is known of the {NAMES[kind]} cannot be stored: {error}.", "Keep JSON values in info."
        ) from error
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    held = _apart(held)
    metadata = {"format": FORMAT, "version": str(VERSION), "kind": kind, "body": text}
    return _ordered(safetensors.torch.save(held, metadata))


def _apart(held: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each with numbers of its own: a shape combined with itself has one network under two names."""
    seen: set[int] = set()
    for name, tensor in held.items():
        held[name] = tensor.clone() if tensor.data_ptr() in seen and tensor.numel() else tensor
        seen.add(tensor.data_ptr())
    return held


def unpack(data: bytes, kind: str) -> tuple[Any, dict[str, torch.Tensor]]:
    """Body and tensors of a file that :func:`pack` made.

    Raises:
        StorageError: not such a file, of another kind, from a newer version, cut or damaged.
    """
    body = _body(_metadata(data, kind), kind)
    try:
        return body, safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise StorageError(f"The file is cut or damaged: {error}.", AGAIN) from error


def write(data: bytes, path: str | Path) -> None:
    """Write ``data`` to ``path``; a file that is there is replaced only when all is written.

    Raises:
        StorageError: the file cannot be written.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}.", "Choose another folder.") from error


def read(path: str | Path) -> bytes:
    """The bytes of the file at ``path``.

    Raises:
        StorageError: there is none, or it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from error


def load(path: str | Path, parse: Callable[[bytes], Stored]) -> Stored:
    """What ``parse`` makes of the file at ``path``; its errors name the file.

    Raises:
        StorageError: there is no such file, or as ``parse``.
    """
    data = read(path)
    try:
        return parse(data)
    except StorageError as error:
        raise StorageError(f"{path}: {error.message}", error.hint) from error


def check(wanted: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> None:
    """Raises a StorageError unless both have tensors of the same names, types and shapes."""

    def described(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
        return {name: f"{tensor.dtype} {tuple(tensor.shape)}" for name, tensor in tensors.items()}

    want, have = described(wanted), described(given)
    for name in sorted(want.keys() | have.keys()):
        if want.get(name) != have.get(name):
            raise StorageError(
                f"The tensor {name!r} should be {want.get(name, 'absent')} and is {have.get(name, 'absent')}.", AGAIN
            )


def _ordered(data: bytes) -> bytes:
    """The same file with a sorted header: safetensors writes metadata in an order that changes from call to call."""
    (length,) = struct.unpack_from("<Q", data)
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors start at a multiple of 8
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def _metadata(data: bytes, wanted: str) -> Mapping[str, Any]:
    """The metadata of a safetensors file: 8 bytes of length, little endian, then a JSON header."""
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length].decode())
        metadata = header.get("__metadata__", {})
        if length > len(data) - 8 or not isinstance(metadata, dict):
            raise ValueError("the header is cut")
    except (struct.error, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise StorageError(
            f"This is not a stored {NAMES[wanted]}, or it is cut short.",
            "Choose a .safetensors file that this program wrote.",
        ) from error
    return metadata


def _body(metadata: Mapping[str, Any], wanted: str) -> Any:
    format_, kind = metadata.get("format"), metadata.get("kind")
    if format_ != FORMAT or kind != wanted:
        raise StorageError(
            f"This safetensors file is no stored {NAMES[wanted]} (format {format_!r}, kind {kind!r}).",
            "Choose a file that this program wrote.",
        )
    version = str(metadata.get("version"))
    if not version.isdecimal() or not 1 <= int(version) <= VERSION:
        raise StorageError(
            f"The {NAMES[wanted]} was stored in version {version}; this program reads up to {VERSION}.", "Update it."
        )
    try:
        return json.loads(metadata["body"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise StorageError(f"The file's header is damaged: {error!r}.", AGAIN) from error


def _finite(value: Any) -> Any:
    """``value`` with null for every number that JSON cannot say."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
