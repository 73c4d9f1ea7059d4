"""Stored spaces: the same bits back, and a clear refusal of everything else."""

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
from small_spaces import same

from sdfcore import storage as fits
from sdfcore.errors import StorageError
from sdfcore.geometry import Box, Frame
from sdfcore.networks import CodedMLP, PointNet
from sdfcore.spaces import Latent, Space
from sdfcore.spaces.storage import from_bytes, load, save, to_bytes


def made(encoder: bool = True) -> Space:
    torch.manual_seed(0)
    network = CodedMLP(3, 8, 3, skip=2)
    for layer in network.gains:
        torch.nn.init.normal_(layer.weight)
    codes = np.random.default_rng(0).normal(size=(3, 3))
    shapes = [
        Latent(
            code, Frame([1e6 + 1 / 3, -2, index], 1 / 7), Box([-0.1, -0.2, -0.3], [0.1, 0.2, 1 / 3]), f"Stuhl {index} ½"
        )
        for index, code in enumerate(codes)
    ]
    info = {"recipe": "distance", "title": "„drei“", "loss": 0.1 + 0.2, "size": {"width": 8}, "none": None}
    return Space(network, shapes, PointNet(3, 4, 2) if encoder else None, info)


def opened(data: bytes) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Metadata and tensors of a file, to write it again with a change."""
    (length,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + length])["__metadata__"], safetensors.torch.load(data)


def changed(body: dict[str, Any] | None = None, tensors: dict[str, torch.Tensor | None] | None = None) -> bytes:
    """The file with entries of its body or its tensors replaced; ``None`` takes a tensor out."""
    metadata, held = opened(to_bytes(made()))
    metadata["body"] = json.dumps(json.loads(metadata["body"]) | (body or {}))
    held |= {name: value for name, value in (tensors or {}).items() if value is not None}
    held = {name: value for name, value in held.items() if (tensors or {}).get(name, value) is not None}
    return safetensors.torch.save(held, metadata)


def body_of(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(opened(data)[0]["body"])
    return found


@pytest.mark.parametrize("encoder", [False, True])
def test_what_is_loaded_is_what_was_saved_bit_for_bit(encoder: bool, tmp_path: Path) -> None:
    space = made(encoder)
    save(space, tmp_path / "space.safetensors")
    state = torch.random.get_rng_state()
    back = load(tmp_path / "space.safetensors")
    assert torch.equal(torch.random.get_rng_state(), state), "loading draws no random numbers"
    assert back.names == space.names
    assert all(same(a, b) for a, b in zip(back, space, strict=True))
    assert back.info == space.info
    points = torch.rand(3, 50, 3)
    codes = torch.as_tensor(space.codes)
    with torch.no_grad():
        assert torch.equal(back.network(points, codes), space.network(points, codes))
        assert (back.encoder is None) == (not encoder)
        if back.encoder is not None and space.encoder is not None:
            assert all(torch.equal(a, b) for a, b in zip(back.encoder(points), space.encoder(points), strict=True))
    assert to_bytes(back) == to_bytes(space) == (tmp_path / "space.safetensors").read_bytes()
    assert not any(parameter.requires_grad for parameter in back.network.parameters())


def test_failed_save_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "space.safetensors"
    path.write_bytes(b"old")
    space = made()
    space.info["picture"] = object()
    with pytest.raises(StorageError, match=r"space cannot be stored"):
        save(space, path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"old"
    with pytest.raises(StorageError, match="cannot be written"):
        save(made(), tmp_path / "nowhere" / "space.safetensors")


def test_file_cut_at_any_byte_is_refused() -> None:
    data = to_bytes(made(encoder=False))
    for length in range(0, len(data), 3):
        with pytest.raises(StorageError):
            from_bytes(data[:length])
    with pytest.raises(StorageError):
        from_bytes(data + b"\0")


def test_damaged_header_never_escapes_as_another_error() -> None:
    """Every other byte of the header changed, one at a time: refused, or still a space that works."""
    data = to_bytes(made(encoder=False))
    (length,) = struct.unpack_from("<Q", data)
    refused = 0
    for at in range(0, 8 + length, 2):
        damaged = bytearray(data)
        damaged[at] ^= 0x11
        try:
            back = from_bytes(bytes(damaged))
        except StorageError:
            refused += 1
        else:
            assert back.directions().axes.shape == (2, 3)
            assert back.decode(back.mean()).box.size.shape == (3,)
    assert refused > length / 4


def test_other_kinds_are_refused_both_ways() -> None:
    space = made()
    fit = fits.to_bytes(space.decode(space.shapes[0]))
    with pytest.raises(StorageError, match=r"no stored space .*kind 'neural_sdf'"):
        from_bytes(fit)
    with pytest.raises(StorageError, match=r"no stored fit .*kind 'space'"):
        fits.from_bytes(to_bytes(space))
    for data in (b"", b"ply\nend_header\n", b"\xff" * 64, struct.pack("<Q", 2) + b"[]"):
        with pytest.raises(StorageError, match="not a stored space"):
            from_bytes(data)
    for metadata in (None, {"format": "pt"}, {"format": "sdfcore", "kind": "family", "version": "1"}):
        with pytest.raises(StorageError, match="no stored space"):
            from_bytes(safetensors.torch.save({"codes": torch.zeros(1, 3)}, metadata))


@pytest.mark.parametrize("version", ["2", "99", "0", "1.5", ""])
def test_other_versions_are_refused(version: str) -> None:
    metadata, tensors = opened(to_bytes(made()))
    with pytest.raises(StorageError, match="reads up to 1") as caught:
        from_bytes(safetensors.torch.save(tensors, metadata | {"version": version}))
    assert "Update" in caught.value.hint


@pytest.mark.parametrize("body", ["", "{", "[]", "{}", "3", "null", '{"network": {}}'])
def test_body_that_is_no_space_is_refused(body: str) -> None:
    metadata, tensors = opened(to_bytes(made()))
    with pytest.raises(StorageError, match="header"):
        from_bytes(safetensors.torch.save(tensors, metadata | {"body": body}))


DECODER, ENCODER = body_of(to_bytes(made()))["network"], body_of(to_bytes(made()))["encoder"]


def _config(of: dict[str, Any], **entries: Any) -> dict[str, Any]:
    return {**of, "config": {**of["config"], **entries}}


@pytest.mark.parametrize(
    "body",
    [
        {"network": None},
        {"network": {"kind": "os.system", "config": {}}},
        {"network": {"kind": "mlp", "config": {}}},
        {"network": {"kind": ["coded_mlp"], "config": {}}},
        {"network": _config(DECODER, width="8")},
        {"network": _config(DECODER, beta="soft")},
        {"network": _config(DECODER, colour=1)},
        {"network": _config(DECODER, width=10**7)},
        {"network": _config(DECODER, depth=4)},
        {"network": _config(DECODER, code_size=4)},
        {"network": _config(DECODER, skip=0)},
        {"encoder": None},
        {"encoder": DECODER},
        {"encoder": {"kind": "pointnet"}},
        {"encoder": _config(ENCODER, depth=3)},
        {"shapes": []},
        {"shapes": None},
        {"shapes": {}},
        {"info": None},
        {"info": [1]},
    ],
)
def test_parts_that_do_not_fit_together_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(StorageError) as caught:
        from_bytes(changed(body))
    assert caught.value.hint


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "Stuhl 1 ½"},
        {"frame": {"centre": [0, 0, 0], "scale": 0}},
        {"frame": {"centre": [0, 0], "scale": 1}},
        {"frame": None},
        {"box": {"lower": [1, 1, 1], "upper": [0, 0, 0]}},
        {"box": {}},
    ],
)
def test_shapes_that_are_none_are_refused(entry: dict[str, Any]) -> None:
    shapes = body_of(to_bytes(made()))["shapes"]
    shapes[0] |= entry
    with pytest.raises(StorageError, match="header"):
        from_bytes(changed({"shapes": shapes}))
    with pytest.raises(StorageError, match="codes"):
        from_bytes(changed({"shapes": shapes[1:]}))


@pytest.mark.parametrize(
    "tensors",
    [
        {"codes": None},
        {"codes": torch.zeros(3, 4)},
        {"codes": torch.zeros(2, 3)},
        {"codes": torch.zeros(())},
        {"codes": torch.zeros(3, 3, dtype=torch.float64)},
        {"codes": torch.full((3, 3), math.nan)},
        {"network.last.bias": torch.tensor([math.inf])},
        {"network.last.bias": None},
        {"network.last.bias": torch.zeros(2)},
        {"encoder.mean.bias": torch.full((3,), math.nan)},
        {"encoder.mean.bias": None},
        {"extra": torch.zeros(1)},
    ],
)
def test_wrong_tensors_are_refused(tensors: dict[str, torch.Tensor | None]) -> None:
    assert from_bytes(changed()).names == made().names, "unchanged it is read"
    with pytest.raises(StorageError) as caught:
        from_bytes(changed(tensors=tensors))
    assert caught.value.hint


def test_encoder_for_longer_codes_is_refused() -> None:
    space = made()
    space.encoder = PointNet(4, 4, 2)
    with pytest.raises(StorageError):
        from_bytes(to_bytes(space))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere\.safetensors"):
        load(tmp_path / "nowhere.safetensors")
    (tmp_path / "text.safetensors").write_text("no")
    with pytest.raises(StorageError, match=r"text\.safetensors"):
        load(tmp_path / "text.safetensors")
