"""The zip that users install: built, validated, installed into an empty Blender, used there with the real worker."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import bpy
import pytest

pytestmark = pytest.mark.blender

ROOT = Path(__file__).parents[2]
TOOL = Path(bpy.utils.system_resource("SCRIPTS")) / "addons_core" / "bl_pkg" / "cli" / "blender_ext.py"


def run(*command: object, **environment: str) -> str:
    """Output of a command that must succeed."""
    ended = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
        env={**os.environ, **environment},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """The extension, built from the checkout as ``blender --command extension build`` does it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, TOOL, "build", "--source-dir", ROOT, "--output-dir", folder)
    (made,) = folder.glob("*.zip")
    return made


def test_it_validates(archive):
    assert "Success" in run(sys.executable, TOOL, "validate", archive)
    assert archive.name.startswith("neural_sdf-")


def test_it_holds_the_two_packages_and_their_licences_and_nothing_else(archive):
    with zipfile.ZipFile(archive) as held:
        names = held.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {"blender_manifest.toml", "__init__.py", "blender_addon", "sdfcore", "LICENSE", "LICENSES"} <= tops
    assert not tops & {"tests", "scripts", "docs", "assets", "build", "dist", "Makefile", "pyproject.toml"}
    assert not [name for name in names if "__pycache__" in name or "/." in name or name.startswith(".")]
    sources = [file for top in ("blender_addon", "sdfcore") for file in (ROOT / top).rglob("*.py")]
    tracked = {file.relative_to(ROOT).as_posix() for file in sources}
    assert tracked <= set(names)
    assert archive.stat().st_size < 1 << 20


def test_versions_agree(archive):
    from bl_ext.test.neural_sdf.sdfcore import __version__

    assert archive.name == f"neural_sdf-{__version__}.zip"


def in_fresh_blender(*arguments: object, resources: Path) -> str:
    """Run installed_extension.py in a Blender that has nothing but its factory settings; returns its last line."""
    script = ROOT / "tests" / "installed_extension.py"
    command: list[object] = [sys.executable, script]
    if bpy.app.binary_path:  # a program, not the module
        command = [bpy.app.binary_path, "--background", "--factory-startup", "--python", script, "--"]
    resources.mkdir()
    text = run(*command, *arguments, BLENDER_USER_RESOURCES=str(resources))
    return [line for line in text.splitlines() if line.strip()][-1]


def test_it_installs_fits_and_leaves(archive, tmp_path):
    assert in_fresh_blender(archive, resources=tmp_path / "user résources") == "all well"


def test_a_source_download_installs_too(archive, tmp_path):
    """GitHub's "Download ZIP" has one folder around everything, and all of the repository in it."""
    folder = tmp_path / "sdfcore-main"
    ignored = shutil.ignore_patterns(".git", ".venv", "build", "dist", "__pycache__", "*.egg-info", ".*_cache")
    shutil.copytree(ROOT, folder, ignore=ignored)
    download = Path(shutil.make_archive(str(tmp_path / "download"), "zip", tmp_path, folder.name))
    assert in_fresh_blender("--install-only", download, resources=tmp_path / "user") == "all well"
