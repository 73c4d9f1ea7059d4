"""A shape space: one network, a code for every shape, and what can be done between the codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from ..errors import InputError
from ..fields import NeuralSDF
from ..geometry import Array, Box, Frame
from ..networks.coded import Decoder
from .codes import encoded


@dataclass(frozen=True, eq=False)
class Latent:
    """A shape as the space knows it: its code, and where it stands in the world.

    Args:
        code: (L,) float32.
        frame: world ↔ the unit box in which the network draws it.
        box: of the shape, in the unit box.
        name: of a learned shape; else what it came from, or nothing.
    """

    code: Array
    frame: Frame
    box: Box
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "code", np.ascontiguousarray(self.code, dtype=np.float32).reshape(-1))


def mix(latents: Sequence[Latent], weights: Sequence[float], name: str = "") -> Latent:
    """The weighted mean of shapes: codes, scales and places alike. A single weight of 1 gives that shape exactly.

    Args:
        weights: one per shape; they are divided by their sum, and those beyond [0, 1] extrapolate.
    Raises:
        InputError: the numbers do not match, sum to 0, or turn a scale negative.
    """
    share = np.asarray(weights, dtype=np.float64)
    if len(latents) == 0 or share.shape != (len(latents),) or not np.isfinite(share).all():
        raise InputError(f"{len(latents)} shapes cannot be mixed by {len(share)} weights.", "Give a weight per shape.")
    if abs(share.sum()) < 1e-9:
        raise InputError("The weights of the blend sum to zero.", "Raise one of them.")
    share = share / share.sum()
    mean = lambda values: np.einsum("s,s...->...", share, np.asarray(values, dtype=np.float64))
    scale = float(mean([shape.frame.scale for shape in latents]))
    if scale <= 0:
        raise InputError("The blend is so far outside its shapes that nothing is left of it.", "Lower the weights.")
    lower, upper = mean([s.box.lower for s in latents]), mean([s.box.upper for s in latents])
    frame = Frame(mean([s.frame.centre for s in latents]), scale)
    return Latent(mean([s.code for s in latents]), frame, Box(np.minimum(lower, upper), np.maximum(lower, upper)), name)


def interpolate(a: Latent, b: Latent, t: float, *, spherical: bool = False) -> Latent:
    """The shape at ``t`` from ``a`` (0) to ``b`` (1).

    Args:
        spherical: along the arc between the codes' directions, lengths in between (Shoemake 1985): codes of a high
            dimension lie near a sphere, and a straight line cuts through its less used inside.
    """
    found = mix([a, b], [1 - t, t])
    return replace(found, code=_slerp(a.code, b.code, t)) if spherical else found


def _slerp(a: Array, b: Array, t: float) -> Array:
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    straight = (1 - t) * a.astype(np.float64) + t * b.astype(np.float64)
    if t in (0.0, 1.0) or min(lengths) < 1e-12:
        return straight
    angle = float(np.arccos(np.clip(a @ b / (lengths[0] * lengths[1]), -1, 1)))
    if np.sin(angle) < 1e-6:
        return straight
    direction = (np.sin((1 - t) * angle) * a / lengths[0] + np.sin(t * angle) * b / lengths[1]) / np.sin(angle)
    return direction * ((1 - t) * lengths[0] + t * lengths[1])


def along(stops: Sequence[Latent], t: float, *, spherical: bool = False) -> Latent:
    """The shape at ``t`` on the way from the first stop (0) to the last (1) through all of them, evenly spaced."""
    if not stops:
        raise InputError("A path needs shapes.", "Name at least one.")
    return _at(stops, t * (len(stops) - 1), spherical)


def _at(stops: Sequence[Latent], place: float, spherical: bool) -> Latent:
    """The shape at ``place``, where stop k is at k."""
    if len(stops) == 1:
        return stops[0]
    leg = min(max(int(place), 0), len(stops) - 2)
    return interpolate(stops[leg], stops[leg + 1], place - leg, spherical=spherical)


def path(stops: Sequence[Latent], frames: int, *, spherical: bool = False) -> list[Latent]:
    """``frames`` shapes along the way through all ``stops``, the first and the last included.

    Raises:
        InputError: fewer than two stops or frames.
    """
    if len(stops) < 2 or frames < 2:
        raise InputError("A path needs at least two shapes and two frames.", "Name another shape.")
    return [_at(stops, step * (len(stops) - 1) / (frames - 1), spherical) for step in range(frames)]


@dataclass(frozen=True, eq=False)
class Directions:
    """Principal directions of the learned codes.

    Args:
        mean: (L,) of the codes. axes: (K, L) of length one, the widest first. deviations: (K,) of the codes along them.
        explained: (K,) share of the variance.
    """

    mean: Array
    axes: Array
    deviations: Array
    explained: Array


@dataclass(eq=False)
class Space:
    """A learned family of shapes.

    Args:
        network: a coded network (``kind``, ``config``, ``at``), frozen.
        shapes: those it was learned from, in order; their names differ.
        encoder: points → code in one pass, or ``None``.
        info: JSON values that say how it came about.
    """

    network: nn.Module
    shapes: list[Latent]
    encoder: nn.Module | None = None
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        twice = {name for name, count in Counter(self.names).items() if count > 1}
        if twice:
            raise InputError(f"Two shapes are called {min(twice)!r}.", "Give every shape a name of its own.")

    @property
    def names(self) -> list[str]:
        return [shape.name for shape in self.shapes]

    def __len__(self) -> int:
        return len(self.shapes)

    def __iter__(self) -> Iterator[Latent]:
        return iter(self.shapes)

    def __getitem__(self, name: str) -> Latent:
        """The learned shape of this name.

        Raises:
            InputError: there is none.
        """
        for shape in self.shapes:
            if shape.name == name:
                return shape
        some = ", ".join(self.names[:8]) + (", …" if len(self) > 8 else "")
        raise InputError(f"The space has no shape {name!r}.", f"It has: {some}.")

    @property
    def decoder(self) -> Decoder:
        return cast(Decoder, self.network)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def codes(self) -> Array:
        """(S, L) float32 of the learned shapes."""
        return np.stack([shape.code for shape in self.shapes])

    def decode(self, latent: Latent) -> NeuralSDF:
        """The field of ``latent`` in world units: a shape like a fitted one, to be meshed, saved, asked."""
        code = torch.as_tensor(latent.code.copy(), device=self.device)
        if code.shape != (self.decoder.code_size,):
            raise InputError(
                f"A code of length {len(code)} does not fit this space, whose codes have {self.decoder.code_size}.",
                "Take a code of this space.",
            )
        info = {
            "recipe": self.info.get("recipe", "auto"), "preset": self.info.get("preset", "balanced"),
            "space": self.info.get("title", ""), "shape": latent.name, "smallest_part": SMALLEST_PART,
        }  # fmt: skip
        return NeuralSDF(self.decoder.at(code).requires_grad_(False), latent.frame, latent.box, info)

    def encode(self, points: Array, frame: Frame | None = None, name: str = "") -> Latent:
        """The shape that the encoder takes ``points`` for, in one pass; ``Infer`` comes nearer, in many.

        Args:
            points: (N, 3) of the whole surface, world units. frame: their unit box; by default as the space's shapes
                have theirs.
        Raises:
            InputError: the space was learned without an encoder, or the points lie at one place.
        """
        if self.encoder is None:
            raise InputError("The space has no encoder.", "Infer the shape, or learn the space with an encoder.")
        if frame is None:
            frame = self.shapes[0].frame if self.info.get("together") else Frame.around(points)
        unit = frame.to_unit(points)
        return Latent(encoded(self.encoder, unit), frame, Box.around(unit.astype(np.float64)), name)

    def mean(self) -> Latent:
        """The mean of all learned shapes."""
        return mix(self.shapes, [1.0] * len(self), "mean")

    def directions(self, count: int | None = None) -> Directions:
        """Principal directions of the codes, at most one fewer than there are shapes."""
        codes = self.codes.astype(np.float64)
        centre = codes.mean(axis=0)
        _, spread, axes = np.linalg.svd(codes - centre, full_matrices=False)
        kept = min(count or len(spread), max(len(self) - 1, 1), len(spread))
        variance = spread**2 / max(len(self) - 1, 1)
        explained = variance / max(float(variance.sum()), 1e-30)
        return Directions(centre, axes[:kept], np.sqrt(variance[:kept]), explained[:kept])

    def explore(self, amounts: Sequence[float] | Array, name: str = "") -> Latent:
        """The mean shape moved along the first principal directions, by ``amounts`` in standard deviations.

        Scale and place follow as they do, on average, among the learned shapes.
        """
        found = self.directions(max(len(amounts), 1))
        amount = np.asarray(amounts, dtype=np.float64)[: len(found.axes)]
        moved = (amount * found.deviations[: len(amount)]) @ found.axes[: len(amount)]
        # A displacement of the code as a combination of the shapes' own displacements: least squares in their span.
        offsets = self.codes.astype(np.float64) - found.mean
        shares, *_ = np.linalg.lstsq(offsets.T, moved, rcond=1e-6)
        weights = 1 / len(self) + shares - shares.mean()
        placed = mix(self.shapes, _tamed(weights, self.shapes), name)
        return replace(placed, code=found.mean + moved)

    def sample(self, seed: int = 0, spread: float = 1.0, name: str = "") -> Latent:
        """A shape at random: normal along every principal direction, as wide as the learned codes times ``spread``."""
        found = self.directions()
        return self.explore(np.random.default_rng(seed).normal(size=len(found.axes)) * spread, name)

    def nearest(self, latent: Latent) -> str:
        """Name of the learned shape whose code is nearest."""
        return self.names[int(np.linalg.norm(self.codes - latent.code, axis=1).argmin())]


SMALLEST_PART = 0.02  # of the largest part's area: less is a stray piece of an in-between


def _tamed(weights: Array, shapes: Sequence[Latent]) -> list[float]:
    """``weights`` drawn towards the mean until no scale falls below a quarter of the smallest or above four times."""
    scales = np.array([shape.frame.scale for shape in shapes])
    even = np.full(len(shapes), 1 / len(shapes))
    for share in (1.0, 0.5, 0.25, 0.0):
        tried = even + share * (weights - even)
        if scales.min() / 4 < float(tried @ scales) < scales.max() * 4:
            return [float(w) for w in tried]
    return [float(w) for w in even]
