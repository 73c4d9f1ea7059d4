"""What is reconstructed: points with normals, and the truth they came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from sdfcore.geometry import Box, Mesh, PointCloud
from sdfcore.metrics import Comparison, compare
from sdfcore.reading import read
from sdfcore.surfaces import outward, sample_surface
from sdfcore.topology import topology, weld

SHAPES, SCANS = "shapes", "scans"
_LENGTHS = ("chamfer", "chamfer_to_truth", "chamfer_to_result", "hausdorff", "p99", "threshold")


@dataclass(frozen=True)
class Case:
    """A truth to be found again: from samples of it (``shapes``), or from a scan of it (``scans``)."""

    name: str
    truth: Path
    scan: Path | None = None

    @property
    def kind(self) -> str:
        return SHAPES if self.scan is None else SCANS


@dataclass(frozen=True, eq=False)
class Subject:
    """A case with its geometry. ``half``: half the longest side of the truth's box, the unit of all lengths."""

    case: Case
    truth: Mesh
    cloud: PointCloud

    @property
    def half(self) -> float:
        return float(Box.around(self.truth.vertices).size.max()) / 2

    def description(self) -> dict[str, Any]:
        """JSON values that tell this subject from another of the same name."""
        found = topology(self.truth)
        return {
            "kind": self.case.kind,
            "points": len(self.cloud),
            "vertices": len(self.truth.vertices),
            "faces": len(self.truth.faces),
            "half": self.half,
            "watertight": found.watertight,
            "components": found.components,
            "euler": found.euler,
        }

    def compared(self, result: Mesh, samples: int) -> dict[str, Any]:
        """``result`` against the truth, lengths as fractions of ``half``; and whether the topology is right."""
        found: Comparison = compare(result, self.truth, samples=samples)
        values = found.as_dict()
        truth = topology(self.truth)
        return {
            **values,
            **{name: values[name] / self.half for name in _LENGTHS},
            "right_components": found.components == truth.components,
            "right_euler": found.euler == truth.euler,
        }


def cases(data: Path, names: tuple[str, ...] = ()) -> list[Case]:
    """The shapes whose name does not say analytic, then the scans that have a truth; of these, ``names`` if given.

    Raises:
        click.BadParameter: there are none, or not all of ``names``.
    """
    shapes = [path for path in _files(data / "shapes") if "analytic" not in path.name]
    scans = [path for path in _files(data / "scans" / "srb") if not path.stem.endswith("_truth")]
    pairs = [(path.with_name(f"{path.stem}_truth{path.suffix}"), path) for path in scans]
    found = [Case(path.stem, path) for path in shapes] + [Case(p.stem, t, p) for t, p in pairs if t.exists()]
    unknown = sorted(set(names) - {case.name for case in found})
    if unknown or not found:
        known = ", ".join(case.name for case in found) or "none"
        raise click.BadParameter(f"no {', '.join(unknown) or 'shapes'} in {data}; there are: {known}")
    return [case for case in found if not names or case.name in names]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


def load(case: Case, points: int, seed: int = 0) -> Subject:
    """The truth, welded, and its ``points`` area-weighted samples; or the scan, all of it."""
    read_truth = read(case.truth)
    if not isinstance(read_truth, Mesh):
        raise click.ClickException(f"{case.truth.name} holds no mesh.")
    rows, faces = weld(read_truth.vertices, read_truth.faces)
    truth = outward(Mesh(read_truth.vertices[rows], faces))
    cloud = sample_surface(truth, points, seed) if case.scan is None else read(case.scan)
    if not isinstance(cloud, PointCloud) or cloud.normals is None:
        raise click.ClickException(f"{case.name} gives no points with normals.")
    return Subject(case, truth, PointCloud(cloud.points, cloud.normals))
