"""The judge of the suite ``awkward`` lets nothing pass that a user would call broken."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from sdfcore.geometry import Mesh, PointCloud
from sdfcore.writing import write

TETRAHEDRON = Mesh(np.eye(4, 3), np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]))


@pytest.fixture(scope="module")
def awkward() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "scripts" / "benchmarks" / "awkward.py"
    spec = importlib.util.spec_from_file_location("awkward", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["awkward"] = module
    spec.loader.exec_module(module)
    return module


def ended(code: int, err: str = "", out: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], code, out, err)


def test_a_closed_mesh_passes(awkward: ModuleType, tmp_path: Path) -> None:
    solid = TETRAHEDRON if TETRAHEDRON.volume() > 0 else TETRAHEDRON.flipped()
    write(tmp_path / "o.ply", solid)
    outcome, problem = awkward.judge(ended(0), tmp_path / "o.ply", True)
    assert problem == ""
    assert "1 part" in outcome


def test_broken_results_do_not_pass(awkward: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "o.ply"
    solid = TETRAHEDRON if TETRAHEDRON.volume() > 0 else TETRAHEDRON.flipped()
    problems = []
    for shape in (solid.flipped(), Mesh(solid.vertices, solid.faces[:3]), PointCloud(solid.vertices)):
        write(path, shape)
        problems.append(awkward.judge(ended(0), path, True)[1])
    path.write_text("ply\n")
    problems.append(awkward.judge(ended(0), path, True)[1])
    path.unlink()
    problems.append(awkward.judge(ended(0), path, True)[1])
    assert problems[:3] == ["encloses no volume", "is not watertight", "gives no mesh"]
    assert problems[3:] == ["gives a mesh that cannot be read"] * 2


@pytest.mark.parametrize(
    ("done", "problem"),
    [
        (ended(2, "sdfcore: The file is empty. Export it again.\n"), ""),
        (ended(2, "igr: because\nsdfcore: There is no surface.\n"), ""),
        (ended(2, ""), "says 0 lines"),
        (ended(2, "sdfcore: a\nsdfcore: b\n"), "says 2 lines"),
        (ended(2, "sdfcore: a\nand more\n"), "says 1 lines"),
        (ended(1, "sdfcore: unexpected ValueError\n"), "ends with 1"),
        (ended(-11), "ends with -11"),
        (ended(2, "Traceback (most recent call last):\n  a\nsdfcore: a\n"), "prints a traceback"),
    ],
)
def test_failures_need_code_2_and_one_line(
    done: subprocess.CompletedProcess[str], problem: str, awkward: ModuleType, tmp_path: Path
) -> None:
    assert awkward.judge(done, tmp_path / "o.ply", False)[1] == problem


def test_a_good_file_must_give_a_mesh_and_a_failure_no_file(awkward: ModuleType, tmp_path: Path) -> None:
    said = ended(2, "sdfcore: The file is empty.\n")
    assert awkward.judge(said, tmp_path / "o.ply", True) == ("The file is empty.", "must give a mesh")
    (tmp_path / "o.ply").write_text("half")
    assert awkward.judge(said, tmp_path / "o.ply", False)[1] == "leaves a file although it failed"


def test_usable_faces_are_those_that_are_not_degenerate(awkward: ModuleType, tmp_path: Path) -> None:
    rows = ["path,faces,degenerate", "awkward/a.ply,120,30", "awkward/b.ply,,", "shapes/c.ply,9,0", "awkward/d.obj,5,"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    assert awkward.usable_faces(tmp_path / "manifest.csv") == {"a.ply": 90, "d.obj": 5}
