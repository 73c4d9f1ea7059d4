"""A space as a picture: every shape at the place of its code."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from ..errors import NoSurfaceError
from ..extraction import extract_sdf
from ..geometry import Array, Mesh
from ..plots import INK, SOFT, new_figure, save_figure, titles
from ..shading import shaded
from .completion import SEEN
from .space import Directions, Space

_MOST = 40  # shapes drawn; the others are dots
_CELLS = 64  # finer ones are searched, not sampled everywhere, and cost no more than coarser ones
_LEAST_SIDE, _LARGEST_SIDE = 90, 210  # of a shape's picture, pixels
_BELOW = 12  # pixels from a shape to its name
_WIDTH, _HEIGHT = 11.0, 8.2  # inches
_ROW = 240  # pixels of one picture in a row


def draw_space(
    space: Space,
    path: str | os.PathLike[str],
    *,
    title: str = "Shape space",
    up: str = "z",
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> None:
    """Write a PNG: the codes in the plane of their first two principal directions, each with a view of its shape.

    The axes count standard deviations, as the amounts of ``Space.explore`` do. Of many shapes, those far from one
    another are shown, the others are dots. Views that would cover each other move apart, with a line to their place.

    Args:
        path: to write. title: of the picture.
        up: the axis, ``x``, ``y`` or ``z``, that points upwards in the shapes' world.
    """
    found = space.directions(2)
    places = amounts(space, found)
    figure, axes = new_figure(_WIDTH, _HEIGHT)
    _frame(axes, places, found)
    count = f"{len(space)} shape{'s' * (len(space) != 1)}"
    note = f"{count} · codes of {space.decoder.code_size} · places in standard deviations"
    titles(axes, title, note)
    axes.scatter(
        places[:, 0], places[:, 1], s=14 if len(space) <= 200 else 4, color=SOFT, alpha=0.8, linewidths=0, zorder=2
    )
    figure.draw_without_rendering()  # settles where on the page a place is
    shown = far_apart(places, _MOST)
    pixels = axes.transData.transform(places[shown])
    area = axes.bbox
    side = float(np.clip(0.8 * np.sqrt(area.width * area.height / len(shown)), _LEAST_SIDE, _LARGEST_SIDE))
    moved = moved_apart(pixels, side, np.array([area.min, area.max]))
    for number, row in enumerate(shown):
        picture = _view(space, row, int(side), up)
        on_progress((number + 1) / len(shown))
        if picture is not None:
            _place(axes, picture, places[row], moved[number] - pixels[number], space.names[row], figure.dpi)
    save_figure(figure, path)


def draw_row(meshes: Sequence[Mesh], captions: Sequence[str], path: str | os.PathLike[str], *, up: str = "z") -> None:
    """Write a PNG: the meshes side by side, all at one scale, each over its caption.

    Args:
        up: the axis, ``x``, ``y`` or ``z``, that points upwards.
    """
    balls = [_ball(mesh) for mesh in meshes]
    reach = max(radius for _, radius in balls)
    views = [shaded(m, _ROW, up=up, ball=(centre, reach)) for m, (centre, _) in zip(meshes, balls, strict=True)]
    _in_a_row(views, captions, path)


def draw_round(mesh: Mesh, path: str | os.PathLike[str], *, up: str = "z") -> None:
    """Write a PNG: a completed mesh from four sides, clay where it was scanned and orange where it was not."""
    tint, ball = seen_tint(mesh), _ball(mesh)
    turns = (0.0, 90.0, 180.0, 270.0)
    views = [shaded(mesh, _ROW, up=up, turn=turn + 20, tint=tint, ball=ball) for turn in turns]
    _in_a_row(views, [f"{turn:.0f}°" for turn in turns], path)


def _ball(mesh: Mesh) -> tuple[Array, float]:
    centre = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    return centre, 0.95 * float(np.linalg.norm(mesh.vertices - centre, axis=1).max())


def _in_a_row(views: Sequence[Array], captions: Sequence[str], path: str | os.PathLike[str]) -> None:
    high = _ROW + 30
    figure = Figure(figsize=(_ROW / 100 * len(views), high / 100), dpi=100, facecolor="white")
    for number, (view, caption) in enumerate(zip(views, captions, strict=True)):
        axes = figure.add_axes((number / len(views), 30 / high, 1 / len(views), _ROW / high))
        axes.imshow(view)
        axes.set_axis_off()
        axes.text(0.5, -0.05, caption, transform=axes.transAxes, ha="center", va="center", color=INK, fontsize=10)
    save_figure(figure, path)


def seen_tint(mesh: Mesh) -> Array:
    """(V, 3) clay where ``observed_mask`` says the surface was scanned, orange where it was completed."""
    seen = np.asarray(mesh.attributes[SEEN], dtype=np.float64)[:, None]
    return seen * np.array([0.80, 0.84, 0.90]) + (1 - seen) * np.array([0.98, 0.62, 0.30])


def amounts(space: Space, found: Directions) -> Array:
    """(S, 2): where the shapes stand along the first two principal directions, in standard deviations."""
    offsets = space.codes.astype(np.float64) - found.mean
    along = offsets @ found.axes.T / np.maximum(found.deviations, 1e-12)
    return np.pad(along, ((0, 0), (0, 2 - along.shape[1])))


def far_apart(places: Array, count: int) -> list[int]:
    """At most ``count`` rows of ``places`` (S, 2), each the farthest from those before it."""
    gap = np.linalg.norm(places - places.mean(axis=0), axis=1)
    chosen: list[int] = []
    while len(chosen) < min(count, len(places)):
        chosen.append(int(gap.argmax()))
        gap = np.minimum(gap, np.linalg.norm(places - places[chosen[-1]], axis=1))
        gap[chosen] = -1.0  # those at one place come, too
    return chosen


def moved_apart(places: Array, side: float, bounds: Array) -> Array:
    """``places`` (S, 2) moved as little as it takes until discs of the diameter ``side`` hardly cover each other.

    Args:
        bounds: (2, 2) lower and upper corner of where the squares round the discs must lie.
    """
    # A little aside: nothing pushes two at the very same place, or a row of them out of its line.
    found = places + np.random.default_rng(0).normal(scale=0.03 * side, size=places.shape)
    lower, upper = bounds[0] + side / 2, np.maximum(bounds[1] - side / 2, bounds[0] + side / 2)
    for _ in range(400):
        apart = found[:, None] - found[None]
        gap = np.linalg.norm(apart, axis=2) + np.eye(len(found)) * 1e9
        short = np.maximum(side - gap, 0)
        if short.max(initial=0.0) < 0.1 * side:
            break
        push = (apart / np.maximum(gap, 1e-9)[..., None] * short[..., None]).sum(axis=1)
        found = np.clip(found + 0.3 * push + 0.01 * (places - found), lower, upper)
    return found


def _frame(axes: Axes, places: Array, found: Directions) -> None:
    for axis, values, number in ((axes.set_xlim, places[:, 0], 0), (axes.set_ylim, places[:, 1], 1)):
        low, high = float(values.min()), float(values.max())
        margin = 0.12 * max(high - low, 1.0)
        axis(low - margin, high + margin)
        share = float(found.explained[number]) if number < len(found.explained) else 0.0
        label = f"{('first', 'second')[number]} direction, {100 * share:.0f} % of the variance"
        (axes.set_xlabel if number == 0 else axes.set_ylabel)(label)


def _view(space: Space, row: int, side: int, up: str) -> Array | None:
    try:
        mesh = extract_sdf(space.decode(space.shapes[row]), resolution=_CELLS, refine=0)
    except NoSurfaceError:
        return None
    return shaded(mesh, side, up=up)


def _place(axes: Axes, picture: Array, place: Array, offset: Array, name: str, dpi: float) -> None:
    side = len(picture)
    far = float(np.linalg.norm(offset)) > 0.15 * side
    lowest = int(np.flatnonzero(picture[..., 3].max(axis=1) > 0.1)[-1])  # row of the shape, counted from above
    box = AnnotationBbox(
        OffsetImage(picture, zoom=72 / dpi),
        (float(place[0]), float(place[1])),
        xybox=(float(offset[0]), float(offset[1])),
        boxcoords="offset pixels",
        frameon=False,
        pad=0,
        arrowprops={"arrowstyle": "-", "color": SOFT, "lw": 0.6, "alpha": 0.6} if far else None,
        zorder=3,
    )
    axes.add_artist(box)
    axes.annotate(
        name if len(name) <= 18 else f"{name[:17]}…",
        (float(place[0]), float(place[1])),
        xytext=(float(offset[0]), float(offset[1]) + side / 2 - lowest - _BELOW),
        textcoords="offset pixels",
        ha="center",
        va="center",
        fontsize=6.5,
        color=INK,
        zorder=4,
    )
