"""Feature grids of several shapes side by side, as one network: points (S, N, 3) → values (S, N).

A small network leaves most of an accelerator idle; many at once do not. Grids of fewer levels are filled up with empty
ones, whose features are zero for ever, so nothing is changed by them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .gathering import gathered, trilinear
from .grid import Cells, FeatureGrid
from .layers import linears


class PackedGrids(nn.Module):
    """``grids`` of the same width, depth, channels and sharpness, on one device. :meth:`unpacked` gives them back."""

    def __init__(self, grids: Sequence[FeatureGrid]) -> None:
        super().__init__()
        alike = {tuple(grid.config[name] for name in ("width", "depth", "channels", "beta")) for grid in grids}
        if len(alike) != 1:
            raise ValueError(f"networks that differ cannot be packed: {sorted(alike)}")
        self.grids = [FeatureGrid(**grid.config) for grid in grids]  # of these only keys and shapes are used
        for own, given in zip(self.grids, grids, strict=True):
            own.keys.copy_(given.keys)
        self.activation, self.channels = grids[0].activation, grids[0].channels
        self.levels = max(len(grid.levels) for grid in grids)
        none = grids[0].features.new_zeros(1, self.channels)
        self.features = nn.Parameter(torch.cat([none, *(grid.features.detach()[1:] for grid in grids)]))
        columns = list(zip(*(linears(grid.layers) for grid in grids), strict=True))
        self.weights = nn.ParameterList(self._stacked(column, first=n == 0) for n, column in enumerate(columns))
        self.biases = nn.ParameterList(_parameter([layer.bias for layer in column]) for column in columns)
        self.last_weight = _parameter([grid.last.weight for grid in grids])
        self.last_bias = _parameter([grid.last.bias for grid in grids])
        self.linear = self._stacked([grid.linear for grid in grids], first=True)
        self._held: list[Cells] = []

    def _stacked(self, layers: Sequence[nn.Linear], *, first: bool) -> nn.Parameter:
        """(S, out, in) weights; of a ``first`` layer filled up with zeros for the levels that are missing."""
        most = max(layer.in_features for layer in layers) if first else layers[0].in_features
        return _parameter([nn.functional.pad(one.weight, (0, most - one.in_features)) for one in layers])

    def _apply(self, fn: object, recurse: bool = True) -> PackedGrids:
        self._held = []
        super()._apply(fn, recurse)
        return self

    def _cells(self) -> Cells:
        if not self._held:
            levels: list[int] = []
            keys: list[Tensor] = []
            for grid in self.grids:
                missing = self.levels - len(grid.levels)
                levels += [*grid.levels, *[1] * missing]
                keys += [*grid.keys.cpu().split(grid.config["nodes"]), *[grid.keys.new_zeros(0).cpu()] * missing]
            self._held = [Cells(levels, keys, shapes=len(self.grids)).to(self.features.device)]
        return self._held[0]

    def _features(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """(S, N, F) features and their derivatives (K, S, N, F) along ``directions`` (K, S, N, 3)."""
        cells = self._cells()
        rows, part = cells(points[..., None, :])
        shape = points.shape[:2]
        flat = part.flatten(0, 1)
        half = (cells.sides[..., 0] / 2).expand(*shape, self.levels).flatten(0, 1)
        within = (directions * (points.abs() <= 1)).flatten(1, 2)
        weights = trilinear(torch.stack([1 - flat, flat], dim=-1), half, list(within))
        found, *along = gathered(self.features, rows.flatten(0, 1), weights, empty=0)
        pushed = torch.stack(along) if along else found.new_zeros(0, *found.shape)
        return found.unflatten(0, shape), pushed.unflatten(1, shape)

    def forward(self, points: Tensor) -> Tensor:
        """(S, N, 3) → (S, N)"""
        return self.pushforward(points, points.new_zeros(0, *points.shape))[0]

    def pushforward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Value (S, N) and derivatives (K, S, N) along ``directions`` (K, S, N, 3)."""
        features, along = self._features(points, directions)
        h, tangents = torch.cat([points, features], dim=-1), torch.cat([directions, along], dim=-1)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            z = torch.baddbmm(bias[:, None], h, weight.mT)
            h, tangents = self.activation(z), self.activation.derivative(z) * (tangents @ weight.mT)
        value = torch.baddbmm(self.last_bias[:, None], h, self.last_weight.mT) + features @ self.linear.mT
        slopes = tangents @ self.last_weight.mT + along @ self.linear.mT
        return value[..., 0], slopes[..., 0]

    @torch.no_grad()
    def unpacked(self) -> list[FeatureGrid]:
        """Each shape's own network, a copy."""
        found, first = [], 1
        for number, like in enumerate(self.grids):
            grid = FeatureGrid(**like.config)
            grid.keys.copy_(like.keys)
            count = len(grid.features) - 1
            grid.features[1:] = self.features[first : first + count]
            first += count
            for layer, weight, bias in zip(linears(grid.layers), self.weights, self.biases, strict=True):
                layer.weight.copy_(weight[number, :, : layer.in_features])
                layer.bias.copy_(bias[number])
            grid.last.weight.copy_(self.last_weight[number])
            grid.last.bias.copy_(self.last_bias[number])
            grid.linear.weight.copy_(self.linear[number, :, : grid.linear.in_features])
            found.append(grid.to(self.features.device))
        return found


def _parameter(parts: Sequence[Tensor]) -> nn.Parameter:
    return nn.Parameter(torch.stack([part.detach() for part in parts]))
