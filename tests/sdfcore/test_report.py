"""Reports: strict JSON, the right numbers, and gradient statistics of fields whose gradient is known."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import sdfcore
from sdfcore.errors import InputError
from sdfcore.files import replacing
from sdfcore.geometry import Box, Frame, Mesh, PointCloud
from sdfcore.report import build_report, gradient_statistics, json_values, read_report, write_json

TETRAHEDRON = Mesh(np.eye(4, 3), np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]))


def field(scale: float) -> Any:
    """A sphere's distance times ``scale``: its gradient has that length everywhere."""
    return SimpleNamespace(
        network=lambda points: scale * (points.norm(dim=1) - 0.5),
        frame=Frame(np.zeros(3), 3.0),
        box=Box([-0.5] * 3, [0.5] * 3),
        device=torch.device("cpu"),
    )


def finished(source: Mesh | PointCloud, **history: list[float]) -> Any:
    plan = SimpleNamespace(
        recipe="igr", reason="Because.", preset="draft", steps=200, resolution=64, device="cpu", seed=3
    )
    return SimpleNamespace(
        plan=plan, step=120, warnings=[], source=source, history=history or {"step": [0, 120], "loss": [1.0, 0.5]}
    )


@pytest.mark.parametrize("scale", [1.0, 0.25, 1.7])
def test_gradient_length_of_a_scaled_distance_is_the_scale(scale: float) -> None:
    found = gradient_statistics(field(scale), samples=5000)
    assert found["mean"] == pytest.approx(scale, rel=1e-4)
    assert found["std"] < 1e-4
    assert [found[name] for name in ("p05", "p50", "p95")] == pytest.approx([scale] * 3, rel=1e-4)
    edges, counts = found["histogram"]["edges"], found["histogram"]["counts"]
    # Rounding may put a value on an edge into the bin beside it.
    full = [i for i, count in enumerate(counts) if count]
    assert all(edges[i] - 1e-3 <= scale <= edges[i + 1] + 1e-3 for i in full)
    assert sum(counts) == found["samples"]


def test_gradient_statistics_leave_the_surface_out_and_keep_the_rest() -> None:
    sdf = field(1.0)
    sdf.network = lambda points: torch.where(points[:, 0] > 0, 1.0, 0.001) * (2.0 + points[:, 1])
    found = gradient_statistics(sdf, samples=4000)
    assert found["samples"] == pytest.approx(2000, abs=150)
    assert found["mean"] == pytest.approx(1.0, rel=1e-3)


def test_gradient_lengths_beyond_the_last_edge_are_counted() -> None:
    found = gradient_statistics(field(50.0), samples=1000)
    assert found["histogram"]["counts"][-1] == found["samples"] > 900


def test_gradient_statistics_depend_on_the_seed_alone() -> None:
    sdf = field(1.0)
    sdf.network = lambda points: (points**2).sum(dim=1) + 0.1
    first, same, other = (gradient_statistics(sdf, samples=500, seed=seed) for seed in (0, 0, 1))
    assert first == same
    assert first["mean"] != other["mean"]


def test_report_holds_what_was_done() -> None:
    cloud = PointCloud(np.eye(3), np.eye(3))
    comparison = SimpleNamespace(as_dict=lambda: {"chamfer": np.float64(0.25), "iou": None, "watertight": np.True_})
    body = build_report(
        finished(cloud, step=[0, 60, 120], loss=[3.0, 2.0, 1.0], eikonal=[0.3, 0.2, float("nan")]),
        TETRAHEDRON,
        seconds={"fitting": 2.5, "total": 3.0},
        comparison=comparison,  # type: ignore[arg-type]
        gradient={"mean": 1.0},
        level=0.1,
        resolution=32,
        stopped=True,
    )
    assert json.loads(json.dumps(body, allow_nan=False)) == body
    assert body["input"] == {"kind": "points", "points": 3, "normals": True, "colours": False}
    assert body["result"] == {"vertices": 4, "faces": 4}
    assert body["terms"] == {"loss": 1.0, "eikonal": None}
    assert body["metrics"] == {"chamfer": 0.25, "iou": None, "watertight": True}
    assert (body["recipe"], body["reason"], body["preset"], body["seed"]) == ("igr", "Because.", "draft", 3)
    assert (body["steps"], body["steps_planned"], body["stopped"]) == (120, 200, True)
    assert (body["resolution"], body["level"], body["seconds"]["fitting"]) == (32, 0.1, 2.5)
    assert body["versions"]["sdfcore"] == sdfcore.__version__
    assert body["versions"]["torch"] == torch.__version__


def test_report_of_a_mesh_takes_the_plan_s_resolution() -> None:
    body = build_report(finished(TETRAHEDRON), TETRAHEDRON, seconds={})
    assert body["resolution"] == 64
    assert body["input"] == {"kind": "mesh", "vertices": 4, "faces": 4, "colours": False}
    assert body["metrics"] is None
    assert body["gradient"] is None


def test_json_values_are_plain_and_finite() -> None:
    given = {1: (np.int64(2), np.float32(0.5)), "a": np.array([[1.0, np.inf]]), "b": [float("nan"), "x", None, True]}
    assert json_values(given) == {"1": [2, 0.5], "a": [[1.0, None]], "b": [None, "x", None, True]}


def test_report_file_round_trip(tmp_path: Path) -> None:
    body = build_report(finished(TETRAHEDRON), TETRAHEDRON, seconds={"total": 1.0})
    write_json(tmp_path / "r.json", body)
    assert read_report(tmp_path / "r.json") == body


@pytest.mark.parametrize(("text", "says"), [(None, "cannot be read"), ("{", "not JSON"), ("[1]", "no sdfcore report")])
def test_what_is_no_report_is_said(text: str | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        read_report(path)
    assert "--report" in caught.value.hint


def test_replacing_keeps_the_old_file_until_the_end(tmp_path: Path) -> None:
    target = tmp_path / "a.ply"
    target.write_text("old")
    with replacing(target) as temporary:
        assert temporary.suffix == ".ply"
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.ply"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_replacing_leaves_nothing_after_an_error(error: type[BaseException], tmp_path: Path) -> None:
    def interrupted() -> None:
        with replacing(tmp_path / "a.json") as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_replacing_gives_the_usual_rights(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with replacing(tmp_path / "a.json") as temporary:
            temporary.write_text("{}")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o644
