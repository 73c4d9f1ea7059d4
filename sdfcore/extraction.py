"""A level set of a field as triangles: evaluated only near the surface, without seams, closed, faces outward.

Values are negative inside. The lattice has cubic cells, ``resolution`` of them along the longest side of the box.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from .edges import Edges
from .errors import InputError, NoSurfaceError
from .fields import Field, NeuralSDF
from .geometry import Box, Mesh
from .lattice import Array, Grid, Progress
from .levelset import Finder, Search
from .marching import Marched, march
from .parts import drop_parts

LARGEST_RESOLUTION = 4096
_FAR, _NEAR, _MORE = 0.05, 0.005, 6  # cells: vertices that the last step moved farther take more, until they move less


def extract(
    field: Field,
    box: Box,
    resolution: int,
    *,
    level: float = 0.0,
    refine: int = 0,
    cap: bool = True,
    search: Finder | None = None,
    chunk: int = 16384,
    device: torch.device | str | None = None,
    on_progress: Progress | None = None,
) -> Mesh:
    """Where ``field`` equals ``level``, as triangles in the field's own coordinates, float64, with normals.

    The mesh is closed: where the level set leaves the box, what lies outside the box counts as outside the shape, and a
    flat cap closes the surface a hundredth of a cell beyond the border. ``cap=False`` leaves it open there.

    Args:
        field: (N, 3) float32 → (N,), negative inside; called without gradients for values, with them for normals.
        box: where to look; a side that is no multiple of the cell grows to the next one, at both ends.
        resolution: cells along the longest side of ``box``.
        level: which level set; positive is outside for a distance.
        refine: steps that move each vertex along its lattice edge onto the level set of the field itself: secants, and
            last one that knows the gradient, which its normal is taken from.
        search: how thoroughly parts of the surface are looked for.
        chunk: points per call of ``field``; 16384 was the fastest on processors.
        device: of the points given to ``field``; ``None`` takes the field's own ``device``, else the processor.
        on_progress: given a fraction that never falls; what it raises ends the extraction.
    Raises:
        NoSurfaceError: the field does not reach ``level`` in the box; carries the field's range there.
        InputError: a resolution or box that makes no grid; a field that is not (N,) or not finite.
    """
    if not 1 <= resolution <= LARGEST_RESOLUTION:
        raise InputError(
            f"A resolution of {resolution} cells cannot be extracted.", f"Choose one from 1 to {LARGEST_RESOLUTION}."
        )
    grid = Grid.over(box, resolution, cap)
    meter = _Meter(on_progress)
    sampler = _Sampler(field, level, chunk, _device(field, device), meter.again)
    cells, corners = (search or Search()).find(grid, sampler.values, meter.span(0.0, 0.8))
    if not ((corners < 0).any(axis=0) & (np.isfinite(corners) & (corners >= 0)).any(axis=0)).any():  # at most cap
        raise _no_surface(level, sampler)
    marched = march(cells, corners, grid.nodes)
    meter(0.85)
    vertices, gradients = _settled(Edges(marched, grid), sampler, refine, meter.span(0.85, 1.0))
    normals = _normals(vertices, marched, gradients.astype(np.float64))
    meter(1.0)
    return Mesh(vertices, marched.faces, normals)


def extract_sdf(
    sdf: NeuralSDF,
    *,
    resolution: int = 256,
    level: float = 0.0,
    box: Box | None = None,
    refine: int = 1,
    cap: bool = True,
    search: Finder | None = None,
    on_progress: Progress | None = None,
) -> Mesh:
    """A level set of a fitted shape, in world coordinates.

    Computed in the unit box, in float32; the frame is applied at the end, in float64. If the shape knows how small a
    part may be next to its largest (``info["smallest_part"]``, see ``Fit.mesh``), smaller ones are left out.

    Args:
        level: world units; positive grows the shape.
        box: world coordinates; by default the data's box, grown by a twentieth of its longest side and by ``level``.
        resolution, refine, cap, search, on_progress, raises: as :func:`extract`.
    """
    scale = sdf.frame.scale
    where = default_box(sdf, level) if box is None else sdf.frame.box_to_unit(box)
    try:
        mesh = extract(
            sdf.network, where, resolution, level=level / scale, refine=refine, cap=cap, search=search,
            device=sdf.device, on_progress=on_progress,
        )  # fmt: skip
    except NoSurfaceError as error:
        raise _out_of_range(level, error.minimum * scale, error.maximum * scale) from error
    world = Mesh(sdf.frame.to_world(mesh.vertices), mesh.faces, mesh.normals)
    smallest = sdf.info.get("smallest_part")
    return drop_parts(world, float(smallest)) if isinstance(smallest, int | float) else world


def default_box(sdf: NeuralSDF, level: float = 0.0) -> Box:
    """The unit-box region that :func:`extract_sdf` looks at by itself; ``level`` in world units."""
    margin = 0.05 * float(sdf.box.size.max())
    return sdf.box.expanded(margin + 1.05 * max(level / sdf.frame.scale, 0.0))


def estimate_seconds(sdf: NeuralSDF, resolution: int) -> float:
    """About the seconds that :func:`extract_sdf` will take on this machine; rather too many than too few.

    Takes a small fraction of that itself: the network is timed, and the vertices are counted at a low resolution, or
    foreseen from the data's area (``info["area"]``, unit box): thin sheets do not show at a low resolution.
    """
    box = default_box(sdf)
    try:
        vertices = len(extract(sdf.network, box, _TRIAL, device=sdf.device).vertices) * (resolution / _TRIAL) ** 2
    except NoSurfaceError:
        vertices = 1.5 * resolution**2  # as of a cube half the size of the box
    area = sdf.info.get("area")
    if isinstance(area, int | float):
        vertices = max(vertices, _VERTICES_PER_CELL * area * (resolution / float(box.size.max())) ** 2)
    points = np.random.default_rng(0).uniform(box.lower, box.upper, (1 << 15, 3))
    sampler = _Sampler(sdf.network, 0.0, 1 << 14, sdf.device, lambda: None)
    started = time.perf_counter()
    sampler.values(points)
    each = (time.perf_counter() - started) / len(points)
    searched = min(resolution + 3, 64) ** 3 * np.prod(box.size / box.size.max())
    return float((searched + _EVALUATIONS * vertices) * each + _BOOKKEEPING * vertices)


_TRIAL = 32  # cells along the longest side
_VERTICES_PER_CELL = 1.5  # vertices for each square of a cell's side on the surface
_EVALUATIONS = 15.0  # of the network for each vertex: the nodes around it, one step of refinement, its normal
_BOOKKEEPING = 8e-6  # seconds for each vertex


class _Meter:
    """Hands on a fraction that never falls."""

    def __init__(self, on_progress: Progress | None) -> None:
        self._on_progress, self._highest = on_progress, 0.0

    def __call__(self, fraction: float) -> None:
        self._highest = max(self._highest, min(fraction, 1.0))
        if self._on_progress is not None:
            self._on_progress(self._highest)

    def again(self) -> None:
        """The same fraction once more, so that a long stage can be stopped within."""
        self(self._highest)

    def span(self, start: float, end: float) -> Progress:
        return lambda fraction: self(start + (end - start) * fraction)


class _Sampler:
    """``field - level`` at numpy points, chunk by chunk; remembers the field's range."""

    def __init__(
        self, field: Field, level: float, chunk: int, device: torch.device | str, tick: Callable[[], None]
    ) -> None:
        self._field, self._level, self._chunk, self._device, self._tick = field, level, chunk, device, tick
        self.minimum, self.maximum = float("inf"), float("-inf")

    def _chunks(self, positions: Array) -> Iterator[torch.Tensor]:
        points = torch.from_numpy(np.ascontiguousarray(positions, np.float32))
        for part in points.split(self._chunk):
            self._tick()
            yield part.to(self._device)

    def values(self, positions: Array) -> Array:
        """(N,) float32 at ``positions`` (N, 3).

        Raises:
            InputError: the field is of another shape, or not finite.
        """
        with torch.inference_mode():
            values = (
                torch.cat([_checked(self._field(part), len(part)) for part in self._chunks(positions)]).cpu().numpy()
            )
        return self._finite(values)

    def slopes(self, positions: Array, progress: Progress) -> tuple[Array, Array]:
        """(N,) float32 as :meth:`values`, and the gradient there (N, 3), zero where the field does not say."""
        values, gradients = [], []
        for points in self._chunks(positions):
            value, gradient = _value_and_gradient(self._field, points)
            values.append(_checked(value, len(points)).detach().cpu().numpy())
            gradients.append(gradient.detach().cpu().numpy())
            progress(len(values) * self._chunk / len(positions))
        return self._finite(np.concatenate(values)), np.concatenate(gradients)

    def _finite(self, values: Array) -> Array:
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).sum())
            raise InputError(f"The field is not a finite number at {bad} of {len(values)} points.", "Fit it again.")
        self.minimum = min(self.minimum, float(values.min()))
        self.maximum = max(self.maximum, float(values.max()))
        return values.astype(np.float32) - np.float32(self._level)


