"""Detail apart from its shape: softened, strengthened, told, and put onto another shape.

For fits of the recipe ``idf`` (Yifan et al. 2022), whose network is a smooth base and a displacement of it. What is
made is a fitted shape like any other: it can be meshed at any resolution, kept, asked and combined.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from .combining import similarity
from .errors import InputError
from .extraction import default_box, extract_sdf
from .fields import NeuralSDF
from .geometry import Array, Box, Mesh
from .networks import Displaced, Mended, OnSurface
from .networks.combined import built, described

ATTRIBUTE = "sdf_detail"
_CHUNK = 1 << 16
_ROUNDS = 12


def displaced(sdf: NeuralSDF) -> Displaced:
    """The network of base and detail inside a fit.

    Raises:
        InputError: it is of a recipe that keeps no detail apart.
    """
    network = _unmended(sdf)
    if not isinstance(network, Displaced):
        raise InputError(
            f"This fit ({sdf.info.get('recipe', 'of an unknown recipe')}) does not keep detail apart.",
            "Fit the shape with the recipe idf (Displacement field).",
        )
    return network


def base_of(sdf: NeuralSDF) -> NeuralSDF:
    """The shape without its detail.

    Raises:
        InputError: as :func:`displaced`.
    """
    return NeuralSDF(_copy(displaced(sdf).base), sdf.frame, sdf.box, {**sdf.info, "detail": 0.0})


def with_strength(sdf: NeuralSDF, strength: float) -> NeuralSDF:
    """The shape with its detail ``strength`` times as strong: 0 for none, negative for the opposite.

    Handles that were mended away when the shape was fitted are there again, as they belong to the detail as it was.

    Raises:
        InputError: as :func:`displaced`, or the strength is no number.
    """
    network = displaced(sdf)
    _check_strength(strength)
    reach = network.reach * (abs(strength) or 1.0)  # as far as the detail goes, so that it fades no sooner
    made = Displaced(_copy(network.base), _copy(network.detail), network.amplitude * strength, reach)
    return replace(sdf, network=made.eval(), box=_grown(sdf, network.amplitude * abs(strength)),
                   info={**sdf.info, "detail": float(strength)})  # fmt: skip


def split(sdf: NeuralSDF, *, resolution: int = 256, **options: Any) -> Mesh:
    """The smooth base as a mesh, world units, with the detail as the attribute ``sdf_detail``: how far out it goes.

    Args:
        options: of :func:`~sdfcore.extraction.extract_sdf`.
    Raises:
        InputError: as :func:`displaced`. NoSurfaceError: the base has no surface.
    """
    mesh = extract_sdf(base_of(sdf), resolution=resolution, **options)
    return replace(mesh, attributes={**mesh.attributes, ATTRIBUTE: heights(sdf, mesh.vertices)})


def heights(sdf: NeuralSDF, points: Array) -> Array:
    """How far out of the base the surface lies at ``points`` (N, 3) of the base, (N,) float32, both in world units.

    The displacement d fades with the distance h from the base, so h (1 + (h / reach)⁴) = -d; where d is positive the
    surface goes in.
    """
    network = displaced(sdf)
    unit = torch.from_numpy(sdf.frame.to_unit(points)).to(sdf.device, torch.float32)
    with torch.no_grad():
        d = torch.cat([network.displacement(part) for part in unit.split(_CHUNK)])
        found = -d
        for _ in range(_ROUNDS):  # of Newton's method, on a curve that only rises
            power = (found / network.reach) ** 4
            found = found - (found * (1 + power) + d) / (1 + 5 * power)
    return np.asarray(found.cpu().numpy() * sdf.frame.scale, np.float32)


def transferred(
    source: NeuralSDF, target: NeuralSDF, *, strength: float = 1.0, placement: Array | None = None
) -> NeuralSDF:
    """``target`` with the detail of ``source``, each of its points that of the nearest point of the source's base.

    Of a target that has detail of its own only the base is taken.

    Args:
        source: a fit with detail. target: any fit.
        placement: (4, 4) that lays the source's world over the target's, without mirror or shear; by default the boxes
            of both are laid over one another, and the source is scaled evenly.
    Raises:
        InputError: as :func:`displaced`, or the placement is none.
    """
    network = displaced(source)
    _check_strength(strength)
    rows = _box_on_box(source, target) if placement is None else np.asarray(placement, dtype=np.float64)
    scale, turn, shift = similarity(rows)
    # p_target = (scale turn (S p + c) + shift - C) / T: from the unit box of the source into that of the target
    (big, centre), (own, middle) = ((sdf.frame.scale, sdf.frame.centre) for sdf in (source, target))
    ratio = scale * big / own
    offset = (scale * turn @ centre + shift - middle) / own
    plain = _unmended(target)
    below = plain.base if isinstance(plain, Displaced) else target.network
    carried = OnSurface(
        _copy(network.detail), _copy(network.base), ratio, torch.from_numpy(turn.T), torch.from_numpy(offset)
    )
    amplitude = network.amplitude * ratio * strength
    reach = network.reach * ratio * (abs(strength) or 1.0)
    made = Displaced(_copy(below), carried.to(target.device), amplitude, reach)
    info = {**target.info, "detail": float(strength), "detail_of": source.info.get("name", "another fit")}
    return NeuralSDF(made.eval(), target.frame, _grown(target, abs(amplitude)), info)


def _check_strength(strength: float) -> None:
    if not np.isfinite(strength):
        raise InputError(f"A strength of {strength} is none.", "Give a number: 1 leaves the detail as it is.")


def _unmended(sdf: NeuralSDF) -> torch.nn.Module:
    return sdf.network.inner if isinstance(sdf.network, Mended) else sdf.network


def _copy(network: torch.nn.Module) -> torch.nn.Module:
    """An independent one, so that none of two shapes changes with the other."""
    told = described(network)
    made = built(told)
    made.load_state_dict(network.state_dict())
    return made.to(next(network.parameters()).device).requires_grad_(False).eval()


def _grown(sdf: NeuralSDF, by: float) -> Box:
    """The box with room for what stands out, kept to where the field was fitted."""
    wide, most = sdf.box.expanded(by), default_box(sdf)
    return Box(np.maximum(wide.lower, most.lower), np.minimum(wide.upper, most.upper))


def _box_on_box(source: NeuralSDF, target: NeuralSDF) -> Array:
    a, b = (sdf.frame.box_to_world(sdf.box) for sdf in (source, target))
    scale = float(b.size.max() / a.size.max())
    rows = np.diag([scale, scale, scale, 1.0])
    rows[:3, 3] = b.centre - scale * a.centre
    return rows
