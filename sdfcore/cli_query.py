"""``sdfcore query``: what can be asked of fitted shapes. torch is imported by the commands, not here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .cli_device import device_option
from .console import Console

if TYPE_CHECKING:
    from .queries.bulk import Limits

_FILE = click.Path(path_type=Path)
_device = device_option(precise=True)
_quiet = click.option("-q", "--quiet", is_flag=True, help="Only the result, or the error.")
_json = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")


@click.group(context_settings={"max_content_width": 110})
def query() -> None:
    """Ask fitted models: volumes, overlaps and nearest points that are certain; rays, even points, skeletons."""


@query.command()
@click.argument("model", type=_FILE)
@click.option("--tolerance", type=click.FloatRange(1e-6, 0.5), default=1e-3, show_default=True, help="Of the volume.")
@_json
@_device
@_quiet
def measure(model: Path, tolerance: float, as_json: bool, device: str, quiet: bool) -> None:
    """Volume, centroid and inertia of MODEL, between limits that are certain. World units, a density of 1.

    The area has no such limits: that of the mesh is told, and one that it cannot be smaller than.
    """
    from . import storage
    from .extraction import default_box, extract_sdf
    from .queries.bounds import bound_of
    from .queries.bulk import bulk

    sdf, screen = storage.load(model, device=device), Console(quiet=quiet)
    box = sdf.frame.box_to_world(default_box(sdf))
    with screen.progress(1000):
        found = bulk(bound_of(sdf), box, tolerance=tolerance, device=device, on_progress=screen.fraction)
    mesh = extract_sdf(sdf, resolution=int(sdf.info.get("resolution") or 256))
    body = {
        "volume": _ends(found.volume), "centroid": _ends(found.centroid), "inertia": _ends(found.inertia),
        "area": {"of_the_mesh": mesh.area(), "least": found.least_area}, "boxes": found.bounds,
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps(body, indent=2, allow_nan=False))
        return
    click.echo(f"volume    {_between(found.volume)}")
    click.echo(f"centroid  {_between(found.centroid)}")
    for axis, row in zip("xyz", range(3), strict=True):
        click.echo(f"inertia {axis} {_between(_row(found.inertia, row))}")
    click.echo(f"area      {mesh.area():.6g} (of the mesh), at least {found.least_area:.6g}")


def _ends(limits: Limits) -> dict[str, Any]:
    return {"low": limits.low.tolist(), "high": limits.high.tolist()}


def _row(limits: Limits, row: int) -> Limits:
    from .queries.bulk import Limits

    return Limits(limits.low[row], limits.high[row])


def _between(limits: Limits) -> str:
    """Middle and half width of each number."""
    middle, half = limits.middle.reshape(-1), ((limits.high - limits.low) / 2).reshape(-1)
    return "  ".join(f"{m:.6g} ± {h:.2g}" for m, h in zip(middle, half, strict=True))


@query.command()
@click.argument("first", metavar="A", type=_FILE)
@click.argument("second", metavar="B", type=_FILE)
@click.option(
    "--smallest", type=click.FloatRange(1e-6, 0.5), default=1e-3, show_default=True,
    help="Side of the boxes that are not halved any more, as a share of both models' box.",
)  # fmt: skip
@_json
@_device
def overlap(first: Path, second: Path, smallest: float, as_json: bool, device: str) -> None:
    """Whether the insides of two models meet: yes, with a point that is in both, or no, for certain."""
    from . import storage
    from .queries.overlap import shapes_overlap

    one, other = (storage.load(path, device=device) for path in (first, second))
    found = shapes_overlap(one, other, smallest=smallest)
    if as_json:
        witness = None if found.witness is None else found.witness.tolist()
        click.echo(json.dumps({"overlap": found.answer, "witness": witness, "open": found.open.tolist()}, indent=2))
    elif found.witness is not None:
        click.echo(f"They overlap, at {' '.join(f'{v:.6g}' for v in found.witness)}.")
    elif found.answer is False:
        click.echo("They are apart, for certain.")
    else:
        place = " ".join(f"{v:.6g}" for v in found.open.mean(axis=(0, 1)))
        click.echo(
            f"No common point was found, but near {place} they come too close to tell; try a smaller --smallest."
        )


@query.command()
@click.argument("model", type=_FILE)
@click.argument("points", type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, help="Nearest points to write, in order: .ply .npz .xyz.")
@click.option(
    "--smallest", type=click.FloatRange(1e-6, 0.5), default=1 / 512, show_default=True,
    help="Side of the boxes that are not halved any more, as a share of the model's box.",
)  # fmt: skip
@_device
def closest(model: Path, points: Path, output: Path, smallest: float, device: str) -> None:
    """The nearest point of MODEL's surface for each point in POINTS, found for any field, distance or not."""
    import torch

    from . import reading, storage, writing
    from .command_space import distinct_files
    from .extraction import default_box
    from .geometry import Mesh, PointCloud
    from .queries.bounds import bound_of
    from .queries.closest import closest as nearest

    writing.check(output, points=True)
    distinct_files([output], [model, points])
    sdf, given = storage.load(model, device=device), reading.read(points)
    places = given.vertices if isinstance(given, Mesh) else given.points
    queries = torch.tensor(places, dtype=torch.float64, device=device)
    found = nearest(bound_of(sdf), sdf, queries, sdf.frame.box_to_world(default_box(sdf)), smallest=smallest)
    writing.write(output, PointCloud(found.points.cpu().numpy()))
    distance, doubt = found.distance, found.distance - found.least
    click.echo(
        f"{output}: {len(queries)} points, distances {float(distance.min()):.4g} to {float(distance.max()):.4g}, "
        f"each right to {float(doubt.max()):.2g} at most"
    )


