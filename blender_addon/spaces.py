"""Shape spaces in the file: the bytes a scene or an object carries, requests about them, and the objects made of them.

``owner["sdf_space"]`` is the space's file as bytes, which only the worker reads; ``owner["sdf_space_info"]`` is JSON
with its shapes' names. A scene has the space that was learned last; a blend carries its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from ..sdfcore.errors import EngineError, InputError
from ..sdfcore.protocol import Message
from . import host, meshes, previews, requests, results
from .states import Job

SPACE, ABOUT = "sdf_space", "sdf_space_info"
DIRECTIONS = 6  # principal directions that have a slider


# --- what is stored ----------------------------------------------------------------------------------------------


def has(owner: Any) -> bool:
    """Whether a scene or an object carries a space."""
    data = owner.get(SPACE)
    return isinstance(data, bytes) and len(data) > 0


def array(owner: Any) -> Any:
    """The space as a request carries it, (N,) uint8.

    Raises:
        InputError: there is none.
    """
    if not has(owner):
        raise InputError(f"{owner.name} holds no shape space.", "Learn one, or load one.")
    return np.frombuffer(owner[SPACE], np.uint8)


def about(owner: Any) -> dict[str, Any]:
    """What the worker said of the space: ``names``, ``code_size``, ``explained``, ``amounts``; empty without one."""
    try:
        body = json.loads(owner.get(ABOUT, "{}"))
    except (TypeError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def names(owner: Any) -> list[str]:
    return [str(name) for name in about(owner).get("names") or ()]


def directions(owner: Any) -> int:
    """How many principal directions have a slider."""
    return max(0, min(DIRECTIONS, len(names(owner)) - 1))


def keep(owner: Any, data: Any, told: Mapping[str, Any]) -> None:
    """Store a space and what was said of it.

    Args:
        data: (N,) uint8. told: the body of a ``learn`` or ``describe`` answer.
    """
    if data is None or not len(data) or not told.get("names"):
        raise EngineError("The backend's answer holds no space.", "Update the backend: it must be of this version.")
    results.store_bytes(owner, SPACE, data)
    owner[ABOUT] = json.dumps({key: value for key, value in told.items() if key not in ("history", "report")})
    if isinstance(owner, bpy.types.Scene):
        owner.sdf_shapes.list_shapes(names(owner))


# --- requests ----------------------------------------------------------------------------------------------------


def learnable(obj: Any) -> bool:
    """Whether a space can be learned from ``obj``: it has a surface, and is no shape of a space itself."""
    return obj.type in meshes.READABLE and previews.OWNER not in obj and not obj.sdf_blend.kind


def members(context: Any) -> list[Any]:
    """What would be learned from: the objects of the collection that is set, else the selected ones, by name."""
    chosen = context.scene.sdf_shapes.source
    found = context.selected_objects if chosen is None else chosen.all_objects
    return sorted((obj for obj in found if learnable(obj)), key=lambda obj: obj.name_full)


def read(objects: Sequence[Any], context: Any) -> dict[str, Any]:
    """The objects as the arrays of a ``learn`` request, world units.

    Raises:
        InputError: one cannot be read.
    """
    arrays = {}
    for index, obj in enumerate(objects):
        shape = meshes.read(obj, context.evaluated_depsgraph_get(), context.scene.sdf.use_modifiers).shape
        held = requests.arrays_of(shape)
        held.pop("colours", None)
        arrays |= {f"s{index}_{name}": values for name, values in held.items()}
    return arrays


def learn_job(objects: Sequence[Any], context: Any, preview: bool, **options: Any) -> Job:
    """Learn a space from ``objects`` as the scene's settings say, but for ``options`` of the request.

    Raises:
        InputError: fewer than two, or one cannot be read.
    """
    if len(objects) < 2:
        raise InputError(f"A shape space needs two shapes or more, not {len(objects)}.", "Select more objects.")
    settings, common = context.scene.sdf_shapes, context.scene.sdf
    body = {
        "names": [obj.name_full for obj in objects],
        "preset": settings.preset,
        "steps": settings.steps or None,
        "seconds": settings.seconds or None,
        "samples": common.samples or None,
        "code_size": settings.code_size or None,
        "together": settings.together,
        "seed": common.seed,
        "device": requests.device(common),
        "preview": requests.PREVIEW_SECONDS if preview and common.show_preview else 0,
        **options,
    }
    title = f"Space of {len(objects)} shapes"
    return Job(title, Message("learn", "", body, read(objects, context)), {"place": target("Space", context.scene)})


def request(kind: str, title: str, body: Mapping[str, Any], data: Any, scene: Any, **arrays: Any) -> Job:
    """A job about the space whose bytes are ``data``, (N,) uint8."""
    full = {**body, "device": requests.device(scene.sdf)}
    return Job(title, Message(kind, "", full, {"space": data, **arrays}))


# --- objects -----------------------------------------------------------------------------------------------------


def target(name: str, scene: Any, matrix: Any = None) -> results.Target:
    """A place in the scene that no object has been in before; ``matrix`` (4, 4), default the world's own axes."""
    axes = np.eye(4) if matrix is None else matrix
    return results.Target(name, 0, 0, scene.session_uid, axes, axes, None)


