"""The suite ``scaling``: how time and memory grow with points, triangles, resolution, shapes and network width."""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from matplotlib.ticker import NullFormatter

from sdfcore.plots import INK, new_panels, save_figure
from sdfcore.report import read_report, write_json
from sdfcore.writing import write

from .document import BENCHMARKS, ROOT, Bar, bars_table, commit, machine, machine_line, publish, table
from .extraction import fit, timing
from .measured import Measured, measure, threads_here
from .one_scale import bumpy, bumpy_mesh, even_directions

Body = dict[str, Any]

FIGURE = "scaling.png"
MEMORY_MIB, BYTES_A_POINT = 4096.0, 160.0
_LIMIT = 1800.0
_STEPS = 100


@dataclass(frozen=True)
class Kind:
    """Something that grows.

    Args:
        values: what is run. times: which seconds are told, by name in the row.
        run: a value and a folder → the row.
        upper: from which value on the exponents are fitted; below, what is constant weighs too much.
    """

    name: str
    title: str
    values: tuple[int, ...]
    times: tuple[str, ...]
    run: Callable[[int, Path, int], Body]
    upper: int


def _told(done: Measured, extra: Body) -> Body:
    if done.complaint:
        raise click.ClickException(done.complaint)
    return {"peak_mib": done.peak_mib, "seconds": done.seconds, **extra}


def _fitted(source: Path, folder: Path, threads: int) -> Body:
    """A draft of few steps through the command line, the file's reading included."""
    output, report = folder / "out.ply", folder / "report.json"
    words = [sys.executable, "-m", "sdfcore", "fit", str(source), "-o", str(output), "--preset", "draft"]
    done = measure([*words, "--steps", str(_STEPS), "--report", str(report)], output, threads=threads, limit=_LIMIT)
    if done.complaint:
        raise click.ClickException(done.complaint)
    stages = read_report(report)["seconds"]
    return _told(done, {name: stages.get(name, 0.0) for name in ("reading", "preparing", "fitting", "extracting")})


def _points(count: int, folder: Path, threads: int) -> Body:
    source = folder / "points.ply"
    write(source, bumpy(even_directions(count)))
    return _fitted(source, folder, threads)


def _triangles(count: int, folder: Path, threads: int) -> Body:
    source = folder / "mesh.ply"
    write(source, bumpy_mesh(count))
    return _fitted(source, folder, threads)


def _resolution(cells: int, folder: Path, threads: int) -> Body:
    """Extraction of one and the same network of the suite ``extraction``."""
    model = folder.parent / "model.safetensors"
    if not model.exists():
        source = folder.parent / "bumpy.ply"
        write(source, bumpy_mesh(100_000))
        fit(source, model, threads, None)
    return timing(model, cells, threads)


def _one(kind: str) -> Callable[[int, Path, int], Body]:
    def run(value: int, folder: Path, threads: int) -> Body:
        output = folder / "row.json"
        words = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), "one_scale", kind, str(value), str(output)]
        done = measure(words, output, threads=threads, limit=_LIMIT)
        return _told(done, {}) | json.loads(output.read_text(encoding="utf-8"))

    return run


KINDS = (
    Kind("points", "Points of a draft of 100 steps", (10_000, 100_000, 1_000_000, 10_000_000),
         ("reading", "preparing", "fitting", "extracting"), _points, 100_000),
    Kind("triangles", "Triangles of a draft of 100 steps", (20_000, 100_000, 1_000_000, 5_000_000),
         ("reading", "preparing", "fitting", "extracting"), _triangles, 100_000),
    Kind("resolution", "Resolution of an extraction", (64, 128, 256, 512, 1024), ("seconds",), _resolution, 128),
    Kind("shapes", "Shapes of a space, 40 epochs", (8, 32, 128, 512), ("preparing", "learning"), _one("shapes"), 8),
    Kind("width", "Width of an MLP of 5 layers, one step", (32, 64, 128, 256, 512), ("milliseconds",),
         _one("width"), 128),
)  # fmt: skip


def exponent(rows: dict[str, Body], name: str, lowest: int) -> float:
    """Of the power of the value that ``name`` grows with: a line through the logarithms from ``lowest`` on."""
    pairs = [(int(value), row[name]) for value, row in rows.items() if int(value) >= lowest and row.get(name)]
    if len(pairs) < 2:
        return math.nan
    logs = np.log(np.array(pairs, dtype=float))
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def bars(body: Body) -> list[Bar]:
    """Of the kinds that were run."""
    kinds, found = body["kinds"], []
    if rows := kinds.get("resolution"):
        grows = exponent(rows, "seconds", 128)
        found.append(Bar("extraction: exponent in the resolution ≤ 2.2", f"{grows:.2f}", grows <= 2.2))
        peak = max(row["peak_mib"] for row in rows.values())
        found.append(Bar("extraction: most memory < 4 GiB", f"{peak:.0f} MiB", peak < MEMORY_MIB))
    for name in ("points", "triangles"):
        if rows := kinds.get(name):
            peak = max(row["peak_mib"] for row in rows.values())
            found.append(Bar(f"{name}: most memory < 4 GiB", f"{peak:.0f} MiB", peak < MEMORY_MIB))
    if (rows := kinds.get("points")) and len(rows) > 1:
        few, many = sorted(rows, key=int)[-2:]
        each = (rows[many]["peak_mib"] - rows[few]["peak_mib"]) * 2**20 / (int(many) - int(few))
        text = f"points: memory beyond {int(few):,} ≤ {BYTES_A_POINT:g} bytes a point (a point and its normal: 48)"
        found.append(Bar(text, f"{each:.0f}", each <= BYTES_A_POINT))
    if rows := kinds.get("shapes"):
        grows = exponent(rows, "learning", 8)
        found.append(Bar("learning: exponent in the shapes ≤ 1.1", f"{grows:.2f}", grows <= 1.1))
    return found


