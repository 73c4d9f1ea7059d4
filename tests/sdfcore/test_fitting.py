"""A fit from beginning to end: from every kind of input, in every place and size, and broken off at any time."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree
from small_fits import SMALL, Array, ball, ball_points, directions, finish, open_ball, small_recipes
from torch import Tensor

from sdfcore import descent, fitting, storage
from sdfcore.errors import DivergedError, InputError
from sdfcore.evidence import Evidence
from sdfcore.extraction import extract_sdf
from sdfcore.fields import NeuralSDF
from sdfcore.fitting import HISTORY, Fit
from sdfcore.geometry import Box, Mesh, PointCloud
from sdfcore.objectives import At, Objective
from sdfcore.parts import part_areas
from sdfcore.recipes import RECIPES
from sdfcore.recipes.distance import near

__all__ = ["small_recipes"]

pytestmark = pytest.mark.usefixtures("small_recipes")

CUBE = np.array(trimesh.creation.box((1.6, 1.0, 0.8)).vertices), np.array(trimesh.creation.box((1.6, 1.0, 0.8)).faces)


def fit(source: Mesh | PointCloud, **options: object) -> Fit:
    return Fit(source, **{"device": "cpu", "samples": 3000 if isinstance(source, Mesh) else None, **options})


def finished(source: Mesh | PointCloud, **options: object) -> Fit:
    made = fit(source, **options)
    finish(made)
    return made


def values(sdf: NeuralSDF, points: Array) -> Array:
    return sdf(torch.from_numpy(np.asarray(points, dtype=np.float64))).detach().numpy()


def of_radius(radius: float, count: int = 400, seed: int = 9) -> Array:
    return directions(count, seed) * radius


# Every kind of input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "recipe", "bound"),
    [
        (ball(), "distance", 0.012),
        (ball().flipped(), "distance", 0.012),
        (ball_points(), "distance", 0.012),
        (ball_points(normals=False), "distance", 0.015),
    ],
    ids=["mesh", "inverted mesh", "oriented points", "unoriented points"],
)
def test_every_kind_of_input_becomes_its_shape(source: Mesh | PointCloud, recipe: str, bound: float) -> None:
    made = finished(source)
    assert made.plan.recipe == recipe
    assert made.step == SMALL[recipe].steps
    lengths = np.linalg.norm(extract_sdf(made.sdf, resolution=32).vertices, axis=1)
    assert np.abs(lengths - 1).mean() < bound
    assert values(made.sdf, of_radius(0.8)).mean() == pytest.approx(-0.2, abs=0.05)
    assert values(made.sdf, of_radius(1.15)).mean() == pytest.approx(0.15, abs=0.05)
    np.testing.assert_allclose(made.sdf.frame.box_to_world(made.sdf.box).size, 2, atol=0.02)


def test_an_open_mesh_is_closed_with_the_right_sign() -> None:
    made = finished(open_ball(0.85))
    assert made.plan.input_kind == "dirty mesh"
    for radius, sign in ((0.5, -1), (0.9, -1), (1.1, 1)):
        points = of_radius(radius)
        points = points[points[:, 2] < 0.7]
        assert (np.sign(values(made.sdf, points)) == sign).mean() > 0.99
    under, over = values(made.sdf, np.array([[0, 0, 0.6], [0, 0, 1.15]]))
    assert -0.6 < under < -0.15
    assert 0.05 < over < 0.4


def test_a_mesh_with_sharp_edges_keeps_its_size() -> None:
    mesh = extract_sdf(finished(Mesh(*CUBE)).sdf, resolution=32)
    assert mesh.volume() == pytest.approx(1.28, rel=0.05)
    assert Box.around(mesh.vertices).size == pytest.approx([1.6, 1.0, 0.8], abs=0.12)


@pytest.mark.parametrize("kind", ["mesh", "points"])
@pytest.mark.parametrize(
    ("place", "size"),
    [((1e6, -2e6, 5e5), 1.0), ((0, 0, 0), 1e-5), ((0, 0, 0), 1e7), ((3e-3, 0, 0), 1e-4), ((4e8, 0, 1e8), 3e3)],
)
def test_shapes_come_back_where_and_as_large_as_they_were(
    kind: str, place: tuple[float, float, float], size: float
) -> None:
    source: Mesh | PointCloud
    if kind == "mesh":
        source = Mesh(ball().vertices * size + np.array(place), ball().faces)
    else:
        cloud = ball_points()
        source = PointCloud(cloud.points * size + np.array(place), cloud.normals)
    made = finished(source, steps=60)
    mesh = extract_sdf(made.sdf, resolution=24)
    local = (mesh.vertices - np.array(place)) / size
    assert np.abs(local.mean(axis=0)).max() < 0.02
    assert np.abs(np.linalg.norm(local, axis=1) - 1).mean() < 0.03
    inside = values(made.sdf, of_radius(0.8) * size + np.array(place)) / size
    assert inside.mean() == pytest.approx(-0.2, abs=0.06)


def test_place_and_size_do_not_change_the_fit() -> None:
    """Powers of two change no digit, so the weights are the same to the last bit."""
    normals = directions(2000)
    here = finished(PointCloud(normals, normals), steps=5)
    there = finished(PointCloud(normals * 2.0**-20, normals), steps=5)
    for a, b in zip(here.sdf.network.parameters(), there.sdf.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert there.sdf.frame.scale == here.sdf.frame.scale * 2.0**-20


def test_a_mesh_has_only_parts_with_data_behind_them() -> None:
    """SIREN leaves stray sheets, the largest of them larger than the shape; a small second shape is none."""
    large, little = ball_points(2500), ball_points(200)
    points = np.concatenate([large.points, little.points * 0.2 + np.array([1.6, 0, 0])])
    source = PointCloud(points, np.concatenate([large.normals, little.normals]))
    for recipe in ("siren", "distance"):
        made = finished(source, recipe=recipe)
        sdf = made.sdf
        raw = extract_sdf(sdf, resolution=48)
        assert (len(part_areas(raw)) > 5) == (recipe == "siren")
        mesh = made.mesh(sdf, resolution=48)
        areas = np.sort(part_areas(mesh)) / (4 * np.pi)
        assert areas == pytest.approx([0.04, 1.0], rel=0.25)
        gap, _ = cKDTree(points).query(mesh.vertices)
        assert gap.max() < 0.25
        assert 0 < sdf.info["smallest_part"] <= 0.01


# Stages, budgets, breaking off --------------------------------------------------------------------------------------


def test_progress_counts_up_and_names_its_stage() -> None:
    stages: list[str] = []
    made = fit(ball_points(), steps=30, on_stage=stages.append)
    seen = finish(made)
    assert stages == ["preparing", "fitting"]
    preparing = [p for p in seen if p.stage == "preparing"]
    fitting_ = [p for p in seen if p.stage == "fitting"]
    assert seen == preparing + fitting_
    assert preparing
    assert all((p.step, p.fraction, p.loss, p.terms) == (0, 0, 0, {}) for p in preparing)
    assert [p.step for p in fitting_] == list(range(1, 31))
    assert [p.fraction for p in fitting_] == pytest.approx([k / 30 for k in range(1, 31)])
    assert [p.seconds for p in seen] == sorted(p.seconds for p in seen)
    assert set(fitting_[0].terms) == set(RECIPES["distance"].objective.terms)
    assert all(p.loss == pytest.approx(sum(p.terms.values())) for p in fitting_)
    assert {p.steps for p in seen} == {30}
    with pytest.raises(RuntimeError, match="once"):
        next(iter(made))


def prepare_slowly(monkeypatch: pytest.MonkeyPatch, name: str, seconds: float) -> None:
    recipe = RECIPES[name]

    def sampler(*arguments: object) -> object:
        time.sleep(seconds)
        return recipe.sampler(*arguments)

    monkeypatch.setitem(RECIPES, name, replace(recipe, sampler=sampler))


def test_preparation_counts_for_the_time_but_not_for_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_slowly(monkeypatch, "igr", 0.8)
    started = time.perf_counter()
    seen = [p for p in finish(fit(ball_points(200), recipe="igr", seconds=1.4)) if p.stage == "fitting"]
    assert time.perf_counter() - started < 1.9  # 2.2 if the preparation did not count
    assert seen[0].fraction < 0.4  # it would begin at 0.57
    assert len(seen) > 3
    assert seen[-1].fraction == 1


def test_the_time_left_is_foreseen_without_the_preparation(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_slowly(monkeypatch, "distance", 1.0)
    seen = [p for p in finish(fit(ball_points(), steps=40)) if p.stage == "fitting"]
    took = seen[-1].seconds - seen[0].seconds
    assert seen[3].seconds_left is not None
    assert seen[3].seconds_left < took * 5 + 0.5  # with the preparation it would be 9 s and more
    assert seen[-1].seconds_left == 0


def test_before_the_first_step_there_is_no_shape() -> None:
    made = fit(ball_points())
    with pytest.raises(InputError, match="step"):
        _ = made.sdf
    next(iter(made))
    with pytest.raises(InputError, match="step"):
        _ = made.sdf


@pytest.mark.parametrize("steps", [1, 40])
def test_breaking_off_leaves_a_usable_shape(steps: int) -> None:
    made = fit(ball_points())
    for progress in made:
        if progress.step == steps:
            break
    assert made.step == made.sdf.info["steps"] == steps
    assert np.isfinite(values(made.sdf, of_radius(1.0))).all()
    if steps == 40:
        lengths = np.linalg.norm(extract_sdf(made.sdf, resolution=24).vertices, axis=1)
        assert np.abs(lengths - 1).mean() < 0.05


def test_a_shape_taken_on_the_way_does_not_move_on() -> None:
    made = fit(ball_points(), steps=30)
    run = iter(made)
    for progress in run:
        if progress.step == 10:
            break
    early = made.sdf
    before = values(early, of_radius(0.9))
    list(run)
    np.testing.assert_array_equal(values(early, of_radius(0.9)), before)
    assert not np.array_equal(values(made.sdf, of_radius(0.9)), before)
    assert early.info["steps"] == 10
    assert not any(p.requires_grad for p in early.network.parameters())


@pytest.mark.parametrize("source", [ball(), ball_points(), ball_points(normals=False)])
def test_one_step_is_taken_even_when_preparing_took_all_the_time(source: Mesh | PointCloud) -> None:
    made = finished(source, seconds=1e-6)
    assert made.step == 1
    assert made.sdf.info["steps"] == 1
    assert np.isfinite(values(made.sdf, of_radius(1.0))).all()
    assert made.history["step"] == [1]


def test_a_time_budget_is_kept_and_used() -> None:
    finished(ball_points(500), recipe="igr", steps=1)  # imports are no part of it
    started = time.perf_counter()
    made = finished(ball_points(500), recipe="igr", seconds=1.5)
    assert 1.4 < time.perf_counter() - started < 2.5
    assert made.step > 10
    assert finished(ball_points(500), recipe="igr", seconds=30, steps=5).step == 5  # the first budget spent ends it


# History ------------------------------------------------------------------------------------------------------------


def spread(history: dict[str, list[float]]) -> int:
    lengths = {len(column) for column in history.values()}
    assert len(lengths) == 1
    return lengths.pop()


def test_the_history_of_a_short_fit_is_whole() -> None:
    made = finished(ball_points(), steps=25)
    assert made.history["step"] == list(range(1, 26))
    assert set(made.history) == {"step", "loss", *RECIPES["distance"].objective.terms}
    terms = np.sum([made.history[name] for name in RECIPES["distance"].objective.terms], axis=0)
    np.testing.assert_allclose(made.history["loss"], terms, rtol=1e-6)
    assert spread(made.history) == 25


def quick(monkeypatch: pytest.MonkeyPatch, objective: Objective | None = None) -> None:
    """IGR with hardly any work in a step."""
    tiny = replace(SMALL["igr"], width=8, depth=1, batch=8)
    recipe = replace(RECIPES["igr"], sizes=dict.fromkeys(RECIPES["igr"].sizes, tiny))
    monkeypatch.setitem(RECIPES, "igr", replace(recipe, objective=objective or recipe.objective.without("eikonal")))


def test_the_history_of_a_long_fit_is_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    made = finished(ball_points(100), recipe="igr", steps=1203)
    assert HISTORY / 2 < spread(made.history) <= HISTORY + 2
    assert made.history["step"][0] == 1
    assert made.history["step"][-1] == 1203
    assert made.history["step"] == sorted(set(made.history["step"]))


def test_a_fit_that_runs_longer_than_foreseen_keeps_its_history_short(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    monkeypatch.setattr(fitting, "HISTORY", 20)
    made = finished(ball_points(100), recipe="igr", seconds=0.8)  # 150 steps are foreseen
    assert made.step > 160
    assert 20 <= spread(made.history) <= 40
    assert made.history["step"][-1] > 0.8 * made.step
    assert made.history["step"] == sorted(set(made.history["step"]))


def test_terms_that_come_and_go_leave_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    terms = dict(RECIPES["igr"].objective.terms)
    late = {"eikonal": (lambda t: float(t >= 0.5), terms["eikonal"][1])}
    early = {"normals": (lambda t: float(t < 0.5), terms["normals"][1])}
    quick(monkeypatch, Objective({**terms, **late, **early}))
    made = finished(ball_points(100), recipe="igr", steps=10)
    assert spread(made.history) == 10
    assert [math.isnan(value) for value in made.history["eikonal"]] == [True] * 5 + [False] * 5
    assert [math.isnan(value) for value in made.history["normals"]] == [False] * 5 + [True] * 5


# Going on -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [False, True])
def test_going_on_lowers_the_loss_and_keeps_what_was_learned(stored: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = replace(SMALL["distance"], rate=1e-3)  # a ball begins so near the truth that faster steps only shake it
    monkeypatch.setitem(
        RECIPES, "distance", replace(RECIPES["distance"], sizes=dict.fromkeys(RECIPES["distance"].sizes, slow))
    )
    first = finished(ball_points(), steps=60)
    start = storage.from_bytes(storage.to_bytes(first.sdf)) if stored else first.sdf
    before = {name: value.clone() for name, value in start.network.state_dict().items()}
    second = fit(ball_points(), steps=60, start=start)
    assert second.plan.recipe == "distance"
    assert second.sdf is start  # until there is something better
    losses = [p.loss for p in finish(second) if p.stage == "fitting"]
    assert losses[0] < first.history["loss"][0]
    assert np.mean(losses[-10:]) < np.mean(first.history["loss"][-10:])
    assert second.sdf.info["steps"] == 120
    assert second.frame is start.frame
    for name, value in start.network.state_dict().items():
        assert torch.equal(value, before[name])  # the start is not touched


def plate(thickness: float) -> Mesh:
    shape = trimesh.creation.box((1, 1, thickness))
    return Mesh(np.array(shape.vertices), np.array(shape.faces))


def near_of(points: Array, normals: Array) -> bool:
    evidence = Evidence(0.8 * points, normals, lambda x: np.linalg.norm(x, axis=1) - 0.8)
    return near(evidence, SMALL["distance"])


@pytest.mark.parametrize(
    ("source", "near"),
    [
        (ball(), True),
        (ball_points(), True),
        (ball_points(normals=False), True),
        (open_ball(), False),
        (plate(0.01), False),
    ],
    ids=["mesh", "oriented points", "unoriented points", "open mesh", "thin plate"],
)
def test_only_what_is_closed_clean_and_thick_begins_near_its_end(source: Mesh | PointCloud, near: bool) -> None:
    made = fit(source, steps=1)
    assert not made.plan.size.near  # it takes evidence to say
    finish(made)
    assert made.plan.size.near == made.sdf.info["near"] == near
    if near:  # and is there before the first step
        begun = RECIPES["distance"].network(made.evidence, made.plan.size)
        with torch.no_grad():
            assert begun(torch.from_numpy(made.evidence.points)).abs().mean() < 0.02


def test_noise_that_matters_is_not_begun_at() -> None:
    cloud = ball_points(20_000)
    assert near_of(cloud.points, cloud.normals)
    noisy = cloud.points + 0.01 * np.random.default_rng(0).normal(size=cloud.points.shape)
    assert not near_of(noisy, cloud.normals)


def test_going_on_is_from_near_only_if_the_start_was() -> None:
    far, near = finished(open_ball(), steps=2), finished(ball(), steps=2)
    assert not finished(ball(), start=far.sdf, steps=2).plan.size.near
    assert finished(ball(), start=near.sdf, steps=2).plan.size.near
    assert not finished(open_ball(), start=near.sdf, steps=2).plan.size.near


def test_settings_and_budgets_hold_from_near_too() -> None:
    made = finished(ball(), steps=3, settings={"width": 24, "nodes": 4000})
    assert (made.step, made.plan.steps, made.plan.size.width, made.plan.size.nodes) == (3, 3, 24, 4000)
    assert finished(ball(), seconds=30, steps=4).step == 4
    with pytest.raises(InputError, match="near"):
        fit(ball(), settings={"near": 1})


def test_going_on_keeps_the_recipe_unless_another_is_named() -> None:
    first = finished(ball_points(), recipe="igr", steps=3)
    assert fit(ball_points(), start=first.sdf).plan.recipe == "igr"
    other = finished(ball_points(), start=first.sdf, recipe="distance", steps=2)
    assert other.sdf.info["recipe"] == "distance"
    assert other.sdf.network.kind == "mlp"  # the network is the start's


@pytest.mark.parametrize(("recipe", "settings"), [("regression", {"width": 16}), ("digs", {"depth": 1})])
def test_sizes_that_do_not_go_together_are_refused(recipe: str, settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match="no such network"):
        finished(ball_points(), recipe=recipe, settings=settings)


# What goes wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_a_fit_that_diverges_says_so_and_keeps_its_best(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    calls = itertools.count(1)

    def breaking(at: At) -> Tensor:
        value = at.surface.value
        if next(calls) < 31:
            return 0 * value.sum()
        if how == "loss":
            return value.sum() * math.inf
        return value.mean().mul(0).sqrt()  # the root of zero: a finite value with a slope that is none

    igr = RECIPES["igr"]
    objective = Objective({**igr.objective.terms, "breaking": (1.0, breaking)})
    monkeypatch.setitem(RECIPES, "igr", replace(igr, objective=objective, clip=None))
    made = fit(ball_points(), recipe="igr", steps=100)
    with pytest.raises(DivergedError) as raised:
        finish(made)
    if how == "loss":
        assert (raised.value.step, raised.value.term) == (31, "breaking")
    else:
        assert raised.value.step == 32
    assert np.isfinite(values(made.sdf, of_radius(1.0))).all()
    assert made.sdf.info["steps"] == made.step == raised.value.step - 1


def test_two_steps_in_and_already_a_shape_when_the_third_diverges(monkeypatch: pytest.MonkeyPatch) -> None:
    original = descent._check

    def failing(terms: dict[str, Tensor], step: int) -> None:
        original({"late": torch.tensor(math.nan)} if step == 3 else terms, step)

    monkeypatch.setattr(descent, "_check", failing)
    made = fit(ball_points())
    with pytest.raises(DivergedError, match="late"):
        finish(made)
    assert made.sdf.info["steps"] == 2


@pytest.mark.parametrize(
    ("source", "options", "says"),
    [
        (ball_points(19), {}, "19 points"),
        (PointCloud(np.repeat(np.eye(3), 30, axis=0)), {}, "3 different points"),
        (ball(), {"samples": 19}, "19 samples"),
        (PointCloud(np.ones((50, 3))), {}, "1 different points"),
    ],
)
def test_too_little_is_refused(source: Mesh | PointCloud, options: dict[str, int], says: str) -> None:
    with pytest.raises(InputError, match=says):
        finish(Fit(source, steps=1, device="cpu", **options))


def test_points_given_many_times_count_once() -> None:
    cloud = ball_points()
    once = finished(cloud, steps=4)
    many = finished(PointCloud(np.repeat(cloud.points, 15, 0), np.repeat(cloud.normals, 15, 0)), steps=4)
    assert len(many.cloud) == len(once.cloud) == len(cloud)
    np.testing.assert_array_equal(many.cloud.points, cloud.points)
    np.testing.assert_allclose(many.history["loss"], once.history["loss"], rtol=1e-3)


@pytest.mark.parametrize("recipe", ["distance", "igr"])
def test_one_far_outlier_ruins_nothing_but_detail(recipe: str) -> None:
    """The other points are one and the same in float32 then; the fit still ends, with finite numbers."""
    cloud = ball_points(300)
    points = np.concatenate([cloud.points, [[1e9, 0, 0]]])
    normals = np.concatenate([cloud.normals, [[1.0, 0, 0]]])
    made = finished(PointCloud(points, normals), recipe=recipe, steps=3)
    assert all(math.isfinite(loss) for loss in made.history["loss"])


def test_samples_bound_the_points_of_a_scan() -> None:
    cloud = ball_points(2000)
    made = fit(cloud, samples=500)
    assert len(made.cloud) == 500
    rows = {tuple(row) for row in cloud.points}
    assert all(tuple(row) in rows for row in made.cloud.points)
    np.testing.assert_allclose(made.cloud.points, made.cloud.normals, atol=1e-6)
    assert not np.array_equal(fit(cloud, samples=500, seed=1).cloud.points, made.cloud.points)
    assert fit(cloud, samples=5000).cloud is cloud


def test_resolution_grows_for_thin_shapes_unless_it_is_given() -> None:
    rod = Mesh(CUBE[0] * np.array([1, 0.05, 0.1]), CUBE[1])
    made = finished(rod, steps=1)
    assert made.plan.resolution > finished(ball(), steps=1).plan.resolution
    assert made.sdf.info["resolution"] == made.plan.resolution
    assert finished(rod, steps=1, resolution=40).plan.resolution == 40


def test_info_says_how_the_shape_came_about() -> None:
    made = finished(ball_points(), steps=2, preset="draft", seed=5)
    info = made.sdf.info
    assert (info["recipe"], info["preset"], info["steps"], info["seed"]) == ("distance", "draft", 2, 5)
    assert info["input_kind"] == "oriented points"
    assert info["reason"] == made.plan.reason


@pytest.mark.parametrize(("recipe", "kinds"), [("lipschitz", []), ("distance", ["grid"])])
def test_nothing_is_mended_in_a_network_that_is_certified(
    recipe: str, kinds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def mend(network: Any, mesh: Mesh, *rest: object) -> tuple[Any, Mesh]:
        asked.append(network.kind)
        return network, mesh

    monkeypatch.setattr(fitting, "mend", mend)
    made = finished(ball_points(), recipe=recipe, preset="draft", steps=150, resolution=24)
    made.mesh(made.sdf)
    assert asked == kinds


def test_of_a_large_scan_only_as_many_points_are_kept_as_there_is_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = ball_points(3000, normals=True)
    monkeypatch.setattr("sdfcore.preparing.MOST", 2500)
    assert len(fit(scan).cloud) == 2500
    assert len(fit(scan, samples=2800).cloud) == 2800  # asked for is asked for
    monkeypatch.setattr(fitting, "SAMPLES", 500)
    monkeypatch.setattr(fitting, "POINTS_A_SECOND", 100)
    assert len(fit(scan, seconds=10.0).cloud) == 1000
    assert len(fit(scan, seconds=1.0).cloud) == 500
    monkeypatch.setattr(fitting, "MOST", 2000)
    assert len(fit(scan, seconds=1000.0).cloud) == 2000
