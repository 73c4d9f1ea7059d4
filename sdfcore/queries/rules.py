"""How each network is evaluated on forms: one rule a kind, in the order of its own ``forward``. No rule, no bound."""

from __future__ import annotations

import math
from functools import singledispatch
from typing import cast

import torch
from torch import Tensor, nn

from ..errors import UnsupportedLayerError
from ..networks.combined import Body, Boxed, Combined, Offset, Placed, blended
from ..networks.deepsdf import DeepSDF
from ..networks.displaced import Displaced
from ..networks.fourier import FourierMLP
from ..networks.grid import FeatureGrid
from ..networks.hashed import HashGrid
from ..networks.layers import Octaves, linears
from ..networks.lipschitz import Contraction, Lipschitz
from ..networks.mended import Mended
from ..networks.mlp import MLP
from ..networks.siren import Siren
from ..networks.sphere_siren import Quadratic, SphereSiren
from ..networks.turned import Turned
from . import features
from .affine import Arithmetic, Form, joined, unit_of
from .curves import ReLUCurve, SineCurve, TanhCurve, curve_of

_WAVE = SineCurve(1.0)


@singledispatch
def values(network: nn.Module, points: Form, arithmetic: Arithmetic) -> Form:
    """The form (B, 1) of a network's value for ``points`` (B, 3).

    Raises:
        UnsupportedLayerError: there is no rule for this kind of network, or for a layer of it.
    """
    raise UnsupportedLayerError(
        f"There is no rule for the range of {type(network).__name__}.",
        "Fit with another recipe, or decode one shape of the space, to ask for bounds.",
    )


def encoded(encoding: Octaves, points: Form, arithmetic: Arithmetic) -> Form:
    """[x, sin(π 2ᵏ x), cos(π 2ᵏ x)]."""
    if not encoding.count:
        return points
    weight = torch.kron(torch.eye(3).to(encoding.frequencies), encoding.frequencies[:, None])
    return joined(points, *_waves(points.linear(weight), arithmetic))


def _waves(angles: Form, arithmetic: Arithmetic) -> tuple[Form, Form]:
    """Sine and cosine; which of them is bent by what is told apart by the order they are made in."""
    both = joined(angles, angles.shifted(math.pi / 2)).through(_WAVE, arithmetic)
    count = angles.base.shape[1]
    return both.picked(slice(0, count)), both.picked(slice(count, None))


def _layers(h: Form, layers: list[nn.Linear], activation: nn.Module, arithmetic: Arithmetic) -> Form:
    for layer in layers:
        h = h.linear(layer.weight, layer.bias).through(curve_of(activation), arithmetic).cut(arithmetic)
    return h


def _read_out(last: nn.Linear, h: Form) -> Form:
    return h.linear(last.weight, last.bias)


@values.register
def _(network: MLP, points: Form, arithmetic: Arithmetic) -> Form:
    h = x = encoded(network.encoding, points, arithmetic).cut(arithmetic)
    curve = curve_of(cast(nn.Module, network.activation))
    for i, layer in enumerate(linears(network.layers)):
        if i and i == network.skip:
            h = _again(h, x, arithmetic).scaled(1 / math.sqrt(2))
        h = h.linear(layer.weight, layer.bias).through(curve, arithmetic).cut(arithmetic)
    value = _read_out(network.last, h)
    return value if network.final is None else value.through(curve_of(network.final), arithmetic)


def _again(h: Form, x: Form, arithmetic: Arithmetic) -> Form:
    """``h`` and once more the input. After a cut only the point's own symbols still mean the same in both."""
    if arithmetic.kind == "truncate" and x.symbols > x.inputs:
        made = x.coef[x.inputs :].abs().sum(dim=0)
        x = Form(x.base, x.coef[: x.inputs], x.err, x.inputs).widened(made)
    return joined(h, x)


@values.register
def _(network: Siren, points: Form, arithmetic: Arithmetic) -> Form:
    return _read_out(network.last, _layers(points, linears(network.layers), network.activation, arithmetic))


@values.register
def _(network: FourierMLP, points: Form, arithmetic: Arithmetic) -> Form:
    angles = points.linear((2 * math.pi * network.frequencies).T, slack=4)
    h = joined(*_waves(angles, arithmetic)).cut(arithmetic)
    return _read_out(network.last, _layers(h, linears(network.layers), network.activation, arithmetic))


