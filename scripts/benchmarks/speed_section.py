"""The section of the suite ``speed``: bars and tables from its JSON body. Pure functions of it."""

from __future__ import annotations

import math
from statistics import median
from typing import Any

from .document import Bar, bars_table, machine_line, table
from .quality_section import label

Body = dict[str, Any]
Rows = dict[str, dict[str, Body]]  # by shape, by method

FIRST_SECONDS = 20.0
DRAFT_SECONDS, BALANCED_SECONDS, FINE_SECONDS = 8.0, 30.0, 180.0
WORST = 1.5  # × Poisson 8, of balanced
_UNIT = 1e5


def rows_of(body: Body, part: str) -> Rows:
    """The rows of one part, by shape and method; empty if it was not run."""
    found = body["parts"].get(part, {"rows": {}})["rows"]
    return {name: row["methods"] for name, row in found.items()}


def firsts(body: Body) -> list[dict[str, Body]]:
    """The methods of each run of the first part."""
    return [row for part in body["parts"] if part.startswith("first ") for row in rows_of(body, part).values()]


def chamfer(found: Body) -> float:
    """Infinite for a run that failed."""
    return float(found.get("chamfer", math.inf))


def seconds(found: Body) -> float:
    """Until the file was written; infinite for a run that failed."""
    return math.inf if "error" in found else float(found["seconds"])


def ratios(rows: Rows, ours: str, theirs: str) -> list[float]:
    """Chamfer of ``ours`` over that of ``theirs``, shape by shape."""
    return [chamfer(row[ours]) / chamfer(row[theirs]) for row in rows.values()]


def bars(body: Body) -> list[Bar]:
    """Those of the parts that were run."""
    return [*_first(firsts(body)), *_clean(rows_of(body, "clean")), *_rough(body)]


def _first(runs: list[dict[str, Body]]) -> list[Bar]:
    if not runs:
        return []
    took = median(seconds(run["draft"]) for run in runs)
    ratio = max(chamfer(run["draft"]) / chamfer(run["poisson7"]) for run in runs)
    return [
        _at_most(f"one shape, draft: seconds, median of {len(runs)} runs", took, FIRST_SECONDS),
        _at_most("one shape, draft: Chamfer / Poisson 7, worst run", ratio, 1.0),
    ]


def _clean(rows: Rows) -> list[Bar]:
    if not rows:
        return []
    took = {name: [seconds(row[name]) for row in rows.values()] for name in ("draft", "balanced", "fine")}
    draft, balanced = ratios(rows, "draft", "poisson7"), ratios(rows, "balanced", "poisson8")
    better = sum(ratio < 1.0 for ratio in ratios(rows, "fine", "poisson9"))
    return [
        _at_most("draft: seconds, median", median(took["draft"]), DRAFT_SECONDS),
        _at_most("draft: Chamfer / Poisson 7, median", median(draft), 1.0),
        _at_most("balanced: seconds, slowest", max(took["balanced"]), BALANCED_SECONDS),
        _at_most("balanced: Chamfer / Poisson 8, median", median(balanced), 1.0),
        _at_most("balanced: Chamfer / Poisson 8, worst", max(balanced), WORST),
        _at_most("fine: seconds, slowest", max(took["fine"]), FINE_SECONDS),
        Bar("fine: nearer than Poisson 9 on at least half", f"{better} of {len(rows)}", 2 * better >= len(rows)),
    ]


def _rough(body: Body) -> list[Bar]:
    found = []
    for part in body["parts"]:
        if part == "clean" or part.startswith("first "):
            continue
        rows = rows_of(body, part)
        of = lambda method, rows=rows: median(chamfer(row[method]) for row in rows.values())
        peers = [method for method in next(iter(rows.values())) if method.startswith("poisson")]
        best = min(peers, key=of)
        ours, theirs = of("balanced"), of(best)
        text = f"{part}: balanced nearer than every Poisson depth, median"
        found.append(Bar(text, f"{_UNIT * ours:.1f} / {_UNIT * theirs:.1f} ({label(best)})", ours < theirs))
    return found


def _at_most(text: str, value: float, most: float) -> Bar:
    return Bar(f"{text} ≤ {most:g}", f"{value:.2f}" if most < 5 else f"{value:.1f}", value <= most)


def section(body: Body) -> str:
    """The whole section, Markdown."""
    settings = body["settings"]
    commits = {
        found.get("commit", "")
        for part in body["parts"] for row in rows_of(body, part).values() for found in row.values()
    }  # fmt: skip
    given = [f" --runs {settings['runs']}"] * (settings["runs"] != 3) + [f" --steps {settings['steps']}"] * bool(
        settings["steps"]
    )
    run = {"first" if part.startswith("first ") else "clean" if part == "clean" else "rough" for part in body["parts"]}
    given += [f" --parts {','.join(sorted(run))}"] * (len(run) < 3)
    parts = [
        "## Speed",
        f"Seconds from process start to the file written, {settings['threads']} threads, {settings['points']:,} points "
        "with normals of each shape: `sdfcore fit points.ply -o out.ply --preset PRESET`, and screened Poisson in the "
        "same run. Chamfer: exact, in 10⁻⁵ of half the longest side, as in the section on quality. Noise: a Gaussian "
        "of so much of the diagonal for every point. Missing: so many points, in four holes.",
        f"```\npython scripts/benchmark.py speed --data DIR{''.join(given)}\n```",
        f"Machine: {machine_line(body['machine'], commits)}",
        bars_table(bars(body)),
    ]
    if runs := firsts(body):
        parts += ["### One shape, again and again", _table({f"run {n}": run for n, run in enumerate(runs, 1)}, "run")]
    for part in body["parts"]:
        if not part.startswith("first "):
            parts += [f"### {part.capitalize()}", _table(rows_of(body, part), "shape")]
    return "\n\n".join(parts)


def _table(rows: Rows, first: str) -> str:
    methods = list(next(iter(rows.values())))
    head = [first] + [f"{label(method)}, {what}" for method in methods for what in ("s", "Chamfer")]
    return table(head, ([f"`{name}`", *_cells(row, methods)] for name, row in rows.items()))


def _cells(row: dict[str, Body], methods: list[str]) -> list[str]:
    cells = []
    for method in methods:
        found = row[method]
        failed = "error" in found
        cells += ["failed", "–"] if failed else [f"{seconds(found):.1f}", f"{_UNIT * chamfer(found):.1f}"]
    return cells
