"""The loop: where it ends, what it does when a loss is no number, and which weights it gives away."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from sdfcore.descent import Average, Budget, Step, descend, hastened, rate_at, surviving
from sdfcore.errors import DivergedError
from sdfcore.fitting import Progress

TARGET = torch.tensor([1.0, -2.0, 0.5])


def parameter(value: float = 0.0) -> nn.Parameter:
    return nn.Parameter(torch.full((3,), value))


def bowl(x: nn.Parameter) -> dict[str, Tensor]:
    return {"bowl": (x - TARGET).square().sum(), "flat": torch.zeros(())}


# Descent ------------------------------------------------------------------------------------------------------------


def test_a_bowl_is_descended_to_its_bottom() -> None:
    x = parameter()
    steps = list(descend(lambda t: bowl(x), [x], budget=Budget(400), rate=0.1))
    torch.testing.assert_close(x.detach(), TARGET, atol=1e-3, rtol=0)
    assert [s.number for s in steps] == list(range(1, 401))
    assert steps[0].loss == pytest.approx(float(TARGET.square().sum()))
    assert list(steps[0].terms) == ["bowl", "flat"]
    assert steps[-1].progress == 1
    assert steps[99].progress == pytest.approx(0.25)


def test_a_clipped_gradient_still_leads_down() -> None:
    x = parameter(1e4)
    norms = []
    for _ in descend(lambda t: bowl(x), [x], budget=Budget(5), rate=0.1, clip=0.01):
        assert x.grad is not None
        norms.append(float(x.grad.norm()))
    assert max(norms) <= 0.01 + 1e-6
    assert (x.detach() < 1e4).all()


def test_losses_are_told_the_progress() -> None:
    x, told = parameter(), []

    def losses(progress: float) -> dict[str, Tensor]:
        told.append(progress)
        return bowl(x)

    list(descend(losses, [x], budget=Budget(4), rate=0.1))
    assert told == [0, 0.25, 0.5, 0.75]


def test_not_asking_for_more_stops() -> None:
    x, calls = parameter(), []
    descent = descend(lambda t: calls.append(t) or bowl(x), [x], budget=Budget(100), rate=0.1)
    assert [s.number for s in itertools.islice(descent, 3)] == [1, 2, 3]
    assert len(calls) == 3


def test_the_rate_rises_quickly_and_falls_along_a_cosine() -> None:
    assert [rate_at(0, step) for step in (1, 10, 20, 1000)] == pytest.approx([0.05, 0.5, 1, 1])
    assert [rate_at(p, 1000) for p in (0.25, 0.5, 0.75, 1)] == pytest.approx([0.855, 0.505, 0.155, 0.01], abs=1e-3)


def test_adam_steps_by_the_rate_of_the_schedule() -> None:
    """Adam's first steps on a constant slope are as long as its rate, whatever the slope."""
    x, places = parameter(), [0.0]
    for _ in descend(lambda t: {"slope": 1e-3 * x.sum()}, [x], budget=Budget(100), rate=0.2):
        places.append(float(x.detach()[0]))
    lengths = [a - b for a, b in itertools.pairwise(places)]
    expected = [0.2 * rate_at(step / 100, step + 1) for step in range(100)]
    assert lengths == pytest.approx(expected, rel=1e-3)


# Budgets ------------------------------------------------------------------------------------------------------------


def test_progress_is_the_larger_share_of_steps_and_time() -> None:
    now = time.perf_counter()
    assert Budget(10).progress(3) == pytest.approx(0.3)
    assert Budget(10).progress(30) == 1
    assert Budget(10, 100.0, now - 20).progress(1) == pytest.approx(0.2, abs=0.01)
    assert Budget(10, 100.0, now - 20).progress(5) == pytest.approx(0.5)
    assert Budget(None, 100.0, now - 70).progress(10**6) == pytest.approx(0.7, abs=0.01)
    assert Budget(None, 1.0, now - 5).progress(0) == 1


def test_a_time_budget_is_kept_and_used() -> None:
    x, started = parameter(), time.perf_counter()
    steps = list(descend(lambda t: bowl(x), [x], budget=Budget(None, 0.3, started), rate=0.1))
    assert 0.3 <= time.perf_counter() - started < 2
    assert len(steps) > 3
    assert [s.progress for s in steps] == sorted(s.progress for s in steps)
    assert steps[-1].progress == 1


@pytest.mark.parametrize("budget", [Budget(None, 1e-9), Budget(5, 1e-9), Budget(1)])
def test_one_step_is_taken_even_when_nothing_is_left(budget: Budget) -> None:
    x = parameter()
    (step,) = descend(lambda t: bowl(x), [x], budget=budget, rate=0.1)
    assert (step.number, step.progress) == (1, 1)
    assert (x.detach() != 0).all()


# Divergence ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_named_with_its_step(value: float) -> None:
    x, seen = parameter(), []

    def losses(progress: float) -> dict[str, Tensor]:
        seen.append(x.detach().clone())
        return {**bowl(x), "odd": x.sum() * 0 + (value if len(seen) == 7 else 1.0)}

    with pytest.raises(DivergedError, match=r"step 7.*'odd'") as raised:
        list(descend(losses, [x], budget=Budget(20), rate=0.1))
    assert len(seen) == 7
    assert torch.equal(x.detach(), seen[-1])
    assert (raised.value.step, raised.value.term) == (7, "odd")
    assert raised.value.hint


