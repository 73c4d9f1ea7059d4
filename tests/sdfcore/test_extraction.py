"""Extraction against exact shapes and against a dense evaluation."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from sdfcore.errors import InputError, NoSurfaceError
from sdfcore.extraction import estimate_seconds, extract, extract_sdf
from sdfcore.geometry import Box, Frame, Mesh
from sdfcore.levelset import Search
from sdfcore.marching import NEAREST
from sdfcore.topology import topology

Field = Callable[[torch.Tensor], torch.Tensor]
CUBE = Box([-1, -1, -1], [1, 1, 1])


def sphere(radius: float = 0.5, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Field:
    return lambda points: (points - torch.tensor(centre)).norm(dim=-1) - radius


def torus(major: float = 0.6, minor: float = 0.2) -> Field:
    return lambda points: torch.hypot(points[:, :2].norm(dim=-1) - major, points[:, 2]) - minor


def cuboid(x: float, y: float, z: float) -> Field:
    def field(points: torch.Tensor) -> torch.Tensor:
        beyond = points.abs() - torch.tensor([x, y, z])
        return beyond.clamp(min=0).norm(dim=-1) + beyond.max(dim=-1).values.clamp(max=0)

    return field


def union(*fields: Field) -> Field:
    return lambda points: torch.stack([field(points) for field in fields]).amin(dim=0)


class Sines(torch.nn.Module):
    """A smooth random field of a network of sines around a sphere: many lobes, handles and thin parts.

    Computed in float64: in float32, its rounding alone moves a vertex by 1e-5 where the field is flat.
    """

    def __init__(self, seed: int, size: float = 0.3) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.first = torch.nn.Parameter(torch.randn(3, 48, generator=draw).double() * 6)
        self.second = torch.nn.Parameter(torch.randn(48, 48, generator=draw).double() * 0.2)
        self.last = torch.nn.Parameter(torch.randn(48, generator=draw).double() * size / 7)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        points = points.double()
        wave = torch.sin(torch.sin(points @ self.first) @ self.second) @ self.last
        return (wave + points.norm(dim=-1) - 0.6).float()


def edge_counts(mesh: Mesh) -> tuple[int, int]:
    """Directed edges without a partner, and directed edges used twice: both zero for a closed, oriented manifold."""
    faces = mesh.faces.astype(np.int64)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    forward, back = edges @ [len(mesh.vertices), 1], edges @ [1, len(mesh.vertices)]
    return int((~np.isin(forward, back)).sum()), len(forward) - len(np.unique(forward))


def euler(mesh: Mesh) -> int:
    assert len(np.unique(mesh.faces)) == len(mesh.vertices), "every vertex is used"
    return len(mesh.vertices) - len(mesh.faces) // 2


def dense(field: Field, box: Box, resolution: int, level: float = 0.0) -> tuple[NDArray, NDArray]:
    """Vertices and faces of scikit-image on the whole lattice; for boxes whose sides are multiples of the cell."""
    cell = box.size.max() / resolution
    counts = np.rint(box.size / cell).astype(int) + 1
    nodes = np.indices(counts).reshape(3, -1).T * cell + box.lower
    with torch.inference_mode():
        values = field(torch.from_numpy(nodes.astype(np.float32))).numpy().reshape(counts)
    vertices, faces, _, _ = marching_cubes(values, level)
    return vertices.astype(np.float64) * cell + box.lower, faces


def assert_same_as_dense(mesh: Mesh, vertices: NDArray, faces: NDArray) -> None:
    """As many vertices and faces, and each at the place of one of the other's (1e-5), both ways."""
    assert (len(mesh.vertices), len(mesh.faces)) == (len(vertices), len(faces))
    pairs = [(mesh.vertices, vertices), (mesh.triangles.mean(axis=1), vertices[faces].mean(axis=1))]
    for ours, theirs in pairs:
        assert cKDTree(theirs).query(ours)[0].max() < 1e-5
        assert cKDTree(ours).query(theirs)[0].max() < 1e-5


def assert_closed(mesh: Mesh) -> None:
    assert edge_counts(mesh) == (0, 0)
    assert (np.linalg.norm(mesh.face_vectors(), axis=1) > 0).all()


