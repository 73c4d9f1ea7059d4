"""Finding the code of a shape: from all of it or a part, moved, scaled or turned."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from small_spaces import (
    AXES,
    ellipsoid,
    ellipsoid_points,
    finished,
    learned,
    learned_with_encoder,
    mean_error,
    rough_run,
    single_thread,
    surface_error,
    values,
)

from sdfcore.errors import InputError
from sdfcore.fields import NeuralSDF
from sdfcore.geometry import PointCloud
from sdfcore.spaces import Infer, Inferred, Space, inference
from sdfcore.spaces.inference import spread_out
from sdfcore.spaces.poses import quarter_turns

__all__ = ["single_thread"]

pytestmark = pytest.mark.usefixtures("single_thread")

UNSEEN = (1.0, 0.85, 0.7)


def inferred(source: Any, **options: Any) -> Inferred:
    run = Infer(options.pop("space", learned()), source, **{"steps": 100, **options})
    for _ in run:
        pass
    return run.found


def field(found: Inferred) -> NeuralSDF:
    return found.field(learned())


@pytest.mark.parametrize("name", ["flat", "long"])
def test_a_learned_shape_is_found_from_its_own_points(name: str) -> None:
    found = inferred(ellipsoid_points(AXES[name], seed=3))
    assert learned().nearest(found.latent) == name
    assert surface_error(field(found), AXES[name]) < 0.01
    np.testing.assert_allclose(found.rotation, np.eye(3))


def test_an_unseen_member_of_the_family_is_found_from_its_mesh() -> None:
    found = inferred(ellipsoid(*UNSEEN))
    nearest = min(mean_error(learned().decode(shape), UNSEEN) for shape in learned())
    assert surface_error(field(found), UNSEEN) < min(0.012, 0.5 * nearest)


def test_without_normals_too() -> None:
    found = inferred(PointCloud(ellipsoid_points(AXES["plank"], seed=3).points))
    assert surface_error(field(found), AXES["plank"]) < 0.02


def test_half_of_the_points_are_enough() -> None:
    whole = ellipsoid_points(UNSEEN, 5000, seed=3)
    found = inferred(whole.take(whole.points[:, 0] > 0), partial=True)
    assert surface_error(field(found), UNSEEN) < 0.02, "the half that was not there counts here as much"
    box = found.latent.frame.box_to_world(found.latent.box)
    assert box.lower[0] < -0.9, "the box is the whole's"


def test_a_scaled_and_moved_copy_is_found() -> None:
    points, centre = ellipsoid_points(AXES["plank"], 4000, seed=3), np.array([1000.0, -5, 20])
    moved = PointCloud(points.points * 30 + centre, points.normals)
    for part, source in (("whole", moved), ("half", moved.take(points.points[:, 1] > 0))):
        found = inferred(source, partial=part == "half", align=True)
        assert surface_error(field(found), AXES["plank"], scale=30, centre=centre) < 0.02, part
        np.testing.assert_allclose(found.latent.frame.centre, centre, atol=2.0)
        assert found.latent.frame.scale == pytest.approx(30 / 0.85, rel=0.03)


def test_a_turned_copy_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    some = quarter_turns()[[0, 3, 9, 14, 20]]
    turn = Rotation.from_matrix(some[2]) * Rotation.from_euler("xyz", [12, -15, 10], degrees=True)
    monkeypatch.setattr(inference, "quarter_turns", lambda: some)  # all 24 take their time
    points = ellipsoid_points(AXES["plank"], seed=3)
    matrix = turn.as_matrix()
    source = PointCloud(points.points @ matrix.T * 2, points.normals @ matrix.T)
    found = inferred(source, rotate=True, steps=200)
    sdf = field(found)
    assert np.abs(values(sdf, source.points)).mean() < 0.02 * 2
    assert values(sdf, np.zeros((1, 3)))[0] < 0, "its middle is inside"
    assert (values(sdf, source.points * 1.3) > 0).all()
    unturned = PointCloud(source.points, source.normals)
    still = inferred(unturned, align=True)
    assert np.abs(values(field(still), source.points)).mean() > 0.05, "turning was needed"
    aligned = found.rotation @ matrix  # the family's axes up to its symmetry: each onto itself or its opposite
    np.testing.assert_allclose(np.abs(aligned), np.eye(3), atol=0.15)


def test_the_same_seed_finds_the_same() -> None:
    source = ellipsoid_points(UNSEEN, 1000)
    first, again, other = (inferred(source, steps=5, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.latent.code, again.latent.code)
    assert first.loss == again.loss
    assert not np.array_equal(first.latent.code, other.latent.code)


def test_codes_of_a_part_stay_where_the_family_has_taught_something() -> None:
    space = finished(rough_run(*AXES, steps=60, code_size=8)).space
    rest = {}
    for partial in (True, False):
        found = inferred(ellipsoid_points((1, 0.2, 0.2)), steps=60, space=space, partial=partial)  # far outside
        directions = space.directions()
        assert len(directions.axes) < 8
        amounts = (found.latent.code - directions.mean) @ directions.axes.T / directions.deviations
        back = directions.mean + (amounts * directions.deviations) @ directions.axes
        rest[partial] = float(np.abs(found.latent.code - back).max())
        assert np.abs(amounts).max() < 8
    assert rest[True] < 1e-5
    assert rest[False] > 1e-3, "a whole shape may leave it"


@pytest.mark.parametrize("recipe", ["sal", "sald", "neural_pull", "singular_hessian", "digs", "regression"])
@pytest.mark.parametrize("normals", [True, False])
def test_a_part_is_asked_what_it_knows_whatever_the_space_was_learned_by(recipe: str, normals: bool) -> None:
    space = learned()
    held = dict(space.info)
    space.info["recipe"] = recipe
    try:
        half = ellipsoid_points(UNSEEN, 2000, seed=3).take(np.arange(800))
        found = inferred(half if normals else PointCloud(half.points), steps=4, partial=True)
        assert np.isfinite(found.loss)
    finally:
        space.info.clear()
        space.info.update(held)


def test_a_space_of_equal_codes_has_no_direction_and_still_infers() -> None:
    held = learned()
    space = Space(
        held.network, [replace(shape, code=held.shapes[0].code) for shape in held.shapes], None, dict(held.info)
    )
    found = inferred(ellipsoid_points(UNSEEN, 1000), steps=4, space=space, partial=True)
    assert np.isfinite(found.loss)


def test_starts_lie_far_apart() -> None:
    space = learned()
    chosen = [shape.name for shape in spread_out(space, 3)]
    assert len(set(chosen)) == 3
    gaps = lambda names: min(
        float(np.linalg.norm(space[a].code - space[b].code)) for a, b in itertools.combinations(names, 2)
    )
    assert gaps(chosen) > np.median([gaps(names) for names in itertools.combinations(AXES, 3)])
    assert len(spread_out(space, 99)) == 5


def test_progress_rises_to_its_end_and_it_can_be_broken_off() -> None:
    run = Infer(learned(), ellipsoid_points(UNSEEN, 1000), steps=30)
    with pytest.raises(InputError, match="not taken a step"):
        _ = run.found
    walk = iter(run)
    fractions = [next(walk).fraction for _ in range(60)]
    assert surface_error(field(run.found), UNSEEN) < 0.2
    fractions += [progress.fraction for progress in walk]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_a_time_budget_is_kept() -> None:
    begun = time.perf_counter()
    inferred(ellipsoid_points(UNSEEN, 1000), steps=10**6, seconds=1.5)
    assert 1.4 < time.perf_counter() - begun < 4


def test_the_encoder_s_code_is_one_more_start() -> None:
    space = learned_with_encoder()
    run = Infer(space, ellipsoid_points(UNSEEN), steps=0)
    starts, _ = run._starts()
    np.testing.assert_array_equal(starts[0].code, space.encode(ellipsoid_points(UNSEEN).points).code)
    found = inferred(ellipsoid_points(UNSEEN), space=space, steps=60)
    assert surface_error(found.field(space), UNSEEN) < 0.015
