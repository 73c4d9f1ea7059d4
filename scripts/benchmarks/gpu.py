"""The suite ``gpu``: what a GPU makes of fits, of extraction and of learning, and against the authors' own code on it.

On a processor it runs, too, for trials, but writes nothing into docs.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch

from sdfcore.errors import SdfError
from sdfcore.geometry import Mesh
from sdfcore.metrics import compare
from sdfcore.planning import device_named, devices
from sdfcore.reading import read
from sdfcore.report import read_report, write_json

from .document import BENCHMARKS, ROOT, Bar, bars_table, commit, machine, machine_line, publish, table
from .extraction import fit, timing
from .measured import measure, threads_here
from .official import row
from .one_scale import bumpy, bumpy_mesh, even_directions
from .pace import THEIRS, climbed, factors, reached
from .subjects import Case, Subject, cases, load

Body = dict[str, Any]

SCANS = ("anchor", "dc")
SECONDS = {"balanced": 5.0, "fine": 30.0}
SOONER, EXTRACTED = 20.0, 0.5
RESOLUTION = 512
_LIMIT = 1800.0
_AFTERWARDS = ("starting", "measuring", "drawing")  # stages that are none of a fit's


def fits(chosen: list[Case], device: str, presets: dict[str, float], body: Body, steps: int | None = None) -> None:
    """Each scan by each preset through the command line: seconds by stage, and the exact Chamfer."""
    for case in chosen:
        assert case.scan is not None
        truth = read(case.truth)
        for preset in presets:
            with tempfile.TemporaryDirectory() as folder:
                output, report = Path(folder) / "out.ply", Path(folder) / "report.json"
                words = [sys.executable, "-m", "sdfcore", "fit", str(case.scan), "-o", str(output), "--quiet"]
                words += ["--preset", preset, "--device", device, "--report", str(report)]
                words += [] if steps is None else ["--steps", str(steps), "--resolution", "48"]
                done = measure(words, output, threads=threads_here(), limit=_LIMIT)
                found: Body = {"error": done.complaint}
                if not done.complaint:
                    result, stages = read(output), read_report(report)["seconds"]
                    assert isinstance(result, Mesh)
                    assert isinstance(truth, Mesh)
                    own = stages["total"] - sum(stages.get(name, 0.0) for name in _AFTERWARDS)
                    found = {"seconds": own, "whole": done.seconds, "stages": stages}
                    found["chamfer"] = compare(result, truth, samples=200_000).chamfer
            body["fits"].setdefault(case.name, {})[preset] = found
            click.echo(f"{case.name}, {preset}: {found}")


def against(subject: Subject, name: str, checkout: Path, device: str, known: Body, save: Any) -> None:
    """The authors' ``name`` for three minutes on the same device, and ours until it is as exact."""
    if "chamfer" not in known.get("theirs", {}):
        words = ["one_official", name, "--checkout", str(checkout), "--training", str(THEIRS), "--device", device]
        known["theirs"] = row(words, subject.cloud, subject.truth, THEIRS)
        save()
    normals = [] if name == "siren" else ["--no-normals"]
    climbed(subject, known, "balanced", save, ["--device", device, *normals])


