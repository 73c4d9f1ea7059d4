"""The suite ``structure``: skeletons, iso-points against noise, and base + displacement against one network.

*skeleton*: of a torus, whose skeleton is known, and of fits. *isopoints*: the recipe beside SIREN on noisy scans, with
the same network, points and steps. *idf*: the recipe beside one SIREN of as many parameters, with the same points and
steps.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from sdfcore import combining
from sdfcore.fitting import Fit
from sdfcore.geometry import Box, PointCloud
from sdfcore.queries.skeleton import skeleton
from sdfcore.recipes import RECIPES
from sdfcore.report import write_json

from .document import BENCHMARKS, ROOT, Bar, bars_table, commit, machine, machine_line, publish, table
from .subjects import Subject, cases, load

Body = dict[str, Any]

PARTS = ("skeleton", "isopoints", "idf")
SKELETONS = ("blub_fish", "boot_genus12", "hand_closed", "human_man", "spot")
NOISY = ("blub_fish", "hand_closed", "human_man", "nefertiti_35k", "spot")
DETAILED = ("goathead", "hammer_rawscan", "nefertiti_35k")
POINTS, FEW, NOISE, SAMPLES = 100_000, 20_000, 0.01, 200_000
TORUS = (1.0, 0.4)


def of_torus(_data: Path) -> Body:
    """How far the skeleton's links lie from the circle, and how much of it they leave out, in its radius."""
    begun = time.perf_counter()
    found = skeleton(combining.body("torus", TORUS))
    seconds = time.perf_counter() - begun
    share = np.linspace(0, 1, 51)[:, None, None]
    at = (found.points[found.edges[:, 0]] * (1 - share) + found.points[found.edges[:, 1]] * share).reshape(-1, 3)
    off = np.hypot(np.linalg.norm(at[:, :2], axis=1) - TORUS[0], at[:, 2])
    turns = np.sort(np.arctan2(at[:, 1], at[:, 0]))
    gap = float(np.diff(turns, append=turns[0] + 2 * math.pi).max())
    return {
        "off": float(off.max()) / TORUS[0], "gap": gap, "balls": len(found.points), "links": len(found.edges),
        "coverage": found.coverage, "seconds": seconds,
    }  # fmt: skip


def of_fit(data: Path, name: str) -> Body:
    """The skeleton of a draft by the recipe that is made for it, and of one by the usual recipe."""
    subject = load(cases(data, (name,))[0], POINTS)
    body: Body = {}
    for recipe in ("distance", "tv"):
        fit = Fit(subject.cloud, recipe=recipe, preset="draft")
        for _ in fit:
            pass
        begun = time.perf_counter()
        found = skeleton(fit.sdf)
        body[recipe] = {
            "coverage": found.coverage, "balls": len(found.points), "links": len(found.edges),
            "triangles": len(found.triangles), "bones": len(found.bones()), "seconds": time.perf_counter() - begun,
        }  # fmt: skip
    return body


def noisy(subject: Subject) -> PointCloud:
    """A fifth of the points, moved by a hundredth of the diagonal, normals as they were."""
    cloud, random = subject.cloud, np.random.default_rng(0)
    rows = random.permutation(len(cloud))[:FEW]
    spread = NOISE * Box.around(subject.truth.vertices.astype(np.float64)).diagonal
    assert cloud.normals is not None
    return PointCloud(cloud.points[rows] + spread * random.normal(size=(len(rows), 3)), cloud.normals[rows])


def against_noise(data: Path, name: str) -> Body:
    """Iso-points beside SIREN: the same network, points of a step, steps and seed."""
    subject = load(cases(data, (name,))[0], POINTS)
    cloud, size = noisy(subject), RECIPES["isopoints"].sizes["draft"]
    same = {"width": size.width, "batch": size.batch, "rate": size.rate}
    return {recipe: _error(subject, cloud, recipe, size.steps, same) for recipe in ("isopoints", "siren")}


def with_detail(data: Path, name: str) -> Body:
    """Base and displacement beside one SIREN of as many parameters."""
    subject = load(cases(data, (name,))[0], POINTS)
    size = RECIPES["idf"].sizes["draft"]
    own = {"batch": size.batch, "rate": size.rate}
    idf = _error(subject, subject.cloud, "idf", size.steps, own)
    width = next(w for w in range(size.width, 4 * size.width) if _weights(w) >= idf["weights"])
    return {"idf": idf, "siren": _error(subject, subject.cloud, "siren", size.steps, {**own, "width": width})}


def _weights(width: int) -> int:
    """Of a SIREN of three sine layers."""
    return 4 * width + 2 * (width + 1) * width + width + 1


def _error(subject: Subject, cloud: PointCloud, recipe: str, steps: int, settings: dict[str, float]) -> Body:
    fit = Fit(cloud, recipe=recipe, preset="draft", steps=steps, settings=settings, resolution=256)
    for _ in fit:
        pass
    seconds = time.perf_counter() - fit._descending
    mesh = fit.mesh(fit.sdf)
    return {
        "chamfer": subject.compared(mesh, SAMPLES)["chamfer"], "seconds": seconds, "steps": fit.step,
        "weights": sum(p.numel() for p in fit.network.parameters()),
    }  # fmt: skip


