"""Fields made of fields: placed, kept to their boxes, offset, joined, cut; and the plain bodies among them.

All are networks of this package, so what is made of them can be kept in a file, meshed, rendered and bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import fields

Inner = nn.Module | Mapping[str, Any]
Pushforward = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def built(inner: Inner) -> nn.Module:
    """The network, or an untrained one of its ``kind`` and ``config``."""
    if isinstance(inner, nn.Module):
        return inner
    from . import build  # which knows the classes here, too

    return build(inner["kind"], inner["config"])


def described(inner: nn.Module) -> dict[str, Any]:
    """Its ``kind`` and ``config``."""
    return {"kind": inner.kind, "config": inner.config}


def pushed(network: nn.Module, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Value (N,) and derivatives (K, N) of any network: its own pushforward, or the gradient by autograd."""
    own = getattr(network, "pushforward", None)
    if own is not None:
        return cast(Pushforward, own)(points, directions)
    with torch.inference_mode(False):  # which would forbid autograd
        value, gradient = fields.value_and_gradient(network, points.clone() if points.is_inference() else points)
    return value, (gradient * directions).sum(dim=-1)


class Placed(nn.Module):
    """x ↦ s f(Rᵀ (x - t) / s): the shape of ``inner`` made s times as large, turned by R and moved by t.

    Args:
        inner: a network, or its ``kind`` and ``config``. scale: s > 0.
        rotation: (3, 3) R; shift: (3,) t; ``None`` for ones that are loaded later.
    """

    kind: ClassVar[str] = "placed"

    def __init__(
        self, inner: Inner, scale: float = 1.0, rotation: Tensor | None = None, shift: Tensor | None = None
    ) -> None:
        super().__init__()
        self.inner = built(inner)
        self.scale = float(scale)
        self.config: dict[str, Any] = {"inner": described(self.inner), "scale": self.scale}
        self.register_buffer("rotation", torch.eye(3) if rotation is None else rotation.to(torch.float32))
        self.register_buffer("shift", torch.zeros(3) if shift is None else shift.to(torch.float32))
        self.rotation: Tensor
        self.shift: Tensor

    def _inside(self, points: Tensor) -> Tensor:
        return (points - self.shift) @ self.rotation / self.scale

    def forward(self, points: Tensor) -> Tensor:
        """(N, 3) → (N,)"""
        value: Tensor = self.inner(self._inside(points))
        return self.scale * value

    def pushforward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Value (N,) and derivatives (K, N) along ``directions`` (K, N, 3)."""
        value, along = pushed(self.inner, self._inside(points), directions @ self.rotation)
        return self.scale * value, along


class Boxed(nn.Module):
    """``inner`` where it was fitted, and beyond that box what is not nearer than its border: never a stray surface.

    Outside it is max(f(p), 0) + |x - p|, p the nearest point of the box; so a shape that the box cuts has a flat cap.

    Args:
        lower, upper: (3,) corners, or ``None`` for ones that are loaded later.
    """

    kind: ClassVar[str] = "boxed"

    def __init__(self, inner: Inner, lower: Tensor | None = None, upper: Tensor | None = None) -> None:
        super().__init__()
        self.inner = built(inner)
        self.config: dict[str, Any] = {"inner": described(self.inner)}
        self.register_buffer("lower", -torch.ones(3) if lower is None else lower.to(torch.float32))
        self.register_buffer("upper", torch.ones(3) if upper is None else upper.to(torch.float32))
        self.lower: Tensor
        self.upper: Tensor

    def forward(self, points: Tensor) -> Tensor:
        """(N, 3) → (N,)"""
        near = torch.minimum(torch.maximum(points, self.lower), self.upper)
        value: Tensor = self.inner(near)
        away = (points - near).norm(dim=-1)
        return torch.where(away > 0, value.clamp(min=0) + away, value)

    def pushforward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Value (N,) and derivatives (K, N) along ``directions`` (K, N, 3)."""
        near = torch.minimum(torch.maximum(points, self.lower), self.upper)
        apart = points - near
        value, along = pushed(self.inner, near, directions * (apart == 0))
        away = apart.norm(dim=-1)
        farther = (functional.normalize(apart, dim=-1) * directions).sum(dim=-1)
        outside = along * (value > 0) + farther
        return (
            torch.where(away > 0, value.clamp(min=0) + away, value),
            torch.where(away > 0, outside, along),
        )


