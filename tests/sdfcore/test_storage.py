"""Stored fits: the same bits back, and a clear refusal of everything else."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from sdfcore.errors import StorageError
from sdfcore.fields import NeuralSDF
from sdfcore.geometry import Box, Frame
from sdfcore.networks import (
    MLP,
    NETWORKS,
    DeepSDF,
    FeatureGrid,
    FourierMLP,
    HashGrid,
    Lipschitz,
    Mended,
    Siren,
    SphereSiren,
    Turned,
)
from sdfcore.storage import from_bytes, load, save, to_bytes


def siren() -> Siren:
    torch.manual_seed(0)
    return Siren(width=8, depth=2, omega=25.0)


def mlp() -> MLP:
    torch.manual_seed(1)
    return MLP(width=12, depth=4, skip=2)


def grid() -> FeatureGrid:
    torch.manual_seed(2)
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (40, 3)).astype(np.float32)
    network = FeatureGrid.around(points, [4, 24], width=8)
    nn.init.normal_(network.features)
    return network


def deepsdf() -> DeepSDF:
    torch.manual_seed(4)
    return DeepSDF([12, 10, 12], again=[2], norms=[1], squashes=2)


def turned() -> Turned:
    torch.manual_seed(5)
    return Turned(MLP(12, 3, skip=2, octaves=1), torch.linalg.qr(torch.randn(3, 3)).Q)


def mended() -> Mended:
    torch.manual_seed(6)
    return Mended(MLP(12, 3, skip=2)).with_bump(torch.tensor([0.1, 0.2, -0.1]), 0.5, 0.01)


def sphere_siren() -> SphereSiren:
    torch.manual_seed(7)
    return SphereSiren(12, 3, omega=10.0, quadratic=True)


def lipschitz() -> Lipschitz:
    torch.manual_seed(8)
    return Lipschitz(12, 3)


def hashed() -> HashGrid:
    torch.manual_seed(9)
    return HashGrid(levels=3, finest=40, log_rows=8, width=8)


def fourier() -> FourierMLP:
    torch.manual_seed(10)
    return FourierMLP(12, 2, features=8)


MAKERS = {
    "mended": mended,
    "turned": turned,
    "siren": siren,
    "mlp": mlp,
    "grid": grid,
    "deepsdf": deepsdf,
    "sphere_siren": sphere_siren,
    "lipschitz": lipschitz,
    "hash": hashed,
    "fourier": fourier,
}


def fitted(network: nn.Module) -> NeuralSDF:
    info = {"recipe": "siren", "reason": "„clean“ – ½", "steps": 12, "loss": 0.1 + 0.2, "terms": {"sdf": [1, None]}}
    return NeuralSDF(network, Frame([1e6 + 1 / 3, -2, 1e-9], 1 / 7), Box([-0.1, -0.2, -0.3], [0.1, 0.2, 1 / 3]), info)


def body_of(data: bytes) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Metadata and tensors of a file, to write it again with a change."""
    (length,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + length])["__metadata__"], safetensors.torch.load(data)


def changed(data: bytes, **body: Any) -> bytes:
    """The file with entries of its body replaced."""
    metadata, tensors = body_of(data)
    metadata["body"] = json.dumps(json.loads(metadata["body"]) | body)
    return safetensors.torch.save(tensors, metadata)


def test_every_kind_of_network_is_tested() -> None:
    combined = {
        "placed",
        "boxed",
        "offset",
        "combined",
        "body",
        "displaced",
        "on_surface",
    }  # in test_combining, _detail
    assert set(MAKERS) == set(NETWORKS) - combined


@pytest.mark.parametrize("kind", MAKERS)
def test_what_is_loaded_is_what_was_saved_bit_for_bit(kind: str, tmp_path: Path) -> None:
    sdf = fitted(MAKERS[kind]())
    save(sdf, tmp_path / "fit.safetensors")
    state = torch.random.get_rng_state()
    back = load(tmp_path / "fit.safetensors")
    assert torch.equal(torch.random.get_rng_state(), state), "loading draws no random numbers"
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(3)) * 2 - 1
    with torch.no_grad():
        assert torch.equal(back.network(points), sdf.network(points))
        assert torch.equal(back(points.double() + 1e6), sdf(points.double() + 1e6))
    assert (back.frame.centre == sdf.frame.centre).all()
    assert back.frame.scale == sdf.frame.scale
    assert (back.box.lower == sdf.box.lower).all()
    assert (back.box.upper == sdf.box.upper).all()
    assert back.info == sdf.info
    assert to_bytes(back) == to_bytes(sdf) == (tmp_path / "fit.safetensors").read_bytes()


