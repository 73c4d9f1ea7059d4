"""Learning a space: known shapes come out, at any size, the same each time, within the time allowed."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pytest
import torch
from small_fits import ball_points
from small_spaces import (
    AXES,
    QUICK,
    ROUGH,
    ellipsoid,
    family,
    finished,
    learned,
    rough_run,
    single_thread,
    surface_error,
)
from torch import Tensor

from sdfcore import storage
from sdfcore.errors import DivergedError, InputError
from sdfcore.extraction import extract_sdf
from sdfcore.fitting import HISTORY
from sdfcore.geometry import Mesh, PointCloud
from sdfcore.objectives import At, Objective
from sdfcore.recipes import RECIPES
from sdfcore.spaces import Learn, Space, interpolate, learning
from sdfcore.spaces.codes import LONGEST, Stored
from sdfcore.topology import topology

__all__ = ["single_thread"]

pytestmark = pytest.mark.usefixtures("single_thread")

# What is learned ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AXES)
def test_every_shape_of_the_family_is_learned(name: str) -> None:
    assert surface_error(learned().decode(learned()[name]), AXES[name]) < 0.01


def test_learned_shapes_are_closed_meshes_of_the_right_volume() -> None:
    for name in ("long", "flat"):
        mesh = extract_sdf(learned().decode(learned()[name]), resolution=32)
        assert topology(mesh).watertight
        assert mesh.volume() == pytest.approx(4 / 3 * np.pi * np.prod(AXES[name]), rel=0.04)


def test_what_lies_between_two_shapes_is_a_shape_between_them() -> None:
    space = learned()
    middle = space.decode(interpolate(space["long"], space["ball"], 0.5))
    mesh = extract_sdf(middle, resolution=32)
    assert topology(mesh).watertight
    assert topology(mesh).components == 1
    ends = [4 / 3 * np.pi * np.prod(AXES[name]) for name in ("long", "ball")]
    assert 1.3 * ends[0] < mesh.volume() < ends[1] / 1.3


def test_very_different_scales_come_out_equally_well_in_frames_of_their_own() -> None:
    sources = {
        "ant": ellipsoid(0.01, 0.005, 0.005),
        "whale": Mesh(ellipsoid(30, 15, 15).vertices + 1000.0, ellipsoid(1, 1, 1).faces),
        "cat": ellipsoid(0.5, 0.5, 0.25),
    }
    space = finished(Learn(sources, **{**QUICK, "seed": 1}, steps=500)).space
    assert surface_error(space.decode(space["ant"]), (0.01, 0.005, 0.005)) < 0.03
    assert surface_error(space.decode(space["whale"]), (30, 15, 15), centre=(1000.0, 1000.0, 1000.0)) < 0.03
    assert surface_error(space.decode(space["cat"]), (0.5, 0.5, 0.25)) < 0.03
    half = interpolate(space["ant"], space["whale"], 0.5)
    assert half.frame.scale == pytest.approx((0.01 + 30) / 2 / 0.85, rel=0.01)


def test_together_sizes_are_part_of_the_shapes() -> None:
    run = finished(
        Learn({"small": ellipsoid(0.5, 0.5, 0.5), "large": ellipsoid(1, 1, 1)}, **QUICK, steps=400, together=True)
    )
    space = run.space
    assert space["small"].frame is space["large"].frame
    assert surface_error(space.decode(space["small"]), (0.5, 0.5, 0.5)) < 0.06
    assert surface_error(space.decode(space["large"]), (1, 1, 1)) < 0.03
    assert space.info["together"] is True


def test_points_without_normals_are_learned_by_igr() -> None:
    sources = {
        name: PointCloud(ball_points(1500, normals=False).points * np.array(AXES[name])) for name in ("ball", "flat")
    }
    run = finished(Learn(sources, **QUICK, steps=500))
    space = run.space
    assert space.info["recipe"] == "igr"
    assert set(run.history) == {"step", "loss", "manifold", "eikonal", "prior"}
    for name in sources:
        assert surface_error(space.decode(space[name]), AXES[name]) < 0.03


def test_a_network_of_any_depth_can_be_learned() -> None:
    for depth in (1, 2, 4):
        size = learning.replace(ROUGH["size"], depth=depth, octaves=1)
        space = finished(rough_run(steps=3, size=size)).space
        assert space.decoder.config["depth"] == depth
        assert space.decoder.config["octaves"] == 1
        with torch.no_grad():
            assert space.decode(space["ball"])(torch.zeros(2, 3)).shape == (2,)


# Repeatability --------------------------------------------------------------------------------------------------------


def state(space: Space) -> dict[str, Tensor]:
    return {**space.network.state_dict(), "codes": torch.as_tensor(space.codes)}


def equal(a: Space, b: Space) -> bool:
    return all(torch.equal(value, state(b)[name]) for name, value in state(a).items())


def test_seed_and_steps_say_everything() -> None:
    names = ("ball", "long", "flat")
    first = finished(rough_run(*names, steps=30))
    torch.manual_seed(99)  # whatever the global generator does
    again = finished(rough_run(*names, steps=30))
    assert equal(first.space, again.space)
    assert first.history == again.history
    assert not equal(first.space, finished(rough_run(*names, steps=30, seed=1)).space)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    finished(rough_run(steps=2))
    assert torch.equal(torch.random.get_rng_state(), before)


# Budgets --------------------------------------------------------------------------------------------------------------


def test_epochs_are_passes_over_all_shapes() -> None:
    assert finished(rough_run(*AXES, epochs=3)).step == 8  # ⌈3 · 5 / 2⌉
    assert finished(rough_run(steps=7)).step == 7


def test_a_time_budget_is_kept_and_used() -> None:
    begun = time.perf_counter()
    run = rough_run(seconds=2.0)
    fractions = [progress.fraction for progress in run]
    taken = time.perf_counter() - begun
    assert 1.9 < taken < 3.0
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert run.step > 50
    assert run.space.info["steps"] == run.step


def test_the_first_budget_spent_ends_it() -> None:
    run = finished(rough_run(steps=5, seconds=60.0))
    assert run.step == 5
    run = finished(rough_run(steps=10**6, seconds=0.01))
    assert run.step == 1, "one step is taken even when the preparation took all the time"


# Breaking off ---------------------------------------------------------------------------------------------------------


def test_broken_off_it_is_the_best_so_far() -> None:
    run = rough_run(steps=400)
    with pytest.raises(InputError, match="single step"):
        _ = run.space
    walk = iter(run)
    for progress in walk:
        if progress.step == 150:
            break
    early = run.space
    assert surface_error(early.decode(early["ball"]), AXES["ball"]) < 0.1
    for _ in itertools.islice(walk, 100):
        pass
    assert not equal(run.space, early)
    assert early.info["steps"] == 150, "an independent copy"
    walk.close()
    with pytest.raises(RuntimeError, match="iterated once"):
        next(iter(run))


def test_progress_tells_the_stage_and_the_terms() -> None:
    stages: list[str] = []
    run = rough_run(steps=20, on_stage=stages.append)
    told = list(run)
    assert stages == ["preparing", "learning"]
    assert [progress.stage for progress in told] == ["preparing"] * 3 + ["learning"] * 20
    assert [progress.step for progress in told[3:]] == list(range(1, 21))
    assert set(told[-1].terms) == {"distance", "clamped", "prior"}
    assert told[-1].loss == pytest.approx(sum(told[-1].terms.values()))
    assert {len(values) for values in run.history.values()} == {20}
    assert run.history["step"] == list(range(1, 21))


def test_the_history_stays_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "USUAL_SECONDS_A_STEP", 1.0)  # so that far more steps are taken than foreseen
    from sdfcore import fitting

    monkeypatch.setattr(fitting, "HISTORY", 10)
    run = finished(rough_run(seconds=1.5))
    assert run.step > 40
    assert {len(values) for values in run.history.values()} <= set(range(5, 21))
    assert HISTORY == 500


def test_a_term_that_is_no_number_is_named_and_what_was_learned_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    count = itertools.count(1)

    def breaking(at: At) -> Tensor:
        return at.surface.value.abs().mean() * (float("nan") if next(count) > 60 else 1.0)

    recipe = RECIPES["regression"]
    terms = {**recipe.objective.terms, "manifold": (1.0, breaking)}
    monkeypatch.setitem(RECIPES, "regression", learning.replace(recipe, objective=Objective(terms)))
    run = rough_run(steps=200)
    with pytest.raises(DivergedError) as caught:
        list(run)
    assert (caught.value.step, caught.value.term) == (61, "manifold")
    space = run.space
    assert space.info["steps"] == 60
    assert all(bool(value.isfinite().all()) for value in state(space).values())


# Codes ----------------------------------------------------------------------------------------------------------------


def test_codes_that_grew_too_long_are_drawn_back() -> None:
    codes = Stored(torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]))
    codes.bound()
    torch.testing.assert_close(codes.values.detach(), torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))
    assert LONGEST == 1.0


def test_codes_are_bounded_while_learning(monkeypatch: pytest.MonkeyPatch) -> None:
    size = learning.replace(ROUGH["size"], code_rate=1.0)
    space = finished(rough_run(steps=30, size=size)).space
    lengths = np.linalg.norm(space.codes, axis=1)
    assert lengths.max() < 1.0 + 1e-6
    monkeypatch.setattr(Stored, "bound", lambda self: None)
    free = finished(rough_run(steps=30, size=size)).space
    assert np.linalg.norm(free.codes, axis=1).max() > 1.5


def test_the_space_says_how_it_came_about() -> None:
    info = learned().info
    assert info["recipe"] == "regression"
    assert "DeepSDF" in info["source"]
    assert (info["steps"], info["seed"], info["together"], info["encoder"]) == (800, 0, False, False)
    assert info["size"]["code_size"] == 4
    assert info["title"] == "5 shapes"
    assert 0 < info["seconds"] < 120
    assert 0 < info["code_length"] <= 1
    assert finished(rough_run(steps=1, code_size=7)).space.codes.shape == (2, 7)


def test_a_decoded_shape_is_stored_like_a_fitted_one() -> None:
    sdf = learned().decode(learned()["flat"])
    back = storage.from_bytes(storage.to_bytes(sdf))
    points = torch.rand(100, 3, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(back(points), sdf(points))
    assert back.info["shape"] == "flat"


@pytest.mark.parametrize(
    ("sources", "options", "said"),
    [
        (family("ball"), {}, "at least two"),
        (family("ball", "flat"), {"preset": "heroic"}, "no preset 'heroic'"),
        (family("ball", "flat"), {"steps": 0}, "steps is 0"),
        (family("ball", "flat"), {"seconds": -1.0}, "seconds is -1"),
        (family("ball", "flat"), {"epochs": -2}, "epochs is -2"),
        (family("ball", "flat"), {"code_size": 0}, "code size is 0"),
        (family("ball", "flat"), {"device": "abacus"}, "abacus"),
    ],
)
def test_what_cannot_be_learned_is_refused_at_once(sources: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        Learn(sources, **{**QUICK, **options})
    assert caught.value.hint


def test_a_recipe_that_needs_one_field_is_refused() -> None:
    with pytest.raises(InputError, match="a space has many"):
        finished(rough_run(recipe="isopoints", steps=2))


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(InputError, match="no recipe 'magic'"):
        finished(rough_run(recipe="magic"))
