"""The command line: exit codes, one line on errors, whole files or none, and the time it was given."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from sdfcore import cli, command_fit
from sdfcore.command_fit import FitCommand, check_output
from sdfcore.console import Console
from sdfcore.deadline import Deadline
from sdfcore.errors import DivergedError, InputError
from sdfcore.fitting import Fit
from sdfcore.geometry import Mesh

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def sdfcore(*arguments: object, timeout: float = 120, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sdfcore", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=ENVIRONMENT, **options)


def assert_one_line(text: str, *says: str) -> None:
    assert text.startswith("sdfcore: ")
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert "Traceback" not in text
    for word in says:
        assert word in text


@pytest.fixture
def points(tmp_path: Path) -> Path:
    """Oriented points of a sphere of radius 0.5 around (1, 2, 3), as XYZ with normals."""
    normals = np.random.default_rng(0).normal(size=(2000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    path = tmp_path / "ball.xyz"
    np.savetxt(path, np.hstack([0.5 * normals + [1, 2, 3], normals]))
    return path


def read_mesh(path: Path) -> Mesh:
    from sdfcore.reading import read

    mesh = read(path)
    assert isinstance(mesh, Mesh)
    return mesh


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def quick(path: Path, out: Path, *more: object) -> tuple[object, ...]:
    return ("fit", path, "-o", out, "--preset", "draft", "--steps", 60, "--resolution", 32, *more)


# --- start --------------------------------------------------------------------------------------------------------


def test_help_costs_neither_torch_nor_a_mesh_library() -> None:
    code = (
        "import sys; from sdfcore import cli\n"
        "for words in (['--help'], ['fit', '--help'], [], ['fit'], ['--version']): cli.main(words)\n"
        "print({'torch', 'trimesh', 'skimage', 'matplotlib', 'scipy', 'igl'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["fit", "--help"], ["--version"]])
def test_help_is_no_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert code == 0
    assert err == ""
    assert "sdfcore" in out


def test_the_installed_command_is_the_module(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("sdfcore")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == sdfcore("--version").stdout


def test_recipes_are_listed_with_their_sources(capsys: pytest.CaptureFixture[str]) -> None:
    from sdfcore.presets import PRESETS
    from sdfcore.recipes import RECIPES

    code, out, _ = run(capsys, "recipes")
    assert code == 0
    for recipe in RECIPES.values():
        assert recipe.name in out
        assert recipe.source in out
    for preset in PRESETS.values():
        assert f"{preset.steps} steps" in out


# --- what is wrong is said in one line ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fit"], "INPUT"),
        (["fit", "a.ply"], "--output"),
        (["fitt"], "fitt"),
        (["fit", "a.ply", "-o", "b.ply", "--steps", "0"], "--steps"),
        (["fit", "a.ply", "-o", "b.ply", "--seconds", "-1"], "--seconds"),
        (["fit", "a.ply", "-o", "b.ply", "--resolution", "abc"], "--resolution"),
        (["fit", "a.ply", "-o", "b.ply", "--level", "nan"], "--level"),
        (["fit", "a.ply", "-o", "b.ply", "--steps", "5", "--seconds", "5"], "--seconds and --steps"),
        (["fit", "a.ply", "-o", "b.txt"], ".ply"),
        (["fit", "a.ply", "-o", "b"], ".ply"),
        (["fit", "a.ply", "-o", "nowhere/b.ply"], "nowhere"),
        (["fit", "a.ply", "-o", "a.ply"], "the same"),
        (["fit", "a.ply", "-o", "b.ply", "--save", "m.pt"], ".safetensors"),
        (["fit", "a.ply", "-o", "b.ply", "--report", "r.txt"], ".json"),
        (["fit", "a.ply", "-o", "b.ply", "--preset", "best"], "draft, balanced, fine"),
        (["fit", "missing.ply", "-o", "b.ply"], "missing.ply"),
        (["mesh", "missing.safetensors", "-o", "b.ply"], "missing.safetensors"),
        (["compare", "missing.ply", "missing.ply"], "missing.ply"),
        (["plot", "missing.json"], "missing.json"),
    ],
)
def test_bad_arguments(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert_one_line(err, says)
    assert list(tmp_path.iterdir()) == []


def test_unknown_recipe_names_those_there_are(points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, *quick(points, tmp_path / "o.ply", "--recipe", "magic"))
    assert code == 2
    assert_one_line(err, "magic", "igr", "siren", "distance")


@pytest.mark.parametrize("name", ["empty.ply", "words.ply", "empty.xyz", "nan.xyz", "one.xyz"])
def test_bad_files_end_a_real_process_with_one_line(name: str, tmp_path: Path) -> None:
    text = {"words.ply": "this is no mesh\n" * 9, "nan.xyz": "nan nan nan\n" * 40, "one.xyz": "1 2 3\n" * 40}
    (tmp_path / name).write_text(text.get(name, ""))
    done = sdfcore("fit", name, "-o", "out.ply", "--steps", 5, "--report", "r.json", cwd=tmp_path)
    assert done.returncode == 2
    assert_one_line(done.stderr)
    assert done.stdout == ""
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_folder_that_cannot_be_written_is_found_before_the_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        check_output(tmp_path / "a" / "b.ply", ".ply")
    (tmp_path / "c.ply").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        check_output(tmp_path / "c.ply", ".ply")
    check_output(tmp_path / "d.PLY", ".ply")


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (DivergedError("The loss is NaN.", "Lower the rate.", 7, "eikonal"), 2, "The loss is NaN. Lower the rate."),
        (OSError(28, "No space left on device", "o.ply"), 2, "o.ply: No space left on device."),
        (MemoryError(), 2, "not enough memory"),
        (RuntimeError("first\nsecond"), 1, "unexpected RuntimeError: first second (run again with --debug"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_every_error_is_one_line(
    error: BaseException, code: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(command: FitCommand) -> None:
        raise error

    monkeypatch.setattr(FitCommand, "run", fail)
    found, out, err = run(capsys, "fit", "a.ply", "-o", "b.ply")
    assert (found, out) == (code, "")
    assert_one_line(err, says)


def test_debug_shows_where(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(command: FitCommand) -> None:
        raise RuntimeError("deep down")

    monkeypatch.setattr(FitCommand, "run", fail)
    code, _, err = run(capsys, "fit", "a.ply", "-o", "b.ply", "--debug")
    assert code == 1
    assert "Traceback" in err
    assert "in fail" in err


# --- fits ---------------------------------------------------------------------------------------------------------


def test_fit_writes_everything_it_was_asked_for(points: Path, tmp_path: Path) -> None:
    from sdfcore.topology import topology

    out = tmp_path / "out"
    out.mkdir()
    more = ("--save", out / "m.safetensors", "--report", out / "r.json", "--pictures", out / "pictures", "--seed", 5)
    done = sdfcore(*quick(points, out / "o.ply", *more))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert "60 steps" in done.stdout
    mesh = read_mesh(out / "o.ply")
    assert topology(mesh).watertight
    assert mesh.vertices.mean(axis=0) == pytest.approx([1, 2, 3], abs=0.1)
    assert mesh.volume() == pytest.approx(4 / 3 * np.pi / 8, rel=0.15)
    report = json.loads((out / "r.json").read_text(), parse_constant=pytest.fail)
    assert (report["steps"], report["resolution"], report["seed"], report["preset"]) == (60, 32, 5, "draft")
    assert report["input"] == {"kind": "points", "points": 2000, "normals": True, "colours": False}
    assert report["metrics"]["watertight"] is True
    assert 0.3 < report["gradient"]["mean"] < 2.0
    assert report["result"]["vertices"] == len(mesh.vertices)
    assert {"reading", "fitting", "extracting", "writing", "total"} <= set(report["seconds"])
    assert report["terms"]
    assert report["reason"]
    assert {p.name for p in out.iterdir()} == {"o.ply", "m.safetensors", "r.json", "pictures"}
    assert {p.name for p in (out / "pictures").iterdir()} == {"loss.png", "gradient.png", "section.png"}


def test_steps_are_repeatable_and_the_model_meshes_the_same(
    points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "m.safetensors"
    assert run(capsys, *quick(points, tmp_path / "a.ply", "--save", model))[0] == 0
    assert run(capsys, *quick(points, tmp_path / "b.ply"))[0] == 0
    assert run(capsys, "mesh", model, "-o", tmp_path / "c.ply", "--resolution", 32)[0] == 0
    a, b, c = (read_mesh(tmp_path / f"{name}.ply") for name in "abc")
    assert (a.vertices == b.vertices).all()
    assert (a.faces == b.faces).all()
    assert np.allclose(a.vertices, c.vertices, atol=1e-6)


def test_mesh_takes_levels_in_world_units(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a field in a frame that doubles: what is written lies where the stored field has that value."""
    from sdfcore import storage
    from sdfcore.fields import NeuralSDF
    from sdfcore.geometry import Box, Frame
    from sdfcore.networks import MLP

    torch.manual_seed(0)
    network = MLP(width=64, depth=2)  # geometric initialisation: nearly a sphere's distance before any training
    shape = NeuralSDF(network, Frame(np.array([1.0, 2.0, 3.0]), 2.0), Box([-0.6] * 3, [0.6] * 3), {})
    storage.save(shape, tmp_path / "m.safetensors")
    for level in (-0.2, 0.2):
        words = ("mesh", tmp_path / "m.safetensors", "-o", tmp_path / "l.stl", "--resolution", 32, "--level", level)
        assert run(capsys, *words)[0] == 0
        written = torch.tensor(read_mesh(tmp_path / "l.stl").vertices)
        with torch.inference_mode():
            assert np.median(np.abs(shape(written).numpy() - level)) < 1e-3


