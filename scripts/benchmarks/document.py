"""docs/benchmarks.md: one section for each suite, between markers of its own; and what machine measured it."""

from __future__ import annotations

import datetime
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from sdfcore import __version__
from sdfcore.files import replacing

from .measured import threads_here

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "docs" / "benchmarks.md"
_HEAD = "# Benchmarks\n\nMade by `python scripts/benchmark.py SUITE --data DIR`; each section names its command.\n"
_PACKAGES = ("torch", "numpy", "libigl", "scikit-image", "pymeshlab")


@dataclass(frozen=True)
class Bar:
    """Something that must hold, what was found, and whether it holds."""

    text: str
    found: str
    passed: bool

    @property
    def cells(self) -> tuple[str, str, str]:
        return self.text, self.found, "pass" if self.passed else "**fail**"


def machine() -> dict[str, Any]:
    """Processor, cores, date and versions; neither names nor paths of the machine."""
    return {
        "cpu": _processor(),
        "cores": threads_here(),
        "system": f"{platform.system()} {platform.machine()}",
        "date": datetime.date.today().isoformat(),
        "versions": {"Python": platform.python_version(), "sdfcore": __version__, **_versions()},
    }


def machine_line(found: dict[str, Any], commits: Iterable[str] = ()) -> str:
    """The same as a sentence, with the commits that were measured (see :func:`commit`)."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    named = sorted({one for one in commits if one})
    source = f"; commit {', '.join(named)}" if named else ""
    return f"{found['cpu']}, {found['cores']} cores, {found['system']}; {found['date']}; {versions}{source}."


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit that last touched sdfcore, with ``+`` if there are changes beside it; empty outside of git."""
    try:
        return _git("log", "-1", "--format=%h", "--", "sdfcore") + "+" * bool(_git("status", "-s", "--", "sdfcore"))
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A Markdown table; all columns but the first ``words`` hold numbers and go to the right."""
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    escaped = ([cell.replace("|", "/") for cell in row] for row in rows)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *escaped))


def bars_table(bars: Iterable[Bar]) -> str:
    """The bars with their verdicts."""
    return table(("bar", "found", ""), (bar.cells for bar in bars), words=3)


def write_section(path: Path, name: str, text: str) -> None:
    """Puts ``text`` between the markers of the section ``name``, at the end if it is new; all else stays."""
    begin, end = f"<!-- {name}: begin, generated -->", f"<!-- {name}: end -->"
    old = path.read_text(encoding="utf-8") if path.exists() else _HEAD
    section = f"{begin}\n{text.strip()}\n{end}"
    before, found, rest = old.partition(begin)
    if found:
        after = rest.partition(end)[2]
        new = before + section + after
    else:
        new = f"{old.rstrip()}\n\n{section}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(new, encoding="utf-8")


def publish(name: str, text: str, bars: Iterable[Bar], path: Path | None) -> None:
    """Writes the section ``name`` into ``path``, or says it where that is ``None``; and which bars do not hold.

    Raises:
        click.exceptions.Exit: with 1, if one does not.
    """
    if path is None:
        click.echo(text)
    else:
        write_section(path, name, text)
        click.echo(f"written: {path}")
    failed = [bar for bar in bars if not bar.passed]
    for bar in failed:
        click.echo(f"does not hold: {bar.text}: {bar.found}")
    if failed:
        raise click.exceptions.Exit(1)
    click.echo("all bars hold")
