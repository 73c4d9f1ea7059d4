"""Sine networks that begin as a sphere, with low and high frequencies apart: those of DiGS, StEik and HotSpot."""

from __future__ import annotations

import math
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from ..fields import Pairs
from .layers import SignedRoot, Sine, bend

_LOW = 0.25  # share of the first layer's units that carry the sphere; the rest have the high frequencies
_HIGH = 30.0  # times as high
_FAINT = 0.01  # weight that the high ones have at first
_WIDTH = 256  # the published one


class Quadratic(nn.Module):
    """y = (A x + a) ∘ (B x + b) + C x² + c, at first the linear A x + a.

    Source: quadratic neurons, Fan et al. 2018, as in Yang et al. 2023 (StEik), sec. 4.3.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.gate = nn.Linear(inputs, outputs)
        self.square = nn.Linear(inputs, outputs)

    @torch.no_grad()
    def begin_linear(self) -> None:
        """Only A and a count."""
        self.gate.weight.zero_()
        self.gate.bias.fill_(1.0)
        self.square.weight.zero_()
        self.square.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * self.gate(x) + self.square(x.square())

    def push(self, x: Tensor, tangents: Tensor) -> Tensor:
        """The derivatives (K, N, O) for those of x, (K, N, I)."""
        a, b, c = self.linear.weight.T, self.gate.weight.T, self.square.weight.T
        return (tangents @ a) * self.gate(x) + self.linear(x) * (tangents @ b) + (2 * x * tangents) @ c

    def push_second(self, x: Tensor, tangents: Tensor, seconds: Tensor, pairs: Pairs) -> Tensor:
        """The second derivatives (P, N, O) along pairs of the tangents, for those of x, (P, N, I)."""
        a, b, c = self.linear.weight.T, self.gate.weight.T, self.square.weight.T
        first, second = tangents @ a, tangents @ b
        curved = (seconds @ a) * self.gate(x) + self.linear(x) * (seconds @ b)
        crossed = pairs.products(first, second) + pairs.products(second, first)
        return curved + crossed + 2 * (pairs.products(tangents, tangents) + x * seconds) @ c


class SphereSiren(nn.Module):
    """Sine network f = scaling · (ψ(u) - radius), where u is at first about the squared distance to the origin.

    Source: geometric and multi-frequency initialisation (MFGI), Ben-Shabat et al. 2022 (DiGS), sec. 3.3. The next to
    last sines are cosines of small numbers, whose sum is n minus a squared length; layers before it about keep lengths;
    ψ takes the root (:class:`~sdfcore.networks.layers.SignedRoot`). Of the first layer's units some have high
    frequencies, which the second layer hardly hears at first, so that the sphere stays one.

    Args:
        width, depth: units of a layer, number of sine layers.
        omega: ω₀ of every layer.
        quadratic: with quadratic neurons (StEik), the last one too.
        radius: value of ψ(u) on the sphere; as published 1.6, about two thirds of the unit box's half side.
        scaling: of the value.
    """

    kind: ClassVar[str] = "sphere_siren"
    backward_twice: ClassVar[bool] = True

    def __init__(
        self,
        width: int = 256,
        depth: int = 4,
        omega: float = 30.0,
        quadratic: bool = False,
        radius: float = 1.6,
        scaling: float = 0.1,
    ) -> None:
        super().__init__()
        if depth < 2:
            raise ValueError(f"a sphere takes at least 2 sine layers, not {depth}")
        self.config: dict[str, Any] = {
            "width": width, "depth": depth, "omega": omega, "quadratic": quadratic, "radius": radius, "scaling": scaling
        }  # fmt: skip
        self.radius, self.scaling, self.quadratic = radius, scaling, quadratic
        self.activation, self.root = Sine(omega), SignedRoot()
        sizes = [width if i else 3 for i in range(depth)]
        make = Quadratic if quadratic else nn.Linear
        self.layers = nn.ModuleList(make(size, width) for size in sizes)
        self.last: Quadratic | nn.Linear = make(width, 1)
        self._initialise(omega, width)

    @property
    def stages(self) -> list[Quadratic | nn.Linear]:
        """The layers before a sine."""
        return cast(list[Quadratic | nn.Linear], list(self.layers))

    def _linears(self) -> list[nn.Linear]:
        every = [*self.stages, self.last]
        return [layer.linear if isinstance(layer, Quadratic) else layer for layer in every]

    @torch.no_grad()
    def _initialise(self, omega: float, width: int) -> None:
        for layer in (*self.stages, self.last):
            if isinstance(layer, Quadratic):
                layer.begin_linear()
        first, *between, before, last = self._linears()
        low = max(1, round(_LOW * width))
        first.weight.uniform_(-1, 1)
        first.weight[low:] *= _HIGH
        for i, layer in enumerate(between):
            layer.weight.uniform_(-1, 1).mul_(math.sqrt(3 / width))
            if i == 0:
                layer.weight *= math.sqrt(_WIDTH / width)  # the sphere is as large for other widths as for this
                layer.weight[:, low:] *= _FAINT
                layer.weight[low:] *= _FAINT
        before.weight.copy_(torch.eye(width) * (0.5 * math.pi) + 1e-3 * torch.randn(width, width))
        if not between:
            before.weight[:, low:] *= _FAINT
        before.bias.fill_(0.5 * math.pi).add_(1e-3 * torch.randn(width))
        for layer in (first, *between):
            layer.bias.zero_()
        for layer in (first, *between, before):
            layer.weight.div_(omega)
            layer.bias.div_(omega)
        last.weight.fill_(-1.0).add_(1e-5 * torch.randn(1, width))
        last.bias.fill_(float(width))

    def forward(self, points: Tensor) -> Tensor:
        """(N, 3) → (N,)"""
        h = points
        for layer in self.stages:
            h = self.activation(layer(h))
        return self.scaling * (self.root(self.last(h)[:, 0]) - self.radius)

    def pushforward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Value (N,) and derivatives (K, N) along ``directions`` (K, N, 3)."""
        h, tangents = points, directions
        for layer in self.stages:
            z, along = layer(h), _pushed(layer, h, tangents)
            h, tangents = self.activation(z), self.activation.derivative(z) * along
        u = self.last(h)[:, 0]
        slope = self.scaling * self.root.derivative(u)
        return self.scaling * (self.root(u) - self.radius), slope * _pushed(self.last, h, tangents)[..., 0]

    def second(self, points: Tensor, directions: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
        """Value (N,), derivatives (K, N) along ``directions`` (K, N, 3), second ones (P, N) along pairs of them."""
        h, tangents, seconds = points, directions, pairs.zeros(directions)
        for layer in self.stages:
            along, curved = _pushed_twice(layer, h, tangents, seconds, pairs)
            h, tangents, seconds = bend(self.activation, layer(h), along, curved, pairs)
        along, curved = (part[..., 0] for part in _pushed_twice(self.last, h, tangents, seconds, pairs))
        value, along, curved = bend(self.root, self.last(h)[:, 0], along, curved, pairs)
        return self.scaling * (value - self.radius), self.scaling * along, self.scaling * curved


def _pushed(layer: Quadratic | nn.Linear, x: Tensor, tangents: Tensor) -> Tensor:
    return layer.push(x, tangents) if isinstance(layer, Quadratic) else tangents @ layer.weight.T


def _pushed_twice(
    layer: Quadratic | nn.Linear, x: Tensor, tangents: Tensor, seconds: Tensor, pairs: Pairs
) -> tuple[Tensor, Tensor]:
    if isinstance(layer, Quadratic):
        return layer.push(x, tangents), layer.push_second(x, tangents, seconds, pairs)
    return tangents @ layer.weight.T, seconds @ layer.weight.T
