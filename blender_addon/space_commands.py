"""Shape spaces without a window: ``blender --command sdf interpolate`` and ``complete``, and scripts of these names."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import bpy

from ..sdfcore.errors import EmptyInputError, InputError
from . import commands, host, meshes, results, space_operators, spaces
from .commands import MISUSED, answered

_MODES = {"objects": "OBJECTS", "animation": "ANIMATION", "shape-keys": "SHAPE_KEYS"}


def _parser(prog: str, description: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=prog, description=description)
    made.add_argument("--space", type=Path, metavar="FILE", help="shape space (default: that of the open file)")
    made.add_argument("-o", "--output", type=Path, required=True, help=".blend, or .ply .obj .stl .glb")
    made.add_argument("--resolution", type=int, help="cells along the longest side (default: 128)")
    made.add_argument("--device", help="auto, cpu, or a device the backend names")
    made.add_argument("--seed", type=int, help="same seed, same result")
    return made


def interpolate_parser(prog: str) -> argparse.ArgumentParser:
    """The command line of :func:`interpolate`; see its ``--help``."""
    made = _parser(prog, "Make the shapes between shapes, which a shape space is learned from unless there is one.")
    made.add_argument("--object", action="append", metavar="NAME", help="shape of the open file; two or more, in order")
    made.add_argument(
        "--input", action="append", type=Path, metavar="FILE", help="file to import; two or more, in order"
    )
    made.add_argument("--stop", action="append", metavar="NAME", help="go through this shape of the space, in order")
    made.add_argument("--count", type=int, help="how many shapes, the ends included (default: 5)")
    made.add_argument("--mode", choices=tuple(_MODES), default="objects", help="what to make (default: objects)")
    made.add_argument("--frames", type=int, nargs=2, metavar=("START", "END"), help="of the animation")
    made.add_argument("--spherical", action="store_true", help="go along the arc between the codes")
    made.add_argument("--preset", choices=("draft", "balanced", "fine"), help="of the learning (default: draft)")
    made.add_argument("--steps", type=int, help="training steps (default: the preset's)")
    made.add_argument("--seconds", type=float, help="time limit of the learning")
    made.add_argument("--code-size", type=int, help="numbers that tell one shape from another")
    made.add_argument("--together", action="store_true", help="one frame for all shapes")
    made.add_argument("--save-space", type=Path, metavar="FILE", help="write the space to a file, too")
    return made


def complete_parser(prog: str) -> argparse.ArgumentParser:
    """The command line of :func:`complete`; see its ``--help``."""
    made = _parser(prog, "Complete a scan of a part of a shape by what a shape space knows of such shapes.")
    source = made.add_mutually_exclusive_group()
    source.add_argument("--object", metavar="NAME", help="the scan in the open file")
    source.add_argument("--input", type=Path, metavar="FILE", help="the scan as a file")
    made.add_argument("--seconds", type=float, help="time limit")
    made.add_argument("--rotate", action="store_true", help="the scan may face any direction")
    made.add_argument("--no-align", action="store_true", help="the scan stands where the space's shapes do")
    made.add_argument("--no-tune", action="store_true", help="do not bring the surface to the scan's own accuracy")
    made.add_argument("--report", type=Path, metavar="FILE", help="write what was found as JSON")
    return made


def interpolate(argv: Sequence[str], prog: str = "interpolate.py") -> int:
    """As the arguments say. Returns the exit code: 0, 1 when it failed, 2 when the request cannot be met."""
    return _run(interpolate_parser(prog), argv, _interpolated)


def complete(argv: Sequence[str], prog: str = "complete.py") -> int:
    """As the arguments say. Returns the exit code, as :func:`interpolate`."""
    return _run(complete_parser(prog), argv, _completed)


def _run(parser: argparse.ArgumentParser, argv: Sequence[str], work: Callable[[argparse.Namespace], str]) -> int:
    try:
        arguments = parser.parse_args(list(argv))
    except SystemExit as end:  # a --help, or arguments that it has complained about
        return MISUSED if end.code else 0
    return answered(lambda: work(arguments))


# --- the work --------------------------------------------------------------------------------------------------------


def _interpolated(arguments: argparse.Namespace) -> str:
    commands.check_output(arguments.output)
    if arguments.save_space is not None and not arguments.save_space.absolute().parent.is_dir():
        raise InputError(f"The folder {arguments.save_space.absolute().parent} does not exist.", "Make it first.")
    shapes = _shapes(arguments)
    settings = _settle(arguments, ("count", "preset", "steps", "seconds", "code_size", "resolution"))
    settings.together, settings.spherical = arguments.together, arguments.spherical
    settings.mode = _MODES[arguments.mode]
    if arguments.frames:
        settings.frame_start, settings.frame_end = arguments.frames
    _take_space(arguments.space)
    if shapes:
        _select(shapes)
        bpy.ops.sdf.learn_space()
    stops = arguments.stop or [obj.name_full for obj in shapes]
    if stops:
        settings.set_stops(stops)
    made = _interpolate()
    if arguments.save_space is not None:
        space_operators.save(bpy.context.scene, arguments.save_space)
    _write(arguments.output, made)
    return f"{arguments.output}: {', '.join(obj.name for obj in made)}"


def _shapes(arguments: argparse.Namespace) -> list[Any]:
    """The objects to learn from; none where there is a space already.

    Raises:
        InputError: fewer than two, or they are not there.
    """
    if arguments.space and (arguments.input or arguments.object):
        raise InputError("A space and shapes to learn one from were given.", "Give only one of them.")
    if arguments.input:
        imported = [
            commands.import_objects(path, empty=index == 0 and not arguments.object)
            for index, path in enumerate(arguments.input)
        ]
        found = [obj for objects in imported for obj in objects]
    elif arguments.object:
        found = commands.named_objects(arguments.object)
    elif arguments.space or spaces.has(bpy.context.scene):
        return []
    else:
        found = [o for o in bpy.context.scene.objects if o.type in meshes.READABLE and results.MODEL not in o]
    if len(found) < 2:
        raise InputError(f"There are {len(found)} shapes to learn from; two or more are needed.", "Name more of them.")
    return found


def _settle(arguments: argparse.Namespace, names: Sequence[str]) -> Any:
    """Bring the arguments into the scene's settings; returns those of spaces."""
    scene = bpy.context.scene
    host.runtime().jobs.probe()  # it names the devices that can be chosen
    for owner, keys in ((scene.sdf, ("device", "seed")), (scene.sdf_shapes, names)):
        for key in keys:
            value = getattr(arguments, key)
            if value is not None:
                try:
                    setattr(owner, key, value)
                except TypeError as error:  # an enum's answer to a name it does not have
                    raise commands.unknown(key, value, error) from error
    return scene.sdf_shapes


