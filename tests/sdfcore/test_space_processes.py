"""Learning a space in two processes is learning it in one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from small_fits import one_thread

from sdfcore import cli
from sdfcore.spaces import load

QUICK = ("--preset", "draft", "--steps", "12", "--samples", "1000", "--code-size", "4", "--seed", "3")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shapes that are not equally easy, so that the loss of one is not that of both."""
    shapes = tmp_path / "shapes"
    shapes.mkdir()
    trimesh.creation.icosphere(2).export(shapes / "ball.ply")
    trimesh.creation.box((1.0, 0.3, 0.3)).export(shapes / "bar.ply")
    return shapes


def test_two_processes_descend_as_one_does(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    words = ["space", "learn", str(folder), *QUICK]
    with one_thread():
        assert cli.main([*words, "-o", str(out / "one.safetensors"), "--report", str(out / "one.json")]) == 0
    capfd.readouterr()
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    environment["OMP_NUM_THREADS"] = "1"
    if sys.platform == "linux":
        environment["GLOO_SOCKET_IFNAME"] = "lo"  # this machine's name need not be known to any network
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv_backend", "c10d"]
    command = [sys.executable, *launcher, "--rdzv_endpoint", "localhost:0", "-m", "sdfcore", *words]
    command += ["-o", str(out / "two.safetensors"), "--report", str(out / "two.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1, "one of them speaks"
    assert sorted(path.name for path in out.iterdir()) == [
        "one.json", "one.safetensors", "two.json", "two.safetensors"
    ]  # fmt: skip
    one, two = (json.loads((out / f"{name}.json").read_text()) for name in ("one", "two"))
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["history"]["step"] == two["history"]["step"] == list(range(1, 13))
    assert set(one["history"]) == set(two["history"])
    assert one["history"]["loss"][-1] < one["history"]["loss"][0]
    for name, values in one["history"].items():
        assert two["history"][name] == pytest.approx(values, rel=2e-3, abs=1e-6), name
    first, second = load(out / "one.safetensors"), load(out / "two.safetensors")
    assert first.names == second.names == ["ball", "bar"]
    assert np.abs(first.codes - second.codes).max() < 1e-3 * np.abs(first.codes).max()


def test_the_others_are_silent_about_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank, lines in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        assert cli.main(["space", "learn", str(tmp_path / "none"), "-o", str(tmp_path / "s.safetensors")]) == 2
        assert capsys.readouterr().err.count("\n") == lines
