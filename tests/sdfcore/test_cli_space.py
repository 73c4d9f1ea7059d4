"""``sdfcore space``: what each command writes, one line on errors, and nothing left behind by them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from matplotlib.image import imread
from small_fits import one_thread

from sdfcore import cli, spaces, storage, writing
from sdfcore.command_shapes import weights_of, whole_folder
from sdfcore.console import Console
from sdfcore.errors import InputError
from sdfcore.geometry import Mesh, PointCloud
from sdfcore.reading import read
from sdfcore.spaces.pictures import far_apart, moved_apart
from sdfcore.spaces.sizes import SIZES, SpaceSize
from sdfcore.surfaces import sample_surface

TINY = SpaceSize(width=32, depth=3, code_size=4, octaves=0, steps=40, shapes=2, points=128, pool=6000)
AXES = {"ball": (1.0, 1.0, 1.0), "flat": (1.2, 1.2, 0.6), "long": (1.5, 0.7, 0.7)}


def ellipsoid(name: str) -> Mesh:
    shape = trimesh.creation.icosphere(2)
    return Mesh(np.array(shape.vertices) * np.array(AXES[name]) + np.array([3.0, 0.0, 0.0]), np.array(shape.faces))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def space_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "tiny.safetensors"
    with one_thread():
        space = spaces.learn({name: ellipsoid(name) for name in AXES}, size=TINY, steps=250, samples=3000, device="cpu")
    spaces.save(space, path)
    return path


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    folder = tmp_path / "shapes"
    folder.mkdir()
    for name in AXES:
        writing.write(folder / f"{name}.ply", ellipsoid(name))
    (folder / "notes.txt").write_text("not a shape")
    (folder / ".hidden.ply").write_text("nor this")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "draft", TINY)


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = cli.main(["space", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def assert_one_line(text: str, *says: str) -> None:
    assert text.startswith("sdfcore: ")
    assert text.count("\n") == 1
    for word in says:
        assert word in text


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mesh_of(path: Path) -> Mesh:
    found = read(path)
    assert isinstance(found, Mesh)
    return found


# Errors -------------------------------------------------------------------------------------------------------------


def test_help_costs_neither_torch_nor_a_mesh_library() -> None:
    code = (
        "import sys; from sdfcore import cli\n"
        "for words in ([], ['--help'], ['learn', '--help'], ['learn']): cli.main(['space', *words])\n"
        "print({'torch', 'trimesh', 'matplotlib', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("learn", "FOLDER"),
        ("learn a.ply", "--output"),
        ("learn a.ply -o s.ply", ".safetensors"),
        ("learn a.ply -o s.safetensors --steps 5 --seconds 5", "--seconds and --steps"),
        ("learn a.ply -o s.safetensors --epochs 5 --steps 5", "--epochs and --steps"),
        ("learn a.ply -o s.safetensors --report r.txt", ".json"),
        ("learn a.ply -o s.safetensors --checkpoint no/c.safetensors", "no folder"),
        ("learn a.ply -o s.safetensors --code-size 0", "--code-size"),
        ("learn a.ply -o s.safetensors", "a.ply"),
        ("show a.safetensors", "a.safetensors"),
        ("show a.safetensors -o a.jpg", ".png"),
        ("decode a.safetensors -o b.ply", "No shape"),
        ("decode a.safetensors ball -o b.ply --weights ball=1", "NAME and --weights"),
        ("decode a.safetensors -o b.txt ball", ".ply"),
        ("decode a.safetensors -o b.ply --weights ball", "--weights"),
        ("decode a.safetensors -o b.ply --weights ball=1,ball=2", "once"),
        ("decode a.safetensors -o b.ply --weights ball=x", "'x'"),
        ("decode a.safetensors -o b.ply --amounts 1,nan", "'nan'"),
        ("decode a.safetensors -o b.ply ball --save m.pt", ".safetensors"),
        ("decode a.safetensors -o b.ply ball --level inf", "--level"),
        ("sample a.safetensors -o b.ply --spread -1", "--spread"),
        ("interpolate a.safetensors ball -o f", "B"),
        ("interpolate a.safetensors ball flat -o f.mp4", ".glb"),
        ("interpolate a.safetensors ball flat -o no/f", "no folder"),
        ("interpolate a.safetensors ball flat -o f --frames 1", "--frames"),
        ("complete a.safetensors b.ply -o b.ply", "the same"),
        ("complete a.safetensors b.ply -o c.txt", ".ply"),
        ("import nowhere -o s.safetensors", "nowhere"),
        ("import . -o s.ply", ".safetensors"),
        ("import . -o s.safetensors", "specs.json"),
    ],
)
def test_bad_arguments(
    words: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *words.split())
    assert (code, out) == (2, "")
    assert_one_line(err, says)
    assert names_in(tmp_path) == []


def test_unknown_shapes_are_named(space_file: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["decode", space_file, "cube", "-o", out / "o.ply"],
        ["decode", space_file, "--weights", "cube=1", "-o", out / "o.ply"],
        ["interpolate", space_file, "ball", "cube", "-o", out / "frames"],
    ):
        code, _, err = run(capsys, *words)
        assert code == 2
        assert_one_line(err, "'cube'", "ball, flat, long")
    assert names_in(out) == []


def test_another_file_is_no_space(shapes: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "decode", shapes / "ball.ply", "ball", "-o", out / "o.ply")
    assert code == 2
    assert_one_line(err, "ball.ply")
    assert names_in(out) == []


@pytest.mark.usefixtures("small_sizes")
def test_what_cannot_be_learned_from(shapes: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learn = ["-o", out / "s.safetensors", "--preset", "draft", "--steps", 2, "--samples", 500]
    (out.parent / "empty").mkdir()
    (out.parent / "more").mkdir()
    writing.write(out.parent / "more" / "ball.obj", ellipsoid("ball"))
    for words, says in (
        ([out.parent / "empty"], ["no meshes"]),
        ([shapes / "ball.ply"], ["two shapes"]),
        ([shapes, out.parent / "more"], ["ball.ply", "ball.obj", "'ball'"]),
    ):
        code, _, err = run(capsys, "learn", *words, *learn)
        assert code == 2
        assert_one_line(err, *says)
    (shapes / "bad.ply").write_text("this is no mesh")
    (shapes / "worse.obj").write_text("")
    code, _, err = run(capsys, "learn", shapes, *learn)
    assert code == 2
    assert_one_line(err, "bad.ply", "worse.obj")
    assert names_in(out) == []


def test_failed_frames_leave_no_folder(
    space_file: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = []

    def fail(path: Path, mesh: Mesh) -> None:
        written.append(path.name)
        path.write_bytes(b"half")
        if len(written) == 2:
            raise OSError(28, "No space left on device", "frames")

    monkeypatch.setattr(writing, "write", fail)
    code, _, err = run(capsys, "interpolate", space_file, "ball", "flat", "--resolution", 16, "-o", out / "frames")
    assert code == 2
    assert_one_line(err, "No space left")
    assert written == ["frame_000.ply", "frame_001.ply"]
    assert names_in(out) == []


def test_a_folder_that_is_there_keeps_what_it_holds(out: Path) -> None:
    (out / "kept.txt").write_text("kept")
    (out / "a.txt").write_text("old")

    def broken() -> None:
        with whole_folder(out) as folder:
            (folder / "a.txt").write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert (out / "a.txt").read_text() == "old"
    with whole_folder(out) as folder:
        (folder / "a.txt").write_text("new")
    assert (out / "a.txt").read_text() == "new"
    assert names_in(out) == ["a.txt", "kept.txt"]
    assert names_in(out.parent) == ["out"]


def test_names_may_hold_equals_signs() -> None:
    assert weights_of("a=b=0.5, c=-1") == {"a=b": 0.5, "c": -1.0}
    with pytest.raises(InputError):
        weights_of("=1")


# Learning -----------------------------------------------------------------------------------------------------------


def quick(shapes: Path, out: Path, *more: object) -> tuple[object, ...]:
    options = ("--preset", "draft", "--samples", 1000, "--device", "cpu")
    return ("learn", shapes, "-o", out / "s.safetensors", *options, *more)


@pytest.mark.usefixtures("small_sizes")
def test_learn_writes_a_space_and_a_report(shapes: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--report", out / "r.json", "--checkpoint", out / "c.safetensors", "--code-size", 3, "--together")
    code, said, _ = run(capsys, *quick(shapes, out, "--epochs", 20, *more))
    assert code == 0
    assert said.count("\n") == 1
    assert "3 shapes in codes of 3" in said
    assert "30 steps" in said  # two of three shapes each
    space = spaces.load(out / "s.safetensors")
    assert space.names == ["ball", "flat", "long"]
    assert len({shape.frame.scale for shape in space}) == 1
    report = json.loads((out / "r.json").read_text(), parse_constant=pytest.fail)
    assert (report["recipe"], report["steps"], report["processes"], report["stopped"]) == ("regression", 30, 1, False)
    assert report["history"]["step"][-1] == 30
    assert report["history"]["loss"][-1] < report["history"]["loss"][0]
    assert {"reading", "learning", "total"} <= set(report["seconds"])
    assert sum(report["explained"]) == pytest.approx(1.0)
    assert names_in(out) == ["c.safetensors", "r.json", "s.safetensors"]
    assert cli.main(["plot", str(out / "r.json")]) == 0
    assert (out / "r_loss.png").exists()


@pytest.mark.usefixtures("small_sizes")
def test_learn_with_an_encoder(shapes: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, *quick(shapes, out, "--steps", 3, "--encoder"))[0] == 0
    assert spaces.load(out / "s.safetensors").encoder is not None
    code, said, _ = run(capsys, "show", out / "s.safetensors")
    assert (code, "with an encoder" in said) == (0, True)


@pytest.mark.usefixtures("small_sizes")
@pytest.mark.parametrize(("presses", "code"), [(1, 0), (2, 130)])
def test_ctrl_c_once_keeps_and_twice_drops(
    presses: int,
    code: int,
    shapes: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def press(console: Console, progress: Any) -> None:
        if progress.step == 5:
            for _ in range(presses):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Console, "update", press)
    found, said, err = run(capsys, *quick(shapes, out, "--steps", 1000))
    assert found == code
    assert "Stopping here" in err
    assert names_in(out) == (["s.safetensors"] if presses == 1 else [])
    if presses == 1:
        assert "5 steps (stopped)" in said
        assert spaces.load(out / "s.safetensors").info["steps"] == 5


# Looking at a space -------------------------------------------------------------------------------------------------


def test_show_says_and_draws(space_file: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said, _ = run(capsys, "show", space_file, "-o", out / "p.png")
    assert code == 0
    for word in ("3 shapes", "codes of 4", "regression", "ball  flat  long", str(out / "p.png")):
        assert word in said
    shares = [float(word) for word in said.replace("%", " ").split() if word.replace(".", "").isdigit() and "." in word]
    assert sum(shares) == pytest.approx(100, abs=0.3)
    picture = imread(out / "p.png")[..., :3]
    clay = (picture.max(axis=2) - picture.min(axis=2) < 0.2) & (picture.mean(axis=2) < 0.92)
    assert 0.02 < clay.mean() < 0.6  # three bodies, not a blank sheet


def test_views_lie_apart_and_near_their_places() -> None:
    rng = np.random.default_rng(0)
    places = rng.uniform(400, 600, (12, 2))
    places[1] = places[0]
    moved = moved_apart(places, 100.0, np.array([[0.0, 0.0], [1000.0, 1000.0]]))
    gaps = np.linalg.norm(moved[:, None] - moved[None], axis=2)[np.triu_indices(12, 1)]
    assert gaps.min() > 85
    assert (moved >= 50).all()
    assert (moved <= 950).all()
    assert np.linalg.norm(moved - places, axis=1).max() < 350
    alone = np.array([[100.0, 100.0], [800.0, 800.0]])
    assert np.abs(moved_apart(alone, 100.0, np.array([[0.0, 0.0], [1000.0, 1000.0]])) - alone).max() < 15


def test_of_many_places_those_far_apart_are_shown() -> None:
    corners = np.array([[0, 0], [9, 0], [0, 9], [9, 9]], dtype=float)
    places = np.concatenate([np.random.default_rng(0).normal(4.5, 0.5, (500, 2)), corners])
    assert set(far_apart(places, 4)) == {500, 501, 502, 503}
    assert sorted(far_apart(np.zeros((3, 2)), 40)) == [0, 1, 2]


# Shapes of a space --------------------------------------------------------------------------------------------------


def test_decode_by_name_weights_and_amounts(space_file: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ("--resolution", 32)
    save = ("--save", out / "m.safetensors")
    assert run(capsys, "decode", space_file, "long", "-o", out / "name.ply", *small, *save)[0] == 0
    assert run(capsys, "decode", space_file, "--weights", "long=1", "-o", out / "weight.ply", *small)[0] == 0
    assert run(capsys, "decode", space_file, "--weights", "long=1,flat=3", "-o", out / "blend.ply", *small)[0] == 0
    assert run(capsys, "decode", space_file, "--amounts", "-1,0.5", "-o", out / "amount.ply", *small)[0] == 0
    name, weight, blend = (mesh_of(out / f"{n}.ply") for n in ("name", "weight", "blend"))
    assert (name.vertices == weight.vertices).all()
    size = np.ptp(name.vertices, axis=0)
    assert size == pytest.approx([3.0, 1.4, 1.4], abs=0.35)
    assert name.vertices.mean(axis=0) == pytest.approx([3, 0, 0], abs=0.15)
    assert size[1] < np.ptp(blend.vertices[:, 1]) < 2.6
    sdf, space = storage.load(out / "m.safetensors"), spaces.load(space_file)
    assert sdf(torch.tensor(name.vertices)).abs().max() < 0.02
    amount = torch.tensor(mesh_of(out / "amount.ply").vertices)
    assert space.decode(space.explore([-1, 0.5]))(amount).abs().max() < 0.02
    assert cli.main(["mesh", str(out / "m.safetensors"), "-o", str(out / "again.ply")]) == 0
    assert (mesh_of(out / "again.ply").vertices == name.vertices).all()


def test_levels_are_world_units(space_file: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("decode", space_file, "ball", "-o", out / "o.ply", "--resolution", 32, "--level", 0.1)
    assert run(capsys, *words)[0] == 0
    space = spaces.load(space_file)
    values = space.decode(space["ball"])(torch.tensor(mesh_of(out / "o.ply").vertices))
    assert float(values.median()) == pytest.approx(0.1, abs=5e-3)


def test_samples_differ_by_seed(space_file: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        words = ("sample", space_file, "-o", out / f"{name}.ply", "--seed", seed, "--spread", 0.8, "--resolution", 24)
        assert run(capsys, *words)[0] == 0
    a, b, c = (mesh_of(out / f"{name}.ply") for name in "abc")
    assert np.array_equal(a.vertices, b.vertices)
    assert not np.array_equal(a.vertices, c.vertices)


def test_interpolate_writes_frames_through_all_stops(
    space_file: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("interpolate", space_file, "ball", "flat", "--path", "long", "--frames", 5, "--resolution", 24)
    code, said, _ = run(capsys, *words, "-o", out / "frames")
    assert code == 0
    assert "5 frames from ball to flat to long" in said
    assert names_in(out) == ["frames"]
    assert names_in(out / "frames") == [f"frame_{i:03d}.ply" for i in range(5)]
    space = spaces.load(space_file)
    for number, name in ((0, "ball"), (2, "flat"), (4, "long")):
        vertices = torch.tensor(mesh_of(out / "frames" / f"frame_{number:03d}.ply").vertices)
        assert float(space.decode(space[name])(vertices).abs().median()) < 2e-3


def test_frames_go_beside_what_they_are_made_of_and_never_over_it(
    shapes: Path, space_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, scan = shapes / "own.safetensors", shapes / "frame_001.ply"
    own.write_bytes(space_file.read_bytes())
    (shapes / "long.ply").rename(scan)
    before, words = scan.read_bytes(), ("--frames", 2, "--resolution", 16, "-o", shapes)
    code, _, err = run(capsys, "interpolate", own, "ball", scan, *words)
    assert code == 2
    assert_one_line(err, "holds what is interpolated", "name of its own")
    assert run(capsys, "interpolate", own, "ball", "flat", *words[:-1], shapes / "way")[0] == 0
    assert scan.read_bytes() == before
    scan.unlink()
    assert run(capsys, "interpolate", own, "ball", "flat", *words)[0] == 0
    assert {"frame_000.ply", "frame_001.ply", "own.safetensors"} <= set(names_in(shapes))


def test_one_scene_holds_all_frames_side_by_side(
    space_file: Path, shapes: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last stop is a file: its code is inferred."""
    monkeypatch.setattr(spaces, "Infer", partial(spaces.Infer, steps=60))
    words = ("interpolate", space_file, "ball", shapes / "long.ply", "--frames", 3, "--resolution", 24, "--spherical")
    assert run(capsys, *words, "-o", out / "f.glb")[0] == 0
    assert names_in(out) == ["f.glb"]
    scene = trimesh.load(out / "f.glb")
    assert sorted(scene.graph.nodes_geometry) == ["frame_000", "frame_001", "frame_002"]
    parts = [scene.graph[f"frame_{i:03d}"] for i in range(3)]
    spans = [scene.geometry[name].bounds[:, 0] + place[0, 3] for place, name in parts]
    assert spans[0][1] < spans[1][0]
    assert spans[1][1] < spans[2][0]
    last = scene.geometry[parts[2][1]].bounds
    assert last[1] - last[0] == pytest.approx([3.0, 1.4, 1.4], abs=0.4)


