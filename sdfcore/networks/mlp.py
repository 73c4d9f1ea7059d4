"""The multilayer perceptron of IGR and DeepSDF: softplus, input skip, geometric initialisation."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .layers import Octaves, Softplus, initialise_as_sphere, linears, push


class MLP(nn.Module):
    """Softplus MLP whose untrained field is roughly the signed distance to a sphere.

    Source: geometric initialisation, Atzmon & Lipman 2020 (SAL), theorem 1; skip connection, Park et al. 2019
    (DeepSDF).

    Args:
        width, depth: units of a hidden layer, number of hidden layers.
        skip: hidden layer that is given the input again (the joined vector is divided by √2), or 0 for none.
        beta: sharpness of the softplus.
        radius: of the initial sphere, unit box.
        octaves: of Fourier features beside the coordinates.
    """

    kind: ClassVar[str] = "mlp"

    def __init__(
        self,
        width: int = 256,
        depth: int = 8,
        skip: int = 4,
        beta: float = 100.0,
        radius: float = 0.5,
        octaves: int = 0,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"width": width, "depth": depth, "skip": skip, "beta": beta, "radius": radius}
        if octaves:
            self.config["octaves"] = octaves
        self.encoding = Octaves(octaves)
        self.skip = skip
        self.activation = Softplus(beta)
        sizes, outs = layer_sizes(self.encoding.size, width, depth, skip)
        self.layers = nn.ModuleList(nn.Linear(sizes[i], outs[i]) for i in range(depth))
        self.last = nn.Linear(width, 1)
        initialise_as_sphere(linears(self.layers), self.last, radius)
        silence_encoding(linears(self.layers), skip, self.encoding.size)

    def _joined(self, i: int, h: Tensor, x: Tensor) -> Tensor:
        return torch.cat([h, x], dim=-1) / math.sqrt(2) if i and i == self.skip else h

    def forward(self, points: Tensor) -> Tensor:
        """(N, 3) → (N,)"""
        h = x = self.encoding(points)
        for i, layer in enumerate(linears(self.layers)):
            h = self.activation(layer(self._joined(i, h, x)))
        return self.last(h)[:, 0]

    def pushforward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Value (N,) and derivatives (K, N) along ``directions`` (K, N, 3)."""
        h = x = self.encoding(points)
        tangents = pushed = self.encoding.push(points, directions)
        for i, layer in enumerate(linears(self.layers)):
            h, tangents = self._joined(i, h, x), self._joined(i, tangents, pushed)
            h, tangents = push(layer, self.activation, h, tangents)
        return self.last(h)[:, 0], tangents @ self.last.weight[0]


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