@pytest.mark.parametrize("resolution", [37, 65, 100, 128])
def test_sphere_has_its_volume_area_normals_and_topology(resolution: int) -> None:
    mesh = extract(sphere(), CUBE, resolution)
    assert_closed(mesh)
    assert euler(mesh) == 2
    coarseness = (2 / resolution) ** 2  # chords of a circle: an error of second order
    assert mesh.volume() == pytest.approx(np.pi / 6, abs=3 * coarseness)
    assert mesh.area() == pytest.approx(np.pi, abs=6 * coarseness)
    assert mesh.volume() < np.pi / 6
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 0.5, atol=0.5 * coarseness)
    np.testing.assert_allclose(mesh.normals, mesh.vertices * 2, atol=2 * coarseness)


def test_torus_keeps_its_hole() -> None:
    mesh = extract(torus(), CUBE, 96)
    assert_closed(mesh)
    assert euler(mesh) == 0
    assert mesh.volume() == pytest.approx(2 * np.pi**2 * 0.6 * 0.2**2, rel=0.01)


def test_small_part_far_from_the_large_one_is_found() -> None:
    small = 0.02  # under a third of a coarse block's side
    for seed in range(8):
        centre = tuple(np.random.default_rng(seed).uniform(0.6, 0.9, 3))
        mesh = extract(union(sphere(0.4, (-0.4, -0.4, -0.4)), sphere(small, centre)), CUBE, 256)
        assert euler(mesh) == 4
        assert_closed(mesh)


def test_thin_plate_has_two_sides() -> None:
    mesh = extract(cuboid(0.7, 0.6, 0.012), CUBE, 128, refine=2)
    assert_closed(mesh)
    assert euler(mesh) == 2
    assert mesh.volume() == pytest.approx(8 * 0.7 * 0.6 * 0.012, rel=0.03)


@pytest.mark.parametrize("level", [-0.2, 0.15])
def test_level_moves_the_surface(level: float) -> None:
    mesh = extract(sphere(), CUBE, 80, level=level, refine=2)
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 0.5 + level, atol=NEAREST * 2 / 80 * 1.01)


def test_surface_through_nodes_has_no_face_without_area() -> None:
    field = cuboid(0.5, 0.25, 0.75)  # every side lies on lattice nodes, where the field is exactly 0
    mesh = extract(field, CUBE, 32)
    assert_closed(mesh)
    assert euler(mesh) == 2
    assert field(torch.tensor(mesh.vertices, dtype=torch.float32)).abs().max() <= NEAREST / 16 * 1.01
    bevel = 4 * (1 + 0.5 + 1.5) * (1 / 16) ** 2 / 2  # what marching cubes cuts off the edges
    assert mesh.volume() == pytest.approx(0.75 - bevel, rel=2e-3)


FIELDS = {"sphere": sphere(0.553), "torus": torus(0.61, 0.203), "sines": Sines(0), "rough": Sines(1, 1.0)}


@pytest.mark.parametrize("resolution", [37, 65, 100])
@pytest.mark.parametrize("name", FIELDS)
def test_sparse_is_dense(name: str, resolution: int) -> None:
    mesh = extract(FIELDS[name], CUBE, resolution, cap=False)
    assert_same_as_dense(mesh, *dense(FIELDS[name], CUBE, resolution))


def test_sparse_is_dense_in_a_long_box_off_the_centre() -> None:
    box = Box([-0.9, -0.3, 0.0], [0.9, 0.6, 0.6])
    mesh = extract(Sines(2), box, 132, level=0.03, cap=False)
    assert_same_as_dense(mesh, *dense(Sines(2), box, 132, 0.03))


@pytest.mark.parametrize("gain", [0.01, 1000.0])
def test_scaled_field_gives_the_same_surface(gain: float) -> None:
    mesh = extract(lambda points: FIELDS["sines"](points) * gain, CUBE, 100, cap=False)
    assert_same_as_dense(mesh, *dense(FIELDS["sines"], CUBE, 100))


def test_truncated_distance_gives_the_same_surface() -> None:
    truncated = lambda points: FIELDS["sines"](points).clamp(-0.05, 0.05)
    mesh = extract(truncated, CUBE, 110, cap=False)
    assert_same_as_dense(mesh, *dense(truncated, CUBE, 110))


