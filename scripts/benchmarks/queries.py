"""The suite ``queries``: what is said to be certain, against dense lattices, Embree and exact volumes.

Six parts. *bounds*: that no value is outside, and how much tighter affine arithmetic is than intervals. *certain*:
extraction by bounds beside dense evaluation. *rays*: against the same mesh in Embree. *bulk*:
limits against the volume of a fine mesh. *points*: how even, how near. *combine*: against a boolean of the meshes.
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
import torch
from scipy.spatial import cKDTree

from sdfcore import combining
from sdfcore.extraction import default_box, extract_sdf
from sdfcore.fields import NeuralSDF
from sdfcore.fitting import Fit
from sdfcore.geometry import Array, Box, Mesh
from sdfcore.levelset import Search
from sdfcore.published import load_layers
from sdfcore.queries.affine import Arithmetic
from sdfcore.queries.bounds import bound_of, over_boxes
from sdfcore.queries.bulk import bulk
from sdfcore.queries.certain import extract_certain
from sdfcore.queries.iso_points import iso_points
from sdfcore.queries.rays import cast, trace
from sdfcore.report import write_json
from sdfcore.topology import topology

from .document import BENCHMARKS, ROOT, Bar, bars_table, commit, machine, machine_line, publish, table
from .subjects import cases, load

Body = dict[str, Any]

FITS = ("spot", "nefertiti_35k", "boot_genus12")
PUBLISHED = ("niq_birdcage_occ", "niq_bunny", "niq_fox", "niq_hammer")
PARTS = ("bounds", "certain", "rays", "bulk", "points", "combine")
OF_ALL = ("bounds", "certain", "rays")  # of published networks, too; the others are of solids
RESOLUTION, RAYS, POINTS, BOXES = 256, 100_000, 10_000, 1000
EXACT = {"sphere": ([1.0], 4 / 3 * math.pi), "torus": ([1.0, 0.4], 2 * math.pi**2 * 0.4**2)}
FINE = 512  # of the meshes that count as the truth


def fitted(data: Path, name: str) -> NeuralSDF:
    """A draft of a shape, by what ``auto`` takes for its mesh's points."""
    subject = load(cases(data, (name,))[0], 100_000)
    fit = Fit(subject.cloud, preset="draft")
    for _ in fit:
        pass
    return fit.sdf


def certain(sdf: NeuralSDF) -> Body:
    """Extraction by bounds and densely, at the same resolution."""
    begun = time.perf_counter()
    found = extract_certain(sdf, resolution=RESOLUTION)
    seconds = time.perf_counter() - begun
    dense = extract_sdf(sdf, resolution=RESOLUTION, search=Search(lipschitz=1e6))
    ours, theirs = topology(found.mesh), topology(dense)
    return {
        "same": (ours.components, ours.euler, len(found.mesh.vertices))
        == (theirs.components, theirs.euler, len(dense.vertices)),
        "share": (found.evaluations + found.bounds) / found.nodes, "evaluations": found.evaluations,
        "bounds": found.bounds, "doubtful": len(found.doubtful), "islands": len(found.islands), "seconds": seconds,
        "components": ours.components, "euler": ours.euler,
    }  # fmt: skip


def bounds(sdf: NeuralSDF) -> Body:
    """A million values in a thousand boxes of all sizes, against their bounds; widths beside those of intervals."""
    draw, box = np.random.default_rng(0), sdf.frame.box_to_world(default_box(sdf))
    half = 10 ** draw.uniform(-4, 0, (BOXES, 3)) * box.size / 4
    centre = draw.uniform(box.lower, box.upper, (BOXES, 3))
    lower, upper = (torch.from_numpy(v) for v in (centre - half, centre + half))
    low, high = over_boxes(bound_of(sdf), lower, upper)
    plain = over_boxes(bound_of(sdf, Arithmetic("interval")), lower, upper)
    outside = 0
    for i in range(BOXES):
        at = torch.from_numpy(draw.uniform(0, 1, (BOXES, 3))) * (upper[i] - lower[i]) + lower[i]
        with torch.no_grad():
            values = sdf(torch.minimum(torch.maximum(at, lower[i]), upper[i]))
        outside += int(((values < low[i]) | (values > high[i])).sum())
    return {"outside": outside, "tighter": float(((plain[1] - plain[0]) / (high - low)).median())}


