"""Small pictures of meshes: an orthographic view, shaded by two lights. numpy alone."""

from __future__ import annotations

import numpy as np

from .geometry import Array, Mesh

_CLAY = np.array([0.80, 0.84, 0.90])
_KEY, _FILL = np.array([0.35, 0.75, 0.60]), np.array([-0.80, 0.10, 0.45])  # towards the lights: right, up, viewer
_FINER = 2  # samples along a pixel's side
_FRONTS = {"x": "z", "y": "z", "z": "y"}  # of shapes that stand on the ground: +z where y is up, -y where z is


def shaded(
    mesh: Mesh,
    pixels: int = 160,
    *,
    up: str = "z",
    turn: float = 50.0,
    rise: float = 20.0,
    tint: Array | None = None,
    ball: tuple[Array, float] | None = None,
) -> Array:
    """``mesh`` seen from a little above and aside.

    Args:
        mesh: any units; its bounding ball fills the picture.
        pixels: of the picture's sides.
        up: the axis, ``x``, ``y`` or ``z``, that points upwards.
        turn, rise: degrees from the front to the shape's left side, and above the horizon.
        tint: (V, 3) colour of each vertex in [0, 1], instead of clay.
        ball: centre (3,) and radius that fill the picture, instead of the mesh's own: so that pictures compare.
    Returns:
        (pixels, pixels, 4) float in [0, 1]: red, green, blue and opacity; the first row is the highest.
    """
    fine = pixels * _FINER
    view = _view(up, np.radians(turn), np.radians(rise))
    middle = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2 if ball is None else ball[0]
    places = (np.asarray(mesh.vertices, dtype=np.float64) - middle) @ view.T
    reach = (float(np.linalg.norm(places[:, :2], axis=1).max()) or 1.0) if ball is None else ball[1]
    places *= 0.96 / reach
    colours = np.broadcast_to(_CLAY, (len(places), 3)) if tint is None else tint
    points, carried = _scattered(places, np.hstack([_normals(mesh) @ view.T, colours]), mesh.faces, fine)
    normals, colours = carried[:, :3], carried[:, 3:]
    column, row = ((np.clip(v, -1, 1) + 1) / 2 * (fine - 1) + 0.5 for v in (points[:, 0], -points[:, 1]))
    cell = row.astype(np.int64) * fine + column.astype(np.int64)
    order = np.argsort(points[:, 2])
    nearest = np.full(fine * fine, -1)
    nearest[cell[order]] = order  # of those in one cell the last one stays
    seen = nearest >= 0
    picture = np.zeros((fine * fine, 4))
    picture[seen, :3] = _lit(normals[nearest[seen]], colours[nearest[seen]])
    picture[seen, 3] = 1.0
    return _reduced(picture.reshape(fine, fine, 4))


def _view(up: str, turn: float, rise: float) -> Array:
    """(3, 3): rows point to the right, upwards and to the viewer."""
    upward, front = (np.eye(3)["xyz".index(axis)] for axis in (up, _FRONTS[up]))
    if up == "z":
        front = -front
    flat = np.cos(turn) * front + np.sin(turn) * np.cross(upward, front)
    ahead = np.cos(rise) * flat + np.sin(rise) * upward
    right = np.cross(upward, flat)
    return np.stack([right, np.cross(ahead, right), ahead])


def _normals(mesh: Mesh) -> Array:
    """(V, 3) of length one or zero: the mesh's own, or the mean of its faces'."""
    if mesh.normals is not None:
        return np.asarray(mesh.normals, dtype=np.float64)
    found = np.zeros((len(mesh.vertices), 3))
    for corner in range(3):
        np.add.at(found, mesh.faces[:, corner], mesh.face_vectors())
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-300)


def _scattered(places: Array, values: Array, faces: Array, fine: int) -> tuple[Array, Array]:
    """Points (N, 3) all over the triangles, so dense that no sample of the picture is left out, and values (N, K)."""
    corners, bent = places[faces], values[faces]
    longest = np.linalg.norm((corners - np.roll(corners, 1, axis=1))[..., :2], axis=2).max(axis=1)
    parts = np.clip(np.ceil(longest * fine / 1.6), 1, 2 * fine).astype(int)  # steps of 0.8 samples
    found = []
    for number in np.unique(parts):
        a, b = (v.reshape(-1) for v in np.meshgrid(np.arange(number + 1), np.arange(number + 1)))
        weights = np.stack([a, b, number - a - b], axis=1)[a + b <= number] / number
        some = parts == number
        found.append([np.einsum("wc,fcd->fwd", weights, of[some]).reshape(-1, of.shape[2]) for of in (corners, bent)])
    return np.concatenate([p for p, _ in found]), np.concatenate([n for _, n in found])


def _lit(normals: Array, colours: Array) -> Array:
    """(N, 3) ``colours`` under a key light, a weaker one from the other side and the sky; back sides as front ones."""
    unit = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    unit = unit * np.where(unit[:, 2:] < 0, -1.0, 1.0)
    key = np.maximum(unit @ (_KEY / np.linalg.norm(_KEY)), 0)
    fill = np.maximum(unit @ (_FILL / np.linalg.norm(_FILL)), 0)
    edge = (1 - unit[:, 2]) ** 3
    light = 0.24 + 0.78 * key + 0.22 * fill + 0.06 * unit[:, 1] - 0.12 * edge
    shine = 0.10 * key**24
    return np.clip(colours * light[:, None] + shine[:, None], 0, 1)


def _reduced(picture: Array) -> Array:
    """The mean of each pixel's samples; colours weigh as much as they are opaque."""
    side = len(picture) // _FINER
    blocks = picture.reshape(side, _FINER, side, _FINER, 4)
    opacity = blocks[..., 3:].mean(axis=(1, 3))
    colours = (blocks[..., :3] * blocks[..., 3:]).mean(axis=(1, 3)) / np.maximum(opacity, 1e-9)
    return np.concatenate([colours, opacity], axis=2)
