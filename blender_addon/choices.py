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

#: How the seam between combined shapes is blended.
STYLES = [
    ("smooth", "Smooth", "As if melted together"),
    ("round", "Round", "A fillet of that radius"),
    ("chamfer", "Chamfer", "A bevel of that size"),
]

#: Known before the worker has said what it has.
_RECIPES = (
    {
        "name": "deepsdf",
        "title": "DeepSDF",
        "summary": "exact distances, clamped near the surface; a distance only within the clamp",
    },
    {
        "name": "digs",
        "title": "DiGS",
        "summary": "detail from points without normals; slow, and the distance is rough far away",
    },
    {
        "name": "distance",
        "title": "Distance",
        "summary": "exact distances of a mesh or of points, on sparse feature grids; fast, robust, closes holes",
    },
    {
        "name": "fourier",
        "title": "Fourier features",
        "summary": "sharp occupancy from random sines; may leave specks off the surface, and the value is no distance",
    },
    {
        "name": "hash",
        "title": "Hash grid",
        "summary": "exact distances on hashed grids: fast and detailed, as rough as its cells; for meshes",
    },
    {
        "name": "hotspot",
        "title": "HotSpot",
        "summary": "a distance that is right far away, from points without normals; holes and handles come out well",
    },
    {
        "name": "idf",
        "title": "Displacement field",
        "summary": "a smooth base and fine detail apart, to soften, strengthen or transfer it; better with normals",
    },
    {
        "name": "igr",
        "title": "IGR",
        "summary": "smooth surface through points, with or without normals; closes holes, slow on fine detail",
    },
    {
        "name": "igr_unsquared",
        "title": "IGR (unsquared)",
        "summary": "as IGR with | ‖∇f‖ - 1 | and equal weights: a straighter distance, rougher steps",
    },
    {"name": "imnet", "title": "IM-NET", "summary": "occupancy by weighted squares; the value is no distance"},
    {
        "name": "isopoints",
        "title": "Iso-points",
        "summary": "SIREN kept smooth by points of its own surface, for scans with noise; better with normals",
    },
    {
        "name": "lightsal",
        "title": "LightSAL",
        "summary": "SALD's loss on 12,606 (draft) to 66,302 (fine) parameters, not 1.8 million: small files",
    },
    {
        "name": "lipschitz",
        "title": "1-Lipschitz",
        "summary": "a certified lower bound of the distance, safe for ray casting; rounds detail",
    },
    {
        "name": "neural_pull",
        "title": "Neural-Pull",
        "summary": "distances from points without normals, by pulling space onto them",
    },
    {
        "name": "occupancy",
        "title": "Occupancy",
        "summary": "learns only inside and outside; the value is no distance, so offsets and ray casts are rough",
    },
    {
        "name": "regression",
        "title": "Regression",
        "summary": "regression of exact distances by a plain MLP; smooth, the recipe of shape spaces",
    },
    {
        "name": "sal",
        "title": "SAL",
        "summary": "regression of unsigned distances that finds the sign itself; needs no normals, rounds detail",
    },
    {
        "name": "sal_l0",
        "title": "SAL (L⁰)",
        "summary": "as SAL, but told only where the points are; the value is no distance",
    },
    {
        "name": "sald",
        "title": "SALD",
        "summary": "as SAL, and the slopes too: sharper, still without normals or a side",
    },
    {
        "name": "singular_hessian",
        "title": "Singular Hessian",
        "summary": "faithful surfaces of points without normals, thin walls too; the distance is poor far away",
    },
    {
        "name": "siren",
        "title": "SIREN",
        "summary": "sharp detail from points, better with normals; may leave stray sheets where there are no points",
    },
    {
        "name": "sobolev",
        "title": "Sobolev",
        "summary": "regression of exact distances and their slopes: a true distance far from the surface, too",
    },
    {"name": "steik", "title": "StEik", "summary": "as DiGS, steadier and finer; without normals"},
    {
        "name": "tv",
        "title": "Total variation",
        "summary": "a distance that is sharp at the medial axis, for skeletons; needs normals",
    },
    {
        "name": "viscoreg",
        "title": "ViscoReg",
        "summary": "as DiGS, with a viscosity that fades instead of a divergence; without normals",
    },
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
        told = f"at most {steps} steps by Auto" if steps else ""
        parts = [_PRESET_HINTS.get(name, ""), told, f"resolution {preset['resolution']}"]
        text = ", ".join(part for part in parts if part)
        items.append((name, preset.get("title") or name, text, 0 if name == "draft" else number(name)))
    return _keep("preset", items)


def device_items(backend: Mapping[str, Any] | None, first: Item = AUTO_DEVICE, chosen: str = "") -> list[Item]:
    """Devices of the worker's machine behind ``first``, and the ``chosen`` one whether the worker names it or not."""
    devices = [d for d in _offered(backend, "devices", _DEVICES) if d["id"] != "auto"]
    if chosen and chosen not in {"auto", "default", *(d["id"] for d in devices)}:
        devices.append({"id": chosen})
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
