"""The managed environment, made from a tiny package in a folder: nothing is downloaded."""

from __future__ import annotations

import dataclasses
import importlib
import json
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

_NAME = "bl_ext.test.neural_sdf"
install = importlib.import_module(f"{_NAME}.blender_addon.install")
interpreter = importlib.import_module(f"{_NAME}.blender_addon.interpreter")
errors = importlib.import_module(f"{_NAME}.sdfcore.errors")

ROOT = Path(__file__).parents[2]


def wheel(folder: Path, name: str, code: str = "") -> None:
    """A wheel of one module."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


def packages(folder: Path, *others: str, imports: tuple[str, ...] = ("tinytorch",)) -> Any:
    return install.Packages("tinytorch", others, imports, ("--no-index", "--find-links", str(folder)))


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder with two packages, one of which cannot be imported."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    wheel(folder, "tinytorch")
    wheel(folder, "broken", "raise OSError('no libstdc++')")
    return folder


def test_an_environment_is_made_moved_into_place_and_found(tmp_path: Path, shelf: Path) -> None:
    folder = tmp_path / "user files" / "env"
    running = install.Installation(Path(sys.executable), folder, "cpu", packages(shelf))
    seen = []
    while not running.poll().finished:
        assert not folder.exists(), "never there half-made"
        seen.append((running.poll().fraction, running.poll().stage))
        time.sleep(0.02)
    done = running.wait()
    assert done.error is None
    assert done.fraction == 1.0
    assert seen == sorted(seen, key=lambda entry: entry[0])
    assert {stage for _, stage in seen} >= {"Making an environment", "Installing torch"}
    assert any("Successfully installed tinytorch-1.0" in line for line in done.tail)
    python = interpreter.find_python("", folder, {})
    assert python.is_relative_to(folder)
    command = [python, "-P", "-s", "-c", "import tinytorch, sys; print(tinytorch.__file__, sys.prefix)"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.count(str(folder)) == 2
    assert sorted(path.name for path in folder.parent.iterdir()) == ["env"]
    assert json.loads((folder / interpreter.COMPLETE).read_text())["choice"] == "cpu"


def pretend(folder: Path) -> Path:
    """An environment that was made earlier."""
    (folder / "bin").mkdir(parents=True)
    (folder / interpreter.COMPLETE).write_text("{}")
    python = folder / "bin" / "python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    return python


def failing(tmp_path: Path, steps: list[Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """An installation over an older environment whose steps are replaced by ``steps``."""
    monkeypatch.setattr(install, "plan", lambda *_: steps)
    return install.Installation(Path(sys.executable), tmp_path / "env", "cpu", install.Packages())


def step(code: str) -> Any:
    return install.Step("Trying it out", (sys.executable, "-c", code), 0.5)


MAKE = "import pathlib, sys; pathlib.Path(r'{}').mkdir()"


def test_what_fails_leaves_the_older_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = pretend(tmp_path / "env")
    steps = [
        step(MAKE.format(tmp_path / "env.new")),
        step("import sys; print('ERROR: No space left on device'); print('see above'); sys.exit(3)"),
    ]
    done = failing(tmp_path, steps, monkeypatch).wait(20)
    assert isinstance(done.error, errors.EngineError)
    assert done.error.message == "Trying it out failed (exit code 3): ERROR: No space left on device"
    assert done.error.hint == "Free some space on that disk."
    assert done.finished
    assert 0 < done.fraction < 1
    assert interpreter.find_python("", tmp_path / "env", {}) == python
    assert not (tmp_path / "env.new").exists()


def test_a_package_that_is_not_there_is_named(tmp_path: Path, shelf: Path) -> None:
    wanted = install.Packages("nosuchpackage", (), ("x",), ("--no-index", "--find-links", str(shelf)))
    command = install.plan(Path(sys.executable), tmp_path / "env", "cpu", wanted)[1].command
    here = install.Step("Installing torch", (sys.executable, *command[1:]), 1.0)
    tried = install.subprocess.run(here.command, capture_output=True, text=True)
    failure = install._failure(here, tried.returncode, install.deque(tried.stderr.splitlines()))
    assert "No matching distribution found for nosuchpackage" in failure.message
    assert failure.hint == "There is no such package for this Python or system."


def test_an_environment_that_does_not_import_is_not_used(tmp_path: Path, shelf: Path) -> None:
    folder = tmp_path / "env"
    running = install.Installation(Path(sys.executable), folder, "cpu", packages(shelf, "broken", imports=("broken",)))
    done = running.wait(60)
    assert "no libstdc++" in done.error.message
    assert not folder.exists()
    assert not folder.with_name("env.new").exists()


def test_cancel_ends_it_and_removes_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = pretend(tmp_path / "env")
    steps = [
        step(MAKE.format(tmp_path / "env.new")),
        step("print('downloading', flush=True); import time; time.sleep(600)"),
    ]
    running = failing(tmp_path, steps, monkeypatch)
    end = time.monotonic() + 10
    while running.poll().line != "downloading" and time.monotonic() < end:
        time.sleep(0.02)
    running.cancel()
    done = running.wait(10)
    assert (done.finished, done.cancelled, done.error) == (True, True, None)
    assert python.exists()
    assert not (tmp_path / "env.new").exists()


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "thesis.txt").write_text("mine")
    with pytest.raises(errors.InputError, match="is no environment"):
        install.Installation(Path(sys.executable), tmp_path / "env")
    assert (tmp_path / "env" / "thesis.txt").read_text() == "mine"


def test_an_environment_that_cannot_be_put_in_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows a folder that has just been written often cannot be renamed."""
    running = install.Installation.__new__(install.Installation)
    running._folder, running._new = tmp_path / "env", tmp_path / "env.new"
    running._choice, running._steps = "cpu", []
    for folder, text in ((running._folder, "old"), (running._new, "new")):
        folder.mkdir()
        (folder / "which").write_text(text)
    real, refused = Path.replace, []

    def replace(self: Path, to: Path) -> Path:
        if self == running._new and len(refused) < limit:
            refused.append(self)
            raise PermissionError(13, "Access is denied", str(self))
        return real(self, to)

    monkeypatch.setattr(install.time, "sleep", lambda _: None)
    monkeypatch.setattr(install.Path, "replace", replace)
    limit = 99
    with pytest.raises(PermissionError):
        running._replace()
    assert (running._folder / "which").read_text() == "old"
    refused.clear()
    limit = 2
    running._replace()
    assert (running._folder / "which").read_text() == "new"


