"""Exact geometry of triangle meshes and of oriented points: samples, distances, winding numbers.

The trap first: signed distances are **negative inside**, in world units, not squared. Distances and winding numbers
come from libigl, in float64, in coordinates centred and scaled to [-1, 1]³: its winding number works in float32 inside
and loses a mesh that lies a million sizes from the origin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .coherence import coherently, nearest
from .errors import EmptyInputError, InputError, NoNormalsError
from .geometry import Array, Box, Mesh, PointCloud
from .topology import deciding, topology, undoubled

_CHUNK = 1 << 18  # queries at a time; bounds the memory of a call whatever its length
_CANCELLED = 0.5  # from this share of faces with an opposite partner on, a mesh counts as doubled
_SLIVERS = 1000.0  # sum of the squared longest edges, unit box, from which on a query costs over half a millisecond
_SAMPLES = 100_000  # that stand for such a mesh
_FLAT = 1e-12  # areas below this share of the squared extent are rounding, not surface


def _import_igl() -> Any:
    try:
        import igl
    except ImportError as error:
        raise InputError("Exact mesh distances need libigl.", "Install it: pip install libigl.") from error
    return igl


def _queries(points: Array) -> Array:
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3:
        raise InputError(f"query points have the shape {array.shape}; (N, 3) is needed.", "Give three numbers per row.")
    if not np.isfinite(array).all():
        raise InputError("query points hold values that are not finite.", "Leave those points out.")
    return array


def _in_chunks(function: Callable[[Array], Array], points: Array) -> Array:
    def query(ordered: Array) -> Array:
        parts = [function(ordered[start : start + _CHUNK]) for start in range(0, len(ordered), _CHUNK)]
        return np.concatenate(parts) if parts else function(ordered)

    return coherently(query, points)


# Samples ------------------------------------------------------------------------------------------------------------


def face_normals(mesh: Mesh) -> Array:
    """(F, 3) float64 unit normals; zeros where a face has no area."""
    vectors = mesh.face_vectors()
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def sample_faces(mesh: Mesh, count: int, seed: int | np.random.Generator) -> tuple[Array, Array, Array]:
    """``count`` points spread evenly by area.

    Returns:
        points (count, 3) float64; face (count,) int64; weights (count, 3) barycentric, of the face's corners in order.
    Raises:
        EmptyInputError: the mesh has no area.
    """
    random = np.random.default_rng(seed)
    areas = np.linalg.norm(mesh.face_vectors(), axis=1) / 2
    total = float(areas.sum())
    extent = float(np.ptp(mesh.triangles.reshape(-1, 3).astype(np.float64), axis=0).max())
    if not total > _FLAT * extent**2:
        raise EmptyInputError(
            "The mesh has no area: all its faces are points or lines.", "Give a surface, or fit its vertices as points."
        )
    ends = np.cumsum(areas)
    face = np.searchsorted(ends, random.random(count) * ends[-1], side="right").clip(max=len(areas) - 1)
    u, v = random.random(count), random.random(count)
    root = np.sqrt(u)  # Osada et al. 2002, "Shape distributions", §4.2: uniform in a triangle
    weights = np.stack([1 - root, root * (1 - v), root * v], axis=1)
    points = np.einsum("nc,ncd->nd", weights, mesh.triangles[face].astype(np.float64))
    return points, face, weights


def blend_colours(mesh: Mesh, face: Array, weights: Array) -> Array | None:
    """(N, 4) uint8 vertex colours at barycentric ``weights`` (N, 3) of ``face`` (N,); ``None`` if the mesh has none."""
    if mesh.colours is None:
        return None
    corners = mesh.colours[mesh.faces[face]].astype(np.float64)
    return np.clip(np.einsum("nc,ncd->nd", weights, corners) + 0.5, 0, 255).astype(np.uint8)


def sample_surface(mesh: Mesh, count: int, seed: int | np.random.Generator = 0) -> PointCloud:
    """``count`` points spread evenly by area, with the normals of their faces and the vertex colours interpolated.

    Faces without area get no point. The same seed gives the same points.

    Raises:
        EmptyInputError: the mesh has no area.
    """
    points, face, weights = sample_faces(mesh, count, seed)
    return PointCloud(points, face_normals(mesh)[face], blend_colours(mesh, face, weights))


# Distances ----------------------------------------------------------------------------------------------------------


class MeshDistance:
    """Distances to a triangle mesh, and the sign by its generalised winding number.

    Inside is where the winding number exceeds ½ (Jacobson et al. 2013; fast form Barill et al. 2018). That is exact for
    a closed mesh with outward faces, also where parts overlap or self-intersect or faces repeat in the same direction.

    - Faces that all point inwards are recognised (``inverted``) by the sign of the winding number and turned, so inside
      is negative there too.
    - An open mesh is closed by the surface where the winding number is ½, which spans its holes.
    - A mesh most of whose faces are there twice, in opposite directions, cancels itself; the first of each two counts.
      Of faces that are there twice in the same direction one counts.
    - A mesh of long slivers, for which a hierarchy is no help, is replaced by samples of itself for the sign: nearer
      than about a hundredth of its size the sign is then rough.
    - **Where there is no inside the answer is "outside"**: a flat sheet or a soup of random faces hardly exceeds ½, and
      the signed distance is then the unsigned one. :func:`winding_clarity` tells.

    Args:
        mesh: faces without area count for distances as the lines and points they are, and not for the sign.
    """

    def __init__(self, mesh: Mesh) -> None:
        corners = mesh.triangles.reshape(-1, 3).astype(np.float64)
        box = Box.around(corners)  # of what faces use: a stray vertex must not shrink the rest to nothing
        self._centre = box.centre
        self._scale = float(box.size.max()) / 2 or 1.0
        self._vertices = np.zeros((len(mesh.vertices), 3))
        used = np.unique(mesh.faces)
        self._vertices[used] = self._to_unit(mesh.vertices[used])
        self._faces = mesh.faces.astype(np.int64)
        self._igl = _import_igl()

    def _to_unit(self, points: Array) -> Array:
        return (np.asarray(points, dtype=np.float64) - self._centre) / self._scale

    @cached_property
    def _tree(self) -> Any:
        tree = self._igl.AABB()
        tree.init(self._vertices, self._faces)
        return tree

    @cached_property
    def _hierarchy(self) -> Any:
        hierarchy = self._igl.FastWindingNumberBVH()
        hierarchy.init(self._vertices, self._solid)
        return hierarchy

    def _raw_winding(self, unit: Array) -> Array:
        if self._by_samples is not None:
            return self._by_samples(unit)
        return _in_chunks(lambda q: np.asarray(self._hierarchy.winding_number(q)), unit)

    @cached_property
    def _by_samples(self) -> PointWinding | None:
        """The winding number of surface samples, where that of the triangles would cost too much."""
        unit = Mesh(self._vertices, self._solid)
        corners = unit.triangles
        longest = np.max([((corners[:, i] - corners[:, i - 1]) ** 2).sum(axis=1) for i in range(3)], axis=0)
        if longest.sum() < _SLIVERS:
            return None
        try:
            points, face, _ = sample_faces(unit, _SAMPLES, 0)
        except EmptyInputError:
            return None
        areas = np.full(len(points), unit.area() / len(points))
        return PointWinding(points, face_normals(unit)[face], areas)

    @cached_property
    def _solid(self) -> Array:
        """(S, 3) the faces that decide the sign: all, but for what is there twice."""
        return self._faces[deciding(self._vertices, self._faces, _CANCELLED)]

    @cached_property
    def inverted(self) -> bool:
        """Whether the faces point inwards: just beside them the winding number is -1 and 0 rather than 0 and 1."""
        unit = Mesh(self._vertices, self._solid)
        try:
            points, face, _ = sample_faces(unit, 2000, 0)
        except EmptyInputError:
            return False
        step = 1e-3 * face_normals(unit)[face]
        return float(np.mean(self._raw_winding(np.concatenate([points - step, points + step])))) < -0.05

    def winding(self, points: Array) -> Array:
        """(N,) winding number at ``points`` (N, 3): about 1 inside, 0 outside, more where parts overlap."""
        values = self._raw_winding(self._to_unit(_queries(points)))
        return -values if self.inverted else values

    def inside(self, points: Array) -> Array:
        """(N,) bool: the winding number exceeds ½."""
        return self.winding(points) > 0.5

    def closest(self, points: Array) -> tuple[Array, Array, Array]:
        """For ``points`` (N, 3): distance (N,) to the surface, nearest face (N,) int64, nearest point on it (N, 3)."""
        squared, face, nearest = coherently(self._closest, self._to_unit(_queries(points)))
        return np.sqrt(squared) * self._scale, face, nearest * self._scale + self._centre

    def _closest(self, unit: Array) -> tuple[Array, Array, Array]:
        squared, face, nearest = np.empty(len(unit)), np.empty(len(unit), np.int64), np.empty((len(unit), 3))
        for start in range(0, len(unit), _CHUNK):
            part = slice(start, start + _CHUNK)
            found = self._tree.squared_distance(self._vertices, self._faces, unit[part])
            squared[part], face[part], nearest[part] = found
        return squared, face, nearest

    def unsigned(self, points: Array) -> Array:
        """(N,) distance ≥ 0 from ``points`` (N, 3) to the nearest triangle."""
        return self.closest(points)[0]

    def signed(self, points: Array) -> Array:
        """(N,) distance from ``points`` (N, 3), negative inside. Where the sign is not clear: see the class."""
        distance = self.unsigned(points)
        return np.where(self.inside(points), -distance, distance)


def outward(mesh: Mesh) -> Mesh:
    """``mesh`` as its sign sees it: turned if its faces point inwards, one of each two faces if most cancel each other.

    Its normals then agree with the signs of :class:`MeshDistance`. The same object where nothing is to be done.
    """
    kept, cancelled = undoubled(mesh.vertices, mesh.faces)
    if cancelled > _CANCELLED:
        mesh = Mesh(mesh.vertices, mesh.faces[kept], mesh.normals, mesh.colours, mesh.attributes)
    return mesh.flipped() if MeshDistance(mesh).inverted else mesh


# Winding number of points -------------------------------------------------------------------------------------------


def point_areas(points: Array, normals: Array, neighbours: int = 12) -> Array:
    """(N,) area each point stands for: the disc that reaches its k-th neighbour, shared by those that face its way.

    Counting only neighbours whose normal is within 90° keeps the two sides of a thin part from halving each other. A
    share below one half is taken for a half: else a point with a wrong normal would outweigh all those around it.
    Areas are capped at 25 times the median, so that a stray point far from all others does not stand for a wall.
    """
    from scipy.spatial import cKDTree

    count = min(neighbours, len(points) - 1)
    if count < 1:
        return np.zeros(len(points))
    found = nearest(cKDTree(points), points, k=count + 1)
    distance, row = np.asarray(found[0]), np.asarray(found[1])
    agree = (np.einsum("nd,nkd->nk", normals, normals[row[:, 1:]]) > 0).sum(axis=1)
    share = np.maximum((agree + 1) / (count + 1), 0.5)  # with the point itself
    areas = np.pi * distance[:, -1] ** 2 / (count * share)
    known = areas[areas > 0]
    return areas if len(known) == 0 else np.minimum(areas, 25 * np.median(known))


def _tangents(normals: Array) -> tuple[Array, Array]:
    """Two unit vectors (N, 3) that make a right-handed frame with each normal."""
    # Duff et al. 2017, "Building an orthonormal basis, revisited", listing 3
    x, y, z = normals.T
    sign = np.where(z >= 0, 1.0, -1.0)
    a = -1.0 / (sign + z)
    b = x * y * a
    return np.stack([1 + sign * x * x * a, sign * b, -sign * x], axis=1), np.stack([b, sign + y * y * a, -y], axis=1)


class PointWinding:
    """Winding number of oriented points: about 1 inside, 0 outside; ½ is the surface they suggest.

    Each point becomes one equilateral triangle of its area and normal, and those a mesh for libigl's fast winding
    number (its own form for points crashes on duplicates). Nearer to the points than their spacing the value is rough.

    Args:
        points: (N, 3); normals: (N, 3) outward; areas: (N,) in square world units, or ``None`` to estimate them.
    Raises:
        InputError: shapes differ, or values are not finite.
    """

    def __init__(self, points: Array, normals: Array | None, areas: Array | None = None) -> None:
        if normals is None:
            raise NoNormalsError("A winding number needs normals and the points have none.", "Estimate normals first.")
        cloud = PointCloud(np.asarray(points, dtype=np.float64), normals)
        box = Box.around(cloud.points)
        self._centre, self._scale = box.centre, float(box.size.max()) / 2 or 1.0
        unit, directions = (cloud.points - self._centre) / self._scale, np.asarray(cloud.normals, dtype=np.float64)
        self.areas = (
            point_areas(unit, directions) * self._scale**2 if areas is None else np.asarray(areas, dtype=np.float64)
        )
        if self.areas.shape != (len(unit),) or not (np.isfinite(self.areas) & (self.areas >= 0)).all():
            raise InputError(f"areas {self.areas.shape} for {len(unit)} points.", "Give a finite area ≥ 0 for each.")
        self._hierarchy = _import_igl().FastWindingNumberBVH()
        self._hierarchy.init(*self._triangles(unit, directions))

    def _triangles(self, unit: Array, normals: Array) -> tuple[Array, Array]:
        radius = np.sqrt(4 * self.areas / (3 * np.sqrt(3))) / self._scale  # area = 3√3/4 · circumradius²
        first, second = _tangents(normals)
        angles = 2 * np.pi / 3 * np.arange(3)
        ring = np.cos(angles)[None, :, None] * first[:, None] + np.sin(angles)[None, :, None] * second[:, None]
        corners = unit[:, None] + radius[:, None, None] * ring
        return corners.reshape(-1, 3), np.arange(3 * len(unit), dtype=np.int64).reshape(-1, 3)

    def __call__(self, points: Array) -> Array:
        """(N,) winding number at ``points`` (N, 3)."""
        unit = (_queries(points) - self._centre) / self._scale
        return _in_chunks(lambda q: np.asarray(self._hierarchy.winding_number(q)), unit)


# Diagnosis ----------------------------------------------------------------------------------------------------------


def winding_clarity(mesh: Mesh, *, samples: int = 2000, seed: int = 0, distance: MeshDistance | None = None) -> float:
    """How clear inside and outside are, in [0, 1]: 1 for a closed mesh, 0 for a flat sheet.

    The share of area-weighted surface samples at which both hold: off the surface to both sides, by 0.01 % to 3 % of
    the box's diagonal, the winding number is within ¼ of an integer; and at 0.01 % at least one of the sides is inside.
    """
    distance = distance or MeshDistance(mesh)
    random = np.random.default_rng(seed)
    try:
        points, face, _ = sample_faces(mesh, samples, random)
    except EmptyInputError:
        return 0.0
    normal = face_normals(mesh)[face]
    diagonal = Box.around(mesh.triangles.reshape(-1, 3).astype(np.float64)).diagonal
    least, most = np.log(1e-4), np.log(3e-2)
    reach = diagonal * np.exp([np.full((samples, 1), least), random.uniform(least, most, (samples, 1))])
    around = np.stack([points - reach * normal, points + reach * normal])  # (side, reach, N, 3)
    beside, near = np.moveaxis(distance.winding(around.reshape(-1, 3)).reshape(2, 2, samples), 1, 0)
    certain = (np.abs(near - np.round(near)) < 0.25).all(axis=0)
    return float(np.mean(certain & (beside > 0.5).any(axis=0)))


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with a mesh, if anything: the counts of :class:`sdfcore.topology.Topology`, and its sign.

    Args:
        inverted: its faces point inwards.
        clarity: see :func:`winding_clarity`.
    """

    watertight: bool
    closed: bool
    boundary_edges: int
    nonmanifold_edges: int
    inconsistent_edges: int
    degenerate_faces: int
    duplicate_faces: int
    components: int
    euler: int
    inverted: bool
    clarity: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def diagnose(mesh: Mesh) -> Diagnosis:
    """The :class:`Diagnosis` of ``mesh``; under a second for 100,000 faces."""
    distance = MeshDistance(mesh)
    clarity = winding_clarity(mesh, distance=distance)
    return Diagnosis(**topology(mesh).as_dict(), inverted=distance.inverted, clarity=clarity)
