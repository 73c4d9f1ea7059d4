"""``blender --command sdf fit`` and ``scripts/fit_sdf.py``: the operators without a window, files in and files out."""

from __future__ import annotations

import argparse
import json
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
    try:
        _check_output(arguments.output)
        host.runtime().jobs.probe()  # names what can be chosen, and fails early
        sources = _import(arguments.input, arguments.separate) if arguments.input else _objects(arguments.object)
        _settle(arguments)
        made = [_fit(obj) for obj in sources]
        _write(arguments.output, made)
        if arguments.report:
            told = [{"object": obj.name, **results.report(obj)} for obj in made]
            arguments.report.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    except InputError as error:
        return _complain(error.line, MISUSED)
    except SdfError as error:
        return _complain(error.line, FAILED)
    except RuntimeError as error:  # what an operator of Blender reports
        return _complain(str(error).strip(), FAILED)
    sys.stdout.write(f"{arguments.output}: {', '.join(f'{o.name} ({len(o.data.vertices)} vertices)' for o in made)}\n")
    return 0


def _complain(line: str, code: int) -> int:
    sys.stderr.write(f"error: {line}\n")
    return code


def _check_output(path: Path) -> None:
    known = sorted({".blend", *_EXPORTERS})
    if path.suffix.lower() not in known:
        raise InputError(f"{path.name} is of no type that can be written.", f"Use one of {' '.join(known)}.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"The folder {path.absolute().parent} does not exist.", "Make it first.")


def _objects(names: Sequence[str] | None) -> list[Any]:
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


def _import(path: Path, separate: bool) -> list[Any]:
    if not path.is_file():
        raise InputError(f"{path} is not a file.", "Give a mesh or a scan.")
    if bpy.app.background and not bpy.data.filepath:
        bpy.ops.wm.read_homefile(use_empty=True)  # the start-up file's cube is not what was asked for
    before = set(bpy.data.objects)
    importer = _IMPORTERS.get(path.suffix.lower(), importing.import_file)
    importer(str(path.absolute()))
    found = [o for o in bpy.data.objects if o not in before and o.type in meshes.READABLE]
    if not found:
        raise EmptyInputError(f"{path.name} holds nothing to fit.", "Look at it in another program.")
    if len(found) > 1 and not separate:
        found = [_join([o for o in found if o.type == "MESH"], path.stem)]
    elif len(found) == 1:
        found[0].name = path.stem
    return found


def _join(parts: list[Any], name: str) -> Any:
    for part in parts:
        part.data = part.data.copy()  # parts may share one mesh
    _select(parts)
    bpy.ops.object.join()
    joined = bpy.context.view_layer.objects.active
    joined.name = name
    return joined


def _select(objects: Sequence[Any]) -> None:
    layer = bpy.context.view_layer
    layer.update()
    for obj in layer.objects:
        obj.select_set(obj in objects)
    layer.objects.active = objects[0]


def _settle(arguments: argparse.Namespace) -> None:
    settings = bpy.context.scene.sdf
    for name in _SETTINGS:
        value = getattr(arguments, name)
        if value is not None:
            try:
                setattr(settings, name, value)
            except TypeError as error:  # an enum's answer to a name it does not have
                raise InputError(f"--{name} {value}: {error}.") from error
    if arguments.no_modifiers:
        settings.use_modifiers = False


def _fit(obj: Any) -> Any:
    if obj.mode != "OBJECT":
        raise InputError(f"{obj.name} is saved in {obj.mode.title()} Mode.", "Save the file in Object Mode.")
    _select([obj])
    if not obj.select_get():
        raise InputError(f"{obj.name} is hidden.", "Show it, and make it selectable.")
    bpy.ops.sdf.fit()
    made = results.of(obj)
    if made is None:
        raise EmptyInputError(f"{obj.name} gave no result.", "See the messages above.")
    return made


def _write(path: Path, made: Sequence[Any]) -> None:
    if path.suffix.lower() == ".blend":
        bpy.ops.wm.save_as_mainfile(filepath=str(path.absolute()))
        return
    _select(made)
    with tempfile.TemporaryDirectory(prefix=".sdf-", dir=path.absolute().parent) as folder:
        _EXPORTERS[path.suffix.lower()](str(Path(folder) / path.name))
        for file in Path(folder).iterdir():  # an .obj brings its .mtl
            file.replace(path.absolute().parent / file.name)


def _command(argv: list[str]) -> int:
    if not argv or argv[0] != "fit":
        sys.stderr.write(f"usage: blender --command {COMMAND} fit ...\n")
        return MISUSED
    return main(argv[1:], f"blender --command {COMMAND} fit")


_handle: Any = None


def register() -> None:
    global _handle
    _handle = bpy.utils.register_cli_command(COMMAND, _command)


def unregister() -> None:
    bpy.utils.unregister_cli_command(_handle)
