"""Activations that know their own derivative, which is what forward-mode differentiation needs."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn


class Softplus(nn.Module):
    """log(1 + exp(βz)) / β. A large β is nearly ReLU, but smooth, so that gradients can be fitted (IGR)."""

    def __init__(self, beta: float = 100.0) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, z: Tensor) -> Tensor:
        return nn.functional.softplus(z, self.beta)

    def derivative(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.beta * z)


class Sine(nn.Module):
    """sin(ωz), with ω a property of the layer (Sitzmann et al. 2020, sec. 3.2)."""

    def __init__(self, omega: float = 30.0) -> None:
        super().__init__()
        self.omega = omega

    def forward(self, z: Tensor) -> Tensor:
        return torch.sin(self.omega * z)

    def derivative(self, z: Tensor) -> Tensor:
        return self.omega * torch.cos(self.omega * z)


class Octaves(nn.Module):
    """x → [x, sin(π 2ᵏ x), cos(π 2ᵏ x)] for k < ``count``: detail that a softplus layer alone is slow to learn.

    Source: Mildenhall et al. 2020 (NeRF), eq. (4). ``size`` is the length of the result.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count, self.size = count, 3 + 6 * count
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(count), persistent=False)
        self.frequencies: Tensor

    def _angles(self, x: Tensor) -> Tensor:
        return (x[..., None] * self.frequencies).flatten(start_dim=-2)

    def forward(self, x: Tensor) -> Tensor:
        """(…, 3) → (…, size)"""
        if not self.count:
            return x
        angles = self._angles(x)
        return torch.cat([x, angles.sin(), angles.cos()], dim=-1)

    def push(self, x: Tensor, directions: Tensor) -> Tensor:
        """The derivative (K, …, size) along ``directions`` (K, …, 3)."""
        if not self.count:
            return directions
        angles, pushed = self._angles(x), self._angles(directions)
        return torch.cat([directions, angles.cos() * pushed, -angles.sin() * pushed], dim=-1)


def linears(layers: nn.ModuleList) -> list[nn.Linear]:
    """The layers under the type they were made with."""
    return cast(list[nn.Linear], list(layers))


def push(linear: nn.Linear, activation: Softplus | Sine, h: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor]:
    """One layer on values (N, I) and tangents (K, N, I) → (N, O) and (K, N, O)."""
    z = linear(h)
    return activation(z), activation.derivative(z) * (tangents @ linear.weight.T)


@torch.no_grad()
def initialise_as_sphere(layers: list[nn.Linear], last: nn.Linear, radius: float) -> None:
    """Geometric initialisation: the untrained field is roughly the distance to a sphere of ``radius``, unit box.

    Source: Atzmon & Lipman 2020 (SAL), theorem 1; inputs beyond the three coordinates count for nothing at first.
    """
    for layer in layers:
        layer.bias.zero_()
        layer.weight.normal_(0.0, math.sqrt(2 / layer.out_features))
    last.weight.normal_(math.sqrt(math.pi / last.in_features), 1e-4)
    last.bias.fill_(-radius)
