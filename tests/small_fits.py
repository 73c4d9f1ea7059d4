"""Shapes with known answers, and recipes so small that a fit takes about a second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from numpy.typing import NDArray

from sdfcore.fitting import Fit, Progress
from sdfcore.geometry import Mesh, PointCloud
from sdfcore.recipe import Recipe, Size
from sdfcore.recipes import RECIPES

Array = NDArray[np.floating]

SMALL = {
    "deepsdf": Size(width=48, depth=3, steps=150, batch=256, rate=5e-3),
    "digs": Size(width=64, depth=3, steps=300, batch=256, rate=1e-4),
    "distance": Size(width=16, depth=1, steps=100, batch=256, rate=1e-2, nodes=3000),
    "fourier": Size(width=64, depth=3, steps=300, batch=512, rate=2e-3),
    "hash": Size(width=24, depth=1, steps=200, batch=256, rate=1e-2, nodes=2**15),
    "hotspot": Size(width=64, depth=3, steps=300, batch=256, rate=5e-5),
    "idf": Size(width=48, depth=2, steps=250, batch=256, rate=1e-3),
    "igr": Size(width=48, depth=3, steps=150, batch=128, rate=4e-3),
    "igr_unsquared": Size(width=48, depth=3, steps=150, batch=128, rate=4e-3),
    "imnet": Size(width=96, depth=4, steps=700, batch=512, rate=2e-3),
    "isopoints": Size(width=64, depth=2, steps=250, batch=256, rate=1e-3, warm_up=100, refresh=100),
    "lightsal": Size(width=32, depth=3, steps=150, batch=256, rate=5e-3),
    "lipschitz": Size(width=32, depth=5, steps=300, batch=256, rate=1e-2),
    "neural_pull": Size(width=48, depth=3, steps=150, batch=256, rate=3e-3),
    "occupancy": Size(width=48, depth=3, steps=150, batch=256, rate=5e-3),
    "regression": Size(width=48, depth=3, steps=150, batch=256, rate=5e-3),
    "sal": Size(width=48, depth=3, steps=200, batch=256, rate=5e-3),
    "sal_l0": Size(width=48, depth=3, steps=200, batch=256, rate=3e-3),
    "sald": Size(width=48, depth=3, steps=150, batch=256, rate=5e-3),
    "singular_hessian": Size(width=64, depth=3, steps=300, batch=192, rate=1e-4),
    "siren": Size(width=64, depth=2, steps=250, batch=256, rate=1e-3),
    "sobolev": Size(width=48, depth=3, steps=150, batch=256, rate=5e-3),
    "steik": Size(width=64, depth=3, steps=300, batch=256, rate=2e-5),
    "tv": Size(width=64, depth=3, steps=300, batch=192, rate=1e-4),
    "viscoreg": Size(width=64, depth=3, steps=300, batch=256, rate=5e-5),
}


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def small(name: str) -> Recipe:
    """The recipe with one small size for all presets; from near its end it takes as many steps, slower ones."""
    recipe, size = RECIPES[name], SMALL[name]
    near = dict.fromkeys(recipe.near_sizes, replace(size, rate=size.rate / 100, near=True))
    return replace(recipe, sizes=dict.fromkeys(recipe.sizes, size), near_sizes=near)


@pytest.fixture
def small_recipes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every recipe is small, and one thread does the work."""
    for name in SMALL:
        monkeypatch.setitem(RECIPES, name, small(name))
    with one_thread():
        yield


def finish(fit: Fit) -> list[Progress]:
    return list(fit)


def ball(radius: float = 1.0, centre: tuple[float, float, float] = (0.0, 0.0, 0.0), subdivisions: int = 3) -> Mesh:
    shape = trimesh.creation.icosphere(subdivisions)
    return Mesh(np.array(shape.vertices) * radius + np.array(centre), np.array(shape.faces))


def open_ball(above: float = 0.6) -> Mesh:
    """The unit sphere without its cap over z = ``above``."""
    whole = ball()
    return Mesh(whole.vertices, whole.faces[whole.triangles.mean(axis=1)[:, 2] < above])


def directions(count: int, seed: int = 0) -> Array:
    """(count, 3) float64 unit vectors, even over the sphere."""
    vectors = np.random.default_rng(seed).normal(size=(count, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def ball_points(count: int = 2000, radius: float = 1.0, *, normals: bool = True, seed: int = 0) -> PointCloud:
    vectors = directions(count, seed)
    return PointCloud(vectors * radius, vectors if normals else None)
