"""Fields: functions (N, 3) → (N,) that are negative inside; exact ones, derivatives of any, and fitted shapes.

A field takes points and gives one value each. Whatever consumes a field takes the function, never the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from .geometry import Box, Frame

Field = Callable[[Tensor], Tensor]


def sphere(radius: float = 0.5, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Field:
    """Exact signed distance to a sphere."""
    return lambda x: (x - x.new_tensor(centre)).norm(dim=-1) - radius


def box(half: tuple[float, float, float] = (0.5, 0.5, 0.5)) -> Field:
    """Exact signed distance to an axis-aligned box of half sizes ``half`` round the origin."""

    def distance(x: Tensor) -> Tensor:
        outside = x.abs() - x.new_tensor(half)
        return outside.clamp(min=0).norm(dim=-1) + outside.amax(dim=-1).clamp(max=0)

    return distance


def torus(major: float = 0.5, minor: float = 0.2) -> Field:
    """Exact signed distance to a torus round the z axis: ring radius ``major``, tube radius ``minor``."""
    return lambda x: torch.stack([x[:, :2].norm(dim=-1) - major, x[:, 2]], dim=-1).norm(dim=-1) - minor


def union(*fields: Field) -> Field:
    """The least of the fields: exact outside, a lower bound of the depth inside."""
    return lambda x: torch.stack([f(x) for f in fields]).amin(dim=0)


def offset(inner: Field, distance: float) -> Field:
    """The surface moved outwards by ``distance``."""
    return lambda x: inner(x) - distance


def value_and_gradient(of: Field, points: Tensor) -> tuple[Tensor, Tensor]:
    """Value (N,) and gradient (N, 3) of any field.

    A network that has a ``pushforward`` (forward-mode derivatives) uses it; others go through autograd. Both results
    can be differentiated again with respect to the network's weights.
    """
    own = getattr(of, "value_and_gradient", None)
    if own is not None:
        value, gradient = own(points)
        return value, gradient
    pushforward = getattr(of, "pushforward", None)
    if pushforward is not None:
        directions = torch.eye(3, dtype=points.dtype, device=points.device)[:, None, :].expand(3, *points.shape)
        value, derivatives = pushforward(points, directions)
        return value, derivatives.T
    with torch.enable_grad():
        x = points if points.requires_grad else points.detach().requires_grad_(True)
        value = of(x)
        (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    return value, gradient


class Jet:
    """Value and derivatives of a field at points (N, 3), each computed on first use: a term pays for what it reads."""

    def __init__(self, of: Field, points: Tensor) -> None:
        self.field = of
        self.points = points

    @cached_property
    def value(self) -> Tensor:
        """(N,)"""
        if "_both" in self.__dict__:
            return self._both[0]
        return self.field(self.points)

    @cached_property
    def _both(self) -> tuple[Tensor, Tensor]:
        value, gradient = value_and_gradient(self.field, self.points)
        self.__dict__["value"] = value
        return value, gradient

    @property
    def gradient(self) -> Tensor:
        """(N, 3), pointing outwards."""
        return self._both[1]

    def along(self, directions: Tensor) -> Tensor:
        """(N,) derivative along ``directions`` (N, 3): a third of a gradient's price if the field can push forward."""
        pushforward = getattr(self.field, "pushforward", None)
        if pushforward is None or "_both" in self.__dict__:
            return (self.gradient * directions).sum(dim=-1)
        value, derivatives = pushforward(self.points, directions[None])
        self.__dict__.setdefault("value", value)
        return derivatives[0]

    @cached_property
    def laplacian(self) -> Tensor:
        """(N,) sum of the second derivatives, through autograd."""
        with torch.enable_grad():
            x = self.points.detach().requires_grad_(True)
            _, gradient = value_and_gradient(self.field, x)
            seconds = [
                torch.autograd.grad(gradient[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(x.shape[1])
            ]
        return torch.stack(seconds).sum(dim=0)


@dataclass(eq=False)
class NeuralSDF:
    """A fitted shape; as a function it is a field in world units.

    Args:
        network: unit box → unit distance, (N, 3) float32 → (N,).
        frame: world ↔ unit.
        box: the fitted data's bounding box in unit coordinates.
        info: JSON values that say how the fit came about.
    """

    network: nn.Module
    frame: Frame
    box: Box
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def to(self, device: torch.device | str) -> NeuralSDF:
        """The same shape with its network moved to ``device`` (in place, as torch does)."""
        self.network.to(device)
        return self

    def _unit(self, points: Tensor) -> Tensor:
        centre = torch.as_tensor(self.frame.centre.copy(), dtype=torch.float64, device=points.device)
        return ((points.double() - centre) / self.frame.scale).to(torch.float32)

    def __call__(self, points: Tensor) -> Tensor:
        """Signed distance (N,) at world points (N, 3), world units, negative inside; in the dtype of ``points``."""
        return self.network(self._unit(points)).to(points.dtype) * self.frame.scale

    def value_and_gradient(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """World value (N,) and gradient (N, 3; no unit) at world points (N, 3)."""
        value, gradient = value_and_gradient(self.network, self._unit(points))
        return value.to(points.dtype) * self.frame.scale, gradient.to(points.dtype)
