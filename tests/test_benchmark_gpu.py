"""The suite for GPUs, on a processor: what it counts, and that all it runs does run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import trimesh

from scripts.benchmarks import gpu
from scripts.benchmarks.subjects import Case
from sdfcore.geometry import Mesh
from sdfcore.surfaces import sample_surface
from sdfcore.writing import write


def body(balanced: float = 4.0, ours: float = 5.0, extracted: float = 0.4) -> dict[str, Any]:
    fitted = {"seconds": balanced, "whole": balanced + 3, "chamfer": 0.2, "stages": {}}
    run = {"chamfer": 0.3, "training": ours, "preparing": 1.0}
    return {
        "machine": {"cpu": "c", "cores": 1, "system": "s", "date": "d", "versions": {}}, "commit": "abc", "device": "G",
        "fits": {"anchor": {"balanced": fitted, "fine": {**fitted, "seconds": 20.0}}},
        "against": {"siren": {"anchor": {"theirs": {"chamfer": 0.3}, "5.0": run}}},
        "learning": {"points": 2e6, "flops": 5e12, "peak": 2e13, "weights": 1000},
        "extraction": {"seconds": extracted, "vertices": 1, "peak_mib": 1},
    }  # fmt: skip


def test_bars_are_of_what_was_measured() -> None:
    assert [bar.passed for bar in gpu.bars(body())] == [True] * 4
    assert [bar.passed for bar in gpu.bars(body(balanced=5.1))] == [False, True, True, True]
    assert [bar.passed for bar in gpu.bars(body(ours=10.0))] == [True, True, False, True]
    assert [bar.passed for bar in gpu.bars(body(extracted=0.6))] == [True, True, True, False]
    bare = {**body(), "fits": {}, "against": {}, "extraction": {}}
    assert gpu.bars(bare) == []
    text = gpu.section(body())
    assert "| `anchor` | balanced | 4.0 | 7.0 | 0.2000 |" in text
    assert "25%" in text
    assert gpu.section(bare)


def test_points_are_counted_by_the_clock() -> None:
    found = gpu.throughput(torch.device("cpu"), "draft", steps=30, side=128)
    assert found["points"] > 1000
    assert found["weights"] > 10_000
    assert 0 < found["flops"] < 100 * found["peak"]


def test_fits_are_timed_without_starting(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(3)
    mesh = Mesh(ball.vertices, ball.faces)
    write(tmp_path / "truth.ply", mesh)
    write(tmp_path / "scan.ply", sample_surface(mesh, 800))
    found: dict[str, Any] = {"fits": {}}
    gpu.fits([Case("ball", tmp_path / "truth.ply", tmp_path / "scan.ply")], "cpu", {"draft": 5.0}, found, steps=5)
    row = found["fits"]["ball"]["draft"]
    assert 0 < row["seconds"] < row["whole"]
    assert row["seconds"] == pytest.approx(
        sum(v for k, v in row["stages"].items() if k in ("reading", "preparing", "fitting", "extracting", "writing")),
        abs=0.05,
    )
    assert row["chamfer"] > 0