def test_mesh_without_that_level_says_the_range(
    points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "m.safetensors"
    assert run(capsys, *quick(points, tmp_path / "a.ply", "--save", model))[0] == 0
    code, out, err = run(capsys, "mesh", model, "-o", tmp_path / "l.ply", "--level", -5, "--resolution", 16)
    assert (code, out) == (2, "")
    assert_one_line(err.splitlines(keepends=True)[-1])
    assert not (tmp_path / "l.ply").exists()


def test_plot_draws_reports_and_models(points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, report = tmp_path / "m.safetensors", tmp_path / "r.json"
    assert run(capsys, *quick(points, tmp_path / "a.ply", "--save", model, "--report", report))[0] == 0
    for given, names in ((report, ["r_loss.png", "r_gradient.png"]), (model, ["m_section.png"])):
        code, out, _ = run(capsys, "plot", given, "-o", tmp_path / "p")
        assert code == 0
        assert [Path(line).name for line in out.splitlines()] == names
    assert len(list((tmp_path / "p").iterdir())) == 3


def test_compare_of_known_distances(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sdfcore.writing import write

    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=float)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    write(tmp_path / "a.ply", Mesh(square, faces))
    write(tmp_path / "b.ply", Mesh(square + np.array([0, 0, 0.25]), faces))
    code, out, _ = run(capsys, "compare", tmp_path / "a.ply", tmp_path / "b.ply", "--json", "--samples", 500)
    found = json.loads(out, parse_constant=pytest.fail)
    assert code == 0
    assert found["chamfer"] == pytest.approx(0.25, abs=1e-6)
    assert found["hausdorff"] == pytest.approx(0.25, abs=1e-6)
    code, out, _ = run(capsys, "compare", tmp_path / "a.ply", tmp_path / "b.ply", "--samples", 500)
    assert code == 0
    assert "0.25\n" in out


def test_compare_wants_a_mesh_first(points: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "compare", points, points)
    assert code == 2
    assert_one_line(err, "without faces")


# --- time and interruption ----------------------------------------------------------------------------------------


def test_seconds_are_kept(points: Path, tmp_path: Path) -> None:
    before = time.monotonic()
    done = sdfcore("fit", points, "-o", tmp_path / "o.ply", "--seconds", 12, "--report", tmp_path / "r.json")
    wall = time.monotonic() - before
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    assert wall <= 12 * 1.2
    assert report["seconds"]["total"] <= wall <= report["seconds"]["total"] + 3  # the rest is the interpreter's end
    assert report["steps"] > 0


def test_ctrl_c_keeps_the_result_so_far(points: Path, tmp_path: Path) -> None:
    process = _start_long_fit(points, tmp_path)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Stopping here" in err
    assert "(stopped)" in out
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["stopped"] is True
    assert 0 < report["steps"] < 1_000_000
    assert (tmp_path / "o.ply").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_dropped_fit_leaves_nothing(number: int, code: int, points: Path, tmp_path: Path) -> None:
    process = _start_long_fit(points, tmp_path)
    process.send_signal(number)
    if number == signal.SIGINT:
        assert process.stderr is not None
        assert "again" in process.stderr.readline()
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    assert [p.name for p in tmp_path.iterdir()] == ["ball.xyz"]


def _start_long_fit(points: Path, folder: Path) -> subprocess.Popen[str]:
    """A fit that would take hours, once it is under way: it says its recipe then."""
    words = ["fit", points, "-o", folder / "o.ply", "--report", folder / "r.json", "--steps", 1_000_000]
    command = [sys.executable, "-m", "sdfcore", *map(str, words), "--resolution", "32", "--preset", "draft"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stderr is not None
    assert ":" in process.stderr.readline()
    time.sleep(1.5)
    return process


def test_reports_and_pictures_are_paid_for_in_training_time() -> None:
    options: dict[str, Any] = dict.fromkeys(FitCommand.__dataclass_fields__)
    options |= {"clock": lambda: 4.0, "seconds": 100, "resolution": 128, "preset": "draft"}
    plain = FitCommand(**options)._deadline().left()
    report = FitCommand(**options | {"report": Path("r.json")})._deadline().left()
    pictures = FitCommand(**options | {"pictures": Path("p")})._deadline().left()
    assert 96 > plain > report > pictures > 80


@pytest.mark.parametrize(
    ("options", "effort"),
    [
        ({}, "balanced"),
        ({"seconds": 10}, "draft"),
        ({"seconds": 60}, "balanced"),
        ({"seconds": 5, "preset": "fine"}, "fine"),
    ],
)
def test_little_time_is_a_draft_unless_told(options: dict[str, Any], effort: str) -> None:
    assert FitCommand(**dict.fromkeys(FitCommand.__dataclass_fields__) | options).effort == effort


def test_a_fit_ends_at_its_deadline() -> None:
    """Even one that does not watch the clock itself."""
    now = [0.0]

    def steps() -> Any:
        for number in range(1, 1000):
            now[0] += 1.0
            yield SimpleNamespace(stage="fitting", step=number, steps=1000, fraction=number / 1000, loss=1.0)

    class Slow:
        warnings: ClassVar[list[str]] = []
        plan = SimpleNamespace(recipe="igr", reason="Because.", steps=1000, resolution=64)

        def __iter__(self) -> Any:
            return steps()

    deadline = Deadline(20, 64, 64, 3.0, lambda: now[0])
    deadline._measured = True
    assert not command_fit._train(Slow(), Console(quiet=True), deadline)  # type: ignore[arg-type]
    assert now[0] == pytest.approx(20 - 3 - deadline._extraction, abs=1.0)


def test_ctrl_c_while_it_is_meshed_keeps_the_fit(
    points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mesh = Fit.mesh

    def pressed(self: Fit, *words: Any, **options: Any) -> Mesh:
        signal.raise_signal(signal.SIGINT)
        return mesh(self, *words, **options)

    monkeypatch.setattr(Fit, "mesh", pressed)
    code, _, _ = run(capsys, "fit", points, "-o", tmp_path / "o.ply", "--steps", 3, "--resolution", 16, "-q")
    assert code == 0
    assert (tmp_path / "o.ply").exists()
