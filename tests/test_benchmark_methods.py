"""The suites about methods: whom they measure, the measures themselves, and how their tables judge."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
import trimesh
from matplotlib.image import imread
from torch import nn

from scripts.benchmarks import inputs, meshes, methods, methods_section, official, pace, queries, variants
from scripts.benchmarks.protocol import SrbMeasures
from sdfcore.fields import NeuralSDF
from sdfcore.geometry import Box, Frame, Mesh, PointCloud
from sdfcore.recipes import RECIPES
from sdfcore.surfaces import sample_surface
from sdfcore.writing import write

ROOT = Path(__file__).resolve().parents[1]


def ball(radius: float = 1.0) -> Mesh:
    shape = trimesh.creation.icosphere(4)
    return Mesh(radius * np.array(shape.vertices), np.array(shape.faces))


def test_every_recipe_and_peer_is_measured_once() -> None:
    found = methods.all_methods()
    assert len({m.name for m in found}) == len(found)
    assert {m.recipe for m in found if not m.peer} == {*RECIPES, "auto"}
    assert all(m.normals for m in found if m.recipe in RECIPES and RECIPES[m.recipe].needs_normals)


def test_the_protocol_measures_a_shift_in_the_scans_units() -> None:
    scan = sample_surface(ball(3.0), 2000)
    found = SrbMeasures(ball(3.0), scan, samples=40_000)(ball(3.3))
    for name in ("paper_chamfer", "exact_chamfer", "scan_mean"):
        assert found[name] == pytest.approx(0.3, rel=0.05), name
    assert found["exact_chamfer"] < found["paper_chamfer"]  # samples of the other are farther than its triangles
    assert found["paper_hausdorff"] == pytest.approx(0.3, rel=0.3)


def row(chamfer: float, **more: Any) -> dict[str, Any]:
    return {
        "exact_chamfer": chamfer, "paper_chamfer": chamfer, "paper_hausdorff": 1.0, "scan_mean": 0.1, "seconds": 60.0,
        "components": 1, "euler": 2, "watertight": True, "steps": 10, **more,
    }  # fmt: skip


def body(ours: float) -> dict[str, Any]:
    rows = {"distance": row(ours), "digs, no normals": row(0.01), "poisson 8": row(0.2), "poisson 9": row(0.25)}
    machine = {"cpu": "c", "cores": 2, "system": "s", "date": "d", "versions": {"Python": "3"}}
    settings = {"training": 60, "preset": "balanced", "samples": 10, "resolution": 256, "seed": 0}
    return {"settings": settings, "machine": machine, "rows": {"a": rows}}


def test_our_best_with_normals_is_held_against_the_better_poisson() -> None:
    assert all(bar.passed for bar in methods_section.bars(body(0.205)))
    assert not all(bar.passed for bar in methods_section.bars(body(0.22)))
    text = methods_section.section(body(0.205))
    assert text.index("| digs, no normals |") < text.index("| poisson 8 |") < text.index("| distance |")
    broken = body(0.2)
    broken["rows"]["a"]["sal"] = {"error": "it died"}
    assert "sal on a" in methods_section.bars(broken)[0].found
    assert "it died" in methods_section.section(broken)


def test_the_chart_shows_every_method_that_gave_a_mesh(tmp_path: Path) -> None:
    found = body(0.2)
    found["rows"]["b"] = {"sal, no normals": row(0.3), "igr": {"error": "it died"}}
    methods_section.draw(found, tmp_path / "chart.png")
    empty = body(0.2) | {"rows": {"a": {}}}
    methods_section.draw(empty, tmp_path / "empty.png")
    drawn, blank = (imread(tmp_path / name)[..., :3] for name in ("chart.png", "empty.png"))
    blue = lambda picture: int(((picture[..., 2] > 0.7) & (picture[..., 0] < 0.2)).sum())
    assert blue(drawn) > 50
    assert blue(blank) == 0


def test_rows_of_other_settings_are_not_gone_on_with(tmp_path: Path) -> None:
    record, settings = tmp_path / "rows.json", methods.Settings(training=30.0)
    kept = methods.begun(record, settings, resume=True) | {"rows": {"a": {"sal": row(0.1)}}}
    record.write_text(json.dumps(kept))
    assert methods.begun(record, settings, resume=True)["rows"] == kept["rows"]
    assert methods.begun(record, settings, resume=False)["rows"] == {}
    with pytest.raises(click.ClickException, match="other settings"):
        methods.begun(record, methods.Settings(), resume=True)


def test_the_published_length_is_that_of_fine() -> None:
    settings = methods.Settings(training=None, preset="fine")
    (igr,) = methods.chosen("igr")
    words = methods._command(igr, Path("a"), Path("b"), settings)
    assert words[words.index("--steps") + 1] == str(RECIPES["igr"].sizes["fine"].steps)
    assert "--training" not in words


def test_a_sparse_cloud_is_few_of_the_points_and_a_noisy_one_is_moved() -> None:
    cloud = sample_surface(ball(), 30_000)
    sparse, noisy = variants.spoilt(cloud, 2.0).values()
    assert len(sparse) == variants.FEW
    assert {tuple(p) for p in sparse.points} <= {tuple(p) for p in cloud.points}
    assert np.abs(np.linalg.norm(noisy.points, axis=1) - 1).mean() == pytest.approx(0.01 * 0.8, rel=0.1)
    rows = {"spot": {"igr": row(0.1), "rimls": {"error": "no"}}}
    found = body(0.2) | {"rows": rows}
    assert [bar.passed for bar in variants.bars(found)] == [True]
    assert "0.10000" in variants.section(found, 1.0)
    rows["spot"]["sal"] = {"error": "it died"}
    assert [bar.found for bar in variants.bars(found)] == ["sal on spot"]


def test_sides_are_the_share_of_the_box_that_agrees() -> None:
    assert inputs.sides(ball(), ball()) == 1.0
    shell = 4 / 3 * np.pi * (1 - 0.8**3) / 2.4**3
    assert inputs.sides(ball(0.8), ball()) == pytest.approx(1 - shell, abs=0.01)


def test_normals_are_spoilt_as_the_variant_says() -> None:
    cloud, random = sample_surface(ball(), 3000), np.random.default_rng(0)
    bare, flipped, *noisy = (variant.spoil(cloud, 2.0, random) for variant in inputs.VARIANTS)
    assert bare.normals is None
    assert flipped.normals is not None
    assert cloud.normals is not None
    turned = np.einsum("ni,ni->n", flipped.normals, cloud.normals) < 0
    assert turned.mean() == pytest.approx(inputs.FLIPPED, abs=0.03)
    for share, spoilt in zip(inputs.NOISES, noisy, strict=True):
        assert (spoilt.points - cloud.points).std() == pytest.approx(2.0 * share, rel=0.05)


def test_a_wrong_side_or_a_worse_chamfer_fails_its_bar() -> None:
    good = {"auto": {"watertight": True, "sides": 0.999, "chamfer": 1.0}}
    bad = {"auto": {"watertight": True, "sides": 0.9, "chamfer": 1.0}}
    noise = {"auto": {"chamfer": 1.0}, "poisson 7": {"chamfer": 0.9}, "poisson 8": {"chamfer": 2.0}, "rimls": {}}
    bare, flipped, *noisy = (variant.name for variant in inputs.VARIANTS)
    rows = {bare: dict.fromkeys("abcdefghi", good) | {"j": bad}, flipped: {"a": good, "b": bad}, noisy[0]: {"a": noise}}
    assert [bar.passed for bar in inputs.bars({"rows": rows})] == [True, False, False]


def test_official_is_judged_at_every_budget() -> None:
    known = {
        "ours: siren": {"chamfer": 1.0}, "official: siren": {"chamfer": 2.0}, "ours: digs": {"chamfer": 3.0},
        "official: digs": {"chamfer": 2.0}, "official: steik": {"chamfer": 4.0},
        "ours: auto, no normals": {"chamfer": 1.5},
    }  # fmt: skip
    found = {bar.text: bar.passed for bar in official.bars({"rows": {"anchor": {"30": known, "60": known}}})}
    assert found["siren, 30 s: ours ≤ theirs"]
    assert not found["digs, 30 s: ours ≤ theirs"]
    assert [passed for text, passed in found.items() if text.startswith("without normals")] == [True]


@pytest.mark.parametrize(
    "words",
    [
        ["one_method", "--recipe", "sal", "--preset", "draft", "--steps", "15", "--resolution", "40", "--no-normals"],
        ["one_peer", "hoppe"],
    ],
)
def test_a_method_runs_in_a_process_of_its_own(words: list[str], tmp_path: Path) -> None:
    cloud = sample_surface(ball(), 1500)
    write(tmp_path / "in.ply", PointCloud(cloud.points, cloud.normals))
    files = [str(tmp_path / "in.ply"), str(tmp_path / "out.ply")]
    command = [words[0], *words[1:], *files] if words[0] == "one_peer" else [words[0], *files, *words[1:]]
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "benchmark.py"), *command], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1])["recipe"] in ("sal", "hoppe")
    assert (tmp_path / "out.ply").exists()


class Ball(nn.Module):
    """|x| - radius, some way off."""

    def __init__(self, radius: float, off: float = 0.0) -> None:
        super().__init__()
        self.radius, self.off = radius, off

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.norm(dim=1) - self.radius + self.off


def test_a_field_is_judged_far_away_and_by_its_sides() -> None:
    truth, box = ball(0.5), Box([-0.5] * 3, [0.5] * 3)
    exact = meshes.judged(NeuralSDF(Ball(0.5), Frame(np.zeros(3), 1.0), box), truth, 20_000)
    assert exact["far"] < 2e-3
    assert exact["sides"] > 0.995
    off = meshes.judged(NeuralSDF(Ball(0.5, 0.05), Frame(np.zeros(3), 1.0), box), truth, 20_000)
    assert off["far"] == pytest.approx(0.05, abs=0.005)
    assert off["sides"] == pytest.approx(1 - 4 / 3 * np.pi * (0.5**3 - 0.45**3) / 1.2**3, abs=0.01)
    scaled = meshes.judged(NeuralSDF(Ball(0.5), Frame(np.zeros(3), 4.0), Box([-2.0] * 3, [2.0] * 3)), ball(2.0), 20_000)
    assert scaled["far"] < 2e-3


def test_one_mesh_on_the_wrong_side_fails_its_group() -> None:
    good, bad = {"far": 0.001, "mean": 0.001, "sides": 0.9999}, {"far": 0.02, "mean": 0.02, "sides": 0.98}
    rows = {meshes.CLOSED: {"a": {"distance": good}, "b": {"distance": good}}, meshes.CHAIRS: {"c": {"distance": bad}}}
    assert [bar.passed for bar in meshes.bars({"rows": rows})] == [True, True, False]
    rows[meshes.CLOSED]["b"] = {"distance": {"error": "it died"}}
    assert [bar.passed for bar in meshes.bars({"rows": rows})] == [False, False, False]
    assert "failed" in meshes.section({"rows": rows, "preset": "draft", "machine": body(0.2)["machine"]})


def test_pace_is_the_time_of_the_first_run_that_is_as_exact() -> None:
    run = lambda chamfer, training: {"chamfer": chamfer, "training": training, "preparing": 2.0}
    fast = {"theirs": {"chamfer": 1.0}, "1.0": run(1.5, 1.0), "1.5": run(1.1, 1.5), "2.25": run(0.9, 2.25)}
    slow = {"theirs": {"chamfer": 1.0}, "60.0": run(2.0, 60.0)}
    body = {"rows": {"a": fast, "b": fast, "c": slow}, "preset": "draft", "machine": MACHINE}
    assert pace.factors(body, prepared=False) == pytest.approx([80.0, 80.0, 0.0])
    assert pace.factors(body, prepared=True) == pytest.approx([180 / 4.25, 180 / 4.25, 0.0])
    (bar,) = pace.bars(body)
    assert bar.passed
    assert "80" in pace.section(body)
    assert "`c`" in pace.section(body)


MACHINE = {"cpu": "c", "cores": 2, "system": "s", "date": "d", "versions": {"Python": "3"}}


def test_queries_are_judged_part_by_part() -> None:
    certain = {"same": True, "share": 0.05, "doubtful": 3, "islands": 0, "components": 1, "euler": 2, "seconds": 1.0}
    rays = {"aside": 0.1, "agree": 0.9995, "depth": 0.1, "depth99": 5e-4, "each": 40.0, "seconds": 2.0}
    naive = {"naive_wrong": 0.2, "naive_each": 9.0}
    body = {"machine": MACHINE, "rows": {"niq_fox": {"certain": certain, "rays": {**rays, **naive}}}}
    assert [bar.passed for bar in queries.bars(body)] == [True] * 5
    body["rows"]["niq_fox"]["certain"] = {**certain, "same": False, "share": 0.2}
    body["rows"]["niq_fox"]["rays"] = {**rays, **naive, "naive_wrong": 0.0}
    assert [bar.passed for bar in queries.bars(body)] == [False, False, True, True, False]
    body["rows"] = {
        "sphere": {"exact": {"low": 4.0, "high": 4.1, "exact": 4.19, "holds": False, "bounds": 9, "seconds": 1.0}}
    }
    assert [bar.passed for bar in queries.bars(body)] == [False]
    body["rows"] = {"niq_fox": {"certain": {**certain, "same": False, "share": 0.2}}}
    assert "20.00%" in queries.section(body)
