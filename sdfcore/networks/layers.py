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

    Source: Atzmon & Lipman 2020 (SAL), theorem 1.
    """
    for layer in layers:
        layer.bias.zero_()
        layer.weight.normal_(0.0, math.sqrt(2 / layer.out_features))
    last.weight.normal_(math.sqrt(math.pi / last.in_features), 1e-4)
    last.bias.fill_(-radius)
