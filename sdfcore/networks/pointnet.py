"""An encoder: points of a shape → the normal distribution of its code, whatever the points' number and order."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

_CODE_DEVIATION = 0.5  # of the codes of a family, in each of their numbers, before training
_FIRST_SPREAD = -6.0  # logarithm of the variance they are predicted with: a deviation of a tenth of that


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
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Weights that keep the size of what passes through them, so that features follow the points' own extent.

        Source: He et al. 2015, eq. (10); torch's default shrinks it from layer to layer, and shapes look alike.
        """
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
                if layer.bias is not None:
                    layer.bias.zero_()
        for block in self.blocks:
            assert isinstance(block, _Block)
            block.up.weight.mul_(0.5)  # beside the shortcut
        self.spread.weight.zero_()
        self.spread.bias.fill_(_FIRST_SPREAD)

    def _whole(self, points: Tensor) -> Tensor:
        """(S, W): what is known of all points of a shape together."""
        h = self.first(points)
        for i, block in enumerate(self.blocks):
            if i:
                h = torch.cat([h, h.amax(dim=1, keepdim=True).expand_as(h)], dim=-1)
            h = block(h)
        return torch.relu(h.amax(dim=1))

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        whole = self._whole(points)
        return self.mean(whole), self.spread(whole)

    @torch.no_grad()
    def tell_apart(self, points: Tensor) -> None:
        """Let the untrained encoder's codes of the shapes ``points`` (S, N, 3) differ, about the origin.

        What all shapes have in common is most of the features; left in, it and the noise that codes are drawn with
        drown the differences, and the decoder learns to do without the code. So codes begin as the features' principal
        components over the shapes, the lesser ones raised halfway to the first.
        Source: ours, after the data-dependent initialisation of Salimans & Kingma 2016, sec. 3.
        """
        whole = self._whole(points)
        centre = whole.mean(dim=0)
        _, spread, axes = torch.linalg.svd(whole - centre, full_matrices=False)
        deviations = spread / math.sqrt(max(len(whole) - 1, 1))
        if not deviations[0] > 1e-4 * centre.norm():
            return  # one and the same shape
        count = min(len(whole) - 1, len(axes), self.code_size)
        size = (deviations[0] * deviations[:count].clamp(min=1e-3 * float(deviations[0]))).sqrt()
        self.mean.weight.mul_(_CODE_DEVIATION / ((whole - centre) @ self.mean.weight.T).std(dim=0).mean())
        self.mean.weight[:count] = axes[:count] * (_CODE_DEVIATION / size)[:, None]
        self.mean.bias.copy_(-self.mean.weight @ centre)


class _Block(nn.Module):
    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(inward, outward), nn.Linear(outward, outward)
        self.past = nn.Linear(inward, outward, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        found: Tensor = self.past(h) + self.up(torch.relu(self.down(torch.relu(h))))
        return found
