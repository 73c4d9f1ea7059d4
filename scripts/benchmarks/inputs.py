"""The suite ``inputs``: points whose normals are missing, turned round, or noisy, and the recipe ``auto``."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from sdfcore.errors import SdfError
from sdfcore.geometry import Array, Box, Mesh, PointCloud
from sdfcore.reading import read
from sdfcore.report import write_json
from sdfcore.surfaces import MeshDistance
from sdfcore.writing import write

from .document import BENCHMARKS, ROOT, Bar, bars_table, commit, machine, machine_line, publish, table
from .measured import measure, threads_here
from .subjects import Subject, cases, load

Body = dict[str, Any]

SHAPES = (
    "spot", "blub_fish", "nefertiti_35k", "penguin", "koala_low", "goathead", "hand_closed", "skull_low_genus2",
    "boot_genus12", "toy_plane",
)  # fmt: skip
FLIPPED = 0.3  # share of normals turned round
NOISES = (0.005, 0.01)  # deviations, of the box's diagonal
FEW = 20_000  # points of a noisy cloud
RIGHT, ENOUGH = 0.99, 9  # share of samples on the right side, and shapes of ten that must have it
_PROBES = 50_000


@dataclass(frozen=True)
class Variant:
    """What is done to the points, and which methods are run on them."""

    name: str
    points: int
    spoil: Callable[[PointCloud, float, np.random.Generator], PointCloud]
    peers: tuple[str, ...] = ()


def _bare(cloud: PointCloud, diagonal: float, random: np.random.Generator) -> PointCloud:
    return PointCloud(cloud.points)


def _flipped(cloud: PointCloud, diagonal: float, random: np.random.Generator) -> PointCloud:
    assert cloud.normals is not None
    turned = random.random(len(cloud)) < FLIPPED
    return PointCloud(cloud.points, np.where(turned[:, None], -cloud.normals, cloud.normals))


def noisy(share: float) -> Callable[[PointCloud, float, np.random.Generator], PointCloud]:
    """Every point moved by a Gaussian of ``share`` diagonals."""

    def spoil(cloud: PointCloud, diagonal: float, random: np.random.Generator) -> PointCloud:
        return PointCloud(cloud.points + share * diagonal * random.normal(size=cloud.points.shape), cloud.normals)

    return spoil


VARIANTS = (
    Variant("no normals", 100_000, _bare),
    Variant(f"{FLIPPED:.0%} of normals turned", 100_000, _flipped),
    *(Variant(f"noise {share:.1%}", FEW, noisy(share), ("poisson 7", "poisson 8", "rimls")) for share in NOISES),
)


def row(method: str, subject: Subject, cloud: PointCloud, preset: str, folder: Path) -> Body:
    """Runs ``method`` on ``cloud`` in a process of its own; its mesh against the truth of ``subject``."""
    source, output = folder / "points.ply", folder / "result.ply"
    write(source, cloud)
    done = measure(_command(method, source, output, preset), output, threads=threads_here(), limit=900)
    if done.complaint:
        return {"error": done.complaint}
    try:
        result = read(output)
        if not isinstance(result, Mesh):
            return {"error": "gave no mesh"}
        found = subject.compared(result, 100_000)
    except SdfError as error:
        return {"error": error.line}
    kept = ("chamfer", "hausdorff", "watertight", "components", "euler", "right_components", "right_euler")
    return {
        **{name: found[name] for name in kept}, "sides": sides(result, subject.truth), "seconds": done.seconds,
        "commit": commit(),
    }  # fmt: skip


def _command(method: str, source: Path, output: Path, preset: str) -> list[str]:
    if method == "auto":
        return [sys.executable, "-m", "sdfcore", "fit", str(source), "-o", str(output), "--preset", preset]
    name, _, depth = method.partition(" ")
    words = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), "one_peer", name, str(source), str(output)]
    return [*words, "--depth", depth] if depth else words


def sides(result: Mesh, truth: Mesh) -> float:
    """The share of uniform samples of the truth's box, grown by a tenth, that are on the same side of both."""
    box = Box.around(truth.vertices.astype(np.float64))
    box = box.expanded(0.1 * float(box.size.max()))
    probes: Array = np.random.default_rng(0).uniform(box.lower, box.upper, (_PROBES, 3))
    return float((MeshDistance(result).inside(probes) == MeshDistance(truth).inside(probes)).mean())


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--shapes", default=",".join(SHAPES), help="By file name without suffix: a,b.")
@click.option("--variants", default="", help="Only these, by comma.")
@click.option("--preset", default="balanced", show_default=True)
@click.option("--json", "record", type=click.Path(path_type=Path), help="Default: build/inputs.json.")
@click.option("--output", type=click.Path(path_type=Path), help="Default: docs/benchmarks.md if all is run.")
@click.option("--resume", is_flag=True, help="Keep the rows already in the JSON file.")
def inputs(
    data: Path, shapes: str, variants: str, preset: str, record: Path | None, output: Path | None, resume: bool
) -> None:
    """Ten closed shapes of DATA without normals, with a third of them turned round, and with noise."""
    record = record or ROOT / "build" / "inputs.json"
    body: Body = {"machine": machine(), "preset": preset, "rows": {}}
    if resume and record.exists():
        body["rows"] = json.loads(record.read_text(encoding="utf-8"))["rows"]
    record.parent.mkdir(parents=True, exist_ok=True)
    names = tuple(name for name in shapes.split(",") if name)
    chosen = [v for v in VARIANTS if not variants or v.name in variants.split(",")]
    for variant in chosen:
        rows = body["rows"].setdefault(variant.name, {})
        for case in cases(data, names):
            subject = load(case, variant.points)
            diagonal = Box.around(subject.truth.vertices.astype(np.float64)).diagonal
            cloud = variant.spoil(subject.cloud, diagonal, np.random.default_rng(1))
            known = rows.setdefault(case.name, {})
            for method in ("auto", *variant.peers):
                if "chamfer" not in known.get(method, {}):
                    with tempfile.TemporaryDirectory() as folder:
                        known[method] = row(method, subject, cloud, preset, Path(folder))
                    click.echo(f"{variant.name}, {case.name}, {method}: {_said(known[method])}")
            write_json(record, body)
    whole = not variants and names == SHAPES
    publish("inputs", section(body), bars(body), output or (BENCHMARKS if whole else None))


