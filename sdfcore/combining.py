"""Fitted shapes and plain bodies as one: union, intersection, difference, morph; offsets and shells; moved ones.

What is made is a fitted shape like any other: it can be meshed at any resolution, kept, rendered, asked, and combined
again. Nothing is fitted anew and nothing is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from .errors import InputError
from .extraction import default_box
from .fields import NeuralSDF
from .geometry import Array, Box, Frame
from .networks import Body, Boxed, Combined, Offset, Placed
from .networks.combined import OPERATIONS, STYLES

_MARGIN = 0.05  # round the body's box, of its longest side: as for fitted shapes


def body(
    shape: str, sizes: Sequence[float] = (), centre: Sequence[float] = (0.0, 0.0, 0.0), *, reach: float = 1.0
) -> NeuralSDF:
    """A plain body as a shape, world units; its field is its exact distance.

    Args:
        shape, sizes: ``sphere`` (radius), ``box`` (three half sides), ``torus`` (ring and tube radius, round z),
            ``cylinder`` (radius, half height, along z), ``capsule`` (radius, half length, along z), ``plane`` (below
            ``centre``).
        reach: half the side of the part of a plane that counts.
    Raises:
        InputError: there is no such body, or it has other sizes.
    """
    half = _half_sizes(shape, sizes, reach)
    scale = float(half.max()) / (1 - 0.15)
    network = Body(shape, [float(size) / scale for size in sizes])
    box = Box(-half / scale, half / scale)
    return NeuralSDF(network.eval(), Frame(np.asarray(centre, dtype=np.float64), scale), box, {"recipe": "body"})


def _half_sizes(shape: str, sizes: Sequence[float], reach: float) -> Array:
    if Body.SIZES.get(shape) != len(sizes) or not all(np.isfinite(size) and size > 0 for size in (*sizes, reach)):
        known = ", ".join(f"{name} ({count} sizes)" for name, count in Body.SIZES.items())
        raise InputError(f"{shape} with the sizes {list(sizes)} is no body.", f"Known are {known}; sizes are positive.")
    a, b, c = (*sizes, 0.0, 0.0, 0.0)[:3]
    found = {
        "sphere": (a, a, a), "box": (a, b, c), "torus": (a + b, a + b, b), "cylinder": (a, a, b),
        "capsule": (a, a, a + b), "plane": (reach, reach, reach),
    }  # fmt: skip
    return np.array(found[shape], dtype=np.float64)


def moved(
    sdf: NeuralSDF, *, scale: float = 1.0, rotation: Array | None = None, shift: Sequence[float] = (0.0, 0.0, 0.0)
) -> NeuralSDF:
    """``sdf`` ``scale`` times as large, turned by ``rotation`` (3, 3) about its middle, and moved; world units.

    Raises:
        InputError: the scale is not positive, or the rotation is none.
    """
    frame = sdf.frame
    if not scale > 0:
        raise InputError(f"A scale of {scale:g} is none.", "Give a positive one.")
    place = Frame(frame.centre + np.asarray(shift, dtype=np.float64), frame.scale * scale)
    if rotation is None:
        return NeuralSDF(sdf.network, place, sdf.box, dict(sdf.info))
    turn = np.asarray(rotation, dtype=np.float64)
    if turn.shape != (3, 3) or not np.allclose(turn @ turn.T, np.eye(3), atol=1e-4) or np.linalg.det(turn) < 0:
        raise InputError("The rotation is none.", "Give a matrix of three orthogonal rows of length one, not mirrored.")
    inner = default_box(sdf)
    network = Placed(boxed(sdf), 1.0, torch.from_numpy(turn))
    ends = np.array([inner.lower, inner.upper])
    corners = np.array([[ends[i, 0], ends[j, 1], ends[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    return NeuralSDF(network.eval().to(sdf.device), place, Box.around(corners @ turn.T), dict(sdf.info))


def moved_by(sdf: NeuralSDF, matrix: Array) -> NeuralSDF:
    """``sdf`` as the affine ``matrix`` (4, 4) moves its world: turned, scaled evenly and shifted.

    Raises:
        InputError: it scales unevenly, mirrors or shears, which no distance would survive.
    """
    scale, turn, shift = similarity(matrix)
    centre = sdf.frame.centre
    move = scale * turn @ centre + shift - centre
    still = np.allclose(turn, np.eye(3), atol=1e-7)
    return moved(sdf, scale=scale, rotation=None if still else turn, shift=move.tolist())


def similarity(matrix: Array) -> tuple[float, Array, Array]:
    """Scale, rotation (3, 3) and shift (3,) of an affine ``matrix`` (4, 4).

    Raises:
        InputError: it scales unevenly, mirrors or shears, which no distance would survive.
    """
    rows = np.asarray(matrix, dtype=np.float64)
    if rows.shape != (4, 4) or not np.isfinite(rows).all():
        raise InputError("The placement is no 4 x 4 matrix of finite numbers.", "Give one.")
    scale = float(np.cbrt(np.linalg.det(rows[:3, :3])))
    if not scale > 0 or not np.allclose(rows[:3, :3] @ rows[:3, :3].T, scale**2 * np.eye(3), atol=1e-4 * scale**2):
        raise InputError(
            "A shape that is mirrored or scaled unevenly has no distance.",
            "Apply its scale and fit it again, or undo it.",
        )
    return scale, rows[:3, :3] / scale, rows[:3, 3]


def offset(sdf: NeuralSDF, distance: float = 0.0, *, wall: float = 0.0) -> NeuralSDF:
    """The surface moved outwards by ``distance``; with a ``wall``, a shell of that thickness round it. World units.

    Raises:
        InputError: numbers that are not finite, or a wall below nothing.
    """
    if not (np.isfinite(distance) and np.isfinite(wall) and wall >= 0):
        raise InputError(f"An offset of {distance:g} with a wall of {wall:g} is none.", "Give finite numbers.")
    scale = sdf.frame.scale
    reach = max(distance + wall / 2, 0.0)
    network, grown = Offset(boxed(sdf, reach), distance / scale, wall / scale), reach / scale
    return NeuralSDF(network.eval().to(sdf.device), sdf.frame, sdf.box.expanded(grown), dict(sdf.info))


def combine(
    parts: Sequence[NeuralSDF],
    operation: str = "union",
    *,
    radius: float = 0.0,
    style: str = "smooth",
    share: float = 0.5,
) -> NeuralSDF:
    """Two or more shapes as one.

    Args:
        operation: ``union``, ``intersection``, ``difference`` (the first without the others) or ``morph`` (of two).
        radius: world units, of the blend along the seams. style: ``smooth``, ``round`` or ``chamfer``.
        share: of a morph, from the first (0) to the second (1).
    Raises:
        InputError: no such operation or style, too few parts, or numbers that cannot be.
    """
    _check(parts, operation, radius, style, share)
    boxes = [sdf.frame.box_to_world(default_box(sdf)) for sdf in parts]
    bounded = [box for sdf, box in zip(parts, boxes, strict=True) if not _is_endless(sdf.network)]
    where = _box(bounded or boxes if operation == "intersection" else boxes, operation)
    frame = Frame.around(np.stack([where.lower, where.upper]))
    device = parts[0].device
    network = Combined([_placed(sdf, frame) for sdf in parts], operation, radius / frame.scale, style, share)
    info = {"recipe": "combined", "operation": operation, "resolution": _finest(parts, frame)}
    grown = where.expanded(radius if operation == "union" else 0.0)
    return NeuralSDF(network.eval().to(device), frame, frame.box_to_unit(grown), info)


def in_turn(parts: Sequence[NeuralSDF], steps: Sequence[Mapping[str, Any]]) -> NeuralSDF:
    """The first of ``parts``, combined with the second, the result with the third, and so on.

    Args:
        steps: for each part but the first the arguments of :func:`combine`, by name.
    Raises:
        InputError: as :func:`combine`, or there are more or fewer steps than parts that follow.
    """
    if not parts or len(steps) != len(parts) - 1:
        raise InputError(f"{len(steps)} operations do not go with {len(parts)} shapes.", "Give one less than shapes.")
    sdf = parts[0]
    for part, step in zip(parts[1:], steps, strict=True):
        sdf = combine([sdf, part], **step)
    return sdf


def _check(parts: Sequence[NeuralSDF], operation: str, radius: float, style: str, share: float) -> None:
    if operation not in OPERATIONS or style not in STYLES:
        raise InputError(
            f"There is no operation {operation!r} in style {style!r}.",
            f"Known are {', '.join(OPERATIONS)}, in the styles {', '.join(STYLES)}.",
        )
    if len(parts) < 2 or (operation == "morph" and len(parts) != 2):
        raise InputError(f"{len(parts)} shapes make no {operation}.", "Give two shapes, or more for all but a morph.")
    if not (np.isfinite(radius) and radius >= 0 and 0 <= share <= 1):
        raise InputError(
            f"A radius of {radius:g} and a share of {share:g} cannot be.",
            "Give a radius of 0 or more, a share from 0 to 1.",
        )


def _box(boxes: Sequence[Box], operation: str) -> Box:
    """Where the result can be, world units."""
    if operation == "difference" or len(boxes) == 1:
        return boxes[0]
    lower, upper = (np.stack([getattr(box, end) for box in boxes]) for end in ("lower", "upper"))
    if operation == "intersection" and (lower.max(axis=0) < upper.min(axis=0)).all():
        return Box(lower.max(axis=0), upper.min(axis=0))
    return Box(lower.min(axis=0), upper.max(axis=0))


def _is_endless(network: nn.Module) -> bool:
    """Whether it is what lies below a plane, wherever that was moved to."""
    while isinstance(network, Placed | Boxed):
        network = network.inner
    return isinstance(network, Body) and network.shape == "plane"


def boxed(sdf: NeuralSDF, reach: float = 0.0) -> Boxed | Body | Placed:
    """The network, kept to where it was fitted, and to ``reach`` (world units) beyond; a body is known everywhere."""
    if isinstance(sdf.network, Body) or (isinstance(sdf.network, Placed) and isinstance(sdf.network.inner, Body)):
        return sdf.network
    box = default_box(sdf, reach)
    lower, upper = (torch.from_numpy(v.copy()).to(sdf.device) for v in (box.lower, box.upper))
    return Boxed(sdf.network, lower, upper)


def _placed(sdf: NeuralSDF, frame: Frame) -> Placed:
    """``sdf`` in the unit box of ``frame``."""
    shift = torch.from_numpy((sdf.frame.centre - frame.centre) / frame.scale)
    return Placed(boxed(sdf), sdf.frame.scale / frame.scale, None, shift).to(sdf.device)


def _finest(parts: Sequence[NeuralSDF], frame: Frame) -> int:
    """Cells along the longest side that make the parts as fine as they are alone, within reason."""
    wanted = [int(sdf.info.get("resolution") or 256) * frame.scale / sdf.frame.scale for sdf in parts]
    return int(np.clip(max(wanted), 64, 512))