@pytest.mark.parametrize("name", ["sphere", "torus"])
def test_what_is_found_is_followed_to_its_end(name: str) -> None:
    """A bound on the slope that is far too small leaves only blocks with both signs at their corners."""
    mesh = extract(FIELDS[name], CUBE, 160, search=Search(lipschitz=1e-6), cap=False)
    assert_same_as_dense(mesh, *dense(FIELDS[name], CUBE, 160))


@pytest.mark.parametrize("box", [Box([0, -1, -1], [1, 1, 1]), Box([-0.3, -0.4, -0.45], [0.3, 0.4, 0.44])])
def test_cap_closes_the_surface_at_the_border(box: Box) -> None:
    mesh = extract(sphere(), box, 70)
    assert_closed(mesh)
    assert euler(mesh) == 2
    cell = box.size.max() / 70
    assert (np.abs(mesh.vertices - box.centre) <= box.size / 2 + 1.02 * cell).all()
    inside = np.random.default_rng(0).uniform(box.lower, box.upper, (200_000, 3))
    expected = (np.linalg.norm(inside, axis=1) < 0.5).mean() * box.size.prod()
    assert mesh.volume() == pytest.approx(expected, rel=0.03)
    assert edge_counts(extract(sphere(), box, 70, cap=False))[0] > 0


def test_cap_alone_is_no_surface() -> None:
    with pytest.raises(NoSurfaceError):
        extract(sphere(3.0), CUBE, 100)


def test_cap_of_a_slab_is_as_deep_as_the_slab() -> None:
    """At the border it does not matter how far from the surface the inside is: all of it is capped."""
    mesh = extract(lambda points: points[:, 2] - 0.503, CUBE, 100)
    assert_closed(mesh)
    assert euler(mesh) == 2
    assert mesh.volume() == pytest.approx(4 * 1.503, rel=1e-3)
    normals = mesh.normals
    assert normals is not None
    assert ((normals * (mesh.vertices - [0, 0, -0.25])).sum(axis=1) > 0).all()


def test_grid_covers_a_box_whose_sides_are_no_multiples() -> None:
    mesh = extract(cuboid(0.5, 0.31, 0.17), Box([-0.5, -0.31, -0.17], [0.5, 0.31, 0.17]), 33)
    assert_closed(mesh)
    assert mesh.volume() == pytest.approx(8 * 0.5 * 0.31 * 0.17, rel=0.01)


def test_refining_puts_vertices_on_the_surface_without_changing_faces() -> None:
    curved = lambda points: (points.norm(dim=-1) ** 3 - 0.125) * 2
    errors = []
    for steps in range(4):
        mesh = extract(curved, CUBE, 40, refine=steps)
        assert_closed(mesh)
        errors.append(np.abs(np.linalg.norm(mesh.vertices, axis=1) - 0.5).max())
    assert errors[1] < errors[0] / 10
    assert errors[2] < errors[1] / 2 or errors[2] <= NEAREST * 2 / 40 * 1.01
    assert errors[3] <= NEAREST * 2 / 40 * 1.01


def test_a_wrong_gradient_moves_no_vertex_off_its_edge() -> None:
    """A network's slope may say anything; what the level set lies between is known from values alone."""

    class Wrong:
        def __call__(self, points: torch.Tensor) -> torch.Tensor:
            return sphere()(points)

        def value_and_gradient(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self(points), torch.sin(1e4 * points) * 1e-3

    mesh = extract(Wrong(), CUBE, 40, refine=1)
    assert_closed(mesh)
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 0.5).max() < 5e-3, "within a tenth of a cell"


SILENT: dict[str, Field] = {
    "flat": lambda points: torch.sign(points.norm(dim=-1) - 0.5) + 0 * points.sum(dim=-1),
    "numpy": lambda points: torch.from_numpy(np.linalg.norm(points.detach().numpy(), axis=1) - 0.5),
}


@pytest.mark.parametrize("name", SILENT)
def test_field_without_a_gradient_takes_the_normals_of_the_faces(name: str) -> None:
    mesh = extract(SILENT[name], CUBE, 48)
    assert_closed(mesh)
    normals = mesh.normals
    assert normals is not None
    assert ((normals * mesh.vertices).sum(axis=1) / np.linalg.norm(mesh.vertices, axis=1)).min() > 0.5


