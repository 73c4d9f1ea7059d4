"""What a fit will do and why: the recipe chosen for the input, its size, the device, the resolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from .errors import InputError
from .evidence import Evidence
from .geometry import Mesh, PointCloud
from .presets import PRESETS
from .recipe import Recipe, Size
from .recipes import RECIPES
from .surfaces import Diagnosis, diagnose

Source = Mesh | PointCloud

CLEAR = 0.9  # from this share of samples with a clear winding number on, a dirty mesh's sign is trusted
STEPS_PER_SECOND = 20.0  # foreseen under a budget of seconds alone
NODES_PER_SECOND = 40_000  # of a budget of seconds, for fits that begin near their end
_FEWEST_NODES = 200_000  # of such fits
_CELLS_ACROSS = 1.25  # what is thinner than a cell can fall between its corners
FEWEST_POINTS = 20  # fewer say nothing of a surface
FEWEST_TO_ORIENT = 500  # points without normals; of fewer their planes are guesses


@dataclass(frozen=True)
class Plan:
    """The decisions of one fit, made before it starts.

    ``reason`` is one sentence for people; ``input_kind`` is clean mesh, dirty mesh, oriented points or unoriented
    points. ``resolution`` is cells along the longest side.
    """

    recipe: str
    reason: str
    input_kind: str
    preset: str
    size: Size
    steps: int
    seconds: float | None
    resolution: int
    device: str
    seed: int


def devices() -> list[tuple[str, str]]:
    """(id, name) of what can be computed on, the processor last."""
    found = []
    if torch.accelerator.is_available():
        kind = torch.accelerator.current_accelerator()
        if kind is not None:
            module = torch.get_device_module(kind)
            for index in range(torch.accelerator.device_count()):
                name = module.get_device_name(index) if hasattr(module, "get_device_name") else kind.type
                found.append((f"{kind.type}:{index}" if index else kind.type, str(name)))
    return [*found, ("cpu", f"processor, {torch.get_num_threads()} threads")]


def device_named(name: str) -> torch.device:
    """The device called ``name``; ``auto`` is the first of :func:`devices`.

    Raises:
        InputError: there is no such device here.
    """
    known = [key for key, _ in devices()]
    if name == "auto":
        return torch.device(known[0])
    if name not in known:
        raise InputError(f"There is no device {name!r} here.", f"Choose one of: auto, {', '.join(known)}.")
    return torch.device(name)


def precise_device(name: str) -> torch.device:
    """As :func:`device_named`, but one that has numbers of 64 bits: questions about a field need them, and Apple's
    GPUs have none."""
    device = device_named(name)
    return torch.device("cpu") if device.type == "mps" else device


def input_kind(source: Source) -> tuple[str, Diagnosis | None]:
    """What the input is, and the diagnosis of a mesh."""
    if isinstance(source, PointCloud):
        return ("unoriented points" if source.normals is None else "oriented points"), None
    found = diagnose(source)
    return ("clean mesh" if found.watertight and found.clarity >= CLEAR else "dirty mesh"), found


def choose(source: Source) -> tuple[str, str]:
    """The recipe for ``source`` and the reason for it, in one sentence."""
    kind, found = input_kind(source)
    return _chosen(source, kind, found)


def _chosen(source: Source, kind: str, found: Diagnosis | None) -> tuple[str, str]:
    if isinstance(source, PointCloud) and kind == "unoriented points" and len(source) < FEWEST_TO_ORIENT:
        return "igr", "The points are few and have no normals, so inside and outside must be found: IGR does that."
    if kind == "unoriented points":
        return "distance", "The points have no normals, but the sides of a surface can be told by winding numbers."
    if kind == "oriented points":
        return "distance", "The points have normals, which give signed distances by winding number."
    if kind == "clean mesh" or found is None:
        return "distance", "The mesh is closed, so its exact signed distance is the best teacher."
    flaws = _flaws(found)
    if found.clarity >= CLEAR:
        return "distance", f"The mesh {flaws}, but its winding number still tells inside from outside."
    return (
        "distance",
        f"The mesh {flaws}; the winding number decides inside from outside, roughly where parts are open.",
    )


def _flaws(found: Diagnosis) -> str:
    named = [
        (found.boundary_edges, "open edges"),
        (found.nonmanifold_edges, "non-manifold edges"),
        (found.duplicate_faces, "doubled faces"),
        (found.degenerate_faces, "faces without area"),
    ]
    parts = [f"{count} {name}" for count, name in named if count]
    return f"has {', '.join(parts)}" if parts else "overlaps itself"


def plan(
    source: Source,
    *,
    recipe: str = "auto",
    preset: str = "balanced",
    steps: int | None = None,
    seconds: float | None = None,
    resolution: int | None = None,
    device: str = "auto",
    seed: int = 0,
    settings: Mapping[str, float] | None = None,
) -> Plan:
    """Decide everything about a fit of ``source``.

    A time budget without a step budget lets the steps run as far as the time goes. ``settings`` are numbers of the
    recipe's :class:`~sdfcore.recipe.Size`, by name, that are to be others.
    Raises:
        InputError: unknown names, too few points, numbers out of range.
    """
    _check(source, recipe, preset)
    _check_numbers(steps, seconds, resolution, seed)
    kind, found = input_kind(source)
    name, reason = _chosen(source, kind, found) if recipe == "auto" else (recipe, "You chose it.")
    size = _affordable(RECIPES[name].sizes[preset].changed(settings or {}), steps, seconds)
    return Plan(
        recipe=name,
        reason=reason,
        input_kind=kind,
        preset=preset,
        size=size,
        steps=steps or size.steps,
        seconds=seconds,
        resolution=resolution or PRESETS[preset].resolution,
        device=str(device_named(device)),
        seed=seed,
    )


def _affordable(size: Size, steps: int | None, seconds: float | None) -> Size:
    """What is prepared is in proportion to the steps that can be taken."""
    if seconds is None or steps is not None:
        return size
    return replace(size, steps=int(np.clip(STEPS_PER_SECOND * seconds, 1, size.steps)))


def nearer(planned: Plan, evidence: Evidence, steps: int | None, settings: Mapping[str, float] | None) -> Plan:
    """``planned``, or if the evidence lets its recipe begin near the end, what is planned then.

    Args:
        steps, settings: as for :func:`plan`.
    """
    recipe = RECIPES[planned.recipe]
    if recipe.near is None:
        return planned
    size = recipe.near_sizes[planned.preset]
    if planned.seconds is not None:  # the distance is asked for at every node
        size = replace(size, nodes=min(size.nodes, max(_FEWEST_NODES, round(NODES_PER_SECOND * planned.seconds))))
    size = size.changed(settings or {})
    if not recipe.near(evidence, size):
        return planned
    size = _affordable(size, steps, planned.seconds)
    return replace(planned, size=size, steps=steps or size.steps)


def check_number(points: int, name: str) -> None:
    """Raises an InputError if so few points say too little of a surface."""
    if points < FEWEST_POINTS:
        raise InputError(
            f"{points} {name} say too little of a surface; at least {FEWEST_POINTS} are needed.",
            "Give a denser scan, or a mesh with faces.",
        )


def _check(source: Source, recipe: str, preset: str) -> None:
    if recipe != "auto" and recipe not in RECIPES:
        raise InputError(f"There is no recipe {recipe!r}.", f"Choose one of: auto, {', '.join(RECIPES)}.")
    if preset not in PRESETS:
        raise InputError(f"There is no preset {preset!r}.", f"Choose one of: {', '.join(PRESETS)}.")
    if isinstance(source, PointCloud):
        check_number(len(source), "points")


def _check_numbers(steps: int | None, seconds: float | None, resolution: int | None, seed: int) -> None:
    if steps is not None and steps < 1:
        raise InputError(f"{steps} steps are none.", "Give at least 1.")
    if seconds is not None and not seconds > 0:
        raise InputError(f"{seconds} seconds are none.", "Give a time above 0.")
    if resolution is not None and resolution < 1:
        raise InputError(f"A resolution of {resolution} cells is none.", "Give at least 1.")
    if not 0 <= seed < 2**63:
        raise InputError(f"The seed {seed} cannot be used.", "Give a whole number from 0 to 9223372036854775807.")


def resolution_for(area: float, preset_resolution: int, *, longest: float = 2.0, thinness: float = np.inf) -> int:
    """The preset's resolution, raised for shapes of little surface (thin ones), so that they get as many vertices.

    Args:
        area: of the surface in the unit box. 4 is that of a compact shape; at most four times finer.
        longest: side of the surface's box, unit box.
        thinness: how thick the solid is where it is thinnest. Cells that are larger than it would miss it and break it
            in pieces, so they become smaller, at most by half.
    """
    finer = float(np.clip(np.sqrt(4.0 / max(area, 1e-9)), 1.0, 4.0))
    cell = longest / (preset_resolution * finer)
    finer *= float(np.clip(_CELLS_ACROSS * cell / max(thinness, 1e-9), 1.0, 2.0))
    return round(preset_resolution * finer / 8) * 8


__all__ = ["Plan", "Recipe", "Source", "choose", "device_named", "devices", "input_kind", "plan", "resolution_for"]
