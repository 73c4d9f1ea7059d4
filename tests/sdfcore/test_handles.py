"""Handles of low persistence go, others stay; the patched surface is that of the mended network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

import sdfcore
from sdfcore import saddles
from sdfcore.extraction import default_box, extract, extract_sdf
from sdfcore.fields import Field, NeuralSDF, sphere, torus, union, value_and_gradient
from sdfcore.fitting import Fit
from sdfcore.geometry import Box, Frame, Mesh, PointCloud
from sdfcore.handles import genus, mend
from sdfcore.lattice import Array, Grid
from sdfcore.networks import MLP, Mended, Siren
from sdfcore.topology import topology

RESOLUTION = 48
BOX = Box((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
GRID = Grid.over(BOX, RESOLUTION, True)
CELL = GRID.cell


class Exact(nn.Module):
    """A field as a network that ``mend`` can wrap."""

    kind, config = "exact", {}

    def __init__(self, field: Field) -> None:
        super().__init__()
        self.field = field
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, points: Tensor) -> Tensor:
        return self.field(points)

    def pushforward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = value_and_gradient(self.field, points)
        return value, (directions * gradient).sum(dim=-1)


def line(x: Tensor, at: tuple[float, float] = (0.0, 0.0), axes: tuple[int, int] = (0, 1)) -> Tensor:
    """Distance to a line along an axis, an eighth of a cell beside a row of the lattice's nodes."""
    a, b = x[:, axes[0]] - at[0] - 0.003, x[:, axes[1]] - at[1] - 0.004
    return (a**2 + b**2).sqrt()


def pierced(radius: float) -> Field:
    """A thick disc with a tunnel that is ``radius`` wide at its neck and wider towards its ends."""
    disc = lambda x: torch.maximum(x[:, :2].norm(dim=-1) - 0.6, x[:, 2].abs() - 0.2)
    return lambda x: torch.maximum(disc(x), radius + 0.3 * x[:, 2].abs() - line(x))


def bridged(radius: float) -> Field:
    """Two sheets, one at the end of the other's bend, and a bridge of ``radius`` between them."""

    def distance(x: Tensor) -> Tensor:
        apart = torch.maximum((x[:, 2].abs() - 0.15).abs() - 0.1, x[:, :2].abs().amax(dim=-1) - 0.6)
        back = torch.maximum(torch.maximum(x[:, 2].abs() - 0.25, x[:, 1].abs() - 0.6), (x[:, 0] + 0.5).abs() - 0.1)
        bridge = torch.maximum(line(x, (5 * CELL, 0.0)) - radius - 0.5 * x[:, 2].abs(), x[:, 2].abs() - 0.2)
        return torch.minimum(torch.minimum(apart, back), bridge)

    return distance


def extracted(field: Field) -> Mesh:
    return extract(field, BOX, RESOLUTION, refine=1)


def mended(field: Field, limit: float = 0.5 * CELL) -> tuple[nn.Module, Mesh, nn.Module, Mesh]:
    network = Exact(field)
    mesh = extracted(network)
    after, patched = mend(network, mesh, GRID, lambda points, values: np.full(len(points), limit))
    return network, mesh, after, patched


def apart(a: Mesh, b: Mesh) -> float:
    """The largest distance of a vertex of one from the nearest of the other."""
    return max(
        float(cKDTree(a.vertices).query(b.vertices)[0].max()), float(cKDTree(b.vertices).query(a.vertices)[0].max())
    )


@pytest.mark.parametrize("field", [pierced(0.25 * CELL), bridged(0.25 * CELL)], ids=["tunnel", "bridge"])
def test_a_thin_handle_goes(field: Field) -> None:
    _, mesh, after, patched = mended(field)
    assert (genus(mesh), genus(patched)) == (1, 0)
    found = topology(patched)
    assert (found.watertight, found.components, found.euler) == (True, 1, 2)
    # The field has moved by no more than was allowed, near the neck only; and it is the field of that very mesh.
    assert isinstance(after, Mended)
    assert len(after.radii) == 1
    assert abs(float(after.heights)) <= 0.5 * CELL
    fresh = extracted(after)
    assert topology(fresh).euler == 2
    assert len(fresh.vertices) == len(patched.vertices)
    assert apart(fresh, patched) < 1e-3 * CELL
    gap = np.linalg.norm(mesh.vertices - after.centres.numpy(), axis=1)
    still = mesh.vertices[gap > float(after.radii) + CELL]
    assert cKDTree(patched.vertices).query(still)[0].max() < 1e-9


