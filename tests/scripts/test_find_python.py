"""find_python runs what it finds before it believes in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def find(*versions: str, path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": str(path), "HOME": str(path), **environment}
    script = ROOT / "scripts" / "find_python"
    return subprocess.run(["/bin/sh", script, *versions], capture_output=True, text=True, env=clean, check=False)


def stub(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_the_first_on_the_path_that_runs(tmp_path: Path) -> None:
    stub(tmp_path / f"python{HERE}", f'exec {sys.executable} "$@"')
    found = find(HERE, path=tmp_path)
    assert found.returncode == 0
    assert found.stdout == f"{sys.executable}\n"


def test_a_shim_that_does_nothing_is_passed_over(tmp_path: Path) -> None:
    """pyenv's shims exist for versions that are not chosen, and fail."""
    stub(tmp_path / f"python{HERE}", "echo 'command not found' >&2; exit 127")
    stub(tmp_path / "pyenv" / "versions" / f"{HERE}.1" / "bin" / f"python{HERE}", f'exec {sys.executable} "$@"')
    found = find(HERE, path=tmp_path, PYENV_ROOT=str(tmp_path / "pyenv"))
    assert found.returncode == 0
    assert found.stdout == f"{sys.executable}\n"
    assert found.stderr == ""


def test_a_python_of_another_version_is_not_taken(tmp_path: Path) -> None:
    stub(tmp_path / "python9.9", f'exec {sys.executable} "$@"')
    found = find("9.9", path=tmp_path)
    assert found.returncode == 1
    assert found.stdout == ""
    assert "9.9" in found.stderr
    assert "PYTHON99=" in found.stderr


def test_versions_are_tried_in_order(tmp_path: Path) -> None:
    stub(tmp_path / f"python{HERE}", f'exec {sys.executable} "$@"')
    assert find("9.9", HERE, path=tmp_path).stdout == f"{sys.executable}\n"


def test_a_named_interpreter_comes_first(tmp_path: Path) -> None:
    stub(tmp_path / "mine", f'exec {sys.executable} "$@"')
    variable = f"PYTHON{HERE.replace('.', '')}"
    assert find(HERE, path=tmp_path, **{variable: str(tmp_path / "mine")}).stdout == f"{sys.executable}\n"


@pytest.mark.parametrize("script", ["scripts/find_python", "scripts/install_torch", ".ci/run"])
def test_scripts_are_executable_and_parse(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    shell = (ROOT / script).read_text().splitlines()[0].removeprefix("#!").split()
    assert subprocess.run([*shell, "-n", ROOT / script], check=False).returncode == 0
