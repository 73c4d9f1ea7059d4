"""``make demo``: a messy catalogue chair, a one-sided noisy scan of it, and Suzanne, each through Fit SDF, headless.

    python scripts/demo.py [--input FILE [--up y]] [--output build/demo] [--steps 1500]   (a Python with bpy)
    blender --background --factory-startup --python scripts/demo.py -- [--input FILE [--up y]]

Leaves demo.blend, before_after.png and report.json in the output folder. The worker's Python is NEURAL_SDF_PYTHON.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy

# isort: split
import bmesh  # exists only once bpy does
import numpy as np
from mathutils import Matrix, Vector
from mathutils.bvhtree import BVHTree

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))  # Blender does not add a script's folder

import demo_scene  # noqa: E402
import fit_sdf  # noqa: E402

CHAIR = ROOT / "assets" / "chairs" / "winchester_armchair.ply"
_IMPORTERS: dict[str, Callable[..., Any]] = {
    ".ply": bpy.ops.wm.ply_import,
    ".obj": bpy.ops.wm.obj_import,
    ".stl": bpy.ops.wm.stl_import,
    ".glb": bpy.ops.import_scene.gltf,
    ".gltf": bpy.ops.import_scene.gltf,
}
_STARTED = time.monotonic()


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="demo.py", description="Fits, then renders before and after.")
    parser.add_argument("--input", type=Path, help="your own mesh or scan, instead of the three shapes")
    parser.add_argument("--up", default="z", choices=("y", "z"), help="the axis that points upwards in it")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "demo", help="folder of the results")
    parser.add_argument("--preset", default="draft", choices=("draft", "balanced", "fine"))
    parser.add_argument("--steps", type=int, default=1500, help="training steps of each fit; 0 for the preset's")
    parser.add_argument("--width", type=int, default=1600, help="of the picture, in pixels")
    options = parser.parse_args(words)
    options.output.mkdir(parents=True, exist_ok=True)
    if options.input is not None and not options.input.is_file():
        parser.error(f"there is no file {options.input}")

    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    package, registered = fit_sdf.addon()
    try:
        run(options)
    finally:
        if registered:
            package.unregister()
    return 0


def run(options: argparse.Namespace) -> None:
    sources = shapes() if options.input is None else [own_shape(options)]
    settings = bpy.context.scene.sdf
    settings.recipe, settings.preset, settings.steps = "auto", options.preset, options.steps
    exhibits, rows = [], []
    for source in sources:
        begun = time.monotonic()
        say(f"fitting {source.name}")
        result = fit(source)
        report = json.loads(result["sdf_report"])
        exhibits.append(demo_scene.Exhibit(source, result, describe_source(source), describe_result(result, report)))
        rows.append({"name": source.name, "wall_seconds": round(time.monotonic() - begun, 2), "report": report})
        say(f"  {exhibits[-1].before_caption} -> {exhibits[-1].after_caption}, {rows[-1]['wall_seconds']} s")

    demo_scene.dress(exhibits)
    picture = options.output / "before_after.png"
    begun = time.monotonic()
    say("rendering")
    demo_scene.render(picture, width=options.width * (2 + len(rows)) // 5, height=options.width * 9 // 16)
    body = {
        "blender": bpy.app.version_string,
        "fits": rows,
        "render_seconds": round(time.monotonic() - begun, 2),
        "seconds": round(time.monotonic() - _STARTED, 2),
    }
    (options.output / "report.json").write_text(json.dumps(body, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    bpy.ops.wm.save_as_mainfile(filepath=str((options.output / "demo.blend").resolve()))
    say(f"{picture}, demo.blend and report.json after {body['seconds']} s")


def shapes() -> list[bpy.types.Object]:
    """The three sources in their columns on the upper shelf."""
    chair = shown(load(CHAIR), 0, 3, spin=24)
    chair.name = "Catalogue chair"
    scan = scanned(chair, demo_scene.column(1, 3) - demo_scene.column(0, 3))
    bpy.ops.mesh.primitive_monkey_add()
    suzanne = shown(bpy.context.object, 2, 3, spin=18, tilt=-20)
    suzanne.name = "Suzanne"
    return [chair, scan, suzanne]


def own_shape(options: argparse.Namespace) -> bpy.types.Object:
    """The user's file, turned a little to the side."""
    return shown(load(options.input), 0, 1, spin=24, tilt=90 if options.up == "y" else 0)


