"""A fitted shape as one safetensors file (:mod:`.container`): the network's tensors, and how to build it.

The body holds the network's kind and configuration, the frame, the data's box and the info. A kind is looked up among
the networks of this version.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import container
from .container import AGAIN
from .errors import SdfError, StorageError
from .fields import NeuralSDF
from .geometry import Box, Frame
from .networks import NETWORKS, build

KIND = "neural_sdf"

#: What torch raises when the numbers of a damaged file reach it.
UNUSABLE = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError)


def save(sdf: NeuralSDF, path: str | Path) -> None:
    """Write ``sdf`` to ``path``; a file that is there is replaced only when all is written.

    Raises:
        StorageError: the file cannot be written.
    """
    container.write(to_bytes(sdf), path)


def to_bytes(sdf: NeuralSDF) -> bytes:
    """What :func:`save` writes. Numbers in ``info`` that are not finite become null.

    Raises:
        StorageError: the network is of no kind that can be built again, or ``info`` is not JSON.
    """
    body = {"network": described(sdf.network), **place_of(sdf.frame, sdf.box), "info": sdf.info}
    return container.pack(KIND, body, sdf.network.state_dict())


def load(path: str | Path, device: torch.device | str = "cpu") -> NeuralSDF:
    """The shape that :func:`save` wrote, bit for bit, on ``device``.

    Raises:
        StorageError: there is no such file, or as :func:`from_bytes`.
    """
    return container.load(path, lambda data: from_bytes(data, device))


def from_bytes(data: bytes, device: torch.device | str = "cpu") -> NeuralSDF:
    """The shape that :func:`to_bytes` wrote.

    Raises:
        StorageError: not such a file, from a newer version, cut or damaged, or its tensors do not fit its network.
    """
    body, tensors = container.unpack(data, KIND)
    with header("fit"):
        frame, box = placed(body)
        kind, config, info = body["network"]["kind"], body["network"]["config"], dict(body["info"])
    network = rebuilt(kind, config, tensors).eval().requires_grad_(False)  # else a fifth of DeepSDF's units were silent
    with torch.inference_mode():
        try:
            value = network(torch.zeros(1, 3))
        except UNUSABLE as error:
            raise StorageError(f"The stored network cannot be used: {error}.", "Update it, or fit again.") from error
    if not torch.isfinite(value).all():
        raise StorageError("The stored network gives no finite number.", "Fit again.")
    return NeuralSDF(network.to(device), frame, box, info)


# Pieces that spaces are stored with, too ----------------------------------------------------------------------------


def described(network: nn.Module) -> dict[str, Any]:
    """Kind and configuration of ``network``, from which :func:`rebuilt` makes it again.

    Raises:
        StorageError: it is of no kind that can be built again.
    """
    kind = getattr(network, "kind", None)
    if not isinstance(kind, str):
        raise StorageError(
            f"A {type(network).__name__} cannot be stored: it has no kind.", "Use a network of sdfcore.networks."
        )
    return {"kind": kind, "config": network.config}


def place_of(frame: Frame, box: Box) -> dict[str, Any]:
    """A frame and a box as JSON values."""
    return {
        "frame": {"centre": frame.centre.tolist(), "scale": frame.scale},
        "box": {"lower": box.lower.tolist(), "upper": box.upper.tolist()},
    }


def placed(body: Any) -> tuple[Frame, Box]:
    """What :func:`place_of` wrote."""
    return Frame(body["frame"]["centre"], body["frame"]["scale"]), Box(body["box"]["lower"], body["box"]["upper"])


@contextlib.contextmanager
def header(what: str) -> Iterator[None]:
    """What is missing or wrong in a body becomes a StorageError."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, SdfError) as error:
        raise StorageError(f"The file's header lacks what a {what} needs: {error!r}.", AGAIN) from error


def rebuilt(
    kind: Any, config: Any, tensors: Mapping[str, torch.Tensor], among: Mapping[str, type[nn.Module]] = NETWORKS
) -> nn.Module:
    """The network of this ``kind``, one of ``among``, and ``config`` with these ``tensors``, each of which must fit.

    Raises:
        StorageError: there is no such network here, or a tensor does not fit it.
    """
    try:
        with torch.device("meta"):  # shapes first, without memory: a damaged width must not fill the machine
            container.check(build(kind, config, among).state_dict(), tensors)
        with torch.random.fork_rng(devices=[]):  # what it is initialised with is thrown away
            network = build(kind, config, among)
        network.load_state_dict(dict(tensors))
    except UNUSABLE as error:
        raise StorageError(
            f"This program cannot build the stored network ({kind!r}): {error}.", "Update it, or fit again."
        ) from error
    return network
