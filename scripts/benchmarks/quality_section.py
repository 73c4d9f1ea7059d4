"""The section of the suite ``quality``: medians, bars and tables from its JSON body. Pure functions of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from .document import Bar, bars_table, machine_line, table
from .subjects import SCANS, SHAPES

Body = dict[str, Any]
EULER_RIGHT = 12  # of the seventeen shapes
AGAINST = {"draft": (1.0, "poisson7"), "balanced": (2.0, "poisson8")}
CAPPED = "balanced"
_UNIT = 1e5


@dataclass(frozen=True)
class Group:
    """What one method made of one kind of input; a failed run counts as infinitely far off and as wrong."""

    kind: str
    method: str
    rows: list[Body]

    def median(self, name: str) -> float:
        return median(math.inf if "error" in row else _number(row[name]) for row in self.rows)

    def largest(self, name: str) -> float:
        return max(_number(row[name]) for row in self.rows)

    def right(self, name: str) -> int:
        return sum(bool(row.get(name)) for row in self.rows)

    def share(self, name: str) -> str:
        return f"{self.right(name)} of {len(self.rows)}"


def _number(value: float | None) -> float:
    return math.inf if value is None else float(value)


def label(method: str) -> str:
    """The method's name in a table."""
    return f"Poisson {method.removeprefix('poisson')}" if method.startswith("poisson") else f"**{method}**"


def group(body: Body, names: Sequence[str], kind: str, method: str) -> Group | None:
    """The rows of ``method`` on the ``names`` of ``kind``; ``None`` unless it was run on all of them."""
    chosen = [body["rows"][name]["methods"] for name in names if body["rows"][name]["truth"]["kind"] == kind]
    if not chosen or not all(method in found for found in chosen):
        return None
    return Group(kind, method, [found[method] for found in chosen])


def methods(body: Body) -> list[str]:
    """Presets and depths, in the order of the command."""
    return [*body["settings"]["presets"], *(f"poisson{depth}" for depth in body["settings"]["depths"])]


def bars(body: Body, names: Sequence[str]) -> list[Bar]:
    """The bars, for the shapes and for the scans apart."""
    found = []
    for kind in (SHAPES, SCANS):
        for preset in body["settings"]["presets"]:
            ours = group(body, names, kind, preset)
            if ours is None:
                continue
            factor, peer = AGAINST.get(preset, (0.0, ""))
            theirs = group(body, names, kind, peer)
            if theirs is not None:
                found.append(_chamfer_bar(ours, theirs, factor))
            if preset == CAPPED:
                found.append(_seconds_bar(ours, float(body["settings"]["cap"])))
            found += _topology_bars(ours)
    return found


def _chamfer_bar(ours: Group, theirs: Group, factor: float) -> Bar:
    own, other = ours.median("chamfer"), theirs.median("chamfer")
    ratio = own / other if other > 0 and math.isfinite(own) else math.inf
    text = f"{ours.kind}, {ours.method}: median Chamfer ≤ {factor} × {label(theirs.method)}"
    return Bar(text, f"{_length(own)} / {_length(other)} = {ratio:.2f}", ratio <= factor)


def _seconds_bar(ours: Group, cap: float) -> Bar:
    slowest = ours.largest("seconds")
    return Bar(f"{ours.kind}, {ours.method}: each in ≤ {cap:g} s", f"slowest {slowest:.1f} s", slowest <= cap)


def _topology_bars(ours: Group) -> list[Bar]:
    count = len(ours.rows)
    start = f"{ours.kind}, {ours.method}:"
    found = [
        Bar(f"{start} all watertight", ours.share("watertight"), ours.right("watertight") == count),
        Bar(f"{start} right number of parts", ours.share("right_components"), ours.right("right_components") == count),
    ]
    if ours.kind == SHAPES:
        need = min(EULER_RIGHT, count)
        passed = ours.right("right_euler") >= need
        found.append(Bar(f"{start} right Euler characteristic for ≥ {need}", ours.share("right_euler"), passed))
    return found


