"""Networks f: (N, 3) in the unit box → (N,). Each has a ``kind`` and a JSON ``config`` that builds it again.

``pushforward(points, directions)`` gives value (N,) and derivatives (K, N) along directions (K, N, 3) in one forward
pass (forward-mode differentiation); smooth ones have ``second``, too, for second derivatives; those that autograd can
differentiate twice say so with ``backward_twice``, and whole gradients are learned from so. Coded networks f(x, z), of
shape spaces, take points (S, P, 3) and codes (S, L), and have ``at(code)``, a network of the first sort.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..errors import StorageError
from .coded import Coded, CodedMLP
from .combined import Body, Boxed, Combined, Offset, Placed
from .deepsdf import DeepSDF, DeepSDFDecoder
from .displaced import Displaced, OnSurface
from .fourier import FourierMLP
from .grid import FeatureGrid
from .hashed import HashGrid
from .layers import ReLU, Sine, Softplus
from .lipschitz import Lipschitz
from .mended import Mended
from .mlp import MLP
from .pointnet import PointNet
from .siren import Siren
from .sphere_siren import SphereSiren
from .turned import Turned

NETWORKS: dict[str, type[nn.Module]] = {
    "mlp": MLP,
    "siren": Siren,
    "grid": FeatureGrid,
    "deepsdf": DeepSDF,
    "mended": Mended,
    "turned": Turned,
    "sphere_siren": SphereSiren,
    "lipschitz": Lipschitz,
    "hash": HashGrid,
    "fourier": FourierMLP,
    "placed": Placed,
    "boxed": Boxed,
    "offset": Offset,
    "combined": Combined,
    "body": Body,
    "displaced": Displaced,
    "on_surface": OnSurface,
}
#: Coded networks, of shape spaces.
DECODERS: dict[str, type[nn.Module]] = {"coded_mlp": CodedMLP, "deepsdf_decoder": DeepSDFDecoder}
#: Points → code.
ENCODERS: dict[str, type[nn.Module]] = {"pointnet": PointNet}

__all__ = [
    "DECODERS",
    "ENCODERS",
    "MLP",
    "NETWORKS",
    "Body",
    "Boxed",
    "Coded",
    "CodedMLP",
    "Combined",
    "DeepSDF",
    "DeepSDFDecoder",
    "Displaced",
    "FeatureGrid",
    "FourierMLP",
    "HashGrid",
    "Lipschitz",
    "Mended",
    "Offset",
    "OnSurface",
    "Placed",
    "PointNet",
    "ReLU",
    "Sine",
    "Siren",
    "Softplus",
    "SphereSiren",
    "Turned",
    "build",
]


def build(kind: str, config: dict[str, Any], among: Mapping[str, type[nn.Module]] = NETWORKS) -> nn.Module:
    """An untrained network of ``kind``, one of ``among``, with the arguments ``config``.

    Raises:
        StorageError: this version knows no such kind, or the arguments do not fit it.
    """
    if kind not in among:
        raise StorageError(f"There is no network kind {kind!r} in this version.", "Update sdfcore.")
    try:
        return among[kind](**config)
    except TypeError as error:
        raise StorageError(
            f"A {kind} network cannot be built from {config}: {error}.", "The file is damaged."
        ) from error
