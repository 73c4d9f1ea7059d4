"""Bounds: what a field can be in a region, for certain."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import UnsupportedLayerError
from ..fields import NeuralSDF
from ..networks.lipschitz import Contraction, Lipschitz
from . import rules
from .affine import Arithmetic, Form, unit_of

_AT_ONCE = 1 << 18  # boxes whose spans are held at once
_CHUNK = 4096  # regions at once: their forms stay within a processor's caches
_SINGLE = 2e-5  # of values about 1: what single precision changes them by
_VAGUE = 1e-3  # of the unit box
_ROUNDED = 1e-5  # of a slope that is 1 by construction: what float32 makes of the construction


class Bound(Protocol):
    """Least and most of a field over regions, never less than they are; all that a query needs to know of a field."""

    def __call__(self, centre: Tensor, spans: Tensor) -> tuple[Tensor, Tensor]:
        """Least (B,) and most (B,) for all points ``centre`` (B, 3) + Σₖ sₖ ``spans`` (B, K, 3), -1 ≤ sₖ ≤ 1."""
        ...


class Slabs(Bound, Protocol):
    """A bound that also knows between which two planes the field's graph lies."""

    def planes(self, centre: Tensor, spans: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Base (B,), slopes (B, K) and error (B,): the field is base + Σₖ slopeₖ sₖ, give or take the error."""
        ...


def over_boxes(bound: Bound, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Least (B,) and most (B,) in the boxes from ``lower`` (B, 3) to ``upper`` (B, 3)."""
    parts = zip(lower.split(_AT_ONCE), upper.split(_AT_ONCE), strict=True)
    ends = [bound((low + high) / 2, torch.diag_embed((high - low) / 2)) for low, high in parts]
    least, most = (torch.cat(side) for side in zip(*ends, strict=True))
    return least, most


@dataclass(frozen=True)
class RangeBound:
    """Of a network, by affine arithmetic.

    Args:
        network: (N, 3) → (N,), of a kind that has a rule, in evaluation mode.
        arithmetic: how much it remembers of what depends on what.
    Raises:
        UnsupportedLayerError: when asked of a network without a rule.
    """

    network: nn.Module
    arithmetic: Arithmetic = field(default_factory=Arithmetic)

    def __call__(self, centre: Tensor, spans: Tensor) -> tuple[Tensor, Tensor]:
        found = [form.bounds() for form in self._forms(centre, spans)]
        least, most = zip(*found, strict=True)
        return torch.cat(least)[:, 0], torch.cat(most)[:, 0]

    def planes(self, centre: Tensor, spans: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As :class:`Slabs`; what the arithmetic remembers beside the point is error here."""
        count, found = spans.shape[1], self._forms(centre, spans)
        own = [form.inputs for form in found]
        rest = [form.err + form.coef[n:].abs().sum(dim=0) for form, n in zip(found, own, strict=True)]
        slack = 4 * (count + max(form.symbols for form in found)) * unit_of(centre.dtype)
        err = torch.cat(rest) + slack * torch.cat([form.magnitude() for form in found])
        known = [form.coef[:n, :, 0].T for form, n in zip(found, own, strict=True)]  # of all spans, or of none
        slopes = torch.cat([functional.pad(slope, (0, count - slope.shape[1])) for slope in known])
        return torch.cat([form.base for form in found])[:, 0], slopes, err[:, 0]

    def _forms(self, centre: Tensor, spans: Tensor) -> list[Form]:
        """The values' forms (b, 1), so many regions at once; one of none where there are none."""
        return [self._of(*part) for part in zip(centre.split(_CHUNK), spans.split(_CHUNK), strict=True)]

    def _of(self, centre: Tensor, spans: Tensor) -> Form:
        with torch.no_grad():
            points = Form.of_spans(centre, spans)
            if self.arithmetic.kind == "interval":
                points = points.forgotten()
            return rules.values(self.network, points, self.arithmetic)


@dataclass(frozen=True)
class PreciseBound:
    """Of a wide or deep network, computed in double precision.

    What single precision may do at worst to sums over hundreds of units, layer after layer, is more than what such a
    network can be at all: its bounds would say nothing. This one is of the function that the weights define. What a
    network in single precision gives instead differs by less than ``_SINGLE``, as measured, not proved; it is added.

    Args:
        inner: of the network in double precision.
    """

    inner: RangeBound

    def __call__(self, centre: Tensor, spans: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self.inner(centre.double(), spans.double())
        slack = _SINGLE * (1 + torch.maximum(low.abs(), high.abs()))
        return (low - slack).to(centre.dtype), (high + slack).to(centre.dtype)

    def planes(self, centre: Tensor, spans: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        base, slopes, err = self.inner.planes(centre.double(), spans.double())
        err = err + _SINGLE * (1 + base.abs() + slopes.abs().sum(dim=1))
        return base.to(centre.dtype), slopes.to(centre.dtype), err.to(centre.dtype)


@dataclass(frozen=True)
class LipschitzBound:
    """Of a network whose slope is nowhere above 1: its value in the middle, and what it can change by from there."""

    network: Lipschitz

    def __call__(self, centre: Tensor, spans: Tensor) -> tuple[Tensor, Tensor]:
        ends = [self._of(*part) for part in zip(centre.split(_CHUNK), spans.split(_CHUNK), strict=True)]
        low, high = zip(*ends, strict=True)
        return torch.cat(low), torch.cat(high)

    def _of(self, centre: Tensor, spans: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            value, error = _evaluated(self.network, centre)
        reach = spans.norm(dim=2).sum(dim=1) if spans.shape[1] != 3 else _farthest(spans)
        reach = (1 + _ROUNDED) * (reach + 8 * unit_of(centre.dtype) * centre.norm(dim=1)) + 2 * error  # of either value
        return value - reach, value + reach


def _evaluated(network: Lipschitz, points: Tensor) -> tuple[Tensor, Tensor]:
    """Values (N,) and the most that rounding has changed them by, (N,): no layer makes an error before it longer.

    Of each layer the error of its own sums (Higham 2002, sec. 3.5) as a vector, by its length.
    """
    part = (network.width + 8) * unit_of(points.dtype)
    h = functional.pad(points, (0, network.width - 3))
    error = points.new_zeros(len(points))
    for layer in (cast(Contraction, each) for each in network.layers):
        wide, bent = layer.weight.abs(), layer.activation(h @ layer.weight + layer.bias).abs() * layer.scale()
        sums = (h.abs() @ wide + layer.bias.abs()) * layer.scale()
        error = error + part * (h.abs() + (sums + bent) @ wide.T).norm(dim=1)
        h = layer(h)
    last = h.norm(dim=1) + network.last.bias.abs()
    return h @ network._unit() + network.last.bias, (error + part * last) * (1 + part)


def _farthest(spans: Tensor) -> Tensor:
    """(B,) of the corners ± a ± b ± c the farthest from the middle."""
    a, b, c = spans.unbind(dim=1)
    corners = torch.stack([a + b + c, a + b - c, a - b + c, a - b - c])
    return corners.norm(dim=2).amax(dim=0)


@dataclass(frozen=True)
class BestOf:
    """The best that several bounds of one field know; ``first`` knows planes, too."""

    first: Slabs
    others: tuple[Bound, ...]

    def __call__(self, centre: Tensor, spans: Tensor) -> tuple[Tensor, Tensor]:
        least, most = zip(*(bound(centre, spans) for bound in (self.first, *self.others)), strict=True)
        return torch.stack(least).amax(dim=0), torch.stack(most).amin(dim=0)

    def planes(self, centre: Tensor, spans: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.first.planes(centre, spans)


@dataclass(frozen=True)
class WorldBound:
    """Of a fitted shape in world units, by a bound of its network in the unit box."""

    sdf: NeuralSDF
    unit: Slabs

    def __call__(self, centre: Tensor, spans: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self.unit(*self._inner(centre, spans))
        return low.to(centre.dtype) * self.sdf.frame.scale, high.to(centre.dtype) * self.sdf.frame.scale

    def planes(self, centre: Tensor, spans: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        base, slopes, err = self.unit.planes(*self._inner(centre, spans))
        scale = self.sdf.frame.scale
        return base.to(centre.dtype) * scale, slopes.to(centre.dtype) * scale, err.to(centre.dtype) * scale

    def _inner(self, centre: Tensor, spans: Tensor) -> tuple[Tensor, Tensor]:
        """In the unit box, as the shape itself finds its place there; the bound counts the rounding."""
        scale = self.sdf.frame.scale
        middle = torch.as_tensor(self.sdf.frame.centre.copy(), dtype=torch.float64, device=centre.device)
        return ((centre.double() - middle) / scale).to(torch.float32), (spans.double() / scale).to(torch.float32)


def bound_of(of: NeuralSDF | nn.Module, arithmetic: Arithmetic | None = None) -> Slabs:
    """The best bound there is of a fitted shape, in world units, or of a network, in the unit box.

    Raises:
        UnsupportedLayerError: it has a layer without a rule.
    """
    if isinstance(of, NeuralSDF):
        return WorldBound(of, bound_of(of.network, arithmetic))
    if not isinstance(of, nn.Module):
        raise UnsupportedLayerError(
            f"There is no bound of a {type(of).__name__}.", "Ask of a fitted shape, or of a network of this package."
        )
    ranged = RangeBound(of, arithmetic or Arithmetic())
    if isinstance(of, Lipschitz):
        return BestOf(ranged, (LipschitzBound(of),))
    return PreciseBound(replace(ranged, network=copy.deepcopy(of).double())) if _is_vague(ranged) else ranged


def _is_vague(bound: RangeBound) -> bool:
    """Whether rounding alone leaves much open: at single points."""
    first = next(itertools.chain(bound.network.parameters(), bound.network.buffers()), None)
    if first is None or first.dtype != torch.float32 or first.device.type == "mps":
        return False
    points = torch.linspace(-0.5, 0.5, 8, device=first.device)[:, None].expand(8, 3)
    low, high = bound(points, points.new_zeros(8, 1, 3))
    return not float((high - low).max()) <= _VAGUE
