"""docs/asked.png and docs/detail.png: what can be asked of a fit, and what can be made of its detail.

``python scripts/query_pictures.py``: a chair of assets/chairs is asked; the detail is that of a ball covered with
dimples, made here.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np
import trimesh
from matplotlib.axes import Axes

from sdfcore import combining, detail
from sdfcore.extraction import default_box, extract_sdf
from sdfcore.fields import NeuralSDF
from sdfcore.fitting import Fit
from sdfcore.geometry import Array, Mesh
from sdfcore.plots import INK, SOFT, new_panels, save_figure
from sdfcore.queries.bounds import bound_of
from sdfcore.queries.empty import OUTSIDE, empty_space
from sdfcore.queries.iso_points import iso_points
from sdfcore.queries.render import Camera, render
from sdfcore.queries.skeleton import Skeleton, skeleton
from sdfcore.reading import read
from sdfcore.shading import shaded

ROOT = Path(__file__).resolve().parents[1]
CHAIR = ROOT / "assets" / "chairs" / "winchester_armchair.ply"
PIXELS = 460


def fitted(source: Mesh, recipe: str, **options: object) -> NeuralSDF:
    begun = time.perf_counter()
    fit = Fit(source, recipe=recipe, preset="draft", **options)  # type: ignore[arg-type]
    for _ in fit:
        pass
    sdf = fit.sdf
    fit.mesh(sdf)
    click.echo(f"{recipe}: {fit.step} steps, {time.perf_counter() - begun:.0f} s")
    return sdf


def dimpled() -> Mesh:
    """A ball with a pattern of round dimples and ridges between them."""
    ball = trimesh.creation.icosphere(6)
    outward = np.array(ball.vertices)
    middles = _spread_out(220)
    nearest = np.sort(np.arccos(np.clip(outward @ middles.T, -1, 1)), axis=1)
    ridge = np.exp(-(((nearest[:, 1] - nearest[:, 0]) / 0.05) ** 2))
    return Mesh(outward * (0.97 + 0.05 * ridge)[:, None], np.array(ball.faces))


def _spread_out(count: int) -> Array:
    """Directions (count, 3) on a spiral, about evenly (Vogel 1979)."""
    number = np.arange(count) + 0.5
    height, turn = 1 - 2 * number / count, np.pi * (3 - 5**0.5) * number
    return np.column_stack([np.cos(turn), np.sin(turn), np.zeros(count)]) * np.sqrt(1 - height**2)[:, None] + (
        np.column_stack([np.zeros((count, 2)), height])
    )


def picture(axes: Axes, image: Array, title: str, note: str) -> None:
    axes.imshow(np.clip(image, 0, 1))
    axes.axis("off")
    axes.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold")
    axes.text(0.0, -0.02, note, transform=axes.transAxes, va="top", color=SOFT, fontsize=8.5)


def with_skeleton(axes: Axes, sdf: NeuralSDF, found: Skeleton) -> None:
    """Balls and links from the front."""
    points = iso_points(sdf, 12_000, rounds=5).points
    axes.scatter(points[:, 0], points[:, 1], s=0.8, color=SOFT, alpha=0.25, linewidths=0)
    for a, b in found.points[found.edges][:, :, :2]:
        axes.plot(*zip(a, b, strict=True), color=INK, lw=1.4)
    size = 2 * found.radii
    axes.scatter(found.points[:, 0], found.points[:, 1], s=10 + 4000 * size**2, color="#f2a900", alpha=0.35, lw=0)
    axes.set_aspect("equal")
    axes.axis("off")
    axes.set_title("Skeleton", loc="left", color=INK, fontsize=11, fontweight="bold")
    note = f"{len(found.points)} balls cover {found.coverage:.1%}"
    axes.text(0.0, -0.02, note, transform=axes.transAxes, va="top", color=SOFT, fontsize=8.5)


def asked(output: Path) -> None:
    """Six answers of one chair."""
    chair = read(CHAIR)
    assert isinstance(chair, Mesh)
    sdf, soft = fitted(chair, "distance", steps=1200), fitted(chair, "tv")
    box = sdf.frame.box_to_world(default_box(sdf))
    figure, ((a, b, c), (d, e, f)) = new_panels(10.5, 7.6, 2, 3)
    seen = render(sdf, Camera.around(box, up="y"), PIXELS, PIXELS, certain=True)
    picture(a, seen.colour, "Rays", f"from the field, nothing passed; {seen.evaluations:.0f} evaluations a pixel")
    with_skeleton(b, soft, skeleton(soft))
    points = iso_points(sdf, 6000, edges=0.2)
    c.scatter(points.points[:, 0], points.points[:, 1], s=2.5, c=np.abs(points.normals[:, 2]), cmap="cividis", lw=0)
    c.set_aspect("equal")
    c.axis("off")
    c.set_title("Even points", loc="left", color=INK, fontsize=11, fontweight="bold")
    radius, centre = 0.3 * float(box.size.max()), box.centre + np.array([0.3, 0.25, 0.3]) * box.size  # the near arm
    ball = combining.body("sphere", [radius], centre.tolist())
    for axes, operation in ((d, "difference"), (e, "union")):
        made = combining.combine([sdf, ball], operation, radius=0.15 * radius, style="round")
        picture(axes, shaded(extract_sdf(made, resolution=256), PIXELS, up="y", turn=35.0), operation.capitalize(),
                "with a ball, the seam a fillet; exact")  # fmt: skip
    space = empty_space(bound_of(sdf), box, smallest=1 / 64)
    _slice(f, space.lower, space.upper, space.state, float(box.centre[0]))
    f.set_title("Empty space", loc="left", color=INK, fontsize=11, fontweight="bold")
    note = f"{space.share(OUTSIDE):.0%} certainly outside; a slice, from the side"
    f.text(0.0, -0.02, note, transform=f.transAxes, va="top", color=SOFT, fontsize=8.5)
    save_figure(figure, output)
    click.echo(f"{output}")


def _slice(axes: Axes, lower: Array, upper: Array, state: Array, at: float) -> None:
    from matplotlib.patches import Rectangle

    colours = {1: "#dcecf6", -1: "#f0a08c", 0: "#22262e"}
    for low, high, kind in zip(lower, upper, state, strict=True):
        if low[0] <= at < high[0]:
            axes.add_patch(Rectangle((low[2], low[1]), high[2] - low[2], high[1] - low[1], facecolor=colours[int(kind)],
                                     edgecolor="white", linewidth=0.3))  # fmt: skip
    axes.set_xlim(lower[:, 2].min(), upper[:, 2].max())
    axes.set_ylim(lower[:, 1].min(), upper[:, 1].max())
    axes.set_aspect("equal")
    axes.axis("off")


def detailed(output: Path) -> None:
    """A ball, its base, twice its detail, and a chair with the ball's detail."""
    ball = fitted(dimpled(), "idf", steps=2000)
    chair = read(CHAIR)
    assert isinstance(chair, Mesh)
    plain = fitted(chair, "distance", steps=1200)
    carved = detail.transferred(ball, plain, strength=0.6)
    figure, (row,) = new_panels(13.0, 3.6, 1, 4)
    shapes = [
        (ball, "Fit", "recipe idf", "z"), (detail.base_of(ball), "Base", "its detail taken off", "z"),
        (detail.with_strength(ball, 2.0), "Strength 2", "", "z"), (carved, "Transfer", "onto a chair", "y"),
    ]  # fmt: skip
    for axes, (sdf, title, note, up) in zip(row, shapes, strict=True):
        picture(axes, shaded(extract_sdf(sdf, resolution=320), PIXELS, up=up, turn=35.0), title, note)
    save_figure(figure, output)
    click.echo(f"{output}")


@click.command()
@click.option("--only", type=click.Choice(["asked", "detail"]), help="One of the two.")
@click.option("--folder", type=click.Path(path_type=Path), default=ROOT / "docs")
def main(only: str | None, folder: Path) -> None:
    """Draw both pictures."""
    if only != "detail":
        asked(folder / "asked.png")
    if only != "asked":
        detailed(folder / "detail.png")


if __name__ == "__main__":
    main()