# Averages -----------------------------------------------------------------------------------------------------------


class Point(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.zeros(1))


def step_of(number: int, loss: float) -> Step:
    return Step(number, 0.0, {"loss": torch.tensor(loss)})


def run(average: Average, point: Point, path: list[tuple[float, float]], first: int = 1) -> None:
    for number, (place, loss) in enumerate(path, start=first):
        with torch.no_grad():
            point.at.fill_(place)
        average.update(step_of(number, loss))


def place(average: Average) -> float:
    found = average.result()
    assert isinstance(found, Point)
    return float(found.at.detach())


def test_the_mean_follows_the_weights_and_smooths_their_noise() -> None:
    point = Point()
    average = Average(point, keep_every=10)
    run(average, point, [(3.0 + (-1) ** k, 1.0) for k in range(600)])
    assert place(average) == pytest.approx(3.0, abs=0.05)
    run(average, point, [(8.0, 1.0)] * 400, first=601)
    assert place(average) == pytest.approx(8.0, abs=0.01)


def test_the_first_step_already_gives_its_weights() -> None:
    point = Point()
    average = Average(point, keep_every=10)
    run(average, point, [(5.0, 1.0)])
    assert 3.9 < place(average) <= 5.0


def test_the_best_is_kept_when_the_loss_blows_up() -> None:
    point = Point()
    average = Average(point, keep_every=10)
    run(average, point, [(1.0, 0.1)] * 200)
    run(average, point, [(50.0, 9.0)] * 100, first=201)
    assert place(average) == pytest.approx(1.0, abs=1e-3)
    run(average, point, [(2.0, 0.05)] * 600, first=301)  # it recovers: the present is the best again
    assert place(average) == pytest.approx(2.0, abs=0.01)


def test_a_little_noise_in_the_loss_does_not_bring_old_weights_back() -> None:
    point = Point()
    average = Average(point, keep_every=10)
    run(average, point, [(k / 100, 1.0 + 0.3 * math.sin(k)) for k in range(400)])
    assert place(average) > 3


@pytest.mark.parametrize("steps", [3, 57])
def test_weights_that_are_no_numbers_are_never_given_away(steps: int) -> None:
    point = Point()
    average = Average(point, keep_every=10)
    run(average, point, [(1.0, 0.1)] * steps)
    # the loss of this step was still finite, its gradient was not
    run(average, point, [(math.nan, 0.1)] * 12, first=steps + 1)
    assert 0.7 < place(average) <= 1.0


def test_what_is_given_away_does_not_move_on() -> None:
    point = Point()
    average = Average(point, keep_every=10)
    run(average, point, [(1.0, 1.0)] * 50)
    given = average.result()
    before = float(next(given.parameters()).detach())
    run(average, point, [(9.0, 1.0)] * 50, first=51)
    assert float(next(given.parameters()).detach()) == before


def test_a_smaller_budget_takes_larger_steps() -> None:
    assert [hastened(expected, 400) for expected in (400, 1600, 100, 10, 1)] == [1, 1, 2, 4, 4]
    assert hastened(3, None) == 1
    moves = []
    for steps in (100, 25):
        x = torch.ones(1, requires_grad=True)
        for _ in descend(lambda t, x=x: {"slope": x.sum()}, [x], budget=Budget(steps), rate=1e-3, usual_steps=100):
            moves.append(float(x.detach()))
            break
    assert 1 - moves[1] == pytest.approx(2 * (1 - moves[0]), rel=1e-3)


def test_expected_steps_follow_the_clock() -> None:
    assert Budget(30).expected_steps(7) == 30
    assert Budget(None, 10.0, time.perf_counter() - 1.0).expected_steps(5) == pytest.approx(50, rel=0.05)


@pytest.mark.parametrize(("steps", "kept"), [(5, False), (40, True)])
def test_what_came_before_a_divergence_is_kept_if_it_is_worth_it(steps: int, kept: bool) -> None:
    def run() -> Iterator[Progress]:
        for step in range(1, steps + 1):
            yield Progress("fitting", step, 100, step / 100, 0.0, None)
        raise DivergedError("The fit diverged at step 41.", "Try another seed.", 41, "odd")

    warnings: list[str] = []
    seen: list[int] = []
    with contextlib.nullcontext() if kept else pytest.raises(DivergedError):
        seen += [progress.step for progress in surviving(run(), warnings)]
    assert warnings == (["The fit diverged at step 41. What came before is kept."] if kept else [])
    assert seen == (list(range(1, 41)) if kept else [])


def test_a_run_that_is_broken_off_hears_of_it_at_once() -> None:
    heard: list[str] = []

    def run() -> Iterator[Progress]:
        try:
            yield Progress("fitting", 1, 2, 0.5, 0.0, None)
        except GeneratorExit:
            heard.append("broken off")
            raise

    for _ in surviving(run(), []):
        break
    assert heard == ["broken off"]
