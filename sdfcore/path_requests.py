"""What the worker can be asked about ways through a shape space; the space travels as in :mod:`.space_requests`.

``interpolate``  shapes on the way → a mesh for each, with triangles of its own
``project``      the same way → one mesh, and where its vertices are at each shape on the way

The body of both names ``stops`` (two or more shapes of the space), ``frames`` (how many shapes, the first and the last
included), ``resolution`` and ``spherical``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .channel import Control
from .deadline import Stopwatch
from .geometry import Array, Box
from .protocol import Message
from .requests import Answer
from .space_requests import space_of

if TYPE_CHECKING:
    from .fields import Field
    from .spaces import Latent, Space

_SUBSTEPS = 4  # between two frames, so that a mesh can follow


def _path(space: Space, request: Message, substeps: int = 1) -> list[Latent]:
    from .spaces import path

    body = request.body
    stops = [space[str(name)] for name in body.get("stops") or []]
    frames = int(body.get("frames") or 0)
    steps = (frames - 1) * substeps + 1 if frames > 1 else frames
    return path(stops, steps, spherical=bool(body.get("spherical")))


class _Telling:
    """Progress over so many equal pieces of work."""

    def __init__(self, control: Control, stage: str, pieces: int) -> None:
        self._control, self._stage, self._pieces = control, stage, max(pieces, 1)
        self._clock = Stopwatch(stage)
        self.done = 0

    def __call__(self, part: float = 0.0) -> None:
        """Tell of the pieces done and of ``part`` (0 to 1) of the next."""
        fraction = min((self.done + part) / self._pieces, 1.0)
        taken = self._clock.total
        left = taken * (1 - fraction) / fraction if fraction > 0.02 else None
        counted = {"step": self.done, "steps": self._pieces, "fraction": fraction}
        self._control.progress({"stage": self._stage, **counted, "loss": None, "seconds": taken, "seconds_left": left})


def interpolate(request: Message, control: Control) -> Answer:
    """Mesh every shape on the way: arrays ``m0_vertices``, ``m0_faces``, ``m1_…``; with ``model`` also ``m0_model``."""
    from . import storage
    from .extraction import extract_sdf

    space, body = space_of(request), request.body
    latents = _path(space, request)
    resolution = int(body.get("resolution") or 128)
    tell = _Telling(control, "extracting", len(latents))
    arrays: dict[str, Array] = {}
    for index, latent in enumerate(latents):
        sdf = space.decode(latent)
        mesh = extract_sdf(sdf, resolution=resolution, on_progress=tell)
        arrays |= {f"m{index}_vertices": mesh.vertices, f"m{index}_faces": mesh.faces}
        if body.get("model"):
            sdf.info["resolution"] = resolution
            arrays[f"m{index}_model"] = np.frombuffer(storage.to_bytes(sdf), np.uint8)
        tell.done += 1
    return {"report": {"resolution": resolution, "frames": len(latents)}}, arrays


def project(request: Message, control: Control) -> Answer:
    """Let one mesh follow the way: ``positions`` (frames, V, 3) float64, world units.

    The mesh is the request's ``vertices`` (V, 3) and ``faces`` on the first stop, or else that shape, meshed at
    ``resolution``; then ``vertices`` and ``faces`` are answered, too.
    """
    from .extraction import extract_sdf
    from .spaces.following import follow

    space = space_of(request)
    latents = _path(space, request, _SUBSTEPS)
    arrays, made = request.arrays, {}
    if "vertices" not in arrays or "faces" not in arrays:
        resolution = int(request.body.get("resolution") or 96)
        mesh = extract_sdf(space.decode(latents[0]), resolution=resolution, on_progress=lambda _: control.check())
        made = {"vertices": mesh.vertices, "faces": mesh.faces}
        arrays = made
    tell = _Telling(control, "following", len(latents))
    found = []
    stages = _stages(space, latents)
    for index, places in enumerate(follow(arrays["vertices"], arrays["faces"], stages, device=space.device)):
        tell.done = index + 1
        tell()
        if index % _SUBSTEPS == 0:
            found.append(places)
    found[0] = np.asarray(arrays["vertices"], dtype=np.float64)
    report: dict[str, Any] = {
        "frames": len(found),
        "result": {"vertices": len(found[0]), "faces": len(arrays["faces"])},
    }
    return {"report": report}, {"positions": np.stack(found), **made}


def _stages(space: Space, latents: list[Latent]) -> Iterator[tuple[Field, Box]]:
    for latent in latents:
        sdf = space.decode(latent)
        yield sdf, sdf.frame.box_to_world(sdf.box)


HANDLERS = {"interpolate": interpolate, "project": project}
