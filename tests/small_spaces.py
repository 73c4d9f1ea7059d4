"""A family with known members, the ellipsoids, and a space of it so small that it is learned in a few seconds."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from small_fits import Array, ball, directions, one_thread

from sdfcore.fields import NeuralSDF
from sdfcore.geometry import Mesh, PointCloud
from sdfcore.spaces import Latent, Learn, Space, learn
from sdfcore.spaces.sizes import SpaceSize

TINY = SpaceSize(width=32, depth=3, code_size=4, octaves=0, shapes=2, points=128, pool=6000)
AXES = {
    "ball": (1.0, 1.0, 1.0),
    "long": (1.0, 0.5, 0.5),
    "flat": (1.0, 1.0, 0.45),
    "plank": (1.0, 0.7, 0.4),
    "egg": (1.0, 0.75, 0.75),
}
QUICK: dict[str, Any] = {"size": TINY, "samples": 3000, "device": "cpu", "seed": 0}
ROUGH: dict[str, Any] = {**QUICK, "size": replace(TINY, pool=1000), "samples": 500}


def ellipsoid(a: float, b: float, c: float, *, subdivisions: int = 3) -> Mesh:
    """Semi-axes ``a``, ``b``, ``c`` along x, y, z."""
    sphere = ball(subdivisions=subdivisions)
    return Mesh(sphere.vertices * np.array([a, b, c]), sphere.faces)


def ellipsoid_points(axes: tuple[float, float, float], count: int = 3000, seed: int = 0) -> PointCloud:
    """Points of an ellipsoid with their exact normals; denser where it is more curved."""
    unit = directions(count, seed)
    return PointCloud(unit * np.array(axes), unit / np.array(axes))


def family(*names: str, subdivisions: int = 3) -> dict[str, Mesh]:
    """The named ellipsoids, or all."""
    return {name: ellipsoid(*AXES[name], subdivisions=subdivisions) for name in names or AXES}


def rough_run(*names: str, **options: Any) -> Learn:
    """A learning run prepared in no time, of shapes that need not come out well; by default two."""
    return Learn(family(*(names or ("ball", "flat")), subdivisions=2), **{**ROUGH, **options})


def finished(run: Learn) -> Learn:
    """The run, after it was let run to its end."""
    for _ in run:
        pass
    return run


@cache
def learned() -> Space:
    """The space of all ellipsoids. Shared by all tests: not to be changed."""
    with one_thread():
        return learn(family(), **QUICK, steps=800)


@cache
def learned_with_encoder() -> Space:
    """The same, with codes that an encoder predicts."""
    with one_thread():
        return learn(family(), **QUICK, steps=800, encoder=True)


@pytest.fixture
def space() -> Space:
    return learned()


@pytest.fixture
def single_thread() -> Any:
    with one_thread():
        yield


def values(sdf: NeuralSDF, points: Array) -> Array:
    """(N,) at world points."""
    with torch.no_grad():
        return sdf(torch.from_numpy(np.array(points, dtype=np.float64))).numpy()


def mean_error(sdf: NeuralSDF, axes: Any) -> float:
    """Mean |f| on an ellipsoid's surface."""
    return float(np.abs(values(sdf, ellipsoid_points(tuple(axes), 2000, seed=5).points)).mean())


def surface_error(sdf: NeuralSDF, axes: Any, *, scale: float = 1.0, centre: Any = (0.0, 0.0, 0.0)) -> float:
    """Mean |f| on an ellipsoid's surface as a share of its longest semi-axis; and it must be one: negative inside."""
    points = ellipsoid_points(tuple(axes), 2000, seed=5).points * scale + np.asarray(centre)
    assert values(sdf, np.array([centre]))[0] < 0, "the middle is inside"
    assert (values(sdf, (points - centre) * 1.3 + centre) > 0).all(), "round it is outside"
    return float(np.abs(values(sdf, points)).mean()) / (scale * max(axes))


def same(a: Latent, b: Latent) -> bool:
    """Whether code, frame and box are the same, bit for bit."""
    return (
        np.array_equal(a.code, b.code)
        and np.array_equal(a.frame.centre, b.frame.centre)
        and a.frame.scale == b.frame.scale
        and np.array_equal(a.box.lower, b.box.lower)
        and np.array_equal(a.box.upper, b.box.upper)
    )
