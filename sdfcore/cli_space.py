"""``sdfcore space``: families of shapes in one network. torch is imported by the commands, not here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

_FILE = click.Path(path_type=Path)
_RESOLUTION = click.IntRange(8, 2048)

_output = click.option(
    "-o", "--output", type=_FILE, required=True, help="Mesh to write: .ply .obj .stl .glb .off or .npz."
)
_resolution = click.option(
    "--resolution", type=_RESOLUTION, default=192, show_default=True, help="Cells along the longest side."
)
_level = click.option(
    "--level", type=float, default=0.0, show_default=True, help="Offset: positive grows, in world units."
)
_device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps …")
_seed = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
_save = click.option("--save", type=_FILE, metavar="MODEL", help="Keep the shape's own model (.safetensors), too.")
_quiet = click.option("-q", "--quiet", is_flag=True, help="Only the result, or the error.")
_up = click.option(
    "--up", type=click.Choice(["x", "y", "z"]), default="z", show_default=True, help="Upwards in the shapes' world."
)
_seconds = click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Be back by then.")


@click.group(context_settings={"max_content_width": 110})
def space() -> None:
    """Shape spaces: a family of shapes in one network, and what lies between and beyond its members."""


@space.command()
@click.argument("sources", metavar="FOLDER|FILES...", type=_FILE, nargs=-1, required=True)
@click.option("-o", "--output", type=_FILE, required=True, help="Space to write (.safetensors).")
@click.option("--recipe", default="auto", show_default=True, help="How to learn; 'sdfcore recipes' lists them.")
@click.option("--preset", default="balanced", show_default=True, help="Effort: draft, balanced or fine.")
@_seconds
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over all shapes, instead of the preset's steps.")
@click.option("--steps", type=click.IntRange(min=1), help="Training steps, instead of the preset's.")
@click.option("--code-size", type=click.IntRange(1, 4096), metavar="L", help="Numbers in a shape's code.")
@click.option("--together", is_flag=True, help="Sizes and places are part of the shapes; else each fills the box.")
@_seed
@_device
@click.option("--encoder", is_flag=True, help="Learn to give codes in one pass, too (variational auto-encoder).")
@click.option("--samples", type=click.IntRange(min=100), help="Points to take from each surface.")
@click.option("--checkpoint", type=_FILE, metavar="FILE", help="Written now and then; gone on from where it is there.")
@click.option("--report", type=_FILE, metavar="JSON", help="Write what was done, with the curve of the loss.")
@_quiet
def learn(**options: Any) -> None:
    """Learn a space from shapes: all meshes and scans in a FOLDER, or FILES. Their names are the files' without suffix.

    Ctrl-C stops early and keeps the result; twice drops it. On several processors or machines:
    torchrun --nproc_per_node 2 -m sdfcore space learn … (there Ctrl-C only ends it; --checkpoint keeps it).
    """
    from .command_space import LearnCommand

    LearnCommand(**options).run()


@space.command()
@click.argument("source", metavar="SPACE", type=_FILE)
@click.option("-o", "--output", type=_FILE, metavar="PICTURE", help="Draw all shapes at their places (.png).")
@_up
@_quiet
def show(source: Path, output: Path | None, up: str, quiet: bool) -> None:
    """Say what a SPACE holds: shapes, code size, how much of the variance its principal directions explain."""
    from .command_space import show

    show(source, output, up, quiet)


@space.command(name="import")
@click.argument("folder", type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, help="Space to write (.safetensors).")
def import_(folder: Path, output: Path) -> None:
    """Make a space of a published DeepSDF auto-decoder: specs.json, ModelParameters and LatentCodes in a FOLDER."""
    from .command_space import import_deepsdf

    import_deepsdf(folder, output)


@space.command()
@click.argument("source", metavar="SPACE", type=_FILE)
@click.argument("name", required=False)
@_output
@click.option("--weights", metavar="A=0.3,B=0.7", help="Blend these shapes.")
@click.option("--amounts", metavar="1,-0.5", help="Move the mean along the principal directions, standard deviations.")
@_resolution
@_level
@_save
@_device
@_quiet
def decode(**options: Any) -> None:
    """Mesh one shape of a SPACE: a learned one by NAME, a blend by --weights, or a place by --amounts."""
    from .command_shapes import DecodeCommand

    DecodeCommand(**options).run()


@space.command()
@click.argument("source", metavar="SPACE", type=_FILE)
@_output
@_seed
@click.option("--spread", type=click.FloatRange(min=0), default=1.0, show_default=True, help="1: as the learned ones.")
@_resolution
@_level
@_save
@_device
@_quiet
def sample(**options: Any) -> None:
    """Mesh a shape drawn at random from a SPACE."""
    from .command_shapes import DecodeCommand

    DecodeCommand(**options).run()


@space.command()
@click.argument("source", metavar="SPACE", type=_FILE)
@click.argument("first", metavar="A")
@click.argument("last", metavar="B")
@click.option("--path", metavar="C", multiple=True, help="Go on from B to C; may be repeated.")
@click.option(
    "--frames", type=click.IntRange(2, 10_000), default=8, show_default=True, help="Shapes, A and B included."
)
@click.option("--spherical", is_flag=True, help="Along an arc between the codes instead of the straight line.")
@click.option("--resolution", type=_RESOLUTION, default=128, show_default=True, help="Cells along the longest side.")
@click.option(
    "-o", "--output", type=_FILE, required=True, help="Folder for frame_000.ply …, or one .glb with all side by side."
)
@click.option("--picture", type=_FILE, metavar="PNG", help="Draw the frames in a row.")
@_up
@_seed
@_device
@_quiet
def interpolate(**options: Any) -> None:
    """Write the shapes on the way from A to B, each the name of a learned shape, or a file: then its code is inferred.

    Ctrl-C keeps the frames so far.
    """
    from .command_shapes import InterpolateCommand

    InterpolateCommand(**options).run()


@space.command()
@click.argument("source", metavar="SPACE", type=_FILE)
@click.argument("scan", type=_FILE)
@_output
@click.option("--truth", type=_FILE, metavar="MESH", help="The whole shape, to measure against.")
@click.option("--report", type=_FILE, metavar="JSON", help="Write what was done, and how far it is from the truth.")
@click.option("--rotate", is_flag=True, help="The scan may face in any direction.")
@click.option("--no-tune", is_flag=True, help="Keep to the family: do not fit on to the scan itself.")
@_seconds
@_resolution
@_seed
@_save
@click.option(
    "--picture", type=_FILE, metavar="PNG", help="Draw it from four sides: what was scanned and what was not."
)
@_up
@_device
@_quiet
def complete(**options: Any) -> None:
    """Complete a partial SCAN by what the SPACE knows of its family.

    PLY and NPZ hold, for every vertex, its distance to the scan (observed) and whether it was scanned (observed_mask).
    Ctrl-C stops early and keeps the result; twice drops it.
    """
    from .command_complete import CompleteCommand

    CompleteCommand(**options).run()
