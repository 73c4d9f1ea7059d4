"""``sdfcore render``: a picture of a fitted model's field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from . import console, files
from .command_fit import check_output
from .command_space import distinct_files
from .console import Console
from .errors import InputError

if TYPE_CHECKING:
    from .geometry import Box
    from .queries.render import Camera, Picture

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
    normals: Path | None
    certain: bool
    device: str
    quiet: bool

    def run(self) -> None:
        width, height = self._pixels()
        check_output(self.output, ".png")
        if self.depth is not None:
            check_output(self.depth, ".png" if self.depth.suffix.lower() == ".png" else ".npz")
        if self.normals is not None:
            check_output(self.normals, ".png")
        distinct_files([self.output, self.depth, self.normals], [self.model])
        from . import storage
        from .extraction import default_box
        from .planning import precise_device
        from .queries.render import render

        device = precise_device(self.device) if self.certain else self.device
        sdf, screen = storage.load(self.model, device=device), Console(quiet=self.quiet)
        camera = self._camera(sdf.frame.box_to_world(default_box(sdf, self.level)))
        light = None if self.light is None else np.array(self.light)
        with screen.progress(1000):
            picture = render(
                sdf, camera, width, height, level=self.level, light=light, certain=self.certain,
                on_progress=screen.fraction,
            )  # fmt: skip
        _write(self.output, picture.colour)
        if self.depth is not None:
            _write_depth(self.depth, picture)
        if self.normals is not None:
            _write(self.normals, _over(picture, 0.5 + 0.5 * picture.normals))
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


def _write_depth(path: Path, picture: Picture) -> None:
    if path.suffix.lower() == ".npz":
        with files.replacing(path) as part, part.open("wb") as opened:  # numpy adds a suffix to names
            np.savez_compressed(opened, depth=picture.depth, normals=picture.normals)
        return
    seen = picture.depth[np.isfinite(picture.depth)]
    near, far = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)
    shade = 1 - 0.9 * (np.where(np.isfinite(picture.depth), picture.depth, far) - near) / max(far - near, 1e-12)
    _write(path, _over(picture, np.repeat(shade[..., None], 3, axis=-1)))


def _over(picture: Picture, colour: np.ndarray) -> np.ndarray:
    """(H, W, 4) with the opacity of the picture."""
    return np.concatenate([colour.clip(0, 1), picture.colour[..., 3:]], axis=-1)


def _write(path: Path, colour: np.ndarray) -> None:
    from matplotlib.image import imsave

    with files.replacing(path) as part:
        imsave(part, colour, format="png")
