"""What the worker can be asked about shape spaces. A space travels as the bytes of its file, in the array ``space``.

``learn``     named shapes → a space: arrays ``s0_vertices``, ``s0_faces`` (or ``s0_points``, ``s0_normals``), ``s1_…``
``decode``    a space and where in it → a mesh
``complete``  a space and a partial scan → a whole mesh that knows what was scanned
``describe``  a space → its shapes' names and principal directions
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .channel import Control
from .deadline import Stopwatch
from .errors import InputError, NoSurfaceError, SdfError
from .errors import describe as error_body
from .geometry import Array, Mesh, PointCloud
from .protocol import Message
from .requests import Answer, source_of

if TYPE_CHECKING:
    from .fitting import Progress
    from .spaces import Directions, Latent, Learn, Space

_KEPT = 4  # spaces held in memory, so that a slider does not wait for them
_PREVIEW_RESOLUTION = 48
_LEARNED = 0.97

_spaces: OrderedDict[tuple[str, str], Space] = OrderedDict()


def space_of(request: Message) -> Space:
    """The space whose bytes the request brings; those seen lately are not read again.

    Raises:
        InputError: it brings none. StorageError: they are damaged.
    """
    from .planning import device_named
    from .spaces.storage import from_bytes

    data = request.arrays.get("space")
    if data is None:
        raise InputError("The request has no space.", "Learn a shape space first, or load one.")
    raw = data.tobytes()
    device = device_named(str(request.body.get("device") or "auto"))
    key = (hashlib.sha256(raw).hexdigest(), str(device))
    if key not in _spaces:
        _spaces[key] = from_bytes(raw, device)
    _spaces.move_to_end(key)
    while len(_spaces) > _KEPT:
        _spaces.popitem(last=False)
    return _spaces[key]


def _bytes(space: Space) -> Array:
    from .spaces.storage import to_bytes

    return np.frombuffer(to_bytes(space), np.uint8)


def describe(request: Message, control: Control) -> Answer:
    """Names, code size and principal directions of a space."""
    return described(space_of(request)), {}


def described(space: Space) -> dict[str, Any]:
    """What the add-on shows of a space."""
    found = space.directions()
    keys = ("title", "recipe", "steps", "seconds", "seed", "together", "version")
    return {
        "names": space.names,
        "code_size": space.decoder.code_size,
        "encoder": space.encoder is not None,
        "explained": [round(float(share), 6) for share in found.explained[:8]],
        "amounts": [[round(float(a), 4) for a in row] for row in _amounts(space, found)],
        "info": {key: space.info.get(key) for key in keys},
    }


def _amounts(space: Space, found: Directions) -> Array:
    """(S, K) the shapes' codes along the first principal directions, K ≤ 6, in standard deviations."""
    axes, deviations = found.axes[:6], np.maximum(found.deviations[:6], 1e-12)
    return np.asarray((space.codes - found.mean) @ axes.T / deviations)


def learn(request: Message, control: Control) -> Answer:
    """Learn a space from the named shapes of the request.

    Body: ``names``; ``recipe``, ``preset``, ``steps``, ``epochs``, ``seconds``, ``code_size``, ``together``,
    ``encoder``, ``seed``, ``device``; ``preview``: seconds between two meshes of the first shape, 0 for none;
    ``decode``: the body of a decode request, whose mesh then comes along; if there is none, ``undecoded`` says why, for
    what was learned is not lost by it. A stop keeps what there is.
    """
    from .descent import surviving
    from .spaces import Learn

    body, names = request.body, [str(name) for name in request.body.get("names") or []]
    sources = _sources(names, request.arrays)
    clock = Stopwatch("preparing")
    options = {key: body[key] for key in ("steps", "epochs", "seconds", "code_size", "samples") if body.get(key)}
    run = Learn(
        sources,
        recipe=str(body.get("recipe") or "auto"),
        preset=str(body.get("preset") or "balanced"),
        together=bool(body.get("together")),
        encoder=bool(body.get("encoder")),
        seed=int(body.get("seed") or 0),
        device=str(body.get("device") or "auto"),
        **options,
    )
    show = _Preview(control, float(body.get("preview") or 0.0))
    for progress in surviving(run, run.warnings):
        _tell(control, clock, progress, _LEARNED)
        if progress.step and control.stopped:
            break
        if progress.step:
            show(run)
    space = run.space
    control.fitted(_bytes(space))
    report = {"stopped": control.stopped, "warnings": run.warnings, **described(space), "history": run.history}
    arrays = {"space": _bytes(space)}
    if body.get("decode"):
        try:
            meshed, found = _decoded(space, body["decode"], control)
            report, arrays = {**report, **meshed}, {**arrays, **found}
        except SdfError as error:
            report["undecoded"] = error_body(error)
    return report, arrays


def _sources(names: list[str], arrays: Mapping[str, Array]) -> dict[str, Mesh | PointCloud]:
    from .spaces.family import about

    found: dict[str, Mesh | PointCloud] = {}
    for index, name in enumerate(names):
        if name in found:
            raise InputError(f"Two shapes are called {name!r}.", "Give every shape a name of its own.")
        with about(name):
            found[name] = source_of(_member(arrays, index))
    return found


def _member(arrays: Mapping[str, Array], index: int) -> dict[str, Array]:
    prefix = f"s{index}_"  # the name of an array is an identifier
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}


