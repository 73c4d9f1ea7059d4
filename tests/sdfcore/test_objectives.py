"""Every term vanishes where it should, and takes the values that can be computed by hand where it should not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sdfcore.errors import NoNormalsError
from sdfcore.fields import Field, sphere
from sdfcore.objectives import (
    At,
    Objective,
    Term,
    alignment,
    clamped_distance,
    eikonal,
    eikonal_everywhere,
    eikonal_on_surface,
    far_distance,
    manifold,
    normals,
    normals_along,
    off_surface,
    relative_distance,
)
from sdfcore.sampling import Batch

EXACT = sphere(0.5)


def unit(count: int, seed: int) -> Tensor:
    drawn = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=1)


def ball_batch(depths: Tensor | None = None, count: int = 4000) -> Batch:
    """Points of the sphere of radius ½, and points of known distance to it."""
    n = unit(count, 0)
    known = torch.linspace(-0.4, 0.5, count, dtype=torch.float64) if depths is None else depths.double()
    space = (0.5 + known[:, None]) * unit(len(known), 1)
    return Batch(0.5 * n, space, n, unit(count, 2), known)


def value_of(term: Term, field: Field, batch: Batch | None = None) -> float:
    return float(term(At.of(field, batch or ball_batch())).detach())


@pytest.mark.parametrize(
    "term",
    [
        manifold, normals, normals_along, eikonal, eikonal_everywhere, eikonal_on_surface, alignment,
        clamped_distance(), relative_distance(), far_distance(),
    ],
)  # fmt: skip
def test_a_term_vanishes_on_the_exact_field_and_on_no_other(term: Term) -> None:
    assert value_of(term, EXACT) == pytest.approx(0, abs=1e-12)
    assert value_of(term, lambda x: 0.05 - 1.5 * EXACT(x)) > 0.02


@pytest.mark.parametrize(
    ("term", "field", "expected"),
    [
        (manifold, sphere(0.4), 0.1),
        (manifold, lambda x: 3 * EXACT(x) - 0.2, 0.2),
        (normals, lambda x: 3 * EXACT(x), 2),
        (normals, lambda x: -EXACT(x), 2),
        (normals_along, lambda x: 3 * EXACT(x), 1),  # |n·v| is even on [0, 1]: its mean is ½
        (normals_along, lambda x: -EXACT(x), 1),
        (eikonal, lambda x: 3 * EXACT(x), 4),
        (eikonal, lambda x: 0.5 * EXACT(x), 0.25),
        (eikonal_everywhere, lambda x: 3 * EXACT(x), 2),
        (alignment, lambda x: 7 * EXACT(x), 0),
        (alignment, lambda x: -EXACT(x), 2),
        (alignment, lambda x: x[:, 0], 1),  # the mean of the cosine over the sphere is 0
    ],
)
def test_known_values(term: Term, field: Field, expected: float) -> None:
    assert value_of(term, field) == pytest.approx(expected, rel=0.03, abs=0.03)


def test_one_derivative_along_random_directions_asks_what_all_three_ask() -> None:
    batch = ball_batch(count=200_000)
    at = At.of(lambda x: 1.7 * x[:, 0] + 0.3 * EXACT(x), batch)
    difference = at.surface.gradient - batch.known_normals
    squares = (at.surface.along(batch.known_directions) - (batch.known_normals * batch.known_directions).sum(1)) ** 2
    assert float(squares.mean().detach()) == pytest.approx(
        float(difference.square().sum(1).mean().detach()) / 3, rel=0.01
    )
    assert float(normals_along(at).detach()) == pytest.approx(float(normals(at).detach()) / 2, rel=0.01)


def test_off_surface_is_the_exponential_of_a_hundredth() -> None:
    batch = ball_batch(torch.tensor([0.01, -0.01, 0.02, 0.3], dtype=torch.float64))
    expected = (2 * math.exp(-1) + math.exp(-2) + math.exp(-30)) / 4
    assert value_of(off_surface, EXACT, batch) == pytest.approx(expected, rel=1e-9)


def test_eikonal_terms_read_the_points_they_say() -> None:
    """The volume for IGR; surface and volume, each point alike, for SIREN."""
    batch = ball_batch(torch.full((1000,), 0.3))  # farther out than 0.7
    steeper = lambda x: torch.where(x.norm(dim=1) > 0.7, 3 * EXACT(x), EXACT(x))
    assert value_of(eikonal, steeper, batch) == pytest.approx(4)
    assert value_of(eikonal_everywhere, steeper, batch) == pytest.approx(2 * 1000 / 5000)


@pytest.mark.parametrize(
    ("distance", "value", "expected", "slope"),
    [
        (0.05, 0.02, 0.03, -1),  # both inside the clamp
        (-0.05, 0.02, 0.07, 1),
        (0.3, 0.4, 0, 0),  # both beyond it, on the same side: nothing to learn
        (-0.3, -0.7, 0, 0),
        (0.3, 0.05, 0.05, -1),
        (0.3, -0.4, 0.5, -1),  # the wrong side: the published clamp would leave it there
        (-0.3, 0.4, 0.5, 1),
        (0.05, 0.4, 0.05, 0),  # too far on the right side: the clamp says no more
    ],
)
def test_clamped_distance_pulls_wrong_signs_back(distance: float, value: float, expected: float, slope: float) -> None:
    given = torch.tensor([value], dtype=torch.float64, requires_grad=True)
    batch = Batch(torch.zeros(1, 3), torch.zeros(1, 3), distances=torch.tensor([distance], dtype=torch.float64))
    loss = clamped_distance(0.1)(At.of(lambda x: given, batch))
    assert float(loss.detach()) == pytest.approx(expected)
    (gradient,) = torch.autograd.grad(loss, given)
    assert float(gradient) == pytest.approx(slope)


def test_far_distance_says_nothing_of_what_is_near() -> None:
    batch = ball_batch(torch.tensor([0.01, -0.1, 0.3, -0.4]))
    assert value_of(far_distance(0.2), lambda x: EXACT(x) + 0.01, batch) == pytest.approx(0.01 / 2)


def test_relative_distance_counts_less_far_away() -> None:
    batch = ball_batch(torch.tensor([0.0, 0.02, -0.02, 0.18]))
    expected = 0.01 * (1 + 0.5 + 0.5 + 0.1) / 4
    assert value_of(relative_distance(0.02), lambda x: EXACT(x) + 0.01, batch) == pytest.approx(expected)


# The sum ------------------------------------------------------------------------------------------------------------


def one(at: At) -> Tensor:
    return torch.tensor(1.0)


def dear(at: At) -> Tensor:
    raise AssertionError("a term of weight 0 was computed")


def test_weights_may_follow_the_progress() -> None:
    objective = Objective({"fixed": (3.0, one), "falling": (lambda t: 2 * (1 - t), one)})
    at = At.of(EXACT, ball_batch(count=10))
    for progress, falling in ((0.0, 2.0), (0.25, 1.5)):
        found = {name: float(value) for name, value in objective(at, progress).items()}
        assert found == {"fixed": 3.0, "falling": falling}
    assert list(objective(at, 1.0)) == ["fixed"]


def test_terms_without_weight_cost_nothing() -> None:
    objective = Objective({"a": (1.0, one), "b": (0.0, dear), "c": (lambda t: 0.0, dear)})
    assert list(objective(At.of(EXACT, ball_batch(count=10)), 0.5)) == ["a"]


def test_without_leaves_terms_out_and_changes_nothing_else() -> None:
    objective = Objective({"a": (1.0, one), "b": (1.0, dear)})
    assert objective.without("b", "unknown").terms == {"a": (1.0, one)}
    assert list(objective.terms) == ["a", "b"]


@pytest.mark.parametrize("term", [normals, normals_along, alignment])
def test_terms_that_need_normals_say_so(term: Term) -> None:
    batch = Batch(unit(5, 0), unit(5, 1), directions=unit(5, 2))
    with pytest.raises(NoNormalsError, match="normals"):
        term(At.of(EXACT, batch))
