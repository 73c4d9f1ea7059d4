"""The buttons about the backend: test, install, log; and where Blender looks for its Python."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import bpy
import pytest
from bl_ext.test.neural_sdf.blender_addon import (
    backend,
    choices,
    connection,
    host,
    install,
    interpreter,
    preferences,
    requests,
)
from bl_ext.test.neural_sdf.sdfcore.errors import EngineMissingError
from bl_ext.test.neural_sdf.sdfcore.presets import PRESETS

pytestmark = pytest.mark.blender

ROOT = Path(__file__).parents[2]

# pip itself is what every new environment has: nothing is fetched.
NOTHING_NEW = install.Packages("pip", (), ("pip",), ("--no-index",))


@pytest.fixture
def online(monkeypatch):
    """Install Backend without the network, by packages that are there."""
    monkeypatch.setattr(backend, "packages", NOTHING_NEW)


def test_test_backend_says_what_the_worker_has(worker):
    assert bpy.ops.sdf.test_backend() == {"FINISHED"}
    assert backend.said() == ["Python fake, torch 0, sdfcore 0", "Devices: CPU (cpu)", "Recipes: igr"]
    assert host.status() == "Backend: cpu · torch 0"


def test_the_workers_own_recipes_and_presets_can_be_chosen(worker):
    settings = bpy.context.scene.sdf
    with pytest.raises(TypeError):
        settings.preset = "balanced-by-worker"
    from bl_ext.test.neural_sdf.blender_addon import engine

    ready = {**engine.READY, "recipes": [{"name": "heat", "title": "Heat", "source": "X 2030", "summary": "Warm."}]}
    host.runtime().known = ready
    settings.recipe = "heat"
    assert settings.recipe == "heat"
    host.runtime().known = {**ready, "recipes": [{"name": "other"}, *ready["recipes"]]}
    assert settings.recipe == "heat"  # kept by name, not by place
    settings.recipe = "auto"


def test_what_is_known_before_the_worker_starts_is_what_it_has():
    presets = {p.name: (p.title, p.resolution) for p in PRESETS.values()}
    assert {p["name"]: (p["title"], p["resolution"]) for p in choices._PRESETS} == presets
    recipes = {path.stem for path in (ROOT / "sdfcore" / "recipes").glob("*.py")} - {"__init__"}
    assert {r["name"] for r in choices._RECIPES} == recipes


class Timers:
    """Blender's timers, which a headless Blender does not turn."""

    def __init__(self):
        self.held = []

    def register(self, function, **_options):
        self.held.append(function)

    def is_registered(self, function):
        return function in self.held


def test_the_worker_starts_when_the_panel_is_first_shown(worker, monkeypatch):
    host.warm()
    assert host.runtime().jobs.backend is None  # headless: nobody looks
    timers = Timers()
    monkeypatch.setattr(host, "bpy", SimpleNamespace(app=SimpleNamespace(background=False, timers=timers)))
    monkeypatch.setattr(preferences, "value", lambda name, fallback: False if name == "warm" else fallback)
    host.warm()
    assert timers.held == []  # the preferences say no
    monkeypatch.setattr(preferences, "value", lambda name, fallback: fallback)
    for _ in range(3):  # drawn again and again
        host.warm()
    assert len(timers.held) == 1
    timers.held[0]()
    host.runtime().tick()
    assert host.runtime().jobs.backend is not None
    assert [message.kind for message in worker.requests] == ["hello"]


def test_a_worker_that_cannot_warm_up_shows_in_its_status(addon, monkeypatch, tmp_path):
    monkeypatch.setenv(interpreter.VARIABLE, str(tmp_path / "nowhere"))
    host._start()
    assert host.runtime().jobs.problem is not None
    assert "nowhere" in host.runtime().jobs.problem.line