def _select(objects: Sequence[Any]) -> None:
    bpy.context.scene.sdf_shapes.source = None
    commands.select(objects)
    hidden = [obj.name for obj in objects if not obj.select_get()]
    if hidden:
        raise InputError(f"{hidden[0]} is hidden.", "Show it, and make it selectable.")


def _take_space(path: Path | None) -> None:
    if path is not None:
        host.runtime().run(space_operators.load_job(path, bpy.context.scene))


def _interpolate() -> list[Any]:
    before = set(bpy.data.objects)
    bpy.ops.sdf.interpolate()
    return [obj for obj in bpy.data.objects if obj not in before]


def _write(path: Path, made: Sequence[Any]) -> None:
    """One file, or one for each object with its number in the name."""
    if path.suffix.lower() == ".blend" or len(made) == 1:
        commands.write_results(path, made)
        return
    for index, obj in enumerate(made):
        obj.hide_viewport = False  # what is hidden cannot be exported
        commands.write_results(path.with_name(f"{path.stem}_{index:02d}{path.suffix}"), [obj])


def _completed(arguments: argparse.Namespace) -> str:
    commands.check_output(arguments.output)
    commands.check_report(arguments.report)
    if arguments.input:
        scans = commands.import_objects(arguments.input)
    else:
        scans = commands.named_objects([arguments.object] if arguments.object else None)
    settings = _settle(arguments, ("resolution",))
    settings.complete_seconds = arguments.seconds or 0.0
    settings.rotate, settings.align, settings.tune = arguments.rotate, not arguments.no_align, not arguments.no_tune
    _take_space(arguments.space)
    if not spaces.has(bpy.context.scene):
        raise InputError("There is no shape space.", "Give one with --space.")
    _select(scans[:1])
    bpy.ops.sdf.complete()
    made = results.of(scans[0])
    if made is None:
        raise EmptyInputError(f"{scans[0].name} gave no result.", "See the messages above.")
    commands.write_results(arguments.output, [made])
    told = {"object": made.name, **results.report(made)}
    if arguments.report:
        commands.write_report(arguments.report, told)
    seen = told.get("observed_share")
    share = "" if seen is None else f", {seen:.0%} of it was scanned"
    return f"{arguments.output}: {made.name} ({len(made.data.vertices)} vertices{share})"
