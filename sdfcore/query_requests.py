"""What the worker can be asked about stored models: measures, even points, a picture; and to make one of several.

``measure``      volume, centroid and inertia between limits that hold, and the area
``even_points``  iso-points with normals
``render``       what a camera sees
``combine``      several models as one
``overlap``      whether the insides of two meet
``skeleton``     few balls that cover it, their links, and a tree of bones
``export``       the content of a file for another program
``volume``       a narrow band of voxels round the surface
``space``        boxes that certainly hold no surface
``closest``      the surface's point that is nearest to one
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .channel import Control
from .deadline import Stopwatch
from .errors import InputError
from .fields import NeuralSDF
from .protocol import Message
from .requests import Answer


def measure(request: Message, control: Control) -> Answer:
    """The body's ``tolerance``; world units of the fit, a density of 1."""
    from .extraction import default_box, extract_sdf
    from .queries.bounds import bound_of
    from .queries.bulk import Limits, bulk

    sdf, show = model_of(request), shown(control, "measuring")
    box = sdf.frame.box_to_world(default_box(sdf))
    tolerance = float(request.body.get("tolerance") or 1e-3)
    found = bulk(bound_of(sdf), box, tolerance=tolerance, device=sdf.device, on_progress=show)
    control.check()
    mesh = extract_sdf(sdf, resolution=int(sdf.info.get("resolution") or 256), on_progress=lambda _: control.check())
    ends = lambda limits: {"low": limits.low.tolist(), "high": limits.high.tolist()}
    named: dict[str, Limits] = {"volume": found.volume, "centroid": found.centroid, "inertia": found.inertia}
    measures = {name: ends(limits) for name, limits in named.items()}
    return {"measures": {**measures, "area": mesh.area(), "least_area": found.least_area}}, {}


def even_points(request: Message, control: Control) -> Answer:
    """The body's ``count`` points at its ``level``, the share ``edges`` of them at sharp bends."""
    from .queries.iso_points import iso_points

    body = request.body
    found = iso_points(
        model_of(request),
        int(body.get("count") or 10_000),
        level=float(body.get("level") or 0.0),
        edges=float(body.get("edges") or 0.0),
        seed=int(body.get("seed") or 0),
        on_progress=shown(control, "spacing"),
    )
    assert found.normals is not None
    return {}, {"points": found.points, "normals": found.normals}


