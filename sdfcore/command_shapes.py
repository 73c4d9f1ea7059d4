"""``sdfcore space decode``, ``sample``, ``interpolate`` and ``complete``: from a space to meshes."""

from __future__ import annotations

import math
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .command_fit import check_mesh_output, check_output, surface_line
from .command_space import distinct_files
from .console import Console, Interrupt, seconds_since_start
from .errors import InputError

if TYPE_CHECKING:
    from .fields import NeuralSDF
    from .geometry import Mesh
    from .spaces import Latent, Space

_GAP = 0.15  # between shapes side by side, of the widest


@dataclass(frozen=True)
class DecodeCommand:
    """The options of ``sdfcore space decode`` and ``sample``; :meth:`run` does it.

    Raises:
        SdfError: anything given cannot be used. Outputs are checked first, and written whole or not at all.
    """

    source: Path
    output: Path
    resolution: int
    level: float
    save: Path | None
    device: str
    quiet: bool
    name: str | None = None
    weights: str | None = None
    amounts: str | None = None
    seed: int | None = None
    spread: float = 1.0

    def run(self) -> None:
        self._check()
        chosen = None if self.weights is None else weights_of(self.weights)
        amounts = None if self.amounts is None else [_number(word, "--amounts") for word in self.amounts.split(",")]
        screen = Console(quiet=self.quiet)
        space = load_space(self.source, self.device, screen)
        sdf = space.decode(self._latent(space, chosen, amounts))
        mesh = _extracted(sdf, self.resolution, self.level, screen)
        write_shape(self.output, mesh, sdf, self.resolution, self.save)
        click.echo(surface_line(self.output, mesh, seconds_since_start()))

    def _check(self) -> None:
        ways = {"a NAME": self.name, "--weights": self.weights, "--amounts": self.amounts}
        given = [way for way, value in ways.items() if value is not None]
        if self.seed is None and len(given) != 1:
            found = f"{' and '.join(given)} are both given" if given else "No shape is given"
            raise InputError(f"{found}.", "Give a NAME, --weights or --amounts.")
        if not math.isfinite(self.level):
            raise InputError(f"--level {self.level} is no distance.", "Give a finite number, in world units.")
        check_mesh_output(self.output)
        if self.save is not None:
            check_output(self.save, ".safetensors")
        distinct_files([self.output, self.save], [self.source])

    def _latent(self, space: Space, weights: Mapping[str, float] | None, amounts: list[float] | None) -> Latent:
        from .spaces import mix

        if weights is not None:
            return mix([space[name] for name in weights], list(weights.values()))
        if amounts is not None:
            return space.explore(amounts)
        if self.name is not None:
            return space[self.name]
        return space.sample(self.seed or 0, self.spread)


