"""Methods of others that reconstruct a surface from points, to be measured against. None is needed to fit.

They come with the ``benchmark`` extra: pymeshlab (GPL-3.0) for screened Poisson.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import InputError, NoNormalsError
from .geometry import Mesh, PointCloud


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
    try:
        import pymeshlab
    except ImportError as error:
        hint = "Install the benchmark extra: pip install 'sdfcore[benchmark]'."
        raise InputError("Screened Poisson needs pymeshlab, which is not installed.", hint) from error
    if cloud.normals is None:
        raise NoNormalsError("Screened Poisson needs normals and the points have none.", "Estimate normals first.")
    centre = cloud.points.mean(axis=0, dtype=np.float64)  # its coordinates are float32 inside
    places = cloud.points.astype(np.float64) - centre
    try:
        meshes = pymeshlab.MeshSet()
        meshes.add_mesh(pymeshlab.Mesh(vertex_matrix=places, v_normals_matrix=cloud.normals.astype(np.float64)))
        meshes.generate_surface_reconstruction_screened_poisson(depth=depth, threads=threads, **settings)
        result = meshes.current_mesh()
        vertices, faces = result.vertex_matrix() + centre, result.face_matrix()
    except pymeshlab.PyMeshLabException as error:
        raise InputError(
            f"Screened Poisson failed ({error}).", "Check the points, their normals and the settings."
        ) from error
    return Mesh(vertices, faces)


PEERS: dict[str, Callable[..., Mesh]] = {"poisson": screened_poisson}


def reconstruct(name: str, cloud: PointCloud, **settings: Any) -> Mesh:
    """The surface the method ``name`` of :data:`PEERS` makes of ``cloud``, in the same coordinates.

    Raises:
        InputError: no such method, or what it raises itself.
    """
    if name not in PEERS:
        raise InputError(f"There is no method {name!r} to compare with.", f"Known are {', '.join(PEERS)}.")
    return PEERS[name](cloud, **settings)
