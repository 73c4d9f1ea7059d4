"""A network whose field is raised or lowered a little at a few places, so that its surface has no needless handles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

Pushforward = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Mended(nn.Module):
    """``inner`` plus bumps: f(x) + Σ hᵢ b(|x - cᵢ| / rᵢ), where b is 1 up to a half, 0 from 1 on, and C¹ in between.

    Where no bump reaches, the field is that of ``inner``, bit for bit. See :mod:`sdfcore.handles`.

    Args:
        inner: a network of this package, or its ``kind`` and ``config``.
        bumps: how many bumps there is room for; :meth:`with_bump` adds one.
    """

    kind: ClassVar[str] = "mended"

    def __init__(self, inner: nn.Module | Mapping[str, Any], bumps: int = 0) -> None:
        super().__init__()
        if not isinstance(inner, nn.Module):
            from . import build  # which knows this class, too

            inner = build(inner["kind"], inner["config"])
        self.inner: nn.Module = inner
        self.config: dict[str, Any] = {"inner": {"kind": inner.kind, "config": inner.config}, "bumps": bumps}
        first = next(inner.parameters(), None)
        where = None if first is None else first.device  # it mends what may be on a GPU already
        self.register_buffer("centres", torch.zeros(bumps, 3, device=where))
        self.register_buffer("radii", torch.ones(bumps, device=where))
        self.register_buffer("heights", torch.zeros(bumps, device=where))
        self.centres: Tensor
        self.radii: Tensor
        self.heights: Tensor

    def with_bump(self, centre: Tensor, radius: float, height: float) -> Mended:
        """One more bump, at ``centre`` (3,); the inner network is shared. Unit box; ``height`` adds to the field."""
        more = Mended(self.inner, len(self.radii) + 1)
        more.centres = torch.cat([self.centres, centre.to(self.centres)[None]])
        more.radii = torch.cat([self.radii, self.radii.new_tensor([radius])])
        more.heights = torch.cat([self.heights, self.heights.new_tensor([height])])
        return more.eval()

    def _shift(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of the bumps (N,) at ``points`` (N, 3), and its gradient (N, 3)."""
        shift, gradient = points.new_zeros(len(points)), torch.zeros_like(points)
        for centre, radius, height in zip(self.centres, self.radii, self.heights, strict=True):
            apart = points - centre
            # Of the squared distance, so that it is smooth at the centre, too: 1 at half the radius, 0 at all of it.
            along = (4 / 3 * (1 - apart.square().sum(dim=1) / radius**2)).clamp(0, 1)
            shift = shift + height * along.square() * (3 - 2 * along)
            slope = height * 6 * along * (1 - along) * (-8 / 3) / radius**2
            gradient = gradient + slope[:, None] * apart
        return shift, gradient

    def forward(self, points: Tensor) -> Tensor:
        """(N, 3) → (N,)"""
        return self.inner(points) + self._shift(points)[0]

    def pushforward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Value (N,) and derivatives (K, N) along ``directions`` (K, N, 3)."""
        value, derivatives = cast(Pushforward, self.inner.pushforward)(points, directions)
        shift, gradient = self._shift(points)
        return value + shift, derivatives + (directions * gradient).sum(dim=2)
