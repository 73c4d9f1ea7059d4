"""``blender --command sdf fit`` and ``scripts/fit_sdf.py``: the operators without a window, files in and files out.

The commands about shape spaces are in :mod:`.space_commands`.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import bpy

from ..sdfcore.errors import EmptyInputError, InputError, SdfError
from . import host, importing, meshes, results

COMMAND = "sdf"
FAILED, MISUSED = 1, 2

_SETTINGS = ("recipe", "preset", "steps", "seconds", "resolution", "level", "device", "seed", "samples")

# Blender's own importers keep materials and turn axes; what is not named here goes through the worker.
_IMPORTERS: dict[str, Callable[[str], Any]] = {
    ".obj": lambda path: bpy.ops.wm.obj_import(filepath=path),
    ".stl": lambda path: bpy.ops.wm.stl_import(filepath=path),
    ".ply": lambda path: bpy.ops.wm.ply_import(filepath=path),
    ".glb": lambda path: bpy.ops.import_scene.gltf(filepath=path),
    ".gltf": lambda path: bpy.ops.import_scene.gltf(filepath=path),
}
_EXPORTERS: dict[str, Callable[[str], Any]] = {
    ".obj": lambda path: bpy.ops.wm.obj_export(filepath=path, export_selected_objects=True),
    ".stl": lambda path: bpy.ops.wm.stl_export(filepath=path, export_selected_objects=True),
    ".ply": lambda path: bpy.ops.wm.ply_export(filepath=path, export_selected_objects=True, export_normals=True),
    ".glb": lambda path: bpy.ops.export_scene.gltf(filepath=path, use_selection=True, export_format="GLB"),
}


def parser(prog: str) -> argparse.ArgumentParser:
    """The command line; see its ``--help``."""
    made = argparse.ArgumentParser(prog=prog, description="Fit objects of the open file, or a mesh or scan.")
    source = made.add_mutually_exclusive_group()
    source.add_argument("--object", action="append", metavar="NAME", help="object to fit; may be repeated")
    source.add_argument("--input", type=Path, metavar="FILE", help="file to import and fit instead")
    made.add_argument("-o", "--output", type=Path, required=True, help=".blend, or .ply .obj .stl .glb for the results")
    made.add_argument("--separate", action="store_true", help="fit each object of --input by itself, not joined")
    made.add_argument("--recipe", help="how to fit (default: auto)")
    made.add_argument("--preset", help="draft, balanced or fine (default: draft)")
    made.add_argument("--steps", type=int, help="training steps (default: the preset's)")
    made.add_argument("--seconds", type=float, help="time limit of the fit")
    made.add_argument("--resolution", type=int, help="cells along the longest side (default: the preset's)")
    made.add_argument("--level", type=float, help="offset of the mesh from the surface in scene units")
    made.add_argument("--device", help="auto, cpu, or a device the backend names")
    made.add_argument("--seed", type=int, help="same seed, same mesh")
    made.add_argument("--samples", type=int, help="points taken from the surface of a mesh")
    made.add_argument("--no-modifiers", action="store_true", help="ignore the objects' modifiers")
    made.add_argument("--report", type=Path, metavar="FILE", help="write the fits' reports as JSON")
    return made


def main(argv: Sequence[str], prog: str = "fit_sdf.py") -> int:
    """Fit as the arguments say. Returns the exit code: 0, 1 when a fit failed, 2 when the request cannot be met."""
    try:
        arguments = parser(prog).parse_args(list(argv))
    except SystemExit as end:  # a --help, or arguments that it has complained about
        return int(end.code or 0)
    return answered(lambda: _fitted(arguments))


def _fitted(arguments: argparse.Namespace) -> str:
    check_output(arguments.output)
    check_report(arguments.report)
    host.runtime().jobs.probe()  # names what can be chosen, and fails early
    if arguments.input:
        sources = import_objects(arguments.input, arguments.separate)
    else:
        sources = named_objects(arguments.object)
    _settle(arguments)
    made = [_fit(obj) for obj in sources]
    write_results(arguments.output, made)
    if arguments.report:
        told = [{"object": obj.name, **results.report(obj)} for obj in made]
        write_report(arguments.report, told)
    return f"{arguments.output}: {', '.join(f'{o.name} ({len(o.data.vertices)} vertices)' for o in made)}"


def check_report(path: Path | None) -> None:
    """Raises an InputError if a report cannot be written to ``path``: before any work, not after."""
    if path is not None and not path.absolute().parent.is_dir():
        raise InputError(f"There is no folder {path.parent}.", "Make it, or choose another for --report.")


def write_report(path: Path, told: Any) -> None:
    """``told`` as JSON at ``path``, whole or not at all."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        part.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def answered(work: Callable[[], str]) -> int:
    """Do ``work`` and print the line it returns, or why it failed in one line. Returns the exit code."""
    try:
        line = work()
    except InputError as error:
        return complain(error.line, MISUSED)
    except SdfError as error:
        return complain(error.line, FAILED)
    except OSError as error:
        return complain(f"{error.filename or 'A file'}: {error.strerror or error}.", FAILED)
    except RuntimeError as error:  # what an operator of Blender reports
        return complain(str(error).strip(), FAILED)
    sys.stdout.write(f"{line}\n")
    return 0


def complain(line: str, code: int) -> int:
    """Say why it failed; returns ``code``."""
    sys.stderr.write(f"error: {line}\n")
    return code


