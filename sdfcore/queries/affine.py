"""Affine arithmetic: what a computation gives for all points of a region at once, and never less than it gives.

A number that depends on the point is written base + Σₖ coefₖ sₖ + e, where the sₖ in [-1, 1] name the point, the same
in all numbers, and e is anything of at most err. So what depends on the same point cancels where it should; interval
arithmetic, which keeps err alone, does not. Source: Comba & Stolfi 1993; for networks Sharp & Jacobson 2022 (Spelunking
the Deep), sec. 3 and 4. An error passes a line of slope α as |α| err, whatever its sign.

Sound on this machine, too: every step widens err by what rounding can do to the form itself and to the network when it
is evaluated in the same precision, in any order of summation (Higham 2002, sec. 3.1). The elementary functions are
taken to be right to four units in the last place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

Kind = Literal["interval", "fixed", "truncate", "append"]


@dataclass(frozen=True)
class Arithmetic:
    """What is remembered of how numbers depend on one another.

    Args:
        kind: ``interval``: nothing. ``fixed``: how they depend on the point, and on what grids' features are beside
            their linear part; what activations bend away joins err. ``append``: that, too, as a symbol of its own:
            tightest, and dear. ``truncate``: of these those that weigh most.
        most: symbols kept by ``truncate``, the point's own included.
    """

    kind: Kind = "fixed"
    most: int = 32


class Curve(Protocol):
    """A function of one number that forms can pass; all in float64.

    One that knows its best line in closed form has ``line(low, high)``, as :func:`_line`, in the forms' own precision.
    """

    @property
    def wavy(self) -> bool:
        """Whether it may rise and fall again within an interval, where a secant says little."""
        ...

    @property
    def steepest(self) -> float:
        """No slope is steeper."""
        ...

    def noise(self, unit: float) -> float:
        """The most that an evaluation with roundings of ``unit`` errs beside eight of them on argument and result."""
        ...

    def value(self, z: Tensor) -> Tensor: ...

    def slope(self, z: Tensor) -> Tensor: ...

    def critical(self, alpha: Tensor, low: Tensor, high: Tensor) -> list[Tensor]:
        """Points of [low, high], among them the extremes of value(z) - alpha z that lie inside; the shapes agree."""
        ...


@dataclass(frozen=True)
class Form:
    """Numbers (B, C): for each of B regions C of them.

    Forms of one region are told apart by their order: of two, the symbols of the shorter are the first of the longer.

    Args:
        base: (B, C). coef: (K, B, C). err: (B, C), not negative.
        inputs: how many symbols, the first ones, are the point's own.
    """

    base: Tensor
    coef: Tensor
    err: Tensor
    inputs: int

    @classmethod
    def of_spans(cls, centre: Tensor, spans: Tensor) -> Form:
        """All points ``centre`` (B, 3) + Σₖ sₖ ``spans`` (B, K, 3), and what a few roundings make of them."""
        form = cls(centre, spans.transpose(0, 1), torch.zeros_like(centre), spans.shape[1])
        return form.widened(8 * unit_of(centre.dtype) * form.magnitude())

    @classmethod
    def of_box(cls, lower: Tensor, upper: Tensor) -> Form:
        """All points between ``lower`` (B, 3) and ``upper`` (B, 3)."""
        return cls.of_spans((lower + upper) / 2, torch.diag_embed((upper - lower) / 2))

    @classmethod
    def between(cls, low: Tensor, high: Tensor) -> Form:
        """Any numbers from ``low`` (B, C) to ``high`` (B, C)."""
        base = (low + high) / 2
        form = cls(base, base.new_zeros(0, *base.shape), (high - low).clamp(min=0) / 2, 0)
        return form.widened(4 * unit_of(base.dtype) * form.magnitude())

    @property
    def symbols(self) -> int:
        return self.coef.shape[0]

    def magnitude(self) -> Tensor:
        """(B, C) no number is larger."""
        return self.base.abs() + self.coef.abs().sum(dim=0) + self.err

    def bounds(self) -> tuple[Tensor, Tensor]:
        """(B, C) least and largest."""
        reach = self.coef.abs().sum(dim=0) + self.err
        reach = reach + 2 * _gamma(self.symbols + 3, reach.dtype) * (reach + self.base.abs())
        return self.base - reach, self.base + reach

    def widened(self, by: Tensor) -> Form:
        """The same numbers, and ``by`` (B, C) more error."""
        return replace(self, err=(self.err + by) * (1 + 4 * unit_of(self.err.dtype)))

    def forgotten(self) -> Form:
        """The same numbers, not knowing what they depend on: intervals."""
        err = (self.coef.abs().sum(dim=0) + self.err) * (1 + 2 * _gamma(self.symbols + 2, self.err.dtype))
        return Form(self.base, self.coef[:0], err, 0)

    def linear(self, weight: Tensor, bias: Tensor | None = None, slack: int = 0) -> Form:
        """``weight`` (O, C) and ``bias`` (O,) applied, as a network's layer does.

        Args:
            slack: roundings of each product beyond its own.
        """
        wide, size = weight.abs().T, self.magnitude()
        shift = torch.zeros_like(weight[:, 0]) if bias is None else bias
        rounding = _gamma(weight.shape[1] + self.symbols + 4 + slack, self.base.dtype)
        err = (self.err @ wide + 2 * rounding * (size @ wide + shift.abs())) * (1 + 4 * rounding)
        return replace(self, base=self.base @ weight.T + shift, coef=self.coef @ weight.T, err=err)

    def through(self, curve: Curve, arithmetic: Arithmetic) -> Form:
        """A function of each number: the line that follows it best, and how far it bends away from that."""
        alpha, beta, delta = _line(curve, *self.bounds())
        err = _slanted(alpha, self.err) + delta
        made = replace(self, base=alpha * self.base + beta, coef=alpha * self.coef, err=err)
        unit = unit_of(self.base.dtype)
        rounding = 8 * unit * (curve.steepest * self.magnitude() + made.magnitude() + beta.abs())
        return made.widened(rounding + curve.noise(unit))._told_apart(arithmetic)

    def scaled(self, by: Tensor | float) -> Form:
        """Multiplied by constants, (C,) or one for all."""
        factor = torch.as_tensor(by, dtype=self.base.dtype, device=self.base.device)
        form = replace(self, base=self.base * factor, coef=self.coef * factor, err=self.err * factor.abs())
        return form.widened(4 * unit_of(factor.dtype) * form.magnitude())

    def shifted(self, by: Tensor | float) -> Form:
        """Plus constants, (C,) or one for all."""
        form = replace(self, base=self.base + by)
        return form.widened(2 * unit_of(self.base.dtype) * (form.base.abs() + self.base.abs()))

    def plus(self, other: Form, sign: float = 1.0) -> Form:
        """The sums, or with ``sign`` -1 the differences, number by number."""
        a, b = _aligned(self, other)
        form = replace(a, base=a.base + sign * b.base, coef=a.coef + sign * b.coef, err=a.err + b.err)
        return form.widened(4 * unit_of(form.base.dtype) * (a.magnitude() + b.magnitude()))

    def times(self, other: Form, arithmetic: Arithmetic) -> Form:
        """The products, number by number."""
        a, b = _aligned(self, other)
        reach_a, reach_b = a.coef.abs().sum(dim=0), b.coef.abs().sum(dim=0)
        carried = (a.base.abs() + reach_a) * b.err + (b.base.abs() + reach_b) * a.err + a.err * b.err
        made = replace(a, base=a.base * b.base, coef=a.base * b.coef + b.base * a.coef, err=carried + reach_a * reach_b)
        rounding = 4 * _gamma(a.symbols + 8, a.base.dtype) * a.magnitude() * b.magnitude()
        return made.widened(rounding)._told_apart(arithmetic)

    def own(self) -> Form:
        """With the point's own symbols alone, the rest as error: so forms of other fields go with it."""
        bent = self.coef[self.inputs :]
        form = replace(self, coef=self.coef[: self.inputs])
        return form.widened(bent.abs().sum(dim=0) * (1 + 2 * _gamma(len(bent) + 1, bent.dtype)))

    def where(self, rows: Tensor, other: Form) -> Form:
        """In the regions ``rows`` (B,) bool these numbers, else those of ``other``; of both what is :meth:`own`."""
        a, b = _aligned(self.own(), other.own())
        pick = rows[:, None]
        return Form(
            torch.where(pick, a.base, b.base),
            torch.where(pick, a.coef, b.coef),
            torch.where(pick, a.err, b.err),
            a.inputs,
        )

    def picked(self, columns: slice) -> Form:
        """Some of the numbers."""
        return replace(self, base=self.base[:, columns], coef=self.coef[:, :, columns], err=self.err[:, columns])

    def cut(self, arithmetic: Arithmetic) -> Form:
        """Of the symbols that are not the point's own only those that weigh most, where the arithmetic says so.

        What is kept is another choice in every region, so forms made before and after do not go together.
        """
        if arithmetic.kind != "truncate" or self.symbols <= max(arithmetic.most, self.inputs):
            return self
        own, made = self.coef[: self.inputs], self.coef[self.inputs :]
        most = arithmetic.most - self.inputs
        order = made.abs().sum(dim=2).argsort(dim=0, descending=True)
        made = made.gather(0, order[:, :, None].expand_as(made))
        dropped = made[most:].abs().sum(dim=0) * (1 + 2 * _gamma(len(made), made.dtype))
        return replace(self, coef=torch.cat([own, made[:most]])).widened(dropped)

    def _told_apart(self, arithmetic: Arithmetic) -> Form:
        """With the error as symbols, where the arithmetic remembers it."""
        return self.told_apart() if arithmetic.kind in ("append", "truncate") else self

    def told_apart(self) -> Form:
        """With each number's error as a symbol of its own, so that it cancels where it should."""
        own = torch.diag_embed(self.err).permute(1, 0, 2)
        return replace(self, coef=torch.cat([self.coef, own]), err=torch.zeros_like(self.err))


