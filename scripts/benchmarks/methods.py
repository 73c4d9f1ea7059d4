"""The suite ``methods``: every recipe and every classical method on scans with a truth, for the same seconds."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from sdfcore.errors import SdfError
from sdfcore.geometry import Mesh, PointCloud
from sdfcore.reading import read
from sdfcore.recipes import RECIPES
from sdfcore.report import write_json
from sdfcore.surfaces import outward
from sdfcore.topology import topology, weld
from sdfcore.writing import write

from .document import BENCHMARKS, ROOT, commit, machine, publish
from .measured import measure, threads_here
from .methods_section import bars, draw, section
from .protocol import SrbMeasures

Body = dict[str, Any]

_PATIENCE = 24 * 3600.0  # seconds for a run of the published length


@dataclass(frozen=True)
class Method:
    """A row of the table: a recipe or a peer, with the scan's normals or without."""

    name: str
    recipe: str
    normals: bool
    peer: bool = False
    depth: int | None = None


@dataclass(frozen=True)
class Settings:
    """What is measured, and how.

    Args:
        training: seconds of a recipe's training; ``None`` for the steps of the preset, however long they take.
        samples: of each mesh in the comparison. resolution: of the meshes.
    """

    training: float | None = 60.0
    samples: int = 1_000_000
    preset: str = "balanced"
    resolution: int = 256
    seed: int = 0
    threads: int = 1
    device: str = "auto"


def all_methods() -> list[Method]:
    """All recipes with normals where they read them, those that can also without, ``auto`` without, and the peers."""
    found = []
    for recipe in RECIPES.values():
        reads = recipe.needs_normals or bool(recipe.normal_terms)
        if reads:
            found.append(Method(recipe.name, recipe.name, True))
        if not recipe.needs_normals:
            found.append(Method(f"{recipe.name}, no normals", recipe.name, False))
    found.append(Method("auto, no normals", "auto", False))
    found += [Method(f"poisson {depth}", "poisson", True, True, depth) for depth in (8, 9)]
    return [*found, *(Method(name, name, True, True) for name in ("hoppe", "apss", "rimls", "ball_pivoting"))]


def pairs(folder: Path, names: tuple[str, ...]) -> list[tuple[str, Path, Path]]:
    """(name, scan, truth) of every ``NAME.ply`` with a ``NAME_truth.ply``."""
    found = []
    for truth in sorted(folder.glob("*_truth.ply")):
        name = truth.stem.removesuffix("_truth")
        if not names or name in names:
            found.append((name, truth.with_name(f"{name}.ply"), truth))
    if not found:
        raise click.BadParameter(f"no NAME.ply with a NAME_truth.ply in {folder}")
    return found


def made(method: Method, scan: PointCloud, settings: Settings) -> tuple[Body, Mesh | None]:
    """Runs ``method`` in a process of its own: what it told, and its mesh."""
    with tempfile.TemporaryDirectory() as scratch:
        source, output = Path(scratch) / "scan.ply", Path(scratch) / "result.ply"
        write(source, scan)
        limit = _PATIENCE if settings.training is None else 900
        done = measure(_command(method, source, output, settings), output, threads=settings.threads, limit=limit)
        if done.complaint:
            return {"error": done.complaint, "seconds": done.seconds}, None
        try:
            result = read(output)
        except SdfError as error:
            return {"error": error.line}, None
    if not isinstance(result, Mesh):
        return {"error": "gave no mesh"}, None
    told = json.loads(done.out.splitlines()[-1])
    return {**told, "seconds": done.seconds, "peak_mib": done.peak_mib, "commit": commit()}, result


def measured(told: Body, result: Mesh | None, measures: SrbMeasures) -> Body:
    """``told``, and how near ``result`` is to the truth."""
    if result is None:
        return told
    found = topology(result)
    shape = {"watertight": found.watertight, "components": found.components, "euler": found.euler}
    return {**told, **measures(result), **shape}


def _command(method: Method, source: Path, output: Path, settings: Settings) -> list[str]:
    words = [sys.executable, str(ROOT / "scripts" / "benchmark.py")]
    if method.peer:
        depth = [] if method.depth is None else ["--depth", str(method.depth)]
        return [*words, "one_peer", method.recipe, str(source), str(output), *depth]
    words += ["one_method", str(source), str(output), "--recipe", method.recipe, "--preset", settings.preset]
    if settings.training is None:
        words += ["--steps", str(RECIPES[planned(method)].sizes[settings.preset].steps)]
    else:
        words += ["--training", f"{settings.training:g}"]
    words += ["--resolution", str(settings.resolution), "--seed", str(settings.seed), "--device", settings.device]
    return [*words, "--normals" if method.normals else "--no-normals"]


