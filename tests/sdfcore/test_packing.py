"""Several fits in one descent come to what they come to alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from small_fits import directions

from sdfcore.fitting import Fit
from sdfcore.geometry import PointCloud
from sdfcore.networks import FeatureGrid
from sdfcore.networks.packed import PackedGrids
from sdfcore.packing import Pack
from sdfcore.sampling import Batch, stacked


def grid(count: int, levels: list[int], seed: int) -> FeatureGrid:
    points = np.random.default_rng(seed).uniform(-0.8, 0.8, (count, 3)).astype(np.float32)
    torch.manual_seed(seed)
    network = FeatureGrid.around(points, levels, dense=8, width=16)
    with torch.no_grad():
        network.features[1:] = torch.randn_like(network.features[1:])
    return network


@pytest.fixture
def grids() -> list[FeatureGrid]:
    return [grid(50, [4, 8, 16], 0), grid(80, [5, 11], 1), grid(30, [4, 9, 18, 35], 2)]


def test_values_and_derivatives_are_each_network_s_own(grids: list[FeatureGrid]) -> None:
    packed = PackedGrids(grids)
    points = torch.rand((3, 40, 3)) * 2.4 - 1.2
    along = torch.randn((2, 3, 40, 3))
    value, slopes = packed.pushforward(points, along)
    torch.testing.assert_close(packed(points), value)
    for number, network in enumerate(grids):
        one, its = network.pushforward(points[number], along[:, number])
        torch.testing.assert_close(value[number], one)
        torch.testing.assert_close(slopes[:, number], its, atol=1e-4, rtol=1e-4)


def test_what_is_unpacked_is_what_was_packed(grids: list[FeatureGrid]) -> None:
    for before, after in zip(grids, PackedGrids(grids).unpacked(), strict=True):
        assert after.config == before.config
        for (name, one), (_, other) in zip(before.state_dict().items(), after.state_dict().items(), strict=True):
            assert torch.equal(one, other), name


def test_missing_levels_and_missing_nodes_are_not_taught(grids: list[FeatureGrid]) -> None:
    packed = PackedGrids(grids)
    packed(torch.rand((3, 200, 3)) * 2 - 1).square().sum().backward()
    assert packed.features.grad is not None
    assert (packed.features.grad[0] == 0).all()
    first = packed.weights[0].grad
    assert first is not None
    assert (first[1, :, 3 + 2 * 2 :] == 0).all()
    assert (first[2, :, 3:] != 0).any()


def test_networks_that_differ_are_refused(grids: list[FeatureGrid]) -> None:
    with pytest.raises(ValueError, match="differ"):
        PackedGrids([grids[0], FeatureGrid([4], [125], width=8)])


def ball(radius: float, count: int = 1500, above: float = 1.0) -> PointCloud:
    n = directions(count)
    n = n[n[:, 2] < above]
    return PointCloud(radius * n, n)


def ellipsoid() -> PointCloud:
    n, axes = directions(4000), np.array([1, 0.7, 0.4])
    return PointCloud(n * axes, n / axes / np.linalg.norm(n / axes, axis=1, keepdims=True))


def fit(source: float | PointCloud, seed: int = 0, steps: int = 40) -> Fit:
    cloud = source if isinstance(source, PointCloud) else ball(source)
    return Fit(cloud, recipe="distance", preset="draft", steps=steps, seed=seed, resolution=32, device="cpu")


@pytest.mark.parametrize(
    ("sources", "near"),
    [((ball(1.0), ellipsoid()), True), ((ball(1.0, above=0.6), ball(3.0, 4000, above=0.5)), False)],
    ids=["clean", "open"],
)
def test_packed_fits_become_what_they_become_alone(sources: tuple[PointCloud, PointCloud], near: bool) -> None:
    alone = [fit(source, seed) for seed, source in enumerate(sources)]
    for one in alone:
        for _ in one:
            pass
    together = [fit(source, seed) for seed, source in enumerate(sources)]
    seen = [progress.step for progress in Pack(together) if progress.step]
    assert seen == list(range(1, 41))
    probes = torch.rand((500, 3)) * 2 - 1
    for one, other in zip(alone, together, strict=True):
        assert other.step == 40
        assert other.plan.size.near == near
        assert other.history["step"] == one.history["step"]
        a, b = one.sdf, other.sdf
        torch.testing.assert_close(a.network(probes), b.network(probes), atol=2e-3, rtol=0)
        assert other.mesh(b).volume() == pytest.approx(one.mesh(a).volume(), rel=2e-3)


def test_a_pack_that_is_left_keeps_what_it_reached() -> None:
    fits = [fit(1.0), fit(1.5)]
    pack = iter(Pack(fits))
    next(progress for progress in pack if progress.step == 12)
    pack.close()  # type: ignore[attr-defined]
    assert [one.step for one in fits] == [12, 12]
    assert all(one.sdf.info["steps"] == 12 for one in fits)


def test_fits_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="differ"):
        Pack([fit(1.0), fit(1.0, steps=50)])
    with pytest.raises(ValueError, match="differ"):  # as it turns out when they are prepared
        list(Pack([fit(1.0), fit(ball(1.0, above=0.6))]))
    with pytest.raises(ValueError, match="budget of steps"):
        Pack([Fit(ball(1.0), recipe="distance", seconds=5.0)])
    with pytest.raises(ValueError, match="no feature grids"):
        list(itertools.islice(Pack([Fit(ball(1.0), recipe="siren", preset="draft", steps=3)]), 5))


def test_stacked_batches_lack_what_one_of_them_lacks() -> None:
    points = torch.zeros((4, 3))
    found = stacked([Batch(points, points, normals=points), Batch(points + 1, points)])
    assert found.surface.shape == (2, 4, 3)
    assert found.normals is None
