"""The suite ``speed``: the time a user waits for a first look, from process start to the file written."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import click

from sdfcore.geometry import Mesh
from sdfcore.reading import read
from sdfcore.writing import write

from .document import BENCHMARKS, ROOT, Bar, bars_table, commit, machine, machine_line, publish, table
from .measured import measure, threads_here
from .subjects import Subject, cases, load

SHAPE = "nefertiti_35k"
CAP = 20.0  # seconds
PEER_DEPTH = 7
_LIMIT = 600.0


def draft(source: Path, output: Path, steps: int | None) -> list[str]:
    """The command a user would give."""
    command = [sys.executable, "-m", "sdfcore", "fit", str(source), "-o", str(output), "--preset", "draft"]
    return command if steps is None else [*command, "--steps", str(steps)]


def poisson(source: Path, output: Path, threads: int) -> list[str]:
    """Screened Poisson at the depth whose quality is the bar."""
    command = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), "_poisson", str(source), str(output)]
    return [*command, "--depth", str(PEER_DEPTH), "--threads", str(threads)]


def timed(name: str, command: list[str], output: Path, subject: Subject, threads: int) -> dict[str, Any]:
    """One run, measured and compared with the truth."""
    done = measure(command, output, threads=threads, limit=_LIMIT)
    if done.complaint:
        raise click.ClickException(f"{name}: {done.complaint}")
    result = read(output)
    if not isinstance(result, Mesh):
        raise click.ClickException(f"{name} gave no mesh.")
    assert done.seconds_written is not None  # else there was a complaint
    found = {"name": name, "seconds": done.seconds_written, "seconds_cpu": done.seconds_cpu, "peak_mib": done.peak_mib}
    click.echo(f"{name}: {done.seconds_written:.1f} s")
    return {**found, **subject.compared(result, 100_000)}


def bars(ours: list[dict[str, Any]], peer: dict[str, Any]) -> list[Bar]:
    """In time, and at the quality of Poisson, in every run."""
    seconds, worst = median(row["seconds"] for row in ours), max(row["chamfer"] for row in ours)
    ratio = worst / peer["chamfer"]
    return [
        Bar(f"median of {len(ours)} runs ≤ {CAP:g} s", f"{seconds:.1f} s", seconds <= CAP),
        Bar(f"Chamfer ≤ 1.0 × Poisson {PEER_DEPTH}", f"{ratio:.2f}", ratio <= 1.0),
    ]


def section(rows: list[dict[str, Any]], found: list[Bar], command: str, threads: int) -> str:
    """The whole section, Markdown."""
    cells = [
        [
            row["name"], f"{row['seconds']:.1f}", f"{row['seconds_cpu']:.1f}", f"{row['peak_mib']:.0f}",
            f"{1e5 * row['chamfer']:.1f}", f"{1e5 * row['hausdorff']:.1f}", "yes" if row["watertight"] else "**no**",
        ]
        for row in rows
    ]  # fmt: skip
    head = ["run", "seconds", "CPU seconds", "MiB", "Chamfer", "Hausdorff", "watertight"]
    return "\n\n".join(
        [
            "## Speed",
            f"`{SHAPE}`, 100,000 points with normals: `sdfcore fit points.ply -o out.ply --preset draft` from process "
            f"start to the file written, {threads} threads; lengths as in the section on quality.",
            f"```\n{command}\n```",
            f"Machine: {machine_line(machine(), [commit()])}",
            bars_table(found),
            table(head, cells),
        ]
    )


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--runs", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), help="Training steps instead of the preset's, for trials.")
@click.option("--threads", type=click.IntRange(min=1), default=threads_here, help="Default: all cores.")
@click.option("--output", type=click.Path(path_type=Path), help="Default: docs/benchmarks.md, unless in trials.")
def speed(data: Path, runs: int, steps: int | None, threads: int, output: Path | None) -> None:
    """Seconds of a draft of one shape of DATA, from process start to the file written."""
    subject = load(cases(data, (SHAPE,))[0], 100_000)
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "points.ply", Path(folder) / "out.ply"
        write(source, subject.cloud)
        ours = [timed(f"draft {n + 1}", draft(source, result, steps), result, subject, threads) for n in range(runs)]
        peer = timed(f"Poisson {PEER_DEPTH}", poisson(source, result, threads), result, subject, threads)
    trial = f" --steps {steps}" if steps else ""
    command = f"python scripts/benchmark.py speed --data DIR --runs {runs}{trial}"
    found = bars(ours, peer)
    text = section([*ours, peer], found, command, threads)
    publish("speed", text, found, output or (None if steps else BENCHMARKS))
