"""Variational spaces: an encoder gives a shape's code in one pass over its points."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small_spaces import (
    AXES,
    ellipsoid_points,
    family,
    finished,
    learned_with_encoder,
    mean_error,
    rough_run,
    single_thread,
    surface_error,
)

from sdfcore.errors import InputError
from sdfcore.geometry import Frame
from sdfcore.networks import PointNet
from sdfcore.spaces import storage
from sdfcore.spaces.codes import ENCODED, Drawn, Predicted, encoded, encoder_for

__all__ = ["single_thread"]

pytestmark = pytest.mark.usefixtures("single_thread")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def encoder() -> PointNet:
    torch.manual_seed(0)
    made = PointNet(code_size=4, width=16, depth=3)
    torch.nn.init.normal_(made.spread.weight, std=0.1)
    return made


# The network ----------------------------------------------------------------------------------------------------------


def test_the_order_of_the_points_and_of_the_shapes_does_not_matter() -> None:
    made, points = encoder(), drawn(3, 200, 3)
    mean, spread = made(points)
    assert mean.shape == spread.shape == (3, 4)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    for a, b in zip(made(points[:, order]), (mean, spread), strict=True):
        torch.testing.assert_close(a, b)
    for a, b in zip(made(points.flip(0)), (mean.flip(0), spread.flip(0)), strict=True):
        torch.testing.assert_close(a, b)
    doubled = made(torch.cat([points, points[:, :50]], dim=1))
    torch.testing.assert_close(doubled[0], mean)
    assert (made(points * 0.5)[0] - mean).abs().max() > 0.1, "the points do"


def test_codes_of_a_family_begin_apart_and_about_the_origin() -> None:
    points = torch.stack([torch.as_tensor(ellipsoid_points(axes, 300).points * 0.85).float() for axes in AXES.values()])
    made = PointNet(code_size=4, width=32)
    made.tell_apart(points)
    mean, spread = made(points)
    assert mean.mean(dim=0).abs().max() < 1e-3
    gaps = torch.pdist(mean.detach())
    noise = float((spread / 2).exp().max().detach())
    assert gaps.min() > 3 * noise
    assert noise == pytest.approx(math.exp(-3))
    assert float(mean.std(dim=0)[0].detach()) == pytest.approx(0.5, rel=1e-3)


def test_shapes_that_are_all_the_same_do_no_harm() -> None:
    made = PointNet(code_size=4, width=16)
    made.tell_apart(drawn(1, 50, 3).expand(3, 50, 3))
    assert all(bool(parameter.isfinite().all()) for parameter in made.parameters())


# Codes of a step ------------------------------------------------------------------------------------------------------


def test_a_step_s_codes_are_drawn_about_the_means() -> None:
    codes = Predicted(encoder())
    points, noise = drawn(5, 100, 3), drawn(5, 4, seed=3)
    found, terms = codes(Drawn(torch.arange(5), points, noise), 0.5)
    mean, spread = codes.encoder(points)
    torch.testing.assert_close(found, mean + spread.exp().sqrt() * noise)
    torch.testing.assert_close(codes(Drawn(torch.arange(5), points, 0 * noise), 0.5)[0], mean)
    torch.testing.assert_close(terms["mean"], 1e-3 * mean.abs().mean())
    torch.testing.assert_close(terms["spread"], 1e-3 * (spread + 1).abs().mean())
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert codes.encoder.mean.weight.grad is not None


def test_reading_many_points_is_the_mean_of_subsets_in_any_order() -> None:
    made = encoder()
    points = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32)
    code = encoded(made, points)
    assert np.array_equal(encoded(made, points[::-1]), code)
    few = points[: ENCODED - 1]
    with torch.no_grad():
        np.testing.assert_allclose(encoded(made, few), made(torch.as_tensor(few)[None])[0][0], atol=1e-5)
        alone = [made(torch.as_tensor(points[rows : rows + ENCODED])[None])[0][0].numpy() for rows in (0, 1024, 2048)]
    scatter = np.std(alone, axis=0).max()
    assert np.abs(code - np.mean(alone, axis=0)).max() < 4 * scatter
    assert encoded(made, points[:1]).shape == (4,)


# A whole space --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AXES)
def test_a_learned_shape_is_recognised_from_other_points_of_it(name: str) -> None:
    space = learned_with_encoder()
    assert surface_error(space.decode(space[name]), AXES[name]) < 0.015
    found = space.encode(ellipsoid_points(AXES[name], 2000, seed=11).points, name="again")
    assert space.nearest(found) == name
    assert found.name == "again"
    assert surface_error(space.decode(found), AXES[name]) < 0.03


@pytest.mark.parametrize("axes", [(1.0, 0.6, 0.45), (1.0, 0.9, 0.5), (1.0, 0.62, 0.62)])
def test_an_unseen_shape_is_nearer_than_the_mean_is(axes: tuple[float, float, float]) -> None:
    space = learned_with_encoder()
    found = space.decode(space.encode(ellipsoid_points(axes, 2000, seed=11).points))
    mean = space.decode(space.mean())
    mean.frame, mean.box = found.frame, found.box
    assert surface_error(found, axes) < 0.05
    assert surface_error(found, axes) < 0.6 * mean_error(mean, axes)


def test_a_learned_shape_s_code_is_the_encoder_s_of_its_points() -> None:
    run = finished(rough_run(steps=5, encoder=True))
    space = run.space
    assert run._family is not None
    for shape, member in zip(space, run._family.members, strict=True):
        np.testing.assert_array_equal(shape.code, encoded(space.encoder, member.points))  # type: ignore[arg-type]
    assert space.info["encoder"] is True
    assert {"mean", "spread"} < set(run.history)
    assert "prior" not in run.history


def test_where_and_how_large_it_is_does_not_matter_but_with_one_frame_for_all_it_does() -> None:
    space = learned_with_encoder()
    points = ellipsoid_points(AXES["flat"], 2000).points
    moved = space.encode(points * 50 + 1000)
    np.testing.assert_allclose(moved.code, space.encode(points).code, atol=1e-3)
    assert moved.frame.scale == pytest.approx(50 / 0.85, rel=0.02)
    np.testing.assert_allclose(moved.frame.centre, 1000, atol=1)
    fixed = space.encode(points, Frame([0, 0, 0], 2.0))
    assert fixed.frame.scale == 2.0
    assert np.abs(fixed.code - space.encode(points).code).max() > 0.05
    shared = finished(rough_run(steps=2, encoder=True, together=True)).space
    assert shared.encode(points * 0.3).frame is shared.shapes[0].frame


def test_a_time_to_learn_and_break_off_and_store() -> None:
    run = rough_run(steps=50, encoder=True)
    for progress in run:
        if progress.step == 10:
            break
    space = storage.from_bytes(storage.to_bytes(run.space))
    assert space.info["steps"] == 10
    points = family("flat")["flat"].vertices
    np.testing.assert_array_equal(space.encode(points).code, run.space.encode(points).code)


def test_the_same_seed_learns_the_same() -> None:
    first, again, other = (finished(rough_run(steps=8, encoder=True, seed=seed)).space for seed in (0, 0, 1))
    assert np.array_equal(first.codes, again.codes)
    assert not np.array_equal(first.codes, other.codes)


def test_what_cannot_be_encoded_is_refused() -> None:
    space = learned_with_encoder()
    with pytest.raises(InputError, match="one place"):
        space.encode(np.zeros((10, 3)))
    assert encoder_for(7, 128).config == {"code_size": 7, "width": 64, "depth": 3}
