"""Queries along a curve: the same answers in the same places."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from sdfcore import coherence
from sdfcore.coherence import coherently, curve_order, nearest, tree_of


@pytest.fixture
def points() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(5000, 3)) * [1.0, 5.0, 0.1]


def test_neighbours_follow_one_another(points: np.ndarray) -> None:
    order = curve_order(points)
    assert sorted(order) == list(range(len(points)))
    step = lambda rows: np.linalg.norm(np.diff(rows, axis=0), axis=1).mean()
    assert step(points[order]) < 0.1 * step(points)


def test_answers_stand_where_their_questions_stood(points: np.ndarray) -> None:
    seen: list[np.ndarray] = []

    def query(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(at)
        return at.sum(axis=1), (at > 0)

    total, positive = coherently(query, points)
    np.testing.assert_array_equal(total, points.sum(axis=1))
    np.testing.assert_array_equal(positive, points > 0)
    assert not np.array_equal(seen[0], points)
    np.testing.assert_array_equal(coherently(lambda at: 2 * at[:, 0], points), 2 * points[:, 0])


def test_neighbours_are_those_of_the_tree(points: np.ndarray) -> None:
    tree = cKDTree(points[:1000])
    for options in ({}, {"k": 4}, {"distance_upper_bound": 0.2}):
        gap, near = nearest(tree, points, **options)
        expected = tree.query(points, **options)
        np.testing.assert_array_equal(gap, expected[0])
        np.testing.assert_array_equal(near, expected[1])


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (3000, 3)])
def test_points_that_are_few_or_all_the_same(shape: tuple[int, int]) -> None:
    found = coherently(lambda at: at[:, 0] + 1, np.zeros(shape))
    np.testing.assert_array_equal(found, np.ones(shape[0]))


def test_a_tree_of_many_finds_what_that_of_few_does(monkeypatch: pytest.MonkeyPatch) -> None:
    points, queries = (np.random.default_rng(seed).normal(size=(5000, 3)) for seed in (0, 1))
    expected = nearest(tree_of(points), queries)
    monkeypatch.setattr(coherence, "_MANY", 100)
    found = nearest(tree_of(points), queries)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])
