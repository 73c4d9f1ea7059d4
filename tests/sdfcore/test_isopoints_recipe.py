"""Iso-points while a network learns: on its own surface, even, with normals smoother than the data's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sdfcore.errors import InputError
from sdfcore.evidence import Evidence
from sdfcore.fitting import Fit
from sdfcore.geometry import PointCloud
from sdfcore.networks import MLP
from sdfcore.objectives import At
from sdfcore.recipe import Size
from sdfcore.recipes import isopoints
from sdfcore.recipes.isopoints import RECIPE, WithIsoPoints, plane_normals

CPU = torch.device("cpu")


def ball(count: int = 3000, noise: float = 0.0) -> PointCloud:
    rng = np.random.default_rng(0)
    outward = rng.normal(size=(count, 3))
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    return PointCloud(0.5 * outward + noise * rng.normal(size=(count, 3)), outward)


@pytest.fixture
def noisy() -> Evidence:
    cloud = ball(noise=0.02)
    return Evidence(cloud.points.astype(np.float32), cloud.normals, None)


@pytest.fixture
def network() -> nn.Module:
    """About a sphere of radius 0.5."""
    torch.manual_seed(0)
    return MLP(128, 3, skip=0, beta=0.0)


def sampler(evidence: Evidence, network: nn.Module, warm_up: int = 2, refresh: int = 3) -> WithIsoPoints:
    size = Size(width=8, depth=2, steps=10, batch=500, rate=1e-3, warm_up=warm_up, refresh=refresh)
    made = RECIPE.sampler(evidence, network, size, 0, CPU)
    assert isinstance(made, WithIsoPoints)
    return made


def test_they_come_after_the_warm_up_and_are_made_anew(
    noisy: Evidence, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isopoints, "COUNT", 400)
    made, times = sampler(noisy, network), []
    inner = made._refresh
    monkeypatch.setattr(made, "_refresh", lambda: (times.append(made.taken), inner()))
    batches = [made.batch() for _ in range(9)]
    assert times == [2, 5, 8]
    assert [batch.iso is None for batch in batches] == [True, True] + 7 * [False]
    assert batches[-1].iso is not None
    assert batches[-1].iso.shape == batches[-1].surface.shape


def test_they_lie_on_the_networks_own_surface(
    noisy: Evidence, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isopoints, "COUNT", 800)
    made = sampler(noisy, network, warm_up=1)
    made.taken = 1
    batch = made.batch()
    assert batch.iso is not None
    assert batch.iso_normals is not None
    with torch.no_grad():
        assert float(network(batch.iso).abs().max()) < 2e-3
    outward = batch.iso / batch.iso.norm(dim=1, keepdim=True)
    assert float((outward * batch.iso_normals).sum(dim=1).median()) > 0.85, "outward"
    again = sampler(noisy, network, warm_up=1)
    again.taken = 1
    other = again.batch()
    assert other.iso is not None
    torch.testing.assert_close(other.iso, batch.iso, rtol=0, atol=0)


def test_normals_of_planes() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(-1, 1, (300, 2)), 0.01 * rng.normal(size=(300, 1))], axis=1)
    slopes = np.tile([0.3, 0.0, -1.0], (300, 1))
    normals = plane_normals(points, slopes)
    assert (normals[:, 2] < -0.97).all()
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0)


def test_its_terms_are_nothing_before_there_are_iso_points(noisy: Evidence, network: nn.Module) -> None:
    early = sampler(noisy, network, warm_up=5).batch()
    terms = RECIPE.objective(At.of(network, early), 0.0)
    assert float(terms["iso_manifold"]) == float(terms["iso_normals"]) == 0.0


def test_a_fit_with_other_numbers() -> None:
    fit = Fit(
        ball(500), recipe="isopoints", preset="draft", steps=30, device="cpu",
        settings={"width": 16, "batch": 100, "warm_up": 10, "refresh": 5, "rate": 2e-3},
    )  # fmt: skip
    for _ in fit:
        pass
    assert (fit.plan.size.width, fit.plan.size.rate) == (16, 2e-3)
    assert isinstance(fit.sampler, WithIsoPoints)
    assert fit.sampler.points is not None
    assert np.isfinite(fit.history["loss"]).all()


@pytest.mark.parametrize(
    "settings", [{"wdith": 3}, {"width": 0}, {"width": 2.5}, {"rate": float("nan")}, {"nodes": 100}, {"steps": 5}]
)
def test_numbers_that_cannot_be(settings: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Fit(ball(500), recipe="isopoints", settings=settings)
