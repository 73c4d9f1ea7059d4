"""Batches: seeded, of the shapes promised, and labelled with the distances of their own points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from small_fits import directions

from sdfcore.errors import NoNormalsError
from sdfcore.evidence import Evidence
from sdfcore.sampling import Batch, HalfUniform, Labelled, NearAndUniform, Sampler

CPU = torch.device("cpu")
RADIUS = 0.7


def exact(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points, axis=1) - RADIUS


def evidence(count: int = 3000, normals: bool = True) -> Evidence:
    n = directions(count).astype(np.float32)
    return Evidence(n * np.float32(RADIUS), n if normals else None, exact)


def sampler(name: str, seed: int, count: int = 64, normals: bool = True) -> Sampler:
    known = evidence(normals=normals)
    if name == "labelled":
        return Labelled(known, count, seed, CPU, pool=2000)
    return {"near": NearAndUniform, "half": HalfUniform}[name](known, count, seed, CPU)


def tensors(batch: Batch) -> list[torch.Tensor]:
    found = (batch.surface, batch.space, batch.normals, batch.directions, batch.distances)
    return [t for t in found if t is not None]


@pytest.mark.parametrize("name", ["near", "half", "labelled"])
def test_the_same_seed_draws_the_same_batches_whatever_else_is_drawn(name: str) -> None:
    first, second, other = sampler(name, 5), sampler(name, 5), sampler(name, 6)
    drawn = [first.batch() for _ in range(3)]
    torch.manual_seed(123)  # the global generators are not used
    np.random.seed(123)
    for batch in drawn:
        for a, b in zip(tensors(batch), tensors(second.batch()), strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(other.batch().space, drawn[0].space)
    assert not torch.equal(drawn[1].surface, drawn[0].surface)


@pytest.mark.parametrize("name", ["near", "half", "labelled"])
def test_surface_points_come_with_their_own_normals(name: str) -> None:
    batch = sampler(name, 0).batch()
    assert batch.surface.dtype == batch.space.dtype == torch.float32
    torch.testing.assert_close(batch.surface, RADIUS * batch.known_normals)
    assert sampler(name, 0, normals=False).batch().normals is None


def test_labels_are_the_distances_of_the_very_points() -> None:
    drawing = Labelled(evidence(), 256, 3, CPU, cells=[(0.05, np.zeros((1, 3)) + 0.4)], pool=4000)
    for _ in range(3):
        batch = drawing.batch()
        np.testing.assert_allclose(batch.known_distances, exact(batch.space.numpy()), atol=1e-6)
        torch.testing.assert_close(batch.known_directions.norm(dim=1), torch.ones(256))
    assert len(batch.space) == 256 + 64


def test_labelled_points_lie_near_the_surface_in_the_cells_and_everywhere() -> None:
    known, far = evidence(), 0.08
    node = np.array([[0.1, 0.2, -0.1]])
    drawing = Labelled(known, 4000, 0, CPU, cells=[(0.05, node)], pool=9000, far=far)
    near = drawing.near.numpy()
    in_cell = (np.abs(near - node) <= 0.05 + 1e-6).all(axis=1)
    assert in_cell.sum() == 4500  # half as many as those moved off the surface
    distances = np.abs(exact(near[~in_cell]))
    assert len(distances) == 9000
    assert distances.max() < 5.5 * far
    # log-uniform spreads; the mean of ln|z| of a standard normal is -0.635
    typical = np.exp(np.log(distances).mean() + 0.635)
    assert typical == pytest.approx(np.sqrt(known.spacing * far), rel=0.1)
    wide = drawing.wide.numpy()
    assert np.abs(wide).max() <= 1
    assert (np.abs(wide.mean(axis=0)) < 0.1).all()
    assert wide.std(axis=0) == pytest.approx(np.full(3, 1 / 3**0.5), rel=0.1)


def slab(half: float, count: int = 4000) -> Evidence:
    """A square plate of 2·half thickness across z, without its narrow sides' samples."""
    rng = np.random.default_rng(0)
    up = np.where(rng.random(count) < 0.5, 1.0, -1.0)
    points = np.column_stack([rng.uniform(-0.8, 0.8, (count, 2)), half * up]).astype(np.float32)
    normals = np.column_stack([np.zeros((count, 2)), up]).astype(np.float32)

    def distance(q: np.ndarray) -> np.ndarray:
        out = np.abs(q) - np.array([0.8, 0.8, half])
        return np.linalg.norm(np.maximum(out, 0), axis=1) + np.minimum(out.max(axis=1), 0)

    return Evidence(points, normals, distance)


def test_thin_parts_get_points_between_their_sides() -> None:
    thin = slab(0.01)
    plain = Labelled(thin, 64, 0, CPU, pool=8000)
    inner = Labelled(thin, 64, 0, CPU, pool=8000, thin=0.04, inner=0.5)
    assert torch.equal(inner.near[:8000], plain.near)  # what is drawn otherwise stays
    added = inner.near_distances[8000:]
    assert len(added) == pytest.approx(4000, abs=4)
    assert (added < 0).float().mean() > 0.75
    assert (inner.near_distances < 0).float().mean() > 1.3 * (plain.near_distances < 0).float().mean()
    assert len(Labelled(slab(0.1), 64, 0, CPU, pool=8000, thin=0.04).near) == 8000  # thick: none
    bare = Evidence(thin.points, None, thin.oracle)
    assert len(Labelled(bare, 64, 0, CPU, pool=8000, thin=0.04).near) == 8000  # without normals nobody knows where


