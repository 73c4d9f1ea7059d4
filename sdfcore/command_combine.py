"""``sdfcore combine``: models and bodies as one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import console
from .command_fit import check_mesh_output, check_output, surface_line
from .command_space import distinct_files
from .console import Console
from .errors import InputError

if TYPE_CHECKING:
    from .fields import NeuralSDF

_BODY = re.compile(r"(sphere|box|torus|cylinder|capsule|plane)(?::([^@]*))?(?:@(.*))?")


@dataclass
class CombineCommand:
    """The options of ``sdfcore combine``; see there."""

    parts: tuple[str, ...]
    output: Path
    operation: str
    radius: float
    style: str
    share: float
    offset: float
    wall: float
    resolution: int | None
    save: Path | None
    device: str
    quiet: bool

    def run(self) -> None:
        check_mesh_output(self.output)
        if self.save is not None:
            check_output(self.save, ".safetensors")
        distinct_files([self.output, self.save], [Path(text) for text in self.parts if not _BODY.fullmatch(text)])
        screen = Console(quiet=self.quiet)
        sdf = self._combined([self._part(text) for text in self.parts])
        from . import storage, writing
        from .extraction import extract_sdf

        cells = self.resolution or int(sdf.info.get("resolution") or 256)
        with screen.progress(1000):
            mesh = extract_sdf(sdf, resolution=cells, on_progress=screen.fraction)
        writing.write(self.output, mesh)
        if self.save is not None:
            storage.save(sdf, self.save)
        click.echo(surface_line(self.output, mesh, console.seconds_since_start()))

    def _part(self, text: str) -> NeuralSDF:
        """The model in a file, or the body that ``text`` describes."""
        from . import combining, storage

        match = _BODY.fullmatch(text)
        if match is None or Path(text).exists():
            return storage.load(text, device=self.device)
        shape, sizes, place = match.groups()
        centre = _numbers(place, text) if place else [0.0, 0.0, 0.0]
        if len(centre) != 3:
            raise InputError(f"{text} has no place.", "Give it as @X,Y,Z.")
        return combining.body(shape, _numbers(sizes, text) if sizes else [], centre).to(self.device)

    def _combined(self, parts: list[NeuralSDF]) -> NeuralSDF:
        from . import combining

        sdf = parts[0]
        if len(parts) > 1:
            sdf = combining.combine(parts, self.operation, radius=self.radius, style=self.style, share=self.share)
        elif not (self.offset or self.wall):
            raise InputError("One shape alone is nothing to combine.", "Give two, or an --offset, or a --wall.")
        return combining.offset(sdf, self.offset, wall=self.wall) if self.offset or self.wall else sdf


def _numbers(text: str, whole: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError as error:
        raise InputError(f"{whole} has sizes or a place that are no numbers.", "As in torus:0.5,0.1@0,0,1.") from error