def throughput(device: torch.device, preset: str = "fine", steps: int = 200, side: int = 8192) -> Body:
    """Points learned a second by a plain MLP, and what that is of the device's own speed in float32.

    A point costs six floating-point operations for each weight: two forward, four backward. The device's own speed is
    that of a product of two square matrices.
    """
    from sdfcore.fitting import Fit
    from sdfcore.recipes import RECIPES

    made = Fit(
        bumpy(even_directions(50_000)), recipe="regression", preset=preset, steps=steps, device=str(device)
    )  # fmt: skip
    begun, first = 0.0, max(steps // 10, 1)
    for progress in made:
        if progress.step == first:
            _wait(device)
            begun = time.perf_counter()
    _wait(device)
    seconds = time.perf_counter() - begun
    batch, weights = RECIPES["regression"].sizes[preset].batch, sum(p.numel() for p in made.network.parameters())
    points = batch * (made.step - first) / seconds
    return {"points": points, "flops": 6.0 * weights * points, "peak": _peak(device, side), "weights": weights}


def _peak(device: torch.device, side: int) -> float:
    a, b = torch.randn(2, side, side, device=device).unbind()
    found = []
    for _ in range(5):
        _wait(device)
        begun = time.perf_counter()
        a @ b
        _wait(device)
        found.append(time.perf_counter() - begun)
    return 2.0 * side**3 / median(found)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def extracted(device: str) -> Body:
    """Seconds of an extraction of the network of the suite ``extraction``."""
    from sdfcore.writing import write

    with tempfile.TemporaryDirectory() as folder:
        source, model = Path(folder) / "bumpy.ply", Path(folder) / "model.safetensors"
        write(source, bumpy_mesh(100_000))
        fit(source, model, threads_here(), None)
        return timing(model, RESOLUTION, threads_here(), device)


def bars(body: Body) -> list[Bar]:
    """Of what was measured."""
    found = []
    for preset, limit in SECONDS.items():
        taken = [rows[preset].get("seconds", float("inf")) for rows in body["fits"].values() if preset in rows]
        if taken:
            slowest = max(taken)
            found.append(Bar(f"{preset} fit of a scan ≤ {limit:g} s", f"slowest {slowest:.1f} s", slowest <= limit))
    for name, rows in body["against"].items():
        middle = median(factors({"rows": rows}, prepared=False))
        found.append(Bar(f"as exact as {name}, times sooner ≥ {SOONER:g}", f"{middle:.0f}", middle >= SOONER))
    if seconds := body.get("extraction", {}).get("seconds"):
        found.append(Bar(f"extraction at {RESOLUTION} ≤ {EXTRACTED} s", f"{seconds:.2f} s", seconds <= EXTRACTED))
    return found


def section(body: Body) -> str:
    """The whole section, Markdown."""
    parts = [
        "## On a GPU",
        f"{body['device']}. A fit's seconds are those of reading to writing, without starting Python and the device. "
        f"The authors' code is trained for {THEIRS} s on the same device and points, ours until it is as exact "
        "(Chamfer, the scans' units); start-up and extraction on neither side.",
        "```\npython scripts/benchmark.py gpu --data DIR --siren CHECKOUT --digs CHECKOUT\n```",
        f"Machine: {machine_line(body['machine'], [body['commit']])}",
        bars_table(bars(body)),
    ]
    told = lambda found: [f"{found['seconds']:.1f}", f"{found['whole']:.1f}", f"{found['chamfer']:.4f}"]
    cells = [
        [f"`{name}`", preset, *told(found)]
        for name, rows in body["fits"].items() for preset, found in rows.items() if "seconds" in found
    ]  # fmt: skip
    if cells:
        parts.append(table(["scan", "preset", "seconds", "with starting", "Chamfer"], cells, words=2))
    cells = []
    for name, rows in body["against"].items():
        for scan, known in rows.items():
            run = reached(known) or {}
            cells.append([name, f"`{scan}`", _number(known["theirs"]), _number(run), f"{run.get('training', 0):.1f}"])
    if cells:
        parts.append(table(["authors' code", "scan", "theirs", "ours", "training of ours, s"], cells, words=2))
    if learned := body.get("learning"):
        parts.append(
            f"Learning: {learned['points'] / 1e6:.2f} million points a second through {learned['weights']:,} weights, "
            f"{learned['flops'] / 1e12:.2f} TFLOP/s of the {learned['peak'] / 1e12:.1f} that a large product of "
            f"matrices reaches in float32: {learned['flops'] / learned['peak']:.0%}."
        )
    return "\n\n".join(parts)


def _number(found: Body) -> str:
    return f"{found['chamfer']:.4f}" if "chamfer" in found else "–"


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--siren", type=click.Path(exists=True, path_type=Path), help="Checkout: vsitzmann/siren.")
@click.option("--digs", type=click.Path(exists=True, path_type=Path), help="Checkout: Chumbyte/DiGS.")
@click.option("--names", default=",".join(SCANS), show_default=True, help="Scans: a,b.")
@click.option("--device", default="auto", show_default=True)
@click.option("--json", "record", type=click.Path(path_type=Path), help="Default: build/gpu.json.")
@click.option("--output", type=click.Path(path_type=Path), help="Default: docs/benchmarks.md, of a GPU.")
@click.option("--resume", is_flag=True, help="Keep what is already in the JSON file.")
def gpu(
    data: Path, siren: Path | None, digs: Path | None, names: str, device: str, record: Path | None,
    output: Path | None, resume: bool,
) -> None:  # fmt: skip
    """Fits, extraction and learning on a GPU, and the authors' own code beside them."""
    try:
        place = device_named(device)
    except SdfError as error:
        raise click.ClickException(error.line) from error
    record = record or ROOT / "build" / "gpu.json"
    title = dict(devices()).get(str(place), str(place))
    body: Body = {"machine": machine(), "commit": commit(), "device": title, "fits": {}, "against": {}}
    if resume and record.exists():
        body |= json.loads(record.read_text(encoding="utf-8"))
    record.parent.mkdir(parents=True, exist_ok=True)
    save = lambda: write_json(record, body)
    chosen = [case for case in cases(data, tuple(name for name in names.split(",") if name)) if case.scan is not None]
    body["learning"] = throughput(place)
    body["extraction"] = extracted(str(place))
    fits(chosen, str(place), SECONDS, body)
    save()
    for name, checkout in (("siren", siren), ("digs", digs)):
        for case in chosen if checkout is not None else []:
            known = body["against"].setdefault(name, {}).setdefault(case.name, {})
            against(load(case, 0), name, checkout, str(place), known, save)
    save()
    publish("gpu", section(body), bars(body), output or (BENCHMARKS if place.type != "cpu" else None))

