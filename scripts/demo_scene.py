"""The stage of the demo: what came in on the upper shelf, what came out on the lower one. Runs inside Blender."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import bpy

# isort: split
import bmesh  # exists only once bpy does
from mathutils import Vector

COLUMN = 1.5  # metres between two exhibits
UPPER, LOWER = Vector((0.0, 1.2, 0.92)), Vector((0.0, 0.0, 0.0))
HEIGHT = 0.84  # every exhibit is shown about as tall

_DEPTH = 0.6  # of a shelf, in front of an exhibit's middle
_PAPER = (0.88, 0.86, 0.82)
_INK = (0.035, 0.045, 0.06)
_CLAY = (0.50, 0.50, 0.51)
_FLAW = (0.90, 0.10, 0.06)
_SCAN = (0.93, 0.36, 0.06)
PALETTE = ((0.015, 0.20, 0.22), (0.80, 0.36, 0.03), (0.13, 0.12, 0.42))


@dataclass(frozen=True)
class Exhibit:
    """One column: an object as it came, what was made of it, and a caption for each."""

    before: bpy.types.Object
    after: bpy.types.Object
    before_caption: str
    after_caption: str


def column(index: int, count: int) -> float:
    """x of the column ``index`` of ``count``."""
    return (index - (count - 1) / 2) * COLUMN


def dress(exhibits: Sequence[Exhibit]) -> None:
    """Materials, shelves, captions, light and camera around ``exhibits``; moves the results to the lower shelf."""
    for index, exhibit in enumerate(exhibits):
        exhibit.after.location += LOWER - UPPER
        paint(exhibit.after, material(f"Result {index + 1}", PALETTE[index % len(PALETTE)], roughness=0.32, coat=0.35))
        _show_source(exhibit.before)
        x = column(index, len(exhibits))
        _text(exhibit.before_caption, Vector((x, UPPER.y - _DEPTH, UPPER.z - 0.1)), 0.06)
        _text(exhibit.after_caption, Vector((x, LOWER.y - _DEPTH, LOWER.z - 0.1)), 0.06)
    _shelves()
    _light()
    _camera()


def _show_source(source: bpy.types.Object) -> None:
    """Grey clay, with back faces and open edges in red: what makes a model unusable is hard to see otherwise."""
    if len(source.data.polygons) == 0:
        _as_spheres(source, 0.0042)
        return
    paint(source, _clay())
    _draw_open_edges(source)


def paint(target: bpy.types.Object, look: bpy.types.Material) -> None:
    """Gives ``target`` the one material ``look``."""
    target.data.materials.clear()
    target.data.materials.append(look)


def material(name: str, colour: Sequence[float], *, roughness: float = 0.6, coat: float = 0.0) -> bpy.types.Material:
    made = bpy.data.materials.new(name)
    if made.node_tree is None:
        made.use_nodes = True
    shader = made.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (*colour, 1.0)
    shader.inputs["Roughness"].default_value = roughness
    shader.inputs["Coat Weight"].default_value = coat
    shader.inputs["Coat Roughness"].default_value = 0.25
    made.diffuse_color = (*colour, 1.0)
    return made


def _clay() -> bpy.types.Material:
    made = material("Source", _CLAY, roughness=0.75)
    nodes, links = made.node_tree.nodes, made.node_tree.links
    geometry, mix = nodes.new("ShaderNodeNewGeometry"), nodes.new("ShaderNodeMix")
    mix.data_type = "RGBA"
    a, b = (socket for socket in mix.inputs if socket.type == "RGBA")
    a.default_value, b.default_value = (*_CLAY, 1.0), (*_FLAW, 1.0)
    links.new(geometry.outputs["Backfacing"], mix.inputs["Factor"])
    colour = next(socket for socket in mix.outputs if socket.type == "RGBA")
    links.new(colour, nodes["Principled BSDF"].inputs["Base Color"])
    return made


def open_edges(shape: bmesh.types.BMesh) -> list[bmesh.types.BMEdge]:
    """Edges with one face, or more than two, after joining vertices that lie at one place."""
    bmesh.ops.remove_doubles(shape, verts=shape.verts, dist=1e-6)
    return [edge for edge in shape.edges if len(edge.link_faces) != 2]


def _draw_open_edges(source: bpy.types.Object) -> None:
    """Open edges as thin red tubes; an object of its own, parented to ``source``."""
    shape = bmesh.new()
    shape.from_mesh(source.data)
    lines = [[vertex.co.copy() for vertex in edge.verts] for edge in open_edges(shape)]
    shape.free()
    curve = bpy.data.curves.new(f"{source.name} open edges", "CURVE")
    curve.dimensions = "3D"
    curve.bevel_depth = 0.0035 / max(source.scale)
    for ends in lines:
        spline = curve.splines.new("POLY")
        spline.points.add(1)
        for point, position in zip(spline.points, ends, strict=True):
            point.co = (*position, 1.0)
    curve.materials.append(material("Open edge", _FLAW, roughness=0.5))
    tubes = bpy.data.objects.new(curve.name, curve)
    tubes.parent = source
    _link(tubes)


def _as_spheres(cloud: bpy.types.Object, radius: float) -> None:
    """Shows loose vertices as small balls, by a Geometry Nodes modifier: the vertices stay as they are."""
    group = bpy.data.node_groups.new("Points as balls", "GeometryNodeTree")
    for name, way in (("Geometry", "INPUT"), ("Geometry", "OUTPUT")):
        group.interface.new_socket(name, in_out=way, socket_type="NodeSocketGeometry")
    start, end = group.nodes.new("NodeGroupInput"), group.nodes.new("NodeGroupOutput")
    points, look = group.nodes.new("GeometryNodeMeshToPoints"), group.nodes.new("GeometryNodeSetMaterial")
    points.inputs["Radius"].default_value = radius
    look.inputs["Material"].default_value = material("Scan", _SCAN, roughness=0.6)
    for source, target in ((start, points), (points, look), (look, end)):
        group.links.new(source.outputs[0], target.inputs[0])
    cloud.modifiers.new("Points as balls", "NODES").node_group = group


def _text(words: str, place: Vector, size: float, *, bold: bool = False) -> None:
    curve = bpy.data.curves.new(words, "FONT")
    curve.body = words
    curve.size = size
    curve.align_x = "CENTER"
    curve.align_y = "CENTER"
    curve.offset = 0.0012 if bold else 0.0
    curve.extrude = 0.002
    ink = bpy.data.materials.get("Ink") or material("Ink", _INK, roughness=0.8)
    curve.materials.append(ink)
    written = bpy.data.objects.new(words, curve)
    written.location = place
    written.rotation_euler = (math.radians(90), 0, 0)
    _link(written)


def _shelves() -> None:
    """Two steps and a wall in one piece, edges rounded."""
    front, tread = LOWER.y - _DEPTH, UPPER.y - _DEPTH
    profile = [(front, -1.2), (front, LOWER.z), (tread, LOWER.z), (tread, UPPER.z), (1.9, UPPER.z), (1.9, 6.0)]
    shape = bmesh.new()
    rows = [[shape.verts.new((x, y, z)) for y, z in profile] for x in (-12.0, 12.0)]
    for i in range(len(profile) - 1):
        shape.faces.new((rows[0][i], rows[0][i + 1], rows[1][i + 1], rows[1][i]))
    mesh = bpy.data.meshes.new("Shelves")
    bmesh.ops.recalc_face_normals(shape, faces=shape.faces)
    shape.to_mesh(mesh)
    shape.free()
    mesh.shade_smooth()
    shelves = bpy.data.objects.new("Shelves", mesh)
    bevel = shelves.modifiers.new("Rounded", "BEVEL")
    bevel.width, bevel.segments, bevel.limit_method = 0.035, 6, "ANGLE"
    bevel.harden_normals = True
    paint(shelves, material("Paper", _PAPER, roughness=0.9))
    _link(shelves)


def _light() -> None:
    _area("Key", (-4.2, -4.4, 5.4), 2.6, 380, (1.0, 0.95, 0.89))
    _area("Fill", (5.0, -5.0, 2.6), 4.5, 70, (0.80, 0.90, 1.0))
    _area("Top", (1.5, 0.4, 5.5), 3.0, 130, (1.0, 0.97, 0.93))
    world = bpy.data.worlds.new("Studio")
    if world.node_tree is None:
        world.use_nodes = True
    background = world.node_tree.nodes["Background"]
    background.inputs["Color"].default_value = (0.92, 0.95, 1.0, 1.0)
    background.inputs["Strength"].default_value = 0.28
    bpy.context.scene.world = world


def _area(name: str, place: Sequence[float], size: float, power: float, colour: Sequence[float]) -> None:
    light = bpy.data.lights.new(name, "AREA")
    light.size, light.energy, light.color = size, power, colour
    lamp = bpy.data.objects.new(name, light)
    lamp.location = place
    lamp.rotation_euler = (Vector((0.0, 0.5, 0.8)) - Vector(place)).to_track_quat("-Z", "Y").to_euler()
    _link(lamp)


def _camera() -> None:
    """Sees both shelves from top to bottom, whatever the picture's width."""
    lens = bpy.data.cameras.new("Camera")
    lens.lens, lens.sensor_fit, lens.sensor_height = 75, "VERTICAL", 20.25
    camera = bpy.data.objects.new("Camera", lens)
    target = Vector((0.0, 0.35, 0.80))
    distance = 9.7
    elevation = math.radians(16)
    camera.location = target + distance * Vector((0.0, -math.cos(elevation), math.sin(elevation)))
    camera.rotation_euler = (target - camera.location).to_track_quat("-Z", "Y").to_euler()
    _link(camera)
    bpy.context.scene.camera = camera


def _link(made: bpy.types.Object) -> None:
    stage = bpy.data.collections.get("Stage")
    if stage is None:
        stage = bpy.data.collections.new("Stage")
        bpy.context.scene.collection.children.link(stage)
    stage.objects.link(made)


def render(path: Path, *, width: int = 1600, height: int = 900, samples: int = 16) -> None:
    """Cycles on the CPU, denoised, to a PNG."""
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = samples
    scene.cycles.use_denoising = True
    scene.cycles.max_bounces = 4
    scene.cycles.caustics_reflective = scene.cycles.caustics_refractive = False
    scene.view_settings.view_transform = "Standard"
    scene.view_settings.look = "None"
    scene.view_settings.exposure = 0.08
    scene.render.resolution_x, scene.render.resolution_y = width, height
    scene.render.resolution_percentage = 100
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
