"""Fields: functions (N, 3) → (N,) that are negative inside; exact ones, derivatives of any, and fitted shapes.

A field takes points and gives one value each. Whatever consumes a field takes the function, never the network.
"""

from __future__ import annotations

import itertools
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


def cylinder(radius: float = 0.5, half: float = 0.5) -> Field:
    """Exact signed distance to a cylinder along the z axis, ``half`` its half height."""

    def distance(x: Tensor) -> Tensor:
        over = torch.stack([x[:, :2].norm(dim=-1) - radius, x[:, 2].abs() - half], dim=-1)
        return over.clamp(min=0).norm(dim=-1) + over.amax(dim=-1).clamp(max=0)

    return distance


def capsule(radius: float = 0.25, half: float = 0.5) -> Field:
    """Exact signed distance to all within ``radius`` of the z axis between -``half`` and ``half``."""
    return lambda x: torch.stack([x[:, 0], x[:, 1], x[:, 2] - x[:, 2].clamp(-half, half)], dim=-1).norm(dim=-1) - radius


def plane() -> Field:
    """Exact signed distance to what is below z = 0."""
    return lambda x: x[:, 2]


def union(*fields: Field) -> Field:
    """The least of the fields: exact outside, a lower bound of the depth inside."""
    return lambda x: torch.stack([f(x) for f in fields]).amin(dim=0)


def offset(inner: Field, distance: float) -> Field:
    """The surface moved outwards by ``distance``."""
    return lambda x: inner(x) - distance


@dataclass(frozen=True)
class Pairs:
    """Which second derivatives vᵢᵀ H vⱼ are wanted: one for each (i, j) of ``which``, or only their sum.

    A sum is carried through a network as one number, not as P: a Laplacian costs five passes instead of seven
    (the forward Laplacian, Li et al. 2024).
    """

    which: tuple[tuple[int, int], ...]
    summed: bool = False

    def products(self, left: Tensor, right: Tensor) -> Tensor:
        """Of tangents (K, …) of either side: (P, …), or (1, …) of a sum."""
        lefts, rights = left.unbind(), right.unbind()  # an index of a list would be slow to go back through
        found = [lefts[i] * rights[j] for i, j in self.which]
        return torch.stack([sum(found[1:], found[0])] if self.summed else found)

    def zeros(self, tangents: Tensor) -> Tensor:
        """(P, …), or (1, …) of a sum."""
        return tangents.new_zeros(1 if self.summed else len(self.which), *tangents.shape[1:])


def goes_backward(of: Field, points: Tensor) -> bool:
    """Whether whole gradients of ``of`` are had by autograd, to be differentiated again, and not pushed forward.

    Something that is learned from takes two passes through the network so, and four forward: on processors half the
    time (suite ``derivatives``). A network says with ``backward_twice`` that autograd can.
    """
    able = torch.is_grad_enabled() and points.device.type == "cpu" and not points.is_inference()
    return able and getattr(of, "backward_twice", False)