@query.command()
@click.argument("model", type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, help="Points with normals to write: .ply .npz .xyz.")
@click.option("--count", type=click.IntRange(min=10), default=10_000, show_default=True, help="How many.")
@click.option("--level", type=float, default=0.0, show_default=True, help="Offset: positive grows, in world units.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--edges", type=click.FloatRange(0, 0.9), default=0.0, show_default=True, help="The share put at sharp bends."
)
@_device
@_quiet
def points(
    model: Path, output: Path, count: int, level: float, seed: int, edges: float, device: str, quiet: bool
) -> None:
    """Evenly spaced points on MODEL's surface, with normals (iso-points)."""
    from . import storage, writing
    from .queries.iso_points import iso_points

    writing.check(output, points=True)
    sdf, screen = storage.load(model, device=device), Console(quiet=quiet)
    with screen.progress(1000):
        found = iso_points(sdf, count, level=level, edges=edges, seed=seed, on_progress=screen.fraction)
    writing.write(output, found)
    click.echo(f"{output}: {len(found)} points")


@query.command()
@click.argument("model", type=_FILE)
@click.argument("given", metavar="RAYS.npz", type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, metavar="HITS.npz", help="Where the hits go.")
@click.option(
    "--far", type=click.FloatRange(min=0, min_open=True), help="Farthest distance; past the shape if not given."
)
@click.option("--level", type=float, default=0.0, show_default=True, help="Offset: positive grows, in world units.")
@_device
@_quiet
def rays(model: Path, given: Path, output: Path, far: float | None, level: float, device: str, quiet: bool) -> None:
    """Where rays first meet MODEL's surface, passing nothing, however steep its field is.

    RAYS.npz holds origins and directions, (N, 3) each. HITS.npz gets distance (N,), in lengths of the directions and
    infinite where nothing was met, points (N, 3), and doubtful (N,): grazing rays, of which it is not certain.
    """
    from .command_rays import cast_file

    line = cast_file(model, given, output, far=far, level=level, device=device, screen=Console(quiet=quiet))
    click.echo(line)


@query.command()
@click.argument("model", type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, help="Centres and links to write: .obj .json .npz.")
@click.option(
    "--delta", type=click.FloatRange(0.005, 0.5), default=0.06, show_default=True,
    help="How far from a ball the surface may lie, in a box of side 2: larger is coarser.",
)  # fmt: skip
@click.option("--picture", type=_FILE, help="PNG of the balls and links in the shape.")
@click.option("--axis", type=click.Choice(["x", "y", "z"]), default="y", show_default=True, help="Looked along.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@_device
@_quiet
def skeleton(
    model: Path, output: Path, delta: float, picture: Path | None, axis: str, seed: int, device: str, quiet: bool
) -> None:
    """The skeleton of MODEL: few balls inside it that cover it, and how they hang together.

    Best of a model of the recipe tv, whose field is sharp where it is farthest from the surface. .obj holds points,
    lines and triangles; .json and .npz the radii, and a tree of bones, as well.
    """
    from .command_skeleton import SkeletonCommand

    click.echo(SkeletonCommand(model, output, delta, seed, picture, axis, device, quiet).run())


@query.command()
@click.argument("model", type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, metavar="BOXES.npz", help="Where the boxes go.")
@click.option(
    "--smallest", type=click.FloatRange(1e-3, 1), default=1 / 64, show_default=True,
    help="Side of the boxes that are not halved any more, as a share of the model's box.",
)  # fmt: skip
@click.option("--level", type=float, default=0.0, show_default=True, help="Offset: positive grows, in world units.")
@_device
@_quiet
def space(model: Path, output: Path, smallest: float, level: float, device: str, quiet: bool) -> None:
    """Boxes that certainly hold nothing of MODEL's surface, for planning ways and for culling.

    BOXES.npz gets lower and upper corners (N, 3) of boxes that fill the model's box, and state (N,): 1 is certainly
    outside, -1 certainly inside, 0 may hold surface.
    """
    from .command_boxes import boxes_file

    click.echo(boxes_file(model, output, smallest=smallest, level=level, device=device, screen=Console(quiet=quiet)))
