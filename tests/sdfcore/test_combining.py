"""Fields made of fields: values, derivatives, volumes, files, and that nothing strays beyond the boxes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sdfcore import combining, storage
from sdfcore.errors import InputError
from sdfcore.extraction import extract_sdf
from sdfcore.fields import NeuralSDF
from sdfcore.geometry import Box, Frame
from sdfcore.networks import MLP, NETWORKS, Body, Boxed, Combined, Offset, Placed
from sdfcore.networks.combined import STYLES, blended
from sdfcore.topology import topology

TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def ball(x: float = 0.0, radius: float = 1.0) -> NeuralSDF:
    return combining.body("sphere", [radius], (x, 0.0, 0.0))


def at(*places: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor(places, dtype=torch.float64)


def values(sdf: NeuralSDF, points: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return sdf(points).numpy()


BODIES = {
    "sphere": ([0.7], 4 / 3 * math.pi * 0.7**3),
    "box": ([0.5, 0.8, 0.3], 8 * 0.5 * 0.8 * 0.3),
    "torus": ([0.8, 0.25], 2 * math.pi**2 * 0.8 * 0.25**2),
    "cylinder": ([0.5, 0.9], math.pi * 0.5**2 * 1.8),
    "capsule": ([0.4, 0.6], math.pi * 0.4**2 * 1.2 + 4 / 3 * math.pi * 0.4**3),
}


@pytest.mark.parametrize("shape", BODIES)
def test_bodies_have_their_volume_and_slope_one(shape: str) -> None:
    sizes, volume = BODIES[shape]
    sdf = combining.body(shape, sizes, (3.0, -2.0, 1.0))
    mesh = extract_sdf(sdf, resolution=96)
    assert topology(mesh).watertight
    assert mesh.volume() == pytest.approx(volume, rel=0.01)
    points = torch.rand(500, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 4 - 2
    _, gradient = sdf.value_and_gradient(points + at((3.0, -2.0, 1.0)))
    lengths = gradient.detach().norm(dim=1)
    assert float((lengths - 1).abs().quantile(0.98)) < 1e-3


def test_a_plane_cuts() -> None:
    half = combining.combine([ball(), combining.body("plane", reach=2.0)], "intersection")
    mesh = extract_sdf(half, resolution=96)
    assert mesh.volume() == pytest.approx(2 / 3 * math.pi, rel=0.01)
    assert mesh.vertices[:, 2].max() < 0.02


@pytest.mark.parametrize("radius", [1.0, 5.0])
def test_a_plane_cuts_shapes_of_any_size(radius: float) -> None:
    plane = combining.body("plane")
    for cut in (plane, combining.moved(plane, rotation=np.diag([1.0, -1.0, -1.0]))):
        half = combining.combine([combining.body("sphere", [radius]), cut], "intersection")
        mesh = extract_sdf(half, resolution=96)
        assert mesh.volume() == pytest.approx(2 / 3 * math.pi * radius**3, rel=0.01)


def lens(apart: float) -> float:
    """Volume common to two balls of radius 1."""
    return math.pi * (4 + apart) * (2 - apart) ** 2 / 12


@pytest.mark.parametrize("operation", ["union", "intersection", "difference"])
def test_volumes_of_two_balls(operation: str) -> None:
    whole, common = 4 / 3 * math.pi, lens(1.2)
    expected = {"union": 2 * whole - common, "intersection": common, "difference": whole - common}[operation]
    mesh = extract_sdf(combining.combine([ball(), ball(1.2)], operation), resolution=128)
    assert topology(mesh).watertight
    assert mesh.volume() == pytest.approx(expected, rel=0.01)


def test_three_balls_and_a_morph() -> None:
    three = combining.combine([ball(), ball(1.2), ball(-1.2)], "union")
    assert values(three, at((2.0, 0, 0), (-2.0, 0, 0), (0.0, 0, 0))).max() < 0
    half = combining.combine([ball(0, 1.0), ball(0, 0.5)], "morph", share=0.5)
    np.testing.assert_allclose(values(half, at((0.75, 0, 0), (0.0, 0, 0.75))), 0, atol=1e-6)


@pytest.mark.parametrize("style", STYLES)
def test_blends_add_at_the_seam_and_nowhere_else(style: str) -> None:
    plain, soft = (combining.combine([ball(), ball(1.5)], radius=r, style=style) for r in (0.0, 0.3))
    seam, far = at((0.75, 0.68, 0.0)), at((-0.9, 0.5, 0.0), (2.4, 0.0, 0.7))
    assert values(soft, seam)[0] < values(plain, seam)[0] - 0.01
    np.testing.assert_allclose(values(soft, far), values(plain, far), atol=1e-6)
    mesh = extract_sdf(soft, resolution=96)
    assert topology(mesh).components == 1
    assert mesh.volume() > extract_sdf(plain, resolution=96).volume()


@pytest.mark.parametrize("style", STYLES)
def test_a_blended_minimum_never_falls_where_both_rise(style: str) -> None:
    draw = torch.Generator().manual_seed(0)
    a, b, more, also = (torch.rand(4000, generator=draw, dtype=torch.float64) * 2 - 1 for _ in range(4))
    a.requires_grad_(True)
    b.requires_grad_(True)
    value, slope_a, slope_b = blended(a, b, 0.4, style)
    found = torch.autograd.grad(value.sum(), (a, b))
    torch.testing.assert_close((slope_a, slope_b), found, atol=1e-9, rtol=1e-6)
    assert float(torch.stack(found).min()) >= 0
    assert (blended(a + more.abs(), b + also.abs(), 0.4, style)[0] >= value - 1e-12).all()
    assert (value <= torch.minimum(a, b) + 1e-12).all()


def test_offsets_and_shells() -> None:
    larger = combining.offset(ball(), 0.3)
    assert extract_sdf(larger, resolution=96).volume() == pytest.approx(4 / 3 * math.pi * 1.3**3, rel=0.01)
    shell = combining.offset(ball(), wall=0.2)
    mesh = extract_sdf(shell, resolution=128)
    assert topology(mesh).components == 2
    assert mesh.volume() == pytest.approx(4 / 3 * math.pi * (1.1**3 - 0.9**3), rel=0.02)


def test_an_offset_of_a_network_goes_as_far_as_it_says() -> None:
    torch.manual_seed(0)
    sdf = NeuralSDF(MLP(64, 4, 2, beta=100.0, radius=0.35).eval(), Frame(np.zeros(3), 2.0), Box([-0.5] * 3, [0.5] * 3))
    made, asked = extract_sdf(combining.offset(sdf, 0.4), resolution=96), extract_sdf(sdf, resolution=96, level=0.4)
    assert made.volume() == pytest.approx(asked.volume(), rel=4e-3)


def test_moved_shapes() -> None:
    box = combining.body("box", [0.2, 0.6, 1.0])
    turned = combining.moved(box, scale=2.0, rotation=TURN, shift=(5.0, 0.0, 0.0))
    mesh = extract_sdf(turned, resolution=96)
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), [2.4, 0.8, 4.0], rtol=0.01)
    np.testing.assert_allclose(mesh.vertices.mean(axis=0), [5.0, 0, 0], atol=0.05)
    larger = combining.moved(ball(), scale=3.0, shift=(1.0, 0, 0))
    np.testing.assert_allclose(values(larger, at((4.0, 0, 0), (1.0, 0, 0))), [0.0, -3.0], atol=1e-5)


class Stray(torch.nn.Module):
    """A ball in the unit box, and solid all over beyond: as fitted networks may be."""

    kind = "stray"

    def __init__(self) -> None:
        super().__init__()
        self.held = torch.nn.Parameter(torch.zeros(1))
        self.config: dict[str, float] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x.abs().amax(dim=-1) > 1.2, -1.0, x.norm(dim=-1) - 0.5).to(x.dtype) + 0 * self.held


def test_what_strays_outside_the_box_of_a_fit_is_not_heard() -> None:
    stray = NeuralSDF(Stray(), Frame(np.zeros(3), 1.0), Box(np.full(3, -0.5), np.full(3, 0.5)))
    both = combining.combine([stray, ball(3.0)])
    mesh = extract_sdf(both, resolution=96)
    assert topology(mesh).components == 2
    assert mesh.volume() == pytest.approx(4 / 3 * math.pi * (1 + 0.125), rel=0.02)


def mixed() -> Combined:
    torch.manual_seed(0)
    fitted = Boxed(MLP(16, 2, 0), -0.8 * torch.ones(3), 0.7 * torch.ones(3))
    turned = Placed(
        Offset(Body("torus", [0.5, 0.2]), 0.02, 0.05), 0.8, torch.from_numpy(TURN), torch.tensor([0.2, 0, 0.1])
    )
    return Combined([fitted, turned, Body("box", [0.2, 0.3, 0.9])], "union", 0.1, "round")


@pytest.mark.parametrize("operation", ["union", "intersection", "difference"])
@pytest.mark.parametrize("style", STYLES)
def test_derivatives_are_pushed_as_autograd_has_them(operation: str, style: str) -> None:
    network = Combined(list(mixed().parts), operation, 0.1, style).double()
    points = torch.rand(400, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2.4 - 1.2
    x = points.clone().requires_grad_(True)
    (expected,) = torch.autograd.grad(network(x).sum(), x)
    eye = torch.eye(3, dtype=torch.float64)[:, None].expand(3, len(points), 3)
    value, along = network.pushforward(points, eye)
    torch.testing.assert_close(value, network(points))
    torch.testing.assert_close(along.T, expected, atol=1e-8, rtol=1e-6)


def test_combined_shapes_are_kept_in_a_file(tmp_path: Path) -> None:
    sdf = NeuralSDF(mixed(), Frame(np.array([1.0, 2, 3]), 2.0), Box(np.full(3, -1.0), np.full(3, 1.0)))
    storage.save(sdf, tmp_path / "m.safetensors")
    again = storage.load(tmp_path / "m.safetensors")
    points = torch.rand(200, 3) * 4
    assert torch.equal(again(points), sdf(points))
    assert {"combined", "placed", "boxed", "offset", "body"} <= set(NETWORKS)


def test_a_shape_combined_with_itself_is_kept(tmp_path: Path) -> None:
    sdf = NeuralSDF(MLP(16, 2, 0).eval(), Frame(np.zeros(3), 1.0), Box([-0.5] * 3, [0.5] * 3))
    both = combining.combine([sdf, combining.moved(sdf, shift=[1.0, 0, 0])])
    storage.save(both, tmp_path / "m.safetensors")
    points = torch.rand(200, 3)
    assert torch.equal(storage.load(tmp_path / "m.safetensors")(points), both(points))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: combining.combine([ball()]),
        lambda: combining.combine([ball(), ball()], "melt"),
        lambda: combining.combine([ball(), ball(), ball()], "morph"),
        lambda: combining.combine([ball(), ball()], radius=-1.0),
        lambda: combining.combine([ball(), ball()], style="soft"),
        lambda: combining.body("cone", [1.0]),
        lambda: combining.body("box", [1.0]),
        lambda: combining.body("sphere", [-1.0]),
        lambda: combining.moved(ball(), scale=0.0),
        lambda: combining.moved(ball(), rotation=2 * np.eye(3)),
        lambda: combining.moved(ball(), rotation=-np.eye(3)),
        lambda: combining.offset(ball(), float("nan")),
    ],
)
def test_what_cannot_be_is_refused(wrong) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError):
        wrong()


def test_an_affine_matrix_moves_a_shape() -> None:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = 2 * TURN, [1.0, 2.0, 3.0]
    box = combining.body("box", [0.2, 0.6, 1.0], (1.0, 0.0, 0.0))
    placed = combining.moved_by(box, matrix)
    points = torch.rand(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 4
    inverse = torch.from_numpy(np.linalg.inv(matrix))
    before = points @ inverse[:3, :3].T + inverse[:3, 3]
    near = np.abs(values(box, before)) < 0.3
    np.testing.assert_allclose(values(placed, points)[near], 2 * values(box, before)[near], atol=1e-5)


@pytest.mark.parametrize("wrong", [np.diag([1.0, 2, 1, 1]), np.diag([-1.0, 1, 1, 1]), np.zeros((4, 4)), np.eye(3)])
def test_what_bends_distances_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(InputError):
        combining.moved_by(ball(), wrong)
