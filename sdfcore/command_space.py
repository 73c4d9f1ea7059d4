"""``sdfcore space learn``, ``show`` and ``import``: from files to a space, and what a space is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .command_fit import check_output
from .console import Console, Interrupt, seconds_since_start
from .deadline import Stopwatch
from .errors import DivergedError, EmptyInputError, InputError, SdfError

if TYPE_CHECKING:
    from .fitting import Progress
    from .planning import Source
    from .spaces import Learn, Space
    from .spaces.distributed import Group

_AFTERWARDS = 0.5  # seconds to write a space
_FEW_NAMES = 60
_NO_SHAPES = {"txt", "csv", "json", "dict", "dict64"}  # in a folder more often notes than points


@dataclass(frozen=True)
class LearnCommand:
    """The options of ``sdfcore space learn``; :meth:`run` does it.

    Raises:
        SdfError: anything given cannot be used. Outputs are checked before anything is read.
    """

    sources: tuple[Path, ...]
    output: Path
    recipe: str
    preset: str
    seconds: float | None
    epochs: int | None
    steps: int | None
    code_size: int | None
    together: bool
    encoder: bool
    seed: int
    device: str
    samples: int | None
    checkpoint: Path | None
    report: Path | None
    quiet: bool

    def run(self) -> None:
        speaks = int(os.environ.get("RANK", "0")) == 0
        try:
            self._run(speaks)
        except DivergedError:
            raise  # it may be that of one process alone
        except SdfError:
            if speaks:
                raise
            raise click.exceptions.Exit(2) from None  # all processes find the same; one of them says so

    def _run(self, speaks: bool) -> None:
        self._check()
        files = members(self.sources)
        distinct_files([self.output, self.report, self.checkpoint], files.values())
        from .spaces import Learn
        from .spaces.distributed import Group

        group = Group.from_environment()
        screen, stages = Console(quiet=self.quiet or not speaks), Stopwatch("starting", seconds_since_start)
        try:
            self._learn(Learn, group, files, screen, stages)
        finally:
            group.close()

    def _check(self) -> None:
        given = [name for name in ("seconds", "epochs", "steps") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InputError(f"--{given[0]} and --{given[1]} are both given.", "Choose one of them.")
        check_output(self.output, ".safetensors")
        if self.report is not None:
            check_output(self.report, ".json")
        if self.checkpoint is not None:
            check_output(self.checkpoint, ".safetensors")

    def _learn(
        self, make: type[Learn], group: Group, files: dict[str, Path], screen: Console, stages: Stopwatch
    ) -> None:
        from .descent import surviving

        stages.enter("reading")
        screen.stage("reading")
        sources = read_all(files)

        def stage(name: str) -> None:
            stages.enter(name)
            screen.stage(name)

        run = make(
            sources,
            recipe=self.recipe,
            preset=self.preset,
            epochs=self.epochs,
            steps=self.steps,
            seconds=None if self.seconds is None else max(self.seconds - seconds_since_start() - _AFTERWARDS, 0.1),
            code_size=self.code_size,
            together=self.together,
            encoder=self.encoder,
            seed=self.seed,
            device=self.device,
            samples=self.samples,
            checkpoint=self.checkpoint,
            group=group,
            on_stage=stage,
        )
        alone = group.world == 1  # one of several that goes on by itself would leave the others waiting for it
        kept = surviving(run, run.warnings) if alone else run
        stopped = follow(kept, screen, run.settings.steps, stoppable=alone)
        for line in run.warnings if group.first else ():
            screen.say(line)
        stages.enter("writing")
        history = averaged(run.history, group)
        if group.first:
            self._write(run, screen, stages, history, group.world, stopped)

    def _write(
        self, run: Learn, screen: Console, stages: Stopwatch, history: dict[str, list[float]], world: int, stopped: bool
    ) -> None:
        from .report import write_json
        from .spaces import save

        space = run.space
        save(space, self.output)
        if self.report is not None:
            told = {"history": history, "stopped": stopped, "processes": world, "warnings": run.warnings}
            body = {**described(space), **told}
            write_json(self.report, {**body, "seconds": stages.finish()})
        screen.clear()
        info = space.info
        done = f"{info['recipe']}, {info['steps']} steps{' (stopped)' if stopped else ''}"
        shapes = f"{len(space)} shapes in codes of {space.decoder.code_size}"
        click.echo(f"{self.output}: {shapes}, {done}, {seconds_since_start():.1f} s")


def members(given: Sequence[Path]) -> dict[str, Path]:
    """The shapes' files by name: those given, and of a folder all that can be read, in the order of their names.

    Raises:
        InputError: nothing at a path, two files of one name. EmptyInputError: a folder without shapes.
    """
    from . import reading

    known = set(reading.suffixes()) - _NO_SHAPES
    found: dict[str, Path] = {}
    for path in given:
        if not path.exists():
            raise InputError(f"There is no file or folder {path}.", "Check the path.")
        files = [path]
        if path.is_dir():
            inside = sorted(child for child in path.iterdir() if child.is_file() and child.name[0] != ".")
            files = [child for child in inside if child.suffix.lower().lstrip(".") in known]
            if not files:
                raise EmptyInputError(f"The folder {path} holds no meshes and no points.", "Give another folder.")
        for file in files:
            if file.stem in found:
                raise InputError(
                    f"{found[file.stem]} and {file} are both called {file.stem!r}.", "Rename one, or leave it out."
                )
            found[file.stem] = file
    return found


def read_all(files: dict[str, Path]) -> dict[str, Source]:
    """All shapes, by name.

    Raises:
        InputError and its kin: some cannot be read; it names them all, and says what is wrong with the first.
    """
    from . import reading

    found: dict[str, Source] = {}
    broken: dict[Path, SdfError] = {}
    for name, path in files.items():
        try:
            found[name] = reading.read(path)
        except SdfError as error:
            broken[path] = error
    if broken:
        first = next(iter(broken.values()))
        others = [path.name for path in broken][1:]
        more = f" Nor can {', '.join(others[:8])}{' …' if len(others) > 8 else ''} be read." if others else ""
        raise type(first)(f"{first.message}{more}", first.hint)
    return found


def distinct_files(outputs: Iterable[Path | None], inputs: Iterable[Path]) -> None:
    """Raises an InputError if two of the outputs, or an output and an input, are one file."""
    written = [path.resolve() for path in outputs if path is not None]
    if len(set(written)) < len(written) or {path.resolve() for path in inputs} & set(written):
        raise InputError("Two of the input and output files are the same.", "Give each a name of its own.")


def follow(run: Iterable[Progress], screen: Console, steps: int, *, stoppable: bool = True) -> bool:
    """Runs to the end or to the first Ctrl-C; says whether it was stopped so. Not ``stoppable``, Ctrl-C ends it all."""
    if not stoppable:
        with screen.progress(steps):
            for progress in run:
                screen.update(progress)
        return False
    with Interrupt(screen) as interrupt, screen.progress(steps):
        for progress in run:
            screen.update(progress)
            if progress.step > 0 and interrupt.asked:
                break
    return interrupt.asked


def averaged(history: dict[str, list[float]], group: Group) -> dict[str, list[float]]:
    """The curve over all processes: each has seen the loss of its own shapes only."""
    if group.world == 1:
        return history
    import torch
    import torch.distributed

    values = torch.tensor([history[name] for name in sorted(history)], dtype=torch.float64, device=group.device)
    torch.distributed.all_reduce(values)
    return dict(zip(sorted(history), (values / group.world).tolist(), strict=True))


def described(space: Space) -> dict[str, Any]:
    """A space as JSON values, in the report's format, so that 'sdfcore plot' draws its loss."""
    from .report import FORMAT, versions

    info = space.info
    return {
        "format": FORMAT,
        "kind": "space",
        **{key: info.get(key) for key in ("recipe", "preset", "steps", "seed", "together", "size")},
        "code_size": space.decoder.code_size,
        "names": space.names,
        "explained": space.directions().explained,
        "versions": versions(),
    }


