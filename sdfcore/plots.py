"""Pictures of a fit: loss, cross-section, gradient lengths, skeleton. PNG by matplotlib, without its global state."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PatchCollection, PolyCollection
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from .files import replacing
from .geometry import Array, Box, PointCloud

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .fields import NeuralSDF
    from .queries.skeleton import Skeleton

INK = "#22262e"
SOFT = "#8a93a3"
_GRID = "#e7eaf0"
_ACCENT = "#0f6fc6"
_POINTS = "#f2a900"
_LINES = ("#0f6fc6", "#e4572e", "#17a398", "#8e5bd0", "#d99a00", "#c2417c", "#6b7a90")
# Inside warm, outside cool, white at the surface; equally dark at equal distance.
FIELD = LinearSegmentedColormap.from_list(
    "signed distance",
    ["#7f1d3a", "#c8475a", "#f0a08c", "#fbe3d6", "#ffffff", "#dcecf6", "#93c3de", "#3f86b5", "#164a74"],
)
_AXES = "xyz"
_CHUNK = 16384


def report_pictures(report: Mapping[str, Any], folder: Path, *, prefix: str = "") -> list[Path]:
    """Draws what a report holds into ``folder``: loss.png, and gradient.png where it was measured."""
    written = [folder / f"{prefix}loss.png"]
    loss_curve(report, written[0])
    if (report.get("gradient") or {}).get("histogram"):
        written.append(folder / f"{prefix}gradient.png")
        gradient_histogram(report, written[1])
    return written


def loss_curve(report: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """The loss and its terms over the steps, logarithmic. ``report`` as of :func:`sdfcore.report.build_report`."""
    history = report.get("history") or {}
    steps = np.asarray(history.get("step", []), dtype=float)
    figure, axes = new_figure(8.0, 4.6)
    names = [name for name in history if name not in ("step", "loss")]
    for name, colour in zip(names, _LINES[1:] * (1 + len(names) // 6), strict=False):
        axes.plot(steps, _positive(history[name]), color=colour, lw=1.2, alpha=0.85, label=name.replace("_", " "))
    if "loss" in history:
        axes.plot(steps, _positive(history["loss"]), color=INK, lw=2.0, label="loss")
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("value (logarithmic)")
    titles(axes, "Loss", f"{report.get('recipe', '')} · {report.get('preset', '')} · {report.get('steps', 0)} steps")
    if history:
        axes.legend(frameon=False, ncols=1, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)
    save_figure(figure, path)


def _positive(values: Any) -> Array:
    """Values for a logarithmic axis; what it cannot show is left out."""
    array = np.asarray([math.nan if value is None else value for value in values], dtype=float)
    return np.where(array > 0, array, np.nan)


def gradient_histogram(report: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """How long the gradient is away from the surface; an exact distance has 1 everywhere."""
    found = report["gradient"]
    edges = np.asarray(found["histogram"]["edges"], dtype=float)
    counts = np.asarray(found["histogram"]["counts"], dtype=float)
    share = 100.0 * counts / max(counts.sum(), 1.0)
    figure, axes = new_figure(8.0, 4.0)
    axes.bar(edges[:-1], share, width=np.diff(edges) * 0.92, align="edge", color=_ACCENT, alpha=0.85, lw=0)
    axes.axvline(1.0, color=INK, lw=1.2, ls=(0, (4, 3)))
    axes.annotate("a true distance", (1.0, 1.0), xycoords=("data", "axes fraction"), xytext=(6, -12),
                  textcoords="offset points", color=INK, fontsize=9)  # fmt: skip
    axes.set_xlabel("|∇f|")
    axes.set_ylabel("share of samples, %")
    axes.set_xlim(edges[0], edges[-1])
    titles(axes, "Gradient away from the surface", f"mean {found['mean']:.3f} ± {found['std']:.3f} · "
            f"{found['samples']:,} samples")  # fmt: skip
    save_figure(figure, path)


def cross_section(
    sdf: NeuralSDF,
    path: str | os.PathLike[str],
    *,
    axis: str = "auto",
    offset: float | None = None,
    level: float = 0.0,
    cloud: PointCloud | None = None,
    pixels: int = 420,
) -> None:
    """The field on a plane: filled colours, its level sets, the surface in bold.

    Args:
        sdf: negative inside.
        path: PNG to write.
        axis: normal of the plane, ``x``, ``y`` or ``z``; ``auto`` takes the box's shortest side.
        offset: where the plane cuts the axis, world units; the box's middle where ``None``.
        level: drawn in bold, world units.
        cloud: its points near the plane are drawn.
        pixels: samples along the longer side of the picture.
    """
    box = sdf.frame.box_to_world(sdf.box)
    normal = int(np.argmin(box.size)) if axis == "auto" else _AXES.index(axis)
    across, up = _plane(normal)
    cut = float(box.centre[normal]) if offset is None else offset
    view = box.expanded(0.14 * float(max(box.size[across], box.size[up])))
    horizontal, vertical, values = _sample_plane(sdf, view, (across, up, normal), cut, pixels)

    width, height = view.size[across], view.size[up]
    scale = 6.6 / max(width, height)
    figure, axes = new_figure(width * scale + 1.9, height * scale + 1.3)
    bands, spacing = _levels(values)
    # Each side takes the whole of its colours: insides are shallow, and would stay white on a common scale.
    norm = TwoSlopeNorm(0.0, bands[0], bands[-1])
    fill = axes.contourf(horizontal, vertical, values, levels=bands, cmap=FIELD, norm=norm, extend="both")
    others = bands[(bands != 0.0) & (bands > values.min()) & (bands < values.max())]
    lines = axes.contour(horizontal, vertical, values, levels=others, colors=INK, linewidths=0.5, linestyles="solid")
    lines.set_alpha(0.35)
    if level != 0.0 and values.min() < 0.0 < values.max():
        axes.contour(horizontal, vertical, values, levels=[0.0], colors=INK, linewidths=1.0, linestyles="dashed")
    if values.min() < level < values.max():
        axes.contour(horizontal, vertical, values, levels=[level], colors="#000000", linewidths=2.4)
    shown = _points_near(axes, cloud, (across, up, normal), cut, box)
    axes.set_aspect("equal")
    axes.set_xlabel(_AXES[across])
    axes.set_ylabel(_AXES[up])
    bar = figure.colorbar(fill, ax=axes, shrink=0.82, pad=0.025, ticks=bands[:: max(1, len(bands) // 10)])
    bar.set_label("signed distance, negative inside", color=SOFT, fontsize=9)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8, colors=SOFT)
    note = f"{_AXES[normal]} = {cut:.4g} · level sets every {spacing:g}"
    titles(axes, "Cross-section of the field", f"{note} · {shown:,} points near the plane" if shown else note)
    save_figure(figure, path)


def skeleton_picture(
    skeleton: Skeleton, sdf: NeuralSDF, path: str | os.PathLike[str], *, axis: str = "y", points: int = 30_000
) -> None:
    """The balls and links of a skeleton in its shape, looked at along an axis: PNG."""
    from .extraction import default_box, extract_sdf
    from .surfaces import sample_surface

    across, up = _plane(_AXES.index(axis))
    mesh = extract_sdf(sdf, resolution=96, box=sdf.frame.box_to_world(default_box(sdf)))
    shape = sample_surface(mesh, points, 0).points
    size = np.ptp(shape, axis=0)
    scale = 6.6 / max(size[across], size[up])
    figure, axes = new_figure(size[across] * scale + 0.9, size[up] * scale + 1.3)
    axes.scatter(shape[:, across], shape[:, up], s=1.0, color=SOFT, alpha=0.12, linewidths=0)
    centres = skeleton.points[:, [across, up]]
    balls = [Circle(centre, radius) for centre, radius in zip(centres, skeleton.radii, strict=True)]
    axes.add_collection(PatchCollection(balls, facecolor=_POINTS, alpha=0.10, linewidths=0))
    axes.add_collection(PolyCollection(list(centres[skeleton.triangles]), facecolor=INK, alpha=0.15))
    axes.add_collection(LineCollection(list(centres[skeleton.edges]), colors=INK, linewidths=1.6))
    axes.scatter(centres[:, 0], centres[:, 1], s=12, color=_POINTS, edgecolors="white", linewidths=0.4, zorder=3)
    axes.set_aspect("equal")
    axes.set_xlabel(_AXES[across])
    axes.set_ylabel(_AXES[up])
    note = f"{len(centres)} balls · {skeleton.coverage:.1%} of the surface within {skeleton.delta:.3g} of one"
    titles(axes, "Skeleton", note)
    save_figure(figure, path)


def _plane(normal: int) -> tuple[int, int]:
    """Horizontal and vertical axis of a picture that looks along ``normal``: z upwards where it can be."""
    return {0: (1, 2), 1: (0, 2), 2: (0, 1)}[normal]


def _sample_plane(
    sdf: NeuralSDF, view: Box, axes: tuple[int, int, int], cut: float, pixels: int
) -> tuple[Array, Array, Array]:
    """World coordinates (W,), (H,) and world values (H, W) of the field on the plane."""
    import torch

    across, up, normal = axes
    step = max(view.size[across], view.size[up]) / pixels
    horizontal = np.arange(view.lower[across], view.upper[across] + step / 2, step)
    vertical = np.arange(view.lower[up], view.upper[up] + step / 2, step)
    points = np.empty((len(vertical), len(horizontal), 3))
    points[..., across], points[..., up] = np.meshgrid(horizontal, vertical)
    points[..., normal] = cut
    unit = torch.from_numpy(sdf.frame.to_unit(points.reshape(-1, 3)))
    with torch.no_grad():
        values = torch.cat([sdf.network(chunk.to(sdf.device)).cpu() for chunk in unit.split(_CHUNK)])
    return horizontal, vertical, values.double().numpy().reshape(points.shape[:2]) * sdf.frame.scale


def _levels(values: Array) -> tuple[Array, float]:
    """Level sets at multiples of a round spacing, about a dozen, at least one on either side of 0; and the spacing."""
    low, high = (float(v) for v in np.percentile(values, (0.2, 98.0)))
    reach = max(high, -low, 1e-12)
    raw = max(reach / 24, min(reach / 12, -low / 4)) if low < 0 else reach / 12  # insides are often shallow
    power = 10.0 ** math.floor(math.log10(raw))
    spacing = next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= raw * 0.999)
    first, last = min(-1, math.floor(low / spacing)), max(1, math.ceil(high / spacing))
    return np.arange(first, last + 1) * spacing, spacing


def _points_near(axes: Axes, cloud: PointCloud | None, order: tuple[int, int, int], cut: float, box: Box) -> int:
    """Draws the points of ``cloud`` within 1/200 of the box's diagonal of the plane; returns their number."""
    if cloud is None:
        return 0
    across, up, normal = order
    near = cloud.points[np.abs(cloud.points[:, normal] - cut) < 0.005 * box.diagonal]
    drawn = near[:: max(1, len(near) // 3000)]
    axes.scatter(drawn[:, across], drawn[:, up], s=5, color=_POINTS, edgecolors="white", linewidths=0.2, zorder=3)
    return len(near)


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty picture of ``width`` × ``height`` inches, with axes in the style of all of them."""
    figure, panels = new_panels(width, height, 1, 1)
    return figure, panels[0][0]


def new_panels(width: float, height: float, rows: int, columns: int) -> tuple[Figure, list[list[Axes]]]:
    """The same with several axes, row by row."""
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        for side in ("top", "right", "left", "bottom"):
            axes.spines[side].set_visible(False)
        axes.grid(True, color=_GRID, lw=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(which="both", length=0, labelsize=8.5, colors=SOFT)
        axes.xaxis.label.set(color=SOFT, fontsize=9.5)
        axes.yaxis.label.set(color=SOFT, fontsize=9.5)
    return figure, [list(row) for row in grid]


def titles(axes: Axes, title: str, note: str) -> None:
    """What the picture shows, and a smaller line beneath."""
    axes.set_title(f"{title}\n", loc="left", color=INK, fontsize=13, fontweight="bold", linespacing=1.4)
    axes.text(0.0, 1.02, note, transform=axes.transAxes, color=SOFT, fontsize=9.5)


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes a PNG as a whole, under a temporary name first."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
