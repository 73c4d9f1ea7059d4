"""Published layers become shapes that can be asked, kept and meshed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdfcore import storage
from sdfcore.errors import StorageError
from sdfcore.published import load_layers
from sdfcore.queries.certain import extract_certain
from sdfcore.topology import topology


def layers(bent: str = "relu", widths: tuple[int, ...] = (3, 6, 1)) -> dict[str, np.ndarray]:
    """|x| + |y| + |z| - 0.5 where ReLU bends; of the published layout."""
    one = np.concatenate([np.eye(3), -np.eye(3)], axis=1)
    held: dict[str, Any] = {
        "0000.dense.A": one.astype(np.float32),
        "0000.dense.b": np.zeros(6, np.float32),
        f"0001.{bent}._": np.zeros(0, np.float32),
        "0002.dense.A": np.ones((6, 1), np.float32),
        "0002.dense.b": np.full(1, -0.5, np.float32),
        "0003.squeeze_last._": np.zeros(0, np.float32),
    }
    return held


def test_relu_layers_are_the_function_they_were(tmp_path: Path) -> None:
    np.savez(tmp_path / "octahedron.npz", **layers())
    sdf = load_layers(tmp_path / "octahedron.npz")
    at = torch.rand(100, 3) * 2 - 1
    torch.testing.assert_close(sdf(at).detach(), at.abs().sum(dim=1) - 0.5)
    storage.save(sdf, tmp_path / "kept.safetensors")
    again = storage.load(tmp_path / "kept.safetensors")
    assert torch.equal(again(at), sdf(at))
    found = extract_certain(sdf, resolution=32)
    assert topology(found.mesh).watertight
    np.testing.assert_allclose(found.mesh.volume(), 4 / 3 * 0.5**3, rtol=0.01)


def test_elu_layers(tmp_path: Path) -> None:
    np.savez(tmp_path / "soft.npz", **layers("elu"))
    sdf = load_layers(tmp_path / "soft.npz")
    at = torch.rand(100, 3) * 2 - 1
    both = torch.cat([at, -at], dim=1)
    expected = torch.where(both > 0, both, both.exp() - 1).sum(dim=1) - 0.5
    torch.testing.assert_close(sdf(at).detach(), expected, atol=1e-6, rtol=1e-5)
    storage.save(sdf, tmp_path / "kept.safetensors")
    assert torch.equal(storage.load(tmp_path / "kept.safetensors")(at), sdf(at))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"0001.relu._": None, "0001.swish._": np.zeros(0)}, "swish"),
        ({"0002.dense.A": np.ones((5, 1), np.float32)}, "shape"),
        ({"0002.dense.b": np.full(1, np.nan, np.float32)}, "no numbers"),
        ({"0002.dense.b": None}, "no file of published layers"),
        ({"nonsense": np.zeros(3)}, "no file of published layers"),
        ({"0001.relu._": None, "0002.dense.A": None, "0002.dense.b": None}, "no file of published layers"),
        ({"0000.dense.b": np.float32(1.0)}, "no file of published layers"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    held = {name: value for name, value in {**layers(), **change}.items() if value is not None}
    np.savez(tmp_path / "bad.npz", **held)
    with pytest.raises(StorageError, match=says):
        load_layers(tmp_path / "bad.npz")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no file"):
        load_layers(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(StorageError, match="published layers"):
        load_layers(tmp_path / "text.npz")
    np.savez(tmp_path / "pickled.npz", **{"0000.dense.A": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(StorageError, match="published layers"):
        load_layers(tmp_path / "pickled.npz")
