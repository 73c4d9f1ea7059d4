"""The section of the suite ``methods``: tables and bars from its JSON body. Pure functions of it."""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import Any

from sdfcore.plots import SOFT, new_panels, save_figure, titles

from .document import Bar, bars_table, machine_line, table

Body = dict[str, Any]

#: Chamfer and Hausdorff of the paper's protocol, as published: the mean over five scans, of which two are here.
PUBLISHED = (
    ("IGR, no normals", "Ben-Shabat et al. 2022 (DiGS), table 2", 1.38, 16.33),
    ("SIREN, no normals", "Ben-Shabat et al. 2022 (DiGS), table 2", 0.42, 7.67),
    ("SAL, no normals", "Ben-Shabat et al. 2022 (DiGS), table 2", 0.36, 7.47),
    ("IGR with Fourier features, no normals", "Ben-Shabat et al. 2022 (DiGS), table 2", 0.96, 11.06),
    ("DiGS, no normals", "Ben-Shabat et al. 2022 (DiGS), table 2", 0.19, 3.52),
)
POISSON = ("poisson 8", "poisson 9")
PEERS = {*POISSON, "hoppe", "apss", "rimls", "ball_pivoting"}
BARE = ", no normals"
_WITH = 1.05  # times the better Poisson


def section(body: Body) -> str:
    """Head, bars, a table for each scan, and what was published."""
    settings = body["settings"]
    commits = {row.get("commit", "") for rows in body["rows"].values() for row in rows.values()}
    head = "\n\n".join(
        [
            "## Methods",
            f"{trained(settings)} a recipe at the sizes of `{settings['preset']}`, preparation and extraction at "
            f"{settings['resolution']} cells beside it; seed {settings.get('seed', 0)}. `exact`: Chamfer from "
            "samples to the other mesh's triangles. `CD`, `HD`: the scan benchmark's protocol, half the sum of both "
            f"unsquared means and the larger maximum between {settings['samples']:,} samples of each mesh. `scan`: "
            "from the scan's points to the mesh. All in the scans' own units.",
            "```\npython scripts/benchmark.py methods --data DIR\n```",
            f"Machine: {machine_line(body['machine'], commits)} Device: {devices(body)}.",
            "![Exact Chamfer of every method](methods_chart.png)",
        ]
    )
    tables = [f"### {name}\n\n{rows_table(rows)}" for name, rows in body["rows"].items()]
    return "\n\n".join([head, bars_table(bars(body)), *tables, _published()])


def trained(settings: Body) -> str:
    """How long a recipe's training was."""
    return (
        "The preset's steps of training" if settings["training"] is None else f"{settings['training']:g} s of training"
    )


def devices(body: Body) -> str:
    """Those that recipes were trained on."""
    return ", ".join(sorted({row.get("device", "cpu") for rows in body["rows"].values() for row in rows.values()}))


def draw(body: Body, path: Path) -> None:
    """A chart of all methods that gave a mesh: exact Chamfer by scan, the best first; hollow without normals."""
    scans = [{name: row for name, row in rows.items() if "error" not in row} for rows in body["rows"].values()]
    height = 1.6 + 0.2 * max((len(rows) for rows in scans), default=1)
    figure, panels = new_panels(7.5 * max(1, len(scans)), height, 1, max(1, len(scans)))
    for axes, scan, rows in zip(panels[0], body["rows"], scans, strict=False):
        names = sorted(rows, key=lambda name: rows[name]["exact_chamfer"], reverse=True)
        for place, name in enumerate(names):
            bare, peer = name.endswith(BARE), name in PEERS
            colour = SOFT if peer else "#0f6fc6"
            face = "white" if bare else colour
            axes.plot(rows[name]["exact_chamfer"], place, "o", ms=6, mec=colour, mfc=face)
        axes.set_yticks(range(len(names)), names)
        axes.set_xscale("log")
        axes.set_xlabel("exact Chamfer, the scan's units")
        titles(axes, scan, f"{trained(body['settings'])}; hollow: without normals; grey: classical")
    save_figure(figure, path)


def rows_table(rows: dict[str, Body], digits: int = 4) -> str:
    """One line a method, the most exact first."""
    head = ("method", "exact", "CD", "HD", "scan", "steps", "seconds", "parts", "Euler", "closed")
    good = sorted((n for n in rows if "error" not in rows[n]), key=lambda n: rows[n]["exact_chamfer"])
    failed = [(name, f"failed: {rows[name]['error'][:60]}", *[""] * 8) for name in rows if "error" in rows[name]]
    return table(head, [*(_cells(name, rows[name], digits) for name in good), *failed])


def _cells(name: str, row: Body, digits: int) -> tuple[str, ...]:
    return (
        name, f"{row['exact_chamfer']:.{digits}f}", f"{row['paper_chamfer']:.{digits - 1}f}",
        f"{row['paper_hausdorff']:.{digits - 2}f}", f"{row['scan_mean']:.{digits}f}", str(row.get("steps", "–")),
        f"{row['seconds']:.0f}", str(row["components"]), str(row["euler"]), "yes" if row["watertight"] else "no",
    )  # fmt: skip


def _published() -> str:
    rows = [(name, source, f"{chamfer:.2f}", f"{hausdorff:.2f}") for name, source, chamfer, hausdorff in PUBLISHED]
    text = table(("published, not ours", "source", "CD", "HD"), rows, words=2)
    return f"### Published values, means over the benchmark's five scans\n\n{text}"


def means(body: Body) -> dict[str, float]:
    """The mean exact Chamfer over the scans, of the methods that gave a mesh for all of them."""
    scans = list(body["rows"].values())
    names = set.intersection(*(set(rows) for rows in scans)) if scans else set()
    good = [name for name in names if all("error" not in rows[name] for rows in scans)]
    return {name: mean(rows[name]["exact_chamfer"] for rows in scans) for name in good}


def bars(body: Body) -> list[Bar]:
    """Our best with normals against the better Poisson; whether every method gave a surface."""
    found = means(body)
    failed = [f"{name} on {scan}" for scan, rows in body["rows"].items() for name in rows if "error" in rows[name]]
    result = [Bar("every method gives a surface", ", ".join(failed) or "all", not failed)]
    poisson = [found[name] for name in POISSON if name in found]
    ours = {name: value for name, value in found.items() if name not in PEERS and not name.endswith(BARE)}
    if poisson and ours:
        best = min(ours, key=ours.__getitem__)
        ratio = ours[best] / min(poisson)
        text = f"with normals, our best ≤ {_WITH} × the better Poisson (mean of exact Chamfer)"
        result.append(Bar(text, f"{best}: {ratio:.3f}", ratio <= _WITH))
    return result
