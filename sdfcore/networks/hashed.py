"""A small network fed by features of a hashed multi-resolution grid (instant-ngp), in plain PyTorch."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .gathering import gathered, trilinear
from .layers import Softplus, initialise_as_sphere, linears, push

_PRIMES = (1, 2_654_435_761, 805_459_861)  # Müller et al. 2022, eq. (4)


class HashGrid(nn.Module):
    """Softplus MLP on position and features that a hash of the cell's corners finds.

    Source: Müller et al. 2022 (instant-ngp), sec. 3. Coarse grids have a row for every node; finer ones share
    ``2 ** log_rows`` rows by a spatial hash, and the network sorts out the collisions. Against the paper the position
    itself is an input, too, which gives a sphere to start from, and the activation is smooth.

    Args:
        levels: number of grids, each finer than the last by the same factor.
        coarsest, finest: cells along the unit box's side of the first and the last.
        log_rows: logarithm to base 2 of the most rows of a grid. channels: features per row.
        width, depth: of the MLP. beta: sharpness of its softplus. radius: of the initial sphere, unit box.
    """

    kind: ClassVar[str] = "hash"

    def __init__(
        self,
        levels: int = 16,
        coarsest: int = 16,
        finest: int = 512,
        log_rows: int = 15,
        channels: int = 2,
        width: int = 64,
        depth: int = 2,
        beta: float = 30.0,
        radius: float = 0.5,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "levels": levels, "coarsest": coarsest, "finest": finest, "log_rows": log_rows, "channels": channels,
            "width": width, "depth": depth, "beta": beta, "radius": radius,
        }  # fmt: skip
        growth = (finest / coarsest) ** (1 / max(levels - 1, 1))
        self.cells = [math.floor(coarsest * growth**k + 1e-6) for k in range(levels)]
        self.rows = [min((cells + 1) ** 3, 2**log_rows) for cells in self.cells]
        self.channels = channels
        self.features = nn.Parameter(torch.empty(sum(self.rows), channels).uniform_(-1e-4, 1e-4))  # sec. 4
        self.activation = Softplus(beta)
        inputs = 3 + channels * levels
        self.layers = nn.ModuleList(nn.Linear(width if i else inputs, width) for i in range(depth))
        self.last = nn.Linear(width, 1)
        corners = [[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]
        self.register_buffer("corners", torch.tensor(corners), persistent=False)
        self.corners: Tensor
        initialise_as_sphere(linears(self.layers), self.last, radius)

    def _row(self, level: int, nodes: Tensor) -> Tensor:
        """(…, 3) int64 nodes of a grid → (…) rows of its part of the table."""
        side, rows = self.cells[level] + 1, self.rows[level]
        if side**3 <= rows:
            return (nodes[..., 0] * side + nodes[..., 1]) * side + nodes[..., 2]
        a, b, c = (nodes[..., i] * prime for i, prime in enumerate(_PRIMES))
        return (a ^ b ^ c) & (rows - 1)

    def _corners(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (N, L, 8) of the corners round each point, and the weights (N, L, 3, 2) of their two sides by axis.

        ``points`` are (N, 3), or (N, L, 3): others in every grid.
        """
        rows, sides, first = [], [], 0
        for level, cells in enumerate(self.cells):
            own = points if points.dim() == 2 else points[:, level]
            u = ((own + 1) * (cells / 2)).clamp(0, cells)
            low = u.floor().clamp(max=cells - 1)
            rows.append(first + self._row(level, low.long()[:, None, :] + self.corners))
            sides.append(torch.stack([1 - (u - low), u - low], dim=-1))
            first += self.rows[level]
        return torch.stack(rows, dim=1), torch.stack(sides, dim=1)

    def forward(self, points: Tensor) -> Tensor:
        """(N, 3) → (N,)"""
        rows, sides = self._corners(points)
        (features,) = gathered(self.features, rows, trilinear(sides, self._half_cells(points)))
        h = torch.cat([points, features], dim=1)
        for layer in linears(self.layers):
            h = self.activation(layer(h))
        value: Tensor = self.last(h)[:, 0]
        return value

    def sampled(self, points: Tensor) -> Tensor:
        """Features (N, L, C) at points (N, L, 3), others in every grid."""
        rows, sides = self._corners(points)
        (features,) = gathered(self.features, rows, trilinear(sides, self._half_cells(points)))
        return features.unflatten(1, (-1, self.channels))

    def pushforward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Value (N,) and derivatives (K, N) along ``directions`` (K, N, 3)."""
        rows, sides = self._corners(points)
        within = directions * (points.abs() <= 1)  # outside the box the features stay those of its border
        weights = trilinear(sides, self._half_cells(points), list(within))
        features, *along = gathered(self.features, rows, weights)
        h = torch.cat([points, features], dim=1)
        tangents = torch.cat([directions, torch.stack(along)], dim=2)
        for layer in linears(self.layers):
            h, tangents = push(layer, self.activation, h, tangents)
        return self.last(h)[:, 0], tangents @ self.last.weight[0]

    def _half_cells(self, points: Tensor) -> Tensor:
        return points.new_tensor(self.cells) / 2
