"""A space as one safetensors file: network, encoder, codes, and the shapes' names, frames and boxes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import container
from ..errors import StorageError
from ..networks import DECODERS, ENCODERS
from ..storage import UNUSABLE, described, header, place_of, placed, rebuilt
from .space import Latent, Space

KIND = "space"


def save(space: Space, path: str | Path) -> None:
    """Write ``space`` to ``path``; a file that is there is replaced only when all is written.

    Raises:
        StorageError: the file cannot be written.
    """
    container.write(to_bytes(space), path)


def to_bytes(space: Space) -> bytes:
    """What :func:`save` writes.

    Raises:
        StorageError: a network is of no kind that can be built again, or ``info`` is not JSON.
    """
    tensors = {f"network.{name}": value for name, value in space.network.state_dict().items()}
    tensors["codes"] = torch.as_tensor(space.codes)
    body = {
        "network": described(space.network),
        "encoder": None if space.encoder is None else described(space.encoder),
        "shapes": [{"name": shape.name, **place_of(shape.frame, shape.box)} for shape in space],
        "info": space.info,
    }
    if space.encoder is not None:
        tensors |= {f"encoder.{name}": value for name, value in space.encoder.state_dict().items()}
    return container.pack(KIND, body, tensors)


def load(path: str | Path, device: torch.device | str = "cpu") -> Space:
    """The space that :func:`save` wrote, on ``device``.

    Raises:
        StorageError: there is no such file, or as :func:`from_bytes`.
    """
    return container.load(path, lambda data: from_bytes(data, device))


def from_bytes(data: bytes, device: torch.device | str = "cpu") -> Space:
    """The space that :func:`to_bytes` wrote.

    Raises:
        StorageError: not such a file, from a newer version, cut or damaged, or its tensors do not fit together.
    """
    body, tensors = container.unpack(data, KIND)
    codes = tensors.pop("codes", torch.zeros(0))
    with header("space"):
        info, decoder, encoder = body["info"], body["network"], body["encoder"]
        kinds = [(part["kind"], part["config"]) for part in (decoder, encoder) if part is not None]
        places = [(str(entry["name"]), *placed(entry)) for entry in body["shapes"]]
        if not isinstance(info, dict) or decoder is None or not places:
            raise ValueError("no network, no shapes, or no info")
    network = _network(kinds[0], tensors, "network.", DECODERS)
    coder = _network(kinds[1], tensors, "encoder.", ENCODERS) if encoder is not None else None
    container.check({}, tensors)  # nothing is left over
    container.check({"codes": torch.zeros(len(places), network.code_size)}, {"codes": codes})
    _try(network, coder, codes)
    shapes = [
        Latent(code.numpy(), frame, box, name) for code, (name, frame, box) in zip(codes, places, strict=True)
    ]  # fmt: skip
    with header("space"):  # whose names must differ
        space = Space(network.to(device).eval().requires_grad_(False), shapes, None, info)
    space.encoder = None if coder is None else coder.to(device).eval().requires_grad_(False)
    return space


def _network(
    kind: tuple[Any, Any], tensors: dict[str, torch.Tensor], prefix: str, among: Mapping[str, type[nn.Module]]
) -> Any:
    """The network of this kind and configuration; its tensors are taken out of ``tensors``."""
    names = [name for name in tensors if name.startswith(prefix)]
    return rebuilt(*kind, {name.removeprefix(prefix): tensors.pop(name) for name in names}, among)


@torch.inference_mode()
def _try(network: Any, encoder: Any, codes: torch.Tensor) -> None:
    """Raises a StorageError unless all codes can be decoded, and an encoder gives codes as long as theirs."""
    try:
        found = [network(torch.zeros(len(codes), 1, 3), codes)]
        if encoder is not None:
            mean, spread = encoder(torch.zeros(1, 4, 3))
            found += [mean + codes[:1], spread]
    except UNUSABLE as error:
        raise StorageError(f"The stored space cannot be used: {error}.", "Update it, or learn it again.") from error
    if not all(bool(values.isfinite().all()) for values in found):
        raise StorageError("The stored space gives no finite number.", "Learn it again.")