def load(path: Path) -> bpy.types.Object:
    """The object in a mesh file, or the points of a scan; several objects are joined.

    Catalogue furniture and glTF have Y up; other files are taken as they are.
    """
    suffix = path.suffix.lower()
    before = set(bpy.data.objects)
    if suffix in _IMPORTERS:
        turned = {"up_axis": "Y", "forward_axis": "NEGATIVE_Z"} if path == CHAIR else {}
        _IMPORTERS[suffix](filepath=str(path.resolve()), **turned)
    else:
        bpy.ops.sdf.import_points(filepath=str(path.resolve()))
    made = [o for o in bpy.data.objects if o not in before and o.type == "MESH"]
    if not made:
        raise SystemExit(f"{path} holds no mesh and no points.")
    select(made)
    if len(made) > 1:
        bpy.ops.object.join()
    bpy.ops.object.transform_apply(location=True, rotation=True, scale=True)
    return bpy.context.object


def shown(source: bpy.types.Object, index: int, count: int, *, spin: float = 0, tilt: float = 0) -> bpy.types.Object:
    """Turns, scales and puts ``source`` upright into its column; angles in degrees."""
    turn = Matrix.Rotation(math.radians(spin), 4, "Z") @ Matrix.Rotation(math.radians(tilt), 4, "X")
    source.matrix_world = turn
    bpy.context.view_layer.update()
    lower, upper = bounds(source)
    size = upper - lower
    scale = demo_scene.HEIGHT / max(size.z, 0.8 * size.x, 0.8 * size.y)
    middle = Vector(((lower.x + upper.x) / 2, (lower.y + upper.y) / 2, lower.z))
    target = demo_scene.UPPER + Vector((demo_scene.column(index, count), 0.0, 0.0))
    source.matrix_world = Matrix.Translation(target - scale * middle) @ Matrix.Scale(scale, 4) @ turn
    bpy.context.view_layer.update()
    return source


def bounds(source: bpy.types.Object) -> tuple[Vector, Vector]:
    """World bounding box of an object's vertices."""
    points = world_points(source)
    return Vector(points.min(axis=0)), Vector(points.max(axis=0))


def world_points(source: bpy.types.Object) -> np.ndarray:
    """(V, 3) vertices in world coordinates."""
    local = np.empty(3 * len(source.data.vertices), np.float32)
    source.data.vertices.foreach_get("co", local)
    matrix = np.array(source.matrix_world)
    return local.reshape(-1, 3).astype(float) @ matrix[:3, :3].T + matrix[:3, 3]


