"""What can be chosen: recipes, presets and devices, as the worker offers them, or as known before it has started.

Blender stores a dynamic enum as a number and does not own its strings, so each choice keeps the number made from its
name, and every list ever shown stays alive in this module.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

Item = tuple[str, str, str, int]

AUTO_RECIPE: Item = ("auto", "Auto", "Choose by the input: clean or broken mesh, points with or without normals", 0)
DEFAULT_DEVICE: Item = ("default", "From Preferences", "The device named in the add-on's preferences", 0)
AUTO_DEVICE: Item = ("auto", "Auto", "The fastest device the backend has", 0)

#: Known before the worker has said what it has.
_RECIPES = (
    {"name": "deepsdf", "title": "DeepSDF", "summary": "clamped regression of exact distances by a plain MLP; smooth"},
    {"name": "distance", "title": "Distance", "summary": "exact distances of a mesh or of points with normals; robust"},
    {"name": "igr", "title": "IGR", "summary": "smooth surface through points, with or without normals"},
    {"name": "siren", "title": "SIREN", "summary": "sharp detail from points with normals"},
)
_PRESETS = (
    {"name": "draft", "title": "Draft", "resolution": 256},
    {"name": "balanced", "title": "Balanced", "resolution": 384},
    {"name": "fine", "title": "Fine", "resolution": 512},
)
_PRESET_HINTS = {
    "draft": "A first look, in seconds on a laptop",
    "balanced": "Good detail in about a minute on a laptop",
    "fine": "All the detail the input holds, in minutes on a laptop",
}
_DEVICES = ({"id": "cpu", "name": "CPU"},)

_kept: dict[tuple[str, ...], list[Item]] = {}


def number(name: str) -> int:
    """A number for ``name`` that stays the same when the list changes; never 0, which means the default."""
    return (zlib.crc32(name.encode()) & 0x3FFFFFFF) or 1


def _keep(kind: str, items: list[Item]) -> list[Item]:
    key = (kind, *(text for item in items for text in item[:3]))
    return _kept.setdefault(key, items)


def _offered(backend: Mapping[str, Any] | None, name: str, fallback: Sequence[Mapping[str, Any]]) -> list[Any]:
    return list((backend or {}).get(name) or fallback)


def _describe(recipe: Mapping[str, Any]) -> str:
    parts = [text.rstrip(".") for text in (recipe.get("summary", ""), recipe.get("source", "")) if text]
    text = ".\n".join(parts)
    return text[:1].upper() + text[1:]


def recipe_items(backend: Mapping[str, Any] | None) -> list[Item]:
    """Recipes, ``auto`` first."""
    offered = [r for r in _offered(backend, "recipes", _RECIPES) if r["name"] != "auto"]
    items = [(r["name"], r.get("title") or r["name"], _describe(r), number(r["name"])) for r in offered]
    return _keep("recipe", [AUTO_RECIPE, *items])


def preset_items(backend: Mapping[str, Any] | None) -> list[Item]:
    """Presets; ``draft`` has the number 0 and is so the default."""
    items = []
    for preset in _offered(backend, "presets", _PRESETS):
        name, steps = preset["name"], preset.get("steps")
        parts = [_PRESET_HINTS.get(name, ""), f"{steps} steps" if steps else "", f"resolution {preset['resolution']}"]
        text = ", ".join(part for part in parts if part)
        items.append((name, preset.get("title") or name, text, 0 if name == "draft" else number(name)))
    return _keep("preset", items)


def device_items(backend: Mapping[str, Any] | None, first: Item = AUTO_DEVICE) -> list[Item]:
    """Devices of the worker's machine behind ``first``."""
    devices = [d for d in _offered(backend, "devices", _DEVICES) if d["id"] != "auto"]
    items = [(d["id"], d.get("name") or d["id"], "Compute on this device", number(d["id"])) for d in devices]
    if first is DEFAULT_DEVICE:
        items.insert(0, ("auto", "Auto", AUTO_DEVICE[2], number("auto")))
    return _keep("device", [first, *items])


def preset_resolution(backend: Mapping[str, Any] | None, name: str) -> int:
    """Cells along the longest side that the preset means."""
    for preset in _offered(backend, "presets", _PRESETS):
        if preset["name"] == name:
            return int(preset.get("resolution") or 256)
    return 256
