"""docs/methods.png: what every recipe makes of one outline with a gap, as cross-sections of its field.

``python scripts/method_pictures.py``: the outline is that of a key, extruded; a part of one side has no points.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import click
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from sdfcore.fitting import Fit
from sdfcore.geometry import Array, PointCloud
from sdfcore.plots import FIELD, INK, SOFT, save_figure
from sdfcore.recipes import RECIPES

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "methods.png"
# Corners of a key's bit and shaft, counter-clockwise; the gap is in its long lower side.
CORNERS = np.array(
    [
        [-0.9, -0.2], [0.9, -0.2], [0.9, 0.25], [0.75, 0.25], [0.75, 0.0], [0.45, 0.0], [0.45, 0.35],
        [-0.1, 0.35], [-0.35, 0.6], [-0.9, 0.6],
    ]
)  # fmt: skip
GAP = (-0.35, 0.25)  # of x, in the lower side
COLUMNS, REACH, BAND = 6, 1.15, 0.1
SPACING = 0.012


def outline(rng: np.random.Generator) -> tuple[Array, Array]:
    """Points (N, 2) of the outline and their outward normals (N, 2)."""
    places, normals = [], []
    for a, b in zip(CORNERS, np.roll(CORNERS, -1, axis=0), strict=True):
        along = b - a
        count = round(60 * np.linalg.norm(along) / SPACING)
        places.append(a + rng.random((count, 1)) * along)
        normals.append(np.tile(np.array([along[1], -along[0]]) / np.linalg.norm(along), (count, 1)))
    points, outward = np.concatenate(places), np.concatenate(normals)
    seen = ~((points[:, 1] < -0.19) & (points[:, 0] > GAP[0]) & (points[:, 0] < GAP[1]))
    return points[seen], outward[seen]


def tube() -> PointCloud:
    """The outline extruded along z, open at both ends."""
    rng = np.random.default_rng(0)
    flat, outward = outline(rng)
    points = np.column_stack([flat, rng.uniform(-0.7, 0.7, len(flat))])
    return PointCloud(points, np.column_stack([outward, np.zeros(len(flat))]))


def section(fit: Fit, pixels: int = 220) -> tuple[Array, Array]:
    """Coordinates (P,) and values (P, P) of the field at z = 0."""
    line = np.linspace(-REACH, REACH, pixels)
    points = np.stack([*np.meshgrid(line, line), np.zeros((pixels, pixels))], axis=-1).reshape(-1, 3)
    with torch.no_grad():
        values = fit.sdf(torch.from_numpy(points))
    return line, values.numpy().reshape(pixels, pixels)


def draw(axes: Axes, name: str, note: str, line: Array, values: Array, points: Array) -> None:
    """One tile: level sets every tenth, the surface in bold, the points that were given."""
    bands = np.arange(-5, 11) * BAND
    norm = TwoSlopeNorm(0.0, -0.4, 1.0)
    axes.contourf(line, line, values, levels=bands, cmap=FIELD, norm=norm, extend="both")
    axes.contour(line, line, values, levels=bands[bands != 0], colors=INK, linewidths=0.35, alpha=0.4)
    if values.min() < 0 < values.max():
        axes.contour(line, line, values, levels=[0.0], colors="#000000", linewidths=1.6)
    axes.scatter(points[:, 0], points[:, 1], s=0.6, color="#f2a900", zorder=3)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_title(name, loc="left", fontsize=10, fontweight="bold", color=INK, pad=2)
    axes.text(1.0, -0.02, note, transform=axes.transAxes, ha="right", va="top", fontsize=7, color=SOFT)


@click.command()
@click.option("--steps", type=int, help="Of every fit, instead of its draft preset's.")
@click.option("--only", default="", help="Only these recipes: a,b.")
@click.option("--output", type=click.Path(path_type=Path), default=OUTPUT)
def pictures(steps: int | None, only: str, output: Path) -> None:
    """Fit every recipe to the key and draw the cross-sections of the fields side by side."""
    cloud = tube()
    flat = cloud.points[np.abs(cloud.points[:, 2]) < 0.02, :2]
    chosen = [r for r in RECIPES.values() if not only or r.name in only.split(",")]
    rows = math.ceil(len(chosen) / COLUMNS)
    figure = Figure(figsize=(2.5 * COLUMNS, 2.65 * rows), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    for number, recipe in enumerate(chosen):
        blind = not recipe.needs_normals and recipe.name not in ("igr", "igr_unsquared", "siren")
        fit = Fit(PointCloud(cloud.points) if blind else cloud, recipe=recipe.name, preset="draft", steps=steps)
        for _ in fit:
            pass
        line, values = section(fit)
        note = f"{'without' if blind else 'with'} normals, {fit.step} steps"
        draw(figure.add_subplot(rows, COLUMNS, number + 1), recipe.title, note, line, values, flat)
        click.echo(f"{recipe.name}: {fit.step} steps, {time.perf_counter() - fit.began:.0f} s")
    save_figure(figure, output)
    click.echo(f"written: {output}")


if __name__ == "__main__":
    pictures()
