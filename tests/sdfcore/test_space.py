"""What can be done between the codes of a space, against arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_spaces import same, values

from sdfcore.errors import InputError
from sdfcore.geometry import Box, Frame
from sdfcore.networks import CodedMLP
from sdfcore.spaces import Latent, Space, along, interpolate, mix, path


def latent(name: str, seed: int, scale: float = 1.0) -> Latent:
    rng = np.random.default_rng(seed)
    lower, upper = -rng.uniform(0.3, 0.8, 3), rng.uniform(0.3, 0.8, 3)
    return Latent(rng.normal(size=6), Frame(rng.normal(size=3) * 1e3, scale), Box(lower, upper), name)


A, B, C = latent("a", 1), latent("b", 2, 1 / 3), latent("c", 3, 7.0)


def space(count: int = 5) -> Space:
    torch.manual_seed(0)
    network = CodedMLP(6, 16, 3, skip=2)
    return Space(network, [latent(f"s{i}", 10 + i, 1 + i / 10) for i in range(count)], None, {"recipe": "distance"})


# Mixing ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [[0, 1, 0], [0.0, 0.3, 0.0], [0, 1e-6, 0]])
def test_a_single_weight_gives_that_shape_exactly(weights: list[float]) -> None:
    assert same(mix([A, B, C], weights), B)


def test_a_blend_is_the_weighted_mean_of_codes_frames_and_boxes() -> None:
    found = mix([A, B, C], [1, 1, 2], "blend")
    mean = lambda of: 0.25 * of(A) + 0.25 * of(B) + 0.5 * of(C)
    np.testing.assert_allclose(found.code, mean(lambda s: s.code.astype(float)), rtol=1e-6)
    np.testing.assert_allclose(found.frame.centre, mean(lambda s: s.frame.centre), rtol=1e-12)
    assert found.frame.scale == pytest.approx(mean(lambda s: s.frame.scale))
    np.testing.assert_allclose(found.box.lower, mean(lambda s: s.box.lower))
    np.testing.assert_allclose(found.box.upper, mean(lambda s: s.box.upper))
    assert found.name == "blend"


def test_weights_beyond_one_extrapolate() -> None:
    found = mix([A, B], [1.5, -0.5])
    np.testing.assert_allclose(found.code, 1.5 * A.code - 0.5 * B.code, rtol=1e-5, atol=1e-6)
    far = mix([A, B], [-9, 10.0]) if A.frame.scale < B.frame.scale else mix([A, B], [10, -9.0])
    assert (far.box.lower <= far.box.upper).all(), "a box stays one"


@pytest.mark.parametrize(
    ("shapes", "weights", "said"),
    [
        ([A, B], [1.0], "2 shapes cannot be mixed by 1"),
        ([], [], "0 shapes"),
        ([A, B], [1.0, float("nan")], "cannot be mixed"),
        ([A, B], [1.0, -1.0], "sum to zero"),
        ([A, C], [2.0, -1.0], "nothing is left"),
    ],
)
def test_blends_that_are_none_are_refused(shapes: list[Latent], weights: list[float], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        mix(shapes, weights)
    assert caught.value.hint


# Ways -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spherical", [False, True])
def test_ends_are_the_shapes_themselves(spherical: bool) -> None:
    assert same(interpolate(A, B, 0, spherical=spherical), A)
    assert same(interpolate(A, B, 1, spherical=spherical), B)
    for t, wanted in ((0.0, A), (0.5, B), (1.0, C)):
        assert same(along([A, B, C], t, spherical=spherical), wanted)


@pytest.mark.parametrize("between", [1, 2, 6, 48])
def test_a_path_passes_through_every_stop(between: int) -> None:
    stops = [A, B, C, A, C, B, A, B]
    found = path(stops, between * (len(stops) - 1) + 1)
    assert len(found) == between * 7 + 1
    assert all(same(found[between * k], stop) for k, stop in enumerate(stops))


def test_a_path_is_even() -> None:
    codes = np.stack([shape.code for shape in path([A, B], 11)]).astype(float)
    steps = np.diff(codes, axis=0)
    np.testing.assert_allclose(steps, np.broadcast_to((B.code - A.code) / 10, steps.shape), atol=1e-6)
    scales = [shape.frame.scale for shape in path([A, B], 11)]
    np.testing.assert_allclose(np.diff(scales), (B.frame.scale - A.frame.scale) / 10)


def test_along_goes_on_beyond_the_ends() -> None:
    found = along([A, B, C], 1.25)
    np.testing.assert_allclose(found.code, C.code + 0.5 * (C.code - B.code), rtol=1e-5, atol=1e-6)
    assert same(along([A], 0.7), A)


def test_the_spherical_way_keeps_to_the_sphere() -> None:
    a, b = (Latent(code, A.frame, A.box) for code in ([3.0, 0, 0], [0.0, 3.0, 0]))
    found = interpolate(a, b, 1 / 3, spherical=True)
    np.testing.assert_allclose(found.code, [3 * np.cos(np.pi / 6), 3 * np.sin(np.pi / 6), 0], rtol=1e-6, atol=1e-7)
    longer = Latent([0.0, 6.0, 0], A.frame, A.box)
    assert np.linalg.norm(interpolate(a, longer, 0.5, spherical=True).code) == pytest.approx(4.5)
    assert np.linalg.norm(interpolate(a, b, 0.5).code) == pytest.approx(3 / np.sqrt(2)), "the straight one cuts through"


def test_spherical_between_codes_without_an_angle_is_straight() -> None:
    zero = Latent([0.0, 0, 0], A.frame, A.box)
    one, opposite = (Latent([sign * 2.0, 0, 0], A.frame, A.box) for sign in (1, -1))
    for a, b in ((zero, one), (one, one), (one, opposite)):
        found = interpolate(a, b, 0.25, spherical=True).code
        np.testing.assert_allclose(found, 0.75 * a.code + 0.25 * b.code, atol=1e-6)


@pytest.mark.parametrize("call", [lambda: path([A], 5), lambda: path([A, B], 1), lambda: along([], 0.5)])
def test_ways_that_are_none_are_refused(call: object) -> None:
    with pytest.raises(InputError, match="A path needs"):
        call()  # type: ignore[operator]


# Principal directions -------------------------------------------------------------------------------------------------


def test_directions_are_the_principal_axes_of_the_codes() -> None:
    whole = space(5)
    found = whole.directions()
    assert found.axes.shape == (4, 6), "one fewer than there are shapes"
    np.testing.assert_allclose(found.axes @ found.axes.T, np.eye(4), atol=1e-12)
    variance = np.linalg.eigvalsh(np.cov(whole.codes.T))[::-1]
    np.testing.assert_allclose(found.deviations**2, variance[:4], rtol=1e-6)
    np.testing.assert_allclose(found.explained, variance[:4] / variance.sum(), rtol=1e-6)
    assert found.explained.sum() == pytest.approx(1)
    projected = (whole.codes - found.mean) @ found.axes.T
    np.testing.assert_allclose(projected.std(axis=0, ddof=1), found.deviations, rtol=1e-6)
    assert whole.directions(2).axes.shape == (2, 6)
    assert whole.directions(2).explained.sum() < 1, "a share of the whole variance"


def test_directions_of_one_and_the_same_code_explain_nothing() -> None:
    one = latent("x", 1)
    whole = Space(CodedMLP(6, 16, 3, skip=2), [one, Latent(one.code, one.frame, one.box, "y")])
    assert np.isfinite(whole.directions().explained).all()
    assert np.allclose(whole.explore([3.0]).code, one.code)


def test_exploring_nothing_is_the_mean() -> None:
    whole = space()
    mean = whole.mean()
    np.testing.assert_allclose(mean.code, whole.codes.mean(axis=0), rtol=1e-6)
    for amounts in ([], [0.0], [0.0, 0.0, 0.0]):
        found = whole.explore(amounts)
        np.testing.assert_allclose(found.code, mean.code, atol=1e-7)
        np.testing.assert_allclose(found.frame.centre, mean.frame.centre)
        assert found.frame.scale == pytest.approx(mean.frame.scale)


def test_exploring_moves_along_the_directions_by_deviations() -> None:
    whole = space()
    found = whole.directions()
    moved = whole.explore([1.5, -2.0]).code - found.mean
    np.testing.assert_allclose(
        moved @ found.axes.T, [1.5 * found.deviations[0], -2 * found.deviations[1], 0, 0], atol=1e-6
    )
    assert len(whole.explore([0.1] * 50).code) == 6, "more amounts than directions do no harm"


def test_exploring_to_a_shape_finds_its_place_too() -> None:
    whole = space()
    found = whole.directions()
    for shape in whole:
        again = whole.explore((shape.code - found.mean) @ found.axes.T / found.deviations)
        np.testing.assert_allclose(again.code, shape.code, atol=1e-5)
        np.testing.assert_allclose(again.frame.centre, shape.frame.centre, rtol=1e-4)
        assert again.frame.scale == pytest.approx(shape.frame.scale, rel=1e-4)


def test_samples_are_seeded_and_as_wide_as_the_family() -> None:
    whole = space()
    assert same(whole.sample(3), whole.sample(3))
    assert not same(whole.sample(3), whole.sample(4))
    found = whole.directions()
    codes = np.stack([whole.sample(seed).code for seed in range(400)])
    deviations = ((codes - found.mean) @ found.axes.T).std(axis=0)
    np.testing.assert_allclose(deviations, found.deviations, rtol=0.12)
    np.testing.assert_allclose(whole.sample(1, spread=0.0).code, whole.mean().code, atol=1e-7)
    scales = [whole.sample(seed, 3.0).frame.scale for seed in range(100)]
    assert min(scales) > 1 / 4
    assert max(scales) < 1.4 * 4


# Shapes ---------------------------------------------------------------------------------------------------------------


def test_a_decoded_shape_stands_in_the_world() -> None:
    whole = space()
    shape = whole["s3"]
    sdf = whole.decode(shape)
    points = np.random.default_rng(0).uniform(-1, 1, (50, 3))
    with torch.no_grad():
        unit = torch.as_tensor(points, dtype=torch.float32)[None]
        wanted = whole.decoder(unit, torch.as_tensor(shape.code)[None])[0].numpy() * shape.frame.scale
    np.testing.assert_allclose(values(sdf, points * shape.frame.scale + shape.frame.centre), wanted, atol=1e-4)
    assert sdf.info["shape"] == "s3"
    assert sdf.info["recipe"] == "distance"
    assert not any(parameter.requires_grad for parameter in sdf.network.parameters())


def test_shapes_are_found_by_name_and_by_nearness() -> None:
    whole = space()
    assert whole.names == [f"s{i}" for i in range(5)] == [shape.name for shape in whole]
    assert len(whole) == 5
    near = Latent(whole["s2"].code + 1e-3, A.frame, A.box)
    assert whole.nearest(near) == "s2"
    with pytest.raises(InputError, match="no shape 'chair'") as caught:
        whole["chair"]
    assert "s0, s1, s2" in caught.value.hint


def test_what_does_not_fit_is_refused() -> None:
    whole = space()
    with pytest.raises(InputError, match="length 5 does not fit"):
        whole.decode(Latent(np.zeros(5), A.frame, A.box))
    with pytest.raises(InputError, match="called 'a'"):
        Space(whole.network, [A, A])
    with pytest.raises(InputError, match="no encoder"):
        whole.encode(np.eye(3))
