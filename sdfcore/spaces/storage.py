"""A space as one safetensors file: network, encoder, codes, and the shapes' names, frames and boxes."""

from __future__ import annotations

from pathlib import Path

import torch

from .. import container
from ..errors import StorageError
from ..networks import DECODERS, ENCODERS
from ..storage import described, header, place_of, placed, rebuilt
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
    data = container.read(path)
    try:
        return from_bytes(data, device)
    except StorageError as error:
        raise StorageError(f"{path}: {error.message}", error.hint) from error


def from_bytes(data: bytes, device: torch.device | str = "cpu") -> Space:
    """The space that :func:`to_bytes` wrote.

    Raises:
        StorageError: not such a file, from a newer version, cut or damaged, or its tensors do not fit together.
    """
    body, tensors = container.unpack(data, KIND)
    codes = tensors.pop("codes", torch.zeros(0))
    with header("space"):
        info, encoder = body["info"], body["encoder"]
        decoder = body["network"]
        network = rebuilt(decoder["kind"], decoder["config"], _part(tensors, "network."), DECODERS)
        coder = encoder and rebuilt(encoder["kind"], encoder["config"], _part(tensors, "encoder."), ENCODERS)
        places = [(entry["name"], *placed(entry)) for entry in body["shapes"]]
        if codes.shape != (len(places), network.code_size):
            raise ValueError(f"{len(places)} shapes and codes of the shape {tuple(codes.shape)}")
        if not torch.isfinite(codes).all():
            raise ValueError("a code is not finite")
        shapes = [
            Latent(code.numpy(), frame, box, str(name))
            for code, (name, frame, box) in zip(codes.float(), places, strict=True)
        ]
        space = Space(network.to(device).eval().requires_grad_(False), shapes, None, info)
    space.encoder = None if coder is None else coder.to(device).eval().requires_grad_(False)
    return space


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
