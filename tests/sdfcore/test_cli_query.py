"""``sdfcore import``, ``mesh --certain`` and ``query``, from published layers to answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sdfcore import cli, combining, storage
from sdfcore.geometry import Frame, Mesh
from sdfcore.reading import read
from sdfcore.topology import topology


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """|x| + |y| + |z| - 0.5, imported."""
    one = np.concatenate([np.eye(3), -np.eye(3)], axis=1)
    held = {
        "0000.dense.A": one, "0000.dense.b": np.zeros(6), "0001.relu._": np.zeros(0), "0002.dense.A": np.ones((6, 1)),
        "0002.dense.b": np.full(1, -0.5),
    }  # fmt: skip
    np.savez(tmp_path / "layers.npz", **{name: value.astype(np.float32) for name, value in held.items()})
    path = tmp_path / "octahedron.safetensors"
    assert cli.main(["import", str(tmp_path / "layers.npz"), "-o", str(path)]) == 0
    return path


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert cli.main([str(a) for a in arguments]) == 0
    return capsys.readouterr().out


def test_a_certain_mesh(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "mesh", model, "-o", tmp_path / "m.ply", "--resolution", 32, "--certain")
    assert "watertight" in out
    assert "missed" in out
    assert topology(read(tmp_path / "m.ply")).watertight  # type: ignore[arg-type]


def test_where_a_mesh_is_in_doubt(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    speck = combining.combine([combining.body("sphere", [1.0]), combining.body("sphere", [0.03], (1.5, 0.1, 0.2))])
    storage.save(speck, tmp_path / "speck.safetensors")
    words = ["mesh", model, "-o", tmp_path / "m.ply", "--resolution", 8, "--certain", "--places", tmp_path / "p.ply"]
    assert "Nothing is missed farther than a cell" in said(capsys, *words)
    assert not (tmp_path / "p.ply").exists(), "it is in no doubt"
    said(capsys, "mesh", tmp_path / "speck.safetensors", *words[2:])
    places = read(tmp_path / "p.ply")
    assert isinstance(places, Mesh)
    assert len(places.faces) % 12 == 0
    assert np.linalg.norm(places.vertices - [1.5, 0.1, 0.2], axis=1).min() < 0.2
    assert cli.main([str(a) for a in words if a != "--certain"]) == 2
    assert "--certain" in capsys.readouterr().err
    assert cli.main([str(a) for a in [*words[:-1], tmp_path / "m.ply"]]) == 2
    assert "the same" in capsys.readouterr().err


def test_measures_lie_between_limits(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = json.loads(said(capsys, "query", "measure", model, "--json"))
    assert body["volume"]["low"] <= 4 / 3 * 0.125 <= body["volume"]["high"]
    assert np.all(np.array(body["centroid"]["low"]) <= 0)
    assert np.all(np.array(body["centroid"]["high"]) >= 0)
    assert body["area"]["least"] < body["area"]["of_the_mesh"]
    text = said(capsys, "query", "measure", model)
    assert "volume    0.1666" in text
    assert text.count("\n") == 6


def test_a_model_overlaps_itself(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "They overlap, at" in said(capsys, "query", "overlap", model, model)
    assert json.loads(said(capsys, "query", "overlap", model, model, "--json"))["overlap"] is True


def test_nearest_points(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savetxt(tmp_path / "given.xyz", [[0.0, 0, 0], [1.0, 0, 0], [1.0, 1.0, 1.0]])
    out = said(capsys, "query", "closest", model, tmp_path / "given.xyz", "-o", tmp_path / "near.npz")
    assert "3 points" in out
    found = read(tmp_path / "near.npz").points  # type: ignore[union-attr]
    np.testing.assert_allclose(np.abs(found).sum(axis=1), 0.5, atol=1e-4)
    np.testing.assert_allclose(found[1], [0.5, 0, 0], atol=0.02)
    np.testing.assert_allclose(np.linalg.norm(found[0]), 0.5 / np.sqrt(3), atol=0.01)


def test_what_is_no_layers_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.npz").write_text("x")
    assert cli.main(["import", str(tmp_path / "x.npz"), "-o", str(tmp_path / "m.safetensors")]) == 2
    assert "published layers" in capsys.readouterr().err
    assert not (tmp_path / "m.safetensors").exists()


def test_a_model_and_a_body_are_combined(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "both.safetensors"
    words = ["combine", model, "sphere:0.3@0.5,0,0", "-o", tmp_path / "both.ply", "--resolution", 64]
    out = said(capsys, *words, "--operation", "difference", "--save", kept)
    assert "watertight" in out
    mesh = read(tmp_path / "both.ply")
    assert 0.1 < mesh.volume() < 1 / 6  # type: ignore[union-attr]
    said(capsys, "combine", kept, "-o", tmp_path / "shell.ply", "--wall", 0.05, "--resolution", 64)
    assert topology(read(tmp_path / "shell.ply")).components == 2  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sphere:0.3"], "nothing to combine"),
        (["sphere:0.3", "sphere:x"], "no numbers"),
        (["sphere:0.3", "box:1"], "no body"),
        (["sphere:0.3", "sphere:1@1,2"], "no place"),
        (["sphere:0.3", "missing.safetensors"], "missing"),
        (["sphere:1", "sphere:1", "sphere:2", "--operation", "morph"], "morph"),
    ],
)
def test_what_cannot_be_combined_is_said_in_one_line(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["combine", *words, "-o", str(tmp_path / "x.ply")]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "x.ply").exists()


def test_even_points(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "500 points" in said(capsys, "query", "points", model, "-o", tmp_path / "p.ply", "--count", 500)
    found = read(tmp_path / "p.ply")
    np.testing.assert_allclose(np.abs(found.points).sum(axis=1), 0.5, atol=1e-3)  # type: ignore[union-attr]
    assert found.normals is not None


@pytest.fixture
def ghostly(tmp_path: Path) -> Path:
    """The octahedron, and more that is negative where nothing was fitted: from |x| = 2.75 on."""
    one = np.concatenate([np.eye(3), -np.eye(3), [[1.0, -1], [0, 0], [0, 0]]], axis=1)
    held = {
        "0000.dense.A": one, "0000.dense.b": np.array([0.0] * 6 + [-2, -2]), "0001.relu._": np.zeros(0),
        "0002.dense.A": np.array([[1.0]] * 6 + [[-4.0]] * 2), "0002.dense.b": np.full(1, -0.5),
    }  # fmt: skip
    np.savez(tmp_path / "ghost.npz", **{name: value.astype(np.float32) for name, value in held.items()})
    path = tmp_path / "ghostly.safetensors"
    assert cli.main(["import", str(tmp_path / "ghost.npz"), "-o", str(path)]) == 0
    return path


def test_what_a_network_says_beyond_its_box_is_no_shape(
    ghostly: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sdf = storage.load(ghostly)
    with torch.no_grad():
        assert float(sdf(torch.tensor([[5.0, 0, 0]]))[0]) < 0, "it does say something"
    storage.save(replace(sdf, frame=Frame(np.array([5.0, 0, 0]), 1.0)), tmp_path / "other.safetensors")
    assert "apart, for certain" in said(capsys, "query", "overlap", ghostly, tmp_path / "other.safetensors")
    np.savez(tmp_path / "rays.npz", origins=[[-6.0, 0, 0], [-6.0, 4, 0]], directions=[[1.0, 0, 0]] * 2)
    for far in ([], ["--far", "inf"]):
        said(capsys, "query", "rays", ghostly, tmp_path / "rays.npz", "-o", tmp_path / "hits.npz", *far)
        with np.load(tmp_path / "hits.npz") as held:
            np.testing.assert_allclose(held["distance"], [5.5, np.inf], atol=1e-3)


def test_a_device_that_is_not_there_is_said(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["query", "measure", str(model), "--device", "abacus"]) == 2
    assert "no device" in capsys.readouterr().err


def test_rays_from_a_file(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "rays.npz", origins=[[-3.0, 0, 0], [-3.0, 2, 0], [0, 0, 0]], directions=[[2.0, 0, 0]] * 3)
    out = said(capsys, "query", "rays", model, tmp_path / "rays.npz", "-o", tmp_path / "hits.npz")
    assert "3 rays, 2 hits" in out
    with np.load(tmp_path / "hits.npz") as held:
        np.testing.assert_allclose(held["distance"], [1.25, np.inf, 0.25], atol=1e-4)
        np.testing.assert_allclose(held["points"][[0, 2], 0], [-0.5, 0.5], atol=2e-4)
        assert np.isnan(held["points"][1]).all()


@pytest.mark.parametrize(
    "held",
    [
        {"origins": [[0.0, 0, 0]]},
        {"origins": [[0.0, 0, 0]], "directions": [[0.0, 0, 0]]},
        {"origins": [1.0], "directions": [1.0]},
    ],
)
def test_what_is_no_rays_is_refused(
    held: dict[str, list[float]], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "rays.npz", **held)
    assert cli.main(["query", "rays", str(model), str(tmp_path / "rays.npz"), "-o", str(tmp_path / "h.npz")]) == 2
    assert "rays" in capsys.readouterr().err
    assert not (tmp_path / "h.npz").exists()
