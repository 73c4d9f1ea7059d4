"""The suite ``scaling``: exponents and verdicts from rows, its shapes, and a small run through the real processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.spatial import cKDTree

from scripts import benchmark
from scripts.benchmarks import document, scaling
from scripts.benchmarks.one_scale import bumpy, bumpy_mesh, even_directions
from sdfcore.topology import topology


def body(**kinds: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {"machine": document.machine(), "commit": "abc", "kinds": kinds}


def rows(values: list[int], seconds: list[float], mib: list[float]) -> dict[str, dict[str, Any]]:
    times = ("seconds", "reading", "preparing", "fitting", "extracting", "learning")
    return {
        str(v): {**dict.fromkeys(times, s), "peak_mib": m} for v, s, m in zip(values, seconds, mib, strict=True)
    }  # fmt: skip


def test_exponents_are_of_the_larger_values() -> None:
    found = rows([10, 100, 1000, 10_000], [5, 1, 100, 10_000], [1] * 4)
    assert scaling.exponent(found, "seconds", 100) == pytest.approx(2.0)
    assert np.isnan(scaling.exponent(found, "seconds", 10_000))


@pytest.mark.parametrize(
    ("kinds", "passed"),
    [
        ({"resolution": rows([128, 256], [1, 4], [300, 400])}, [True, True]),
        ({"resolution": rows([128, 256], [1, 5], [300, 5000])}, [False, False]),
        ({"points": rows([10**6, 10**7], [1, 2], [1000, 2000])}, [True, True]),
        ({"points": rows([10**6, 10**7], [1, 2], [1000, 4090])}, [True, False]),
        ({"triangles": rows([10**6], [1], [4100])}, [False]),
        ({"shapes": rows([8, 32, 128], [1, 4, 16], [1] * 3)}, [True]),
        ({"shapes": rows([8, 32, 128], [1, 6, 36], [1] * 3)}, [False]),
    ],
)
def test_bars_are_of_what_was_run(kinds: dict[str, Any], passed: list[bool]) -> None:
    assert [bar.passed for bar in scaling.bars(body(**kinds))] == passed
    text = scaling.section(body(**kinds))
    assert "python scripts/benchmark.py scaling" in text
    assert "Exponents" in text


def test_its_shapes_are_what_they_say() -> None:
    cloud = bumpy(even_directions(20_000))
    near, far = cKDTree(cloud.points).query(cloud.points, k=2)
    assert near[:, 1].std() < 0.2 * near[:, 1].mean()  # evenly spread
    assert cloud.normals is not None
    steps = cloud.points[far[:, 1]] - cloud.points
    tilt = np.abs(np.einsum("ni,ni->n", steps, cloud.normals)) / np.linalg.norm(steps, axis=1)
    assert np.quantile(tilt, 0.99) < 0.05  # neighbours lie in the tangent plane
    mesh = bumpy_mesh(5000)
    assert len(mesh.faces) == pytest.approx(5000, rel=0.05)
    found = topology(mesh)
    assert (found.watertight, found.components, found.euler) == (True, 1, 2)
    assert mesh.volume() == pytest.approx(4 / 3 * np.pi * 0.7**3, rel=0.05)


def test_a_small_run_measures_and_draws(tmp_path: Path) -> None:
    record, output = tmp_path / "scaling.json", tmp_path / "docs.md"
    words = ["scaling", "--json", str(record), "--output", str(output), "--threads", "1", "--resume"]
    for kinds, largest in (("width,shapes", "64"), ("points", "10000")):
        done = CliRunner().invoke(benchmark.benchmarks, [*words, "--kinds", kinds, "--largest", largest])
        assert record.exists(), done.output
    found = json.loads(record.read_text())["kinds"]
    assert {name: [*rows] for name, rows in found.items()} == {
        "width": ["32", "64"], "shapes": ["8", "32"], "points": ["10000"],
    }  # fmt: skip
    assert found["width"]["64"]["milliseconds"] > 0
    assert found["points"]["10000"]["fitting"] > 0
    assert found["shapes"]["8"]["learning"] > 0
    assert (tmp_path / "scaling.png").stat().st_size > 10_000
    assert "## Scaling" in output.read_text()