def test_a_missing_backend_is_named_with_a_cure(addon, monkeypatch, tmp_path):
    monkeypatch.setenv(interpreter.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(RuntimeError, match=f"{interpreter.VARIABLE}.*nowhere"):
        bpy.ops.sdf.test_backend()
    assert host.runtime().jobs.problem is not None
    bpy.ops.mesh.primitive_cube_add()
    with pytest.raises(RuntimeError, match="nowhere"):
        bpy.ops.sdf.fit()


def test_the_variable_goes_before_the_command_of_the_preferences(addon, monkeypatch, tmp_path):
    held = {"worker_command": "no-such-program"}
    monkeypatch.setattr(preferences, "value", lambda name, fallback: held.get(name, fallback))
    monkeypatch.setenv(interpreter.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(EngineMissingError, match="nowhere"):
        connection.connect()
    monkeypatch.delenv(interpreter.VARIABLE)
    with pytest.raises(EngineMissingError, match="no-such-program"):
        connection.connect()


def test_install_needs_leave_to_go_online(addon):
    assert not bpy.app.online_access
    with pytest.raises(RuntimeError, match=r"[Oo]nline"):
        bpy.ops.sdf.install_backend()


def test_install_makes_an_environment_that_is_found(addon, online, monkeypatch):
    monkeypatch.delenv(interpreter.VARIABLE, raising=False)
    assert bpy.ops.sdf.install_backend() == {"FINISHED"}
    assert backend.said() == [backend.INSTALLED]
    assert backend.installation_progress() is None
    folder = preferences.managed_environment()
    python = interpreter.find_python("", folder)
    assert python.is_relative_to(folder)
    assert not folder.resolve().is_relative_to(ROOT.resolve())
    assert not Path(sys.prefix).resolve().is_relative_to(folder.resolve())


def test_a_failed_installation_says_why(addon, monkeypatch):
    monkeypatch.setattr(backend, "packages", install.Packages("no-such-package-here", (), (), ("--no-index",)))
    with pytest.raises(RuntimeError, match="no-such-package-here"):
        bpy.ops.sdf.install_backend()
    assert backend.installation_progress() is None


def test_disabling_ends_an_installation(addon, online):
    running = install.Installation(Path(sys.executable), preferences.managed_environment(), "cpu", NOTHING_NEW)
    backend._installation = running
    backend.unregister()
    backend.register()
    assert running.wait(20).cancelled


def test_the_log_can_be_opened_once_there_is_one(addon, tmp_path, monkeypatch):
    log = tmp_path / "worker.log"
    monkeypatch.setattr(preferences, "log_file", lambda: log)
    with pytest.raises(RuntimeError, match="written nothing"):
        bpy.ops.sdf.open_log()
    log.write_text("hello")
    opened = []
    monkeypatch.setattr(backend, "show_text", lambda path: opened.append(path) or {"FINISHED"})
    assert bpy.ops.sdf.open_log() == {"FINISHED"}
    assert opened == [log]


TWO_DEVICES = {"devices": [{"id": "cpu", "name": "CPU"}, {"id": "cuda:1", "name": "Second GPU"}]}


def test_a_chosen_device_is_known_before_the_backend_has_run(addon, tmp_path):
    addon.runtime().known = TWO_DEVICES
    bpy.context.scene.sdf.device = "cuda:1"
    path = str(tmp_path / "a.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    addon.runtime().known = None  # as after a start of Blender
    bpy.ops.wm.open_mainfile(filepath=path)
    settings = bpy.context.scene.sdf
    assert settings.device == "cuda:1"
    assert requests.fit_body(settings, "title", False)["device"] == "cuda:1"
    settings.device = "auto"
    assert (settings.device, requests.device(settings)) == ("auto", "auto")


def test_the_preferences_device_is_known_before_the_backend_has_run(addon):
    addons = bpy.context.preferences.addons
    entry = addons.new()
    entry.module = preferences.ROOT
    try:
        addon.runtime().known = TWO_DEVICES
        preferences.get().device = "cuda:1"
        addon.runtime().known = None
        assert requests.device(bpy.context.scene.sdf) == "cuda:1"
    finally:
        addons.remove(entry)
