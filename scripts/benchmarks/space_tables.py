"""The tables of the suite ``spaces``, Markdown."""

from __future__ import annotations

from typing import Any

from .document import table
from .families import Family, middle, worst

UNIT = 1e4  # lengths are printed in units of 10⁻⁴
BETWEEN = (0.25, 0.5, 0.75)  # where in-betweens are judged


def learned_text(family: Family, found: dict[str, Any]) -> str:
    """Learned and held-out shapes, and a sentence on them."""
    rows = [
        [name, f"{UNIT * row['chamfer']:.1f}", "", "", str(row["components"])] for name, row in found["learned"].items()
    ]
    rows += [
        [f"{name} (held out)", "", f"{UNIT * row['frozen']:.1f}", f"{UNIT * row['tuned']:.1f}", ""]
        for name, row in found["unseen"].items()
    ]
    train = [row["chamfer"] for row in found["learned"].values()]
    said = (
        f"{len(family.learned)} learned in {family.seconds:.0f} s, {found['steps']} steps: median "
        f"{UNIT * middle(train):.1f}, worst {UNIT * worst(train):.1f}; {len(family.held_out)} held out."
    )
    return f"{said}\n\n{table(['shape', 'learned', 'frozen', 'fine-tuned', 'parts'], rows)}"


def between_table(found: dict[str, Any]) -> str:
    """In-betweens by pair."""
    head = [
        "pair",
        *(f"t = {t}" for t in BETWEEN),
        *(f"values, {t}" for t in BETWEEN),
        "parts",
        "volume against the way",
    ]
    rows = [
        [
            name,
            *(f"{UNIT * e:.1f}" for e in row["chamfer"]),
            *(f"{UNIT * e:.1f}" for e in row["naive"]),
            str(row["components"]),
            f"{row['against_the_way']:.2%}",
        ]
        for name, row in found["between"].items()
    ]
    return f"In-betweens against interpolated vertices; *values* blends the two fields' values.\n\n{table(head, rows)}"


def completed_table(found: dict[str, Any]) -> str:
    """Completions by scan."""
    methods = ("ours", "frozen", "poisson", "nearest")
    head = ["scan", "seen", *(f"{m} {p}" for m in methods for p in ("observed", "hidden")), "seconds"]
    rows = []
    for name, row in found["completed"].items():
        cells = [f"{UNIT * row[m][p]:.0f}" if m in row else "–" for m in methods for p in ("observed", "hidden")]
        rows.append([name, f"{row['observed_share']:.0%}", *cells, f"{row['seconds']:.0f}"])
    return f"Seen by one camera only: errors on the scanned and on the hidden part.\n\n{table(head, rows)}"