def test_too_little_space_is_said_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100_000_000}))
    with pytest.raises(errors.InputError, match=r"0\.1 GB are free"):
        install.Installation(Path(sys.executable), tmp_path / "env")
    assert list(tmp_path.iterdir()) == []


def test_a_python_that_is_none_is_an_error(tmp_path: Path) -> None:
    done = install.Installation(tmp_path / "nope", tmp_path / "env", "cpu", install.Packages()).wait(10)
    assert "nope" in done.error.message


def test_torch_comes_from_the_index_that_was_chosen(tmp_path: Path) -> None:
    steps = install.plan(Path("/py"), tmp_path / "env", "cpu")
    (torch,) = [s.command for s in steps if s.title == "Installing torch"]
    assert torch[torch.index("--index-url") + 1] == "https://download.pytorch.org/whl/cpu"
    assert sum(s.share for s in steps) == pytest.approx(1.0)
    assert "cu130" in " ".join(install.plan(Path("/py"), tmp_path / "env", "cuda")[1].command)
    with pytest.raises(errors.InputError, match="quantum"):
        install.plan(Path("/py"), tmp_path / "env", "quantum")


def test_the_requirements_are_those_of_the_package() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {install.TORCH, *install.OTHERS} <= set(wanted)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert install.PEERS in extras["benchmark"]


def test_what_is_optional_may_be_missing(tmp_path: Path, shelf: Path) -> None:
    wanted = dataclasses.replace(packages(shelf), extra=("no-such-extra",))
    done = install.Installation(Path(sys.executable), tmp_path / "env", "cpu", wanted).wait(60)
    assert done.error is None
    assert done.fraction == 1.0
    (line,) = done.missing
    assert "no-such-extra" in line
    assert interpreter.find_python("", tmp_path / "env", {}).is_file()
    steps = install.plan(Path("/py"), tmp_path / "env", "cpu", install.Packages(extra=(install.PEERS,)))
    assert [step.needed for step in steps] == [True] * 4 + [False]
    assert install.PEERS in steps[-1].command
