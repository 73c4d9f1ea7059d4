"""The suite ``blender``: what a user of the window waits for, and how long its main thread is held."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from .document import BENCHMARKS, ROOT, Bar, bars_table, commit, machine, machine_line, publish, table

Body = dict[str, Any]

READY, DRAFT, STALL, SLIDER, LARGE = 3.0, 6.0, 0.03, 0.1, 1.0
_INSIDE = ROOT / "scripts" / "inside_blender.py"
_LIMIT = 1200


def measured(blender: list[str], worker: str, folder: Path) -> Body:
    """Both runs of scripts/inside_blender.py, with the extension built from here and installed for them alone."""
    environment = {**os.environ, "NEURAL_SDF_PYTHON": worker, "BLENDER_USER_RESOURCES": str(folder / "user")}
    environment.pop("PYTHONPATH", None)

    def call(*words: str) -> None:
        done = subprocess.run([*blender, *words], env=environment, timeout=_LIMIT, capture_output=True, text=True)
        if done.returncode:
            raise click.ClickException(f"{' '.join(words[:3])}: {(done.stderr or done.stdout).strip()[-400:]}")

    call("--command", "extension", "build", "--source-dir", str(ROOT), "--output-dir", str(folder))
    (archive,) = folder.glob("*.zip")
    call("--command", "extension", "install-file", "-r", "user_default", "-e", str(archive))
    body: Body = {}
    for name, options in (("headless", ["--background"]), ("window", ["--window-geometry", "0", "0", "1280", "800"])):
        output = folder / f"{name}.json"
        call(*options, "--python", str(_INSIDE), "--", str(output))
        if not output.exists():
            raise click.ClickException(f"Blender ended without an answer ({name}); does it have a display?")
        body[name] = json.loads(output.read_text(encoding="utf-8"))
        if "error" in body[name]:
            raise click.ClickException(body[name]["error"])
    return body


def bars(body: Body) -> list[Bar]:
    """All of them."""
    window, headless = body["window"], body["headless"]
    fits = [window[name] for name in ("first draft", "draft", "balanced")]
    stall = max(fit["longest_turn"] for fit in fits)
    return [
        _at_most("worker ready after the panel is drawn, seconds", window["ready_seconds"], READY),
        _at_most("warm draft of Suzanne, click to mesh in the scene, seconds", window["draft"]["seconds"], DRAFT),
        _at_most("longest that the add-on holds the main thread during fits, milliseconds", 1e3 * stall, 1e3 * STALL),
        _at_most("slider to mesh at preview resolution, median, milliseconds",
                 1e3 * window["slider_seconds"], 1e3 * SLIDER),
        _at_most("a million vertices out of Blender, seconds", headless["read_seconds"], LARGE),
        _at_most("a million vertices into Blender, seconds", headless["write_seconds"], LARGE),
    ]  # fmt: skip


def _at_most(text: str, value: float, most: float) -> Bar:
    return Bar(f"{text} ≤ {most:g}", f"{value:.2f}" if most < 10 else f"{value:.0f}", value <= most)


def section(body: Body) -> str:
    """The whole section, Markdown."""
    window = body["window"]
    cells = [
        [
            name, f"{fit['seconds']:.1f}", f"{fit['turns']}", f"{1e3 * fit['longest_turn']:.1f}",
            f"{fit['turns_over_30_ms']}", f"{1e3 * fit['longest_gap']:.0f}",
        ]
        for name, fit in window.items() if isinstance(fit, dict)
    ]  # fmt: skip
    head = ["fit of Suzanne", "seconds", "turns", "longest turn, ms", "turns over 30 ms", "longest gap, ms"]
    return "\n\n".join(
        [
            "## Blender",
            f"Blender {window['blender']}, the extension installed in it. *Turns* are those of the add-on's timer, all "
            "that it does on the main thread while a fit runs; *gaps* are between two beats of another timer, so "
            "Blender's own drawing counts in them. The slider is that of a blend of two objects, at its drag "
            f"resolution of {window['slider_resolution']}.",
            "```\npython scripts/benchmark.py blender --blender 'blender'\n```",
            f"Machine: {machine_line(body['machine'], [body['commit']])}",
            bars_table(bars(body)),
            table(head, cells),
        ]
    )


@click.command()
@click.option("--blender", default="blender", show_default=True, help="Command that starts it; it needs a display.")
@click.option("--worker", default=sys.executable, help="The worker's Python; default: this one.")
@click.option("--json", "record", type=click.Path(path_type=Path), help="Default: build/blender.json.")
@click.option("--output", type=click.Path(path_type=Path), help="Default: docs/benchmarks.md.")
def blender(blender: str, worker: str, record: Path | None, output: Path | None) -> None:
    """Waits and stalls in Blender's own window."""
    record = record or ROOT / "build" / "blender.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        found = measured(shlex.split(blender), worker, Path(folder))
    body = {"machine": machine(), "commit": commit(), **found}
    record.write_text(json.dumps(body, indent=1), encoding="utf-8")
    publish("blender", section(body), bars(body), output or BENCHMARKS)