def joined(*forms: Form) -> Form:
    """Their numbers side by side."""
    symbols = max(form.symbols for form in forms)
    grown = [_grown(form, symbols) for form in forms]
    return Form(
        torch.cat([form.base for form in grown], dim=1),
        torch.cat([form.coef for form in grown], dim=2),
        torch.cat([form.err for form in grown], dim=1),
        max(form.inputs for form in forms),
    )


def unit_of(dtype: torch.dtype) -> float:
    """The most that one rounding changes a number of this type, as a part of it."""
    return torch.finfo(dtype).eps / 2


def _gamma(count: int, dtype: torch.dtype) -> float:
    """The most that ``count`` roundings one after another change, as a part (Higham 2002, lemma 3.1)."""
    moved = count * unit_of(dtype)
    return moved / (1 - moved)


def _grown(form: Form, symbols: int) -> Form:
    missing = symbols - form.symbols
    if not missing:
        return form
    zeros = form.coef.new_zeros(missing, *form.coef.shape[1:])
    return replace(form, coef=torch.cat([form.coef, zeros]))


def _aligned(a: Form, b: Form) -> tuple[Form, Form]:
    symbols, inputs = max(a.symbols, b.symbols), max(a.inputs, b.inputs)
    return replace(_grown(a, symbols), inputs=inputs), replace(_grown(b, symbols), inputs=inputs)


