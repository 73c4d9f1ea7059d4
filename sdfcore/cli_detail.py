"""``sdfcore detail``: detail apart from its shape. torch is imported by the commands, not here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import console
from .cli_device import device_option
from .console import Console

if TYPE_CHECKING:
    from .fields import NeuralSDF
    from .geometry import Mesh

_FILE = click.Path(path_type=Path)
_COMMON: list[Callable[[Any], Any]] = [
    click.option("-q", "--quiet", is_flag=True, help="Only the result, or the error."),
    device_option(precise=True),
    click.option("--save", type=_FILE, metavar="MODEL", help="Keep the new model (.safetensors), too."),
    click.option("--resolution", type=click.IntRange(8, 2048), help="Cells along the longest side; the fit's own."),
    click.option("-o", "--output", type=_FILE, required=True, help="Mesh to write: .ply .obj .stl .glb .off or .npz."),
]


def _common(command: Callable[..., None]) -> Callable[..., None]:
    for option in _COMMON:
        command = option(command)
    return command


@click.group(context_settings={"max_content_width": 110})
def detail() -> None:
    """Soften, strengthen or transfer the detail of models that were fitted with the recipe idf."""


@detail.command()
@click.argument("model", type=_FILE)
@_common
def split(model: Path, **options: Any) -> None:
    """The smooth base of MODEL as a mesh; a .ply or .npz holds the detail as the vertex attribute sdf_detail.

    It says how far out of the base the surface lies, in world units.
    """

    def make(sdf: NeuralSDF, cells: int, tick: Callable[[float], None]) -> tuple[Mesh, NeuralSDF]:
        from . import detail as of

        return of.split(sdf, resolution=cells, on_progress=tick), of.base_of(sdf)

    _run(model, make, **options)


@detail.command()
@click.argument("model", type=_FILE)
@click.option("--by", type=float, required=True, help="1 leaves it, 0 takes it off, 2 doubles it, -1 turns it inside.")
@_common
def strength(model: Path, by: float, **options: Any) -> None:
    """MODEL with its detail so many times as strong."""
    _run(model, lambda sdf, cells, tick: _meshed(_of().with_strength(sdf, by), cells, tick), **options)


@detail.command()
@click.argument("source", type=_FILE)
@click.argument("target", type=_FILE)
@click.option("--by", type=float, default=1.0, show_default=True, help="How strong, against the source.")
@_common
def transfer(source: Path, target: Path, by: float, device: str, **options: Any) -> None:
    """Put the detail of SOURCE onto TARGET, any fitted model; their boxes are laid over one another.

    Every point of the target takes the detail of the nearest point of the source's base.
    """
    from . import storage

    giver = storage.load(source, device=device)
    make = lambda sdf, cells, tick: _meshed(_of().transferred(giver, sdf, strength=by), cells, tick)
    _run(target, make, source, device=device, **options)


def _of() -> Any:
    from . import detail as module

    return module


def _meshed(sdf: NeuralSDF, cells: int, tick: Callable[[float], None]) -> tuple[Mesh, NeuralSDF]:
    from .extraction import extract_sdf

    return extract_sdf(sdf, resolution=cells, on_progress=tick), sdf


def _run(
    model: Path,
    make: Callable[[NeuralSDF, int, Callable[[float], None]], tuple[Mesh, NeuralSDF]],
    *read: Path,
    output: Path,
    resolution: int | None,
    save: Path | None,
    device: str,
    quiet: bool,
) -> None:
    """Writes what ``make`` makes of a model and of the other files ``read``: a mesh, and its model."""
    from . import storage, writing
    from .command_fit import check_mesh_output, check_output, surface_line
    from .command_space import distinct_files

    check_mesh_output(output)
    if save is not None:
        check_output(save, ".safetensors")
    distinct_files([output, save], [model, *read])
    sdf, screen = storage.load(model, device=device), Console(quiet=quiet)
    with screen.progress(1000):
        mesh, made = make(sdf, resolution or int(sdf.info.get("resolution") or 256), screen.fraction)
    writing.write(output, mesh)
    if save is not None:
        storage.save(made, save)
    click.echo(surface_line(output, mesh, console.seconds_since_start()))
