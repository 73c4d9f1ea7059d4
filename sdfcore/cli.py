"""The ``sdfcore`` command line. Says one line and ends with 2 when something given is wrong; torch is imported late."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from . import __version__, console, threads
from .cli_detail import detail
from .cli_device import device_option
from .cli_models import combine, export, import_layers, render
from .cli_query import query
from .cli_space import space
from .console import Console
from .errors import InputError, SdfError

_FILE = click.Path(path_type=Path)
_RESOLUTION = click.IntRange(8, 2048)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="--debug, anywhere, shows the traceback of an error. Exit codes: 0 done, 2 something given is wrong, "
    "3 some shapes of many failed, 130 interrupted.",
)
@click.version_option(__version__, prog_name="sdfcore")
def commands() -> None:
    """Neural signed distance functions: a mesh or a scan in, a smooth watertight mesh out."""


_FIT_OPTIONS = (
    click.option("--recipe", default="auto", show_default=True, help="How to fit; 'sdfcore recipes' lists them."),
    click.option(
        "--preset",
        help="Effort: draft, balanced or fine.  [default: balanced; draft where --seconds are fewer than 40]",
    ),
    click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Be back by then, all included."),
    click.option("--steps", type=click.IntRange(min=1), help="Training steps, instead of the preset's."),
    click.option("--resolution", type=_RESOLUTION, help="Cells along the longest side, instead of the preset's."),
    click.option("--level", type=float, default=0.0, show_default=True, help="Offset: positive grows, in world units."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps …"),
    click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same device: same mesh."),
    click.option(
        "--samples", type=click.IntRange(min=100), help="Points taken of a mesh's surface, or kept of a scan."
    ),
)


def _fit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_FIT_OPTIONS):
        command = option(command)
    return command


@commands.command()
@click.argument("source", metavar="INPUT", type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, help="Mesh to write: .ply .obj .stl .glb .off or .npz.")
@_fit_options
@click.option(
    "--set",
    "settings",
    metavar="NAME=NUMBER",
    multiple=True,
    help="Change a number of the recipe's size: width, depth, batch, rate, nodes, warm_up, refresh; may be repeated.",
)
@click.option("--save", type=_FILE, metavar="MODEL", help="Keep the fitted model (.safetensors) for 'sdfcore mesh'.")
@click.option("--report", type=_FILE, metavar="JSON", help="Write what was done and how good it became.")
@click.option("--pictures", type=_FILE, metavar="DIR", help="Write loss, cross-section and gradients as PNG.")
@click.option("-q", "--quiet", is_flag=True, help="Only the result, or the error.")
def fit(**options: Any) -> None:
    """Fit a signed distance function to INPUT and write its surface.

    INPUT is a mesh or points, with normals or without. Ctrl-C stops the fit early and keeps its result; twice drops it.
    """
    from .command_fit import FitCommand

    FitCommand(**options).run()


@commands.command("fit-many")
@click.argument("folder", metavar="FOLDER", type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, metavar="FOLDER", help="Where the meshes go.")
@click.option(
    "--format", "suffix", default="ply", show_default=True, help="Of the meshes: ply, obj, stl, glb, off, npz."
)
@click.option("-r", "--recursive", is_flag=True, help="Look into subfolders, too.")
@_fit_options
@click.option("--save", is_flag=True, help="Keep the fitted models (.safetensors) beside the meshes.")
@click.option("--reports", is_flag=True, help="Write what was done and how good it became, as JSON, beside the meshes.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Shapes fitted side by side.")
@click.option(
    "--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Shapes a worker fits at once: for GPUs."
)
@click.option("--again", is_flag=True, help="Fit also what is done already.")
@click.option(
    "--ray", metavar="ADDRESS", is_flag=False, flag_value="", help="On a Ray cluster; without ADDRESS, this machine's."
)
@click.option("-q", "--quiet", is_flag=True, help="Only the summary, and what failed.")
def fit_many(folder: Path, output: Path, **options: Any) -> None:
    """Fit every mesh and point file in FOLDER.

    Run again, it goes on where it was stopped: what is done, from the same file with the same settings, is left alone.
    What fails is listed at the end and in fit-many.json; the exit code then is 3.
    """
    from .command_many import FAILED, ManyCommand

    own = {
        name: options.pop(name)
        for name in ("recursive", "save", "reports", "workers", "batch", "again", "ray", "quiet")
    }
    suffix = f".{options.pop('suffix').lstrip('.').lower()}"
    if ManyCommand(folder, output, suffix, settings=options, **own).run():
        raise click.exceptions.Exit(FAILED)


@commands.command()
@click.argument("model", type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, help="Mesh to write: .ply .obj .stl .glb .off or .npz.")
@click.option("--resolution", type=_RESOLUTION, help="Cells along the longest side, instead of the fit's.")
@click.option("--level", type=float, default=0.0, show_default=True, help="Offset: positive grows, in world units.")
@click.option("--certain", is_flag=True, help="Miss nothing farther than a cell from the mesh, or say where.")
@click.option("--places", type=_FILE, metavar="FILE", help="With --certain: boxes where it cannot be told, if any.")
@device_option(precise=True)
@click.option("-q", "--quiet", is_flag=True, help="Only the result, or the error.")
def mesh(
    model: Path, output: Path, resolution: int | None, level: float, certain: bool, places: Path | None, device: str,
    quiet: bool,
) -> None:  # fmt: skip
    """Take a surface from a saved MODEL, at any resolution and offset, without fitting again."""
    from .command_fit import check_mesh_output, surface_line
    from .command_space import distinct_files

    check_mesh_output(output)
    if places is not None:
        if not certain:
            raise InputError("Without --certain there are no --places.", "Give both.")
        check_mesh_output(places)
    distinct_files([output, places], [model])
    from . import extraction, storage, writing

    screen = Console(quiet=quiet)
    sdf = storage.load(model, device=device)
    cells = resolution or int(sdf.info.get("resolution") or 256)
    told = ""
    with screen.progress(1000):
        if certain:
            from .queries.certain import extract_certain

            found = extract_certain(sdf, resolution=cells, level=level, on_progress=screen.fraction)
            result, told = found.mesh, found.line
            lower, upper, _ = found.places()
            if places is not None and len(lower):
                from .queries.boxes import boxes_mesh

                writing.write(places, boxes_mesh(lower, upper))
        else:
            result = extraction.extract_sdf(sdf, resolution=cells, level=level, on_progress=screen.fraction)
    writing.write(output, result)
    click.echo(surface_line(output, result, console.seconds_since_start()))
    if told:
        click.echo(told)


@commands.command()
@click.argument("result", metavar="A", type=_FILE)
@click.argument("truth", metavar="B", type=_FILE)
@click.option("--samples", type=click.IntRange(min=100), default=100_000, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
def compare(result: Path, truth: Path, samples: int, seed: int, as_json: bool) -> None:
    """How far mesh A is from B, a mesh or points: unsquared distances, in world units, both directions."""
    from . import metrics, reading
    from .geometry import Mesh
    from .report import json_values

    ours, theirs = reading.read(result), reading.read(truth)
    if not isinstance(ours, Mesh):
        raise InputError(f"{result} holds points without faces.", "Give the mesh first, the points second.")
    body = json_values(metrics.compare(ours, theirs, samples=samples, seed=seed).as_dict())
    if as_json:
        click.echo(json.dumps(body, indent=2, allow_nan=False))
        return
    width = max(map(len, body))
    for name, value in body.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {_cell(value)}")


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@commands.command()
def recipes() -> None:
    """List the recipes, the classical methods to compare with, and the presets."""
    from .peers import PEERS
    from .presets import PRESETS
    from .recipes import RECIPES

    for recipe in RECIPES.values():
        _entry(recipe.name, f"{recipe.title}: {recipe.summary}", recipe.source, f"Learns from {recipe.needs}.")
    click.echo("\nTo compare with, as --recipe of 'sdfcore fit':")
    for peer in PEERS.values():
        _entry(peer.name, f"{peer.title}: {peer.summary}", peer.source, "Takes points; finds normals if need be.")
    click.echo()
    for preset in PRESETS.values():
        _entry(preset.name, f"{preset.title}: at most {preset.steps} steps by auto, resolution {preset.resolution}")


def _entry(name: str, *lines: str) -> None:
    for number, line in enumerate(lines):
        click.echo(f"{'' if number else name:<18}{line}")


@commands.command()
@click.argument("source", metavar="REPORT|MODEL", type=_FILE)
@click.option("-o", "--output", type=_FILE, help="Folder for the pictures; INPUT's own where not given.")
@click.option("--axis", type=click.Choice(["auto", "x", "y", "z"]), default="auto", show_default=True)
@click.option("--offset", type=float, help="Where to cut the axis, in world units; in the middle if not given.")
def plot(source: Path, output: Path | None, axis: str, offset: float | None) -> None:
    """Draw the loss and gradients of a REPORT, or a cross-section of a MODEL, as PNG."""
    from . import plots

    folder = source.parent if output is None else output
    check_folder(folder)
    if source.suffix.lower() == ".json":
        from .report import read_report

        written = plots.report_pictures(read_report(source), folder, prefix=f"{source.stem}_")
    else:
        from . import storage

        sdf = storage.load(source)
        written = [folder / f"{source.stem}_section.png"]
        plots.cross_section(sdf, written[0], axis=axis, offset=offset)
    for path in written:
        click.echo(str(path))


for command in (combine, detail, export, import_layers, query, render):
    commands.add_command(command)
commands.add_command(space)


def check_folder(folder: Path) -> None:
    """Makes ``folder`` where its parent exists.

    Raises:
        InputError: it cannot be made, or is no folder.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror}.", "Give a folder that can be written.") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line on ``arguments`` (the process's own if ``None``) and returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"] or ["--help"]
    try:
        with commands.make_context("sdfcore", given) as context:
            commands.invoke(context)
        return 0
    except click.exceptions.Exit as done:  # --help, --version
        return done.exit_code
    except BrokenPipeError:  # 'sdfcore recipes | head': nobody listens any more
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - keeps the interpreter's own flush quiet
        return 0
    except (KeyboardInterrupt, click.Abort):
        return _say("interrupted; what was not finished is not written.", 130)
    except Exception as error:  # noqa: BLE001 - the last door: one line for the user, the whole with --debug
        if debug:
            traceback.print_exc()
        return _say(*_explain(error))


