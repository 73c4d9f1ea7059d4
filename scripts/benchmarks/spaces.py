"""The suite ``spaces``: families learned, unseen members found again, morphs against the truth, scans completed."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from sdfcore.errors import SdfError
from sdfcore.extraction import extract
from sdfcore.geometry import Array, Box, Mesh, PointCloud
from sdfcore.metrics import compare
from sdfcore.peers import reconstruct
from sdfcore.spaces import Complete, FineTune, Infer, Latent, Learn, Space, errors_by_part, interpolate, mix
from sdfcore.spaces import load as load_space

from . import families
from .document import BENCHMARKS, Bar, bars_table, commit, machine, machine_line, publish, table
from .families import Family, chamfer, decoded, half, meshed, middle, monotone, shape_of, worst
from .one_sided import one_sided
from .space_tables import BETWEEN, UNIT, between_table, completed_table, learned_text

CHAIRS_LONGER = 1.5  # they are twice as many as the bodies, and nothing is alike in them
HELD_OUT = ("04", "08", "13", "19")
HELD_OUT_CHAIRS = ("cc0_oakChair", "ccby_kitchenChair", "kl_dining_chair", "sc_chair3")
PAIRS = (
    ("00", "12"), ("02", "16"), ("03", "05"), ("06", "18"), ("09", "21"),
    ("01", "17"), ("07", "20"), ("10", "23"), ("14", "15"), ("11", "22"),
)  # fmt: skip


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--seconds", type=float, default=600.0, show_default=True, help="Of learning; the chairs take half more.")
@click.option("--only", default="humans,chairs,blend", show_default=True, help="Which parts, by comma.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder for the spaces, taken from it if there.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "as_file", type=click.Path(path_type=Path), help="All figures.")
@click.option("--output", type=click.Path(path_type=Path), help="Default: docs/benchmarks.md, unless in part.")
@click.option("--resume", is_flag=True, help="Take the parts that the JSON file has already from there.")
def spaces(
    data: Path, seconds: float, only: str, keep: Path | None, seed: int, as_file: Path | None, output: Path | None,
    resume: bool,
) -> None:  # fmt: skip
    """Learning, inference, interpolation, completion and blending on the families and shapes of DATA."""
    wanted, found, text, parts = only.split(","), [], [], {}
    if importlib.util.find_spec("pymeshlab") is None:
        raise click.ClickException("Poisson, to compare with, needs pymeshlab: pip install -e '.[benchmark]'.")
    if resume and as_file is not None and as_file.exists():
        parts = json.loads(as_file.read_text(encoding="utf-8"))["parts"]
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Any] = {"machine": machine(), "seconds": seconds, "seed": seed, "parts": parts}
    makers: dict[str, Callable[[], tuple[dict[str, Any], list[Bar], str]]] = {
        "humans": lambda: humans(data, seconds, keep, seed),
        "chairs": lambda: chairs(data, CHAIRS_LONGER * seconds, keep, seed),
        "blend": lambda: blends(data, seed),
    }
    for name, make in makers.items():
        if name in wanted and name not in parts:
            measured, bars, part = make()
            parts[name] = {
                "figures": measured, "bars": [vars(bar) for bar in bars], "text": part, "commit": commit()
            }  # fmt: skip
            if as_file is not None:
                as_file.write_text(families.as_json(figures), encoding="utf-8")
        if name in parts:
            found += [Bar(**bar) for bar in parts[name]["bars"]]
            text.append(parts[name]["text"])
    complete = set(makers) <= set(parts) and seconds >= 600
    body = "\n\n".join([_head(seconds, {part["commit"] for part in parts.values()}), bars_table(found), *text])
    publish("spaces", body, found, output or (BENCHMARKS if complete else None))


def _head(seconds: float, commits: set[str]) -> str:
    return "\n\n".join(
        [
            "## Shape spaces",
            f"Learning {seconds:.0f} s for the bodies, {CHAIRS_LONGER * seconds:.0f} s for the chairs. Lengths: exact "
            "Chamfer (samples to triangles, mean of both means) in units of 10⁻⁴ of half the longest side of the "
            f"truth's box; meshes at resolution {families.RESOLUTION}.",
            "```\npython scripts/benchmark.py spaces --data DIR\n```",
            f"Machine: {machine_line(machine(), commits)}",
        ]
    )


def _space(family: Family, seconds: float, keep: Path | None, seed: int) -> Space:
    held = None if keep is None else keep / f"{family.name}.safetensors"
    if held is not None and held.exists():
        family.space = load_space(held)
        family.seconds = float(family.space.info.get("seconds", 0.0))
        return family.space
    return families.learn(family, seconds, seed, keep)


# Learned, unseen -----------------------------------------------------------------------------------------------------


def learned(family: Family, space: Space) -> dict[str, Any]:
    """Every learned shape decoded, against the original."""
    found: dict[str, Any] = {}
    for latent in space:
        mesh = decoded(space, latent)
        error = chamfer(mesh, family.shapes[latent.name], exact=family.exact)
        found[latent.name] = {"chamfer": error, **shape_of(mesh)}
    return found


def unseen(family: Family, space: Space) -> dict[str, Any]:
    """Every held-out shape inferred from all of its surface, with the network frozen and then fine-tuned."""
    found: dict[str, Any] = {}
    for name, truth in family.unseen.items():
        begun = time.perf_counter()
        run = Infer(space, truth)
        for _ in run:
            pass
        frozen, infer_seconds = run.found.field(space), time.perf_counter() - begun
        tuning = FineTune(frozen, truth)
        for _ in tuning:
            pass
        errors = [chamfer(meshed(sdf), truth, exact=family.exact) for sdf in (frozen, tuning.sdf)]
        found[name] = {
            "frozen": errors[0], "tuned": errors[1], "infer_seconds": infer_seconds,
            "seconds": time.perf_counter() - begun,
        }  # fmt: skip
        click.echo(f"  {name}: frozen {UNIT * errors[0]:.1f}, tuned {UNIT * errors[1]:.1f}")
    return found


# Between -------------------------------------------------------------------------------------------------------------


def between(family: Family, space: Space) -> dict[str, Any]:
    """In-betweens of named pairs against linearly interpolated corresponding vertices, and against blended values."""
    found: dict[str, Any] = {}
    for a, b in PAIRS:
        first, last = family.shapes[a], family.shapes[b]
        errors, naive, shapes = [], [], []
        for t in BETWEEN:
            truth = Mesh((1 - t) * first.vertices.astype(np.float64) + t * last.vertices, first.faces)
            mesh = decoded(space, interpolate(space[a], space[b], t))
            errors.append(chamfer(mesh, truth, exact=True))
            naive.append(chamfer(blended_values(space, space[a], space[b], t), truth, exact=True))
            shapes.append(shape_of(mesh))
        volumes = np.array([decoded(space, interpolate(space[a], space[b], t)).volume() for t in np.linspace(0, 1, 11)])
        found[f"{a}-{b}"] = {
            "chamfer": errors, "naive": naive, "against_the_way": monotone(volumes),
            "watertight": all(s["watertight"] for s in shapes), "components": max(s["components"] for s in shapes),
        }  # fmt: skip
        click.echo(f"  {a}-{b}: {[round(UNIT * e, 1) for e in errors]}, values {[round(UNIT * e, 1) for e in naive]}")
    return found


def blended_values(space: Space, a: Latent, b: Latent, t: float) -> Mesh:
    """The zero set of (1 - t) f_a + t f_b in the shapes' own boxes, placed where the interpolated shape stands."""
    fields = [space.decode(latent).network for latent in (a, b)]
    placed = mix([a, b], [1 - t, t])
    mesh = extract(
        lambda x: (1 - t) * fields[0](x) + t * fields[1](x), Box([-1.0] * 3, [1.0] * 3), families.RESOLUTION, refine=1
    )
    return Mesh(placed.frame.to_world(mesh.vertices), mesh.faces)