def _checked(values: torch.Tensor, count: int) -> torch.Tensor:
    if values.shape != (count,):
        raise InputError(
            f"The field gave values of the shape {tuple(values.shape)} for {count} points.",
            f"A field returns one number per point: ({count},).",
        )
    return values


def _value_and_gradient(field: Field, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(N,) and (N, 3), that zero where the field does not say. Reverse mode: thrice as fast as forward mode, and
    nothing is kept."""
    own = getattr(field, "value_and_gradient", None) or getattr(field, "value_and_slope", None)
    if own is not None:
        with torch.no_grad():
            value, gradient = own(points)
        return value, gradient
    with torch.enable_grad():
        value = field(points.requires_grad_(True))
        if not value.requires_grad:
            return value, torch.zeros_like(points)
        return value, torch.autograd.grad(value.sum(), points, allow_unused=True, materialize_grads=True)[0]


def _device(field: Field, device: torch.device | str | None) -> torch.device | str:
    return device if device is not None else getattr(field, "device", "cpu")


def _no_surface(level: float, sampler: _Sampler) -> NoSurfaceError:
    return _out_of_range(level, sampler.minimum, sampler.maximum)


def _out_of_range(level: float, minimum: float, maximum: float) -> NoSurfaceError:
    return NoSurfaceError(
        f"There is no surface at level {level:g}: in this box the field is {minimum:.4g} to {maximum:.4g}.",
        "Choose a level in between, or another box.",
        minimum,
        maximum,
    )


def _settled(edges: Edges, sampler: _Sampler, steps: int, progress: Progress) -> tuple[Array, Array]:
    """(V, 3) vertices after ``steps``, and (V, 3) the gradients they were moved by, or would have been.

    The few that the last step still moved far, as where the field is flat, take up to ``_MORE`` further ones.
    """
    for step in range(steps - 1):
        edges.secant(edges.rows, sampler.values(edges.places(edges.movable)))
        progress((step + 1) / (steps + 2))
    start = max(steps - 1, 0) / (steps + 2)
    values, gradients = sampler.slopes(edges.places(), lambda fraction: progress(start + (1 - start) * fraction))
    if steps:
        moved = edges.parabola(values[edges.movable], gradients[edges.movable])
        restless = edges.rows[moved > _FAR]
        for _ in range(_MORE):
            if not len(restless):
                break
            moved = edges.secant(restless, sampler.values(edges.places(edges.movable[restless])))
            restless = restless[moved > _NEAR]
        for _ in range(_MORE if len(edges.inside) else 0):
            found = sampler.slopes(edges.places(edges.inside), lambda _: None)
            if not edges.within(*found):
                break
            gradients[edges.inside] = found[1]
    return edges.places(), gradients


def _normals(vertices: Array, marched: Marched, gradients: Array) -> Array:
    """(V, 3) unit normals: the ``gradients``, and those of the faces where they are none and on the cap."""
    lengths = np.linalg.norm(gradients, axis=1)
    bad = np.isinf(marched.ends).any(axis=1) | ~(lengths > 1e-12) | ~np.isfinite(lengths)
    if bad.any():
        gradients[bad] = _face_normals(vertices, marched.faces)[bad]
        lengths = np.linalg.norm(gradients, axis=1)
    return gradients / lengths[:, None]


def _face_normals(vertices: Array, faces: Array) -> Array:
    """(V, 3) normals of the faces around each vertex, weighted by area; never of length zero."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    vectors = np.cross(b - a, c - a)
    sums = np.stack(
        [sum(np.bincount(faces[:, n], vectors[:, axis], len(vertices)) for n in range(3)) for axis in range(3)], 1
    )
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(lengths > 0, sums / np.where(lengths > 0, lengths, 1), [0.0, 0.0, 1.0])
