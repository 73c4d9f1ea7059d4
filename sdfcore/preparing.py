"""From a mesh or points to what a fit knows of its surface: samples, their frame, and the evidence in the unit box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .denoising import NOISY, denoised, noise_of
from .evidence import Evidence
from .geometry import Array, Frame, Mesh, PointCloud
from .orientation import oriented
from .planning import Source, check_number
from .solids import Survey, survey, survey_points
from .surfaces import outward, sample_surface

SAMPLES = 100_000  # of a mesh's surface
MOST = 1_000_000  # points kept of a scan: more than any network here can tell apart


_LOOKED_AT = 4_000_000  # points of a scan, at most, of which each is taken once


@dataclass(frozen=True, eq=False)
class Prepared:
    """The surface in the unit box of ``frame``; ``note`` says in a sentence what was done to it, or nothing."""

    frame: Frame
    evidence: Evidence
    note: str = ""


def cloud_of(source: Source, samples: int | None, seed: int) -> PointCloud:
    """What the surface is taken from, world units: samples of the mesh, or the points, once each.

    Args:
        samples: of a mesh's surface, or the most points kept of a scan; by default :data:`SAMPLES` and :data:`MOST`.
    Raises:
        InputError: fewer than the least number of different points.
    """
    if isinstance(source, Mesh):
        return sample_surface(outward(source), samples or SAMPLES, seed)
    most = samples or MOST
    points = _thinned(source, max(_LOOKED_AT, most), seed).distinct()  # sorting ten million takes longer than a draft
    check_number(len(points), "different points")
    return _thinned(points, most, seed)


def _thinned(points: PointCloud, most: int, seed: int) -> PointCloud:
    if len(points) <= most:
        return points
    return points.take(np.sort(np.random.default_rng(seed).permutation(len(points))[:most]))


def prepare(
    source: Source, cloud: PointCloud, frame: Frame, *, needs_distance: bool, needs_normals: bool = False
) -> Prepared:
    """``cloud`` of ``source`` in ``frame``: of a mesh, what bounds its solid; a signed distance if one is needed.

    Normals of points that look to different sides are turned; where there are none, they are estimated if needed.
    """
    note = ""
    if not isinstance(source, Mesh) and (needs_normals or cloud.normals is not None):
        cloud, note = oriented(cloud)
    points, normals = frame.to_unit(cloud.points), cloud.normals
    if isinstance(source, Mesh):
        assert normals is not None  # samples of faces have normals
        unit = Mesh(frame.to_unit(source.vertices).astype(np.float64), source.faces)
        return _surveyed(frame, survey(unit, points, normals))
    if normals is None or not needs_distance:
        return Prepared(frame, Evidence(points, normals, None), note)
    points, said = _settled(points, normals)
    return _surveyed(frame, survey_points(points, normals), f"{note} {said}".strip())


def _settled(points: Array, normals: Array) -> tuple[Array, str]:
    """``points`` without their noise, if they have any to speak of, and a sentence about it."""
    noise, spacing = noise_of(points, normals), Evidence(points, normals, None).spacing
    if noise < NOISY * spacing:
        return points, ""
    share = noise / float(np.linalg.norm(np.ptp(points, axis=0)))
    note = f"The points scatter by {100 * share:.2g} % of their size and were moved onto the surface between them."
    return denoised(points, normals, noise, spacing).astype(np.float32), note


def _surveyed(frame: Frame, found: Survey, note: str = "") -> Prepared:
    evidence = Evidence(found.points, found.normals, found.oracle, found.closest)
    return Prepared(frame, evidence, f"{note} {found.note}".strip())