# From one side -------------------------------------------------------------------------------------------------------


def completed(family: Family, space: Space, towards: Array) -> dict[str, Any]:
    """Held-out shapes seen by one camera: completed, against screened Poisson and the nearest learned shape."""
    found: dict[str, Any] = {}
    for index, (name, truth) in enumerate(family.unseen.items()):
        scan = one_sided(truth, towards, seed=index)
        begun = time.perf_counter()
        run = Complete(space, scan)
        for _ in run:
            pass
        seconds = time.perf_counter() - begun
        rows = {
            "ours": run.mesh(families.RESOLUTION),
            "frozen": meshed(run.inferred.field(space)) if run.inferred else None,
            "poisson": _poisson(scan),
            "nearest": nearest(family, scan, truth),
        }
        entry: dict[str, Any] = {"seconds": seconds}
        for method, mesh in rows.items():
            if mesh is None:
                continue
            parts = errors_by_part(mesh, truth, scan.points)
            entry[method] = {"observed": parts.observed / half(truth), "hidden": parts.hidden / half(truth)}
            entry["observed_share"] = parts.observed_share
        found[name] = entry
        said = {m: f"{UNIT * entry[m]['observed']:.0f}/{UNIT * entry[m]['hidden']:.0f}" for m in rows if m in entry}
        click.echo(f"  {name}: observed/hidden {said}, {entry['observed_share']:.0%} seen, {seconds:.0f} s")
    return found


