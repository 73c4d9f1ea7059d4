"""Fine-tuning a decoded shape: nearer to what was seen, and where it was elsewhere."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from small_fits import Array, ball_points, directions
from small_spaces import AXES, ellipsoid, ellipsoid_points, learned, single_thread, surface_error, values

from sdfcore.fields import NeuralSDF
from sdfcore.geometry import PointCloud
from sdfcore.spaces import FineTune

__all__ = ["single_thread"]

pytestmark = pytest.mark.usefixtures("single_thread")


def prior() -> NeuralSDF:
    return learned().decode(learned()["ball"])


def tuned(source: Any, **options: Any) -> NeuralSDF:
    run = FineTune(prior(), source, **{"steps": 200, **options})
    for _ in run:
        pass
    return run.sdf


def cap(radius: float, *, normals: bool = True) -> PointCloud:
    """The upper side of a sphere about the origin."""
    points = ball_points(4000, radius, normals=normals)
    return points.take(points.points[:, 2] > 0.3 * radius)


def errors(sdf: NeuralSDF, points: Array) -> float:
    return float(np.abs(values(sdf, points)).mean())


BELOW = directions(2000, 4)[directions(2000, 4)[:, 2] < -0.3]


def test_of_the_whole_shape_all_moves() -> None:
    target = (1.0, 0.9, 0.85)
    before = surface_error(prior(), target)
    assert surface_error(tuned(ellipsoid(*target)), target) < min(0.007, 0.2 * before)
    assert surface_error(tuned(ellipsoid_points(target)), target) < 0.01


@pytest.mark.parametrize("normals", [True, False])
def test_of_a_part_what_was_seen_moves_and_the_hidden_side_stays(normals: bool) -> None:
    scan = cap(1.06, normals=normals)
    before = prior()
    sdf = tuned(scan, partial=True)
    assert errors(before, scan.points) > 0.05
    assert errors(sdf, scan.points) < 0.5 * errors(before, scan.points)
    np.testing.assert_allclose(values(sdf, BELOW), values(before, BELOW), atol=0.03)
    assert np.abs(values(sdf, BELOW) - values(before, BELOW)).mean() < 0.008
    middle = np.zeros((1, 3))
    assert values(sdf, middle)[0] == pytest.approx(values(before, middle)[0], abs=0.1), "still full inside"


def test_the_box_grows_with_what_was_seen() -> None:
    sdf = tuned(cap(1.1), partial=True, steps=1)
    assert sdf.frame.box_to_world(sdf.box).upper[2] == pytest.approx(1.1, abs=0.01)
    assert sdf.frame.box_to_world(sdf.box).lower[2] == pytest.approx(-1.0, abs=0.01)


def test_the_prior_itself_is_left_as_it_was() -> None:
    sdf = prior()
    state = {name: value.clone() for name, value in sdf.network.state_dict().items()}
    run = FineTune(sdf, cap(1.06), partial=True, steps=5)
    assert run.sdf is sdf, "before the first step"
    list(run)
    assert all(torch.equal(value, state[name]) for name, value in sdf.network.state_dict().items())
    assert run.sdf.info["fine_tuned"] is True
    assert "fine_tuned" not in sdf.info
    assert not any(parameter.requires_grad for parameter in run.sdf.network.parameters())


def test_a_time_budget_is_kept_and_progress_rises() -> None:
    begun = time.perf_counter()
    run = FineTune(prior(), cap(1.06), partial=True, steps=10**6, seconds=2.0)
    fractions = [progress.fraction for progress in run]
    assert 1.9 < time.perf_counter() - begun < 3.0
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert set(AXES) == set(learned().names)