def rays(sdf: NeuralSDF) -> Body:
    """Our hits beside Embree's on a fine mesh; rays near a silhouette are set aside and counted."""
    import trimesh

    mesh = extract_sdf(sdf, resolution=FINE, refine=2)
    embree = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).ray
    box = sdf.frame.box_to_world(default_box(sdf))
    half = float(box.size.max()) / 2
    origins, directions = _rays(box)
    truth = _depths(embree, origins, directions)
    aside = np.zeros(len(truth), bool)
    for moved in _around(directions, 2 * half / FINE):
        other = _depths(embree, origins + moved, directions)
        with np.errstate(invalid="ignore"):
            aside |= (np.isfinite(other) != np.isfinite(truth)) | (np.abs(other - truth) > 0.1 * half)
    at, along = (torch.from_numpy(v).float() for v in (origins, directions))
    begun = time.perf_counter()
    hits = cast(bound_of(sdf), sdf, at, along, far=8 * half, tolerance=2e-4 * half)
    seconds = time.perf_counter() - begun
    kept = ~aside
    agree = hits.hit.numpy() == np.isfinite(truth)
    both = kept & agree & np.isfinite(truth)
    naive = trace(sdf, at, along, far=8 * half, tolerance=2e-4 * half)
    with np.errstate(invalid="ignore"):
        wrong = (naive.hit.numpy() != np.isfinite(truth)) | (np.abs(naive.distance.numpy() - truth) > 0.01 * half)
    return {
        "aside": float(aside.mean()), "agree": float(agree[kept].mean()),
        "depth": float(np.abs(hits.distance.numpy()[both] - truth[both]).max(initial=0)) / half,
        "depth99": float(np.quantile(np.abs(hits.distance.numpy()[both] - truth[both]), 0.999)) / half,
        "each": (hits.evaluations + hits.bounds) / len(truth), "seconds": seconds,
        "naive_wrong": float((wrong & kept).sum() / kept.sum()), "naive_each": naive.evaluations / len(truth),
    }  # fmt: skip


def _rays(box: Box) -> tuple[Array, Array]:
    """From a sphere round the box to points in it."""
    random = np.random.default_rng(0)
    outward = random.normal(size=(RAYS, 3))
    origins = box.centre + 1.5 * box.diagonal * outward / np.linalg.norm(outward, axis=1, keepdims=True)
    directions = random.uniform(box.lower, box.upper, (RAYS, 3)) - origins
    return origins, directions / np.linalg.norm(directions, axis=1, keepdims=True)


def _depths(embree: Any, origins: Array, directions: Array) -> Array:
    places, which, _ = embree.intersects_location(origins, directions, multiple_hits=False)
    found = np.full(len(origins), np.inf)
    found[which] = np.linalg.norm(places - origins[which], axis=1)
    return found


def _around(directions: Array, by: float) -> list[Array]:
    aside = np.cross(directions, np.where(np.abs(directions[:, :1]) < 0.8, [[1.0, 0, 0]], [[0, 1.0, 0]]))
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    up = np.cross(aside, directions)
    return [by * v for v in (aside, -aside, up, -up)]


def volumes(sdf: NeuralSDF) -> Body:
    """Limits of the volume, and that of a fine mesh."""
    begun = time.perf_counter()
    found = bulk(bound_of(sdf), sdf.frame.box_to_world(default_box(sdf)), tolerance=2e-3)
    seconds = time.perf_counter() - begun
    mesh = extract_sdf(sdf, resolution=FINE, refine=2)
    low, high = float(found.volume.low), float(found.volume.high)
    return {
        "low": low, "high": high, "mesh": mesh.volume(), "holds": low <= mesh.volume() <= high, "seconds": seconds,
        "bounds": found.bounds,
    }  # fmt: skip


def exact(name: str) -> Body:
    """Limits of the volume of a body, and that volume."""
    sizes, volume = EXACT[name]
    sdf, begun = combining.body(name, sizes), time.perf_counter()
    found = bulk(bound_of(sdf), sdf.frame.box_to_world(default_box(sdf)), tolerance=2e-2)
    low, high = float(found.volume.low), float(found.volume.high)
    return {
        "low": low, "high": high, "exact": volume, "holds": low <= volume <= high, "bounds": found.bounds,
        "seconds": time.perf_counter() - begun,
    }  # fmt: skip


