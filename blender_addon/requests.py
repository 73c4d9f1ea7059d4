"""Jobs from what is selected and what is set: the scene goes in, a request with arrays comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..sdfcore.errors import InputError
from ..sdfcore.geometry import Mesh, PointCloud
from ..sdfcore.protocol import Message
from . import anchors, meshes, preferences, results
from .states import Job

PREVIEW_SECONDS = 2.0
LARGEST_FILE = 4 << 30  # bytes


def arrays_of(shape: Mesh | PointCloud) -> dict[str, Any]:
    """A shape as a request carries it."""
    arrays: dict[str, Any] = {"colours": shape.colours}
    if isinstance(shape, Mesh):
        arrays |= {"vertices": shape.vertices, "faces": shape.faces}
    else:
        arrays |= {"points": shape.points, "normals": shape.normals}
    return {name: values for name, values in arrays.items() if values is not None}


def device(settings: Any) -> str:
    """What to compute on: the scene's choice, else the preferences'."""
    chosen = settings.device or "default"
    return str(preferences.value("device", "auto") or "auto") if chosen == "default" else chosen


def fit_body(settings: Any, title: str, preview: bool) -> dict[str, Any]:
    """What the worker is told beside the arrays; zero means the preset's own value."""
    return {
        "recipe": settings.recipe or "auto",
        "preset": settings.preset or "draft",
        "steps": settings.steps or None,
        "seconds": settings.seconds or None,
        "resolution": settings.resolution or None,
        "level": settings.level,
        "device": device(settings),
        "seed": settings.seed,
        "samples": settings.samples or None,
        "preview": PREVIEW_SECONDS if preview and settings.show_preview else 0,
        "title": title,
    }


def fit_job(obj: Any, context: Any, preview: bool) -> Job:
    """Fit ``obj`` as the scene's settings say.

    Raises:
        InputError: it cannot be read.
    """
    settings = context.scene.sdf
    reading = meshes.read(obj, context.evaluated_depsgraph_get(), settings.use_modifiers)
    world = meshes.affine(obj.matrix_world, obj.name)
    target = results.Target(
        name=obj.name,
        source=obj.session_uid,
        result=0,
        scene=context.scene.session_uid,
        matrix=meshes.placement(world),
        source_matrix=world,
        reading=reading,
        hide_source=settings.hide_source,
        source_anchors=tuple(anchors.of(obj.data)),
    )
    body = fit_body(settings, obj.name, preview)
    return Job(obj.name, Message("fit", "", body, arrays_of(reading.shape)), {"place": target})


def model_of(result: Any) -> Any:
    """The bytes (N,) uint8 of the model that ``result`` carries.

    Raises:
        InputError: it has none.
    """
    data = result.get(results.MODEL)
    if not isinstance(data, bytes) or not data:
        raise InputError(f"{result.name} holds no fit.", "Select a result of Fit SDF.")
    return np.frombuffer(data, np.uint8)


def _again(result: Any, context: Any) -> results.Target:
    """The target that refreshes ``result``, with its source as it is now, in the world of the fit."""
    source = results.source_of(result)
    held = results.stored_matrix(result, results.SOURCE_MATRIX)
    reading = None
    if source is not None and source.mode != "EDIT":
        modifiers = context.scene.sdf.use_modifiers
        reading = meshes.read(source, context.evaluated_depsgraph_get(), modifiers, held)
    return results.Target(
        name=source.name if source else result.get(results.SOURCE, result.name),
        source=source.session_uid if source else 0,
        result=result.session_uid,
        scene=context.scene.session_uid,
        matrix=results.stored_matrix(result, results.MATRIX),
        source_matrix=held,
        reading=reading,
        source_anchors=tuple(anchors.of(source.data)) if source else (),
    )


def continue_job(result: Any, context: Any, preview: bool) -> Job:
    """Train the fit in ``result`` for more steps on its source, by the recipe and the preset it was made by.

    Raises:
        InputError: the source is gone, or it cannot be read.
    """
    target = _again(result, context)
    if target.reading is None:
        raise InputError(f"{target.name}, which {result.name} was fitted to, is not here.", "Fit an object again.")
    body = {**fit_body(context.scene.sdf, result.name, preview), "recipe": "auto"}  # the one the model was made by
    body["preset"] = results.report(result).get("preset") or body["preset"]
    arrays = {**arrays_of(target.reading.shape), "model": model_of(result)}
    return Job(result.name, Message("fit", "", body, arrays), {"place": target})


def remesh_job(result: Any, context: Any) -> Job:
    """Mesh the fit in ``result`` at the resolution and level that are set, without training."""
    settings = context.scene.sdf
    target = _again(result, context)
    arrays = {"model": model_of(result), **(arrays_of(target.reading.shape) if target.reading else {})}
    body = {
        "resolution": settings.resolution or None,
        "level": settings.level,
        "wall": settings.wall,
        "certain": settings.certain,
        "device": device(settings),
        "title": result.name,
    }
    return Job(result.name, Message("extract", "", body, arrays), {"place": target})


def read_job(path: Path) -> Job:
    """Read a file of points or triangles through the worker.

    Raises:
        InputError: it cannot be opened.
    """
    data = bytes_of(path, "Thin the scan first.")
    return Job(path.name, Message("read", "", {"name": path.name}, {"file": data}), {"import": path.stem})


def bytes_of(path: Path, cure: str) -> Any:
    """The file at ``path``, (N,) uint8: the worker may be on another machine. ``cure`` is for one that is too large.

    Raises:
        InputError: it cannot be opened, or is too large.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InputError(f"{path.name} is larger than 4 GB.", cure)
        return np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}.", "Choose another file.") from error
