"""All shapes of a folder: which, which again, and what is on record when some fail or the run is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import trimesh

from sdfcore import cli, command_batch, many, pools
from sdfcore.command_batch import fit_one
from sdfcore.command_many import FAILED
from sdfcore.console import Console
from sdfcore.errors import DivergedError, EmptyInputError, EngineError, InputError

TINY = ("--steps", 5, "--preset", "draft", "--resolution", 24, "--samples", 1000)


def run(*arguments: object) -> int:
    return cli.main(list(map(str, arguments)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two balls, one of them in a subfolder, something that is no shape, and a broken file."""
    given = tmp_path / "in"
    (given / "deep").mkdir(parents=True)
    ball = trimesh.creation.icosphere(subdivisions=2)
    ball.export(given / "ball.ply")
    ball.export(given / "deep" / "ball.stl")
    (given / "broken.obj").write_text("v 0 0\nf 1 2 9\n")
    (given / "notes.txt").write_text("1 2 3\n")
    (given / ".hidden.ply").write_bytes((given / "ball.ply").read_bytes())
    return given


def names(found: list[many.Item]) -> list[str]:
    return [item.name for item in found]


def test_shapes_are_found_by_what_can_be_read(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert names(many.items(folder, out, ".ply")) == ["ball.ply", "broken.obj"]
    deep = many.items(folder, out, ".obj", recursive=True)
    assert names(deep) == ["ball.ply", "broken.obj", "deep/ball.stl"]
    assert deep[2].output == out / "deep" / "ball.obj"


def test_files_that_differ_in_their_suffix_keep_it(folder: Path, tmp_path: Path) -> None:
    (folder / "ball.off").write_bytes(b"OFF")
    outputs = [item.output.name for item in many.items(folder, tmp_path / "out", ".glb")]
    assert outputs == ["ball.off.glb", "ball.ply.glb", "broken.glb"]


def test_results_within_the_folder_are_no_shapes(folder: Path) -> None:
    out = folder / "out"
    out.mkdir()
    (out / "ball.ply").write_bytes((folder / "ball.ply").read_bytes())
    assert "out/ball.ply" not in names(many.items(folder, out, ".ply", recursive=True))
    with pytest.raises(InputError, match="among the shapes"):
        many.items(folder, folder, ".ply")
    with pytest.raises(InputError, match="no folder"):
        many.items(folder / "nowhere", out, ".ply")
    with pytest.raises(EmptyInputError, match="No shapes"):
        many.items(out, folder / "other", ".ply", recursive=True) if (out / "ball.ply").unlink() is None else None


def test_the_fingerprint_is_of_content_and_settings(folder: Path, tmp_path: Path) -> None:
    ball, broken = many.items(folder, tmp_path / "out", ".ply")
    key = many.fingerprint(ball, {"steps": 5})
    assert key == many.fingerprint(ball, {"steps": 5})
    assert key != many.fingerprint(ball, {"steps": 6})
    assert key != many.fingerprint(broken, {"steps": 5})
    ball.source.write_bytes(ball.source.read_bytes() + b"\n")
    assert key != many.fingerprint(ball, {"steps": 5})


def test_a_foreign_record_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / many.RECORD
    path.write_text('{"mine": 1}')
    with pytest.raises(InputError, match="not a record"):
        many.Record(path)
    assert path.read_text() == '{"mine": 1}'


def record(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / many.RECORD).read_text())["results"]
    return found