def scanned(target: bpy.types.Object, shift: float, *, rays: int = 300, noise: float = 0.001) -> bpy.types.Object:
    """What a scanner on one side sees of ``target``: three stands, oriented points with noise, nothing from behind.

    Args:
        shift: how far to the right the points are put.
        rays: per side of a stand's square picture.
        noise: standard deviation along each axis, as a share of the diagonal.
    """
    tree = BVHTree.FromObject(target, bpy.context.evaluated_depsgraph_get())
    to_world = target.matrix_world
    to_local, turn = to_world.inverted(), to_world.to_3x3().inverted().transposed()
    lower, upper = bounds(target)
    middle, diagonal = (lower + upper) / 2, (upper - lower).length
    points, normals = [], []
    for azimuth, height in ((-62, 0.30), (-14, 0.55), (34, 0.25)):
        angle = math.radians(azimuth)
        outward = Vector((math.sin(angle), -math.cos(angle), height)).normalized()
        eye = middle + 2.5 * diagonal * outward
        looking = (-outward).to_track_quat("-Z", "Y")
        for u in np.linspace(-0.22, 0.22, rays):
            for v in np.linspace(-0.22, 0.22, rays):
                ray = looking @ Vector((u, v, -1.0)).normalized()
                place, normal, _, _ = tree.ray_cast(to_local @ eye, (to_local.to_3x3() @ ray).normalized())
                if place is not None:
                    facing = (turn @ normal).normalized()
                    points.append(to_world @ place)
                    normals.append(facing if facing.dot(ray) < 0 else -facing)  # a scanner sees only fronts
    random = np.random.default_rng(0)
    positions = np.array(points) + random.normal(0.0, noise * diagonal, (len(points), 3))
    directions = np.array(normals) + random.normal(0.0, 0.1, (len(points), 3))
    return points_object("Noisy scan from one side", positions, directions, Vector((shift, 0.0, 0.0)))


def points_object(name: str, positions: np.ndarray, normals: np.ndarray, place: Vector) -> bpy.types.Object:
    """Loose vertices with the attribute ``normal``, as Blender's own PLY import makes them."""
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(len(positions))
    mesh.vertices.foreach_set("co", positions.astype(np.float32).ravel())
    normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    mesh.attributes.new("normal", "FLOAT_VECTOR", "POINT").data.foreach_set(
        "vector", normals.astype(np.float32).ravel()
    )
    made = bpy.data.objects.new(name, mesh)
    made.location = place
    bpy.context.scene.collection.objects.link(made)
    bpy.context.view_layer.update()
    return made


def fit(source: bpy.types.Object) -> bpy.types.Object:
    """Clicks Fit SDF, as it were, and waits."""
    select([source])
    bpy.ops.sdf.fit()
    return next(o for o in bpy.data.objects if o.get("sdf_source") == source.name)


def select(chosen: list[bpy.types.Object]) -> None:
    for other in bpy.context.view_layer.objects:
        other.select_set(False)
    for one in chosen:
        one.select_set(True)
    bpy.context.view_layer.objects.active = chosen[0]


def describe_source(source: bpy.types.Object) -> str:
    """What is wrong with it, counted."""
    if len(source.data.polygons) == 0:
        return f"{source.name}: {len(source.data.vertices):,} points"
    shape = bmesh.new()
    shape.from_mesh(source.data)
    open_edges = len(demo_scene.open_edges(shape))
    parts = islands(shape)
    shape.free()
    return f"{source.name}: {parts} {'part' if parts == 1 else 'parts'}, {open_edges:,} open edges"


def islands(shape: bmesh.types.BMesh) -> int:
    """Number of connected parts."""
    unseen, found = set(shape.verts), 0
    while unseen:
        found += 1
        front = [unseen.pop()]
        while front:
            near = {edge.other_vert(v) for v in front for edge in v.link_edges} & unseen
            unseen -= near
            front = list(near)
    return found


def describe_result(result: bpy.types.Object, report: dict[str, Any]) -> str:
    metrics = report.get("metrics") or {}
    parts = metrics.get("components")
    closed = "watertight" if metrics.get("watertight") else "not watertight"
    return f"{closed}, {parts} {'part' if parts == 1 else 'parts'}, {len(result.data.vertices):,} vertices"


def say(words: str) -> None:
    sys.stdout.write(f"demo {time.monotonic() - _STARTED:6.1f} s  {words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        code = main(sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:])
    except SystemExit as end:  # argparse
        code = end.code if isinstance(end.code, int) else 2
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except Exception:  # noqa: BLE001 - whatever it was, Blender must end with a code that says so
        traceback.print_exc()
        code = 1
    fit_sdf.leave(code)
