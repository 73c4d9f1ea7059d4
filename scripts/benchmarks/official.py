"""The suite ``official``: our SIREN, DiGS and StEik against the authors' own code, for the same seconds."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import click

from sdfcore.errors import SdfError
from sdfcore.geometry import Mesh, PointCloud
from sdfcore.metrics import compare
from sdfcore.reading import read
from sdfcore.report import write_json
from sdfcore.writing import write

from .document import BENCHMARKS, ROOT, Bar, bars_table, commit, machine, machine_line, publish, table
from .measured import measure, threads_here
from .methods import loaded, pairs

Body = dict[str, Any]

SECONDS = (30, 60, 180)
#: Ours beside theirs: the same method; and, for the two without normals, ``auto`` on the same bare points.
OURS = {
    "siren": ("siren", True),
    "digs": ("digs", False),
    "steik": ("steik", False),
    "auto, no normals": ("auto", False),
}
AGAINST = {"siren": "siren", "digs": "digs", "steik": "steik"}
#: The methods that are run at every budget; the others only at :data:`MIDDLE`.
AT_ALL = ("siren", "digs")
MIDDLE = 60
WITHOUT = 1.1  # times the better of official DiGS and StEik


def row(words: list[str], scan: PointCloud, truth: Mesh, seconds: int) -> Body:
    """Runs one of the two commands ``one_method`` and ``one_official``; exact Chamfer of its mesh, original units."""
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "scan.ply", Path(folder) / "result.ply"
        write(source, scan)
        script = str(ROOT / "scripts" / "benchmark.py")
        command = [sys.executable, script, words[0], *words[1:2], str(source), str(output), *words[2:]]
        done = measure([part for part in command if part], output, threads=threads_here(), limit=10 * seconds + 300)
        if done.complaint:
            return {"error": done.complaint}
        try:
            result = read(output)
            if not isinstance(result, Mesh):
                return {"error": "gave no mesh"}
            found = compare(result, truth, samples=200_000)
        except SdfError as error:
            return {"error": error.line}
        told = json.loads(done.out.splitlines()[-1])
    return {
        "chamfer": found.chamfer, "components": found.components, "steps": told["steps"], "seconds": done.seconds,
        "preparing": told.get("preparing", 0.0), "training": told["training"], "commit": commit(),
    }  # fmt: skip


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--siren", type=click.Path(exists=True, path_type=Path), help="Checkout of vsitzmann/siren.")
@click.option("--digs", type=click.Path(exists=True, path_type=Path), help="Checkout of Chumbyte/DiGS.")
@click.option("--steik", type=click.Path(exists=True, path_type=Path), help="Checkout of sunyx523/StEik.")
@click.option("--seconds", default=",".join(map(str, SECONDS)), show_default=True, help="Of training.")
@click.option("--names", default="", help="Only these scans: a,b.")
@click.option("--preset", default="draft", show_default=True, help="Whose network sizes ours take.")
@click.option("--json", "record", type=click.Path(path_type=Path), help="Default: build/official.json.")
@click.option("--output", type=click.Path(path_type=Path), default=BENCHMARKS)
@click.option("--resume", is_flag=True)
def official(
    data: Path, siren: Path | None, digs: Path | None, steik: Path | None, seconds: str, names: str, preset: str,
    record: Path | None, output: Path, resume: bool,
) -> None:  # fmt: skip
    """Exact Chamfer at the same seconds of training, on the scans of DATA/scans/srb, with the authors' checkouts."""
    checkouts = {name: path for name, path in (("siren", siren), ("digs", digs), ("steik", steik)) if path is not None}
    record = record or ROOT / "build" / "official.json"
    body: Body = {"machine": machine(), "preset": preset, "rows": {}}
    if resume and record.exists():
        body["rows"] = json.loads(record.read_text(encoding="utf-8"))["rows"]
    record.parent.mkdir(parents=True, exist_ok=True)
    for name, scan_path, truth_path in pairs(data / "scans" / "srb", tuple(w for w in names.split(",") if w)):
        scan, truth = loaded(scan_path, truth_path)
        for budget in map(int, seconds.split(",")):
            known = body["rows"].setdefault(name, {}).setdefault(str(budget), {})
            for label, words in _runs(checkouts, budget, preset).items():
                if "chamfer" not in known.get(label, {}):
                    known[label] = row(words, scan, truth, budget)
                    click.echo(f"{name}, {budget} s, {label}: {known[label]}")
                    write_json(record, body)
    publish("official", section(body), bars(body), output)


