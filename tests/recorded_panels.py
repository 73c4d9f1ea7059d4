"""Panels drawn into a recorder instead of a region."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import bpy


class Recorder:
    """A layout that remembers what was drawn; its sub-layouts write to the same memory."""

    def __init__(self, drawn: list[tuple[str, Any]] | None = None) -> None:
        self.__dict__["drawn"] = [] if drawn is None else drawn

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__[name] = value

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            what = options.get("text") or (args[-1] if args and isinstance(args[-1], str) else "")
            self.drawn.append((name, what))
            if name == "prop":  # a property that is not there raises, as Blender warns
                getattr(args[0], args[1])
            if name == "operator":
                assert hasattr(bpy.types, args[0].replace(".", "_OT_").replace("sdf_", "SDF_", 1))
                return SimpleNamespace()
            return Recorder(self.drawn)

        return call

    def texts(self, kind: str) -> list[str]:
        return [what for name, what in self.drawn if name == kind]


def draw(panel: type) -> Recorder:
    recorder = Recorder()
    panel.draw(SimpleNamespace(layout=recorder), bpy.context)
    return recorder
