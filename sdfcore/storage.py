"""A fitted shape as one safetensors file: the network's tensors, and a JSON header that says how to build it.

The header's metadata is ``{"format": "sdfcore", "version": "1", "kind": "neural_sdf", "body": JSON}``; the body holds
the network's kind and configuration, the frame, the data's box and the info. Nothing is unpickled and nothing imported
by name: a kind is looked up among the networks of this version, so a file from a stranger cannot run code.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from .errors import SdfError, StorageError
from .fields import NeuralSDF
from .files import replacing
from .geometry import Box, Frame
from .networks import build

FORMAT, VERSION, KIND = "sdfcore", 1, "neural_sdf"

_AGAIN = "Copy the file again, or save the fit again."


def save(sdf: NeuralSDF, path: str | Path) -> None:
    """Write ``sdf`` to ``path``; a file that is there is replaced only when all is written.

    Raises:
        StorageError: the file cannot be written.
    """
    data = to_bytes(sdf)
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}.", "Choose another folder.") from error


def to_bytes(sdf: NeuralSDF) -> bytes:
    """What :func:`save` writes. Numbers in ``info`` that are not finite become null.

    Raises:
        StorageError: the network is of no kind that can be built again, or ``info`` is not JSON.
    """
    kind = getattr(sdf.network, "kind", None)
    if not isinstance(kind, str):
        raise StorageError(
            f"A {type(sdf.network).__name__} cannot be stored: it has no kind.", "Use a network of sdfcore.networks."
        )
    body = {
        "network": {"kind": kind, "config": sdf.network.config},
        "frame": {"centre": sdf.frame.centre.tolist(), "scale": sdf.frame.scale},
        "box": {"lower": sdf.box.lower.tolist(), "upper": sdf.box.upper.tolist()},
        "info": _finite(sdf.info),
    }
    try:
        text = json.dumps(body, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StorageError(
            f"What is known of the fit cannot be stored: {error}.", "Keep JSON values in info."
        ) from error
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sdf.network.state_dict().items()}
    metadata = {"format": FORMAT, "version": str(VERSION), "kind": KIND, "body": text}
    return _ordered(safetensors.torch.save(tensors, metadata))


def _ordered(data: bytes) -> bytes:
    """The same file with a sorted header: safetensors writes metadata in an order that changes from call to call."""
    (length,) = struct.unpack_from("<Q", data)
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors start at a multiple of 8
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def load(path: str | Path, device: torch.device | str = "cpu") -> NeuralSDF:
    """The shape that :func:`save` wrote, bit for bit, on ``device``.

    Raises:
        StorageError: there is no such file, or as :func:`from_bytes`.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from error
    try:
        return from_bytes(data, device)
    except StorageError as error:
        raise StorageError(f"{path}: {error.message}", error.hint) from error


def from_bytes(data: bytes, device: torch.device | str = "cpu") -> NeuralSDF:
    """The shape that :func:`to_bytes` wrote.

    Raises:
        StorageError: not such a file, from a newer version, cut or damaged, or its tensors do not fit its network.
    """
    body = _body(_metadata(data))
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise StorageError(f"The file is cut or damaged: {error}.", _AGAIN) from error
    try:
        frame = Frame(body["frame"]["centre"], body["frame"]["scale"])
        box = Box(body["box"]["lower"], body["box"]["upper"])
        kind, config, info = body["network"]["kind"], body["network"]["config"], body["info"]
    except (KeyError, TypeError, ValueError, SdfError) as error:
        raise StorageError(f"The file's header lacks what a fit needs: {error!r}.", _AGAIN) from error
    return NeuralSDF(_network(kind, config, tensors).to(device), frame, box, info)


def _metadata(data: bytes) -> Mapping[str, Any]:
    """The metadata of a safetensors file: 8 bytes of length, little endian, then a JSON header."""
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length].decode())
        metadata = header.get("__metadata__", {})
        if length > len(data) - 8 or not isinstance(metadata, dict):
            raise ValueError("the header is cut")
    except (struct.error, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise StorageError(
            "This is not a stored fit, or it is cut short.", "Choose a .safetensors file that this program wrote."
        ) from error
    return metadata


def _body(metadata: Mapping[str, Any]) -> Any:
    format_, kind = metadata.get("format"), metadata.get("kind")
    if format_ != FORMAT or kind != KIND:
        raise StorageError(
            f"This safetensors file is no stored fit (format {format_!r}, kind {kind!r}).",
            "Choose a file that this program wrote.",
        )
    version = str(metadata.get("version"))
    if not version.isdecimal() or not 1 <= int(version) <= VERSION:
        raise StorageError(
            f"The fit was stored in version {version}; this program reads up to {VERSION}.", "Update it."
        )
    try:
        return json.loads(metadata["body"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise StorageError(f"The file's header is damaged: {error!r}.", _AGAIN) from error


def _network(kind: Any, config: Any, tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    """The network of this ``kind`` and ``config`` with these ``tensors``, each of which must fit."""
    try:
        with torch.device("meta"):  # shapes first, without memory: a damaged width must not fill the machine
            _check(build(kind, config).state_dict(), tensors)
        with torch.random.fork_rng(devices=[]):  # what it is initialised with is thrown away
            network = build(kind, config)
        network.load_state_dict(dict(tensors))
        with torch.inference_mode():
            value = network(torch.zeros(1, 3))
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError) as error:
        raise StorageError(
            f"This program cannot build the stored network ({kind!r}): {error}.", "Update it, or fit again."
        ) from error
    if not torch.isfinite(value).all():
        raise StorageError("The stored network gives no finite number.", "Fit again.")
    return network


def _check(wanted: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> None:
    def described(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
        return {name: f"{tensor.dtype} {tuple(tensor.shape)}" for name, tensor in tensors.items()}

    want, have = described(wanted), described(given)
    for name in sorted(want.keys() | have.keys()):
        if want.get(name) != have.get(name):
            raise StorageError(
                f"The tensor {name!r} should be {want.get(name, 'absent')} and is {have.get(name, 'absent')}.", _AGAIN
            )


def _finite(value: Any) -> Any:
    """``value`` with null for every number that JSON cannot say."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