def value_and_gradient(of: Field, points: Tensor) -> tuple[Tensor, Tensor]:
    """Value (N,) and gradient (N, 3) of any field.

    Backward through autograd if that serves (:func:`goes_backward`) or there is nothing else; forward if the field has
    a ``pushforward``. Both results can be differentiated again with respect to the network's weights; where gradients
    are off nobody will, and a network's ``value_and_slope`` is faster.
    """
    own = getattr(of, "value_and_gradient", None)
    if own is None and not torch.is_grad_enabled():
        own = getattr(of, "value_and_slope", None)
    if own is not None:
        value, gradient = own(points)
        return value, gradient
    pushforward = getattr(of, "pushforward", None)
    if pushforward is not None and not goes_backward(of, points):
        directions = torch.eye(3, dtype=points.dtype, device=points.device)[:, None, :].expand(3, *points.shape)
        value, derivatives = pushforward(points, directions)
        return value, derivatives.T
    with torch.enable_grad():
        x = points if points.requires_grad else points.detach().requires_grad_(True)
        value = of(x)
        (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    return value, gradient


def second_derivatives(of: Field, points: Tensor, directions: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
    """Value (N,), derivatives (K, N) along ``directions`` (K, N, 3), and second ones (P, N) along pairs of those.

    A network with ``second`` pushes all of them forward at once; others go through autograd, a backward pass for every
    direction that stands on the left of a pair.
    """
    own = getattr(of, "second", None)
    if own is not None:
        value, firsts, seconds = own(points, directions, pairs)
        return value, firsts, seconds
    with torch.enable_grad():
        x = points.detach().requires_grad_(True)
        value, gradient = value_and_gradient(of, x)
        firsts = (gradient * directions).sum(dim=-1)
        again = lambda i: torch.autograd.grad(  # of a piecewise linear field there is nothing to differentiate
            firsts[i].sum(), x, create_graph=True, allow_unused=True, materialize_grads=True
        )[0]
        slopes = {i: again(i) for i in {i for i, _ in pairs.which}}
        seconds = torch.stack([(slopes[i] * directions[j]).sum(dim=-1) for i, j in pairs.which])
    return value, firsts, seconds.sum(dim=0, keepdim=True) if pairs.summed else seconds


_TRACE = Pairs(((0, 0), (1, 1), (2, 2)), summed=True)
#: All of a Hessian H with the axes as directions; and where its entries stand among them, row after row.
UPPER = Pairs(((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)))
SYMMETRIC = [0, 3, 4, 3, 1, 5, 4, 5, 2]


class Jet:
    """Value and derivatives of a field at points (N, 3), each computed on first use: a term pays for what it reads.

    Gradients, Hessians and their products are had backward where that serves (:func:`goes_backward`), the rest forward.
    What asks for second derivatives first gets value and gradient with them for nothing.
    """

    def __init__(self, of: Field, points: Tensor) -> None:
        self.field = of
        self.backward = goes_backward(of, points)
        self.points = points.detach().requires_grad_(True) if self.backward else points

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

    @property
    def _axes(self) -> Tensor:
        x = self.points
        return torch.eye(3, dtype=x.dtype, device=x.device)[:, None, :].expand(3, *x.shape)

    def _seconds(self, directions: Tensor, pairs: Pairs) -> Tensor:
        """(P, N) of directions whose first three are the axes, pushed forward."""
        value, firsts, seconds = second_derivatives(self.field, self.points, directions, pairs)
        self.__dict__.setdefault("_both", (value, firsts[:3].T))
        self.__dict__.setdefault("value", value)
        return seconds

    @cached_property
    def laplacian(self) -> Tensor:
        """(N,) sum of the second derivatives along the axes."""
        if "hessian" in self.__dict__:
            return self.hessian.diagonal(dim1=1, dim2=2).sum(dim=1)
        return self._seconds(self._axes, _TRACE)[0]

    @cached_property
    def hessian(self) -> Tensor:
        """(N, 3, 3) second derivatives."""
        if self.backward:
            return torch.stack([self.hessian_times(axis) for axis in self._axes], dim=1)
        return self._seconds(self._axes, UPPER)[SYMMETRIC].T.reshape(-1, 3, 3)

    def hessian_times(self, directions: Tensor) -> Tensor:
        """(N, 3) H v for ``directions`` v (N, 3): the gradient's change along them."""
        if self.backward:
            return self._pulled_back(directions)
        return self._seconds(torch.cat([self._axes, directions[None]]), Pairs(((0, 3), (1, 3), (2, 3)))).T

    def _pulled_back(self, directions: Tensor) -> Tensor:
        """(N, 3) H v by a backward pass through the gradient's; 0 where there is nothing to differentiate."""
        (found,) = torch.autograd.grad(
            self.gradient, self.points, directions, create_graph=True, allow_unused=True, materialize_grads=True
        )
        return found

    def curvature_along(self, directions: Tensor) -> Tensor:
        """(N,) vᵀ H v for ``directions`` v (N, 3): the second derivative along them."""
        if self.backward and "_both" in self.__dict__:
            return (self._pulled_back(directions) * directions).sum(dim=-1)
        return second_derivatives(self.field, self.points, directions[None], Pairs(((0, 0),)))[2][0]


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
        """Where the network is; one without any numbers of its own is on the processor."""
        held = next(itertools.chain(self.network.parameters(), self.network.buffers()), None)
        return torch.device("cpu") if held is None else held.device

    def to(self, device: torch.device | str) -> NeuralSDF:
        """The same shape with its network moved to ``device`` (in place, as torch does)."""
        self.network.to(device)
        return self

    def _unit(self, points: Tensor) -> Tensor:
        if points.device.type == "mps":
            points = points.cpu()  # Apple's GPUs have no numbers of 64 bits
        centre = torch.as_tensor(self.frame.centre.copy(), dtype=torch.float64, device=points.device)
        return ((points.double() - centre) / self.frame.scale).to(self.device, torch.float32)

    def __call__(self, points: Tensor) -> Tensor:
        """Signed distance (N,) at world points (N, 3), world units, negative inside; of the dtype and on the device of
        ``points``, wherever the network is."""
        value: Tensor = self.network(self._unit(points))
        return value.to(points) * self.frame.scale

    def value_and_gradient(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """World value (N,) and gradient (N, 3; no unit) at world points (N, 3)."""
        value, gradient = value_and_gradient(self.network, self._unit(points))
        return value.to(points) * self.frame.scale, gradient.to(points)
