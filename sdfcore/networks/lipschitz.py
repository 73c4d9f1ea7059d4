"""A network whose slope is nowhere steeper than 1, whatever its weights."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import ReLU


class Contraction(nn.Module):
    """x ↦ x - 2 W T⁻¹ σ(Wᵀ x + b), T = diag(Σⱼ |WᵀW|ᵢⱼ qⱼ / qᵢ), σ the ReLU: it draws no two points apart.

    Source: SDP-based Lipschitz layers, Araujo et al. 2023, theorem 3; 1-Lipschitz for any W, b and q > 0.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.log_q = nn.Parameter(torch.zeros(width))
        self.activation = ReLU()
        nn.init.xavier_normal_(self.weight)

    def scale(self) -> Tensor:
        """(O,) 2 / T, of the units."""
        q = self.log_q.exp()
        sums = ((self.weight.T @ self.weight).abs() * (q[None, :] / q[:, None])).sum(dim=1)
        return 2 / sums.clamp(min=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        return x - (self.activation(x @ self.weight + self.bias) * self.scale()) @ self.weight.T

    def push(self, x: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor]:
        """Values (N, I) and tangents (K, N, I) through the layer."""
        z, scale = x @ self.weight + self.bias, self.scale()
        slopes = self.activation.derivative(z) * scale * (tangents @ self.weight)
        return x - (self.activation(z) * scale) @ self.weight.T, tangents - slopes @ self.weight.T


class Lipschitz(nn.Module):
    """|f(x) - f(y)| ≤ ‖x - y‖ for all x and y: where f is |f| small, a ball of that radius holds no surface.

    Source: Coiffier & Béthune 2024 (1-Lipschitz neural distance fields): contractions between a lift of the
    coordinates, which keeps lengths, and the scalar product with a unit vector.

    Args:
        width, depth: units, number of contractions.
    """

    kind: ClassVar[str] = "lipschitz"
    backward_twice: ClassVar[bool] = True

    def __init__(self, width: int = 128, depth: int = 20) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"width": width, "depth": depth}
        self.width = width
        self.layers = nn.ModuleList(Contraction(width) for _ in range(depth))
        self.last = nn.Linear(width, 1)

    def _unit(self) -> Tensor:
        return functional.normalize(self.last.weight[0], dim=0)

    def forward(self, points: Tensor) -> Tensor:
        """(N, 3) → (N,)"""
        h = functional.pad(points, (0, self.width - 3))
        for layer in self.layers:
            h = layer(h)
        value: Tensor = h @ self._unit() + self.last.bias
        return value

    def pushforward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Value (N,) and derivatives (K, N) along ``directions`` (K, N, 3)."""
        h, tangents = (functional.pad(x, (0, self.width - 3)) for x in (points, directions))
        for layer in self.layers:
            h, tangents = cast(Contraction, layer).push(h, tangents)
        return h @ self._unit() + self.last.bias, tangents @ self._unit()