def scene_of(uid: int, context: Any) -> Any:
    """The scene with a session uid, or the one that is shown when it is gone."""
    return results.by_uid(bpy.data.scenes, uid) or context.scene


def middle(vertices: Any) -> Any:
    """(4, 4) at the middle of the box round ``vertices`` (V, 3)."""
    matrix = np.eye(4)
    matrix[:3, 3] = (vertices.min(axis=0).astype(np.float64) + vertices.max(axis=0)) / 2
    return matrix


def mesh_of(name: str, message: Message, scene: Any) -> tuple[Any, Any]:
    """The Blender mesh of a ``decode`` answer, and the (4, 4) matrix of its object: at the shape's middle.

    Raises:
        SdfError: the answer holds no valid mesh.
    """
    vertices = message.arrays.get("vertices")
    if vertices is None or not len(vertices):
        raise EngineError("The backend's answer holds no mesh.", "Update the backend: it must be of this version.")
    matrix = middle(vertices)
    return results.build(name, target(name, scene, matrix), message), matrix


def put(name: str, mesh: Any, matrix: Any, home: Any) -> Any:
    """A new object of ``mesh`` in the collection ``home``, which knows the world it was decoded in."""
    obj = bpy.data.objects.new(name, mesh)
    obj.matrix_world = Matrix(matrix.tolist())
    obj[results.MATRIX] = [float(v) for v in matrix.ravel()]
    results.anchor(obj)
    home.objects.link(obj)
    return obj


def put_shape(name: str, message: Message, scene: Any) -> Any:
    """The object of a ``decode`` answer in the scene's collection for results; with its model it can be re-meshed."""
    mesh, matrix = mesh_of(name, message, scene)
    obj = put(name, mesh, matrix, results.collection(scene))
    carry(obj, message)
    return obj


def carry(obj: Any, message: Message) -> None:
    """Keep the model and the report of an answer on the object, as a fit does."""
    model = message.arrays.get("model")
    if model is not None and len(model):
        results.store_bytes(obj, results.MODEL, model)
    body = dict(message.body.get("report") or {})
    counts = {"vertices": len(obj.data.vertices), "faces": len(obj.data.polygons)}
    body["result"] = {**counts, "watertight": meshes.is_closed(message.arrays["faces"])}
    obj[results.REPORT] = json.dumps(body)


def select_only(obj: Any, context: Any) -> None:
    """Select ``obj`` and make it active, where the view layer shows it."""
    layer = context.view_layer
    layer.update()
    if not results.in_layer(obj, layer):
        return
    for other in context.selected_objects:
        other.select_set(False)
    obj.select_set(True)
    layer.objects.active = obj


def running(kinds: set[str]) -> bool:
    """Whether a job of one of ``kinds`` waits or runs."""
    return any(job.kind in kinds and not job.state.over for job in host.runtime().jobs.jobs.values())
