"""The family: in what order its shapes come, what is drawn from them, and in which frames they stand."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from small_fits import ball, ball_points
from small_spaces import TINY, family, single_thread

from sdfcore.errors import EmptyInputError, InputError, NoNormalsError
from sdfcore.geometry import Mesh, PointCloud
from sdfcore.recipes import RECIPES
from sdfcore.sampling import Batch
from sdfcore.spaces.family import Family, chosen_recipe, mixed, prepared, rows_of_step

__all__ = ["single_thread"]

pytestmark = pytest.mark.usefixtures("single_thread")


def members(sources: Any, recipe: str = "regression", **options: Any) -> Family:
    settings = {"size": TINY, "seed": 0, "device": torch.device("cpu"), "samples": 800, **options}
    return Family(list(prepared(sources, RECIPES[recipe], **settings)), RECIPES[recipe])


@pytest.fixture(scope="module")
def three() -> Family:
    return members(family("ball", "long", "flat"))


# The order of the shapes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "shapes"), [(7, 3), (10, 4), (12, 4), (5, 1), (9, 8), (100, 8)])
def test_every_shape_comes_once_in_every_epoch(count: int, shapes: int) -> None:
    epochs = 4
    steps = -(-epochs * count // shapes)
    rows = list(itertools.chain(*(rows_of_step(step, count, shapes, 3) for step in range(steps))))
    orders = [tuple(rows[epoch * count : (epoch + 1) * count]) for epoch in range(epochs)]
    assert all(sorted(order) == list(range(count)) for order in orders)
    assert len(set(orders)) == epochs, "each in an order of its own"
    assert {len(rows_of_step(step, count, shapes, 3)) for step in range(steps)} == {shapes}


def test_the_order_depends_on_nothing_but_seed_and_step() -> None:
    asked = [rows_of_step(step, 20, 6, 5) for step in range(30)]
    again = {step: rows_of_step(step, 20, 6, 5) for step in reversed(range(30))}
    assert asked == [again[step] for step in range(30)]
    assert asked != [rows_of_step(step, 20, 6, 6) for step in range(30)]
    assert rows_of_step(10**6, 3, 8, 0) == [0, 1, 2], "as many as there are"


def test_neighbouring_seeds_are_unrelated() -> None:
    seeds = [mixed(a, b, c) for a in range(10) for b in range(10) for c in range(10)]
    assert len(set(seeds)) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
    bits = np.array([[seed >> bit & 1 for bit in range(63)] for seed in seeds])
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.08


# Batches --------------------------------------------------------------------------------------------------------------


def equal(a: Batch, b: Batch) -> bool:
    return all(torch.equal(getattr(a, n), getattr(b, n)) for n in ("surface", "space", "normals", "distances"))


def test_batches_depend_on_nothing_but_seed_and_step(three: Family) -> None:
    first = three.batch([2, 0], 1, 5)
    three.batch([1, 2], 1, 6)
    assert equal(three.batch([2, 0], 1, 5), first)
    assert not equal(three.batch([2, 0], 1, 6), first)
    assert not equal(three.batch([2, 0], 2, 5), first)
    alone = three.batch([0], 1, 5)
    assert torch.equal(first.surface[TINY.points :], alone.surface), "whatever other shapes the step has"
    assert torch.equal(three.clouds([2, 0], 50, 1, 5)[1], three.clouds([0], 50, 1, 5)[0])
    assert not torch.equal(three.clouds([0], 50, 1, 6), three.clouds([0], 50, 1, 5))


def test_points_and_distances_are_those_of_the_shape(three: Family) -> None:
    batch = three.batch([0, 1], 0, 0)
    assert batch.surface.shape == (2 * TINY.points, 3)
    surface = batch.surface.norm(dim=1).reshape(2, -1)
    assert (surface[0] - 0.85).abs().max() < 0.01, "the ball fills its unit box up to the margin"
    assert surface[1].min() < 0.45
    assert surface[1].max() < 0.851
    space, known = batch.space.reshape(2, -1, 3), batch.known_distances.reshape(2, -1)
    assert (known[0] - (space[0].norm(dim=1) - 0.85)).abs().max() < 0.01
    cloud = three.clouds([0], 64, 0, 0)
    assert cloud.shape == (1, 64, 3)
    assert (cloud.norm(dim=2) - 0.85).abs().max() < 0.01


# Preparation ----------------------------------------------------------------------------------------------------------


def test_each_shape_has_its_own_frame_or_all_have_one() -> None:
    sources = {"small": ball(0.1, (5.0, 0, 0), subdivisions=2), "large": ball(2.0, subdivisions=2)}
    own = members(sources).members
    assert [member.name for member in own] == ["small", "large"]
    assert own[0].frame.scale * 20 == pytest.approx(own[1].frame.scale, rel=0.01)
    np.testing.assert_allclose(own[0].frame.centre, [5, 0, 0], atol=0.01)
    assert own[0].box.size == pytest.approx(own[1].box.size, rel=0.01)
    shared = members(sources, together=True).members
    assert shared[0].frame is shared[1].frame
    assert shared[0].box.size * 20 == pytest.approx(shared[1].box.size, rel=0.02)
    world = shared[0].frame.box_to_world(shared[0].box)
    np.testing.assert_allclose(world.centre, [5, 0, 0], atol=0.01)


def test_preparing_leaves_the_global_generator_alone() -> None:
    state = torch.random.get_rng_state()
    members(family("ball"))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (PointCloud(np.zeros((50, 3))), InputError),
        (PointCloud(np.eye(3)), InputError),
        (Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]), np.array([[0, 1, 2]])), InputError),
    ],
    ids=["one place", "three points", "no area"],
)
@pytest.mark.parametrize("together", [False, True])
def test_errors_name_the_shape(bad: Any, error: type[Exception], together: bool) -> None:
    with pytest.raises(error, match=r"^stool 7: ") as caught:
        members({"fine": ball(subdivisions=1), "stool 7": bad}, together=together)
    assert str(caught.value).count("stool 7: ") == 1
    assert isinstance(caught.value, InputError)
    assert caught.value.line.startswith("stool 7: ")
    assert caught.value.hint


def test_the_kind_of_an_error_is_kept() -> None:
    from sdfcore.spaces.family import about

    with pytest.raises(EmptyInputError, match=r"^x: nothing$"), about("x"):
        raise EmptyInputError("nothing")


def test_the_recipe_follows_from_the_shapes() -> None:
    oriented, bare = ball_points(200), ball_points(200, normals=False)
    assert chosen_recipe({"a": ball(), "b": oriented}, "auto").name == "regression"
    assert chosen_recipe({"a": ball(), "b": bare}, "auto").name == "igr"
    assert chosen_recipe({"a": ball()}, "igr").name == "igr"
    with pytest.raises(InputError, match="no recipe 'magic'"):
        chosen_recipe({"a": ball()}, "magic")
    with pytest.raises(NoNormalsError, match="b has none"):
        chosen_recipe({"a": oriented, "b": bare}, "distance")


def test_normals_are_asked_of_no_one_if_one_has_none() -> None:
    mixed_kinds = members({"a": ball(subdivisions=2), "b": ball_points(500, normals=False)}, "igr")
    assert Counter(member.oriented for member in mixed_kinds.members) == {True: 1, False: 1}
    assert set(mixed_kinds.objective.terms) == {"manifold", "eikonal"}
    assert mixed_kinds.batch([0, 1], 0, 0).normals is None
    assert "normals" in members({"a": ball(subdivisions=2)}, "igr").objective.terms
