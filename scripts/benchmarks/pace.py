"""The suite ``pace``: how much sooner our default fit is as exact as the authors' SIREN after three minutes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click

from sdfcore.report import write_json

from .document import BENCHMARKS, ROOT, Bar, bars_table, machine, machine_line, publish, table
from .inputs import SHAPES
from .official import row
from .subjects import Subject, cases, load

Body = dict[str, Any]

THEIRS = 180  # seconds of training
LADDER = (1.0, 1.5, 2.25, 3.5, 5.0, 7.5, 11.0, 17.0, 25.0, 40.0, 60.0)  # of ours, until it is as exact
SOONER = 30.0
POINTS = 100_000


def climbed(subject: Subject, known: Body, preset: str, save: Any, more: Sequence[str] = ()) -> None:
    """Our default recipe for longer and longer, until it is as exact as theirs; ``more`` words for its process."""
    for budget in LADDER:
        if "chamfer" not in known.get(str(budget), {}):
            words = ["one_method", "", "--recipe", "auto", "--preset", preset, "--training", str(budget), *more]
            known[str(budget)] = row(words, subject.cloud, subject.truth, math.ceil(budget))
            click.echo(f"{subject.case.name}, ours, {budget:g} s: {known[str(budget)]}")
            save()
        if known[str(budget)].get("chamfer", math.inf) <= known["theirs"].get("chamfer", 0.0):
            return


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--siren", type=click.Path(exists=True, path_type=Path), required=True, help="Checkout: vsitzmann/siren.")
@click.option("--shapes", default=",".join(SHAPES[:5]), show_default=True, help="By file name without suffix: a,b.")
@click.option("--preset", default="draft", show_default=True, help="Whose network sizes ours takes.")
@click.option("--json", "record", type=click.Path(path_type=Path), help="Default: build/pace.json.")
@click.option("--output", type=click.Path(path_type=Path), default=BENCHMARKS)
@click.option("--resume", is_flag=True, help="Keep the rows already in the JSON file.")
def pace(
    data: Path, siren: Path, shapes: str, preset: str, record: Path | None, output: Path, resume: bool
) -> None:  # fmt: skip
    """Seconds of training until our default is as exact as the authors' SIREN after 180, on points of DATA's shapes."""
    record = record or ROOT / "build" / "pace.json"
    body: Body = {"machine": machine(), "preset": preset, "rows": {}}
    if resume and record.exists():
        body["rows"] = json.loads(record.read_text(encoding="utf-8"))["rows"]
    record.parent.mkdir(parents=True, exist_ok=True)
    for case in cases(data, tuple(name for name in shapes.split(",") if name)):
        subject, known = load(case, POINTS), body["rows"].setdefault(case.name, {})
        if "chamfer" not in known.get("theirs", {}):
            words = ["one_official", "siren", "--checkout", str(siren), "--training", str(THEIRS)]
            known["theirs"] = row(words, subject.cloud, subject.truth, THEIRS)
            click.echo(f"{case.name}, SIREN, {THEIRS} s: {known['theirs']}")
            write_json(record, body)
        climbed(subject, known, preset, lambda: write_json(record, body))
    publish("pace", section(body), bars(body), output)


def reached(known: Body) -> Body | None:
    """Our first run that is as exact as theirs."""
    theirs = known["theirs"].get("chamfer", 0.0)
    runs = [known[str(budget)] for budget in LADDER if str(budget) in known]
    return next((run for run in runs if run.get("chamfer", math.inf) <= theirs), None)


def factors(body: Body, *, prepared: bool) -> list[float]:
    """Their seconds over ours, shape by shape; with what our fit does before its first step, or without."""
    found = []
    for known in body["rows"].values():
        run = reached(known)
        ours = math.inf if run is None else run["training"] + run["preparing"] * prepared
        found.append(THEIRS / ours)
    return found


def bars(body: Body) -> list[Bar]:
    """The median over the shapes."""
    middle = median(factors(body, prepared=False))
    return [Bar(f"times sooner, training alone, median ≥ {SOONER:g}", f"{middle:.1f}", middle >= SOONER)]


def section(body: Body) -> str:
    """Head, bars and a table."""
    commits = {run.get("commit", "") for known in body["rows"].values() for run in known.values()}
    head = (
        "## Pace\n\n"
        f"The authors' SIREN, trained for {THEIRS} s on {POINTS:,} points with normals, and our default recipe on the "
        f"same points with the sizes of `{body['preset']}`, for longer and longer "
        f"({', '.join(f'{b:g}' for b in LADDER)} s) until it is as exact. Exact Chamfer, the shapes' own "
        "units; start-up and extraction count on neither side. "
        "Preparing is what our fit does before its first step: sides and distances of its samples.\n\n"
        "```\npython scripts/benchmark.py pace --data DIR --siren CHECKOUT\n```\n\n"
        f"Machine: {machine_line(body['machine'], commits)}"
    )
    rows = []
    with_, without = factors(body, prepared=True), factors(body, prepared=False)
    for (name, known), factor, whole in zip(body["rows"].items(), without, with_, strict=True):
        run, theirs = reached(known), known["theirs"]
        ours = ("–", "–", "–") if run is None else (_number(run["chamfer"]), *(f"{run[w]:.1f}" for w in _STAGES))
        rows.append((f"`{name}`", _number(theirs.get("chamfer")), *ours, f"{factor:.0f}", f"{whole:.0f}"))
    titles = ("", "SIREN", "ours", "preparing, s", "training, s", "times sooner", "with preparing")
    return "\n\n".join([head, bars_table(bars(body)), table(titles, rows)])


_STAGES = ("preparing", "training")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