def points(sdf: NeuralSDF) -> Body:
    """Evenness and nearness of iso-points, in units of half the longest side."""
    half = float(sdf.frame.box_to_world(default_box(sdf)).size.max()) / 2
    begun = time.perf_counter()
    cloud = iso_points(sdf, POINTS)
    seconds = time.perf_counter() - begun
    nearest = cKDTree(cloud.points).query(cloud.points, k=2)[0][:, 1]
    with torch.no_grad():
        value = sdf(torch.tensor(cloud.points, dtype=torch.float64)).abs().numpy()
    return {"spread": float(nearest.std() / nearest.mean()), "off": float(value.max()) / half, "seconds": seconds}


def combined(sdf: NeuralSDF) -> Body:
    """The shape without a ball at its side, beside the boolean of the meshes by manifold3d."""
    import manifold3d
    import trimesh

    box = sdf.frame.box_to_world(default_box(sdf))
    radius, centre = 0.3 * float(box.size.max()), box.centre + np.array([0.35 * box.size[0], 0, 0])
    made = combining.combine([sdf, combining.body("sphere", [radius], centre.tolist())], "difference")
    begun = time.perf_counter()
    ours = extract_sdf(made, resolution=RESOLUTION)
    seconds = time.perf_counter() - begun
    ball = trimesh.creation.icosphere(6, radius)
    solids = [extract_sdf(sdf, resolution=FINE), Mesh(np.array(ball.vertices) + centre, np.array(ball.faces))]
    one, other = (
        manifold3d.Manifold(manifold3d.Mesh(m.vertices.astype(np.float32), m.faces.astype(np.uint32))) for m in solids
    )
    theirs = (one - other).volume()
    return {
        "watertight": topology(ours).watertight, "ours": ours.volume(), "theirs": float(theirs), "seconds": seconds,
        "error": abs(ours.volume() - theirs) / theirs,
    }  # fmt: skip


WORK: dict[str, Callable[[NeuralSDF], Body]] = {
    "bounds": bounds, "certain": certain, "rays": rays, "bulk": volumes, "points": points, "combine": combined
}  # fmt: skip


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--parts", default=",".join(PARTS), show_default=True, help="Which parts, by comma.")
@click.option("--json", "record", type=click.Path(path_type=Path), help="Default: build/queries.json.")
@click.option("--output", type=click.Path(path_type=Path), default=BENCHMARKS)
@click.option("--resume", is_flag=True, help="Keep the rows already in the JSON file.")
def queries(data: Path, parts: str, record: Path | None, output: Path, resume: bool) -> None:
    """What is asked of fits of DATA's shapes and of the published networks in DATA/weights."""
    record = record or ROOT / "build" / "queries.json"
    body: Body = {"machine": machine(), "rows": {}}
    if resume and record.exists():
        body["rows"] = json.loads(record.read_text(encoding="utf-8"))["rows"]
    record.parent.mkdir(parents=True, exist_ok=True)
    chosen = [part for part in parts.split(",") if part]
    if unknown := set(chosen) - set(PARTS):
        raise click.BadParameter(f"no part {unknown.pop()}; there are {', '.join(PARTS)}")
    for name in EXACT if "bulk" in chosen else ():
        body["rows"].setdefault(name, {})["exact"] = {**exact(name), "commit": commit()}
    for name in (*FITS, *PUBLISHED):
        due = [p for p in chosen if p not in body["rows"].get(name, {}) and (name in FITS or p in OF_ALL)]
        if not due:
            continue
        sdf = fitted(data, name) if name in FITS else load_layers(data / "weights" / f"{name}.npz")
        for part in due:
            body["rows"].setdefault(name, {})[part] = {**WORK[part](sdf), "commit": commit()}
            click.echo(f"{name}, {part}: {body['rows'][name][part]}")
            write_json(record, body)
    publish("queries", section(body), bars(body), output)


def _of(body: Body, part: str) -> dict[str, Body]:
    return {name: row[part] for name, row in body["rows"].items() if part in row}