# What a space is ----------------------------------------------------------------------------------------------------


def show(source: Path, output: Path | None, up: str, quiet: bool) -> None:
    """Prints what ``source`` holds, and draws it to ``output``.

    Raises:
        InputError: the picture cannot be written there. StorageError: ``source`` is no space.
    """
    if output is not None:
        check_output(output, ".png")
        distinct_files([output], [source])
    from . import spaces

    space = spaces.load(source)
    if output is not None:
        from .spaces.pictures import draw_space

        screen = Console(quiet=quiet)
        with screen.progress(1000):
            draw_space(space, output, title=source.stem, up=up, on_progress=screen.fraction)
    if not quiet:
        for line in _lines(source, space):
            click.echo(line)
    if output is not None:
        click.echo(str(output))


def _lines(source: Path, space: Space) -> Iterable[str]:
    info = space.info
    made = ", ".join(str(info[key]) for key in ("recipe", "preset") if info.get(key))
    made = f"imported from {info.get('source')}" if info.get("imported") else made
    steps = f", {info['steps']} steps" if info.get("steps") else ""
    encoder = ", with an encoder" if space.encoder is not None else ""
    yield f"{source}: {_counted(space)}, codes of {space.decoder.code_size}, {made}{steps}{encoder}"
    shares = [f"{100 * share:.1f} %" for share in space.directions(8).explained]
    yield f"variance explained by the principal directions: {'  '.join(shares)}"
    width = shutil.get_terminal_size((100, 24)).columns
    yield from _wrapped(space.names[:_FEW_NAMES], width)
    if len(space) > _FEW_NAMES:
        yield f"  … and {len(space) - _FEW_NAMES} more"


def _counted(space: Space) -> str:
    return f"{len(space)} shape{'s' * (len(space) != 1)}"


def _wrapped(names: list[str], width: int) -> Iterable[str]:
    """The names in columns, as many as go into ``width``."""
    cell = max(map(len, names)) + 2
    columns = max(1, (width - 2) // cell)
    for start in range(0, len(names), columns):
        yield ("  " + "".join(f"{name:<{cell}}" for name in names[start : start + columns])).rstrip()


def import_deepsdf(folder: Path, output: Path) -> None:
    """Writes the published auto-decoder in ``folder`` as a space.

    Raises:
        SdfError: as :func:`sdfcore.spaces.deepsdf.read_deepsdf`, or ``output`` cannot be written.
    """
    check_output(output, ".safetensors")
    from . import spaces
    from .spaces.deepsdf import read_deepsdf

    space = read_deepsdf(folder)
    spaces.save(space, output)
    click.echo(f"{output}: {_counted(space)} in codes of {space.decoder.code_size}, {seconds_since_start():.1f} s")