def _runs(checkouts: dict[str, Path], budget: int, preset: str) -> dict[str, list[str]]:
    found = {}
    for label, (recipe, normals) in OURS.items():
        if (label in checkouts or label not in AGAINST) and _due(label, budget):
            words = ["one_method", "", "--recipe", recipe, "--preset", preset, "--training", str(budget)]
            found[f"ours: {label}"] = [*words, "--normals" if normals else "--no-normals"]
    for name, path in checkouts.items():
        if not _due(name, budget):
            continue
        found[f"official: {name}"] = ["one_official", name, "--checkout", str(path), "--training", str(budget)]
    return found


def _due(label: str, budget: int) -> bool:
    return label in AT_ALL or budget == MIDDLE


def _mean(body: Body, budget: str, label: str) -> float:
    values = [rows.get(budget, {}).get(label, {}).get("chamfer") for rows in body["rows"].values()]
    return float("inf") if None in values or not values else mean(values)


def bars(body: Body) -> list[Bar]:
    """At every budget, ours no worse than theirs; and at the middle one, our best on bare points beside the better."""
    budgets = sorted({b for rows in body["rows"].values() for b in rows}, key=int)
    labels = {label for rows in body["rows"].values() for known in rows.values() for label in known}
    result = []
    for budget in budgets:
        for name in ("siren", "digs"):
            if f"official: {name}" in labels:
                ours, theirs = _mean(body, budget, f"ours: {name}"), _mean(body, budget, f"official: {name}")
                result.append(Bar(f"{name}, {budget} s: ours ≤ theirs", f"{ours:.4f} / {theirs:.4f}", ours <= theirs))
        if int(budget) != MIDDLE:
            continue
        others = [_mean(body, budget, f"official: {n}") for n in ("digs", "steik") if f"official: {n}" in labels]
        bare = [label for label in labels if label.startswith("ours") and label != "ours: siren"]
        if others and bare:
            best = min(bare, key=lambda label: _mean(body, budget, label))
            ours = _mean(body, budget, best)
            text = f"without normals, {budget} s: our best ≤ {WITHOUT} × the better of official DiGS and StEik"
            result.append(Bar(text, f"{ours:.4f} ({best}) / {min(others):.4f}", ours <= WITHOUT * min(others)))
    return result


def section(body: Body) -> str:
    """Head, bars, and a table for each scan."""
    commits = {
        found.get("commit", "") for by in body["rows"].values() for known in by.values() for found in known.values()
    }
    head = (
        "## The authors' own code\n\nExact Chamfer (samples to triangles, the scans' units) after the same seconds of "
        "training on the same points, start-up and extraction on neither side. Theirs: networks, losses, sampling, "
        "rates and clipping as their scripts for scans set them, imported from their checkouts; the schedules run over "
        f"the seconds. Ours: the sizes of `{body['preset']}`.\n\n```\npython scripts/benchmark.py official --data DIR "
        "--siren CHECKOUT --digs CHECKOUT --steik CHECKOUT\n```\n\n"
        f"Machine: {machine_line(body['machine'], commits)}"
    )
    parts = [head, bars_table(bars(body))]
    for name, by_seconds in body["rows"].items():
        budgets = sorted(by_seconds, key=int)
        labels = list(dict.fromkeys(label for known in by_seconds.values() for label in known))
        rows = [(label, *(_cell(by_seconds[b].get(label, {})) for b in budgets)) for label in labels]
        parts.append(f"### {name}\n\n{table(('', *(f'{b} s' for b in budgets)), rows)}")
    return "\n\n".join(parts)


def _cell(found: Body) -> str:
    if "chamfer" not in found:
        return "failed" if "error" in found else "–"
    return f"{found['chamfer']:.4f} ({found['steps']} steps)"