def test_field_may_bring_its_own_gradient() -> None:
    class Own:
        def __call__(self, points: torch.Tensor) -> torch.Tensor:
            return sphere()(points)

        def value_and_gradient(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self(points), torch.tensor([0.0, 0.0, 2.0]).expand(len(points), 3)

    normals = extract(Own(), CUBE, 32).normals
    assert normals is not None
    np.testing.assert_array_equal(normals, np.tile([0.0, 0.0, 1.0], (len(normals), 1)))


def test_noise_is_closed_too() -> None:
    """Every node's sign is a coin toss: all cases of marching cubes, the ambiguous ones included."""

    def noise(points: torch.Tensor) -> torch.Tensor:
        waves = torch.sin(points.double() @ torch.tensor([[12.9898], [78.233], [37.719]], dtype=torch.float64) * 4000)
        return (waves[:, 0] * 43758.5453).frac().float()

    mesh = extract(noise, CUBE, 40, refine=2)
    assert len(mesh.faces) > 40**3 * 2
    assert_closed(mesh)


@pytest.mark.parametrize(("level", "side"), [(2.0, "above"), (-0.75, "below")])
def test_no_surface_names_the_range(level: float, side: str) -> None:
    with pytest.raises(NoSurfaceError) as caught:
        extract(sphere(), CUBE, 64, level=level)
    assert caught.value.minimum == pytest.approx(-0.5, abs=0.06)
    assert caught.value.maximum == pytest.approx(np.sqrt(3) - 0.5, abs=1e-3)
    assert f"level {level:g}" in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("field", "words"),
    [(lambda points: points, "shape"), (lambda points: points[:, 0] * float("nan"), "not a finite number")],
)
def test_field_that_is_none_is_refused(field: Field, words: str) -> None:
    with pytest.raises(InputError, match=words):
        extract(field, CUBE, 16)


@pytest.mark.parametrize(("box", "resolution"), [(CUBE, 0), (CUBE, 100_000), (Box([1, 1, 1], [1, 1, 1]), 32)])
def test_grid_that_is_none_is_refused(box: Box, resolution: int) -> None:
    with pytest.raises(InputError):
        extract(sphere(), box, resolution)


def test_progress_never_falls_and_comes_before_every_call_of_the_field() -> None:
    seen: list[float] = []
    calls: list[int] = []
    waves = Sines(0)

    def field(points: torch.Tensor) -> torch.Tensor:
        calls.append(len(seen))
        return waves(points)

    extract(field, CUBE, 128, refine=1, on_progress=seen.append)
    assert seen == sorted(seen)
    assert seen[0] == 0.0
    assert seen[-1] == 1.0
    assert len(set(seen)) > 8
    assert len(set(calls)) == len(calls), "an extraction can be stopped between any two calls"


def test_progress_can_stop_the_extraction() -> None:
    class Enough(Exception):  # noqa: N818
        pass

    calls: list[float] = []

    def stop(fraction: float) -> None:
        calls.append(fraction)
        if fraction > 0.3:
            raise Enough

    with pytest.raises(Enough):
        extract(Sines(0), CUBE, 128, on_progress=stop)
    assert calls[-1] > 0.3
    assert all(fraction <= 0.3 for fraction in calls[:-1])


class Fitted:
    """A stand-in for a fitted shape: a sphere in the unit box, far from the world's origin."""

    def __init__(self) -> None:
        self.network = sphere(0.5)
        self.frame = Frame([1e6, -2e6, 100.0], 20.0)
        self.box = Box([-0.5, -0.5, -0.5], [0.5, 0.5, 0.5])
        self.info: dict[str, object] = {}
        self.device = torch.device("cpu")


@pytest.mark.parametrize("level", [0.0, 4.0, -3.0])
def test_fitted_shape_is_meshed_in_world_coordinates(level: float) -> None:
    mesh = extract_sdf(Fitted(), resolution=64, level=level)
    assert mesh.vertices.dtype == np.float64
    assert_closed(mesh)
    assert euler(mesh) == 2
    radii = np.linalg.norm(mesh.vertices - [1e6, -2e6, 100.0], axis=1)
    np.testing.assert_allclose(radii, 10.0 + level, atol=1e-3)


