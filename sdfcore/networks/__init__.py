"""Networks f: (N, 3) in the unit box → (N,). Each has a ``kind`` and a JSON ``config`` that builds it again.

``pushforward(points, directions)`` gives value (N,) and derivatives (K, N) along directions (K, N, 3) in one forward
pass (forward-mode differentiation), so a loss on gradients costs no second backward pass.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from ..errors import StorageError
from .grid import FeatureGrid
from .layers import Sine, Softplus
from .mlp import MLP
from .siren import Siren

NETWORKS: dict[str, type[nn.Module]] = {"mlp": MLP, "siren": Siren, "grid": FeatureGrid}

__all__ = ["MLP", "NETWORKS", "FeatureGrid", "Sine", "Siren", "Softplus", "build"]


def build(kind: str, config: dict[str, Any]) -> nn.Module:
    """An untrained network of ``kind`` with the arguments ``config``.

    Raises:
        StorageError: this version knows no such kind, or the arguments do not fit it.
    """
    if kind not in NETWORKS:
        raise StorageError(f"There is no network kind {kind!r} in this version.", "Update sdfcore.")
    try:
        return NETWORKS[kind](**config)
    except TypeError as error:
        raise StorageError(
            f"A {kind} network cannot be built from {config}: {error}.", "The file is damaged."
        ) from error