def _poisson(scan: PointCloud) -> Mesh | None:
    try:
        return reconstruct("poisson", scan, depth=8)
    except SdfError as error:
        click.echo(f"  Poisson: {error}")
        return None


def nearest(family: Family, scan: PointCloud, truth: Mesh) -> Mesh:
    """The learned shape that lies nearest to the scan, each laid into the truth's own box: more than a user knows."""
    target = Box.around(truth.vertices.astype(np.float64))
    best: tuple[float, Mesh] | None = None
    for mesh in family.learned.values():
        box = Box.around(mesh.vertices.astype(np.float64))
        scale = float(target.size.max() / box.size.max())
        laid = Mesh((mesh.vertices - box.centre) * scale + target.centre, mesh.faces)
        gap = compare(laid, PointCloud(scan.points), samples=5000).chamfer_to_result
        if best is None or gap < best[0]:
            best = (gap, laid)
    assert best is not None
    return best[1]


# The parts of the suite ----------------------------------------------------------------------------------------------


def humans(data: Path, seconds: float, keep: Path | None, seed: int) -> tuple[dict[str, Any], list[Bar], str]:
    """Twenty bodies learned, four held out."""
    family = families.load(data / "families" / "humans", lambda stem: stem[:2], HELD_OUT, exact=True)
    space = _space(family, seconds, keep, seed)
    found = {
        "learning_seconds": family.seconds, "steps": space.info.get("steps"), "learned": learned(family, space),
        "unseen": unseen(family, space), "between": between(family, space),
        "completed": completed(family, space, np.array([0.3, -1.0, 0.2])),
    }  # fmt: skip
    train = [row["chamfer"] for row in found["learned"].values()]
    held, way, parts = found["unseen"].values(), found["between"].values(), found["completed"].values()
    errors = [error for row in way for error in row["chamfer"]]
    naive = [error for row in way for error in row["naive"]]
    hidden = {m: middle(row[m]["hidden"] for row in parts if m in row) for m in ("ours", "poisson", "nearest")}
    bars = [
        Bar("humans: learned in ≤ 600 s (and a hundredth)", f"{family.seconds:.0f} s", family.seconds <= 606),
        _at_most("humans: learned, median", middle(train), 0.002),
        _at_most("humans: learned, worst", worst(train), 0.004),
        _at_most("humans: held out, frozen, median", middle(r["frozen"] for r in held), 0.006),
        _at_most("humans: held out, fine-tuned, median", middle(r["tuned"] for r in held), 0.002),
        _at_most("humans: in-betweens, median", middle(errors), 0.004),
        Bar(
            "humans: in-betweens better than blended values",
            f"{UNIT * middle(errors):.1f} / {UNIT * middle(naive):.1f}",
            middle(errors) < middle(naive),
        ),
        Bar(
            "humans: in-betweens watertight, one part",
            f"{sum(r['watertight'] and r['components'] == 1 for r in way)} of {len(way)} pairs",
            all(r["watertight"] and r["components"] == 1 for r in way),
        ),
        Bar(
            "humans: volume monotone within 2 %",
            f"{worst(r['against_the_way'] for r in way):.2%}",
            worst(r["against_the_way"] for r in way) <= 0.02,
        ),
        Bar(
            "humans: hidden part ≤ ½ × Poisson",
            f"{UNIT * hidden['ours']:.0f} / {UNIT * hidden['poisson']:.0f}",
            hidden["ours"] <= hidden["poisson"] / 2,
        ),
        Bar(
            "humans: hidden part < nearest learned shape",
            f"{UNIT * hidden['ours']:.0f} / {UNIT * hidden['nearest']:.0f}",
            hidden["ours"] < hidden["nearest"],
        ),
    ]
    text = ["### Humans", learned_text(family, found), between_table(found), completed_table(found)]
    return found, bars, "\n\n".join(text)