def bars(body: Body) -> list[Bar]:
    """Those of the parts that were run."""
    found = []
    if rows := _of(body, "bounds"):
        outside = sum(row["outside"] for row in rows.values())
        found.append(Bar("bounds: values outside, of a million for each", f"{outside}", outside == 0))
    if rows := {name: row for name, row in _of(body, "certain").items() if name in PUBLISHED}:
        same = sum(row["same"] for row in rows.values())
        share = max(row["share"] for row in rows.values())
        found.append(
            Bar("published networks: the mesh of a dense lattice", f"{same} of {len(rows)}", same == len(rows))
        )
        found.append(Bar("published networks: evaluations ≤ 10 % of it, most", f"{share:.1%}", share <= 0.1))
    if rows := _of(body, "rays"):
        agree, depth = min(r["agree"] for r in rows.values()), max(r["depth99"] for r in rows.values())
        found.append(Bar("rays: hit or miss as Embree ≥ 99.9 %, least", f"{agree:.3%}", agree >= 0.999))
        found.append(Bar("rays: depth error ≤ 1e-3, 999 of 1000", f"{depth:.1e}", depth <= 1e-3))
        naive = max((row["naive_wrong"] for name, row in rows.items() if name in PUBLISHED), default=None)
        if naive is not None:
            found.append(
                Bar(
                    "rays: naive tracing of a field that is no distance is wrong for > 1 %",
                    f"{naive:.1%}",
                    naive > 0.01,
                )
            )
    if rows := _of(body, "exact"):
        holds = sum(row["holds"] for row in rows.values())
        found.append(
            Bar("limits hold the volumes of a ball and a torus", f"{holds} of {len(rows)}", holds == len(rows))
        )
    if rows := _of(body, "bulk"):
        holds = sum(row["holds"] for row in rows.values())
        found.append(Bar("limits hold the fine mesh's volume", f"{holds} of {len(rows)}", holds == len(rows)))
    if rows := _of(body, "points"):
        spread, off = max(r["spread"] for r in rows.values()), max(r["off"] for r in rows.values())
        found.append(Bar("points: variation of spacing ≤ 0.15", f"{spread:.3f}", spread <= 0.15))
        found.append(Bar("points: off the surface ≤ 1e-4", f"{off:.1e}", off <= 1e-4))
    if rows := _of(body, "combine"):
        error = max(row["error"] for row in rows.values())
        closed = all(row["watertight"] for row in rows.values())
        found.append(
            Bar("difference with a ball: watertight, volume within 1 %", f"{error:.2%}", closed and error <= 0.01)
        )
    return found


_TITLES: dict[str, dict[str, str]] = {
    "bounds": {"outside": "values outside", "tighter": "tighter than intervals, median"},
    "certain": {
        "same": "as dense", "share": "evaluations", "doubtful": "in doubt", "islands": "islands",
        "components": "parts", "euler": "Euler", "seconds": "s",
    },
    "rays": {
        "aside": "near silhouettes", "agree": "as Embree", "depth99": "depth, 99.9 %", "depth": "depth, most",
        "each": "evaluations a ray", "seconds": "s", "naive_wrong": "naive tracing wrong",
        "naive_each": "its evaluations",
    },
    "exact": {"low": "at least", "exact": "exact", "high": "at most", "bounds": "boxes", "seconds": "s"},
    "bulk": {"low": "at least", "mesh": "fine mesh", "high": "at most", "bounds": "boxes", "seconds": "s"},
    "points": {"spread": "variation", "off": "off, most", "seconds": "s"},
    "combine": {"ours": "volume", "theirs": "manifold3d", "error": "apart", "seconds": "s"},
}  # fmt: skip
_SHARES = {"share", "aside", "agree", "naive_wrong", "error"}


def section(body: Body) -> str:
    """Head, bars, and a table for each part."""
    commits = {found.get("commit", "") for row in body["rows"].values() for found in row.values()}
    head = (
        "## Queries\n\nDrafts of three shapes, and four published networks (Sharp and Jacobson's), which no part of "
        f"this project trained. Extraction at {RESOLUTION} cells: evaluations of field and bounds, as a share of a "
        f"dense lattice's. Rays: {RAYS:,}, against Embree on a mesh of {FINE} cells; set aside are those beside which, "
        "a cell away, a ray meets something else; depths in units of half the longest side. Naive: sphere tracing by "
        "the plain value.\n\n"
        "```\npython scripts/benchmark.py queries --data DIR\n```\n\n"
        f"Machine: {machine_line(body['machine'], commits)}"
    )
    parts = [head, bars_table(bars(body))]
    for part, titles in _TITLES.items():
        if rows := _of(body, part):
            cells = [(f"`{name}`", *(_cell(key, row[key]) for key in titles)) for name, row in rows.items()]
            parts.append(f"### {part.capitalize()}\n\n{table(('', *titles.values()), cells)}")
    return "\n\n".join(parts)


def _cell(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key in _SHARES:
        return f"{value:.2%}"
    if key in ("depth", "depth99", "off"):
        return f"{value:.1e}"
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}"
