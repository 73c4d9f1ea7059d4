"""Activations as curves that forms can pass: where their slope takes a given value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor, nn

from ..errors import UnsupportedLayerError
from ..networks.layers import ELU, ReLU, SignedRoot, Sine, Softplus, Tanh
from .affine import Curve, unit_of


@singledispatch
def curve_of(layer: nn.Module) -> Curve:
    """The curve of an activation.

    Raises:
        UnsupportedLayerError: it has no rule.
    """
    raise UnsupportedLayerError(
        f"There is no rule for the range of {type(layer).__name__}.", "Fit with another recipe to ask for bounds."
    )


@dataclass(frozen=True)
class SoftplusCurve:
    """log(1 + exp(βz)) / β; computed as z itself where βz is above 20."""

    beta: float
    steepest: float = 1.0
    wavy: bool = False

    def noise(self, unit: float) -> float:
        return (8 * unit + 2.1e-9) / self.beta  # exp(-20) is what is left out there

    def value(self, z: Tensor) -> Tensor:
        return torch.logaddexp(self.beta * z, torch.zeros_like(z)) / self.beta

    def slope(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.beta * z)

    def critical(self, alpha: Tensor, low: Tensor, high: Tensor) -> list[Tensor]:
        return [_within(torch.logit(alpha, eps=1e-15) / self.beta, low, high)]


@dataclass(frozen=True)
class ReLUCurve:
    """z above zero, slope · z below; a slope of -1 makes it |z|."""

    below: float
    wavy: bool = False

    def noise(self, unit: float) -> float:
        return 0.0

    @property
    def steepest(self) -> float:
        return max(1.0, abs(self.below))

    def line(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The secant, and half the height of the corner under it: the middle between them."""
        secant = (high - self.below * low) / (high - low).clamp(min=torch.finfo(low.dtype).tiny)
        secant = secant.clamp(min(self.below, 1.0), max(self.below, 1.0))
        bent = (low < 0) & (high > 0)
        alpha = torch.where(bent, secant, torch.where(low >= 0, 1.0, self.below).to(low.dtype))
        ends = torch.stack([(self.below - alpha) * low, (1 - alpha) * high, torch.zeros_like(low)])
        least, most = ends.amin(dim=0), ends.amax(dim=0)
        half = torch.where(bent, (most - least) / 2, 0.0)
        rounding = 16 * unit_of(low.dtype) * torch.where(bent, torch.maximum(most, -least), 0.0)
        return alpha, torch.where(bent, (most + least) / 2, 0.0), half + rounding

    def value(self, z: Tensor) -> Tensor:
        return nn.functional.leaky_relu(z, self.below)

    def slope(self, z: Tensor) -> Tensor:
        return torch.where(z > 0, 1.0, self.below).to(z.dtype)

    def critical(self, alpha: Tensor, low: Tensor, high: Tensor) -> list[Tensor]:
        return [_within(torch.zeros_like(alpha), low, high)]


@dataclass(frozen=True)
class ELUCurve:
    """z above zero, exp(z) - 1 below."""

    steepest: float = 1.0
    wavy: bool = False

    def noise(self, unit: float) -> float:
        return 8 * unit

    def value(self, z: Tensor) -> Tensor:
        return nn.functional.elu(z)

    def slope(self, z: Tensor) -> Tensor:
        return z.clamp(max=0).exp()

    def critical(self, alpha: Tensor, low: Tensor, high: Tensor) -> list[Tensor]:
        return [_within(alpha.clamp(1e-300, 1).log(), low, high)]


@dataclass(frozen=True)
class TanhCurve:
    """tanh(z) + leak · z."""

    leak: float = 0.0
    wavy: bool = False

    def noise(self, unit: float) -> float:
        return 0.0

    @property
    def steepest(self) -> float:
        return 1 + abs(self.leak)

    def value(self, z: Tensor) -> Tensor:
        return torch.tanh(z) + self.leak * z

    def slope(self, z: Tensor) -> Tensor:
        return 1 - torch.tanh(z).square() + self.leak

    def critical(self, alpha: Tensor, low: Tensor, high: Tensor) -> list[Tensor]:
        at = torch.atanh((1 - (alpha - self.leak)).clamp(0, 1).sqrt().clamp(max=1 - 1e-16))
        return [_within(at, low, high), _within(-at, low, high)]


@dataclass(frozen=True)
class SineCurve:
    """sin(ωz)."""

    omega: float
    wavy: bool = True

    def noise(self, unit: float) -> float:
        return 8 * unit

    @property
    def steepest(self) -> float:
        return abs(self.omega)

    def value(self, z: Tensor) -> Tensor:
        return torch.sin(self.omega * z)

    def slope(self, z: Tensor) -> Tensor:
        return self.omega * torch.cos(self.omega * z)

    def critical(self, alpha: Tensor, low: Tensor, high: Tensor) -> list[Tensor]:
        """Of the two places in every period the first and the last in the interval: what lies between is between."""
        turn, found = 2 * math.pi, []
        phase = torch.acos((alpha / self.omega).clamp(-1, 1))
        ends = torch.stack([low, high]) * self.omega
        first, last = ends.amin(dim=0), ends.amax(dim=0)
        for angle in (phase, -phase):
            found.append(_within((angle + turn * ((first - angle) / turn).ceil()) / self.omega, low, high))
            found.append(_within((angle + turn * ((last - angle) / turn).floor()) / self.omega, low, high))
        return found


@dataclass(frozen=True)
class SignedRootCurve:
    """u (u² + ε²)^-¼, steepest at 0 and flatter on both sides."""

    of: SignedRoot
    wavy: bool = False

    def noise(self, unit: float) -> float:
        return 8 * unit

    @property
    def steepest(self) -> float:
        return self.of.epsilon**-0.5

    def value(self, z: Tensor) -> Tensor:
        return self.of(z)

    def slope(self, z: Tensor) -> Tensor:
        return self.of.derivative(z)

    def critical(self, alpha: Tensor, low: Tensor, high: Tensor) -> list[Tensor]:
        left, right = torch.zeros_like(alpha), torch.maximum(low.abs(), high.abs())
        for _ in range(70):  # bisection, down to the last place
            middle = (left + right) / 2
            steeper = self.slope(middle) > alpha
            left, right = torch.where(steeper, middle, left), torch.where(steeper, right, middle)
        return [_within(left, low, high), _within(-left, low, high)]


def _within(z: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(z, low), high)


@curve_of.register
def _(layer: Softplus) -> Curve:
    return SoftplusCurve(layer.beta)


@curve_of.register
def _(layer: ReLU) -> Curve:
    return ReLUCurve(layer.slope)


@curve_of.register
def _(layer: ELU) -> Curve:
    return ELUCurve()


@curve_of.register
def _(layer: Tanh) -> Curve:
    return TanhCurve(layer.leak)


@curve_of.register
def _(layer: Sine) -> Curve:
    return SineCurve(layer.omega)


@curve_of.register
def _(layer: SignedRoot) -> Curve:
    return SignedRootCurve(layer)