@values.register
def _(network: SphereSiren, points: Form, arithmetic: Arithmetic) -> Form:
    h, curve = points, curve_of(network.activation)
    for layer in network.stages:
        h = _stage(layer, h).through(curve, arithmetic).cut(arithmetic)
    root = _stage(network.last, h).through(curve_of(network.root), arithmetic)
    return root.shifted(-network.radius).scaled(network.scaling)


def _stage(layer: Quadratic | nn.Linear, x: Form) -> Form:
    if not isinstance(layer, Quadratic):
        return _read_out(layer, x)
    product = _read_out(layer.linear, x).times(_read_out(layer.gate, x), _WITHOUT)
    return product.plus(_read_out(layer.square, x.times(x, _WITHOUT)))


_WITHOUT = Arithmetic("fixed")  # products keep their error to themselves: two sums of them would mean the same symbols


@values.register
def _(network: Lipschitz, points: Form, arithmetic: Arithmetic) -> Form:
    pad = points.base.new_zeros(len(points.base), network.width - 3)
    h = joined(points, Form.between(pad, pad))
    for layer in network.layers:
        h = _contracted(cast(Contraction, layer), h, arithmetic).cut(arithmetic)
    return h.linear(network._unit()[None], network.last.bias, slack=network.width)


def _contracted(layer: Contraction, x: Form, arithmetic: Arithmetic) -> Form:
    bent = x.linear(layer.weight.T, layer.bias).through(curve_of(layer.activation), arithmetic)
    return x.plus(bent.scaled(layer.scale()).linear(layer.weight), sign=-1.0)


@values.register
def _(network: DeepSDF, points: Form, arithmetic: Arithmetic) -> Form:
    if len(network.norms):
        raise UnsupportedLayerError(
            "There is no rule for the range of a layer normalisation.", "Fit the shape anew to ask for bounds."
        )
    h = points
    for i, layer in enumerate(linears(network.layers)):
        h = _read_out(layer, _again(h, points, arithmetic) if i in network.again else h)
        if i + 1 < len(network.layers):
            h = h.through(curve_of(cast(nn.Module, network.activation)), arithmetic).cut(arithmetic)
    for _ in range(network.squashes):
        h = h.through(TanhCurve(), arithmetic)
    return h


@values.register
def _(network: Turned, points: Form, arithmetic: Arithmetic) -> Form:
    return values(network.inner, points.linear(network.rotation), arithmetic)


@values.register
def _(network: Mended, points: Form, arithmetic: Arithmetic) -> Form:
    form, (low, high) = values(network.inner, points, arithmetic), points.bounds()
    for centre, radius, height in zip(network.centres, network.radii, network.heights, strict=True):
        form = form.plus(Form.between(*_bump(low - centre, high - centre, radius, height)))
    return form


def _bump(low: Tensor, high: Tensor, radius: Tensor, height: Tensor) -> tuple[Tensor, Tensor]:
    """Least and most (B, 1) of a bump over boxes from ``low`` to ``high`` (B, 3), seen from its centre."""
    far = torch.maximum(low.abs(), high.abs()).square().sum(dim=1, keepdim=True)
    near = torch.where((low <= 0) & (high >= 0), 0.0, torch.minimum(low.abs(), high.abs()))
    ends = torch.stack([far, near.square().sum(dim=1, keepdim=True)])
    along = (4 / 3 * (1 - ends / radius**2)).clamp(0, 1)
    shifts = height * along.square() * (3 - 2 * along)
    rounding = height.abs() * torch.finfo(low.dtype).eps * (64 + 16 / radius)  # of a place, as a share of the radius
    return shifts.amin(dim=0) - rounding, shifts.amax(dim=0) + rounding


@values.register
def _(network: FeatureGrid, points: Form, arithmetic: Arithmetic) -> Form:
    found = _featured(features.of_grid(network, points), arithmetic)
    h = _layers(joined(points, found), linears(network.layers), network.activation, arithmetic)
    return _read_out(network.last, h).plus(found.linear(network.linear.weight))


def _featured(found: Form, arithmetic: Arithmetic) -> Form:
    """All units hear the same features: what these err by is told apart, which makes bounds up to ten times tighter.

    Not where symbols are cut on the way, as what is read out beside the layers would not go with them any more.
    """
    return found.told_apart() if arithmetic.kind in ("fixed", "append") else found


