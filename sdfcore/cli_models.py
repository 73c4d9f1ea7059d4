"""Commands that make something of saved models: combine, import and render. torch is imported by them, not here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .cli_device import device_option

_FILE = click.Path(path_type=Path)
_RESOLUTION = click.IntRange(8, 2048)


def _place(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Three numbers, as ``1,0.4,-2``."""
    if value is None:
        return None
    try:
        x, y, z = (float(word) for word in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not X,Y,Z: three numbers with commas between them.") from error
    return x, y, z


@click.command()
@click.argument("parts", metavar="A B...", nargs=-1, required=True)
@click.option("-o", "--output", type=_FILE, required=True, help="Mesh to write: .ply .obj .stl .glb .off or .npz.")
@click.option(
    "--operation",
    type=click.Choice(["union", "intersection", "difference", "morph"]),
    default="union",
    show_default=True,
)
@click.option("--radius", type=click.FloatRange(min=0), default=0.0, show_default=True, help="Of the blended seam.")
@click.option("--style", type=click.Choice(["smooth", "round", "chamfer"]), default="smooth", show_default=True)
@click.option("--share", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Of a morph, from A to B.")
@click.option("--offset", type=float, default=0.0, show_default=True, help="Move the surface outwards in the end.")
@click.option(
    "--wall", type=click.FloatRange(min=0), default=0.0, show_default=True, help="Make a shell so thick of it."
)
@click.option("--resolution", type=_RESOLUTION, help="Cells along the longest side; as fine as the parts if not given.")
@click.option("--save", type=_FILE, metavar="MODEL", help="Keep the combined model (.safetensors), too.")
@device_option(precise=True)
@click.option("-q", "--quiet", is_flag=True, help="Only the result, or the error.")
def combine(**options: Any) -> None:
    """Combine saved models and plain bodies into one, exactly: no fit, no mesh boolean.

    Each of A, B … is a model's file, or a body: sphere:R, box:X,Y,Z (half sides), torus:RING,TUBE, cylinder:R,HALF,
    capsule:R,HALF or plane, all with @X,Y,Z for another place than the origin: torus:0.5,0.1@0,0,1. A difference is A
    without the others. One part alone is offset or made a shell.
    """
    from .command_combine import CombineCommand

    CombineCommand(**options).run()


@click.command("import")
@click.argument("layers", metavar="LAYERS.npz", type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, metavar="MODEL", help="Model to write (.safetensors).")
def import_layers(layers: Path, output: Path) -> None:
    """Make a MODEL of a published network, one .npz of dense, ReLU and ELU layers (neural-implicit-queries)."""
    from . import storage
    from .command_fit import check_output
    from .command_space import distinct_files
    from .published import load_layers

    check_output(output, ".safetensors")
    distinct_files([output], [layers])
    sdf = load_layers(layers)
    storage.save(sdf, output)
    click.echo(f"{output}: {sdf.info['layers']} dense layers")


@click.command()
@click.argument("model", type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, help="File to write: .onnx, .glsl or .osl.")
def export(model: Path, output: Path) -> None:
    """MODEL for other programs: an ONNX model, or a function of a shading language, GLSL or OSL.

    All take places in world units and give signed distances. An ONNX file is compared with the network before it is
    kept. Shading languages take plain networks (recipes igr, siren, digs, lipschitz), not those with feature grids.
    """
    from .command_export import ExportCommand

    click.echo(ExportCommand(model, output).run())


@click.command()
@click.argument("model", type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, help="Picture to write: .png.")
@click.option("--camera", metavar="X,Y,Z", callback=_place, help="Where it stands; in front and above if not given.")
@click.option("--target", metavar="X,Y,Z", callback=_place, help="What it looks at; the middle of the shape.")
@click.option("--up", type=click.Choice(["x", "y", "z"]), default="z", show_default=True, help="Upwards in the world.")
@click.option("--angle", type=click.FloatRange(1, 170), default=40.0, show_default=True, help="Of view, in degrees.")
@click.option("--light", metavar="X,Y,Z", callback=_place, help="Towards the light.")
@click.option("--size", metavar="WxH", default="512x512", show_default=True, help="Of the picture, in pixels.")
@click.option("--level", type=float, default=0.0, show_default=True, help="Offset: positive grows, in world units.")
@click.option("--depth", type=_FILE, metavar="FILE", help="Depth, too: .png, nearer is lighter; or .npz, with normals.")
@click.option("--normals", type=_FILE, metavar="PNG", help="Normals, too, as colours: 0.5 + 0.5 n in the world.")
@click.option("--certain", is_flag=True, help="Rays by bounds: nothing is passed, however steep the field is.")
@device_option(precise=False)
@click.option("-q", "--quiet", is_flag=True, help="Only the result, or the error.")
def render(**options: Any) -> None:
    """A picture of MODEL, from its field, without a mesh: shaded, with soft shadows and ambient occlusion."""
    from .command_render import RenderCommand

    RenderCommand(**options).run()
