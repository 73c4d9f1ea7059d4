"""Which part of a mesh's surface bounds a solid, and the signed distance to that solid.

Real models are unions of overlapping parts, with hidden faces inside, parts turned inside out, and sheets without
thickness. A winding number on either side of each surface sample tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from .coherence import nearest
from .errors import InputError
from .geometry import Array, Mesh
from .oracles import Oracle, PointDistance
from .surfaces import MeshDistance

STEP = 5e-4  # how far to the side of a sample the winding number is asked, unit box: less than any part worth fitting
EXACT = 0.002  # up to this share of samples that bound nothing, the triangles themselves give the distance
HIDDEN = 1e-4  # up to this share of hidden points is noise of the winding number
_PROBE = 20_000  # points that tell whether any are hidden: they miss what is less than a few of ten thousand
HALF_THICKNESS = 0.006  # given to sheets on either side, unit box


@dataclass(frozen=True, eq=False)
class Survey:
    """Samples (N, 3) of the solid's surface with outward normals (N, 3), unit box, and the signed distance to it.

    ``closest`` gives the nearest points of the triangles, where those are what bounds the solid.
    ``hidden`` and ``sheets`` are the shares of the samples found inside the solid, and on sheets that bound nothing;
    those were given a thickness of twice :data:`HALF_THICKNESS`.
    """

    points: Array
    normals: Array
    oracle: Oracle
    hidden: float = 0.0
    sheets: float = 0.0
    closest: Oracle | None = None

    @property
    def note(self) -> str:
        """What was done to the surface, in a sentence; empty if nothing was."""
        parts = []
        if self.hidden > EXACT:
            parts.append(f"{self.hidden:.0%} of its surface lies inside and was left out")
        if self.sheets > EXACT:
            parts.append(f"{self.sheets:.0%} are sheets without an inside and were given a thickness")
        text = "; ".join(parts)
        return text[:1].upper() + text[1:] + "." if text else ""


def survey(mesh: Mesh, points: Array, normals: Array) -> Survey:
    """Sort surface samples of ``mesh`` by what the winding number says on their two sides.

    Inside is where the winding number's absolute value exceeds ½, so parts turned inside out are solid too.

    Args:
        mesh: unit box. points, normals: (N, 3) samples of its surface.
    Raises:
        InputError: all of it lies inside.
    """
    distance = MeshDistance(mesh)

    def inside(queries: Array) -> Array:
        return np.abs(distance.winding(queries)) > 0.5

    step = STEP * np.asarray(normals, dtype=np.float64)
    front, back = inside(points + step), inside(points - step)
    skin, sheet = front != back, ~(front | back)
    if not (skin | sheet).any():
        raise InputError(
            "Its faces bound nothing: they all lie inside of one another.", "Remove doubled faces, or fit its points."
        )
    hidden, sheets = float((front & back).mean()), float(sheet.mean())
    turned = np.where(front[:, None], -normals, normals)
    if hidden + sheets <= EXACT and skin.any():
        signed, closest = _signed_by(distance, inside), lambda queries: distance.closest(queries)[2]
        return Survey(points[skin], turned[skin], signed, hidden, sheets, closest)
    if not sheet.any():
        return Survey(points[skin], turned[skin], PointDistance(points[skin], turned[skin], inside), hidden, sheets)
    thickened = _thickened(inside, points[sheet], normals[sheet])
    up = normals[sheet]
    around = np.concatenate([points[skin], points[sheet] + HALF_THICKNESS * up, points[sheet] - HALF_THICKNESS * up])
    outward = np.concatenate([turned[skin], up, -up])
    kept = ~thickened(around + 2 * STEP * outward)  # where sheets meet solids or each other, their skins vanish
    around, outward = around[kept].astype(np.float32), outward[kept].astype(np.float32)
    return Survey(around, outward, PointDistance(around, outward, thickened), hidden, sheets)


def survey_points(points: Array, normals: Array) -> Survey:
    """The same of oriented points (N, 3), unit box: points hidden inside, where parts overlap, are left out.

    The mean winding number just before and behind a point is ½ on the skin of a solid and 1½ within another part. Both
    are asked half a spacing away, so that a narrow gap is not taken for an overlap.
    """
    distance = PointDistance(points, normals)
    winding = distance.winding
    if winding is None:
        raise ValueError("points bring their own winding number")
    step = 0.5 * distance.spacing[:, None] * normals
    some = np.random.default_rng(0).permutation(len(points))[:_PROBE]

    def is_skin(rows: Array) -> Array:
        return (winding(points[rows] + step[rows]) + winding(points[rows] - step[rows])) / 2 < 1.0

    if np.mean(~is_skin(some)) <= HIDDEN:  # winding numbers are dear: of all points only where there is a need
        return Survey(points, normals, distance)
    skin = is_skin(np.arange(len(points)))
    hidden = float(1 - skin.mean())
    if hidden <= HIDDEN or not skin.any():
        return Survey(points, normals, distance)
    inside = distance.inside
    return Survey(points[skin], normals[skin], PointDistance(points[skin], normals[skin], inside), hidden)


def _thickened(inside: Oracle, points: Array, normals: Array) -> Oracle:
    """Inside a solid, or within the half thickness of a sheet that is given by samples."""
    tree = cKDTree(points)
    gap, _ = tree.query(points[:: max(1, len(points) // 2000)], k=min(9, len(points)), workers=-1)
    reach = 2 * float(np.median(np.reshape(gap, (-1, min(9, len(points))))[:, -1])) / 3 + 1e-9

    def within(queries: Array) -> Array:
        farthest = float(np.hypot(HALF_THICKNESS, reach))
        _, near = nearest(tree, queries, distance_upper_bound=farthest)
        found = near < len(points)
        near = np.where(found, near, 0)
        height = np.abs(np.einsum("ni,ni->n", queries - points[near], normals[near]))
        return inside(queries) | (found & (height < HALF_THICKNESS))

    return within


def _signed_by(distance: MeshDistance, inside: Oracle) -> Oracle:
    def signed(queries: Array) -> Array:
        unsigned = distance.unsigned(queries)
        return np.where(inside(queries), -unsigned, unsigned)

    return signed