def test_saving_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "fit.safetensors"
    path.write_bytes(b"old")
    save(fitted(siren()), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["fit.safetensors"]
    load(path)


def test_failed_save_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "fit.safetensors"
    path.write_bytes(b"old")
    sdf = fitted(siren())
    sdf.info["picture"] = object()
    with pytest.raises(StorageError, match="cannot be stored"):
        save(sdf, path)
    assert path.read_bytes() == b"old"
    with pytest.raises(StorageError, match="cannot be written"):
        save(fitted(siren()), tmp_path / "nowhere" / "fit.safetensors")


def test_numbers_that_json_cannot_say_become_null() -> None:
    sdf = fitted(siren())
    sdf.info = {"loss": [1.0, math.nan, math.inf]}
    assert from_bytes(to_bytes(sdf)).info == {"loss": [1.0, None, None]}


def test_network_without_a_kind_is_refused() -> None:
    with pytest.raises(StorageError, match="no kind"):
        to_bytes(fitted(nn.Linear(3, 1)))


def test_file_cut_at_any_byte_is_refused() -> None:
    data = to_bytes(fitted(siren()))
    for length in range(len(data)):
        with pytest.raises(StorageError):
            from_bytes(data[:length])
    with pytest.raises(StorageError):
        from_bytes(data + b"\0")


def test_damaged_header_never_escapes_as_another_error() -> None:
    """Each byte of the header changed, one at a time: refused, or still a fit."""
    data = to_bytes(fitted(siren()))
    (length,) = struct.unpack_from("<Q", data)
    refused = 0
    for at in range(8 + length):
        damaged = bytearray(data)
        damaged[at] ^= 0x11
        try:
            assert isinstance(from_bytes(bytes(damaged)), NeuralSDF)
        except StorageError:
            refused += 1
    assert refused > length / 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"ply\nformat ascii 1.0\nend_header\n",
        b"\xff" * 64,
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"null",
    ],
)
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(StorageError, match="not a stored fit"):
        from_bytes(data)


def test_nested_header_is_refused() -> None:
    text = b"[" * 100_000
    with pytest.raises(StorageError):
        from_bytes(struct.pack("<Q", len(text)) + text)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"format": "sdfcore", "kind": "family", "version": "1"}])
def test_other_safetensors_are_refused(metadata: dict[str, str] | None) -> None:
    with pytest.raises(StorageError, match="no stored fit"):
        from_bytes(safetensors.torch.save({"a": torch.zeros(3)}, metadata))


@pytest.mark.parametrize("version", ["2", "99", "0", "-1", "1.5", "", "²"])
def test_other_versions_are_refused(version: str) -> None:
    metadata, tensors = body_of(to_bytes(fitted(siren())))
    with pytest.raises(StorageError, match="reads up to 1"):
        from_bytes(safetensors.torch.save(tensors, metadata | {"version": version}))


@pytest.mark.parametrize("body", ["", "{", "[]", "{}", "3", '{"network": {}}'])
def test_body_that_is_no_fit_is_refused(body: str) -> None:
    metadata, tensors = body_of(to_bytes(fitted(siren())))
    with pytest.raises(StorageError, match="header"):
        from_bytes(safetensors.torch.save(tensors, metadata | {"body": body}))


@pytest.mark.parametrize(
    "network",
    [
        {"kind": "os.system", "config": {}},
        {"kind": ["siren"], "config": {}},
        {"kind": "siren", "config": []},
        {"kind": "siren", "config": {"width": "8"}},
        {"kind": "siren", "config": {"width": 8, "colour": 1}},
        {"kind": "siren", "config": {"width": -8}},
        {"kind": "siren", "config": {"width": 10**7, "depth": 2}},
        {"kind": "siren", "config": {"width": 9, "depth": 2}},
        {"kind": "siren", "config": {"width": 8, "depth": 3}},
    ],
)
def test_network_that_does_not_fit_its_tensors_is_refused(network: dict[str, Any]) -> None:
    with pytest.raises(StorageError) as caught:
        from_bytes(changed(to_bytes(fitted(siren())), network=network))
    assert caught.value.hint


@pytest.mark.parametrize(
    "frame", [{"centre": [0, 0, 0], "scale": 0}, {"centre": [0, 0], "scale": 1}, {"scale": 1}, None]
)
def test_frame_that_is_none_is_refused(frame: Any) -> None:
    with pytest.raises(StorageError, match="header"):
        from_bytes(changed(to_bytes(fitted(siren())), frame=frame))


def test_wrong_tensors_are_named() -> None:
    metadata, tensors = body_of(to_bytes(fitted(siren())))
    name = "layers.1.weight"
    wrong = {
        "absent": {key: value for key, value in tensors.items() if key != name},
        r"\(8, 7\)": tensors | {name: tensors[name][:, :7].contiguous()},
        "float64": tensors | {name: tensors[name].double()},
    }
    for words, given in wrong.items():
        with pytest.raises(StorageError, match=f"{name}.*{words}"):
            from_bytes(safetensors.torch.save(given, metadata))
    with pytest.raises(StorageError, match=r"extra.*absent"):
        from_bytes(safetensors.torch.save(tensors | {"extra": torch.zeros(1)}, metadata))


def test_weights_that_are_no_numbers_are_refused() -> None:
    metadata, tensors = body_of(to_bytes(fitted(siren())))
    tensors["last.bias"] = torch.tensor([math.nan])
    with pytest.raises(StorageError, match="finite"):
        from_bytes(safetensors.torch.save(tensors, metadata))


def test_grid_whose_nodes_lie_outside_is_refused() -> None:
    metadata, tensors = body_of(to_bytes(fitted(grid())))
    tensors["keys"] = tensors["keys"] + 10**8
    with pytest.raises(StorageError):
        from_bytes(safetensors.torch.save(tensors, metadata))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere\.safetensors"):
        load(tmp_path / "nowhere.safetensors")
    (tmp_path / "text.safetensors").write_text("no")
    with pytest.raises(StorageError, match=r"text\.safetensors"):
        load(tmp_path / "text.safetensors")


def test_what_is_loaded_has_all_its_units_and_is_no_pupil() -> None:
    """Dropout silences units while a network learns; a stored one does not."""
    sdf = fitted(MLP(64, 3, skip=0, dropout=0.5).eval())
    back, points = from_bytes(to_bytes(sdf)), torch.rand(50, 3)
    assert torch.equal(back.network(points), sdf.network(points))
    assert not any(parameter.requires_grad for parameter in back.network.parameters())
