"""``sdfcore render``: a picture of a fitted model's field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from . import console, files
from .console import Console
from .errors import InputError

if TYPE_CHECKING:
    from .geometry import Box
    from .queries.render import Camera

Place = tuple[float, float, float]
_MOST = 8192  # pixels a side


@dataclass
class RenderCommand:
    """The options of ``sdfcore render``; see there."""

    model: Path
    output: Path
    camera: Place | None
    target: Place | None
    up: str
    angle: float
    light: Place | None
    size: str
    level: float
    depth: Path | None
    certain: bool
    device: str
    quiet: bool

    def run(self) -> None:
        width, height = self._pixels()
        if self.output.suffix.lower() != ".png":
            raise InputError(f"{self.output} is no .png.", "Give the picture that suffix.")
        from . import storage
        from .extraction import default_box
        from .queries.render import render

        sdf, screen = storage.load(self.model, device=self.device), Console(quiet=self.quiet)
        camera = self._camera(sdf.frame.box_to_world(default_box(sdf, self.level)))
        light = None if self.light is None else np.array(self.light)
        with screen.progress(1000):
            picture = render(
                sdf, camera, width, height, level=self.level, light=light, certain=self.certain,
                on_progress=screen.fraction,
            )  # fmt: skip
        self._write(picture.colour)
        if self.depth is not None:
            with files.replacing(self.depth) as part:
                np.savez_compressed(part, depth=picture.depth, normals=picture.normals)
        share = float(np.isfinite(picture.depth).mean())
        click.echo(
            f"{self.output}: {width} x {height} pixels, {share:.0%} of them on the shape, "
            f"{picture.evaluations:.1f} evaluations each, {console.seconds_since_start():.1f} s"
        )

    def _pixels(self) -> tuple[int, int]:
        match = re.fullmatch(r"(\d+)x(\d+)", self.size.strip().lower())
        width, height = (int(v) for v in match.groups()) if match else (0, 0)
        if not (1 <= width <= _MOST and 1 <= height <= _MOST):
            raise InputError(f"{self.size!r} is no size of a picture.", f"Give WxH, 1 to {_MOST} pixels each.")
        return width, height

    def _camera(self, box: Box) -> Camera:
        from .queries.render import Camera

        if self.camera is None:
            around = Camera.around(box, up=self.up, angle=self.angle)
            return (
                around if self.target is None else Camera(around.position, np.array(self.target), around.up, self.angle)
            )
        target = box.centre if self.target is None else np.array(self.target)
        return Camera(np.array(self.camera), target, np.eye(3)["xyz".index(self.up)], self.angle)

    def _write(self, colour: np.ndarray) -> None:
        from matplotlib.image import imsave

        with files.replacing(self.output) as part:
            imsave(part, colour, format="png")