def test_a_folder_is_fitted_failures_listed_and_nothing_done_twice(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ("fit-many", folder, "-o", out, "-r", *TINY, "--save", "--reports")
    assert run(*command) == FAILED
    said = capsys.readouterr()
    assert "2 of 3 fitted" in said.out
    assert "failed: broken.obj: " in said.err
    found = record(out)
    assert set(found) == {"ball.ply", "broken.obj", "deep/ball.stl"}
    assert found["deep/ball.stl"]["mesh"] == "deep/ball.ply"
    assert found["ball.ply"]["watertight"] is True
    for end in (".ply", ".safetensors", ".json"):
        assert (out / "deep" / "ball").with_suffix(end).stat().st_size > 0
    assert trimesh.load(out / "ball.ply").is_watertight

    times = (out / "ball.ply").stat().st_mtime_ns, (out / "deep" / "ball.ply").stat().st_mtime_ns
    (out / "deep" / "ball.ply").unlink()
    assert run(*command) == FAILED  # the broken one is tried again
    assert "1 of 3 are done already" in capsys.readouterr().err
    assert (out / "ball.ply").stat().st_mtime_ns == times[0]
    assert (out / "deep" / "ball.ply").exists()

    (folder / "broken.obj").unlink()
    assert run(*command, "--again", "-q") == 0  # what is no longer there counts no more
    assert (out / "ball.ply").stat().st_mtime_ns > times[0]
    assert "2 of 2 fitted" in capsys.readouterr().out


def test_the_same_mesh_comes_of_a_fit_alone(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (folder / "broken.obj").unlink()
    assert run("fit-many", folder, "-o", out, *TINY, "-q") == 0
    assert run("fit", folder / "ball.ply", "-o", tmp_path / "alone.ply", *TINY, "-q") == 0
    many_ball, alone = trimesh.load(out / "ball.ply"), trimesh.load(tmp_path / "alone.ply")
    np.testing.assert_allclose(many_ball.vertices, alone.vertices, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--format", "xyz"), "cannot be written"),
        (("--preset", "best"), "no preset"),
        (("--workers", 0), "0"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(
    options: tuple[object, ...], says: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fit-many", folder, "-o", tmp_path / "out", *options) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_batches_do_the_same(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, alone = tmp_path / "out", tmp_path / "alone"
    box = trimesh.creation.box()
    box.export(folder / "box.ply")
    assert run("fit-many", folder, "-o", alone, "-r", *TINY, "-q") == FAILED
    assert run("fit-many", folder, "-o", out, "-r", *TINY, "--batch", 3, "-q") == FAILED
    assert "3 of 4 fitted" in capsys.readouterr().out
    found = record(out)
    assert found["ball.ply"]["how"].endswith("2 at once")
    assert found["box.ply"]["how"].endswith("2 at once")
    assert "error" in found["broken.obj"]
    for name in ("ball.ply", "box.ply", "deep/ball.ply"):
        one, other = trimesh.load(out / name), trimesh.load(alone / name)
        assert one.volume == pytest.approx(other.volume, rel=1e-3)
    assert run("fit-many", folder, "-o", tmp_path / "third", *TINY, "--batch", 2, "--seconds", 9) == 2


def test_a_batch_whose_process_dies_is_done_one_by_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = pools.local, []

    def dying(work: pools.Work, tasks: Any, workers: int) -> Any:
        calls.append(list(tasks))
        if len(calls) == 1:
            return iter([(name, EngineError("dead", "")) for name in tasks])
        return real(work, tasks, workers)

    monkeypatch.setattr(pools, "local", dying)
    assert run("fit-many", folder, "-o", tmp_path / "out", *TINY, "--batch", 2, "-q") == FAILED
    assert calls == [["ball.ply"], ["ball.ply", "broken.obj"]]
    assert "error" not in record(tmp_path / "out")["ball.ply"]


def test_an_error_crosses_to_the_parent_with_its_cure(tmp_path: Path) -> None:
    task = {
        "source": str(tmp_path / "none.ply"), "output": str(tmp_path / "o.ply"), "recipe": "auto", "preset": "draft",
        "seconds": None, "steps": 1, "resolution": None, "level": 0.0, "device": "cpu", "seed": 0, "samples": None,
    }  # fmt: skip
    found = fit_one(task)
    assert found["error"] == "InputError"
    assert "none.ply" in found["message"]
    assert found["hint"]


def test_a_dead_process_is_a_failure_on_record(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def dying(work: pools.Work, tasks: Any, workers: int) -> Any:
        for name in tasks:
            yield name, EngineError("The process ended without a word.", "Take fewer --workers.")

    monkeypatch.setattr(pools, "local", dying)
    assert run("fit-many", folder, "-o", tmp_path / "out", "-q", *TINY) == FAILED
    assert {entry["error"] for entry in record(tmp_path / "out").values()} == {
        "The process ended without a word. Take fewer --workers."
    }
    assert "0 of 2 fitted" in capsys.readouterr().out


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    given, out = tmp_path / "in", tmp_path / "out"
    given.mkdir()
    for number in range(4):
        trimesh.creation.icosphere(subdivisions=2, radius=1 + number).export(given / f"ball{number}.ply")
    command = [sys.executable, "-m", "sdfcore", "fit-many", given, "-o", out, *TINY]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(list(map(str, command)), env=environment, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not (out / many.RECORD).exists() and time.monotonic() < until:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait(10)
    done = record(out)
    assert 1 <= len(done) < 4
    times = {name: (out / name).stat().st_mtime_ns for name in done}
    assert run(*command[3:], "-q") == 0
    assert len(record(out)) == 4
    assert {name: (out / name).stat().st_mtime_ns for name in done} == times
    assert not [path for path in out.iterdir() if ".part" in path.name]


def test_a_divergence_in_a_batch_costs_only_the_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def diverging(_fits: Any) -> Any:
        raise DivergedError("The loss is no number.", "Fit again.")

    monkeypatch.setattr(command_batch, "Pack", diverging)
    held: Any = {name: (None, SimpleNamespace(warnings=[]), None) for name in "ab"}
    assert command_batch._together(held, Console(quiet=True), lambda: 0.0) == {}, "each is done by itself then"
    alone: Any = {"a": (None, SimpleNamespace(warnings=[], descend=lambda: diverging([])), None)}
    assert "error" in command_batch._together(alone, Console(quiet=True), lambda: 0.0)["a"]
