"""Run inside Blender by the suite ``blender``: what its window waits for, into a JSON file. No torch.

    blender [--background] --python inside_blender.py -- OUTPUT

With a window: the worker's start when the panel is drawn, fits of Suzanne, and how long the main thread is held
meanwhile. Without: how long a mesh of a million vertices takes in and out.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import bpy
import numpy as np

SIDE = 1000  # vertices along a side of the large mesh
BEAT = 0.002  # seconds between two looks at the clock
PATIENCE = 300.0
Waiting = Generator[Callable[[], bool], None, None]  # yields what must come true before it goes on


def addon(module: str) -> Any:
    """A module of the enabled extension."""
    name = next(name for name in bpy.context.preferences.addons.keys() if name.endswith(".neural_sdf"))  # noqa: SIM118
    return importlib.import_module(f"{name}.{module}")


class Held:
    """How long each turn of the add-on's timer held the main thread, and how long nothing else ran at all."""

    def __init__(self) -> None:
        self.turns: list[float] = []
        self.gaps: list[float] = []
        self._last = time.perf_counter()
        runtime = addon("blender_addon.host").runtime()
        tick = runtime.tick

        def timed() -> Any:
            begun = time.perf_counter()
            try:
                return tick()
            finally:
                self.turns.append(time.perf_counter() - begun)

        runtime.tick = timed

    def beat(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now

    def clear(self) -> None:
        self.turns.clear()
        self.gaps.clear()

    def told(self) -> dict[str, float]:
        longest = sorted(self.turns)
        return {
            "turns": len(longest),
            "longest_turn": max(longest, default=0.0),
            "turns_over_30_ms": sum(turn > 0.03 for turn in longest),
            "longest_gap": max(self.gaps, default=0.0),
        }


def large_mesh(found: dict[str, Any]) -> None:
    """Seconds to read a mesh of a million vertices from Blender, and to make one."""
    meshes = addon("blender_addon.meshes")
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=SIDE, y_subdivisions=SIDE)
    obj = bpy.context.active_object
    begun = time.perf_counter()
    reading = meshes.read(obj, bpy.context.evaluated_depsgraph_get())
    found["read_seconds"] = time.perf_counter() - begun
    shape = reading.shape
    found["read_vertices"] = len(shape.vertices)
    data = bpy.data.meshes.new("large")
    begun = time.perf_counter()
    meshes.fill_from_world(data, shape, np.eye(4))
    found["write_seconds"] = time.perf_counter() - begun
    found["written_vertices"] = len(data.vertices)
    bpy.data.objects.remove(obj)


def show_tab() -> None:
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.spaces.active.show_region_ui = True
                for region in area.regions:
                    if region.type == "UI":
                        region.active_panel_category = "SDF"
                area.tag_redraw()


def fit(held: Held, preset: str, found: dict[str, Any]) -> Waiting:
    """A click on Fit SDF, until the mesh is in the scene."""
    host, windows = addon("blender_addon.host"), addon("blender_addon.windows")
    settings = bpy.context.scene.sdf
    settings.preset = preset
    before = {obj.name for obj in bpy.data.objects}
    held.clear()
    begun = time.perf_counter()
    with windows.override():
        bpy.ops.sdf.fit("INVOKE_DEFAULT")
    idle = lambda: not host.runtime().jobs.queue and host.runtime().jobs.active is None and not host.runtime().waiting
    yield lambda: idle() and any(obj.name not in before and "sdf_model" in obj for obj in bpy.data.objects)
    found["seconds"] = time.perf_counter() - begun
    found.update(held.told())


def in_a_window(found: dict[str, Any], held: Held) -> Waiting:
    host, windows = addon("blender_addon.host"), addon("blender_addon.windows")
    drawn: list[float] = []
    warm = host.warm
    host.warm = lambda: (drawn.append(time.perf_counter()), warm())
    show_tab()
    yield lambda: bool(drawn)
    yield lambda: host.runtime().jobs.backend is not None
    found["ready_seconds"] = time.perf_counter() - drawn[0]
    pause = time.perf_counter() + 6.0  # it warms up
    yield lambda: time.perf_counter() > pause
    for obj in list(bpy.data.objects):
        bpy.data.objects.remove(obj)
    for name, preset in (("first draft", "draft"), ("draft", "draft"), ("balanced", "balanced")):
        with windows.override():
            bpy.ops.mesh.primitive_monkey_add()
        found[name] = {}
        yield from fit(held, preset, found[name])
    yield from slider(found)


def slider(found: dict[str, Any]) -> Waiting:
    """Seconds from a slider's movement to the mesh that follows it, at the resolution it is dragged in."""
    host, live = addon("blender_addon.host"), addon("blender_addon.live")
    windows = addon("blender_addon.windows")
    with windows.override():
        bpy.ops.mesh.primitive_torus_add()
        torus = bpy.context.active_object
        bpy.ops.mesh.primitive_monkey_add()
        torus.select_set(True)
        bpy.context.scene.sdf_shapes.blend_seconds = 25
        bpy.ops.sdf.blend("INVOKE_DEFAULT")
    yield lambda: any(live.objects())
    blend = next(live.objects())
    yield lambda: host.runtime().jobs.active is None and live.is_right(blend)
    delays = []
    for step in range(12):
        coarse = live.body_of(blend, coarse=True)
        blend.sdf_blend.factor = 0.05 + 0.075 * step
        wanted = {live.key_of(live.body_of(blend, coarse=True)), live.key_of(live.body_of(blend))}
        assert live.key_of(coarse) not in wanted
        begun = time.perf_counter()
        yield lambda wanted=wanted: blend.data.get(live.SHOWN) in wanted
        delays.append(time.perf_counter() - begun)
    found["slider_seconds"] = sorted(delays)[len(delays) // 2]
    found["slider_resolution"] = blend.sdf_blend.drag_resolution


def leave(output: Path, found: dict[str, Any]) -> None:
    output.write_text(json.dumps(found, indent=1), encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)  # nothing is to be saved, and a worker ends with its parent


def drive(output: Path, found: dict[str, Any]) -> None:
    """Works :func:`in_a_window` off from a timer, so that Blender's window lives on meanwhile."""
    held = Held()
    script = in_a_window(found, held)
    state: dict[str, Any] = {"until": lambda: True, "begun": time.perf_counter()}

    def turn() -> float:
        held.beat()
        if time.perf_counter() - state["begun"] > PATIENCE:
            leave(output, {**found, "error": "it took too long"})
        try:
            if state["until"]():
                state["until"], state["begun"] = next(script), time.perf_counter()
        except StopIteration:
            leave(output, found)
        except Exception:  # noqa: BLE001 - Blender would go on for ever
            leave(output, {**found, "error": traceback.format_exc()})
        return BEAT

    bpy.app.timers.register(turn, first_interval=2.0)


def main() -> None:
    output = Path(sys.argv[sys.argv.index("--") + 1])
    found: dict[str, Any] = {"blender": bpy.app.version_string}
    if bpy.app.background:
        large_mesh(found)
        leave(output, found)
    drive(output, found)


if __name__ == "__main__":
    main()
