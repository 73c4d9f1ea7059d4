"""Who may import whom: Blender never meets torch, the library never meets Blender, and imports point one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "sdfcore").rglob("*.py"))
ADDON = sorted((ROOT / "blender_addon").rglob("*.py"))

LIGHT = {"", "errors", "geometry", "protocol"}  # of sdfcore: what imports without torch, and what the add-on may use
HEAVY = ("torch", "skimage", "trimesh", "scipy", "igl", "safetensors", "matplotlib", "pymeshlab")
WITHOUT_BPY = {"engine", "interpreter", "jobs", "news", "states", "install"}

#: Each level imports only from those before it. Modules that are not listed may stand anywhere but below their imports.
ORDER = (
    {"errors"},
    {"geometry", "files"},
    {"fields", "protocol", "topology"},
    {"networks", "sampling"},
    {"objectives"},
    {"recipe", "descent"},
    {"recipes"},
    {"planning"},
    {"fitting"},
    {"report", "requests"},
    {"fit_request"},
    {"worker", "cli"},
)


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(dotted name, whether it runs when the module is imported) of everything ``path`` imports, relative with dots."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy: set[ast.AST] = set()
    for node in ast.walk(tree):
        deferred = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if deferred or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
            lazy.update(ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node not in lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            if node.module is None:  # from . import a, b
                yield from ((base + alias.name, node not in lazy) for alias in node.names)
            else:
                yield base, node not in lazy


def names(path: Path) -> set[str]:
    return {name for name, _ in imports(path)}


def siblings(path: Path) -> set[str]:
    """The modules of sdfcore that importing ``path`` runs, by their first name."""
    dots = len(path.relative_to(ROOT / "sdfcore").parts)
    own = "." * dots
    found = {name[dots:].split(".")[0] for name, now in imports(path) if now and name.startswith(own)}
    return {name for name in found if name and name[0] != "."}


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", LIBRARY, ids=label)
def test_the_library_never_names_blender(path: Path) -> None:
    assert not {name for name in names(path) if name.split(".")[0] in ("bpy", "bmesh", "mathutils", "blender_addon")}


@pytest.mark.parametrize("path", ADDON, ids=label)
def test_the_addon_uses_three_modules_of_the_library_and_nothing_heavy(path: Path) -> None:
    found = names(path)
    assert not {name for name in found if name.split(".")[0] in HEAVY}
    reached = {
        name.removeprefix("..sdfcore").strip(".").split(".")[0] for name in found if name.startswith("..sdfcore")
    }
    assert reached <= LIGHT


def test_the_addons_imports_of_the_library_are_found() -> None:
    """The test above reads ``from ..sdfcore import x`` as ``..sdfcore``: what is taken from there is looked at here."""
    for path in ADDON:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 2 and node.module == "sdfcore":
                assert {alias.name for alias in node.names} <= LIGHT | {"__version__"}, label(path)


@pytest.mark.parametrize("path", [*LIBRARY, *ADDON], ids=label)
def test_our_own_modules_are_imported_relatively(path: Path) -> None:
    assert not {name for name in names(path) if name.split(".")[0] in ("sdfcore", "blender_addon", "bl_ext")}


@pytest.mark.parametrize("name", sorted(WITHOUT_BPY))
def test_what_needs_no_blender_does_not_import_it(name: str) -> None:
    path = ROOT / "blender_addon" / f"{name}.py"
    assert not {n for n in names(path) if n.split(".")[0] in ("bpy", "bmesh", "mathutils")}
    near = {n.lstrip(".") for n in names(path) if n.startswith(".") and not n.startswith("..")}
    assert near <= WITHOUT_BPY


def test_imports_of_the_library_point_one_way() -> None:
    rank = {name: level for level, members in enumerate(ORDER) for name in members}
    wrong = [
        f"{label(path)} imports {name}"
        for path in LIBRARY
        if path.parent.name == "sdfcore" and path.stem in rank
        for name in siblings(path)
        if rank.get(name, -1) >= rank[path.stem]
    ]
    assert wrong == []


def test_imports_of_the_library_go_round_nowhere() -> None:
    graph = {path.stem: siblings(path) for path in LIBRARY if path.parent.name == "sdfcore" and path.stem != "__init__"}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " → ".join([*above, name])
        if name not in done:
            for below in sorted(graph.get(name, ())):
                visit(below, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_extraction_knows_fields_and_nothing_of_fitting() -> None:
    seen, waiting = set[str](), ["extraction"]
    while waiting:
        name = waiting.pop()
        path = ROOT / "sdfcore" / f"{name}.py"
        if name not in seen and path.exists():
            seen.add(name)
            waiting += siblings(path)
    assert not seen & {"fitting", "objectives", "sampling", "recipes", "worker", "requests", "cli"}


@pytest.mark.parametrize("module", ["sdfcore", "sdfcore.errors", "sdfcore.geometry", "sdfcore.protocol"])
def test_the_light_modules_import_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([n for n in {HEAVY} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_worker_listens_before_torch_is_imported() -> None:
    code = "import sys, sdfcore.worker, sdfcore.fit_request, sdfcore.requests; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