def section(body: Body) -> str:
    """The whole section, Markdown."""
    parts = [
        "## Scaling",
        "Every number is from a process of its own; memory is its peak, Python and torch included. Exponents are of "
        f"the slope in the figure, from the value in brackets on. {threads_here()} threads.",
        "```\npython scripts/benchmark.py scaling\n```",
        f"Machine: {machine_line(body['machine'], [body['commit']])}",
        bars_table(bars(body)),
        f"![Time and memory against size, both logarithmic]({FIGURE})",
    ]
    for kind in KINDS:
        if rows := body["kinds"].get(kind.name):
            head = [kind.name, *(f"{name}{'' if name == 'milliseconds' else ', s'}" for name in kind.times), "MiB"]
            cells = [
                [f"{int(value):,}", *(f"{row[name]:.2f}" for name in kind.times), f"{row['peak_mib']:.0f}"]
                for value, row in rows.items()
            ]
            grow = ", ".join(f"{name} {exponent(rows, name, kind.upper):.2f}" for name in kind.times)
            parts += [f"### {kind.title}", table(head, cells), f"Exponents ({kind.upper:,}): {grow}."]
    return "\n\n".join(parts)


def draw(body: Body, path: Path) -> None:
    """A log-log picture of every kind: seconds, and memory."""
    kinds = [kind for kind in KINDS if body["kinds"].get(kind.name)]
    figure, axes = new_panels(3.4 * len(kinds), 5.6, 2, len(kinds))
    for column, kind in enumerate(kinds):
        rows = body["kinds"][kind.name]
        values = [int(value) for value in rows]
        for name in kind.times:
            axes[0][column].plot(values, [row[name] for row in rows.values()], marker="o", ms=3.5, label=name)
        axes[1][column].plot(values, [row["peak_mib"] for row in rows.values()], marker="o", ms=3.5, color=INK)
        axes[0][column].set_title(kind.title, fontsize=9)
        axes[0][column].legend(fontsize=7, frameon=False)
        axes[1][column].set_xlabel(kind.name)
        for row in (0, 1):
            axes[row][column].set_xscale("log")
            axes[row][column].set_yscale("log")
            axes[row][column].xaxis.set_minor_formatter(NullFormatter())
    axes[0][0].set_ylabel("seconds (width: ms)")
    axes[1][0].set_ylabel("peak MiB")
    save_figure(figure, path)


@click.command()
@click.option("--kinds", default=",".join(kind.name for kind in KINDS), show_default=True)
@click.option("--largest", type=int, default=10**9, help="Leave larger values out, for trials.")
@click.option("--threads", type=click.IntRange(min=1), default=threads_here, help="Default: all cores.")
@click.option("--json", "record", type=click.Path(path_type=Path), help="Default: build/scaling.json.")
@click.option("--output", type=click.Path(path_type=Path), help="Default: docs/benchmarks.md if all is run.")
@click.option("--resume", is_flag=True, help="Keep the rows already in the JSON file.")
def scaling(
    kinds: str, largest: int, threads: int, record: Path | None, output: Path | None, resume: bool
) -> None:  # fmt: skip
    """Time and memory against size, with exponents and a figure."""
    record = record or ROOT / "build" / "scaling.json"
    body: Body = {"machine": machine(), "commit": commit(), "kinds": {}}
    if resume and record.exists():
        body["kinds"] = json.loads(record.read_text(encoding="utf-8"))["kinds"]
    record.parent.mkdir(parents=True, exist_ok=True)
    chosen = [kind for kind in KINDS if kind.name in kinds.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        for kind in chosen:
            rows = body["kinds"].setdefault(kind.name, {})
            for value in kind.values:
                if value <= largest and str(value) not in rows:
                    with tempfile.TemporaryDirectory(dir=folder) as own:
                        rows[str(value)] = kind.run(value, Path(own), threads)
                    click.echo(f"{kind.name} {value:,}: {rows[str(value)]}")
                    write_json(record, body)
    whole = len(chosen) == len(KINDS) and largest >= 10**9
    path = output or (BENCHMARKS if whole else None)
    if path is not None:
        draw(body, path.with_name(FIGURE))
    publish("scaling", section(body), bars(body), path)
