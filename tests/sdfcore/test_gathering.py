"""Weighted sums of feature rows: the processor's own way gives and teaches what the library's does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sdfcore.networks import FeatureGrid, gathering
from sdfcore.networks.gathering import gathered, trilinear


def given(channels: int, count: int = 3) -> tuple[torch.nn.Parameter, torch.Tensor, list[torch.Tensor]]:
    random = torch.Generator().manual_seed(channels)
    features = torch.nn.Parameter(torch.randn((50, channels), generator=random))
    with torch.no_grad():
        features[0] = 0
    rows = torch.randint(50, (40, 5, 8), generator=random, dtype=torch.int32)
    rows[0] = 0
    return features, rows, [torch.rand((40, 5, 8), generator=random) for _ in range(count)]


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("empty", [0, None])
def test_sums_and_gradients_are_those_of_the_library(channels: int, empty: int | None) -> None:
    features, rows, weights = given(channels)
    ours = gathered(features, rows, weights, empty)
    theirs = [gathering._bagged(features, rows, weight, empty) for weight in weights]
    factors = [torch.randn_like(part) for part in ours]
    found, wanted = (
        torch.autograd.grad(sum((a * b).sum() for a, b in zip(parts, factors, strict=True)), features)[0]
        for parts in (ours, theirs)
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(found, wanted)
    assert (found[0] == 0).all() == (empty == 0)


def test_one_of_several_sums_may_go_unused() -> None:
    features, rows, weights = given(2)
    _, second, _ = gathered(features, rows, weights, 0)
    (found,) = torch.autograd.grad(second.sum(), features)
    (wanted,) = torch.autograd.grad(gathered(features, rows, weights[1:2], 0)[0].sum(), features)
    torch.testing.assert_close(found, wanted)


def test_gradients_of_the_weights_are_there_where_they_are_wanted() -> None:
    features, rows, (weight,) = given(2, 1)
    weight.requires_grad_(True)
    (sums,) = gathered(features, rows, [weight], 0)
    (slope,) = torch.autograd.grad(sums.sum(), weight)
    torch.testing.assert_close(slope, features.detach()[rows.long()].sum(dim=-1))


def test_the_same_rows_add_up_the_same_way_every_time() -> None:
    features, rows, weights = given(2)
    first, again = (torch.autograd.grad(gathered(features, rows, weights, 0)[0].sum(), features)[0] for _ in range(2))
    assert torch.equal(first, again)


def test_trilinear_weights_sum_to_one_and_change_as_they_say() -> None:
    random = torch.Generator().manual_seed(0)
    part = torch.rand((30, 2, 3), generator=random, dtype=torch.float64)
    half = torch.tensor([4.0, 9.0], dtype=torch.float64)
    direction = torch.randn((30, 3), generator=random, dtype=torch.float64)

    def weights(moved: float) -> torch.Tensor:
        at = part + moved * direction[:, None] * half[:, None]
        return trilinear(torch.stack([1 - at, at], dim=-1), half)[0]

    value, along = trilinear(torch.stack([1 - part, part], dim=-1), half, [direction])
    torch.testing.assert_close(value, weights(0.0))
    torch.testing.assert_close(value.sum(dim=-1), torch.ones_like(value[..., 0]))
    torch.testing.assert_close(along, (weights(1e-6) - weights(-1e-6)) / 2e-6, atol=1e-7, rtol=1e-7)


def test_cells_know_the_rows_of_their_corners() -> None:
    """Against a dictionary of the nodes: points anywhere, on borders, on nodes, and outside the box."""
    random = np.random.default_rng(0)
    seen = random.uniform(-1, 1, (60, 3)).astype(np.float32)
    network = FeatureGrid.around(seen, [5, 40, 83], dense=8)
    row, rows_of = 1, []
    for cells, count in zip(network.levels, network.config["nodes"], strict=True):
        keys = network.keys[len(rows_of) and row - 1 :][:count].tolist()
        rows_of.append({key: row + number for number, key in enumerate(keys)})
        row += count
        assert cells <= 8 or count < (cells + 1) ** 3
    points = np.concatenate([random.uniform(-1.1, 1.1, (2000, 3)), seen, [[-1] * 3, [1] * 3, [0] * 3, [1, -1, 0.3]]])
    found, _ = network._corners(torch.tensor(points, dtype=torch.float32))
    for level, (cells, known) in enumerate(zip(network.levels, rows_of, strict=True)):
        nodes = cells + 1
        low = np.clip(np.floor((points.astype(np.float32) + 1) * np.float32(cells / 2)), 0, cells - 1).astype(int)
        for corner, offset in enumerate(np.ndindex(2, 2, 2)):
            x, y, z = (low + offset).T
            wanted = [known.get(key, 0) for key in (x * nodes + y) * nodes + z]
            assert found[:, level, corner].tolist() == wanted


def test_a_field_that_was_looked_at_without_gradients_has_them_later() -> None:
    seen = np.random.default_rng(0).uniform(-1, 1, (60, 3)).astype(np.float32)
    network = FeatureGrid.around(seen, [8, 16], dense=8)
    points = torch.rand((20, 3))
    with torch.inference_mode():
        network(points)
    points.requires_grad_(True)
    (slope,) = torch.autograd.grad(network(points).sum(), points)
    assert slope.isfinite().all()
