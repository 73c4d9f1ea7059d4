"""The error of a field against the distance it stands for, on fields whose error is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_fits import ball, ball_points
from torch import Tensor, nn

from sdfcore.field_error import distance_statistics
from sdfcore.fields import NeuralSDF
from sdfcore.fitting import Fit
from sdfcore.geometry import Box, PointCloud


class Ball(nn.Module):
    """The distance to a sphere of the unit box, times a factor, plus a shift."""

    def __init__(self, radius: float, factor: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.radius, self.factor = radius, factor
        self.shift = nn.Parameter(torch.tensor(shift))

    def forward(self, points: Tensor) -> Tensor:
        return self.factor * (points.norm(dim=1) - self.radius) + self.shift


def statistics(fit: Fit, **how: float) -> dict[str, float]:
    radius = 1 / float(fit.frame.scale)
    sdf = NeuralSDF(Ball(radius, **how), fit.frame, Box.around(fit.evidence.points.astype(np.float64)))
    found = distance_statistics(fit, sdf, samples=4000)
    assert found is not None
    return found


@pytest.mark.parametrize("source", [ball(subdivisions=5), ball_points(20_000)], ids=["mesh", "points"])
def test_an_exact_field_has_no_error_and_a_wrong_one_its_own(source: object) -> None:
    fit = Fit(source, recipe="igr", device="cpu")  # type: ignore[arg-type]
    exact = statistics(fit)
    assert exact["mean"] < 0.004
    assert exact["sign_agreement"] > 0.995
    shifted = statistics(fit, shift=0.1 / float(fit.frame.scale))
    assert shifted["mean"] == pytest.approx(0.1, rel=0.05)  # world units
    steep = statistics(fit, factor=1.5)
    assert steep["far"] > 1.2 * steep["mean"]
    assert steep["sign_agreement"] > 0.995
    assert statistics(fit, factor=-1.0)["sign_agreement"] < 0.01


def test_without_normals_there_is_nothing_to_compare_with() -> None:
    fit = Fit(PointCloud(ball_points(300).points), recipe="igr", device="cpu")
    sdf = NeuralSDF(Ball(0.5), fit.frame, Box.around(fit.evidence.points.astype(np.float64)))
    assert distance_statistics(fit, sdf) is None
