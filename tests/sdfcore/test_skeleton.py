"""Skeletons: the circle of a torus, the axis of a capsule; covered, linked, and as files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sdfcore import cli, combining, storage
from sdfcore.errors import InputError
from sdfcore.extraction import extract_sdf
from sdfcore.fields import NeuralSDF
from sdfcore.geometry import Array
from sdfcore.queries import skeleton as module
from sdfcore.queries.iso_points import iso_points
from sdfcore.queries.medial import shrunk_balls
from sdfcore.queries.skeleton import Skeleton, covered_share, skeleton

CENTRE = np.array([3.0, 2.0, 1.0])


@pytest.fixture(autouse=True)
def few_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TRACES", 600)
    monkeypatch.setattr(module, "_CANDIDATES", 300)
    monkeypatch.setattr(module, "_COVERED", 500)


def on_edges(found: Skeleton) -> Array:
    share = np.linspace(0, 1, 21)[:, None, None]
    return (found.points[found.edges[:, 0]] * (1 - share) + found.points[found.edges[:, 1]] * share).reshape(-1, 3)


def test_the_skeleton_of_a_torus_is_its_circle() -> None:
    told: list[float] = []
    found = skeleton(combining.body("torus", [1.0, 0.4], tuple(CENTRE)), on_progress=told.append)
    around = on_edges(found) - CENTRE
    away = np.hypot(np.linalg.norm(around[:, :2], axis=1) - 1, around[:, 2])
    assert away.max() < 0.02
    np.testing.assert_allclose(found.radii, 0.4, atol=0.005)
    turn = np.sort(np.arctan2(around[:, 1], around[:, 0]))
    assert np.diff(turn).max() < 0.1, "all the way round"
    assert found.coverage > 0.98
    assert len(found.triangles) == 0
    assert len(found.edges) == len(found.points), "one loop"
    assert len(found.bones()) == len(found.points) - 1, "cut once"
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_the_skeleton_of_a_capsule_is_its_axis_and_the_same_again() -> None:
    found = skeleton(combining.body("capsule", [0.3, 1.0], tuple(CENTRE)))
    away = on_edges(found) - CENTRE
    assert np.hypot(away[:, 0], away[:, 1]).max() < 0.01
    assert away[:, 2].min() < -0.9
    assert away[:, 2].max() > 0.9
    again = skeleton(combining.body("capsule", [0.3, 1.0], tuple(CENTRE)))
    np.testing.assert_array_equal(found.points, again.points)
    np.testing.assert_array_equal(found.edges, again.edges)


def test_two_solids_have_two_skeletons_and_a_bone_never_leaves_its_own() -> None:
    pair = [combining.body("sphere", [0.4], place) for place in ((0.0, 0, 0), (1.5, 0, 0))]
    capsule = combining.body("capsule", [0.2, 0.6], (3.0, 0, 0))
    found = skeleton(combining.combine([*pair, capsule], "union"))
    side = np.round(found.points[:, 0] / 1.5).astype(int)
    assert set(side) == {0, 1, 2}
    assert (side[found.edges[:, 0]] == side[found.edges[:, 1]]).all()
    assert len(found.bones()) == len(found.points) - 3


def test_finer_balls_cover_as_well_and_are_more() -> None:
    torus = combining.body("torus", [1.0, 0.4])
    coarse, fine = (skeleton(torus, delta=delta) for delta in (0.15, 0.03))
    assert len(fine.points) > len(coarse.points)
    assert fine.delta == pytest.approx(0.2 * coarse.delta)
    assert min(fine.coverage, coarse.coverage) > 0.98


def test_what_lies_between_the_points_of_the_cover_is_covered_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COVERED", 60)
    table = [combining.body("box", [1.0, 1.0, 0.1]), combining.body("box", [0.1, 0.1, 1.0], (0.8, 0.8, -0.9))]
    sdf = combining.combine(table, "union")
    assert skeleton(sdf).coverage > 0.97
    monkeypatch.setattr(module, "_BETWEEN", 1)
    assert skeleton(sdf).coverage < 0.95


def test_balls_shrink_until_the_surface_lets_them_in() -> None:
    capsule = combining.body("capsule", [0.3, 1.0], tuple(CENTRE))
    mesh = extract_sdf(capsule, resolution=64)
    even = iso_points(capsule, 2000, rounds=4)
    found = shrunk_balls(even, np.arange(0, 2000, 20), mesh)
    away = found.points - CENTRE
    assert len(found.points) == 100
    assert np.hypot(away[:, 0], away[:, 1]).max() < 0.03
    np.testing.assert_allclose(found.radii, 0.3, atol=0.03)
    none = shrunk_balls(even, np.zeros(0, np.int64), mesh)
    assert none.points.shape == (0, 3)
    assert none.radii.shape == (0,)


def test_the_share_that_is_covered() -> None:
    surface = np.array([[1.0, 0, 0], [0, 2.0, 0], [0, 0, 1.2], [5.0, 0, 0]])
    assert covered_share(np.zeros((1, 3)), np.ones(1), surface, 0.25) == 0.5


@pytest.mark.parametrize("delta", [0.0, 1.0, float("nan")])
def test_a_delta_that_cannot_be(delta: float) -> None:
    with pytest.raises(InputError, match="delta"):
        skeleton(combining.body("torus", [1.0, 0.4]), delta=delta)


def test_the_parent_comes_first_from_the_largest_ball() -> None:
    points = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [1, 1, 0]])
    edges = np.array([[0, 1], [1, 2], [1, 3]])
    made = Skeleton(points, np.array([0.1, 0.2, 0.5, 0.1]), edges, np.zeros((0, 3), int), 0.1, 1.0)
    assert sorted(made.bones()) == [(1, 0), (1, 3), (2, 1)]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    sdf: NeuralSDF = combining.body("torus", [1.0, 0.4], tuple(CENTRE))
    storage.save(sdf, tmp_path / "torus.safetensors")
    return tmp_path / "torus.safetensors"


def test_on_the_command_line(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "s.json"
    words = ["query", "skeleton", str(model), "-o", str(out), "--picture", str(tmp_path / "s.png")]
    assert cli.main(words) == 0
    assert "of the surface lies within" in capsys.readouterr().out
    held = json.loads(out.read_text())
    assert len(held["radii"]) == len(held["points"])
    assert held["coverage"] > 0.98
    assert (tmp_path / "s.png").read_bytes()[:4] == b"\x89PNG"
    assert cli.main([*words[:4], str(tmp_path / "s.npz"), "-q"]) == 0
    with np.load(tmp_path / "s.npz") as arrays:
        np.testing.assert_array_equal(arrays["points"], held["points"])
        assert set(arrays.files) == {"points", "radii", "edges", "triangles", "bones"}
    assert cli.main([*words[:4], str(tmp_path / "s.obj"), "-q"]) == 0
    lines = (tmp_path / "s.obj").read_text().splitlines()
    assert sum(line.startswith("v ") for line in lines) == len(held["points"])
    ends = np.array([line.split()[1:] for line in lines if line.startswith("l ")], int)
    np.testing.assert_array_equal(ends - 1, held["edges"])


def test_a_file_of_another_kind_is_refused_before_the_work(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["query", "skeleton", str(model), "-o", str(tmp_path / "s.stl")]) == 2
    assert ".obj" in capsys.readouterr().err