def section(body: Body, names: Sequence[str]) -> str:
    """The whole section, Markdown."""
    parts = ["## Quality", _introduction(body, names), f"```\n{body['command']}\n```"]
    parts += [
        f"Machine: {machine_line(body['machine'], _commits(body, names))}",
        "### Bars",
        bars_table(bars(body, names)),
    ]
    for kind, title in ((SHAPES, "shapes"), (SCANS, "scans")):
        groups = [g for method in methods(body) if (g := group(body, names, kind, method)) is not None]
        if groups:
            parts += [f"### Medians, {title}: {len(groups[0].rows)}", _medians(groups)]
    return "\n\n".join([*parts, "### All results", _all(body, names)])


def _commits(body: Body, names: Sequence[str]) -> set[str]:
    presets = body["settings"]["presets"]
    return {str(body["rows"][name]["methods"][preset].get("commit", "")) for name in names for preset in presets}


def _introduction(body: Body, names: Sequence[str]) -> str:
    settings = body["settings"]
    steps = f" **A trial: {settings['steps']} steps instead of the presets'.**" if settings["steps"] else ""
    kinds = [body["rows"][name]["truth"]["kind"] for name in names]
    return f"""Shapes: {kinds.count(SHAPES)}, from {settings["points"]:,} area-weighted samples of each with normals \
(seed 0). Scans: {kinds.count(SCANS)} of the Surface Reconstruction Benchmark with all their points and normals. \
Against screened Poisson (pymeshlab) on the same files.{steps}

- Lengths are in units of 10⁻⁵ of half the longest side of the truth's box. They are unsquared distances from \
{settings["samples"]:,} samples of either surface to the *triangles* of the other: Chamfer is the mean of the two \
means, Hausdorff the largest, p99 the 99th percentile of both. Normals: mean |cos| to those of the nearest face.
- Parts, Euler characteristic and watertightness are of the result; **bold** where they are not the truth's.
- Seconds: from process start to the file written, {settings["threads"]} threads. *Alone* leaves out starting Python, \
reading and writing. Memory is the peak of the whole process; for sdfcore it includes the measuring that `--report` \
asks for after the file is written.
- sdfcore is run as `sdfcore fit points.ply -o out.ply --preset PRESET --report report.json --save model.safetensors`.
- A ratio of medians is the median of the one over the median of the other."""


def _length(value: float) -> str:
    return f"{_UNIT * value:.1f}" if math.isfinite(value) else "–"


def _seconds(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "–"


def _medians(groups: list[Group]) -> str:
    head = ["method", "Chamfer", "Hausdorff", "p99", "normals", "seconds", "alone", "slowest", "most MiB"]
    return table([*head, "watertight", "parts right", "Euler right"], map(_median_row, groups))


def _median_row(one: Group) -> list[str]:
    lengths = [_length(one.median(name)) for name in ("chamfer", "hausdorff", "p99")]
    consistency = one.median("normal_consistency")
    cells = [label(one.method), *lengths, f"{consistency:.4f}" if math.isfinite(consistency) else "–"]
    cells += [_seconds(one.median("seconds")), _seconds(one.median("seconds_alone")), _seconds(one.largest("seconds"))]
    shares = [one.share(name) for name in ("watertight", "right_components", "right_euler")]
    return [*cells, f"{one.largest('peak_mib'):.0f}", *shares]


def _all(body: Body, names: Sequence[str]) -> str:
    head = ["input", "method", "Chamfer", "Hausdorff", "p99", "normals", "parts", "Euler", "watertight"]
    rows = []
    for name in names:
        truth, found = body["rows"][name]["truth"], body["rows"][name]["methods"]
        for method in methods(body):
            first = f"`{name}`" if method == methods(body)[0] else ""
            rows.append([first, label(method), *_cells(found[method], truth)])
    return table([*head, "seconds", "alone", "MiB"], rows, words=2)


def _cells(row: Body, truth: Body) -> list[str]:
    if "error" in row:
        return [f"failed: {row['error']}", *["–"] * 9]
    lengths = [_length(row[name]) for name in ("chamfer", "hausdorff", "p99")]
    counts = [_marked(row[name], row[name] == truth[name]) for name in ("components", "euler")]
    closed = "yes" if row["watertight"] else "**no**"
    times = [_seconds(row["seconds"]), _seconds(row["seconds_alone"]), f"{row['peak_mib']:.0f}"]
    return [*lengths, f"{row['normal_consistency']:.4f}", *counts, closed, *times]


def _marked(value: int, right: bool) -> str:
    return str(value) if right else f"**{value}**"