def test_complete_marks_what_was_scanned_and_measures(
    space_file: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = sample_surface(ellipsoid("flat"), 3000, 0)
    writing.write(out / "scan.ply", cloud.take(cloud.points[:, 0] < 3.2))
    writing.write(out / "truth.ply", ellipsoid("flat"))
    words = ("complete", space_file, out / "scan.ply", "-o", out / "o.ply", "--no-tune", "--resolution", 32)
    more = ("--truth", out / "truth.ply", "--report", out / "r.json", "--seconds", 9, "--save", out / "m.safetensors")
    code, said, _ = run(capsys, *words, *more)
    assert code == 0
    assert "watertight" in said
    assert "hidden" in said
    plain = trimesh.load(out / "o.ply", process=False)
    columns = plain.metadata["_ply_raw"]["vertex"]["data"]
    seen = np.asarray(columns["observed_mask"]).reshape(-1) > 0.5
    assert plain.vertices[seen, 0].mean() < 3.1 < 3.6 < plain.vertices[~seen, 0].mean()
    assert np.asarray(columns["observed"]).reshape(-1)[~seen].min() > 0.02
    report = json.loads((out / "r.json").read_text(), parse_constant=pytest.fail)
    errors = report["errors_by_part"]
    assert 0 < errors["observed"] < 0.15
    assert 0 < errors["hidden"] < 0.3
    assert 0.4 < errors["observed_share"] < 0.9
    assert 0 < report["metrics"]["chamfer"] < 0.2
    assert report["tuned"] is False
    assert names_in(out) == ["m.safetensors", "o.ply", "r.json", "scan.ply", "truth.ply"]


def test_truth_must_have_faces(space_file: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writing.write(out / "scan.ply", sample_surface(ellipsoid("flat"), 300, 0))
    words = ("complete", space_file, out / "scan.ply", "-o", out / "o.ply")
    code, _, err = run(capsys, *words, "--truth", out / "scan.ply", "--report", out / "r.json")
    assert code == 2
    assert_one_line(err, "without faces")
    assert names_in(out) == ["scan.ply"]


def test_import_makes_a_space_that_decodes(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a network made by hand: |x| + |y| + |z| - 0.5 - code, by one hidden layer."""
    folder = out.parent / "experiment"
    for name in ("ModelParameters", "LatentCodes"):
        (folder / name).mkdir(parents=True)
    hidden = torch.zeros(8, 4)  # columns: code, x, y, z
    for axis in range(3):
        hidden[2 * axis, 1 + axis], hidden[2 * axis + 1, 1 + axis] = 1.0, -1.0
    hidden[6, 0] = 1.0
    outer = torch.tensor([[1.0, 1, 1, 1, 1, 1, -1, 0]])
    state = {
        "lin0.weight": hidden,
        "lin0.bias": torch.zeros(8),
        "lin1.weight": outer,
        "lin1.bias": torch.tensor([-0.5]),
    }
    torch.save({"model_state_dict": state}, folder / "ModelParameters" / "latest.pth")
    torch.save({"latent_codes": {"weight": torch.tensor([[0.0], [0.2]])}}, folder / "LatentCodes" / "latest.pth")
    specs = {"dims": [8], "norm_layers": [], "latent_in": [], "weight_norm": False}
    (folder / "specs.json").write_text(json.dumps({"NetworkSpecs": specs, "CodeLength": 1}))
    code, said, _ = run(capsys, "import", folder, "-o", out / "s.safetensors")
    assert (code, "2 shapes in codes of 1" in said) == (0, True)
    for name, radius in (("0000", 0.5), ("0001", 0.7)):  # octahedra
        assert run(capsys, "decode", out / "s.safetensors", name, "-o", out / "o.ply", "--resolution", 40)[0] == 0
        vertices = mesh_of(out / "o.ply").vertices
        assert np.abs(vertices).sum(axis=1) == pytest.approx(np.full(len(vertices), radius), abs=0.02)
    assert run(capsys, "show", out / "s.safetensors")[0] == 0


def test_pictures_of_a_way_and_of_a_completion(space_file: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = out / "scan.ply"
    points = np.array(trimesh.creation.icosphere(3).vertices)
    writing.write(scan, PointCloud(points[points[:, 0] > 0], points[points[:, 0] > 0]))
    words = ("interpolate", space_file, "ball", "long", "--frames", 3, "--resolution", 24, "-o", out / "frames")
    assert run(capsys, *words, "--picture", out / "way.png")[0] == 0
    words = ("complete", space_file, scan, "-o", out / "whole.ply", "--no-tune", "--seconds", 3, "--resolution", 24)
    assert run(capsys, *words, "--picture", out / "seen.png")[0] == 0
    way, seen = imread(out / "way.png")[..., :3], imread(out / "seen.png")[..., :3]
    assert way.shape[1] / seen.shape[1] == pytest.approx(3 / 4, abs=0.01)
    for panel in np.array_split(way, 3, axis=1):
        assert (panel.min(axis=2) < 0.9).mean() > 0.02, "a shape is drawn"
    orange = (seen[..., 0] - seen[..., 2]) > 0.2
    shares = [float(panel.mean()) for panel in np.array_split(orange, 4, axis=1)]
    assert max(shares) > 0.02 + 2 * min(shares), "what was not scanned is orange, and lies on one side"