def test_thickness_is_measured_down_to_the_first_point_outside() -> None:
    known = slab(0.01)
    assert known.normals is not None
    depths = np.array([0.004, 0.012, 0.018, 0.03])
    np.testing.assert_allclose(known.thickness(known.points, known.normals, depths), 0.018)
    assert np.isinf(known.thickness(known.points, known.normals, depths[:2])).all()
    assert (known.thickness(known.points, -known.normals, depths) == 0).all()
    assert known.spacing > 0.02  # more than the thickness: so much is known, and no more
    assert known.thinness == pytest.approx(0.02, rel=0.3)
    assert np.isinf(evidence().thinness)
    assert np.isinf(evidence(normals=False).thinness)
    assert known.share_thinner(0.01) < 0.05 < 0.95 < known.share_thinner(0.03)
    deep = 20 * known.spacing  # beyond what thinness looks at
    assert known.share_thinner(deep) == known.share_thinner(8 * known.spacing) == 1.0
    assert known.share_thinner(0.02 * known.spacing) == evidence(normals=False).share_thinner(1.0) == 0
    with pytest.raises(ValueError, match="oracle"):
        Evidence(known.points, known.normals, None).thickness(known.points, known.normals, depths)


def test_another_seed_labels_other_points() -> None:
    pools = [Labelled(evidence(), 8, seed, CPU, pool=2000) for seed in (0, 1)]
    assert not torch.equal(pools[0].near, pools[1].near)
    assert not torch.equal(pools[0].wide, pools[1].wide)


def test_labels_need_an_oracle() -> None:
    with pytest.raises(ValueError, match="oracle"):
        Labelled(Evidence(directions(50), None, None), 8, 0, CPU)


def test_near_samples_spread_as_far_as_each_points_fiftieth_neighbour() -> None:
    n = directions(500).astype(np.float32)
    points = np.concatenate([n * np.float32(0.7), n * np.float32(0.01) + np.float32(0.9)])  # coarse and fine
    drawing = NearAndUniform(Evidence(points, None, None), 40_000, 0, CPU)
    batch = drawing.batch()
    assert len(batch.space) == 45_000
    moved = (batch.space[:40_000] - batch.surface).numpy()
    fine = (batch.surface > 0.85).all(dim=1).numpy()
    sigma = np.sort(cdist(points, points), axis=1)[:, 50]
    for rows, of in ((fine, sigma[500:]), (~fine, sigma[:500])):
        assert moved[rows].std() == pytest.approx(np.sqrt((of**2).mean()), rel=0.03)
    uniform = batch.space[40_000:].numpy()
    assert np.abs(uniform).max() <= 1.1
    assert uniform.std(axis=0) == pytest.approx(np.full(3, 1.1 / 3**0.5), rel=0.05)


def test_half_of_sirens_batch_is_uniform_in_the_box() -> None:
    batch = HalfUniform(evidence(), 5000, 0, CPU).batch()
    assert len(batch.surface) == len(batch.space) == 5000
    assert np.abs(batch.space.numpy()).max() <= 1
    assert batch.space.numpy().std(axis=0) == pytest.approx(np.full(3, 1 / 3**0.5), rel=0.05)


# Evidence -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 8, 50])
def test_neighbour_distances_are_those_of_positions_alone(k: int) -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (300, 3)).astype(np.float32)
    expected = np.sort(cdist(points, points), axis=1)[:, k]
    for normals in (None, directions(300).astype(np.float32)):
        np.testing.assert_allclose(Evidence(points, normals, None).neighbour_distance(k), expected, rtol=1e-5)


def test_few_points_have_their_farthest_as_neighbour() -> None:
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0]], dtype=np.float32)
    np.testing.assert_allclose(Evidence(points, None, None).neighbour_distance(50), [2, 5**0.5, 5**0.5], rtol=1e-6)


@pytest.mark.parametrize("count", [500, 5000, 20_000])
def test_spacing_is_the_root_of_the_area_per_point(count: int) -> None:
    expected = np.sqrt(4 * np.pi * RADIUS**2 / count)
    assert evidence(count).spacing == pytest.approx(expected, rel=0.06)


def test_points_at_one_place_have_a_spacing_that_can_be_divided_by() -> None:
    points = np.zeros((100, 3), dtype=np.float32)
    points[0] = 0.5
    assert Evidence(points, None, None).spacing == 1e-6


def test_what_a_batch_lacks_is_named() -> None:
    batch = Batch(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(NoNormalsError, match="normals"):
        _ = batch.known_normals
    with pytest.raises(ValueError, match="directions"):
        _ = batch.known_directions
    with pytest.raises(ValueError, match="distances"):
        _ = batch.known_distances


def test_noise_is_measured_and_curvature_is_not_noise() -> None:
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(20_000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    clean = Evidence(0.5 * normals, normals, None)
    assert clean.noise < 2e-4
    assert clean.area == pytest.approx(np.pi, rel=0.1)
    noisy = Evidence((0.5 + rng.normal(0, 0.004, (20_000, 1))) * normals, normals, None)
    assert 0.0034 < noisy.noise < 0.004, "a little less: the nearest neighbours are alike in height"
    assert Evidence(0.5 * normals, None, None).noise == 0
