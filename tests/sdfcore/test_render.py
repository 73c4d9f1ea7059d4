"""Pictures from rays: the right silhouette, depth, normals, shadows; and from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from sdfcore import cli, combining, storage
from sdfcore.errors import InputError
from sdfcore.fields import NeuralSDF
from sdfcore.geometry import Box, Frame
from sdfcore.networks import DeepSDF
from sdfcore.queries.render import Camera, render

CUBE = Box(np.full(3, -0.5), np.full(3, 0.5))


def octahedron(at: tuple[float, float, float] = (1.0, 2.0, 3.0), scale: float = 2.0) -> NeuralSDF:
    """|x| + |y| + |z| = 0.5 in its unit box, √3 times as steep as a distance."""
    network = DeepSDF([6], squashes=0)
    with torch.no_grad():
        first, last = network.layers
        first.weight.copy_(torch.cat([torch.eye(3), -torch.eye(3)]))
        first.bias.zero_()
        last.weight.fill_(1.0)
        last.bias.fill_(-0.5)
    return NeuralSDF(network.eval(), Frame(np.array(at), scale), CUBE)


def facing(sdf: NeuralSDF) -> Camera:
    """From the world's +x, far away."""
    return Camera(sdf.frame.centre + np.array([40.0, 0, 0]), sdf.frame.centre, np.array([0.0, 0, 1]), 4.0)


@pytest.mark.parametrize("certain", [False, True])
def test_silhouette_depth_and_normals(certain: bool) -> None:
    sdf, told = octahedron(), []
    picture = render(sdf, facing(sdf), 64, 48, certain=certain, on_progress=told.append)
    assert picture.colour.shape == (48, 64, 4)
    seen = picture.colour[..., 3] > 0
    width = 2 * 40 * np.tan(np.radians(2)) / 64  # of a pixel, at the shape
    assert seen.sum() * width**2 == pytest.approx(2 * 1.0**2, rel=0.05)  # a square that stands on its tip
    assert picture.depth[seen].min() == pytest.approx(39.0, abs=0.05)
    assert np.isinf(picture.depth[~seen]).all()
    lengths = np.linalg.norm(picture.normals[seen], axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-4)
    np.testing.assert_allclose(np.abs(picture.normals[seen]), 1 / np.sqrt(3), atol=1e-3)
    assert (picture.normals[seen][:, 0] > 0).all()
    assert picture.normals[:24][seen[:24]][:, 2].mean() > 0  # the upper half of the picture is up in the world
    assert picture.normals[:, :30][seen[:, :30]][:, 1].mean() < 0  # and -y to the left
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert picture.evaluations > 1


def test_a_shape_far_off_looks_the_same() -> None:
    near, far = (octahedron(at) for at in ((0.0, 0.0, 0.0), (5e6, -3e6, 1e6)))
    one, other = (render(sdf, facing(sdf), 32, 32) for sdf in (near, far))
    np.testing.assert_allclose(one.depth, other.depth, atol=1e-3)
    np.testing.assert_allclose(one.colour, other.colour, atol=1e-2)


def test_levels_grow_the_picture() -> None:
    sdf = octahedron()
    small, large = (render(sdf, facing(sdf), 48, 48, level=level).colour[..., 3].sum() for level in (-0.2, 0.2))
    assert small < large


def test_light_falls_from_where_it_is() -> None:
    sdf = octahedron()
    above, below = (render(sdf, facing(sdf), 48, 48, light=np.array([0.3, 0, z])).colour for z in (1.0, -1.0))
    assert above[:20, :, :3].sum() > 1.2 * below[:20, :, :3].sum()
    assert below[28:, :, :3].sum() > 1.2 * above[28:, :, :3].sum()


