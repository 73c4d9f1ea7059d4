"""Families of shapes for the suite ``spaces``: who is learned, who is held out, and how a result is judged."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import numpy as np

from sdfcore.extraction import extract_sdf
from sdfcore.fields import NeuralSDF
from sdfcore.geometry import Array, Box, Frame, Mesh
from sdfcore.metrics import compare
from sdfcore.preparing import cloud_of, prepare
from sdfcore.reading import read
from sdfcore.spaces import Latent, Learn, Space, save
from sdfcore.surfaces import MeshDistance
from sdfcore.topology import topology

RESOLUTION = 192
_SAMPLES = 50_000


@dataclass
class Family:
    """A folder of shapes, some of them held out of the learning."""

    name: str
    shapes: dict[str, Mesh]
    held_out: tuple[str, ...]
    exact: bool  # whether the meshes are closed skins, so that their triangles are the truth
    space: Space | None = None
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def learned(self) -> dict[str, Mesh]:
        return {name: mesh for name, mesh in self.shapes.items() if name not in self.held_out}

    @cached_property
    def unseen(self) -> dict[str, Mesh]:
        return {name: self.shapes[name] for name in self.held_out}


def load(folder: Path, pick: Callable[[str], str], held_out: tuple[str, ...], *, exact: bool) -> Family:
    """The meshes of ``folder`` by what ``pick`` makes of their file names.

    Raises:
        click.BadParameter: the folder has none.
    """
    found = {}
    for path in sorted(folder.glob("*.ply")):
        shape = read(path)
        if isinstance(shape, Mesh):
            found[pick(path.stem)] = shape
    if not found:
        raise click.BadParameter(f"no shapes in {folder}")
    return Family(folder.name, found, held_out, exact)


def learn(family: Family, seconds: float, seed: int, keep: Path | None) -> Space:
    """The space of the family's learned shapes, with a line of progress now and then."""
    begun, said = time.perf_counter(), 0.0
    run = Learn(family.learned, seconds=seconds, seed=seed)
    for progress in run:
        if time.perf_counter() - said > 20:
            said = time.perf_counter()
            click.echo(f"  {family.name}: step {progress.step}, {progress.seconds:.0f} s, loss {progress.loss:.5f}")
    family.seconds = time.perf_counter() - begun
    family.space = run.space
    if keep is not None:
        save(family.space, keep / f"{family.name}.safetensors")
    return family.space


def half(mesh: Mesh) -> float:
    """Half the longest side of the box of ``mesh``: the unit of all lengths."""
    return float(Box.around(mesh.vertices.astype(np.float64)).size.max()) / 2


def chamfer(result: Mesh, truth: Mesh, *, exact: bool) -> float:
    """Mean of both mean distances, from samples to the other's triangles, in the truth's own box [-1, 1].

    Of a messy model (not ``exact``) the truth is what bounds its solid, as a fit sees it: hidden faces do not count,
    and sheets have the thickness they are given.
    """
    if exact:
        return compare(result, truth, samples=_SAMPLES).chamfer / half(truth)
    return _solid_chamfer(result, truth)


def _solid_chamfer(result: Mesh, truth: Mesh) -> float:
    cloud = cloud_of(truth, _SAMPLES, 1)
    frame = Frame.around(cloud.points)
    evidence = prepare(truth, cloud, frame, needs_distance=True).evidence
    ours = Mesh(frame.to_unit(result.vertices).astype(np.float64), result.faces)
    there = np.abs(MeshDistance(ours).unsigned(evidence.points.astype(np.float64)))
    assert evidence.oracle is not None
    back = np.abs(evidence.oracle(cloud_of(ours, _SAMPLES, 2).points.astype(np.float64)))
    return float(there.mean() + back.mean()) / 2 * frame.scale / half(truth)


def meshed(sdf: NeuralSDF) -> Mesh:
    return extract_sdf(sdf, resolution=RESOLUTION)


def decoded(space: Space, latent: Latent) -> Mesh:
    return meshed(space.decode(latent))


def shape_of(mesh: Mesh) -> dict[str, Any]:
    """Whether it is closed, its parts, its volume."""
    found = topology(mesh)
    return {"watertight": found.watertight, "components": found.components, "volume": mesh.volume()}


def middle(values: Iterable[float]) -> float:
    return float(np.median(list(values)))


def worst(values: Iterable[float]) -> float:
    return float(np.max(list(values)))


def as_json(value: Any) -> str:
    return json.dumps(value, indent=1, allow_nan=True, default=float) + "\n"


def monotone(volumes: Array) -> float:
    """The largest step against the way from the first to the last volume, as a share of the larger of both."""
    way = np.sign(volumes[-1] - volumes[0]) or 1.0
    return float(max(0.0, (-way * np.diff(volumes)).max())) / float(max(volumes[0], volumes[-1]))
