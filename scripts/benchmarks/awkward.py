"""The suite ``awkward``: every file that breaks mesh tools gives a valid mesh, or one line that says why not."""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from sdfcore.errors import SdfError
from sdfcore.geometry import Mesh
from sdfcore.reading import read
from sdfcore.topology import topology

SECONDS = 10
HANGS_AFTER = 90
ENOUGH_FACES = 100
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Trial:
    """What became of one file. ``problem`` is empty where it is as it must be."""

    name: str
    faces: int | None
    outcome: str
    seconds: float
    problem: str


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--only", help="Only files whose name contains this.")
@click.option("--output", type=click.Path(path_type=Path), default=ROOT / "docs" / "awkward.md", show_default=True)
def awkward(data: Path, only: str | None, output: Path) -> None:
    """Fit every file of DATA/awkward for 10 seconds: a valid mesh, or exit 2 with one clear line."""
    usable = usable_faces(data / "manifest.csv")
    files = [path for path in sorted((data / "awkward").iterdir()) if only is None or only in path.name]
    trials = []
    with tempfile.TemporaryDirectory() as folder:
        for path in files:
            trials.append(trial(path, usable.get(path.name), Path(folder)))
            click.echo(f"{row(trials[-1])}")
    if only is None:
        output.write_text(document(trials), encoding="utf-8")
        click.echo(f"written: {output}")
    failed = [t for t in trials if t.problem]
    click.echo(f"{len(trials) - len(failed)} of {len(trials)} as they must be")
    if failed:
        raise click.exceptions.Exit(1)


def usable_faces(manifest: Path) -> dict[str, int]:
    """Faces that are neither degenerate nor unreadable, by file name, where the manifest knows them."""
    with manifest.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["path"].startswith("awkward/") and row["faces"]]
    return {Path(row["path"]).name: int(row["faces"]) - int(row["degenerate"] or 0) for row in rows}


def trial(path: Path, faces: int | None, folder: Path) -> Trial:
    """Runs the command line on ``path`` and judges what it did."""
    out = folder / "out.ply"
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "sdfcore", "fit", str(path), "-o", str(out)]
    command += ["--preset", "draft", "--seconds", str(SECONDS)]
    begun = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS_AFTER, check=False)
    except subprocess.TimeoutExpired:
        return Trial(path.name, faces, "", float(HANGS_AFTER), "hangs")
    seconds = time.monotonic() - begun
    outcome, problem = judge(done, out, (faces or 0) >= ENOUGH_FACES)
    left = [p.name for p in folder.iterdir() if p != out]
    if left:
        problem = f"leaves {', '.join(left)} behind"
    if not problem and seconds > 1.2 * SECONDS:
        problem = f"takes {seconds:.1f} s"
    return Trial(path.name, faces, outcome, seconds, problem)


def judge(done: subprocess.CompletedProcess[str], out: Path, must_give_a_mesh: bool) -> tuple[str, str]:
    """The outcome in words, and what is wrong with it."""
    ours = [line for line in done.stderr.splitlines() if line.startswith("sdfcore: ")]
    if "Traceback" in done.stderr or "Traceback" in done.stdout:
        return "", "prints a traceback"
    if done.returncode == 0:
        return judge_mesh(out)
    if done.returncode != 2:
        return (ours or [""])[-1], f"ends with {done.returncode}"
    if len(ours) != 1 or not done.stderr.splitlines()[-1].startswith("sdfcore: "):
        return "", f"says {len(ours)} lines"
    if out.exists():
        return ours[0], "leaves a file although it failed"
    said = ours[0].removeprefix("sdfcore: ")
    return said, "must give a mesh" if must_give_a_mesh else ""


def judge_mesh(out: Path) -> tuple[str, str]:
    """A valid mesh is finite, closed, and encloses a volume."""
    try:
        mesh = read(out)
    except SdfError as error:
        return error.line, "gives a mesh that cannot be read"
    if not isinstance(mesh, Mesh):
        return "", "gives no mesh"
    found = topology(mesh)
    parts = "1 part" if found.components == 1 else f"{found.components} parts"
    outcome = f"mesh: {len(mesh.vertices):,} vertices, {parts}, volume {mesh.volume():.3g}"
    if not found.watertight:
        return outcome, "is not watertight"
    return outcome, "" if mesh.volume() > 0 else "encloses no volume"


def row(one: Trial) -> str:
    """A line of the table."""
    faces = "–" if one.faces is None else f"{one.faces:,}"
    verdict = f"**{one.problem}**" if one.problem else "✓"
    return f"| `{one.name}` | {faces} | {one.seconds:.1f} | {verdict} | {one.outcome.replace('|', '/')} |"


def document(trials: Sequence[Trial]) -> str:
    """The whole of docs/awkward.md."""
    good = sum(not t.problem for t in trials)
    meshes = sum(t.outcome.startswith("mesh") for t in trials)
    return "\n".join(
        [
            "# Awkward files",
            "",
            f"{len(trials)} files that break mesh tools, each through `sdfcore fit FILE -o out.ply --preset draft "
            f"--seconds {SECONDS}` in a process of its own. {good} are as they must be: a finite, watertight mesh that "
            "encloses a volume, or exit code 2 with one line that says what is wrong; no traceback, no hang, no file "
            f"left behind, at most {1.2 * SECONDS:g} seconds. A file with {ENOUGH_FACES} usable faces or more must "
            f"give a mesh. {meshes} gave one.",
            "",
            "Made by `python scripts/benchmark.py awkward --data DIR`.",
            "",
            "| file | usable faces | seconds | | outcome |",
            "|---|---:|---:|---|---|",
            *map(row, trials),
            "",
        ]
    )


if __name__ == "__main__":
    awkward()
