"""Packets of rays: what they clear is clear, their boxes hold their rays, and they save bounds."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sdfcore import combining
from sdfcore.geometry import Box
from sdfcore.networks import MLP
from sdfcore.queries.bounds import bound_of
from sdfcore.queries.packets import _Packets, cleared
from sdfcore.queries.rays import cast
from sdfcore.queries.render import Camera


def field() -> MLP:
    torch.manual_seed(0)
    return MLP(32, 3, 0, beta=0.0).eval()


def picture(side: int) -> tuple[Tensor, Tensor]:
    """The rays of a camera that sees the unit box."""
    camera = Camera.around(Box(-np.ones(3), np.ones(3)))
    origins, directions = camera.rays(side, side)
    return torch.from_numpy(origins).float(), torch.from_numpy(directions).float()


def test_what_is_cleared_holds_no_surface() -> None:
    network = field()
    origins, directions = picture(32)
    near, far = torch.full((1024,), 0.5), torch.full((1024,), 8.0)
    clear, asked = cleared(bound_of(network), origins, directions, near, far, level=0.05)
    assert asked > 0
    assert bool((clear >= near).all())
    assert float((clear - near).mean()) > 0.5, "most of the way to the shape"
    share = torch.linspace(0, 1, 400)
    depths = near[:, None] + (clear - near)[:, None] * share
    with torch.no_grad():
        values = network((origins[:, None] + depths[..., None] * directions[:, None]).reshape(-1, 3)).reshape(1024, -1)
    assert bool(((values - 0.05).sign() == (values[:, :1] - 0.05).sign()).all())


def test_rays_hit_the_same_with_packets_for_fewer_bounds() -> None:
    network = field()
    origins, directions = picture(32)
    with_, without = (
        cast(bound_of(network), network, origins, directions, far=8.0, packets=packets) for packets in (True, False)
    )
    sure = ~(with_.doubtful | without.doubtful)  # the others graze the surface: pieces end elsewhere there
    assert sure.float().mean() > 0.98
    assert torch.equal(with_.hit[sure], without.hit[sure])
    assert with_.hit.float().mean() > 0.1
    assert float((with_.distance - without.distance)[with_.hit & sure].abs().max()) < 2e-4
    assert with_.bounds < 0.7 * without.bounds


def test_boxes_hold_their_rays() -> None:
    generator = torch.Generator().manual_seed(0)
    entry = torch.randn(20, 16, 3, generator=generator)
    along = torch.randn(20, 1, 3, generator=generator) + 0.3 * torch.randn(20, 16, 3, generator=generator)
    rows = torch.arange(20)
    begin, end = torch.rand(20, generator=generator), 1 + torch.rand(20, generator=generator)
    centre, spans, width = _Packets(entry, along).between(rows, begin, end)
    for share in torch.linspace(0, 1, 9):
        depth = begin + share * (end - begin)
        places = entry + depth[:, None, None] * along - centre[:, None]
        part = torch.einsum("pmi,pki->pmk", places, spans) / spans.square().sum(dim=2)[:, None]
        assert float(part.abs().max()) <= 1.0
    assert bool((width > 0).all())


def test_rays_that_part_in_opposite_directions_miss_nothing() -> None:
    ball = combining.body("sphere", [0.5])
    opposite = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]], dtype=torch.float64)
    for directions in (opposite, opposite + 1e-16):
        hits = cast(bound_of(ball), ball, torch.zeros(4, 3, dtype=torch.float64), directions, far=10.0)
        torch.testing.assert_close(hits.distance, torch.full((4,), 0.5, dtype=torch.float64), atol=1e-3, rtol=0)


def test_few_rays_and_none() -> None:
    network = field()
    origins, directions = picture(2)
    near, far = torch.zeros(4), torch.full((4,), 8.0)
    clear, _ = cleared(bound_of(network), origins, directions, near, far)
    assert clear.shape == (4,)
    nothing, asked = cleared(bound_of(network), origins[:0], directions[:0], near[:0], far[:0])
    assert (nothing.shape, asked) == ((0,), 0)


def test_a_packet_without_width_is_left_to_its_rays() -> None:
    network = field()
    origins, directions = picture(2)
    same = origins[:1].expand(5, 3), directions[:1].expand(5, 3)
    _, asked = cleared(bound_of(network), *same, torch.zeros(5), torch.full((5,), 8.0))
    assert asked < 200
