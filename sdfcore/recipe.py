"""What a method is: network, objective, sampler and sizes, as one frozen value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import nn

from .errors import InputError
from .evidence import Evidence
from .objectives import Objective
from .sampling import Sampler


@dataclass(frozen=True)
class Size:
    """How large a fit is: hidden width and depth, steps, points per step, Adam's rate; ``nodes`` bounds the grids.

    ``warm_up`` and ``refresh`` are for what looks at its own surface: steps before the first time, and between times.
    ``near`` says that the network begins near its end, at what the evidence says, and is only mended.
    """

    width: int
    depth: int
    steps: int
    batch: int
    rate: float
    nodes: int = 0
    warm_up: int = 0
    refresh: int = 0
    near: bool = False

    def changed(self, settings: Mapping[str, float]) -> Size:
        """With other numbers, by name; whole ones but for the rate.

        Raises:
            InputError: a name that means nothing here, or a number out of range.
        """
        kept = ("steps", "near")
        known = [each.name for each in fields(self) if each.name not in kept and getattr(self, each.name)]
        made: dict[str, Any] = {}
        for name, value in settings.items():
            if name not in known:
                raise InputError(f"There is no setting {name!r} in this recipe.", f"Choose of {', '.join(known)}.")
            if not (math.isfinite(value) and value > 0 and (name == "rate" or value == int(value))):
                raise InputError(
                    f"{name} cannot be {value:g}.", "Give a positive number, a whole one but for the rate."
                )
            made[name] = float(value) if name == "rate" else int(value)
        return replace(self, **made)


@dataclass(frozen=True)
class Recipe:
    """One method of the field.

    Args:
        name, title, source, summary: for people; ``source`` names the paper.
        needs_normals: reads normals; those of points that have none are estimated.
        needs_distance: is taught by the signed distance of the mesh or of the oriented points.
        network: (evidence, size) → untrained network.
        sampler: (evidence, network, size, seed, device) → batches.
        objective: the weighted terms.
        sizes: by preset name.
        near: whether the evidence is so good that a network of the size begins near its end. near_sizes: of such fits,
            by preset name.
        normal_terms: names of the terms that read normals; left out where there are none.
        clip: largest norm of the gradient of the loss, or ``None``.
        certified: what the network says holds by construction, so that nothing may be mended in it afterwards.
        any_sign: nothing in it tells inside from outside, so the field is turned, if need be, once it is fitted.
    """

    name: str
    title: str
    source: str
    summary: str
    network: Callable[[Evidence, Size], nn.Module]
    sampler: Callable[[Evidence, nn.Module, Size, int, torch.device], Sampler]
    objective: Objective
    sizes: Mapping[str, Size]
    needs_normals: bool = False
    needs_distance: bool = False
    normal_terms: tuple[str, ...] = ()
    clip: float | None = None
    certified: bool = False
    any_sign: bool = False
    near: Callable[[Evidence, Size], bool] | None = None
    near_sizes: Mapping[str, Size] = field(default_factory=dict)

    @property
    def needs(self) -> str:
        """What it learns from, for people; of points without normals, normals are estimated first if need be."""
        if self.needs_distance:
            return "signed distances, of a mesh or of points with normals"
        if self.needs_normals:
            return "points with normals"
        return "points, better with normals" if self.normal_terms else "points"