def test_a_shape_throws_a_shadow_on_another() -> None:
    from sdfcore.queries.render import _Scene

    sdf = octahedron((0.0, 0.0, 0.0), 1.0)
    scene = _Scene(sdf, 0.0, certain=False)
    up = torch.tensor([0.0, 0.0, 1.0])
    under, aside = torch.tensor([[0.0, 0.0, -0.52]]), torch.tensor([[0.53, 0.0, -0.3]])
    assert scene._unshadowed(under, up) < 0.05
    assert scene._unshadowed(torch.tensor([[0.0, 0.0, 0.54]]), up) > 0.95
    assert 0 < scene._unshadowed(aside, up) < 1


def test_a_camera_that_sees_all() -> None:
    sdf = octahedron()
    for up in "xyz":
        camera = Camera.around(sdf.frame.box_to_world(CUBE), up=up)
        seen = render(sdf, camera, 40, 40).colour[..., 3] > 0
        assert 0.05 < seen.mean() < 0.7
        border = np.concatenate([seen[0], seen[-1], seen[:, 0], seen[:, -1]])
        assert not border.any()


def test_a_camera_needs_a_direction() -> None:
    with pytest.raises(InputError, match="upwards"):
        Camera(np.array([0.0, 0, 5]), np.zeros(3), np.array([0.0, 0, 1])).rays(4, 4)


def test_the_command_writes_a_picture_and_depth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage.save(octahedron(), tmp_path / "m.safetensors")
    words = ["render", str(tmp_path / "m.safetensors"), "-o", str(tmp_path / "m.png"), "--size", "40x30"]
    assert cli.main([*words, "--depth", str(tmp_path / "m.npz"), "--camera", "8,2,4", "--certain"]) == 0
    assert "40 x 30 pixels" in capsys.readouterr().out
    assert imread(tmp_path / "m.png").shape == (30, 40, 4)
    with np.load(tmp_path / "m.npz") as held:
        assert held["depth"].shape == (30, 40)
        assert np.isfinite(held["depth"]).any()
    passes = ["--depth", str(tmp_path / "d.png"), "--normals", str(tmp_path / "n.png")]
    assert cli.main([*words, *passes, "--camera", "8,2,4"]) == 0
    depth, normals = imread(tmp_path / "d.png"), imread(tmp_path / "n.png")
    seen = depth[..., 3] > 0.99
    assert seen.any()
    assert depth[seen][:, 0].max() > 0.95
    assert depth[seen][:, 0].min() < 0.2
    np.testing.assert_allclose(np.linalg.norm(2 * normals[seen][:, :3] - 1, axis=1), 1.0, atol=0.03)
    assert (normals[seen][:, 0] > 0.5).mean() > 0.9, "it is seen from +x"
    for name in ("d.png", "n.png"):
        (tmp_path / name).unlink()
    model = (tmp_path / "m.safetensors").read_bytes()
    for depth in ("d", "m.safetensors", "nowhere/d.npz"):
        assert cli.main([*words, "--depth", str(tmp_path / depth)]) == 2
    assert (tmp_path / "m.safetensors").read_bytes() == model
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.npz", "m.png", "m.safetensors"]
    capsys.readouterr()
    assert cli.main([*words[:-1], "40by30"]) == 2
    assert "no size" in capsys.readouterr().err
    assert cli.main([*words, "--camera", "1,2"]) == 2
    assert "three numbers" in capsys.readouterr().err


def test_certain_rays_meet_the_cap_as_others_do() -> None:
    sdf = combining.body("plane")
    camera = Camera(np.array([3.0, 2.0, 2.0]), np.array([0.0, 0, -0.3]), np.array([0.0, 0, 1]), 30.0)
    plain, certain = (render(sdf, camera, 48, 48, certain=sure) for sure in (False, True))
    differ = (plain.colour[..., 3] > 0) != (certain.colour[..., 3] > 0)
    assert differ.mean() < 0.01
    both = (plain.colour[..., 3] > 0) & (certain.colour[..., 3] > 0)
    assert np.median(np.abs(plain.depth[both] - certain.depth[both])) < 1e-2