def render(request: Message, control: Control) -> Answer:
    """A picture of the body's ``width`` and ``height``; ``camera``: position, target, up, angle; ``certain``."""
    from .queries.render import Camera
    from .queries.render import render as picture_of

    body: dict[str, Any] = dict(request.body)
    camera = body.get("camera") or {}
    try:
        places = [np.array(camera[name], dtype=np.float64) for name in ("position", "target", "up")]
        view = Camera(places[0], places[1], places[2], float(camera["angle"]))
        width, height = int(body["width"]), int(body["height"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"The request has no camera and size: {error}.", "Give the scene a camera.") from error
    if any(place.shape != (3,) or not np.isfinite(place).all() for place in places) or min(width, height) < 1:
        raise InputError("The camera or the size of the picture cannot be.", "Give the scene another camera.")
    seen = picture_of(
        model_of(request), view, width, height, level=float(body.get("level") or 0.0),
        certain=bool(body.get("certain")), on_progress=shown(control, "rendering"),
    )  # fmt: skip
    return {"evaluations": seen.evaluations}, {"colour": seen.colour.astype(np.float32)}


def combine(request: Message, control: Control) -> Answer:
    """Several models, ``model_0`` …, as one: its mesh and its model.

    The body holds ``operation``, ``radius``, ``style`` and ``share`` for all of them, or ``steps``, a list of such for
    each but the first; ``places``, a 4 x 4 matrix for each; and ``offset`` and ``wall`` of the whole. With ``model``
    false, the mesh alone is answered.
    """
    from . import combining, storage
    from .extraction import extract_sdf
    from .requests import Measured

    body, parts = request.body, parts_of(request)
    if body.get("steps") is None:
        sdf = combining.combine(parts, **_operation(body))
    else:
        sdf = combining.in_turn(parts, [_operation(step) for step in body["steps"]])
    grown, wall = float(body.get("offset") or 0.0), float(body.get("wall") or 0.0)
    if grown or wall:
        sdf = combining.offset(sdf, grown, wall=wall)
    resolution = int(body.get("resolution") or sdf.info.get("resolution") or 256)
    sdf.info["resolution"] = resolution
    mesh = extract_sdf(sdf, resolution=resolution, on_progress=shown(control, "meshing"))
    told = {
        "recipe": "combined", "operation": sdf.info.get("operation"), "resolution": resolution, "reason": "",
        "result": {"vertices": len(mesh.vertices), "faces": len(mesh.faces)},
    }  # fmt: skip
    said, arrays = Measured(mesh).answer(told, stopped=False)
    if body.get("model", True):
        arrays["model"] = np.frombuffer(storage.to_bytes(sdf), np.uint8)
    return said, arrays


def _operation(body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "operation": str(body.get("operation") or "union"), "radius": float(body.get("radius") or 0.0),
        "style": str(body.get("style") or "smooth"), "share": float(body.get("share", 0.5)),
    }  # fmt: skip


def overlap(request: Message, control: Control) -> Answer:
    """Whether the insides of ``model_0`` and ``model_1``, at the body's ``places``, meet; and where."""
    from .queries.overlap import shapes_overlap

    parts = parts_of(request)
    if len(parts) != 2:
        raise InputError(f"{len(parts)} shapes cannot be asked whether they overlap.", "Select two results.")
    control.check()
    found = shapes_overlap(*parts)
    near = found.witness if found.witness is not None else found.open.mean(axis=(0, 1)) if len(found.open) else None
    return {"overlap": found.answer, "place": None if near is None else near.tolist()}, {}


def skeleton(request: Message, control: Control) -> Answer:
    """At the body's ``delta``; of every ball the ``parents`` are its place in a tree of bones, -1 for a root."""
    from .queries.skeleton import DELTA
    from .queries.skeleton import skeleton as skeleton_of

    found = skeleton_of(
        model_of(request), delta=float(request.body.get("delta") or DELTA), seed=int(request.body.get("seed") or 0),
        on_progress=shown(control, "tracing"),
    )  # fmt: skip
    parents = np.full(len(found.points), -1, np.int32)
    for parent, child in found.bones():
        parents[child] = parent
    arrays = {
        "points": found.points, "radii": found.radii.astype(np.float32), "edges": found.edges.astype(np.int32),
        "triangles": found.triangles.astype(np.int32), "parents": parents,
    }  # fmt: skip
    return {"coverage": found.coverage, "reach": found.delta}, arrays


def export(request: Message, control: Control) -> Answer:
    """The content of a file that ends with the body's ``suffix``: .onnx, .glsl or .osl."""
    from .command_export import SUFFIXES, exported

    show, suffix = shown(control, "exporting"), str(request.body.get("suffix"))
    show(0.0)
    if suffix not in SUFFIXES:
        raise InputError(f"Models cannot be exported as {suffix!r}.", f"Known are {', '.join(SUFFIXES)}.")
    data = exported(model_of(request).to("cpu"), suffix)
    show(1.0)
    return {}, {"data": np.frombuffer(data, np.uint8)}


def volume(request: Message, control: Control) -> Answer:
    """At the body's ``resolution`` and ``level``, ``width`` voxels to either side."""
    from .exports.volume import BAND, narrow_band

    body, sdf = request.body, model_of(request)
    found = narrow_band(
        sdf, resolution=int(body.get("resolution") or sdf.info.get("resolution") or 256),
        width=float(body.get("width") or BAND), level=float(body.get("level") or 0.0),
        on_progress=shown(control, "filling"),
    )  # fmt: skip
    return {"voxel": found.voxel, "band": found.band}, {"first": found.first, "values": found.values}


def space(request: Message, control: Control) -> Answer:
    """Boxes down to the body's ``smallest`` share of the fit's box, at its ``level``."""
    from .extraction import default_box
    from .queries.bounds import bound_of
    from .queries.empty import empty_space

    body, sdf = request.body, model_of(request)
    level = float(body.get("level") or 0.0)
    found = empty_space(
        bound_of(sdf), sdf.frame.box_to_world(default_box(sdf, level)), smallest=float(body.get("smallest") or 1 / 32),
        level=level, device=sdf.device, on_progress=shown(control, "searching"),
    )  # fmt: skip
    return {}, {"lower": found.lower, "upper": found.upper, "state": found.state}


def closest(request: Message, control: Control) -> Answer:
    """The surface's point nearest to the body's ``point``, how sure that is, and whether the latter is inside."""
    import torch

    from .extraction import default_box
    from .queries.bounds import bound_of
    from .queries.closest import closest as nearest

    control.check()
    sdf, point = model_of(request), request.body.get("point")
    if not isinstance(point, list) or len(point) != 3:
        raise InputError(f"{point} is no place.", "Give three numbers.")
    asked = torch.tensor([point], dtype=torch.float64, device=sdf.device)
    box = sdf.frame.box_to_world(default_box(sdf))
    found = nearest(bound_of(sdf), sdf, asked, box)
    with torch.no_grad():  # beyond its box the network knows nothing
        inside = bool(sdf(asked) < 0) and bool(((box.lower <= point) & (point <= box.upper)).all())
    return {
        "point": found.points[0].tolist(), "distance": float(found.distance), "least": float(found.least),
        "inside": inside,
    }, {}  # fmt: skip


def parts_of(request: Message) -> list[NeuralSDF]:
    """``model_0`` …, each where the body's ``places`` put it."""
    from .combining import moved_by

    places = request.body.get("places") or []
    return [moved_by(model_of(request, f"model_{number}"), np.array(place)) for number, place in enumerate(places)]


def model_of(request: Message, name: str = "model") -> NeuralSDF:
    from . import planning, storage

    model = request.arrays.get(name)
    if model is None:
        raise InputError("The request has no model.", "Select a result of Fit SDF.")
    device = planning.precise_device(str(request.body.get("device") or "auto"))
    return storage.from_bytes(model.tobytes(), device)


def shown(control: Control, stage: str) -> Any:
    clock = Stopwatch(stage)

    def show(fraction: float) -> None:
        control.progress(
            {
                "stage": stage, "step": 0, "steps": 0, "fraction": fraction, "loss": None, "seconds": clock.total,
                "seconds_left": None,
            }
        )  # fmt: skip

    return show


HANDLERS = {
    "measure": measure, "even_points": even_points, "render": render, "combine": combine, "overlap": overlap,
    "skeleton": skeleton, "export": export, "volume": volume, "space": space,
    "closest": closest,
}  # fmt: skip