def chairs(data: Path, seconds: float, keep: Path | None, seed: int) -> tuple[dict[str, Any], list[Bar], str]:
    """Messy catalogue models; stated as found."""
    family = families.load(data / "families" / "chairs", str, HELD_OUT_CHAIRS, exact=False)
    space = _space(family, seconds, keep, seed)
    found = {
        "learning_seconds": family.seconds, "steps": space.info.get("steps"), "learned": learned(family, space),
        "unseen": unseen(family, space), "completed": completed(family, space, np.array([0.5, 0.4, 1.0])),
    }  # fmt: skip
    lost = [name for name, row in found["learned"].items() if row["chamfer"] > LOST]
    bars = [Bar("chairs: none lost (Chamfer above 0.03)", ", ".join(lost) or "none", not lost)]
    return found, bars, "\n\n".join(["### Chairs", learned_text(family, found), completed_table(found)])


LOST = 0.03  # Chamfer of a shape that is not there any more


def _at_most(text: str, value: float, most: float) -> Bar:
    return Bar(f"{text} ≤ {UNIT * most:.0f}", f"{UNIT * value:.1f}", value <= most)


def blends(data: Path, seed: int) -> tuple[dict[str, Any], list[Bar], str]:
    """Two shapes that have nothing to do with each other, from click to slider."""
    import trimesh

    made, of = trimesh.creation.torus(0.7, 0.28, 96, 48), data / "shapes"
    pairs = {
        "boot and man": {"boot": _mesh(of / "boot_genus12.ply"), "man": _mesh(of / "human_man.obj")},
        "spot and torus": {"spot": _mesh(of / "spot.obj"), "torus": Mesh(made.vertices, made.faces)},
    }  # fmt: skip
    found = {name: blend(pair, seed) for name, pair in pairs.items()}
    rows, bars = [], []
    for name, row in found.items():
        rows.append(
            [
                name,
                f"{row['seconds']:.1f}",
                f"{row['decode']:.2f}",
                *(f"{UNIT * e:.1f}" for e in row["ends"].values()),
                str(row["parts"]),
            ]
        )
        bars += [
            Bar(f"{name}: ≤ 90 s to a slider", f"{row['seconds']:.1f} s", row["seconds"] <= 90),
            Bar(f"{name}: slider's mesh ≤ 0.3 s", f"{row['decode']:.2f} s", row["decode"] <= 0.3),
            Bar(f"{name}: in-betweens watertight", "yes" if row["watertight"] else "no", row["watertight"]),
        ]
    head = ["pair", "learning s", "decode s", "first", "second", "parts of 9 in-betweens"]
    return found, bars, "\n\n".join(["### Blends of two shapes", table(head, rows)])


SLIDER = 64  # cells while a slider moves


def blend(pair: dict[str, Mesh], seed: int) -> dict[str, Any]:
    begun = time.perf_counter()
    run = Learn(pair, preset="draft", seed=seed)
    for _ in run:
        pass
    space, seconds = run.space, time.perf_counter() - begun
    first, last = space.shapes
    times, parts, closed = [], [], []
    for t in np.linspace(0.1, 0.9, 9):
        latent = interpolate(first, last, float(t))
        begun = time.perf_counter()
        families.extract_sdf(space.decode(latent), resolution=SLIDER, refine=0)
        times.append(time.perf_counter() - begun)
        shape = shape_of(decoded(space, latent))
        parts.append(shape["components"])
        closed.append(shape["watertight"])
    ends = {latent.name: chamfer(decoded(space, latent), pair[latent.name], exact=True) for latent in space}
    return {"seconds": seconds, "decode": worst(times), "ends": ends, "parts": parts, "watertight": all(closed)}


def _mesh(path: Path) -> Mesh:
    shape = families.read(path)
    if not isinstance(shape, Mesh):
        raise click.BadParameter(f"{path.name} holds no mesh")
    return shape
