"""Published auto-decoders: what is imported gives the numbers of the published network, and broken ones say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sdfcore import storage
from sdfcore.errors import InputError, SdfError, StorageError
from sdfcore.fields import value_and_gradient
from sdfcore.networks import DECODERS, DeepSDFDecoder
from sdfcore.spaces import load, save
from sdfcore.spaces.deepsdf import read_deepsdf

CODE, DIMS = 4, [24, 28, 24]
SPECS: dict[str, Any] = {
    "dims": DIMS,
    "dropout": [0, 1],
    "dropout_prob": 0.2,
    "norm_layers": [0, 1, 2, 3],
    "latent_in": [2],
    "xyz_in_all": False,
    "use_tanh": False,
    "latent_dropout": False,
    "weight_norm": True,
}


def outward(specs: dict[str, Any]) -> list[int]:
    """Units of each layer of the published network: fewer before a layer that reads the input or the point again."""
    whole, last = CODE + 3, len(specs["dims"])
    units = [*specs["dims"], 1]
    for i in range(last + 1):
        if i + 1 in specs["latent_in"]:
            units[i] -= whole
        elif specs["xyz_in_all"] and i != last:
            units[i] -= 3
    return units


def published(specs: dict[str, Any], hooks: bool) -> dict[str, Tensor]:
    """A state as the published program writes it; ``hooks`` is the older of torch's two ways to normalise weights."""
    torch.manual_seed(0)
    state: dict[str, Tensor] = {}
    for i, units in enumerate(outward(specs)):
        inward = CODE + 3 if i == 0 else DIMS[i - 1]
        layer = nn.Linear(inward, units)
        matrix = layer.weight.detach() * 2
        state[f"lin{i}.bias"] = layer.bias.detach()
        if specs["weight_norm"] and i in specs["norm_layers"]:
            names = ("weight_g", "weight_v") if hooks else (f"parametrizations.weight.original{k}" for k in (0, 1))
            direction = torch.randn(units, 1).abs() * matrix  # of any length: only its direction counts
            for name, value in zip(names, (matrix.norm(dim=1, keepdim=True), direction), strict=True):
                state[f"lin{i}.{name}"] = value
        else:
            state[f"lin{i}.weight"] = matrix
        if not specs["weight_norm"] and i in specs["norm_layers"]:
            state[f"bn{i}.weight"], state[f"bn{i}.bias"] = torch.rand(units) + 0.5, torch.randn(units) * 0.1
    return state


def evaluated(state: dict[str, Tensor], specs: dict[str, Any], code: Tensor, points: Tensor) -> Tensor:
    """The published network, layer by layer, on rows of code and point."""
    whole = torch.cat([code.expand(len(points), -1), points], dim=1)
    h, last = whole, len(specs["dims"])
    for i in range(last + 1):
        if i in specs["latent_in"]:
            h = torch.cat([h, whole], dim=1)
        elif i and specs["xyz_in_all"]:
            h = torch.cat([h, points], dim=1)
        keys = {name.removeprefix(f"lin{i}."): value for name, value in state.items() if name.startswith(f"lin{i}.")}
        pair = [keys[k] for k in ("weight_g", "weight_v") if k in keys] or [
            keys[k] for k in sorted(keys) if "original" in k
        ]
        weight = pair[0] * nn.functional.normalize(pair[1], dim=1) if pair else keys["weight"]
        h = h @ weight.T + keys["bias"]
        if i == last:
            return torch.tanh(torch.tanh(h) if specs["use_tanh"] else h)[:, 0]
        if f"bn{i}.weight" in state:
            h = nn.functional.layer_norm(h, h.shape[1:], state[f"bn{i}.weight"], state[f"bn{i}.bias"])
        h = h.clamp(min=0)
    raise AssertionError


