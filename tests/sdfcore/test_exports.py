"""Fields for other programs: ONNX as its reference evaluates it, shaders' texts, bands of voxels.

What the shaders compute is tested inside Blender, which has compilers for them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.reference
import pytest
import torch
from torch import nn

from sdfcore import cli, combining, storage
from sdfcore.errors import ExportError, InputError, UnsupportedLayerError
from sdfcore.exports import differs
from sdfcore.exports import onnx as onnx_module
from sdfcore.exports.onnx import to_onnx
from sdfcore.exports.shader import number, to_glsl, to_osl
from sdfcore.exports.volume import narrow_band
from sdfcore.fields import NeuralSDF
from sdfcore.geometry import Box, Frame
from sdfcore.networks import FeatureGrid, HashGrid, Siren

CENTRE = np.array([3.0, -2.0, 1.0])


def around(network: nn.Module) -> NeuralSDF:
    return NeuralSDF(network.eval(), Frame(CENTRE, 2.0), Box(np.full(3, -0.8), np.full(3, 0.8)), {"recipe": "test"})


def siren() -> Siren:
    torch.manual_seed(0)
    return Siren(16, 2, omega=10.0)


def grid() -> FeatureGrid:
    torch.manual_seed(0)
    near = np.random.default_rng(0).uniform(-0.5, 0.5, (500, 3))
    network = FeatureGrid.around(near, (2, 4, 8), dense=4, width=8, depth=1)
    with torch.no_grad():
        network.features[1:].normal_(0, 0.3)
    return network


def hashed() -> HashGrid:
    torch.manual_seed(0)
    network = HashGrid(levels=3, coarsest=4, finest=16, log_rows=9, width=8)
    with torch.no_grad():
        network.features.normal_(0, 0.3)
    return network


@pytest.mark.parametrize("make", [siren, grid, hashed])
def test_an_onnx_model_says_what_the_network_says(make) -> None:
    sdf = around(make())
    model = onnx.load_from_string(to_onnx(sdf))
    onnx.checker.check_model(model)
    places = CENTRE + np.random.default_rng(1).uniform(-1.9, 1.9, (77, 3))  # another number than it was made with
    (found,) = onnx.reference.ReferenceEvaluator(model).run(None, {"points": places.astype(np.float32)})
    with torch.no_grad():
        expected = sdf(torch.tensor(places, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5)
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert told["recipe"] == "test"
    assert "negative inside" in told["description"]


def test_an_export_that_says_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sdf = around(siren())
    with pytest.raises(ExportError, match="other values"):
        differs(sdf, np.zeros(5), np.full(5, 1e-3), "ONNX")
    with pytest.raises(ExportError):
        differs(sdf, np.full(5, np.nan), np.zeros(5), "ONNX")
    differs(sdf, np.zeros(5), np.full(5, 1e-5), "ONNX")
    right = onnx_module._World.forward
    monkeypatch.setattr(
        onnx_module._World,
        "forward",
        lambda self, points: right(self, points) * (1.01 if torch.compiler.is_compiling() else 1.0),
    )
    with pytest.raises(ExportError, match="other values"):
        to_onnx(sdf)


def test_without_the_packages_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(InputError, match="onnxscript") as caught:
        to_onnx(around(siren()))
    assert "pip install" in caught.value.hint


def test_shaders_name_their_function_and_count_their_weights() -> None:
    sdf = around(siren())
    glsl, osl = to_glsl(sdf, "field"), to_osl(sdf)
    assert "float field(vec3 p)" in glsl
    assert "const float w0_0[48]" in glsl
    assert f"{4 * 16 + 17 * 16 + 17} weights" in glsl
    assert "shader neural_sdf(" in osl
    assert "vec3" not in osl
    assert glsl.isascii()
    assert osl.isascii()


def test_networks_that_no_shader_can_hold_are_refused() -> None:
    for make in (to_glsl, to_osl):
        with pytest.raises(UnsupportedLayerError, match="FeatureGrid"):
            make(around(grid()))
        with pytest.raises(UnsupportedLayerError, match="100000 weights"):
            make(around(Siren(256, 3)))


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1.0"), (0.1, "0.1"), (1e-9, "1e-09"), (-3.0, "-3.0"), (2e10, "2e+10")]
)
def test_numbers_are_floats(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize("level", [0.0, 0.1])
def test_a_band_holds_all_voxels_near_the_surface(level: float) -> None:
    torus = combining.body("torus", [1.0, 0.4], tuple(CENTRE))
    told: list[float] = []
    found = narrow_band(torus, resolution=40, width=2.5, level=level, on_progress=told.append)
    assert found.band == pytest.approx(2.5 * found.voxel)
    ends = np.round(np.array([CENTRE - 2, CENTRE + 2]) / found.voxel).astype(int)
    nodes = np.stack(np.meshgrid(*(np.arange(a, b) for a, b in ends.T), indexing="ij"), axis=-1)
    with torch.no_grad():
        value = torus(torch.tensor(nodes.reshape(-1, 3) * found.voxel)).numpy().reshape(nodes.shape[:3]) - level
    held = {tuple(first): values for first, values in zip(found.first.tolist(), found.values, strict=True)}
    near = nodes[np.abs(value) < 0.99 * found.band]
    assert len(near) > 1000
    for place in near[::7]:
        block = held[tuple((place // 8 * 8).tolist())]
        at = place - nodes[0, 0, 0]
        assert block[tuple(place % 8)] == pytest.approx(value[tuple(at)], abs=1e-5)
    assert np.abs(found.values).max() <= found.band * (1 + 1e-6)
    assert told == sorted(told)
    assert told[-1] == 1.0
    with pytest.raises(InputError, match="band"):
        narrow_band(torus, width=0.5)


def test_a_wide_band_has_no_gaps() -> None:
    found = narrow_band(combining.body("sphere", [1.0]), resolution=8, width=30)
    held = {tuple(first) for first in found.first.tolist()}
    nodes = np.stack(np.meshgrid(*3 * [np.arange(-40, 40)], indexing="ij"), axis=-1).reshape(-1, 3)
    near = nodes[np.abs(np.linalg.norm(nodes * found.voxel, axis=1) - 1.0) < 0.99 * found.band]
    assert {tuple(block) for block in np.unique(near // 8 * 8, axis=0).tolist()} <= held


def test_voxels_that_cannot_be_numbered_are_refused() -> None:
    with pytest.raises(InputError, match="too far from the origin"):
        narrow_band(combining.body("sphere", [1.0], (3e7, 0.0, 0.0)), resolution=256)


def test_an_export_leaves_the_network_as_it_was() -> None:
    sdf = around(siren())
    to_onnx(sdf)
    assert all(parameter.requires_grad for parameter in sdf.network.parameters())


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage.save(around(siren()), tmp_path / "m.safetensors")
    words = ["export", str(tmp_path / "m.safetensors"), "-o"]
    for name in ("m.onnx", "m.glsl", "m.osl"):
        assert cli.main([*words, str(tmp_path / name)]) == 0
        assert f"{name}: " in capsys.readouterr().out
    assert onnx.load(str(tmp_path / "m.onnx")).graph.input[0].name == "points"
    assert cli.main([*words, str(tmp_path / "m.vdb")]) == 2
    assert "Blender" in capsys.readouterr().err
    assert cli.main([*words, str(tmp_path / "m.txt")]) == 2
    storage.save(around(grid()), tmp_path / "g.safetensors")
    assert cli.main(["export", str(tmp_path / "g.safetensors"), "-o", str(tmp_path / "g.glsl")]) == 2
    assert not (tmp_path / "g.glsl").exists()
