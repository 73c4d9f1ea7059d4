"""The suite ``meshes``: how true a field fitted to a mesh is in all of its box, far away and in its sign."""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import torch

from sdfcore.errors import SdfError
from sdfcore.fields import NeuralSDF
from sdfcore.fitting import Fit
from sdfcore.geometry import Box, Mesh
from sdfcore.reading import read
from sdfcore.report import write_json
from sdfcore.surfaces import MeshDistance
from sdfcore.topology import topology

from .document import BENCHMARKS, ROOT, Bar, bars_table, commit, machine, machine_line, publish, table

Body = dict[str, Any]

RECIPES = ("distance", "hash")
CLOSED, CHAIRS = "closed shapes", "chairs"
FAR = 0.1  # of the unit box's half side: beyond it is the far field
FAR_ERROR = 0.01  # the most its mean may be off
SAME_SIDE = {CLOSED: 0.999, CHAIRS: 0.99}
_PROBES = 100_000


def subjects(data: Path) -> dict[str, dict[str, Path]]:
    """Files by group and name: shapes that are closed, and catalogue chairs, most of which are not."""
    shapes = {path.stem: path for path in sorted((data / "shapes").iterdir()) if "analytic" not in path.stem}
    closed = {name: path for name, path in shapes.items() if topology(_mesh(path)).watertight}
    return {CLOSED: closed, CHAIRS: {p.stem: p for p in sorted((data / "families" / "chairs").glob("*.ply"))}}


def _mesh(path: Path) -> Mesh:
    shape = read(path)
    if not isinstance(shape, Mesh):
        raise click.ClickException(f"{path.name} holds no mesh.")
    return shape


def fitted(mesh: Mesh, recipe: str, preset: str) -> tuple[NeuralSDF, Body]:
    """The field, and what it took."""
    begun = time.perf_counter()
    fit = Fit(mesh, recipe=recipe, preset=preset)
    for _ in fit:
        pass
    return fit.sdf, {"steps": fit.step, "seconds": time.perf_counter() - begun}


def judged(sdf: NeuralSDF, mesh: Mesh, probes: int = _PROBES) -> Body:
    """``sdf`` at uniform samples of the mesh's box, grown by a tenth, against the triangles; lengths in unit boxes.

    Inside is where the winding number's absolute value exceeds ½, which is what a mesh of mixed faces says.
    """
    box = Box.around(mesh.vertices.astype(np.float64))
    box = box.expanded(0.1 * float(box.size.max()))
    points = np.random.default_rng(0).uniform(box.lower, box.upper, (probes, 3))
    distance = MeshDistance(mesh)
    length, inside = distance.unsigned(points) / sdf.frame.scale, np.abs(distance.winding(points)) > 0.5
    with torch.inference_mode():
        values = torch.cat([sdf(chunk) for chunk in torch.from_numpy(points).split(1 << 14)]).numpy() / sdf.frame.scale
    error, far = np.abs(np.abs(values) - length), length > FAR
    sides = float(((values < 0) == inside).mean())
    return {"far": float(error[far].mean()), "mean": float(error.mean()), "sides": sides}


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--only", default="", help="Only these files, by name without suffix: a,b.")
@click.option("--preset", default="draft", show_default=True)
@click.option("--json", "record", type=click.Path(path_type=Path), help="Default: build/meshes.json.")
@click.option("--output", type=click.Path(path_type=Path), help="Default: docs/benchmarks.md if all is run.")
@click.option("--resume", is_flag=True, help="Keep the rows already in the JSON file.")
def meshes(data: Path, only: str, preset: str, record: Path | None, output: Path | None, resume: bool) -> None:
    """Fields of the closed shapes and of the messy chairs of DATA: far-field error, and agreement of the sides."""
    record = record or ROOT / "build" / "meshes.json"
    body: Body = {"machine": machine(), "preset": preset, "rows": {}}
    if resume and record.exists():
        body["rows"] = json.loads(record.read_text(encoding="utf-8"))["rows"]
    record.parent.mkdir(parents=True, exist_ok=True)
    wanted = [name for name in only.split(",") if name]
    for group, files in subjects(data).items():
        rows = body["rows"].setdefault(group, {})
        for name, path in files.items():
            if wanted and name not in wanted:
                continue
            for recipe in RECIPES if group == CLOSED else RECIPES[:1]:
                if "sides" not in rows.setdefault(name, {}).get(recipe, {}):
                    rows[name][recipe] = _row(_mesh(path), recipe, preset)
                    click.echo(f"{name}, {recipe}: {rows[name][recipe]}")
                    write_json(record, body)
    publish("meshes", section(body), bars(body), output or (None if wanted else BENCHMARKS))


