"""The section of the suite ``methods``: tables and bars from its JSON body. Pure functions of it."""

from __future__ import annotations

from statistics import mean
from typing import Any

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
_WITH = 1.05  # times the better Poisson


def section(body: Body) -> str:
    """Head, bars, a table for each scan, and what was published."""
    settings = body["settings"]
    commits = {row.get("commit", "") for rows in body["rows"].values() for row in rows.values()}
    head = "\n\n".join(
        [
            "## Methods",
            f"{settings['training']:g} s of training a recipe at the sizes of `{settings['preset']}`, preparation and "
            f"extraction at {settings['resolution']} cells beside it. `exact`: Chamfer from samples to the other "
            "mesh's triangles. `CD`, `HD`: the scan benchmark's protocol, half the sum of both unsquared means and the "
            f"larger maximum between {settings['samples']:,} samples of each mesh. `scan`: from the scan's points to "
            "the mesh. All in the scans' own units.",
            "```\npython scripts/benchmark.py methods --data DIR\n```",
            f"Machine: {machine_line(body['machine'], commits)}",
        ]
    )
    tables = [f"### {name}\n\n{_table(rows)}" for name, rows in body["rows"].items()]
    return "\n\n".join([head, bars_table(bars(body)), *tables, _published()])


def _table(rows: dict[str, Body]) -> str:
    head = ("method", "exact", "CD", "HD", "scan", "steps", "seconds", "parts", "Euler", "closed")
    good = sorted((n for n in rows if "error" not in rows[n]), key=lambda n: rows[n]["exact_chamfer"])
    failed = [(name, f"failed: {rows[name]['error'][:60]}", *[""] * 8) for name in rows if "error" in rows[name]]
    return table(head, [*(_cells(name, rows[name]) for name in good), *failed])


def _cells(name: str, row: Body) -> tuple[str, ...]:
    return (
        name, f"{row['exact_chamfer']:.4f}", f"{row['paper_chamfer']:.3f}", f"{row['paper_hausdorff']:.2f}",
        f"{row['scan_mean']:.4f}", str(row.get("steps", "–")), f"{row['seconds']:.0f}", str(row["components"]),
        str(row["euler"]), "yes" if row["watertight"] else "no",
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
    peers = {*POISSON, "hoppe", "apss", "rimls", "ball_pivoting"}
    ours = {name: value for name, value in found.items() if name not in peers and "no normals" not in name}
    if poisson and ours:
        best = min(ours, key=ours.__getitem__)
        ratio = ours[best] / min(poisson)
        text = f"with normals, our best ≤ {_WITH} × the better Poisson (mean of exact Chamfer)"
        result.append(Bar(text, f"{best}: {ratio:.3f}", ratio <= _WITH))
    return result
