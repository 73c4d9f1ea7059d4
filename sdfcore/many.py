"""All shapes of a folder: which there are, which are done, and a record of what became of each. No torch here.

The record (``fit-many.json`` in the output folder) is written anew after every shape. A shape counts as done as long as
its file and all settings are those of the record and its mesh is there; so a run that was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import __version__
from .errors import EmptyInputError, InputError, SdfError
from .files import replacing
from .reading import suffixes

RECORD = "fit-many.json"
FORMAT = "sdfcore-many"
_NO_SHAPES = {"json", "txt", "csv"}  # readable, but in a folder of shapes more often something else


@dataclass(frozen=True)
class Item:
    """One shape: its file's path within the folder, as ``name``; the file; the mesh to be written."""

    name: str
    source: Path
    output: Path


def items(folder: Path, output: Path, suffix: str, *, recursive: bool = False) -> list[Item]:
    """The shapes of ``folder`` by name; their meshes go to the same places in ``output``, ending with ``suffix``.

    Two files that differ in their suffix alone keep it, before the new one.

    Raises:
        InputError: there is no such folder, or it is ``output``. EmptyInputError: nothing in it can be read.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.", "Give the folder that holds the shapes.")
    if output.resolve() == folder.resolve():
        raise InputError("The meshes would lie among the shapes.", "Give -o another folder.")
    known = {f".{suffix}" for suffix in suffixes() if suffix not in _NO_SHAPES}
    found = sorted(path for path in (folder.rglob("*") if recursive else folder.iterdir()) if _is_shape(path, known))
    found = [path for path in found if output.resolve() not in path.resolve().parents]
    if not found:
        raise EmptyInputError(
            f"No shapes were found in {folder}.",
            "Give a folder of meshes or points; --recursive looks into subfolders.",
        )
    stems = [path.with_suffix("") for path in found]
    names = [path.relative_to(folder) for path in found]
    plain = [stems.count(stem) == 1 for stem in stems]
    ends = [
        name.with_suffix(suffix) if alone else Path(f"{name}{suffix}") for name, alone in zip(names, plain, strict=True)
    ]
    return [Item(name.as_posix(), path, output / end) for name, path, end in zip(names, found, ends, strict=True)]


def _is_shape(path: Path, known: set[str]) -> bool:
    return path.suffix.lower() in known and not path.name.startswith(".") and path.is_file()


def fingerprint(item: Item, settings: Mapping[str, Any]) -> str:
    """What the result depends on: the file's content, the settings, and what computes it."""
    said = hashlib.blake2b(json.dumps([__version__, settings], sort_keys=True).encode(), digest_size=16)
    try:
        with item.source.open("rb") as file:
            while part := file.read(1 << 20):
                said.update(part)
    except OSError as error:  # its fit will fail, and say so
        said.update(str(error.strerror).encode())
    return said.hexdigest()


class Record:
    """What became of each shape, on disk after every change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: dict[str, dict[str, Any]] = _read(path)

    def has(self, item: Item, key: str) -> bool:
        """Whether ``item`` is done, and its mesh is still there."""
        held = self.results.get(item.name, {})
        return held.get("key") == key and "error" not in held and item.output.is_file()

    def done(self, item: Item, key: str, found: Mapping[str, Any]) -> None:
        self._note(item, {"key": key, "mesh": str(item.output.relative_to(self.path.parent)), **found})

    def failed(self, item: Item, key: str, error: SdfError) -> None:
        self._note(item, {"key": key, "error": error.line})

    def failures(self, among: Iterable[Item]) -> dict[str, str]:
        """Why shapes failed, by name."""
        held = ((item.name, self.results.get(item.name, {})) for item in among)
        return {name: entry["error"] for name, entry in held if "error" in entry}

    def _note(self, item: Item, entry: dict[str, Any]) -> None:
        self.results[item.name] = entry
        body = {"format": FORMAT, "results": dict(sorted(self.results.items()))}
        with replacing(self.path) as part:
            part.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """The results in the record at ``path``; none if there is none yet.

    Raises:
        InputError: the file is something else.
    """
    if not path.exists():
        return {}
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        if body["format"] == FORMAT and all(isinstance(entry, dict) for entry in body["results"].values()):
            return dict(body["results"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise InputError(f"{path} is not a record of 'sdfcore fit-many'.", "Remove it, or give -o another folder.")