def _row(mesh: Mesh, recipe: str, preset: str) -> Body:
    try:
        sdf, took = fitted(mesh, recipe, preset)
    except SdfError as error:
        return {"error": error.line}
    return {**judged(sdf, mesh), **took, "commit": commit()}


def bars(body: Body) -> list[Bar]:
    """Far field and sides, group by group and recipe by recipe; the worst of each."""
    result = []
    for group, rows in body["rows"].items():
        for recipe in dict.fromkeys(recipe for row in rows.values() for recipe in row):
            known = {name: row[recipe] for name, row in rows.items() if recipe in row}
            least = SAME_SIDE[group]
            worst = min(known, key=lambda name: known[name].get("sides", 0.0))
            sides = known[worst].get("sides", 0.0)
            good = sum(row.get("sides", 0.0) >= least for row in known.values())
            text = f"{group}, {recipe}: ≥ {least:.1%} of the box on the right side"
            result.append(Bar(text, f"{good} of {len(known)}; least {sides:.2%} ({worst})", sides >= least))
            if group == CLOSED:
                worst = max(known, key=lambda name: known[name].get("far", np.inf))
                most = known[worst].get("far", np.inf)
                text = f"{group}, {recipe}: far-field mean error < {FAR_ERROR:g} of the unit box"
                result.append(Bar(text, f"most {most:.4f} ({worst})", most < FAR_ERROR))
    return result


def section(body: Body) -> str:
    """Head, bars, and a table for each group."""
    commits = {f.get("commit", "") for rows in body["rows"].values() for row in rows.values() for f in row.values()}
    head = (
        f"## Fields of meshes\n\nFitted to the mesh itself, `{body['preset']}`, and asked at {_PROBES:,} uniform "
        f"points of its box, grown by a tenth. *Far*: mean error of |f| farther than {FAR:g} from the surface, *mean*: "
        "everywhere, both in units of the unit box (half its side). *Sides*: share of the points that "
        "are inside or outside as the mesh's winding number says (of absolute value above ½).\n\n"
        f"```\npython scripts/benchmark.py meshes --data DIR --preset {body['preset']}\n```\n\n"
        f"Machine: {machine_line(body['machine'], commits)}"
    )
    parts = [head, bars_table(bars(body))]
    for group, rows in body["rows"].items():
        recipes = list(dict.fromkeys(recipe for row in rows.values() for recipe in row))
        columns = ["mesh", *(f"{r}, {what}" for r in recipes for what in ("far", "mean", "sides"))]
        cells = [[name, *(cell for r in recipes for cell in _cells(row.get(r, {})))] for name, row in rows.items()]
        middle = [["*median*", *(cell for r in recipes for cell in _cells(_medians(rows, r)))]]
        parts.append(f"### Of {group}\n\n{table(columns, [*cells, *middle])}")
    return "\n\n".join(parts)


def _medians(rows: Body, recipe: str) -> Body:
    known = [row[recipe] for row in rows.values() if "sides" in row.get(recipe, {})]
    return {what: median(row[what] for row in known) for what in ("far", "mean", "sides")} if known else {}


def _cells(found: Body) -> tuple[str, str, str]:
    if "sides" not in found:
        return ("failed", "", "")
    return (f"{found['far']:.4f}", f"{found['mean']:.4f}", f"{found['sides']:.2%}")