def weights_of(text: str) -> dict[str, float]:
    """``A=0.3,B=0.7`` as numbers by name.

    Raises:
        InputError: it is written in another way, or names a shape twice.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = part.rpartition("=")
        name = name.strip()
        if not equals or not name or name in found:
            raise InputError(f"--weights {text!r} cannot be read.", "Write A=0.3,B=0.7, each name once.")
        found[name] = _number(number, "--weights")
    return found


def _number(word: str, option: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{option} has {word.strip()!r}, which is no number.", "Write numbers such as 0.3 or -1.")
    return number


@dataclass(frozen=True)
class InterpolateCommand:
    """The options of ``sdfcore space interpolate``; :meth:`run` does it.

    Raises:
        SdfError: anything given cannot be used. A folder appears, as a file does, only with all that belongs into it.
    """

    source: Path
    first: str
    last: str
    path: tuple[str, ...]
    frames: int
    spherical: bool
    resolution: int
    output: Path
    picture: Path | None
    up: str
    seed: int
    device: str
    quiet: bool

    def run(self) -> None:
        from .spaces import path

        self._check()
        screen = Console(quiet=self.quiet)
        space = load_space(self.source, self.device, screen)
        with Interrupt(screen) as interrupt:  # once: keeps the frames so far
            stops = [self._stop(space, name, screen, interrupt) for name in (self.first, self.last, *self.path)]
            latents = path(stops, self.frames, spherical=self.spherical)
            meshes = self._meshes(space, latents, screen, interrupt)
        if self._scene:
            _write_side_by_side(self.output, meshes)
        else:
            from . import writing

            with whole_folder(self.output) as folder:
                for name, mesh in meshes.items():
                    writing.write(folder / f"{name}.ply", mesh)
        if self.picture is not None:
            from .spaces.pictures import draw_row

            captions = [f"{number / (self.frames - 1):.2f}" for number in range(len(meshes))]
            draw_row(list(meshes.values()), captions, self.picture, up=self.up)
        screen.clear()
        count = sum(len(mesh.vertices) for mesh in meshes.values())
        way = " to ".join(dict.fromkeys((self.first, self.last, *self.path)))
        stopped = " (stopped)" if len(meshes) < self.frames else ""
        click.echo(
            f"{self.output}: {len(meshes)} frames from {way}{stopped}, {count} vertices, {seconds_since_start():.1f} s"
        )

    @property
    def _scene(self) -> bool:
        return self.output.suffix.lower() == ".glb"

    def _check(self) -> None:
        if self.picture is not None:
            check_output(self.picture, ".png")
        named = [Path(name) for name in (self.first, *self.path, self.last)]
        given = [path.resolve() for path in (self.source, *named) if path.is_file()]
        written = [self.output, *(self.output / f"{_frame(number)}.ply" for number in range(self.frames))]
        if not {path.resolve() for path in written}.isdisjoint(given):
            raise InputError(f"{self.output} holds what is interpolated.", "Give the result a name of its own.")
        if self._scene:
            check_mesh_output(self.output)
            return
        if self.output.suffix and not self.output.is_dir():
            raise InputError(f"{self.output.name!r} is no folder and does not end with .glb.", "Give one of the two.")
        if self.output.exists() and not self.output.is_dir():
            raise InputError(f"{self.output} is not a folder.", "Give a folder, or a file that ends with .glb.")
        check_output(self.output.parent / "frame.ply", ".ply")

    def _stop(self, space: Space, name: str, screen: Console, interrupt: Interrupt) -> Latent:
        """The learned shape called ``name``, else the one inferred from the file of this name."""
        if name in space.names or not Path(name).is_file():
            return space[name]
        from . import reading
        from .spaces import Infer

        run = Infer(space, reading.read(name), seed=self.seed)
        screen.stage("inferring")
        with screen.progress(run.steps):
            for progress in run:
                screen.update(progress)
                if interrupt.asked:
                    break
        return run.found.latent

    def _meshes(self, space: Space, latents: list[Latent], screen: Console, interrupt: Interrupt) -> dict[str, Mesh]:
        from .extraction import extract_sdf
        from .spaces.family import about

        found: dict[str, Mesh] = {}
        with screen.progress(1000):
            for number, latent in enumerate(latents):
                name = _frame(number)
                share = lambda done, before=number: screen.fraction((before + done) / len(latents))
                with about(name):
                    found[name] = extract_sdf(space.decode(latent), resolution=self.resolution, on_progress=share)
                if interrupt.asked:
                    break
        return found


def _frame(number: int) -> str:
    """The name of the mesh that is the ``number``-th on the way."""
    return f"frame_{number:03d}"


def _write_side_by_side(path: Path, meshes: Mapping[str, Mesh]) -> None:
    """One file of all ``meshes`` in a row along x: the first where it is, each next one beyond the one before it."""
    import numpy as np

    from . import writing

    widest = max(float(np.ptp(mesh.vertices[:, 0])) for mesh in meshes.values())
    step = np.array([(1 + _GAP) * widest, 0.0, 0.0])
    writing.write_scene(path, {name: (mesh, number * step) for number, (name, mesh) in enumerate(meshes.items())})


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write into that becomes ``path`` at the end, or, where that exists, whose files move there.

    On any error it is removed with all in it.
    """
    part = path.parent / f".{path.name}.{secrets.token_hex(4)}.part"
    part.mkdir()
    try:
        yield part
        if not path.exists():
            part.rename(path)
            return
        for file in sorted(part.iterdir()):
            file.replace(path / file.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)


# What all of them do ------------------------------------------------------------------------------------------------


def load_space(path: Path, device: str, screen: Console) -> Space:
    """The space in the file at ``path``, on the device called ``device``."""
    screen.stage("reading")
    from . import spaces
    from .planning import device_named

    found = spaces.load(path, device_named(device))
    screen.clear()
    return found


def _extracted(sdf: NeuralSDF, resolution: int, level: float, screen: Console) -> Mesh:
    from .extraction import extract_sdf

    with screen.progress(1000):
        return extract_sdf(sdf, resolution=resolution, level=level, on_progress=screen.fraction)


def write_shape(path: Path, mesh: Mesh, sdf: NeuralSDF, resolution: int, model: Path | None) -> None:
    """``mesh`` to ``path`` and, where ``model`` is a path, the field it was taken from to there."""
    from . import storage, writing

    writing.write(path, mesh)
    if model is not None:
        sdf.info["resolution"] = resolution
        storage.save(sdf, model)