class Offset(nn.Module):
    """f - d, the surface moved outwards by d; or, with a ``wall``, | f - d | - wall / 2, a shell of that thickness."""

    kind: ClassVar[str] = "offset"

    def __init__(self, inner: Inner, distance: float = 0.0, wall: float = 0.0) -> None:
        super().__init__()
        self.inner = built(inner)
        self.distance, self.wall = float(distance), float(wall)
        self.config: dict[str, Any] = {"inner": described(self.inner), "distance": self.distance, "wall": self.wall}

    def forward(self, points: Tensor) -> Tensor:
        """(N, 3) → (N,)"""
        value: Tensor = self.inner(points) - self.distance
        return value.abs() - self.wall / 2 if self.wall else value

    def pushforward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Value (N,) and derivatives (K, N) along ``directions`` (K, N, 3)."""
        value, along = pushed(self.inner, points, directions)
        value = value - self.distance
        return (value.abs() - self.wall / 2, along * value.sign()) if self.wall else (value, along)


OPERATIONS = ("union", "intersection", "difference", "morph")
STYLES = ("smooth", "round", "chamfer")


class Combined(nn.Module):
    """Two or more fields as one: in any of them, in all, in the first but no other, or a mean.

    With a ``radius`` r the seam is blended, within about r of it. ``smooth``: the quadratic smooth minimum (Quilez
    2013); ``round``: a fillet of radius r; ``chamfer``: a bevel of that size (Mercury's hg_sdf, 2015). They are joined
    one after another; an intersection is the union of what is outside, turned inside out.

    Args:
        children: networks, or their ``kind`` and ``config``.
        operation: of :data:`OPERATIONS`. style: of :data:`STYLES`.
        share: of ``morph``: the weight of the last against the first (0 to 1).
    Raises:
        ValueError: no such operation or style, or fewer than two children.
    """

    kind: ClassVar[str] = "combined"

    def __init__(
        self,
        children: Sequence[Inner],
        operation: str = "union",
        radius: float = 0.0,
        style: str = "smooth",
        share: float = 0.5,
    ) -> None:
        super().__init__()
        if operation not in OPERATIONS or style not in STYLES or len(children) < 2:
            raise ValueError(f"{operation!r} in style {style!r} of {len(children)} fields is not known")
        if operation == "morph" and len(children) != 2:
            raise ValueError(f"a morph is between two fields, not {len(children)}")
        self.parts = nn.ModuleList(built(child) for child in children)
        self.operation, self.radius, self.style, self.share = operation, float(radius), style, float(share)
        self.config: dict[str, Any] = {
            "children": [described(part) for part in self.parts], "operation": operation, "radius": self.radius,
            "style": style, "share": self.share,
        }  # fmt: skip

    def forward(self, points: Tensor) -> Tensor:
        """(N, 3) → (N,)"""
        found = [part(points) for part in self.parts]
        none = points.new_zeros(0, len(points))
        return self._folded([(value, none) for value in found])[0]

    def pushforward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Value (N,) and derivatives (K, N) along ``directions`` (K, N, 3)."""
        return self._folded([pushed(part, points, directions) for part in self.parts])

    def _folded(self, found: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        first, *others = found
        if self.operation == "morph":
            (a, along_a), (b, along_b) = first, others[0]
            return torch.lerp(a, b, self.share), torch.lerp(along_a, along_b, self.share)
        outer, inner = (-1.0, -1.0) if self.operation == "intersection" else (1.0, 1.0)
        if self.operation == "difference":
            outer, inner = -1.0, 1.0  # what is in the first and not in the others: max(a, -b) = -min(-a, b)
        value, along = outer * first[0], outer * first[1]
        for other, its in others:
            value, along = self._least(value, along, inner * other, inner * its)
        return outer * value, outer * along

    def _least(self, a: Tensor, along_a: Tensor, b: Tensor, along_b: Tensor) -> tuple[Tensor, Tensor]:
        """The blended minimum of two values (N,), and its derivatives (K, N)."""
        value, slope_a, slope_b = blended(a, b, self.radius, self.style)
        return value, slope_a * along_a + slope_b * along_b


def blended(a: Tensor, b: Tensor, radius: float, style: str) -> tuple[Tensor, Tensor, Tensor]:
    """A minimum of ``a`` and ``b``, and its slopes in both: never more than the plain one, and that away from a = b."""
    first = (a <= b).to(a.dtype)
    if radius <= 0:
        return torch.minimum(a, b), first, 1 - first
    if style == "smooth":
        near = (radius - (a - b).abs()).clamp(min=0) / radius
        share = 0.5 * near  # of the slope of the larger one
        return (
            torch.minimum(a, b) - near.square() * radius / 4,
            first * (1 - share) + (1 - first) * share,
            (first * share + (1 - first) * (1 - share)),
        )
    if style == "chamfer":
        bevel = (a + b - radius) * 0.5**0.5
        cut = (bevel < torch.minimum(a, b)).to(a.dtype)
        slope = 0.5**0.5 * cut
        return torch.minimum(torch.minimum(a, b), bevel), first * (1 - cut) + slope, (1 - first) * (1 - cut) + slope
    u, v = (radius - a).clamp(min=0), (radius - b).clamp(min=0)
    length = torch.sqrt(u.square() + v.square()).clamp(min=1e-12)
    least = torch.minimum(a, b)
    high = (least > radius).to(a.dtype)
    return (
        least.clamp(min=radius) - length * (1 - high),
        first * high + u / length * (1 - high),
        ((1 - first) * high + v / length * (1 - high)),
    )


_BODIES: dict[str, Callable[..., fields.Field]] = {
    "sphere": fields.sphere, "box": lambda *half: fields.box(half), "torus": fields.torus, "cylinder": fields.cylinder,
    "capsule": fields.capsule, "plane": fields.plane,
}  # fmt: skip


class Body(nn.Module):
    """The exact distance to a plain body round the origin, negative inside.

    Args:
        shape: ``sphere`` (radius), ``box`` (three half sides), ``torus`` (ring and tube radius, round z), ``cylinder``
            (radius and half height, along z), ``capsule`` (radius and half length of its axis, along z) or ``plane``
            (z below 0; no size).
        sizes: as named there.
    Raises:
        ValueError: no such body, or not its sizes.
    """

    kind: ClassVar[str] = "body"
    SIZES: ClassVar[dict[str, int]] = {"sphere": 1, "box": 3, "torus": 2, "cylinder": 2, "capsule": 2, "plane": 0}

    def __init__(self, shape: str, sizes: Sequence[float] = ()) -> None:
        super().__init__()
        if self.SIZES.get(shape) != len(sizes) or any(size <= 0 for size in sizes):
            raise ValueError(f"{shape!r} with the sizes {list(sizes)} is no body")
        self.shape, self.sizes = shape, [float(size) for size in sizes]
        self.config: dict[str, Any] = {"shape": shape, "sizes": self.sizes}
        self._distance = _BODIES[shape](*self.sizes)
        self.held = nn.Parameter(torch.zeros(1), requires_grad=False)  # says on which device it is

    def forward(self, points: Tensor) -> Tensor:
        """(N, 3) → (N,)"""
        return self._distance(points)
