"""What the papers prove of their losses and networks, measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from small_fits import Array, finish, one_thread
from torch import Tensor

from sdfcore.descent import Budget, descend
from sdfcore.evidence import Evidence
from sdfcore.extraction import extract_sdf
from sdfcore.fields import Field, sphere
from sdfcore.fitting import Fit
from sdfcore.geometry import PointCloud
from sdfcore.networks import MLP, SphereSiren
from sdfcore.objectives import At, Objective, Term, eikonal
from sdfcore.recipe import Size
from sdfcore.recipes import (
    RECIPES,
    digs,
    hotspot,
    lipschitz,
    neural_pull,
    sal,
    sald,
    singular_hessian,
    sobolev,
    steik,
    viscoreg,
)
from sdfcore.recipes import tv as total
from sdfcore.sampling import Batch
from sdfcore.surfaces import MeshDistance

RADIUS = 0.5
EXACT = sphere(RADIUS)


def unit(count: int, seed: int) -> Tensor:
    drawn = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=1)


def batch(count: int = 2000) -> Batch:
    """Points of the sphere, and points of known distance to it with their feet."""
    n, known = unit(count, 0), torch.linspace(-0.4, 0.5, count, dtype=torch.float64)
    out = unit(count, 1)
    return Batch(
        RADIUS * n, (RADIUS + known[:, None]) * out, n, distances=known, feet=RADIUS * out,
        near=(RADIUS + 0.05 * torch.cos(40 * known)[:, None]) * out,
    )  # fmt: skip


def value_of(term: Term, field: Field = EXACT, progress: float = 1.0) -> float:
    return float(term(At.of(field, batch(), progress)).detach())


# Terms on an exact distance -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "term",
    [
        sal.unsigned, sald.unsigned, sald.unsigned_slope, sobolev.signed_value, sobolev.signed_slope,
        steik.directional_divergence, singular_hessian.singularity, neural_pull.pull, total.total_variation,
        total.hints, total.manifold_squared, viscoreg.viscous_eikonal,
        RECIPES["igr_unsquared"].objective.terms["eikonal"][1], RECIPES["hash"].objective.terms["relative"][1],
    ],
)  # fmt: skip
def test_a_term_vanishes_on_an_exact_distance_and_not_beside_it(term: Term) -> None:
    wavy: Callable[[Tensor], Tensor] = lambda x: 1.3 * EXACT(x) + 0.05 * torch.sin(9 * x).sum(dim=1)
    assert value_of(term) == pytest.approx(0, abs=1e-7)
    assert value_of(term, wavy) > 1e-3


def test_terms_that_do_not_vanish_on_a_sphere_take_their_known_values() -> None:
    r = batch().space.norm(dim=1)
    laplacian = 2 / r  # of ‖x‖
    assert value_of(digs.divergence) == pytest.approx(float(laplacian.clamp(0.1, 50).mean()), rel=1e-6)
    epsilon = viscoreg.VISCOSITY(0.0)
    assert epsilon == 0.5
    assert value_of(viscoreg.viscous_eikonal, progress=0.0) == pytest.approx(float((0.5 * laplacian).mean()), rel=1e-6)
    warmth = torch.exp(-2 * hotspot.ABSORPTION * (r - RADIUS).abs())  # ½ (1 + 1) of it
    integral = (warmth / hotspot.density(batch().space)).mean()
    assert value_of(hotspot.heat) == pytest.approx(float(integral), rel=1e-6)
    assert value_of(lipschitz.kantorovich_rubinstein) == pytest.approx(-float((r - RADIUS).abs().mean()), rel=1e-6)
    margin = (lipschitz.MARGIN - (r - RADIUS).abs()).clamp(min=0)
    assert value_of(lipschitz.hinge) == pytest.approx(float(margin.mean()), rel=1e-6)
    assert value_of(RECIPES["sal_l0"].objective.terms["indicator"][1]) == pytest.approx(
        float((1 - (r - RADIUS).abs()).mean()), rel=1e-6
    )


def test_samples_of_hotspot_are_as_dense_as_it_says() -> None:
    """So that sums over them are integrals: of 1 over a box, its volume."""
    n = np.random.default_rng(0).normal(size=(500, 3))
    points = (n / np.linalg.norm(n, axis=1, keepdims=True)).astype(np.float32)
    size = RECIPES["hotspot"].sizes["fine"]
    sampler = hotspot.RECIPE.sampler(Evidence(points, None, None), torch.nn.Identity(), size, 0, torch.device("cpu"))
    space = torch.cat([sampler.batch().space for _ in range(10)])
    for half in (0.5, 1.0, hotspot.HALF):
        inside = (space.abs() <= half).all(dim=1)
        assert float((inside / hotspot.density(space)).mean()) == pytest.approx((2 * half) ** 3, rel=0.03)


def test_the_distance_is_the_steepest_function_that_the_transport_loss_can_have() -> None:
    """Of all 1-Lipschitz functions with the right sides none has a lower loss (Coiffier & Béthune 2024, theorem 1)."""
    best = value_of(lipschitz.kantorovich_rubinstein)
    for worse in (lambda x: 0.9 * EXACT(x), lambda x: EXACT(x).clamp(-0.2, 0.2), lambda x: torch.sin(EXACT(x))):
        assert value_of(lipschitz.kantorovich_rubinstein, worse) > best + 1e-3


def test_sign_agnostic_losses_cannot_tell_a_field_from_its_negative() -> None:
    """τ(-a, b) = τ(a, b): Atzmon & Lipman 2020, sec. 3, and the same of slopes."""
    a, b = torch.randn(100), torch.rand(100)
    assert torch.equal(sal.similarity(-a, b), sal.similarity(a, b))
    some: Field = lambda x: torch.sin(3 * x).sum(dim=1)
    for term in (sal.unsigned, sald.unsigned_slope, RECIPES["sal_l0"].objective.terms["indicator"][1]):
        assert value_of(term, lambda x: -some(x)) == pytest.approx(value_of(term, some), rel=1e-12)


def test_occupancy_losses_fall_when_more_points_are_on_the_right_side() -> None:
    for name, term in (("occupancy", "cross_entropy"), ("imnet", "weighted_square")):
        loss = RECIPES[name].objective.terms[term][1]
        surely = value_of(loss, lambda x: torch.sign(EXACT(x)) * 0.5)
        assert surely < 1e-6
        assert value_of(loss, lambda x: EXACT(x).abs()) > 0.05 + surely


# Beginnings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 100.0])
@pytest.mark.parametrize("radius", [0.5, 0.8])
def test_geometric_initialisation_is_about_the_distance_to_a_sphere(beta: float, radius: float) -> None:
    """Atzmon & Lipman 2020, theorem 1: exact in the limit of width; at 512 units within a tenth in the mean."""
    torch.manual_seed(0)
    network, points = MLP(512, 6, skip=3, beta=beta, radius=radius), 2 * torch.rand(4000, 3) - 1
    error = (network(points) - (points.norm(dim=1) - radius)).abs()
    assert float(error.mean().detach()) < 0.1
    side = network(points).sign() == (points.norm(dim=1) - radius).sign()
    assert float(side.float().mean()) > 0.9


@pytest.mark.parametrize("quadratic", [False, True])
@pytest.mark.parametrize(("width", "depth"), [(64, 3), (128, 5), (256, 4), (256, 5)])
def test_multi_frequency_initialisation_is_a_scaled_distance_to_a_sphere(
    quadratic: bool, width: int, depth: int
) -> None:
    """A slope of about 0.15, the zero at about two thirds, in whatever direction one goes."""
    torch.manual_seed(0)
    network, radius = SphereSiren(width, depth, quadratic=quadratic), torch.linspace(0.2, 1.2, 11)
    with torch.no_grad():
        values = torch.stack([network((r * unit(500, 2)).float()) for r in radius])
    means, spread = values.mean(dim=1), values.std(dim=1)
    slope = (means[-1] - means[0]) / (radius[-1] - radius[0])
    assert 0.08 < float(slope) < 0.25
    assert (means.diff() > 0).all()
    assert 0.4 < float(radius[means < 0].max()) < 1.0
    assert float(spread.max()) < 0.35 * float(slope)


def test_the_laplacian_that_digs_begins_with_is_that_of_its_sphere() -> None:
    """Of a field that grows as s ‖x‖ it is 2 s / ‖x‖; the high frequencies are there, but faint."""
    torch.manual_seed(0)
    network = SphereSiren(256, 4).double()
    points = (0.4 + 0.4 * torch.rand(500, 1)) * unit(500, 3)
    jet = At.of(network, Batch(points, points)).space
    slope = (jet.gradient * points / points.norm(dim=1, keepdim=True)).sum(dim=1).detach()
    wanted = 2 * slope.median() / points.norm(dim=1).median()
    assert float(jet.laplacian.detach().median()) == pytest.approx(float(wanted), rel=0.4)


# What the losses lead to --------------------------------------------------------------------------------------------


def fitted(name: str, points: Array, normals: Array | None, size: Size) -> Fit:
    recipe = RECIPES[name]
    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.setitem(RECIPES, name, recipe.__class__(**{**recipe.__dict__, "sizes": {"draft": size}}))
        fit = Fit(PointCloud(points, normals), recipe=name, preset="draft", device="cpu")
        finish(fit)
    return fit


NORMAL = np.array([2.0, 1.0, 2.0]) / 3


def plane_points() -> Array:
    """(3000, 3) points of the plane through the origin with :data:`NORMAL`."""
    rng = np.random.default_rng(0)
    spread = np.linalg.qr(np.column_stack([NORMAL, rng.normal(size=(3, 2))]))[0][:, 1:]
    return rng.uniform(-1, 1, (3000, 2)) @ spread.T


@pytest.mark.parametrize("seed", range(5))
def test_a_linear_model_descends_from_anywhere_to_the_plane_that_the_points_are_of(seed: int) -> None:
    """Gropp et al. 2020, theorem 2: there are saddles on the way, but no other minima; no normals are needed."""
    points = torch.from_numpy(plane_points())
    generator = torch.Generator().manual_seed(seed)
    weights = torch.nn.Parameter(torch.randn(3, generator=generator, dtype=torch.float64))
    objective = Objective({"manifold": (1.0, total.manifold_squared), "eikonal": (1.0, eikonal)})
    losses = lambda progress: objective(At.of(lambda x: x @ weights, Batch(points, points)), progress)
    for _ in descend(losses, [weights], budget=Budget(400), rate=0.05):
        pass
    found = weights.detach().numpy()
    assert min(np.abs(found - NORMAL).max(), np.abs(found + NORMAL).max()) < 0.01


def test_igr_gives_a_plane_back_from_points_of_a_plane() -> None:
    points = plane_points()
    normals = np.tile(NORMAL, (len(points), 1))
    fit = fitted("igr", points, normals, Size(width=64, depth=3, steps=400, batch=256, rate=3e-3))
    beside = np.random.default_rng(1).uniform(-0.5, 0.5, (2000, 3))
    value = fit.sdf(torch.from_numpy(beside)).detach().numpy()
    assert np.abs(value - beside @ NORMAL).mean() < 0.03


@pytest.mark.parametrize("name", ["sal", "sald", "igr"])
def test_a_gap_is_closed_by_the_straight_segment(name: str) -> None:
    """Minimal surface property, Atzmon & Lipman 2021, theorem 1: in the plane, what closes a gap is a segment.

    A square tube stands for a square in the plane; a third of one of its sides is missing.
    """
    rng = np.random.default_rng(0)
    side, along = rng.integers(0, 4, 12_000), rng.uniform(-0.5, 0.5, 12_000)
    turn = np.array([[[1, 0], [0, 1]], [[0, -1], [1, 0]], [[-1, 0], [0, -1]], [[0, 1], [-1, 0]]])
    flat = np.einsum("nij,nj->ni", turn[side], np.column_stack([np.full(12_000, 0.5), along]))
    points = np.column_stack([flat, rng.uniform(-1, 1, 12_000)])
    points = points[(points[:, 0] < 0.49) | (np.abs(points[:, 1]) > 1 / 6)]
    fit = fitted(name, points, None, Size(width=64, depth=4, steps=500, batch=512, rate=3e-3))
    mesh = extract_sdf(fit.sdf, resolution=64)
    middle = mesh.vertices[np.abs(mesh.vertices[:, 2]) < 0.4]
    gap = middle[(middle[:, 0] > 0.2) & (np.abs(middle[:, 1]) < 0.15)]
    assert len(gap) > 50
    assert np.abs(gap[:, 0] - 0.5).mean() < 0.05


def test_a_one_lipschitz_fit_never_says_more_than_the_distance_to_its_own_surface() -> None:
    directions = unit(3000, 5).numpy()
    stretched = directions * [0.9, 0.5, 0.35]
    normals = directions / [0.9, 0.5, 0.35]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    fit = fitted("lipschitz", stretched, normals, Size(width=32, depth=6, steps=1200, batch=256, rate=1e-2))
    pairs = 2 * torch.rand(2, 1_000_000, 3, generator=torch.Generator().manual_seed(0)) - 1
    with torch.no_grad():
        change = (fit.sdf.network(pairs[0]) - fit.sdf.network(pairs[1])).abs()
    apart = (pairs[0] - pairs[1]).norm(dim=1)
    assert (change <= apart * (1 + 1e-5) + 1e-7).all()
    assert float((change / apart).max()) > 0.8
    mesh = extract_sdf(fit.sdf, resolution=64)
    points = np.random.default_rng(0).uniform(-1, 1, (5000, 3))
    value = np.abs(fit.sdf(torch.from_numpy(points)).detach().numpy())
    assert (value <= MeshDistance(mesh).unsigned(points) + 1e-3).all()
    assert np.corrcoef(value, MeshDistance(mesh).unsigned(points))[0, 1] > 0.9
