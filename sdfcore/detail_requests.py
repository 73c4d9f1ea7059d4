"""What the worker makes of fits that keep detail apart: the base with the detail as an attribute, and other strengths.

``split_detail``     the base's mesh, and how far out of it the surface lies
``detail_strength``  the same shape with stronger or fainter detail, as a new fit
``transfer_detail``  ``model_0`` with the detail of ``model_1``, as a new fit
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .channel import Control
from .errors import InputError
from .fields import NeuralSDF
from .protocol import Message
from .query_requests import model_of, shown
from .requests import Answer, Measured


def split_detail(request: Message, control: Control) -> Answer:
    """At the body's ``resolution``, or the fit's own."""
    from . import detail

    sdf = model_of(request)
    mesh = detail.split(sdf, resolution=_cells(request, sdf), on_progress=shown(control, "meshing"))
    return {}, {"vertices": mesh.vertices, "faces": mesh.faces, "detail": mesh.attributes[detail.ATTRIBUTE]}


def detail_strength(request: Message, control: Control) -> Answer:
    """The body's ``strength`` times as strong."""
    from . import detail

    sdf = model_of(request)
    return fitted(detail.with_strength(sdf, _strength(request)), _cells(request, sdf), control)


def transfer_detail(request: Message, control: Control) -> Answer:
    """Where the body's ``places`` lay the two; the result is in the world of ``model_0``."""
    from . import detail
    from .combining import similarity

    target, source = (model_of(request, f"model_{number}") for number in (0, 1))
    places = request.body.get("places") or []
    if len(places) != 2:
        raise InputError("Detail goes from one shape to another.", "Select two results.")
    onto, from_ = (np.array(place, dtype=np.float64) for place in places)
    similarity(onto)  # refuses what cannot be undone, and the rest
    placement = np.linalg.inv(onto) @ from_
    made = detail.transferred(source, target, strength=_strength(request), placement=placement)
    return fitted(made, _cells(request, target), control)


def _strength(request: Message) -> float:
    return float(request.body.get("strength", 1.0))


def _cells(request: Message, sdf: NeuralSDF) -> int:
    return int(request.body.get("resolution") or sdf.info.get("resolution") or 256)


def fitted(sdf: NeuralSDF, resolution: int, control: Control) -> Answer:
    """A shape as a fit answers it: its mesh at ``resolution``, and its model."""
    from . import storage
    from .extraction import extract_sdf

    sdf.info["resolution"] = resolution
    mesh = extract_sdf(sdf, resolution=resolution, on_progress=shown(control, "meshing"))
    told: dict[str, Any] = {
        "recipe": str(sdf.info.get("recipe", "idf")), "detail": sdf.info.get("detail"), "resolution": resolution,
        "reason": "", "result": {"vertices": len(mesh.vertices), "faces": len(mesh.faces)},
    }  # fmt: skip
    said, arrays = Measured(mesh).answer(told, stopped=False)
    return said, {**arrays, "model": np.frombuffer(storage.to_bytes(sdf), np.uint8)}


HANDLERS = {
    "split_detail": split_detail, "detail_strength": detail_strength, "transfer_detail": transfer_detail
}  # fmt: skip
