"""Rays meet what they ought to meet, and nothing is passed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sdfcore import combining
from sdfcore.errors import InputError
from sdfcore.fields import sphere
from sdfcore.networks import MLP
from sdfcore.queries.bounds import bound_of
from sdfcore.queries.rays import cast, trace


def rays(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """From a sphere round the unit box, at points within it."""
    draw = torch.Generator().manual_seed(seed)
    origins = torch.nn.functional.normalize(torch.randn(count, 3, generator=draw), dim=1) * 2
    targets = (torch.rand(count, 3, generator=draw) * 2 - 1) * 0.8
    return origins, torch.nn.functional.normalize(targets - origins, dim=1)


class Steep(nn.Module):
    """A thin shell and waves: far from a distance, and up to thirty times as steep."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.network = MLP(32, 3, 0, beta=20.0, octaves=3)
        with torch.no_grad():
            self.network.layers[0].weight[:, 3:] = 0.05 * torch.randn(32, 18)
            for layer in (self.network.last,):
                layer.weight *= 8
                layer.bias *= 8


def first_crossings(field: nn.Module, origins: Tensor, directions: Tensor, steps: int = 4000) -> tuple[Tensor, Tensor]:
    """Distance of the first sign change among many points of each ray, infinite without one; and the least |f|."""
    along = torch.linspace(0, 4, steps)
    with torch.no_grad():
        points = origins[:, None] + along[None, :, None] * directions[:, None]
        values = torch.stack([field(ray) for ray in points])
    changed = (values[:, 1:] < 0) != (values[:, :-1] < 0)
    first = changed.int().argmax(dim=1)
    return torch.where(changed.any(dim=1), along[first], float("inf")), values.abs().amin(dim=1)


def test_cast_meets_the_first_crossing_of_a_steep_field_and_naive_tracing_does_not() -> None:
    field = Steep().network.eval()
    origins, directions = rays(300)
    truth, least = first_crossings(field, origins, directions)
    told = []
    hits = cast(bound_of(field), field, origins, directions, far=4.0, on_progress=told.append)
    grazing = torch.isinf(truth) & (least < 0.02)  # what the many points may have stepped over
    agree = (hits.hit == torch.isfinite(truth)) | grazing
    assert agree.all()
    assert (hits.hit & torch.isfinite(truth)).sum() > 50
    near = (hits.distance - truth).abs()[hits.hit & torch.isfinite(truth)]
    assert float(near.quantile(0.99)) < 2e-3
    assert told == sorted(told)
    assert told[-1] == 1.0
    naive = trace(field, origins, directions, far=4.0)
    wrong = (naive.hit != torch.isfinite(truth)) | ((naive.distance - truth).abs() > 0.01) & naive.hit
    assert float(wrong.float().mean()) > 0.05


def test_values_at_hits_are_the_level() -> None:
    torch.manual_seed(0)
    field = MLP(32, 3, 0).eval()
    origins, directions = rays(200, 1)
    for level in (0.0, 0.1):
        hits = cast(bound_of(field), field, origins, directions, far=4.0, level=level)
        with torch.no_grad():
            values = field(origins[hits.hit] + hits.distance[hits.hit, None] * directions[hits.hit])
        assert hits.hit.sum() > 50
        assert float((values - level).abs().max()) < 1e-4
        assert torch.isinf(hits.distance[~hits.hit]).all()


def test_rays_that_start_inside_meet_the_way_out() -> None:
    torch.manual_seed(0)
    field = MLP(32, 3, 0).eval()
    directions = torch.nn.functional.normalize(torch.randn(50, 3), dim=1)
    hits = cast(bound_of(field), field, torch.zeros(50, 3), directions, far=4.0)
    assert hits.hit.all()
    assert not hits.doubtful.any()


@pytest.mark.parametrize("far", [math.inf, math.nan])
def test_a_ray_needs_an_end(far: float) -> None:
    ball = combining.body("sphere", [0.5])
    with pytest.raises(InputError, match="without an end"):
        cast(bound_of(ball), ball, torch.zeros(1, 3), torch.eye(3)[:1], far=far)


def test_limits_of_each_ray() -> None:
    torch.manual_seed(0)
    field = MLP(32, 3, 0).eval()
    origins = torch.tensor([[-2.0, 0, 0]] * 3)
    directions = torch.tensor([[1.0, 0, 0]] * 3)
    hits = cast(
        bound_of(field), field, origins, directions, near=torch.tensor([0.0, 2.0, 0]), far=torch.tensor([4.0, 4, 1])
    )
    assert hits.hit.tolist() == [True, True, False]
    assert hits.distance[0] < 2 < hits.distance[1]
    empty = cast(bound_of(field), field, origins[:0], directions[:0])
    assert len(empty.distance) == 0


@pytest.mark.parametrize("slope", [1.0, 2.0])
def test_tracing_a_sphere(slope: float) -> None:
    field = sphere(0.5)
    origins, directions = rays(500, 2)
    hits = trace(lambda x: slope * field(x), origins, directions, far=4.0, slope=slope)
    along = (origins * directions).sum(dim=1)
    under = along.square() - origins.square().sum(dim=1) + 0.25
    truth = torch.where(under > 0, -along - under.clamp(min=0).sqrt(), float("inf"))
    clear = under.abs() > 1e-3
    assert (hits.hit == torch.isfinite(truth))[clear].all()
    found = hits.hit & clear
    assert float((hits.distance - truth)[found].abs().max()) < 5e-3
    assert not hits.doubtful[clear].any()


def test_far_along_a_ray_no_piece_is_shorter_than_numbers_are_apart() -> None:
    ball = combining.body("sphere", [1000.0])
    origins, directions = torch.tensor([[-5000.0, 0, 0]]), torch.tensor([[1.0, 0, 0]])
    hits = cast(bound_of(ball), ball, origins, directions, far=1e4)
    assert float(hits.distance[0]) == pytest.approx(4000, abs=0.05)


def test_rays_meet_the_box_of_a_shape_that_it_cuts() -> None:
    ball = combining.body("sphere", [0.5])
    origins, directions = torch.tensor([[-2.0, 0, 0], [-2.0, 0.9, 0]]), torch.tensor([[1.0, 0, 0]] * 2)
    near = torch.tensor([1.8, 1.8])  # inside, as if the box ended there
    through = cast(bound_of(ball), ball, origins, directions, near=near, far=4.0)
    capped = cast(bound_of(ball), ball, origins, directions, near=near, far=4.0, capped=True)
    assert float(through.distance[0]) == pytest.approx(2.5, abs=1e-3)
    assert float(capped.distance[0]) == pytest.approx(1.8)
    assert capped.hit.tolist() == [True, False]
    start = cast(bound_of(ball), ball, torch.zeros(1, 3), directions[:1], far=4.0, capped=True)
    assert float(start.distance[0]) == pytest.approx(0.5, abs=1e-3), "who stands inside looks out"
