"""An MLP on random Fourier features of the coordinates."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .layers import ReLU, linears, push


class FourierMLP(nn.Module):
    """ReLU MLP on [sin(2π B x), cos(2π B x)], the rows of B drawn from a Gaussian and then left alone.

    Source: Tancik et al. 2020, sec. 6: a Gaussian B is the best of the mappings; its scale is the detail it can hold.

    Args:
        width, depth: units of a hidden layer, number of hidden layers.
        features: rows of B. scale: their deviation, per unit; published for shapes in [0, 1]³: 12, so 6 in [-1, 1]³.
    """

    kind: ClassVar[str] = "fourier"
    backward_twice: ClassVar[bool] = True

    def __init__(self, width: int = 256, depth: int = 8, features: int = 256, scale: float = 6.0) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"width": width, "depth": depth, "features": features, "scale": scale}
        self.activation = ReLU()
        self.register_buffer("frequencies", scale * torch.randn(3, features))
        self.frequencies: Tensor
        self.layers = nn.ModuleList(nn.Linear(width if i else 2 * features, width) for i in range(depth))
        self.last = nn.Linear(width, 1)
        with torch.no_grad():
            for layer in linears(self.layers):
                layer.weight.normal_(0, math.sqrt(2 / layer.in_features))
                layer.bias.zero_()
            self.last.weight *= 0.1

    def _encoded(self, points: Tensor) -> tuple[Tensor, Tensor]:
        angles = 2 * math.pi * points @ self.frequencies
        return angles.sin(), angles.cos()

    def forward(self, points: Tensor) -> Tensor:
        """(N, 3) → (N,)"""
        h = torch.cat(self._encoded(points), dim=-1)
        for layer in linears(self.layers):
            h = self.activation(layer(h))
        value: Tensor = self.last(h)[:, 0]
        return value

    def pushforward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Value (N,) and derivatives (K, N) along ``directions`` (K, N, 3)."""
        sines, cosines = self._encoded(points)
        pushed = 2 * math.pi * directions @ self.frequencies
        h, tangents = torch.cat([sines, cosines], dim=-1), torch.cat([cosines * pushed, -sines * pushed], dim=-1)
        for layer in linears(self.layers):
            h, tangents = push(layer, self.activation, h, tangents)
        return self.last(h)[:, 0], tangents @ self.last.weight[0]