def _tell(control: Control, clock: Stopwatch, progress: Progress, share: float) -> None:
    if not control.due:
        control.check()
        return
    control.progress(
        {
            "stage": progress.stage,
            "step": progress.step,
            "steps": progress.steps,
            "fraction": share * min(progress.fraction, 1.0),
            "loss": progress.loss if progress.step else None,
            "seconds": clock.total,
            "seconds_left": progress.seconds_left,
        }
    )


class _Preview:
    """Coarse meshes of the first shape on the way."""

    def __init__(self, control: Control, period: float) -> None:
        self._control, self._period, self._now = control, period, time.monotonic
        self._next = self._now() + 2.0 if period > 0 else float("inf")

    def __call__(self, run: Learn) -> None:
        from .extraction import extract_sdf

        begun = self._now()
        if begun < self._next:
            return
        space = run.space
        check = lambda _: self._control.check()
        try:
            sdf = space.decode(space.shapes[0])
            mesh = extract_sdf(sdf, resolution=_PREVIEW_RESOLUTION, refine=0, on_progress=check)
            self._control.preview({"vertices": mesh.vertices, "faces": mesh.faces})
        except NoSurfaceError:
            pass  # not yet
        now = self._now()
        self._next = now + max(self._period, 9 * (now - begun))


def latent_of(space: Space, body: Mapping[str, Any]) -> Latent:
    """Where in ``space`` a request means.

    One of: ``weights``: name → weight; ``amounts``: of the principal directions, in standard deviations; ``sample``: a
    seed, with ``spread``; ``stops``: names, with ``t`` from 0 (the first) to 1 (the last), and ``spherical``.
    """
    from .spaces import mix
    from .spaces.space import along

    if body.get("weights"):
        weights = {str(name): float(weight) for name, weight in body["weights"].items()}
        return mix([space[name] for name in weights], list(weights.values()))
    if body.get("amounts") is not None:
        return space.explore([float(amount) for amount in body["amounts"]])
    if body.get("sample") is not None:
        return space.sample(int(body["sample"]), float(body.get("spread", 1.0)))
    if body.get("stops"):
        stops = [space[str(name)] for name in body["stops"]]
        return along(stops, float(body.get("t") or 0.0), spherical=bool(body.get("spherical")))
    raise InputError("The request does not say which shape.", "Choose a shape, weights or directions.")


def decode(request: Message, control: Control) -> Answer:
    """Mesh the shape that the body names (:func:`latent_of`), at ``resolution`` (128) and ``level`` (0)."""
    return _decoded(space_of(request), request.body, control)


def _decoded(space: Space, body: Mapping[str, Any], control: Control) -> Answer:
    from . import storage
    from .extraction import extract_sdf

    sdf = space.decode(latent_of(space, body))
    resolution = int(body.get("resolution") or 128)
    mesh = extract_sdf(
        sdf, resolution=resolution, level=float(body.get("level") or 0.0), on_progress=lambda _: control.check()
    )
    extras = {}
    if body.get("model"):  # so that the mesh can be made again without the space
        sdf.info["resolution"] = resolution
        extras["model"] = np.frombuffer(storage.to_bytes(sdf), np.uint8)
    report = {"resolution": resolution, "result": {"vertices": len(mesh.vertices), "faces": len(mesh.faces)}}
    return {"report": report}, {**_arrays(mesh), **extras}


def complete(request: Message, control: Control) -> Answer:
    """Complete the scan in the request's arrays: body ``rotate``, ``align`` (true), ``tune`` (true), ``resolution``,
    ``seconds``, ``seed``. The mesh has ``observed`` and ``observed_mask`` (V,) float32."""
    from . import storage
    from .spaces.completion import EXTRACTION_SHARE, Complete

    space, body, clock = space_of(request), request.body, Stopwatch("inferring")
    run = Complete(
        space,
        source_of(request.arrays),
        rotate=bool(body.get("rotate")),
        align=bool(body.get("align", True)),
        tune=bool(body.get("tune", True)),
        seconds=(1 - EXTRACTION_SHARE) * float(body["seconds"]) if body.get("seconds") else None,
        seed=int(body.get("seed") or 0),
    )
    for progress in run:
        _tell(control, clock, progress, 0.9)
        if control.stopped and progress.step:
            break
    resolution = int(body.get("resolution") or 192)
    sdf = run.sdf
    sdf.info["resolution"] = resolution
    control.fitted(np.frombuffer(storage.to_bytes(sdf), np.uint8))
    mesh = run.mesh(resolution, on_progress=lambda _: control.check())
    seen = float(mesh.attributes["observed_mask"].mean())
    report = {
        "resolution": resolution,
        "seconds": clock.finish(),
        "observed_share": seen,
        "result": {"vertices": len(mesh.vertices), "faces": len(mesh.faces)},
    }
    arrays = {**_arrays(mesh), **mesh.attributes, "model": np.frombuffer(storage.to_bytes(sdf), np.uint8)}
    return {"report": report, "stopped": control.stopped}, arrays


def _arrays(mesh: Mesh) -> dict[str, Array]:
    arrays = {"vertices": mesh.vertices, "faces": mesh.faces}
    return arrays if mesh.normals is None else {**arrays, "normals": mesh.normals}


HANDLERS = {"learn": learn, "decode": decode, "complete": complete, "describe": describe}
