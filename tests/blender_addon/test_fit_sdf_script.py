"""scripts/fit_sdf.py as it is run: a process of its own, the real worker, files and exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest

pytestmark = pytest.mark.blender

SCRIPT = Path(__file__).parents[2] / "scripts" / "fit_sdf.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command: list[object] = [sys.executable, SCRIPT, "--"]
    if bpy.app.binary_path:
        command = [bpy.app.binary_path, "--background", "--factory-startup", "--python", SCRIPT, "--"]
    words = [str(word) for word in (*command, *arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=150)


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    """Points and normals of a unit sphere, as .xyz."""
    path = tmp_path_factory.mktemp("scans") / "ball.xyz"
    directions = np.random.default_rng(0).normal(size=(1000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    np.savetxt(path, np.hstack([directions, directions]))
    return path


def test_a_scan_becomes_a_file_in_blenders_format(scene, scan, tmp_path):
    out = tmp_path / "ball.blend"
    ended = run("--input", scan, "--output", out, "--steps", 40, "--resolution", 32)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    bpy.ops.wm.open_mainfile(filepath=str(out))
    assert {o.name for o in bpy.data.objects} == {"ball", "ball.sdf"}
    result = bpy.data.objects["ball.sdf"]
    radii = [v.co.length for v in result.data.vertices]
    assert np.mean(radii) == pytest.approx(1, rel=0.1)
    assert result["sdf_model"]


def test_failure_and_misuse_have_their_exit_codes(tmp_path, scan, monkeypatch):
    out = tmp_path / "out.ply"
    missing = run("--input", tmp_path / "none.xyz", "--output", out)
    assert missing.returncode == 2
    assert "is not a file" in missing.stderr
    monkeypatch.setenv("NEURAL_SDF_PYTHON", str(tmp_path / "no python"))
    helpless = run("--input", scan, "--output", out)
    assert helpless.returncode == 1
    assert "NEURAL_SDF_PYTHON" in helpless.stderr
    assert not out.exists()
