"""Displacement fields: their derivatives, their bounds; detail taken off, strengthened and put elsewhere."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sdfcore import cli, combining, detail, storage
from sdfcore.errors import InputError
from sdfcore.fields import NeuralSDF, value_and_gradient
from sdfcore.fitting import turn_outward
from sdfcore.geometry import Box, Frame
from sdfcore.networks import MLP, Body, Displaced, OnSurface, Siren
from sdfcore.objectives import At
from sdfcore.queries.bounds import bound_of, over_boxes
from sdfcore.recipes.idf import RECIPE, base_share
from sdfcore.sampling import Batch

RADIUS, OUT = 0.5, 0.03


def level(height: float, amplitude: float = 0.05) -> Siren:
    """A detail network that says the same everywhere: ``height`` outwards."""
    network = Siren(8, 2)
    with torch.no_grad():
        network.last.weight.zero_()
        network.last.bias.fill_(math.atanh(-height / amplitude))
    return network


def wavy(seed: int = 0) -> Siren:
    torch.manual_seed(seed)
    network = Siren(24, 2, omega=20.0)
    with torch.no_grad():
        network.last.weight *= 10
    return network


def smooth() -> MLP:
    """About a sphere, and smooth."""
    torch.manual_seed(0)
    return MLP(24, 3, skip=0, beta=10.0)


def ball(network: nn.Module, centre: tuple[float, float, float] = (3.0, 2.0, 1.0), scale: float = 2.0) -> NeuralSDF:
    box = Box(np.full(3, -RADIUS), np.full(3, RADIUS))
    return NeuralSDF(network.eval(), Frame(np.array(centre), scale), box, {"recipe": "idf", "resolution": 64})


def risen() -> NeuralSDF:
    """A ball whose detail is a layer of the same height all over."""
    return ball(Displaced(Body("sphere", [RADIUS]), level(OUT)))


def risen_by() -> float:
    """How far out its surface lies, unit box: less than the height, which fades."""
    out = OUT
    for _ in range(60):
        out = OUT / (1 + (out / 0.05) ** 4)
    return out


def radius_of(sdf: NeuralSDF) -> float:
    """Along an axis, in the unit box, by halves."""
    low, high = 0.1, 0.9
    for _ in range(40):
        middle = (low + high) / 2
        inside = float(sdf.network(torch.tensor([[middle, 0.0, 0.0]])).detach()) < 0
        low, high = (middle, high) if inside else (low, middle)
    return low


def points(count: int = 200, half: float = 0.8) -> torch.Tensor:
    drawn = torch.rand(count, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return (drawn * 2 - 1) * half


@pytest.mark.parametrize("base", [smooth, lambda: Siren(16, 2, omega=5.0)])
def test_the_derivatives_are_those_of_finite_differences(base) -> None:
    network, at, step = Displaced(base(), wavy()).double(), points(), 1e-6
    value, gradient = value_and_gradient(network, at)
    with torch.no_grad():
        moved = [(network(at + step * e) - network(at - step * e)) / (2 * step) for e in torch.eye(3).double()]
        torch.testing.assert_close(value, network(at))
    torch.testing.assert_close(gradient.detach(), torch.stack(moved, dim=1), atol=2e-5, rtol=2e-5)


def test_a_loss_on_its_gradient_reaches_all_weights() -> None:
    network = Displaced(smooth(), wavy())
    value, gradient = value_and_gradient(network, points(50).float())
    ((gradient.norm(dim=1) - 1).square().mean() + value.abs().mean()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert all(bool(parameter.grad.any()) for parameter in network.base.parameters())


def test_the_surface_rises_by_the_height() -> None:
    sdf = risen()
    fade = 1 / (1 + (OUT / 0.05) ** 4)
    out = radius_of(sdf) - RADIUS
    assert OUT * fade * 0.98 < out < OUT, "attenuated where the base is not 0"
    heights = detail.heights(sdf, np.array([[4.0, 2.0, 1.0]]))
    np.testing.assert_allclose(heights, risen_by() * 2.0, rtol=1e-5)
    np.testing.assert_allclose(heights, out * 2.0, rtol=0.02)


@pytest.mark.parametrize("strength", [0.0, 2.0, -1.0])
def test_detail_is_as_strong_as_is_asked(strength: float) -> None:
    sdf = risen()
    found = radius_of(detail.with_strength(sdf, strength)) - RADIUS
    once = radius_of(sdf) - RADIUS
    assert found == pytest.approx(strength * once, abs=1e-6 if strength == 0 else 0.05 * once)
    assert radius_of(sdf) - RADIUS == once, "the fit itself stays"
    assert detail.with_strength(sdf, strength).info["detail"] == strength


def test_the_base_as_a_mesh_with_the_detail_on_it() -> None:
    mesh = detail.split(risen(), resolution=48)
    apart = np.linalg.norm(mesh.vertices - [3.0, 2.0, 1.0], axis=1)
    np.testing.assert_allclose(apart, RADIUS * 2.0, rtol=1e-3)
    np.testing.assert_allclose(mesh.attributes[detail.ATTRIBUTE], risen_by() * 2.0, rtol=1e-5)


def test_detail_is_carried_to_the_nearest_place() -> None:
    inner, base = wavy(), Body("sphere", [RADIUS])
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2))).Q
    turn = turn * torch.linalg.det(turn)
    shift = torch.tensor([0.1, -0.2, 0.3])
    carried = OnSurface(inner, base, 0.5, turn, shift)
    at = points(100).float()
    own = (at - shift) @ turn.T / 0.5
    own = own.clamp(-1.5, 1.5)
    foot = RADIUS * own / own.norm(dim=1, keepdim=True)
    with torch.no_grad():
        torch.testing.assert_close(carried(at), inner(foot), atol=1e-4, rtol=0)


def test_a_target_takes_the_detail_at_its_own_size() -> None:
    source, target = risen(), combining.body("sphere", [3.0], (-7.0, 0.0, 0.0))
    found = detail.transferred(source, target)
    outer = found.frame.scale * radius_of(found)
    assert outer == pytest.approx(3.0 + OUT * 2.0 * 3.0, rel=0.02), "the boxes lie on one another"
    same = detail.transferred(source, target, placement=np.diag([1.0, 1, 1, 1]))
    assert same.frame.scale * radius_of(same) == pytest.approx(3.0 + OUT * 2.0, rel=0.01), "the worlds do"
    assert detail.transferred(source, target, strength=0.0).frame.scale * radius_of(target) == pytest.approx(3.0)


def test_it_can_be_kept(tmp_path: Path) -> None:
    made = detail.transferred(risen(), ball(Displaced(smooth(), wavy()), (0.0, 0.0, 0.0)))
    storage.save(made, tmp_path / "made.safetensors")
    again = storage.load(tmp_path / "made.safetensors")
    at = points(50)
    with torch.no_grad():
        torch.testing.assert_close(again(at), made(at), rtol=0, atol=0)


@pytest.mark.parametrize("strength", [1.0, -3.0])
def test_no_value_lies_outside_its_bounds(strength: float) -> None:
    network = Displaced(smooth(), wavy(), 0.05 * strength).eval()
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(200, 3, generator=generator) * 1.6 - 0.8
    half = 0.02 + 0.1 * torch.rand(200, 3, generator=generator)
    low, high = over_boxes(bound_of(network), centre - half, centre + half)
    inside = centre[:, None] + half[:, None] * (torch.rand(200, 300, 3, generator=generator) * 2 - 1)
    with torch.no_grad():
        value = network(inside.reshape(-1, 3)).reshape(200, 300)
    assert bool((value >= low[:, None]).all())
    assert bool((value <= high[:, None]).all())


def test_turning_the_field_turns_all_of_it() -> None:
    torch.manual_seed(3)
    network = Displaced(Siren(16, 2, omega=3.0), wavy())
    with torch.no_grad():
        network.base.last.bias.fill_(-5.0)
        before = network(points(50).float())
        turn_outward(network)
        torch.testing.assert_close(network(points(50).float()), -before)


def test_the_loss_goes_from_the_base_to_the_whole() -> None:
    shares = [base_share(p) for p in (0.0, 0.2, 0.6, 1.0)]
    assert shares == pytest.approx([1.0, 1.0, 0.5, 0.0])
    network = Displaced(smooth(), wavy())
    at = points(20).float()
    batch = Batch(at, at, normals=nn.functional.normalize(at, dim=1))
    early = RECIPE.objective(At.of(network, batch), 0.1)
    assert set(early) == {"base_manifold", "base_normals", "base_off_surface", "base_eikonal"}
    with torch.no_grad():
        assert float(early["base_manifold"]) == pytest.approx(400 * float(network.base(at).abs().mean()), rel=1e-5)
    late = RECIPE.objective(At.of(network, batch), 1.0)
    assert set(late) == {"manifold", "normals", "off_surface", "eikonal"}


def test_other_fits_have_no_detail() -> None:
    plain = combining.body("sphere", [1.0])
    for ask in (detail.base_of, detail.split, lambda sdf: detail.transferred(sdf, risen())):
        with pytest.raises(InputError, match="keep detail apart"):
            ask(plain)


@pytest.mark.parametrize(
    "placement", [np.diag([1.0, 2, 1, 1]), np.diag([-1.0, 1, 1, 1]), np.full((4, 4), np.nan), np.eye(3)]
)
def test_a_placement_has_to_keep_shapes(placement: np.ndarray) -> None:
    with pytest.raises(InputError):
        detail.transferred(risen(), risen(), placement=placement)
    with pytest.raises(InputError, match="strength"):
        detail.with_strength(risen(), math.inf)


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage.save(risen(), tmp_path / "risen.safetensors")
    storage.save(combining.body("sphere", [3.0]), tmp_path / "ball.safetensors")
    model, other = str(tmp_path / "risen.safetensors"), str(tmp_path / "ball.safetensors")
    out, kept = tmp_path / "out.ply", tmp_path / "kept.safetensors"
    assert cli.main(["detail", "split", model, "-o", str(tmp_path / "base.npz"), "-q"]) == 0
    with np.load(tmp_path / "base.npz") as held:
        np.testing.assert_allclose(held[detail.ATTRIBUTE], risen_by() * 2.0, rtol=1e-4)
    assert cli.main(["detail", "strength", model, "--by", "0", "-o", str(out), "--save", str(kept), "-q"]) == 0
    assert radius_of(storage.load(kept)) == pytest.approx(RADIUS, abs=1e-5)
    assert cli.main(["detail", "transfer", model, other, "-o", str(out), "--resolution", "48"]) == 0
    assert "watertight" in capsys.readouterr().out
    assert cli.main(["detail", "transfer", model, other, "-o", str(out), "--save", model]) == 2
    assert "the same" in capsys.readouterr().err
    assert cli.main(["detail", "split", other, "-o", str(out)]) == 2
    assert "recipe idf" in capsys.readouterr().err