def _explain(error: BaseException) -> tuple[str, int]:
    """One line for ``error``, and the exit code: 2 where the user can mend it."""
    if isinstance(error, SdfError):
        return error.line, 2
    if isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx is not None else "sdfcore"
        return f"{error.format_message()} See '{where} --help'.", 2
    if isinstance(error, click.ClickException):
        return error.format_message(), 2
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'A file'}: {error.strerror}.", 2
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "There is not enough memory. Take a smaller --resolution, --samples or preset.", 2
    return f"unexpected {type(error).__name__}: {error} (run again with --debug to see where).", 1


def _say(text: str, code: int) -> int:
    print(f"sdfcore: {' '.join(text.split())}", file=sys.stderr, flush=True)
    return code


def script() -> None:
    """Entry point of the ``sdfcore`` command: a process of its own, quiet but for our own lines."""
    if "--debug" in sys.argv:
        logging.basicConfig(level=logging.INFO)
    else:  # whatever a library has to say would be a second line beside ours
        warnings.simplefilter("ignore")
        logging.getLogger().addHandler(logging.NullHandler())
    threads.settle()
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show must not end in an error
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _leave)
    code = main()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)  # torch takes more than a second to be dismantled, for nothing: all files are closed


def _leave(number: int, frame: object) -> NoReturn:
    """Termination unwinds like an exit, so that temporary files are removed."""
    raise SystemExit(128 + number)