@pytest.mark.parametrize("field", [pierced(1.2 * CELL), bridged(1.2 * CELL), torus(0.5, 0.2), torus(0.5, 0.45)])
def test_what_would_have_to_move_further_stays(field: Field) -> None:
    network, mesh, after, patched = mended(field)
    assert genus(mesh) == 1
    assert after is network
    assert patched is mesh


def test_a_limit_of_nothing_mends_nothing() -> None:
    network, mesh, after, patched = mended(pierced(0.25 * CELL), limit=0.0)
    assert after is network
    assert patched is mesh


def test_nothing_is_done_without_handles() -> None:
    field = union(sphere(0.3, (-0.4, 0.0, 0.0)), sphere(0.3, (0.4, 0.0, 0.0)))
    network, mesh = Exact(field), extracted(field)

    def never(points: Array, values: Array) -> Array:
        raise AssertionError("no handle, but the saddles were asked for")

    after, patched = mend(network, mesh, GRID, never)
    assert after is network
    assert patched is mesh


def test_a_bridge_that_alone_holds_two_parts_together_stays() -> None:
    """Cutting it, though it is nearer to the level, would make the surface two; the thin tunnel beside it goes."""
    hole = pierced(0.25 * CELL)
    ball = sphere(0.15, (0.8, 0.0, 0.0))
    along = lambda x: (x[:, 0] - 15 * CELL).abs()
    rod = lambda x: torch.maximum(line(x, axes=(1, 2)) - 0.2 * CELL - 0.2 * along(x), along(x) - 0.07)
    _, mesh, after, patched = mended(union(hole, ball, rod))
    assert topology(mesh).components == topology(patched).components == 1
    assert (genus(mesh), genus(patched)) == (1, 0)
    assert isinstance(after, Mended)
    assert len(after.radii) == 1


def test_mending_twice_gives_the_same() -> None:
    first, second = mended(bridged(0.25 * CELL)), mended(bridged(0.25 * CELL))
    for a, b in zip(first[2].buffers(), second[2].buffers(), strict=True):
        assert torch.equal(a, b)
    assert np.array_equal(first[3].vertices, second[3].vertices)
    assert np.array_equal(first[3].faces, second[3].faces)


def test_saddles_are_looked_for_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Exact(bridged(0.25 * CELL))
    mesh = extracted(network)
    assert mesh.normals is not None
    evaluate = lambda points: network(torch.from_numpy(points)).numpy()
    ticks: list[int] = []
    look = lambda **options: saddles.saddles(mesh.vertices, mesh.normals, GRID, evaluate, CELL, **options)
    nodes, values = look(tick=lambda: ticks.append(0))
    monkeypatch.setattr(saddles, "_AT_ONCE", 40)
    again, same = look(tick=lambda: ticks.append(1))
    assert ticks.count(0) == 1 < ticks.count(1)
    np.testing.assert_array_equal(nodes, again)
    np.testing.assert_array_equal(values, same)
    assert len(look(enough=lambda: True)[0]) == 0


def test_a_tick_can_end_it() -> None:
    class StoppedError(Exception):
        pass

    def tick() -> None:
        raise StoppedError

    network = Exact(pierced(0.25 * CELL))
    with pytest.raises(StoppedError):
        mend(network, extracted(network), GRID, lambda points, values: np.full(len(points), CELL), tick)


# The network --------------------------------------------------------------------------------------------------------


def bumpy() -> Mended:
    torch.manual_seed(0)
    network = Mended(MLP(width=16, depth=2, skip=0))
    return network.with_bump(torch.tensor([0.2, 0.1, 0.0]), 0.3, 0.05).with_bump(
        torch.tensor([0.3, 0.1, 0.1]), 0.2, -0.02
    )


def test_bumps_are_where_they_should_be_and_nowhere_else() -> None:
    network = bumpy()
    centre, outside = network.centres[:1], torch.tensor([[-0.5, 0.0, 0.0], [0.2, 0.41, 0.0]])
    assert torch.equal(network(outside), network.inner(outside))
    single = Mended(network.inner).with_bump(centre[0], 0.3, 0.05)
    for share, height in ((0.0, 0.05), (0.49, 0.05), (1.0, 0.0)):
        x = centre + torch.tensor([[0.0, 0.3 * share, 0.0]])
        assert float((single(x) - network.inner(x)).detach()) == pytest.approx(height, abs=1e-6)