def test_fitted_shape_says_its_range_in_world_units() -> None:
    with pytest.raises(NoSurfaceError) as caught:
        extract_sdf(Fitted(), resolution=64, level=-11.0)
    assert caught.value.minimum == pytest.approx(-10, abs=0.7)
    assert "level -11" in str(caught.value)


def test_parts_smaller_than_a_shape_allows_are_left_out() -> None:
    fitted = Fitted()
    fitted.network = union(sphere(0.4), sphere(0.03, (0.46, 0.46, 0.46)))
    assert topology(extract_sdf(fitted, resolution=64)).components == 2
    fitted.info["smallest_part"] = 0.01
    assert topology(extract_sdf(fitted, resolution=64)).components == 1


def test_world_box_is_where_it_is_looked() -> None:
    mesh = extract_sdf(Fitted(), resolution=64, box=Box([1e6, -2e6 - 12, 88], [1e6 + 12, -2e6 + 12, 112]))
    assert_closed(mesh)
    assert mesh.volume() == pytest.approx(2 / 3 * np.pi * 1000, rel=0.02)


@pytest.mark.parametrize("resolution", [96, 200])
def test_estimate_is_of_the_right_size(resolution: int) -> None:
    class Slow(Fitted):
        def __init__(self) -> None:
            super().__init__()
            self.network = self.slow

        def slow(self, points: torch.Tensor) -> torch.Tensor:
            time.sleep(4e-6 * len(points))
            return sphere(0.5)(points)

    estimate = estimate_seconds(Slow(), resolution)
    started = time.perf_counter()
    extract_sdf(Slow(), resolution=resolution)
    assert 0.2 < estimate / (time.perf_counter() - started) < 4  # other work on the machine slows both, not equally


MEMORY = """
import resource, sys, torch
torch.set_num_threads(1)
from sdfcore.extraction import extract
from sdfcore.geometry import Box
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
mesh = extract(lambda points: points.norm(dim=-1) - 0.9, Box([-1] * 3, [1] * 3), 512)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, len(mesh.vertices))
"""


def test_memory_grows_with_the_surface_not_with_the_volume() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, timeout=150)
    kibibytes, vertices = map(int, done.stdout.split())
    assert vertices > 900_000
    assert kibibytes < 1_200_000


def test_a_field_that_cuts_its_points_off_from_the_graph_has_the_faces_normals() -> None:
    weight = torch.ones(1, requires_grad=True)
    mesh = extract(lambda x: weight * (x.detach().norm(dim=1) - 0.5), CUBE, 24)
    assert mesh.normals is not None
    outward = mesh.vertices / np.linalg.norm(mesh.vertices, axis=1, keepdims=True)
    assert ((mesh.normals * outward).sum(axis=1) > 0.9).all()
    with torch.no_grad():
        again = extract(lambda x: weight * (x.norm(dim=1) - 0.5), CUBE, 24)
    assert again.normals is not None
    assert ((again.normals * outward).sum(axis=1) > 0.99).all()


def test_vertices_inside_cells_are_moved_onto_the_surface_too() -> None:
    """At a saddle marching cubes puts a vertex into the cell, which no lattice edge holds."""
    turn = torch.tensor([[0.8, 0.6, 0.0], [-0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]) @ torch.tensor(
        [[1.0, 0.0, 0.0], [0.0, 0.8, 0.6], [0.0, -0.6, 0.8]]
    )

    def saddles(points: torch.Tensor) -> torch.Tensor:
        x, y, z = ((points @ turn) * 9.0).sin().unbind(dim=1)
        return x * y + 0.3 * z * x + 0.02

    rough, settled = (extract(saddles, CUBE, 24, refine=steps, cap=False).vertices for steps in (0, 1))
    off = [np.abs(saddles(torch.from_numpy(v.copy()).float()).numpy()) for v in (rough, settled)]
    assert off[1].max() < 0.05 * off[0].max()
    assert_closed(extract(saddles, CUBE, 24, refine=1))
