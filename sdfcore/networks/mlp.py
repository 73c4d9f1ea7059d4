"""The multilayer perceptron of DeepSDF, SAL and IGR: input skip, geometric initialisation."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ..fields import Pairs
from .layers import (
    Octaves,
    ReLU,
    Softplus,
    Tanh,
    bend,
    initialise_as_sphere,
    linears,
    push,
    push_second,
)

_OPTIONS: dict[str, Any] = {"octaves": 0, "dropout": 0.0, "normed": False, "leak": None}  # not stored while unused


class MLP(nn.Module):
    """MLP whose untrained field is roughly the signed distance to a sphere.

    Source: geometric initialisation, Atzmon & Lipman 2020 (SAL), theorem 1; skip connection, Park et al. 2019
    (DeepSDF).

    Args:
        width, depth: units of a hidden layer, number of hidden layers.
        skip: hidden layer that is given the input again (the joined vector is divided by √2), or 0 for none.
        beta: sharpness of the softplus, or 0 for ReLU.
        radius: of the initial sphere, unit box.
        octaves: of Fourier features beside the coordinates.
        dropout: share of the units that is silent in a training step, another each time (DeepSDF: 0.2).
        normed: weights held as length and direction (weight normalisation, Salimans & Kingma 2016).
        leak: γ of a last φ(a) = tanh(a) + γ a (SAL), or ``None`` for none at all.
    """

    kind: ClassVar[str] = "mlp"
    backward_twice: ClassVar[bool] = True

    def __init__(
        self,
        width: int = 256,
        depth: int = 8,
        skip: int = 4,
        beta: float = 100.0,
        radius: float = 0.5,
        octaves: int = 0,
        dropout: float = 0.0,
        normed: bool = False,
        leak: float | None = None,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"width": width, "depth": depth, "skip": skip, "beta": beta, "radius": radius}
        chosen = {"octaves": octaves, "dropout": dropout, "normed": normed, "leak": leak}
        self.config.update({name: value for name, value in chosen.items() if value != _OPTIONS[name]})
        self.encoding = Octaves(octaves)
        self.skip, self.dropout = skip, dropout
        self.activation = Softplus(beta) if beta else ReLU()
        self.final = None if leak is None else Tanh(leak)
        sizes, outs = layer_sizes(self.encoding.size, width, depth, skip)
        self.layers = nn.ModuleList(nn.Linear(sizes[i], outs[i]) for i in range(depth))
        self.last = nn.Linear(width, 1)
        initialise_as_sphere(linears(self.layers), self.last, radius)
        silence_encoding(linears(self.layers), skip, self.encoding.size)
        if normed:
            for layer in linears(self.layers):
                weight_norm(layer)
        self._draw = torch.initial_seed() % (1 << 62) if dropout else 0  # of the seed that the weights are of, too

    def _joined(self, i: int, h: Tensor, x: Tensor) -> Tensor:
        return torch.cat([h, x], dim=-1) / math.sqrt(2) if i and i == self.skip else h

    def _dropped(self, h: Tensor) -> Tensor | float:
        """What units are multiplied with: the same for a value and its derivatives."""
        if not (self.dropout and self.training):
            return 1.0
        self._draw += 1  # a generator of its own, or what else is drawn in the process would change the fit
        draws = torch.rand(h.shape, generator=torch.Generator(h.device).manual_seed(self._draw), device=h.device)
        return (draws >= self.dropout).to(h.dtype) / (1 - self.dropout)

    def forward(self, points: Tensor) -> Tensor:
        """(N, 3) → (N,)"""
        h = x = self.encoding(points)
        for i, layer in enumerate(linears(self.layers)):
            h = self.activation(layer(self._joined(i, h, x)))
            h = h * self._dropped(h)
        value: Tensor = self.last(h)[:, 0]
        return value if self.final is None else self.final(value)

    def pushforward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Value (N,) and derivatives (K, N) along ``directions`` (K, N, 3)."""
        h = x = self.encoding(points)
        tangents = pushed = self.encoding.push(points, directions)
        for i, layer in enumerate(linears(self.layers)):
            h, tangents = self._joined(i, h, x), self._joined(i, tangents, pushed)
            h, tangents = push(layer, self.activation, h, tangents)
            kept = self._dropped(h)
            h, tangents = h * kept, tangents * kept
        value, along = self.last(h)[:, 0], tangents @ self.last.weight[0]
        return (value, along) if self.final is None else (self.final(value), self.final.derivative(value) * along)

    def second(self, points: Tensor, directions: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
        """Value (N,), derivatives (K, N) along ``directions`` (K, N, 3), second ones (P, N) along pairs of them."""
        h = x = self.encoding(points)
        tangents = pushed = self.encoding.push(points, directions)
        seconds = bent = self.encoding.push_second(points, directions, pairs)
        for i, layer in enumerate(linears(self.layers)):
            h, tangents = self._joined(i, h, x), self._joined(i, tangents, pushed)
            seconds = self._joined(i, seconds, bent)
            h, tangents, seconds = push_second(layer, self.activation, h, tangents, seconds, pairs)
            kept = self._dropped(h)
            h, tangents, seconds = h * kept, tangents * kept, seconds * kept
        weight = self.last.weight[0]
        value, along, curved = self.last(h)[:, 0], tangents @ weight, seconds @ weight
        if self.final is not None:
            value, along, curved = bend(self.final, value, along, curved, pairs)
        return value, along, curved


def layer_sizes(inputs: int, width: int, depth: int, skip: int) -> tuple[list[int], list[int]]:
    """Inputs and outputs of each hidden layer; the one before ``skip`` leaves room for the input.

    Raises:
        ValueError: it has no room for them.
    """
    if skip and width <= inputs:
        raise ValueError(f"a width of {width} has no room for {inputs} inputs again at layer {skip}")
    outs = [width - inputs if i + 1 == skip else width for i in range(depth)]
    return [inputs] + [width] * (depth - 1), outs


@torch.no_grad()
def silence_encoding(layers: list[nn.Linear], skip: int, inputs: int) -> None:
    """Let what is beside the coordinates count for nothing at first, so that the initial field stays a sphere's."""
    layers[0].weight[:, 3:inputs] = 0
    if skip and inputs > 3:
        layers[skip].weight[:, layers[skip].in_features - inputs + 3 :] = 0