def check_output(path: Path) -> None:
    """Raises InputError where nothing could be written to ``path`` at the end."""
    known = sorted({".blend", *_EXPORTERS})
    if path.suffix.lower() not in known:
        raise InputError(f"{path.name} is of no type that can be written.", f"Use one of {' '.join(known)}.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"The folder {path.absolute().parent} does not exist.", "Make it first.")


def named_objects(names: Sequence[str] | None) -> list[Any]:
    """The objects of these names, or the only one that can be fitted.

    Raises:
        InputError: one is not there, or it is not clear which is meant.
    """
    scene = bpy.context.scene
    if names:
        missing = [name for name in names if name not in scene.objects]
        if missing:
            raise InputError(f"There is no object {missing[0]!r}.", f"There are: {', '.join(scene.objects.keys())}.")
        return [scene.objects[name] for name in names]
    found = [o for o in scene.objects if o.type in meshes.READABLE and results.MODEL not in o]
    if not found:
        raise EmptyInputError("The file has no object to fit.", "Give a file with --input.")
    if len(found) != 1:
        names = [o.name for o in found]
        raise InputError(f"The file has {len(found)} objects to fit: {', '.join(names)}.", "Name one with --object.")
    return found


def import_objects(path: Path, separate: bool = False, *, empty: bool = True) -> list[Any]:
    """The objects of a file, joined to one unless they are wanted ``separate``, called as the file is.

    Args:
        empty: the start-up file's objects may go.
    Raises:
        InputError: it is no file, or holds nothing that can be fitted.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file.", "Give a mesh or a scan.")
    if empty and bpy.app.background and not bpy.data.filepath:
        bpy.ops.wm.read_homefile(use_empty=True)  # the start-up file's cube is not what was asked for
    before = set(bpy.data.objects)
    importer = _IMPORTERS.get(path.suffix.lower(), importing.import_file)
    importer(str(path.absolute()))
    found = [o for o in bpy.data.objects if o not in before and o.type in meshes.READABLE]
    if not found:
        raise EmptyInputError(f"{path.name} holds nothing to fit.", "Look at it in another program.")
    joined = [o for o in found if o.type == "MESH"]
    if len(found) > 1 and not separate and joined:
        found = [_join(joined, path.stem)]
    elif len(found) == 1:
        found[0].name = path.stem
    return found


def _join(parts: list[Any], name: str) -> Any:
    for part in parts:
        part.data = part.data.copy()  # parts may share one mesh
    select(parts)
    bpy.ops.object.join()
    joined = bpy.context.view_layer.objects.active
    joined.name = name
    return joined


def select(objects: Sequence[Any]) -> None:
    """Select these objects alone; the first is the active one."""
    layer = bpy.context.view_layer
    layer.update()
    for obj in layer.objects:
        obj.select_set(obj in objects)
    layer.objects.active = objects[0]


def unknown(name: str, value: Any, error: TypeError) -> InputError:
    """What to say of an argument that a property does not take; Blender's ``error`` ends with what it would take."""
    known = re.findall(r"'([^']+)'", str(error).split(" not found in ")[-1])
    hint = f"Choose one of: {', '.join(known)}." if known else "See --help."
    return InputError(f"--{name.replace('_', '-')} cannot be {value}.", hint)


def _settle(arguments: argparse.Namespace) -> None:
    settings = bpy.context.scene.sdf
    for name in _SETTINGS:
        value = getattr(arguments, name)
        if value is not None:
            try:
                setattr(settings, name, value)
            except TypeError as error:  # an enum's answer to a name it does not have
                raise unknown(name, value, error) from error
    if arguments.no_modifiers:
        settings.use_modifiers = False


def _fit(obj: Any) -> Any:
    if obj.mode != "OBJECT":
        raise InputError(f"{obj.name} is saved in {obj.mode.title()} Mode.", "Save the file in Object Mode.")
    select([obj])
    if not obj.select_get():
        raise InputError(f"{obj.name} is hidden.", "Show it, and make it selectable.")
    bpy.ops.sdf.fit()
    made = results.of(obj)
    if made is None:
        raise EmptyInputError(f"{obj.name} gave no result.", "See the messages above.")
    return made


def write_results(path: Path, made: Sequence[Any]) -> None:
    """Save the file as .blend, or export the objects ``made`` alone."""
    if path.suffix.lower() == ".blend":
        bpy.ops.wm.save_as_mainfile(filepath=str(path.absolute()))
        return
    select(made)
    with tempfile.TemporaryDirectory(prefix=".sdf-", dir=path.absolute().parent) as folder:
        _EXPORTERS[path.suffix.lower()](str(Path(folder) / path.name))
        for file in Path(folder).iterdir():  # an .obj brings its .mtl
            file.replace(path.absolute().parent / file.name)


def _command(argv: list[str]) -> int:
    from . import space_commands  # it is made of what is above

    commands = {"fit": main, "interpolate": space_commands.interpolate, "complete": space_commands.complete}
    if not argv or argv[0] not in commands:
        sys.stderr.write(f"usage: blender --command {COMMAND} {{{'|'.join(commands)}}} ...\n")
        return MISUSED
    return commands[argv[0]](argv[1:], f"blender --command {COMMAND} {argv[0]}")


_handle: Any = None


def register() -> None:
    global _handle
    _handle = bpy.utils.register_cli_command(COMMAND, _command)


def unregister() -> None:
    bpy.utils.unregister_cli_command(_handle)