def planned(method: Method) -> str:
    """The recipe whose steps a method takes; ``auto`` takes those of its usual choice."""
    return "distance" if method.recipe == "auto" else method.recipe


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--names", default="", help="Only these scans: a,b.")
@click.option("--only", default="", help="Only these methods, as the table names them, separated by semicolons.")
@click.option("--training", type=float, default=60.0, show_default=True, help="Seconds of training of each recipe.")
@click.option("--preset", default="draft", show_default=True, help="Whose network sizes are taken.")
@click.option("--published", is_flag=True, help="The preset fine and its steps, instead of seconds: for a GPU.")
@click.option("--device", default="auto", show_default=True)
@click.option("--json", "record", type=click.Path(path_type=Path), help="Default: build/methods.json.")
@click.option("--output", type=click.Path(path_type=Path), help="Default: docs/benchmarks.md if all is run.")
@click.option("--resume", is_flag=True, help="Keep the rows already in the JSON file.")
def methods(
    data: Path, names: str, only: str, training: float, preset: str, published: bool, device: str, record: Path | None,
    output: Path | None, resume: bool,
) -> None:  # fmt: skip
    """Every method on the scans of DATA/scans/srb, or on any folder of NAME.ply and NAME_truth.ply."""
    srb = (data / "scans" / "srb").is_dir()
    settings = Settings(training, preset=preset, threads=threads_here(), device=device)
    settings = replace(settings, training=None, preset="fine") if published else settings
    record = record or ROOT / "build" / "methods.json"
    body = begun(record, settings, resume)
    wanted = tuple(word for word in names.split(",") if word)
    for name, scan_path, truth_path in pairs(data / "scans" / "srb" if srb else data, wanted):
        scan, truth = loaded(scan_path, truth_path)
        measures = SrbMeasures(truth, scan, settings.samples, settings.seed)
        fill(
            body["rows"].setdefault(name, {}), chosen(only), scan, measures, settings, partial(write_json, record, body)
        )
    whole = srb and not (only or names or published) and training >= 60
    output = output or (BENCHMARKS if whole else None)
    if output is not None:
        draw(body, output.with_name("methods_chart.png"))
    publish("methods", section(body), bars(body), output)


def begun(record: Path, settings: Settings, resume: bool) -> Body:
    """A body without rows, or the one in ``record`` if that is to be gone on with.

    Raises:
        click.ClickException: what is there was measured with other settings.
    """
    body: Body = {"settings": asdict(settings), "machine": machine(), "rows": {}}
    record.parent.mkdir(parents=True, exist_ok=True)
    if not (resume and record.exists()):
        return body
    old = json.loads(record.read_text(encoding="utf-8"))
    if {**asdict(Settings()), **old["settings"]} != body["settings"]:
        raise click.ClickException(f"{record.name} was measured with other settings; leave --resume out to start anew.")
    return body | {"rows": old["rows"]}


def chosen(only: str) -> list[Method]:
    """All methods, or those of the names in ``only``."""
    names = [word.strip() for word in only.split(";")]
    return [method for method in all_methods() if not only or method.name in names]


def fill(
    rows: Body, wanted: list[Method], scan: PointCloud, measures: SrbMeasures, settings: Settings,
    save: Callable[[], None],
) -> None:  # fmt: skip
    """Measures what is not yet in ``rows``."""
    due = [method for method in wanted if "exact_chamfer" not in rows.get(method.name, {})]
    for method, found in _in_turn(due, scan, measures, settings):
        rows[method.name] = found
        save()
        click.echo(f"{method.name:<28} {_said(found)}")


def _in_turn(
    due: list[Method], scan: PointCloud, measures: SrbMeasures, settings: Settings
) -> Iterator[tuple[Method, Body]]:
    """Each method and its row. A mesh is measured while the next process starts, long before its training."""
    with ThreadPoolExecutor(1) as pool:
        last: tuple[Method, Future[Body]] | None = None
        for method in due:
            told, result = made(method, scan, settings)
            if last is not None:
                yield last[0], last[1].result()
            last = method, pool.submit(measured, told, result, measures)
        if last is not None:
            yield last[0], last[1].result()


def loaded(scan_path: Path, truth_path: Path) -> tuple[PointCloud, Mesh]:
    scan, truth = read(scan_path), read(truth_path)
    if not isinstance(scan, PointCloud) or not isinstance(truth, Mesh):
        raise click.ClickException(f"{scan_path.name} is to hold points, {truth_path.name} a mesh.")
    rows, faces = weld(truth.vertices, truth.faces)
    return scan, outward(Mesh(truth.vertices[rows], faces))


def _said(found: Body) -> str:
    if "error" in found:
        return f"failed: {found['error']}"
    return (
        f"exact {found['exact_chamfer']:.4f}, paper {found['paper_chamfer']:.3f} / {found['paper_hausdorff']:.2f}, "
        f"parts {found['components']}, euler {found['euler']}, {found.get('steps', '–')} steps, "
        f"{found['seconds']:.0f} s"
    )