@values.register
def _(network: HashGrid, points: Form, arithmetic: Arithmetic) -> Form:
    h = joined(points, _featured(features.of_hash(network, points), arithmetic))
    return _read_out(network.last, _layers(h, linears(network.layers), network.activation, arithmetic))


@values.register
def _(network: Displaced, points: Form, arithmetic: Arithmetic) -> Form:
    """The base somewhere within the farthest displacement, which is less where the base is far from its surface."""
    low, high = values(network.base, points, arithmetic).bounds()
    nearest = torch.where((low <= 0) & (high >= 0), 0.0, torch.minimum(low.abs(), high.abs()))
    farthest = abs(network.amplitude) / (1 + (nearest / network.reach) ** 4) * (1 + 64 * unit_of(low.dtype))
    moved = points.own().widened(farthest + 8 * unit_of(low.dtype) * (points.magnitude() + farthest))
    return values(network.base, moved, arithmetic)


# Fields made of fields ----------------------------------------------------------------------------------------------


@values.register
def _(network: Placed, points: Form, arithmetic: Arithmetic) -> Form:
    inside = points.shifted(-network.shift).linear(network.rotation.T).scaled(1 / network.scale)
    return values(network.inner, inside, arithmetic).scaled(network.scale)


@values.register
def _(network: Boxed, points: Form, arithmetic: Arithmetic) -> Form:
    """As the inner network inside its box; of a region that reaches out of it only the range is known."""
    low, high = points.bounds()
    lower, upper = network.lower, network.upper
    within = ((low >= lower) & (high <= upper)).all(dim=1)
    near_low, near_high = (torch.minimum(torch.maximum(end, lower), upper) for end in (low, high))
    least, most = values(network.inner, Form.of_box(near_low, near_high), arithmetic).bounds()
    nearest = torch.maximum(lower - high, low - upper).clamp(min=0).norm(dim=1, keepdim=True)
    farthest = torch.maximum(lower - low, high - upper).clamp(min=0).norm(dim=1, keepdim=True)
    touches = ((high >= lower) & (low <= upper)).all(dim=1, keepdim=True)
    rounding = 16 * unit_of(low.dtype) * (farthest + most.abs())
    outer = Form.between(
        torch.where(touches, least, least.clamp(min=0) + nearest) - rounding, most.clamp(min=0) + farthest + rounding
    )
    return values(network.inner, points, arithmetic).where(within, outer)


@values.register
def _(network: Offset, points: Form, arithmetic: Arithmetic) -> Form:
    value = values(network.inner, points, arithmetic).shifted(-network.distance)
    return value.through(ReLUCurve(-1.0), arithmetic).shifted(-network.wall / 2) if network.wall else value


@values.register
def _(network: Combined, points: Form, arithmetic: Arithmetic) -> Form:
    found = [values(part, points, arithmetic).own() for part in network.parts]
    if network.operation == "morph":
        return found[0].scaled(1 - network.share).plus(found[1].scaled(network.share))
    outer = 1.0 if network.operation == "union" else -1.0
    inner = -1.0 if network.operation == "intersection" else 1.0
    form = found[0].scaled(outer)
    for other in found[1:]:
        form = _least(form, other.scaled(inner), network.radius, network.style)
    return form.scaled(outer)


def _least(a: Form, b: Form, radius: float, style: str) -> Form:
    """A blended minimum: it never falls where one of both rises, so its ends are those of theirs."""
    (a_low, a_high), (b_low, b_high) = a.bounds(), b.bounds()
    low, high = blended(a_low, b_low, radius, style)[0], blended(a_high, b_high, radius, style)[0]
    rounding = 16 * unit_of(low.dtype) * (a.magnitude() + b.magnitude() + radius)
    both = Form.between(low - rounding, high + rounding)
    if radius > 0 and style != "smooth":
        return both
    only_a, only_b = (a_high + radius < b_low)[:, 0], (b_high + radius < a_low)[:, 0]
    return a.where(only_a, b.where(only_b, both))


@values.register
def _(network: Body, points: Form, arithmetic: Arithmetic) -> Form:
    """An exact distance: its value in the middle, and how far it is from there."""
    low, high = points.bounds()
    centre = (low + high) / 2
    value = network(centre)[:, None]
    reach = torch.maximum(high - centre, centre - low).norm(dim=1, keepdim=True)
    size = centre.norm(dim=1, keepdim=True) + sum(network.sizes) + reach
    rounding = 32 * unit_of(low.dtype) * size
    return Form.between(value - reach - rounding, value + reach + rounding)
