"""Classical methods that reconstruct a surface from points, to be compared with and measured against.

None is needed to fit. All but Hoppe's come with the ``benchmark`` extra, in pymeshlab (GPL-3.0).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import InputError, NoNormalsError
from .geometry import Array, Box, Mesh, PointCloud


@dataclass(frozen=True)
class Peer:
    """A method of others: for people its name, source and use; ``run`` makes a mesh of points."""

    name: str
    title: str
    source: str
    summary: str
    run: Callable[..., Mesh]


def screened_poisson(cloud: PointCloud, *, depth: int = 8, threads: int = 1, **settings: Any) -> Mesh:
    """Screened Poisson reconstruction (Kazhdan and Hoppe 2013), as pymeshlab holds it.

    Args:
        depth: of the octree; the finest cells are about 1.1 · 2**-depth of the longest side of the box.
        threads: for the solver; a second one that has no core to itself waits spinning and costs more than it gives.
        settings: further parameters of pymeshlab's ``generate_surface_reconstruction_screened_poisson``, such as
            ``scale``, ``samplespernode``, ``pointweight`` or ``preclean``.
    Raises:
        NoNormalsError: the points have no normals. InputError: pymeshlab is not installed, or finds no surface.
    """
    settings = {"depth": depth, "threads": threads, **settings}
    return _by_meshlab("Screened Poisson", "generate_surface_reconstruction_screened_poisson", cloud, settings)


def apss(cloud: PointCloud, *, resolution: int = 200, filterscale: float = 2.0, **settings: Any) -> Mesh:
    """Algebraic point set surfaces (Guennebaud and Gross 2007), marched on a grid; open where there are no points.

    Args:
        resolution: cells along the longest side. filterscale: the spheres' reach, in spacings.
        settings: of pymeshlab's ``generate_marching_cubes_apss``.
    Raises:
        As :func:`screened_poisson`.
    """
    settings = {"resolution": resolution, "filterscale": filterscale, **settings}
    return _by_meshlab("APSS", "generate_marching_cubes_apss", cloud, settings)


def rimls(cloud: PointCloud, *, resolution: int = 200, filterscale: float = 2.0, **settings: Any) -> Mesh:
    """Robust implicit moving least squares (Öztireli, Guennebaud, Gross 2009): keeps edges, open where no points are.

    Args:
        resolution, filterscale: as :func:`apss`. settings: of pymeshlab's ``generate_marching_cubes_rimls``.
    Raises:
        As :func:`screened_poisson`.
    """
    settings = {"resolution": resolution, "filterscale": filterscale, **settings}
    return _by_meshlab("RIMLS", "generate_marching_cubes_rimls", cloud, settings)


def ball_pivoting(cloud: PointCloud, **settings: Any) -> Mesh:
    """Ball pivoting (Bernardini et al. 1999): triangles between the points themselves, holes where they are sparse.

    Args:
        settings: of pymeshlab's ``generate_surface_reconstruction_ball_pivoting``.
    Raises:
        As :func:`screened_poisson`.
    """
    return _by_meshlab("Ball pivoting", "generate_surface_reconstruction_ball_pivoting", cloud, settings)


def hoppe(cloud: PointCloud, *, resolution: int = 128) -> Mesh:
    """Distances to the nearest point's tangent plane, marched (Hoppe, DeRose, Duchamp, McDonald, Stuetzle 1992).

    Where the nearest point's plane is met farther from the point than two spacings there is no surface (sec. 3.4).

    Args:
        resolution: cells along the longest side.
    Raises:
        NoNormalsError: the points have no normals. InputError, NoSurfaceError: no surface was found.
    """
    import torch
    from scipy.spatial import cKDTree

    from .evidence import Evidence
    from .extraction import extract

    normals = _normals(cloud, "Hoppe's method")
    points, tree = cloud.points.astype(np.float64), cKDTree(cloud.points)
    reach = 2 * Evidence(cloud.points, None, None).spacing
    box = Box.around(points)
    grown = Box(box.lower - 0.05 * box.diagonal, box.upper + 0.05 * box.diagonal)

    def nearest(queries: Array) -> tuple[Array, Array]:
        _, near = tree.query(queries, workers=-1)
        return points[near], normals[near]

    def field(queries: torch.Tensor) -> torch.Tensor:
        at, along = (torch.from_numpy(v) for v in nearest(queries.detach().numpy()))
        return ((queries.double() - at) * along).sum(dim=1).to(queries.dtype)

    whole = extract(field, grown, resolution=resolution, refine=0)
    at, along = nearest(whole.vertices)
    apart = whole.vertices - at
    flat = apart - np.einsum("ni,ni->n", apart, along)[:, None] * along
    cell = float(grown.size.max()) / resolution
    seen = np.linalg.norm(flat, axis=1) < reach + cell
    return _of_used("Hoppe's method", whole.vertices, whole.faces[seen[whole.faces].all(axis=1)])


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            "poisson",
            "Screened Poisson",
            "Kazhdan, Hoppe: Screened Poisson Surface Reconstruction, TOG 2013",
            "exact and fast on clean, dense, oriented points; closes holes with bubbles",
            screened_poisson,
        ),
        Peer(
            "hoppe",
            "Tangent planes",
            "Hoppe, DeRose, Duchamp, McDonald, Stuetzle: Surface Reconstruction from Unorganized Points, SIGGRAPH 1992",
            "distances to tangent planes: the first of them all, rough and open",
            hoppe,
        ),
        Peer(
            "apss",
            "APSS",
            "Guennebaud, Gross: Algebraic Point Set Surfaces, SIGGRAPH 2007",
            "spheres through the neighbours: smooth, steady where points are sparse, open where there are none",
            apss,
        ),
        Peer(
            "rimls",
            "RIMLS",
            "Öztireli, Guennebaud, Gross: Feature Preserving Point Set Surfaces, Eurographics 2009",
            "robust moving least squares: keeps edges and bears outliers, open where there are no points",
            rimls,
        ),
        Peer(
            "ball_pivoting",
            "Ball pivoting",
            "Bernardini, Mittleman, Rushmeier, Silva, Taubin: The Ball-Pivoting Algorithm, TVCG 1999",
            "triangles between the points themselves, noise and all",
            ball_pivoting,
        ),
    )
}


def reconstruct(name: str, cloud: PointCloud, **settings: Any) -> Mesh:
    """The surface the method ``name`` of :data:`PEERS` makes of ``cloud``, in the same coordinates.

    Raises:
        InputError: no such method, or what it raises itself.
    """
    if name not in PEERS:
        raise InputError(f"There is no method {name!r} to compare with.", f"Known are {', '.join(PEERS)}.")
    return PEERS[name].run(cloud, **settings)


def _normals(cloud: PointCloud, title: str) -> Array:
    if cloud.normals is None:
        raise NoNormalsError(f"{title} needs normals and the points have none.", "Estimate normals first.")
    return cloud.normals.astype(np.float64)


def _by_meshlab(title: str, method: str, cloud: PointCloud, settings: dict[str, Any]) -> Mesh:
    try:
        import pymeshlab
    except ImportError as error:
        hint = (
            "Install it beside sdfcore: pip install pymeshlab (the extra sdfcore[benchmark] has it); "
            "in Blender's preferences tick With Classical Methods, then Install Backend again."
        )
        raise InputError(f"{title} needs pymeshlab, which is not installed.", hint) from error
    normals = _normals(cloud, title)
    centre = cloud.points.mean(axis=0, dtype=np.float64)  # its coordinates are float32 inside
    places = cloud.points.astype(np.float64) - centre
    try:
        meshes = pymeshlab.MeshSet()
        meshes.add_mesh(pymeshlab.Mesh(vertex_matrix=places, v_normals_matrix=normals))
        getattr(meshes, method)(**settings)
        result = meshes.current_mesh()
        vertices, faces = result.vertex_matrix() + centre, result.face_matrix()
    except pymeshlab.PyMeshLabException as error:
        raise InputError(f"{title} failed ({error}).", "Check the points, their normals and the settings.") from error
    whole = faces[np.isfinite(vertices).all(axis=1)[faces].all(axis=1)]  # moving least squares may divide by nothing
    return _of_used(title, vertices, whole)


def _of_used(title: str, vertices: Array, faces: Array) -> Mesh:
    """``faces`` with the vertices they use.

    Raises:
        InputError: there are no faces.
    """
    if len(faces) == 0:
        raise InputError(f"{title} found no surface.", "Give more points, or check that their normals look outward.")
    used, kept = np.unique(faces, return_inverse=True)
    return Mesh(vertices[used], kept.reshape(-1, 3))