def test_its_gradient_is_that_of_its_values() -> None:
    network = bumpy().double()
    points = torch.rand(300, 3, dtype=torch.float64) * 0.7 - 0.2
    _, gradient = value_and_gradient(network, points)
    step = 1e-6 * torch.eye(3, dtype=torch.float64)
    with torch.no_grad():
        differences = torch.stack([(network(points + s) - network(points - s)) / 2e-6 for s in step], dim=1)
    torch.testing.assert_close(gradient, differences, atol=1e-6, rtol=1e-5)
    assert ((gradient - value_and_gradient(network.inner, points)[1]).norm(dim=1) > 0.05).sum() > 20


def test_it_is_stored_as_it_is(tmp_path: Path) -> None:
    sdf = NeuralSDF(bumpy(), Frame((1.0, 2.0, 3.0), 2.0), BOX, {})
    sdfcore.save(sdf, tmp_path / "mended.safetensors")
    again = sdfcore.load(tmp_path / "mended.safetensors")
    points = torch.rand(200, 3)
    assert isinstance(again.network, Mended)
    assert torch.equal(again.network(points), sdf.network(points))


# In a fit -----------------------------------------------------------------------------------------------------------


def test_a_fits_mesh_is_mended_and_its_model_with_it() -> None:
    rows = np.random.default_rng(0).normal(size=(2000, 3))
    normals = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    fit = Fit(PointCloud(0.6 * normals, normals), steps=2, preset="draft", resolution=RESOLUTION)
    for _ in fit:
        pass
    sdf = fit.sdf
    grid = Grid.over(default_box(sdf), RESOLUTION, True)
    x, y = grid.origin[:2] + RESOLUTION // 2 * grid.cell  # a row of nodes near the middle
    hole = lambda p: torch.maximum(sphere(0.85)(p), 0.25 * grid.cell + 0.2 * p[:, 2].abs() - line(p, (x, y)))
    sdf.network = Exact(hole)
    mesh = fit.mesh(sdf)
    assert isinstance(sdf.network, Mended)
    assert topology(mesh).euler == 2
    assert topology(extract_sdf(sdf, resolution=RESOLUTION)).euler == 2
    offset = NeuralSDF(Exact(hole), sdf.frame, sdf.box, {})
    fit.mesh(offset, level=-0.001 * sdf.frame.scale)  # another level asks for nothing
    assert isinstance(offset.network, Exact)


def test_where_the_data_agree_with_the_field_it_is_moved_less() -> None:
    rows = np.random.default_rng(0).normal(size=(4000, 3))
    normals = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    fit = Fit(PointCloud(normals, normals), recipe="distance", preset="draft")
    spacing, sample = fit.evidence.spacing, fit.evidence.points[0].astype(np.float64)
    inside = sample * (1 - 0.2 * spacing)
    points, values = np.stack([inside, inside, 0.3 * sample]), np.array([-0.1, 0.1, -0.1])
    allowed = fit._movable(1.0, points, values)
    assert allowed[1] == allowed[2] == pytest.approx(0.5 * spacing)
    assert allowed[0] < 0.3 * allowed[1]
    assert (fit._movable(0.1 * spacing, points, values) <= 0.1 * spacing).all()  # a cell is the most


def test_a_fit_that_goes_on_trains_what_was_mended() -> None:
    start = NeuralSDF(bumpy(), Frame((0.0, 0.0, 0.0), 1.0), BOX, {"recipe": "igr"})
    normals = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    fit = Fit(PointCloud(0.5 * normals, normals), steps=1, start=start)
    for _ in fit:
        pass
    assert isinstance(fit.sdf.network, MLP)
    assert fit.sdf.network.config == start.network.inner.config


def test_what_was_mended_when_the_time_was_up_is_the_answer() -> None:
    network = Exact(pierced(0.25 * CELL))
    mesh = extracted(network)
    limit = lambda points, values: np.full(len(points), 0.5 * CELL)
    assert mend(network, mesh, GRID, limit, enough=lambda: True) == (network, mesh)
    assert genus(mend(network, mesh, GRID, limit, enough=lambda: False)[1]) == 0


def test_bumps_are_where_the_network_is() -> None:
    mended = Mended(Siren(4, 2).to("meta")).with_bump(torch.zeros(3), 0.1, 0.2)
    assert {tensor.device.type for tensor in mended.state_dict().values()} == {"meta"}
