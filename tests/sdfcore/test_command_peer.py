"""Classical methods by the same command as ours, and through the worker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_fits import ball, ball_points

from sdfcore import cli
from sdfcore.channel import Control
from sdfcore.command_peer import peer_settings
from sdfcore.errors import InputError
from sdfcore.geometry import Mesh
from sdfcore.peer_request import compare_with
from sdfcore.protocol import Message
from sdfcore.reading import read


class Quiet:
    """Takes what a request tells."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def progress(self, body: dict[str, Any]) -> None:
        self.stages.append(body["stage"])

    def check(self) -> None:
        pass


def run(*arguments: object) -> int:
    return cli.main([str(a) for a in arguments])


@pytest.fixture
def points(tmp_path: Path) -> Path:
    path = tmp_path / "ball.xyz"
    np.savetxt(path, ball_points(2000, normals=False).points)
    return path


def test_a_classical_method_writes_its_mesh_and_report(points: Path, tmp_path: Path) -> None:
    """The points have no normals, so these are estimated first, and that is said."""
    out, report = tmp_path / "out.ply", tmp_path / "report.json"
    assert run("fit", points, "-o", out, "--recipe", "hoppe", "--resolution", 48, "--report", report) == 0
    mesh, told = read(out), json.loads(report.read_text())
    assert isinstance(mesh, Mesh)
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 1).max() < 0.06
    assert told["recipe"] == "hoppe"
    assert "estimated" in told["reason"]
    assert told["metrics"]["chamfer"] < 0.03


@pytest.mark.parametrize(
    "option",
    [
        ("--save", "m.safetensors"),
        ("--steps", 5),
        ("--level", 0.1),
        ("--preset", "fine"),
        ("--set", "width=3"),
        ("--device", "cpu"),
    ],
)
def test_what_only_a_fit_has_is_refused(
    option: tuple[str, object], points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = tmp_path / option[1] if isinstance(option[1], str) and "." in option[1] else option[1]
    assert run("fit", points, "-o", tmp_path / "o.ply", "--recipe", "hoppe", option[0], value) == 2
    assert option[0] in capsys.readouterr().err
    assert not (tmp_path / "o.ply").exists()


def test_a_method_without_a_lattice_has_no_resolution(
    points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fit", points, "-o", tmp_path / "o.ply", "--recipe", "ball_pivoting", "--resolution", 64) == 2
    assert "--resolution" in capsys.readouterr().err


def test_resolution_is_what_each_method_calls_it() -> None:
    assert peer_settings("poisson", 256) == {"depth": 8}
    assert peer_settings("poisson", 2) == {"depth": 4}
    assert peer_settings("rimls", 100) == {"resolution": 100}
    assert peer_settings("ball_pivoting", 100) == {}
    assert peer_settings("hoppe", None) == {}


def ask(body: dict[str, Any], **arrays: np.ndarray) -> tuple[dict[str, Any], dict[str, np.ndarray], Quiet]:
    control = Quiet()
    answer, found = compare_with(Message("compare_with", "j", body, arrays), _as_control(control))
    return answer, found, control


def _as_control(quiet: Quiet) -> Control:
    return quiet  # type: ignore[return-value]


def test_the_worker_runs_a_method_and_measures_it() -> None:
    source = ball()
    body, arrays, control = ask(
        {"method": "hoppe", "resolution": 40, "samples": 3000}, vertices=source.vertices, faces=source.faces
    )
    assert body["report"]["recipe"] == "hoppe"
    assert body["report"]["metrics"]["chamfer"] < 0.03
    assert {"vertices", "faces", "sdf_error", "source_face"} <= set(arrays)
    assert "model" not in arrays
    assert control.stages == ["preparing", "fitting", "measuring"]


def test_the_worker_measures_a_mesh_made_elsewhere() -> None:
    source, other = ball(), ball(1.1)
    body, arrays, _ = ask(
        {"method": "voxel"}, vertices=source.vertices, faces=source.faces,
        result_vertices=other.vertices, result_faces=other.faces,
    )  # fmt: skip
    assert body["report"]["metrics"]["chamfer"] == pytest.approx(0.1, rel=0.1)
    np.testing.assert_allclose(arrays["vertices"], other.vertices)


def test_the_worker_refuses_an_unknown_method() -> None:
    with pytest.raises(InputError, match="magic"):
        ask({"method": "magic"}, points=ball_points(100).points)
