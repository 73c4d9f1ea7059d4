"""A smooth base and what stands out from it: implicit displacement fields (Yifan, Rahmann & Sorkine-Hornung 2022)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..fields import SYMMETRIC, UPPER, goes_backward, second_derivatives, value_and_gradient
from .combined import Inner, built, described, pushed

_FLATTEST = 1e-6  # a shorter gradient has no direction


class Displaced(nn.Module):
    """x ↦ f(x + χ(f) d n): the level sets of ``base`` f, moved by d along their normal n = ∇f / ‖∇f‖.

    Source: Yifan et al. 2022 (IDF), eq. (5) and (7): d = ``amplitude`` · tanh of the network ``detail``, and
    χ(f) = 1 / (1 + (f / ``reach``)⁴) lets it fade away from the surface. Positive d cuts into the shape.

    Args:
        base, detail: networks, or their ``kind`` and ``config``; of the base second derivatives are taken.
        amplitude: the farthest displacement, unit box. reach: of the attenuation, unit box.
    """

    kind: ClassVar[str] = "displaced"

    def __init__(self, base: Inner, detail: Inner, amplitude: float = 0.05, reach: float = 0.05) -> None:
        super().__init__()
        self.base, self.detail = built(base), built(detail)
        self.amplitude, self.reach = float(amplitude), float(reach)
        self.config: dict[str, Any] = {
            "base": described(self.base), "detail": described(self.detail), "amplitude": self.amplitude,
            "reach": self.reach,
        }  # fmt: skip

    @property
    def backward_twice(self) -> bool:
        """If both its parts can."""
        return all(getattr(part, "backward_twice", False) for part in (self.base, self.detail))

    @property
    def heads(self) -> list[nn.Module]:
        """The layers to be negated to turn the field into its negative."""
        return [head for part in (self.base, self.detail) for head in getattr(part, "heads", [part.last])]

    def displacement(self, points: Tensor) -> Tensor:
        """d (N,) at ``points`` (N, 3), not attenuated; positive cuts into the shape."""
        found: Tensor = self.amplitude * torch.tanh(self.detail(points))
        return found

    def forward(self, points: Tensor) -> Tensor:
        """(N, 3) → (N,)"""
        if goes_backward(self.base, points):
            value, slope = value_and_gradient(self.base, points)
        else:
            axes = torch.eye(3, dtype=points.dtype, device=points.device)[:, None].expand(3, *points.shape)
            value, slopes = pushed(self.base, points, axes)
            slope = slopes.T
        normal = slope / slope.norm(dim=-1).clamp(min=_FLATTEST)[:, None]
        moved = self.displacement(points) / (1 + (value / self.reach) ** 4)
        found: Tensor = self.base(points + moved[:, None] * normal)
        return found

    def pushforward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Value (N,) and derivatives (K, N) along ``directions`` (K, N, 3)."""
        axes = torch.eye(3, dtype=points.dtype, device=points.device)[:, None].expand(3, *points.shape)
        value, slopes, seconds = second_derivatives(self.base, points, axes, UPPER)
        hessian = seconds[SYMMETRIC].T.reshape(-1, 3, 3)
        gradient, length = slopes.T, slopes.norm(dim=0).clamp(min=_FLATTEST)[:, None]
        normal = gradient / length
        turned = torch.einsum("nij,knj->kni", hessian, directions)
        normal_along = (turned - normal * (normal * turned).sum(dim=-1, keepdim=True)) / length
        raw, raw_along = pushed(self.detail, points, directions)
        bent = torch.tanh(raw)
        apart, apart_along = self.amplitude * bent, self.amplitude * (1 - bent.square()) * raw_along
        near = value / self.reach
        fade = 1 / (1 + near**4)
        fade_along = -4 * near**3 / self.reach * fade.square() * (gradient * directions).sum(dim=-1)
        moved, moved_along = fade * apart, fade_along * apart + fade * apart_along
        ways = directions + moved_along[..., None] * normal + moved[:, None] * normal_along
        return pushed(self.base, points + moved[:, None] * normal, ways)


class OnSurface(nn.Module):
    """x ↦ g(p): ``inner`` g at the point p of the surface of ``base`` that is nearest to x, seen from elsewhere.

    What a detail network says of its own surface, carried to places round it: p is found by Newton's method from
    q = R (x - t) / scale, in the coordinates of ``base``.

    Args:
        inner, base: networks, or their ``kind`` and ``config``.
        scale, rotation (3, 3), shift (3,): where ``base`` stands; ``None`` for ones that are loaded later.
    """

    kind: ClassVar[str] = "on_surface"
    STEPS: ClassVar[int] = 4

    def __init__(
        self, inner: Inner, base: Inner, scale: float = 1.0, rotation: Tensor | None = None, shift: Tensor | None = None
    ) -> None:
        super().__init__()
        self.inner, self.base, self.scale = built(inner), built(base), float(scale)
        self.config: dict[str, Any] = {
            "inner": described(self.inner), "base": described(self.base), "scale": self.scale
        }  # fmt: skip
        self.register_buffer("rotation", torch.eye(3) if rotation is None else rotation.to(torch.float32))
        self.register_buffer("shift", torch.zeros(3) if shift is None else shift.to(torch.float32))
        self.rotation: Tensor
        self.shift: Tensor

    def forward(self, points: Tensor) -> Tensor:
        """(N, 3) → (N,)"""
        at = ((points - self.shift) @ self.rotation.T / self.scale).clamp(-1.5, 1.5)
        axes = torch.eye(3, dtype=at.dtype, device=at.device)[:, None].expand(3, *at.shape)
        for _ in range(self.STEPS):
            value, slopes = pushed(self.base, at, axes)
            at = at - (value / slopes.square().sum(dim=0).clamp(min=0.04))[:, None] * slopes.T
        found: Tensor = self.inner(at)
        return found