def _slanted(alpha: Tensor, err: Tensor) -> Tensor:
    """What an error becomes on a line: a falling one turns it over, and does not make it smaller than nothing."""
    return alpha.abs() * err


def _line(curve: Curve, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Slope, shift and error of a line that follows ``curve`` on [low, high], in their dtype.

    The secant; of a wave, whose secant says little, a level line where that has the smaller error.
    """
    own = getattr(curve, "line", None)
    if own is not None:
        alpha, beta, delta = own(low, high)
        return alpha, beta, delta
    z, y = low.double(), high.double()
    width = y - z
    rise = curve.value(y) - curve.value(z)
    steep = torch.where(width > 1e-12, rise / width.clamp(min=1e-12), curve.slope((z + y) / 2))
    steep = steep.clamp(-curve.steepest, curve.steepest)
    alpha, beta, delta = _spread(curve, steep, z, y, low.dtype)
    if curve.wavy:
        _, level, apart = _spread(curve, torch.zeros_like(steep), z, y, low.dtype)
        flat = apart < delta
        alpha, beta = torch.where(flat, 0, alpha), torch.where(flat, level, beta)
        delta = torch.where(flat, apart, delta)
    narrow = beta.to(low.dtype)
    delta = delta + (beta - narrow.double()).abs()
    return alpha.to(low.dtype), narrow, (delta * (1 + 1e-6) + 1e-30).to(low.dtype)


def _spread(
    curve: Curve, alpha: Tensor, low: Tensor, high: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """``alpha`` as the form will use it, and middle and half of what value(z) - alpha z spans on [low, high]."""
    alpha = alpha.to(dtype).double()
    points = torch.stack([low, high, *curve.critical(alpha, low, high)])
    apart = curve.value(points) - alpha * points
    least, most = apart.amin(dim=0), apart.amax(dim=0)
    slack = 1e-12 * (1 + curve.steepest * points.abs().amax(dim=0))
    return alpha, (least + most) / 2, (most - least) / 2 + slack
