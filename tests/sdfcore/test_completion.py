"""A whole shape from a part of it, and what is said of its parts, against spheres whose distances are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_fits import ball, ball_points
from small_spaces import AXES, ellipsoid, ellipsoid_points, learned, single_thread, surface_error, values

from sdfcore.errors import InputError
from sdfcore.geometry import Mesh, PointCloud
from sdfcore.spaces import Complete, errors_by_part
from sdfcore.spaces.completion import OBSERVED, SEEN, marked, reach_of
from sdfcore.topology import topology

__all__ = ["single_thread"]

pytestmark = pytest.mark.usefixtures("single_thread")

UNSEEN = (1.0, 0.85, 0.7)


def upper(count: int = 8000) -> PointCloud:
    points = ball_points(count)
    return points.take(points.points[:, 2] > 0)


def test_the_reach_is_three_spacings() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(40.0)] * 2, [0.0]), axis=-1).reshape(-1, 3)
    assert reach_of(grid * 0.1) == pytest.approx(0.15, rel=0.01)  # the 4th neighbour, halved, times three
    assert reach_of(grid[::7] * 0.1) > 0.2
    assert np.isfinite(reach_of(grid[:1]))


def test_vertices_know_how_far_the_scan_is_and_whether_it_has_them() -> None:
    scan, mesh = upper().points, ball()
    found = marked(mesh, scan)
    nearest = np.linalg.norm(mesh.vertices[:, None] - scan[None], axis=2).min(axis=1)
    np.testing.assert_allclose(found.attributes[OBSERVED], nearest, atol=1e-6)
    seen, height = found.attributes[SEEN], mesh.vertices[:, 2]
    assert set(np.unique(seen)) == {0.0, 1.0}
    reach = reach_of(scan)
    assert 0.01 < reach < 0.15
    assert (seen[height > 0] == 1).all()
    assert (seen[height < -reach] == 0).all()
    assert found.attributes[OBSERVED].dtype == found.attributes[SEEN].dtype == np.float32
    assert np.array_equal(found.faces, mesh.faces)


def test_errors_of_two_spheres_are_the_difference_of_their_radii() -> None:
    found = errors_by_part(ball(1.03, subdivisions=4), ball(1.0, subdivisions=4), upper().points, samples=8000)
    assert found.observed == pytest.approx(0.03, abs=0.003)
    assert found.hidden == pytest.approx(0.03, abs=0.003)
    assert found.observed_share == pytest.approx(0.5, abs=0.04)


def test_errors_belong_to_the_part_where_they_are() -> None:
    sphere = ball(subdivisions=4)
    low = sphere.vertices[:, 2:] < -0.15
    swollen = Mesh(np.where(low, sphere.vertices * 1.2, sphere.vertices), sphere.faces)
    found = errors_by_part(swollen, sphere, upper().points, samples=8000)
    assert found.observed < 0.003
    assert found.hidden == pytest.approx(0.17, abs=0.03)
    lifted = Mesh(np.where(low, sphere.vertices, sphere.vertices * 1.03), sphere.faces)
    found = errors_by_part(lifted, sphere, upper().points, samples=8000)
    assert found.hidden < 0.01 < 0.02 < found.observed


def test_a_scan_of_something_else_observes_nothing() -> None:
    found = errors_by_part(ball(), ball(), upper().points + 50, samples=2000)
    assert found.observed_share == 0
    assert np.isnan(found.observed)
    assert found.hidden < 0.002


@pytest.fixture(scope="module")
def half() -> tuple[Complete, Mesh, list[Any]]:
    """The front of an ellipsoid that the space has not learned, three times as large and elsewhere."""
    points = ellipsoid_points(UNSEEN, 5000, seed=3)
    seen = points.take(points.points[:, 0] > 0.1)
    scan = PointCloud(seen.points * 3 + np.array([10.0, 0, -4]), seen.normals)
    stages: list[Any] = []
    run = Complete(learned(), scan, steps=100, on_stage=stages.append)
    with pytest.raises(InputError, match="not taken a step"):
        _ = run.sdf
    stages += [progress.fraction for progress in run]
    return run, run.mesh(48), stages


def test_a_half_is_completed(half: tuple[Complete, Mesh, list[Any]]) -> None:
    run, mesh, _ = half
    assert topology(mesh).watertight
    assert topology(mesh).components == 1
    assert mesh.volume() == pytest.approx(27 * 4 / 3 * np.pi * np.prod(UNSEEN), rel=0.05)
    truth = ellipsoid(*UNSEEN)
    truth = Mesh(truth.vertices * 3 + np.array([10.0, 0, -4]), truth.faces)
    found = errors_by_part(mesh, truth, run.scan.points, samples=8000)
    assert found.observed < 0.01 * 3
    assert found.hidden < 0.035 * 3
    assert found.observed <= found.hidden
    assert 0.35 < found.observed_share < 0.55
    share = mesh.attributes[SEEN].mean()
    assert 0.3 < share < 0.6


def test_fine_tuning_brings_it_to_the_scan(half: tuple[Complete, Mesh, list[Any]]) -> None:
    run = half[0]
    assert run.inferred is not None
    before = run.inferred.field(learned())
    centre = (10.0, 0, -4)
    assert surface_error(run.sdf, UNSEEN, scale=3, centre=centre) < 0.02
    errors = [np.abs(values(sdf, run.scan.points)).mean() for sdf in (before, run.sdf)]
    assert errors[1] < errors[0]
    assert errors[1] < 0.004 * 3


def test_progress_goes_through_both_stages(half: tuple[Complete, Mesh, list[Any]]) -> None:
    stages = half[2]
    assert [stage for stage in stages if isinstance(stage, str)] == ["inferring", "fine-tuning"]
    fractions = [stage for stage in stages if not isinstance(stage, str)]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)


def test_without_tuning_the_shape_is_the_family_s() -> None:
    points = ellipsoid_points(AXES["flat"], 3000, seed=3)
    run = Complete(learned(), points.take(points.points[:, 0] > 0), steps=40, tune=False)
    stepped = list(run)
    assert stepped[-1].fraction == pytest.approx(1.0)
    assert run.inferred is not None
    assert run.sdf.info.get("fine_tuned") is None
    assert run.sdf.info["shape"] == ""
    assert surface_error(run.sdf, AXES["flat"]) < 0.04