WORK: dict[str, tuple[tuple[str, ...], Callable[[Path, str], Body]]] = {
    "skeleton": (("torus", *SKELETONS), lambda data, name: of_torus(data) if name == "torus" else of_fit(data, name)),
    "isopoints": (NOISY, against_noise),
    "idf": (DETAILED, with_detail),
}


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--parts", default=",".join(PARTS), show_default=True, help="Which parts, by comma.")
@click.option("--json", "record", type=click.Path(path_type=Path), help="Default: build/structure.json.")
@click.option("--output", type=click.Path(path_type=Path), help="Default: docs/benchmarks.md, if all parts are there.")
@click.option("--resume", is_flag=True, help="Keep the rows already in the JSON file.")
def structure(data: Path, parts: str, record: Path | None, output: Path | None, resume: bool) -> None:
    """Skeletons, iso-points against noise, base and displacement against one network, on DATA's shapes."""
    record = record or ROOT / "build" / "structure.json"
    body: Body = {"machine": machine(), "rows": {}}
    if resume and record.exists():
        body["rows"] = json.loads(record.read_text(encoding="utf-8"))["rows"]
    record.parent.mkdir(parents=True, exist_ok=True)
    chosen = [part for part in parts.split(",") if part]
    if unknown := set(chosen) - set(PARTS):
        raise click.BadParameter(f"no part {unknown.pop()}; there are {', '.join(PARTS)}")
    for part in chosen:
        names, work = WORK[part]
        for name in names:
            rows = body["rows"].setdefault(part, {})
            if name not in rows:
                rows[name] = {**work(data, name), "commit": commit()}
                click.echo(f"{part}, {name}: {rows[name]}")
                write_json(record, body)
    complete = all(set(WORK[part][0]) <= set(body["rows"].get(part, {})) for part in PARTS)
    publish("structure", section(body), bars(body), output or (BENCHMARKS if complete else None))


def _ratios(rows: Body, ours: str) -> list[float]:
    """How many times larger SIREN's error is, for each shape."""
    return [row["siren"]["chamfer"] / row[ours]["chamfer"] for row in rows.values()]


def bars(body: Body) -> list[Bar]:
    """Those of the parts that were run."""
    found, rows = [], body["rows"]
    if held := rows.get("skeleton"):
        torus, fits = held.get("torus"), [row for name, row in held.items() if name != "torus"]
        if torus:
            whole = torus["gap"] < 0.2  # the links' places lie far denser: no link is missing
            found.append(Bar("torus: its circle to 2 %", f"{torus['off']:.2%}", whole and torus["off"] <= 0.02))
        for recipe in ("tv", "distance"):
            least = min((row[recipe]["coverage"] for row in fits), default=math.nan)
            found.append(Bar(f"skeletons of {recipe}: coverage ≥ 98 %, least", f"{least:.1%}", least >= 0.98))
    if held := rows.get("isopoints"):
        middle = float(np.median(_ratios(held, "isopoints")))
        found.append(Bar("noisy: smaller error than SIREN, median ratio > 1", f"{middle:.2f}", middle > 1))
    if held := rows.get("idf"):
        ratios = _ratios(held, "idf")
        middle, least = float(np.median(ratios)), min(ratios)
        found.append(
            Bar("displacement: error below SIREN's, median factor ≥ 1.3", f"{middle:.2f} (least {least:.2f})",
                least > 1 and middle >= 1.3)
        )  # fmt: skip
    return found


def section(body: Body) -> str:
    """Head, bars, and a table for each part."""
    commits = {row.get("commit", "") for rows in body["rows"].values() for row in rows.values()}
    head = (
        "## Skeletons, iso-points, displacement\n\nSkeletons of drafts, δ = 0.06. Iso-points: "
        f"{FEW:,} points with σ = {NOISE:.0%} of the diagonal, beside SIREN with the same network, points a step and "
        "steps. Displacement: beside one SIREN of as many parameters, with the same points a step and steps. Errors: "
        "exact Chamfer in units of 10⁻⁴ of half the longest side.\n\n"
        "```\npython scripts/benchmark.py structure --data DIR\n```\n\n"
        f"Machine: {machine_line(body['machine'], commits)}"
    )
    parts = [head, bars_table(bars(body))]
    rows = body["rows"]
    if held := rows.get("skeleton"):
        cells = []
        for name, row in held.items():
            for recipe, found in [("exact", row)] if name == "torus" else [(r, row[r]) for r in ("tv", "distance")]:
                cells.append((f"`{name}`", recipe, f"{found['coverage']:.1%}", f"{found['balls']}",
                              f"{found['links']}", f"{found['seconds']:.0f}"))  # fmt: skip
        parts.append("### Skeletons\n\n" + table(("", "field", "covered", "balls", "links", "s"), cells))
    for part, title in (("isopoints", "Iso-points against noise"), ("idf", "Base and displacement")):
        if held := rows.get(part):
            cells = [_compared(name, row, part) for name, row in held.items()]
            titles = ("", part, "SIREN", "factor", "weights", "steps", f"s, {part}", "s, SIREN")
            parts.append(f"### {title}\n\n{table(titles, cells)}")
    return "\n\n".join(parts)


def _compared(name: str, row: Body, ours: str) -> tuple[str, ...]:
    mine, theirs = row[ours], row["siren"]
    return (
        f"`{name}`", f"{1e4 * mine['chamfer']:.1f}", f"{1e4 * theirs['chamfer']:.1f}",
        f"{theirs['chamfer'] / mine['chamfer']:.2f}", f"{mine['weights']:,} / {theirs['weights']:,}",
        f"{mine['steps']:,}", f"{mine['seconds']:.0f}", f"{theirs['seconds']:.0f}",
    )  # fmt: skip