def experiment(folder: Path, specs: dict[str, Any], state: dict[str, Tensor], codes: Any, **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    body = {"NetworkArch": "deep_sdf_decoder", "NetworkSpecs": specs, "CodeLength": CODE, **more}
    (folder / "specs.json").write_text(json.dumps(body))
    for name, held in (
        ("ModelParameters", {"epoch": 7, "model_state_dict": state}),
        ("LatentCodes", {"epoch": 7, "latent_codes": codes}),
    ):
        (folder / name).mkdir(exist_ok=True)
        torch.save(held, folder / name / "latest.pth")
    return folder


def codes_of(count: int = 5) -> Tensor:
    return torch.randn(count, CODE, generator=torch.Generator().manual_seed(3)) * 0.5


def points_in(count: int = 300) -> Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1


VARIANTS = {
    "as published": {},
    "inner tanh": {"use_tanh": True},
    "point in all": {"xyz_in_all": True},
    "point in all, no code again": {"xyz_in_all": True, "latent_in": []},
    "code in the last layer": {"latent_in": [1, 3]},
    "layer norm": {"weight_norm": False},
    "plain": {"weight_norm": False, "norm_layers": [], "latent_in": []},
    "some layers normalised": {"norm_layers": [1]},
}


@pytest.mark.parametrize("hooks", [True, False], ids=["older torch", "newer torch"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_values_are_those_of_the_published_network(variant: str, hooks: bool, tmp_path: Path) -> None:
    specs = SPECS | VARIANTS[variant]
    state, codes, points = published(specs, hooks), codes_of(), points_in()
    prefix = "module." if hooks else ""
    folder = experiment(tmp_path / "e", specs, {prefix + k: v for k, v in state.items()}, {"weight": codes})
    space = read_deepsdf(folder)
    assert space.names == ["0000", "0001", "0002", "0003", "0004"]
    expected = torch.stack([evaluated(state, specs, code, points) for code in codes])
    assert float(expected.std()) > 0.02
    assert float((expected[0] - expected[1]).abs().mean()) > 1e-3, "codes matter"
    together = space.decoder(points.expand(5, -1, -1), codes)
    torch.testing.assert_close(together, expected, atol=2e-6, rtol=1e-5)
    for row, shape in enumerate(space):
        torch.testing.assert_close(space.decode(shape)(points), expected[row], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("variant", ["as published", "point in all", "layer norm", "inner tanh"])
def test_derivatives_of_coded_fields_are_those_of_the_single_ones(variant: str, tmp_path: Path) -> None:
    specs = SPECS | VARIANTS[variant]
    space = read_deepsdf(experiment(tmp_path, specs, published(specs, True), {"weight": codes_of()}))
    points = points_in(100)
    along = torch.eye(3)[:, None, None].expand(3, 5, 100, 3)
    value, derivatives = space.decoder.pushforward(points.expand(5, -1, -1), along, torch.as_tensor(space.codes))
    for row, shape in enumerate(space):
        single, gradient = value_and_gradient(space.decode(shape).network, points)
        torch.testing.assert_close(value[row], single, atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(derivatives[:, row].T, gradient, atol=2e-5, rtol=1e-4)


def test_an_imported_space_is_stored_and_so_are_its_shapes(tmp_path: Path) -> None:
    space = read_deepsdf(experiment(tmp_path / "e", SPECS, published(SPECS, False), {"weight": codes_of()}))
    save(space, tmp_path / "s.safetensors")
    again = load(tmp_path / "s.safetensors")
    assert again.decoder.kind == "deepsdf_decoder"
    assert isinstance(again.network, DeepSDFDecoder)
    assert DECODERS["deepsdf_decoder"] is DeepSDFDecoder
    sdf, points = space.decode(space.shapes[2]), points_in()
    assert torch.equal(again.decode(again["0002"])(points), sdf(points))
    storage.save(sdf, tmp_path / "one.safetensors")
    assert torch.equal(storage.load(tmp_path / "one.safetensors")(points), sdf(points))
    assert sdf.frame.scale == 1.0
    assert (sdf.box.lower == -1).all()
    assert (sdf.box.upper == 1).all()


def test_the_oldest_codes_are_a_plain_tensor(tmp_path: Path) -> None:
    codes = codes_of()
    space = read_deepsdf(experiment(tmp_path, SPECS, published(SPECS, True), codes[:, None]))
    assert (space.codes == codes.numpy()).all()


@pytest.mark.parametrize("place", ["above", "beside"])
def test_names_come_from_the_split(place: str, tmp_path: Path) -> None:
    split = {"shapes": {"chairs": ["a", "b"], "tables": ["c", "d", "e"]}}
    folder = experiment(
        tmp_path / "examples" / "all", SPECS, published(SPECS, True), {"weight": codes_of()}, TrainSplit="splits/x.json"
    )
    target = tmp_path / "splits" / "x.json" if place == "above" else folder / "x.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(split))
    assert read_deepsdf(folder).names == ["a", "b", "c", "d", "e"]
    split["shapes"]["tables"][0] = "a"
    target.write_text(json.dumps(split))
    assert read_deepsdf(folder).names == ["chairs/a", "chairs/b", "tables/a", "tables/d", "tables/e"]
    split["shapes"]["chairs"].pop()
    target.write_text(json.dumps(split))
    assert read_deepsdf(folder).names[0] == "0000", "a split of another experiment says nothing"


# The other layout ---------------------------------------------------------------------------------------------------


def run_of(folder: Path, layers: int, skips: bool) -> tuple[dict[str, nn.Module], Tensor]:
    """A run in the other layout: its modules by name, and codes."""
    torch.manual_seed(0)
    width, whole = 20, CODE + 3
    modules: dict[str, nn.Module] = {}
    for i in range(layers - (2 if skips and layers >= 8 else 1)):
        modules[f"net.{i}.0"] = nn.utils.parametrizations.weight_norm(nn.Linear(width if i else whole, width))
    modules["skip_layer.0"] = nn.Linear(width, width - whole)
    modules["final_layer.0"] = nn.Linear(width, 1)
    state: dict[str, Tensor] = {}
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            key = key.replace("parametrizations.weight.original0", "weight_g")
            state[f"{name}.{key.replace('parametrizations.weight.original1', 'weight_v')}"] = value
    folder.mkdir(exist_ok=True)
    torch.save(state, folder / "weights.pt")
    text = f"clamp: true\nlatent_size: {CODE}\nnum_layers: {layers}\nskip_connections: {str(skips).lower()}\nname: ''\n"
    (folder / "settings.yaml").write_text(text)
    codes = codes_of(2)
    np.save(folder / "codes.npy", codes.numpy())
    return modules, codes


@pytest.mark.parametrize(("layers", "skips"), [(8, True), (9, True), (6, True), (8, False), (4, True)])
def test_runs_of_the_other_layout_too(layers: int, skips: bool, tmp_path: Path) -> None:
    modules, codes = run_of(tmp_path / "r", layers, skips)
    points = points_in(50)
    space = read_deepsdf(tmp_path / "r")
    for code, shape in zip(codes, space, strict=True):
        whole = torch.cat([code.expand(len(points), -1), points], dim=1)
        hidden = [name for name in modules if name.startswith("net.")]
        h = whole
        with torch.no_grad():
            if skips and layers >= 5:
                for name in [*hidden[:3], "skip_layer.0"]:
                    h = modules[name](h).clamp(min=0)
                h = torch.cat([h, whole], dim=1)
                hidden = hidden[3 : layers - 2]
            for name in hidden:
                h = modules[name](h).clamp(min=0)
            expected = torch.tanh(modules["final_layer.0"](h))[:, 0]
        torch.testing.assert_close(space.decode(shape)(points), expected, atol=2e-6, rtol=1e-5)


def test_a_run_without_codes_has_the_middle_one(tmp_path: Path) -> None:
    run_of(tmp_path / "r", 8, True)
    (tmp_path / "r" / "codes.npy").unlink()
    space = read_deepsdf(tmp_path / "r")
    assert (space.codes == np.zeros((1, CODE))).all()


# What is broken -----------------------------------------------------------------------------------------------------


class Harmful:
    """What a pickled file could do."""

    def __reduce__(self) -> Any:
        return (print, ("this must never be printed",))


def broken(folder: Path, how: str) -> Path:
    state, codes = published(SPECS, True), {"weight": codes_of()}
    specs, more = dict(SPECS), {}
    if how == "missing tensor":
        del state["lin2.bias"]
    elif how == "not finite":
        state["lin1.bias"][0] = float("nan")
    elif how == "another width":
        specs["latent_in"] = [1]
    elif how == "another bias":
        state["lin1.bias"] = state["lin1.bias"][:-1]
    elif how == "other codes":
        codes = {"weight": torch.zeros(3, CODE + 1)}
    elif how == "no codes":
        codes = {}
    elif how == "codes not finite":
        codes["weight"][0, 0] = float("inf")
    elif how == "in the plane":
        specs["geom_dimension"] = 2
    elif how == "another architecture":
        more = {"NetworkArch": "hierarchical"}
    elif how == "no such layer":
        specs["latent_in"] = [9]
    elif how == "no dims":
        del specs["dims"]
    experiment(folder, specs, state, codes, **more)
    network = folder / "ModelParameters" / "latest.pth"
    if how == "no network":
        network.unlink()
    elif how == "cut":
        network.write_bytes(network.read_bytes()[:500])
    elif how == "not torch":
        network.write_bytes(b"hello")
    elif how == "pickled":
        torch.save({"model_state_dict": Harmful()}, network)
    elif how == "a list":
        torch.save([1, 2], network)
    elif how == "no JSON":
        (folder / "specs.json").write_text("{")
    elif how == "no specs":
        (folder / "specs.json").unlink()
    return folder


BROKEN: dict[str, tuple[type[SdfError], str]] = {
    "missing tensor": (StorageError, "lin2.bias"),
    "not finite": (StorageError, "lin1.bias"),
    "another width": (StorageError, "lin1"),
    "another bias": (StorageError, "do not fit"),
    "other codes": (StorageError, "codes"),
    "no codes": (StorageError, "codes"),
    "codes not finite": (StorageError, "code"),
    "in the plane": (InputError, "three-dimensional"),
    "another architecture": (InputError, "hierarchical"),
    "no such layer": (StorageError, "specs.json"),
    "no dims": (StorageError, "dims"),
    "no network": (InputError, "latest.pth"),
    "cut": (StorageError, "latest.pth"),
    "not torch": (StorageError, "latest.pth"),
    "pickled": (StorageError, "latest.pth"),
    "a list": (StorageError, "latest.pth"),
    "no JSON": (StorageError, "specs.json"),
    "no specs": (InputError, "no DeepSDF experiment"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_what_is_broken_says_so(how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind, says = BROKEN[how]
    with pytest.raises(kind, match=says) as caught:
        read_deepsdf(broken(tmp_path / "e", how))
    assert caught.value.hint
    assert "\n" not in caught.value.line
    assert capsys.readouterr().out == ""


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        read_deepsdf(tmp_path / "nowhere")
