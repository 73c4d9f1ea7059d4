"""What the worker can be asked, by the kind of the request. Imports torch only when asked for something that needs it.

``fit``       in :mod:`.fit_request`
``extract``   a model's bytes → a mesh at another resolution or level, without fitting again; a certain one if asked
``read``      a file's bytes → points, or vertices and faces
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .channel import Control
from .deadline import Stopwatch
from .errors import InputError
from .geometry import Array, Mesh, PointCloud
from .protocol import Message

if TYPE_CHECKING:
    from .fields import NeuralSDF
    from .metrics import Comparison

log = logging.getLogger(__name__)

Answer = tuple[dict[str, Any], dict[str, Array]]


def capabilities() -> dict[str, Any]:
    """What this worker has: versions, devices, recipes and presets, as ``ready`` tells them."""
    import torch

    from .planning import devices
    from .presets import PRESETS
    from .recipes import RECIPES

    recipes = [
        {name: getattr(recipe, name) for name in ("name", "title", "source", "summary", "needs")}
        for recipe in RECIPES.values()
    ]
    presets = [
        {name: getattr(preset, name) for name in ("name", "title", "steps", "resolution")}
        for preset in PRESETS.values()
    ]
    known = [{"id": key, "name": name} for key, name in devices()]
    return {"torch": str(torch.__version__), "devices": known, "recipes": recipes, "presets": presets}


def source_of(arrays: Mapping[str, Array]) -> Mesh | PointCloud:
    """The shape in a request's arrays, world units.

    Raises:
        InputError: there is none, or it cannot be used.
    """
    colours = arrays.get("colours")
    if "faces" in arrays:
        return Mesh(arrays.get("vertices", np.zeros((0, 3))), arrays["faces"], None, colours)
    places = arrays.get("points", arrays.get("vertices"))
    if places is None:
        raise InputError("The request has neither points nor a mesh.", "Select an object that has some.")
    return PointCloud(places, arrays.get("normals"), colours)


def _certain(sdf: NeuralSDF, options: dict[str, Any]) -> tuple[Mesh, str, dict[str, Array]]:
    """A certain mesh, what is certain of it, and the places to look at, by the names they have in an answer."""
    from .queries.certain import extract_certain

    found = extract_certain(sdf, **options)
    names = ("doubt_lower", "doubt_upper", "doubt_state")
    return found.mesh, found.line, dict(zip(names, found.places(), strict=True))


def extract(request: Message, control: Control) -> Answer:
    """Mesh a stored model again."""
    from . import extraction, planning, storage

    model, body, clock = request.arrays.get("model"), request.body, Stopwatch("preparing")
    if model is None:
        raise InputError("The request has no model.", "Select a result of Fit SDF.")
    named = planning.precise_device if body.get("certain") or body.get("wall") else planning.device_named
    sdf = storage.from_bytes(model.tobytes(), named(str(body.get("device") or "auto")))
    level = float(body.get("level") or 0.0)
    resolution = int(body.get("resolution") or sdf.info.get("resolution") or 256)
    clock.enter("extracting")

    def show(fraction: float) -> None:
        control.progress(
            {
                "stage": "extracting", "step": 0, "steps": 0, "fraction": 0.8 * fraction,
                "loss": None, "seconds": clock.total, "seconds_left": None,
            }
        )  # fmt: skip

    wall, shown, at = float(body.get("wall") or 0.0), sdf, level
    if wall:
        from .combining import offset

        shown, at = offset(sdf, level, wall=wall), 0.0
    options: dict[str, Any] = {"resolution": resolution, "level": at, "on_progress": show}
    if body.get("certain"):
        mesh, certain, places = _certain(shown, options)
    else:
        mesh, certain, places = extraction.extract_sdf(shown, **options), "", {}
    clock.enter("measuring")
    source = source_of(request.arrays) if {"points", "vertices"} & request.arrays.keys() else None
    found = Measured.of(mesh, source, level or wall, control)
    found.extras |= places
    return found.answer(
        {
            **{name: sdf.info.get(name) for name in ("recipe", "reason", "preset", "steps", "seed")},
            "resolution": resolution,
            "level": level,
            "wall": wall,
            "certain": certain,
            "seconds": clock.finish(),
            "result": {"vertices": len(mesh.vertices), "faces": len(mesh.faces)},
            "metrics": None if found.comparison is None else found.comparison.as_dict(),
        },
        stopped=False,
    )


def read(request: Message, control: Control) -> Answer:
    """The shape in a file's bytes."""
    from . import reading

    data = request.arrays.get("file")
    if data is None:
        raise InputError("The request has no file.", "Choose a file.")
    shape = reading.read_bytes(str(request.body.get("name", "")), data.tobytes())
    control.check()
    names = ("vertices", "faces", "normals", "colours") if isinstance(shape, Mesh) else ("points", "normals", "colours")
    found = {name: getattr(shape, name) for name in names}
    return {}, {name: values for name, values in found.items() if values is not None}


@dataclass
class Measured:
    """A mesh and what was found out about it; what could not be is left out and said in ``warnings``."""

    mesh: Mesh
    extras: dict[str, Array] = field(default_factory=dict)
    comparison: Comparison | None = None
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls, mesh: Mesh, source: Mesh | PointCloud | None, level: float, control: Control, samples: int = 100_000
    ) -> Measured:
        """Distances and colours from ``source``, and how near ``mesh`` is to it.

        An offset surface is meant to lie elsewhere, so it is not compared.
        """
        from . import metrics, transfer

        found = cls(mesh)
        if source is None:
            return found
        with found.attempt("what was carried over from the source"):
            carried = transfer.transfer(mesh, source)
            found.extras |= {"sdf_error": carried.error.astype(np.float32), "source_face": carried.face}
            if carried.colours is not None:
                found.extras["colours"] = carried.colours
        control.check()
        if level == 0.0:
            with found.attempt("the comparison with the source"):
                found.comparison = metrics.compare(mesh, source, samples=samples)
            control.check()
        return found

    @contextlib.contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """A finished mesh must not be lost because something about it could not be measured."""
        try:
            yield
        except Exception as error:
            log.exception("%s failed", what)
            self.warnings.append(f"{what} failed: {type(error).__name__}: {error}")

    def answer(self, report: dict[str, Any], *, stopped: bool) -> Answer:
        """The body and arrays of ``done``."""
        arrays = {"vertices": self.mesh.vertices, "faces": self.mesh.faces, **self.extras}
        if self.mesh.normals is not None:
            arrays["normals"] = self.mesh.normals
        return {
            "report": {**report, "warnings": [*report.get("warnings", []), *self.warnings]},
            "stopped": stopped,
        }, arrays