def _said(found: Body) -> str:
    if "error" in found:
        return f"failed: {found['error']}"
    return (
        f"chamfer {1e5 * found['chamfer']:.1f}e-5, sides {found['sides']:.2%}, parts {found['components']}, "
        f"closed {found['watertight']}, {found['seconds']:.0f} s"
    )


def section(body: Body) -> str:
    """Head, bars, and a table of every shape for each variant."""
    commits = {
        found.get("commit", "") for rows in body["rows"].values() for row in rows.values() for found in row.values()
    }
    head = (
        f"## Inputs\n\n`sdfcore fit` with `auto` and `{body['preset']}`. Chamfer: exact, in 10⁻⁵ of half the longest "
        f"side. Sides: share of {_PROBES:,} uniform samples of the box that lie on the truth's side of the result. "
        f"Noise: {FEW:,} points, their normals kept; against screened Poisson and RIMLS on the same points. Seconds "
        "are no figures of speed: runs may go on beside one another.\n\n"
        "```\npython scripts/benchmark.py inputs --data DIR\n```\n\n"
        f"Machine: {machine_line(body['machine'], commits)}"
    )
    parts = [head, bars_table(bars(body))]
    for variant, rows in body["rows"].items():
        peers = [m for m in next(iter(rows.values())) if m != "auto"] if rows else []
        columns = (
            "shape",
            "Chamfer",
            "sides",
            "closed",
            "parts",
            "Euler",
            "seconds",
            *(f"{p}, Chamfer" for p in peers),
        )
        cells = [
            (name, *_cells(found["auto"]), *(_chamfer(found.get(p, {})) for p in peers)) for name, found in rows.items()
        ]
        parts.append(f"### {variant}\n\n{table(columns, cells)}")
    return "\n\n".join(parts)


def _cells(found: Body) -> tuple[str, ...]:
    if "error" in found:
        return (f"failed: {found['error'][:40]}", *[""] * 5)
    closed = "yes" if found["watertight"] else "no"
    return (
        _chamfer(found), f"{found['sides']:.2%}", closed, str(found["components"]), str(found["euler"]),
        f"{found['seconds']:.0f}",
    )  # fmt: skip


def _chamfer(found: Body) -> str:
    return f"{1e5 * found['chamfer']:.1f}" if "chamfer" in found else "–"


def bars(body: Body) -> list[Bar]:
    """Closed and right-sided for nine of ten; with noise, a median no worse than the best peer's."""
    result = []
    for variant in VARIANTS:
        rows = body["rows"].get(variant.name)
        if not rows:
            continue
        ours = [found["auto"] for found in rows.values()]
        if not variant.peers:
            good = sum(bool(f.get("watertight")) and f.get("sides", 0) >= RIGHT for f in ours)
            text = (
                f"{variant.name}: watertight, ≥ {RIGHT:.0%} of the box on the right side, for ≥ {ENOUGH} of {len(ours)}"
            )
            result.append(Bar(text, f"{good} of {len(ours)}", good >= min(ENOUGH, len(ours))))
            continue
        of = lambda method: median(f[method].get("chamfer", float("inf")) for f in rows.values())  # noqa: B023
        best = min(variant.peers, key=of)
        text = f"{variant.name}: median Chamfer ≤ the best of Poisson 7, 8 and RIMLS"
        result.append(Bar(text, f"{1e5 * of('auto'):.1f} / {1e5 * of(best):.1f} ({best})", of("auto") <= of(best)))
    return result
