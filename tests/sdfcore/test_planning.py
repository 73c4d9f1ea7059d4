"""What is chosen for which input, and which requests are refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import trimesh
from small_fits import ball, ball_points, directions, open_ball

from sdfcore.errors import InputError
from sdfcore.evidence import Evidence
from sdfcore.geometry import Mesh, PointCloud
from sdfcore.planning import FEWEST_POINTS, choose, device_named, devices, input_kind, nearer, plan, resolution_for
from sdfcore.presets import PRESETS
from sdfcore.recipes import RECIPES


def sheet() -> Mesh:
    """A flat square: nothing is inside of it."""
    x, y = np.meshgrid(np.linspace(0, 1, 9), np.linspace(0, 1, 9))
    points = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], axis=1)
    return Mesh(points, trimesh.Trimesh(points, np.array(_grid_faces(9))).faces)


def _grid_faces(n: int) -> list[tuple[int, int, int]]:
    corners = [
        (r * n + c, r * n + c + 1, (r + 1) * n + c, (r + 1) * n + c + 1) for r in range(n - 1) for c in range(n - 1)
    ]
    return [face for a, b, c, d in corners for face in ((a, b, c), (b, d, c))]


def crossing() -> Mesh:
    """Two closed spheres that overlap: watertight, and with a clear winding number."""
    a, b = ball(), ball(centre=(1.0, 0, 0))
    return Mesh(np.concatenate([a.vertices, b.vertices]), np.concatenate([a.faces, b.faces + len(a.vertices)]))


@pytest.mark.parametrize(
    ("source", "kind", "recipe", "says"),
    [
        (ball(), "clean mesh", "distance", "closed"),
        (ball().flipped(), "clean mesh", "distance", "closed"),
        (crossing(), "clean mesh", "distance", "closed"),
        (open_ball(0.9), "dirty mesh", "distance", "open edges, but its winding number still tells"),
        (sheet(), "dirty mesh", "distance", "32 open edges; .* roughly"),
        (ball_points(100), "oriented points", "distance", "have normals"),
        (ball_points(100, normals=False), "unoriented points", "igr", "no normals"),
    ],
    ids=["closed", "inverted", "overlapping", "nearly closed", "sheet", "oriented", "unoriented"],
)
def test_each_kind_of_input_has_its_recipe_and_a_reason(
    source: Mesh | PointCloud, kind: str, recipe: str, says: str
) -> None:
    made = plan(source)
    assert (made.input_kind, made.recipe) == (kind, recipe)
    assert input_kind(source)[0] == kind
    assert choose(source) == (recipe, made.reason)
    assert re.search(says, made.reason)
    assert made.reason.endswith(".")
    assert made.reason.count(".") == 1


def test_a_choice_of_yours_is_taken() -> None:
    made = plan(ball_points(100), recipe="igr")
    assert (made.recipe, made.input_kind) == ("igr", "oriented points")
    assert "You chose" in made.reason


@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_preset_gives_size_steps_and_resolution_and_you_may_say_otherwise(preset: str) -> None:
    made = plan(ball(), preset=preset, seed=7)
    size = RECIPES["distance"].sizes[preset]
    assert (made.preset, made.size, made.steps, made.seed) == (preset, size, size.steps, 7)
    assert made.resolution == PRESETS[preset].resolution
    assert made.seconds is None
    other = plan(ball(), preset=preset, steps=11, resolution=33, seconds=2.5)
    assert (other.steps, other.resolution, other.seconds) == (11, 33, 2.5)


@pytest.mark.parametrize(
    ("wish", "says", "hint"),
    [
        ({"recipe": "poisson"}, "'poisson'", "auto, .*distance.*igr"),
        ({"preset": "ultra"}, "'ultra'", "draft, balanced, fine"),
        ({"device": "abacus"}, "'abacus'", "auto.*cpu"),
        ({"steps": 0}, "0 steps", "at least 1"),
        ({"seconds": 0.0}, "0.0 seconds", "above 0"),
        ({"seconds": float("nan")}, "nan seconds", "above 0"),
        ({"resolution": 0}, "resolution of 0", "at least 1"),
        ({"seed": -1}, "seed -1", "from 0"),
        ({"seed": 2**63}, "seed 9223372036854775808", "from 0"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_can(wish: dict[str, object], says: str, hint: str) -> None:
    with pytest.raises(InputError, match=says) as raised:
        plan(ball(), **wish)
    assert re.search(hint, raised.value.hint)


def test_a_handful_of_points_is_no_surface() -> None:
    points = directions(FEWEST_POINTS)
    with pytest.raises(InputError, match=f"{FEWEST_POINTS - 1} points.*at least {FEWEST_POINTS}"):
        plan(PointCloud(points[1:]))
    assert plan(PointCloud(points)).recipe == "igr"


def test_points_without_normals_are_given_some_if_they_are_enough_to_tell_sides() -> None:
    chosen = plan(ball_points(600, normals=False))
    assert (chosen.recipe, chosen.input_kind) == ("distance", "unoriented points")
    assert "no normals" in chosen.reason
    assert plan(ball_points(200, normals=False)).recipe == "igr"


def test_every_recipe_either_needs_normals_or_fits_without() -> None:
    for name, recipe in RECIPES.items():
        assert plan(ball_points(100, normals=False), recipe=name).recipe == name
        if not recipe.needs_normals:
            assert recipe.objective.without(*recipe.normal_terms).terms
    assert {name for name, recipe in RECIPES.items() if recipe.needs_distance} <= {
        name for name, recipe in RECIPES.items() if recipe.needs_normals
    }


def test_the_processor_is_always_there_and_last() -> None:
    found = devices()
    assert found[-1][0] == "cpu"
    assert len({key for key, _ in found}) == len(found)
    assert device_named("auto") == torch.device(found[0][0])
    assert device_named("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("area", "preset", "expected"),
    [(4.0, 256, 256), (9.0, 256, 256), (1.0, 256, 512), (0.01, 256, 1024), (0.0, 100, 400)],
)
def test_thin_shapes_get_a_finer_lattice(area: float, preset: int, expected: int) -> None:
    assert resolution_for(area, preset) == expected


@pytest.mark.parametrize(("thinness", "expected"), [(np.inf, 256), (0.01, 256), (0.00625, 400), (0.002, 512)])
def test_cells_are_smaller_than_what_is_thin_but_at_most_by_half(thinness: float, expected: int) -> None:
    assert resolution_for(4.0, 256, thinness=thinness) == expected
    assert resolution_for(4.0, 256, longest=1.0, thinness=thinness / 2) == expected


def test_little_time_is_not_spent_on_beginning_near() -> None:
    points = np.random.default_rng(0).normal(size=(3000, 3))
    points *= 0.8 / np.linalg.norm(points, axis=1, keepdims=True)
    known = Evidence(points, points / 0.8, lambda x: np.linalg.norm(x, axis=1) - 0.8)
    cloud = PointCloud(points, points / 0.8)
    short = nearer(plan(cloud, preset="fine", seconds=10, device="cpu"), known, None, None)
    long = nearer(plan(cloud, preset="fine", seconds=600, device="cpu"), known, None, None)
    assert short.size.near
    assert short.size.nodes == 400_000 < long.size.nodes
    own = nearer(plan(cloud, preset="fine", seconds=10, device="cpu"), known, None, {"nodes": 900_000})
    assert own.size.nodes == 900_000
