"""An encoder: points of a shape → the normal distribution of its code, whatever the points' number and order."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class PointNet(nn.Module):
    """Points (S, N, 3) → mean (S, L) and logarithm of the variance (S, L) of their codes.

    Source: Qi et al. 2017 (PointNet), in the form that SAL and SALD use: residual blocks, each given the maximum over
    all points so far beside every point's own features (Mescheder et al. 2019, supplement).

    Args:
        code_size: length of the codes. width: of a point's features. depth: number of blocks.
    """

    kind: ClassVar[str] = "pointnet"

    def __init__(self, code_size: int = 32, width: int = 64, depth: int = 3) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"code_size": code_size, "width": width, "depth": depth}
        self.code_size = code_size
        self.first = nn.Linear(3, 2 * width)
        self.blocks = nn.ModuleList(_Block(2 * width, width) for _ in range(depth))
        self.mean = nn.Linear(width, code_size)
        self.spread = nn.Linear(width, code_size)
        with torch.no_grad():  # codes begin short and sure
            self.mean.weight.mul_(0.1)
            self.spread.weight.zero_()
            self.spread.bias.fill_(-6.0)

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        h = self.first(points)
        for i, block in enumerate(self.blocks):
            if i:
                h = torch.cat([h, h.amax(dim=1, keepdim=True).expand_as(h)], dim=-1)
            h = block(h)
        whole = torch.relu(h.amax(dim=1))
        return self.mean(whole), self.spread(whole)


class _Block(nn.Module):
    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(inward, outward), nn.Linear(outward, outward)
        self.past = nn.Linear(inward, outward, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        found: Tensor = self.past(h) + self.up(torch.relu(self.down(torch.relu(h))))
        return found
