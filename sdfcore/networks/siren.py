"""SIREN: sine activations with the initialisation that keeps them well scaled at any depth."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..fields import Pairs
from .layers import Sine, linears, push, push_second


class Siren(nn.Module):
    """Sine network (Sitzmann et al. 2020). ``depth`` counts sine layers, the first included.

    Args:
        width, depth: units of a layer, number of sine layers.
        omega: ω₀ of every layer (sec. 3.2 and supplement 1.5: 30).
    """

    kind: ClassVar[str] = "siren"
    backward_twice: ClassVar[bool] = True

    def __init__(self, width: int = 256, depth: int = 4, omega: float = 30.0) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"width": width, "depth": depth, "omega": omega}
        self.activation = Sine(omega)
        self.layers = nn.ModuleList(nn.Linear(width if i else 3, width) for i in range(depth))
        self.last = nn.Linear(width, 1)
        self._initialise(omega)

    @torch.no_grad()
    def _initialise(self, omega: float) -> None:
        for i, layer in enumerate([*linears(self.layers), self.last]):
            bound = math.sqrt(6 / layer.in_features) / omega if i else 1 / layer.in_features  # supplement 1.5
            layer.weight.uniform_(-bound, bound)

    def forward(self, points: Tensor) -> Tensor:
        """(N, 3) → (N,)"""
        h = points
        if torch.is_grad_enabled():
            for layer in linears(self.layers):
                h = self.activation(layer(h))
        else:  # nothing goes back: the same numbers in one array for each layer, not three
            for layer in linears(self.layers):
                h = layer(h).mul_(self.activation.omega).sin_()
        return self.last(h)[:, 0]

    @torch.no_grad()
    def value_and_slope(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Value (N,) and gradient (N, 3), not to be learned from: backward by hand, each layer in place."""
        angles, h, omega = [], points, self.activation.omega
        for layer in linears(self.layers):
            angles.append(layer(h).mul_(omega))
            h = angles[-1].sin()
        back = self.last.weight
        for layer, angle in zip(reversed(linears(self.layers)), reversed(angles), strict=True):
            back = angle.cos_().mul_(back) @ layer.weight
        return self.last(h)[:, 0], back * omega ** len(angles)

    def pushforward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Value (N,) and derivatives (K, N) along ``directions`` (K, N, 3)."""
        h, tangents = points, directions
        for layer in linears(self.layers):
            h, tangents = push(layer, self.activation, h, tangents)
        return self.last(h)[:, 0], tangents @ self.last.weight[0]

    def second(self, points: Tensor, directions: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
        """Value (N,), derivatives (K, N) along ``directions`` (K, N, 3), second ones (P, N) along pairs of them."""
        h, tangents, seconds = points, directions, pairs.zeros(directions)
        for layer in linears(self.layers):
            h, tangents, seconds = push_second(layer, self.activation, h, tangents, seconds, pairs)
        weight = self.last.weight[0]
        return self.last(h)[:, 0], tangents @ weight, seconds @ weight
