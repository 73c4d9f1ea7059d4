"""Activations that know their own derivatives, which is what forward-mode differentiation needs."""

from __future__ import annotations

import math
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from ..fields import Pairs


class Activation(Protocol):
    """A function of one number, applied to each, and its first two derivatives."""

    def __call__(self, z: Tensor) -> Tensor: ...

    def derivative(self, z: Tensor) -> Tensor: ...

    def second(self, z: Tensor) -> Tensor: ...


class Softplus(nn.Module):
    """log(1 + exp(βz)) / β. A large β is nearly ReLU, but smooth, so that gradients can be fitted (IGR)."""

    def __init__(self, beta: float = 100.0) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, z: Tensor) -> Tensor:
        return nn.functional.softplus(z, self.beta)

    def derivative(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.beta * z)

    def second(self, z: Tensor) -> Tensor:
        s = torch.sigmoid(self.beta * z)
        return self.beta * s * (1 - s)


class ReLU(nn.Module):
    """max(z, slope · z): what DeepSDF and SAL are made of. Its second derivative is taken for 0."""

    def __init__(self, slope: float = 0.0) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, z: Tensor) -> Tensor:
        return nn.functional.leaky_relu(z, self.slope)

    def derivative(self, z: Tensor) -> Tensor:
        return torch.where(z > 0, 1.0, self.slope).to(z.dtype)

    def second(self, z: Tensor) -> Tensor:
        return torch.zeros_like(z)


class ELU(nn.Module):
    """z above zero, exp(z) - 1 below (Clevert et al. 2016): smooth to the first derivative."""

    def forward(self, z: Tensor) -> Tensor:
        return nn.functional.elu(z)

    def derivative(self, z: Tensor) -> Tensor:
        return z.clamp(max=0).exp()

    def second(self, z: Tensor) -> Tensor:
        return torch.where(z > 0, 0.0, z.clamp(max=0).exp()).to(z.dtype)


class Tanh(nn.Module):
    """tanh(z) + leak · z. Source: Atzmon & Lipman 2020 (SAL), sec. 3: φ(a) = tanh(a) + γ a."""

    def __init__(self, leak: float = 0.0) -> None:
        super().__init__()
        self.leak = leak

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(z) + self.leak * z

    def derivative(self, z: Tensor) -> Tensor:
        return 1 - torch.tanh(z).square() + self.leak

    def second(self, z: Tensor) -> Tensor:
        t = torch.tanh(z)
        return -2 * t * (1 - t.square())


class SignedRoot(nn.Module):
    """u (u² + ε²)^-¼: the square root of |u| with the sign of u, made smooth at 0.

    What turns the squared radius that a sine network can start as into a radius (Ben-Shabat et al. 2022, DiGS,
    sec. 3.3; there without ε, with an infinite slope at 0).
    """

    def __init__(self, epsilon: float = 0.05) -> None:
        super().__init__()
        self.epsilon = epsilon

    def _square(self, u: Tensor) -> Tensor:
        return u.square() + self.epsilon**2

    def forward(self, u: Tensor) -> Tensor:
        return u * self._square(u) ** -0.25

    def derivative(self, u: Tensor) -> Tensor:
        return (0.5 * u.square() + self.epsilon**2) * self._square(u) ** -1.25

    def second(self, u: Tensor) -> Tensor:
        return -u * (0.25 * u.square() + 1.5 * self.epsilon**2) * self._square(u) ** -2.25


class Sine(nn.Module):
    """sin(ωz), with ω a property of the layer (Sitzmann et al. 2020, sec. 3.2)."""

    def __init__(self, omega: float = 30.0) -> None:
        super().__init__()
        self.omega = omega

    def forward(self, z: Tensor) -> Tensor:
        return torch.sin(self.omega * z)

    def derivative(self, z: Tensor) -> Tensor:
        return self.omega * torch.cos(self.omega * z)

    def second(self, z: Tensor) -> Tensor:
        return -(self.omega**2) * torch.sin(self.omega * z)


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

    def push_second(self, x: Tensor, directions: Tensor, pairs: Pairs) -> Tensor:
        """The second derivatives (P, …, size) along pairs of ``directions`` (K, …, 3)."""
        straight = pairs.zeros(directions)
        if not self.count:
            return straight
        angles, pushed = self._angles(x), self._angles(directions)
        both = pairs.products(pushed, pushed)
        return torch.cat([straight, -angles.sin() * both, -angles.cos() * both], dim=-1)


def linears(layers: nn.ModuleList) -> list[nn.Linear]:
    """The layers under the type they were made with."""
    return cast(list[nn.Linear], list(layers))


def push(linear: nn.Linear, activation: Activation, h: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor]:
    """One layer on values (N, I) and tangents (K, N, I) → (N, O) and (K, N, O)."""
    z = linear(h)
    return activation(z), activation.derivative(z) * (tangents @ linear.weight.T)


def bend(activation: Activation, z: Tensor, along: Tensor, curved: Tensor, pairs: Pairs) -> tuple[Tensor, ...]:
    """An activation on values (N, O), tangents (K, N, O) and second derivatives (P, N, O) along pairs of those."""
    slope = activation.derivative(z)
    return activation(z), slope * along, activation.second(z) * pairs.products(along, along) + slope * curved


def push_second(
    linear: nn.Linear, activation: Activation, h: Tensor, tangents: Tensor, seconds: Tensor, pairs: Pairs
) -> tuple[Tensor, ...]:
    """One layer on values (N, I), tangents (K, N, I) and second derivatives (P, N, I) along pairs of the tangents."""
    weight = linear.weight.T
    return bend(activation, linear(h), tangents @ weight, seconds @ weight, pairs)


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
