"""Stages add up, and the promise of seconds is kept by stopping early and meshing coarsely."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sdfcore import extraction
from sdfcore.deadline import Deadline, Stopwatch
from sdfcore.geometry import PointCloud


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def deadline(seconds: float | None, resolution: int | None = None, preset: int = 256, clock: Any = None) -> Deadline:
    return Deadline(seconds, resolution, preset, 1.0, clock or Clock())


def fit(resolution: int) -> Any:
    return SimpleNamespace(sdf=None, plan=SimpleNamespace(resolution=resolution))


def test_stages_add_up_to_the_total() -> None:
    clock = Clock()
    watch = Stopwatch("starting", clock)
    for name, seconds in (("reading", 1.0), ("fitting", 5.0), ("reading", 0.5), ("writing", 0.25)):
        clock.now += 2.0
        watch.enter(name)
        clock.now += seconds
    found = watch.finish()
    assert found == {"starting": 2.0, "reading": 3.0 + 2.5, "fitting": 7.0, "writing": 0.25, "total": 14.75}
    assert watch.total == found["total"]


def test_a_stopwatch_of_its_own_counts_from_now() -> None:
    watch = Stopwatch("preparing")
    assert 0.0 <= watch.total < 1.0
    assert list(watch.finish()) == ["preparing", "total"]


def chosen(limit: Deadline, preset: int = 256) -> int:
    return limit.resolution or preset


def test_a_short_time_takes_a_coarser_surface() -> None:
    resolutions = [chosen(deadline(seconds)) for seconds in (0.1, 3, 10, 60, 600)]
    assert resolutions == sorted(resolutions)
    assert resolutions[0] == 32
    assert 32 < resolutions[1] < 256
    assert resolutions[-1] == 256


def test_where_time_allows_the_fit_chooses_its_resolution() -> None:
    assert deadline(600, preset=100).resolution is None


def test_never_finer_than_the_preset() -> None:
    assert chosen(deadline(0.01, preset=16), 16) == 16


def test_what_was_asked_for_is_not_changed() -> None:
    limit = deadline(1, resolution=300, preset=128)
    limit.measure(fit(resolution=1024))
    assert limit.resolution == 300


@pytest.fixture(autouse=True)
def quick_extraction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "estimate_seconds", lambda sdf, resolution: 3.0 * (resolution / 256) ** 2)


def test_a_fit_that_wants_more_than_time_allows_is_meshed_coarser() -> None:
    limit = deadline(30)
    assert limit.resolution is None
    limit.measure(fit(resolution=1024))
    assert limit.resolution is not None
    assert 256 <= limit.resolution < 1024


def test_time_lost_before_the_first_step_is_saved_at_the_mesh() -> None:
    clock = Clock()
    limit = deadline(20, clock=clock)
    clock.now = 18.0
    limit.measure(fit(resolution=256))
    assert chosen(limit) <= 128


def test_a_long_preparation_is_saved_at_the_mesh_and_not_at_the_training() -> None:
    clock = Clock()
    held = deadline(20, clock=clock)
    assert held.resolution is None
    assert held.training_begins() > 15
    clock.now = 16.0  # three seconds are left, and one is needed afterwards
    assert held.training_begins() > 1.8
    assert held.resolution is not None
    assert held.resolution < 256


def test_the_resolution_does_not_change_as_time_runs_out() -> None:
    clock = Clock()
    limit = deadline(20, resolution=None, preset=128, clock=clock)
    limit.measure(fit(resolution=128))
    limit._measured = True
    clock.now = 19.5
    limit.measure(fit(resolution=128))
    assert chosen(limit, 128) == 128


def test_without_a_promise_there_is_no_end() -> None:
    unlimited = deadline(None)
    assert unlimited.resolution is None
    assert unlimited.training_seconds() is None
    assert unlimited.left() == float("inf")


def test_time_left_counts_down_to_zero() -> None:
    clock = Clock()
    limit = deadline(20, clock=clock)
    first = limit.left()
    clock.now = 3.0
    assert limit.left() == pytest.approx(first - 3.0)
    clock.now = 100.0
    assert limit.left() == 0.0
    assert limit.training_seconds() == 0.1


def test_the_extraction_s_time_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def estimate(sdf: object, resolution: int) -> float:
        asked.append(resolution)
        return 9.0

    monkeypatch.setattr(extraction, "estimate_seconds", estimate)
    clock = Clock()
    limit = deadline(30, resolution=64, clock=clock)
    limit.measure(fit(256))
    assert asked == []
    clock.now = 15.0
    limit.measure(fit(256))
    limit.measure(fit(256))
    assert asked == [64]
    assert 0 <= limit.left() < 30 - 15 - 9 - 1  # the estimate, and a margin


def test_a_large_source_leaves_less_for_training() -> None:
    scan = lambda count: PointCloud(np.zeros((count, 3), np.float32))
    small, large, measured = (deadline(60.0) for _ in range(3))
    small.foresee(scan(1000), measured=False)
    large.foresee(scan(4_000_000), measured=False)
    measured.foresee(scan(4_000_000), measured=True)
    assert small.left() - large.left() == pytest.approx(2.4, rel=0.1)
    assert large.left() - measured.left() == pytest.approx(2.4, rel=0.1)
