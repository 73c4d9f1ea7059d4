"""Handles that a small shift of the level removes: tunnels and bridges a few cells wide, which no data asks for.

As in topological simplification (Edelsbrunner et al. 2002), a feature counts for as much as the level must move to undo
it. A handle hangs on a saddle of the field: a bridge of the solid on one of index 1 below the level, a tunnel on one of
index 2 above it. Raising or lowering the field there by a little more than its value removes the handle; a bump, see
:class:`~sdfcore.networks.Mended`, does so and changes nothing elsewhere. (Wood et al. 2004 cut such handles out of the
mesh; a field that is changed itself gives a closed surface at every resolution.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from skimage.measure import marching_cubes
from torch import nn

from .errors import NoSurfaceError
from .extraction import extract
from .geometry import Box, Mesh
from .lattice import Array, Grid
from .marching import tamed
from .networks import Mended
from .patches import Patched, pieces
from .saddles import saddles

# Radii of bumps, in cells, and how many saddles are tried with them at most. The smaller ones have mended most before
# the larger ones, which move more and cost more, have their turn.
_ROUNDS = ((3, 300), (5, 200), (8, 150), (12, 50))
_PASSES = 3  # through the saddles of a round: once one is mended another may be
_SPARE = 1.25  # a bump is higher than the saddle by this factor, so that other lattices see the same
_LEAST = 0.02  # cells: the least height of a bump

Bump = tuple[Array, int, float]  # node (3,), radius in cells, height


def genus(mesh: Mesh) -> int:
    """Handles of a closed mesh without doubled vertices, those of all its parts together."""
    used = np.unique(mesh.faces)
    parts = len(np.unique(pieces(mesh.faces, len(mesh.vertices))[used]))
    return round(parts - (len(used) - len(mesh.faces) / 2) / 2)


def mend(
    network: nn.Module,
    mesh: Mesh,
    grid: Grid,
    limit: Callable[[Array, Array], Array],
    tick: Callable[[], None] = lambda: None,
    enough: Callable[[], bool] = lambda: False,
) -> tuple[nn.Module, Mesh]:
    """``network`` without the handles of its surface that a small shift of the level removes.

    The parts of the surface stay as many as they were. The same network and mesh come back if there is nothing to mend.

    Args:
        network: unit box; on its own device.
        mesh: its level set 0 as :func:`~sdfcore.extraction.extract` gave it on ``grid``, refined once.
        limit: for saddles at points (N, 3) with values (N,), the most (N,) that a bump may add there; unit box, and of
            little use beyond a cell, for that is how far saddles are looked for.
        tick: called often; what it raises ends the work.
        enough: asked as often; where it says so, what is mended by then is the answer.
    Returns:
        the network, and its mesh on the same grid; both differ from what they were near the mended handles only.
    """
    handles = genus(mesh)
    if handles <= 0 or mesh.normals is None:
        return network, mesh
    nodes, values = saddles(
        mesh.vertices, mesh.normals, grid, lambda points: _values(network, points), grid.cell, tick=tick, enough=enough
    )
    limits = limit(grid.origin + nodes * grid.cell, values)
    rows = np.flatnonzero(_least(values, grid) <= limits)
    if len(rows) == 0:
        return network, mesh
    work = _Work(network, Patched.near(mesh, grid, nodes[rows], _ROUNDS[-1][0] + 2), handles)
    for radius, most in _ROUNDS:
        places = [_Place(network, grid, nodes[row], values[row], limits[row], radius) for row in rows[:most]]
        for _ in range(_PASSES):
            mended = []
            for place in places:
                tick()
                if work.handles > 0 and not enough() and work.mend(place):
                    mended.append(place)
            places = [place for place in places if any(place.meets(other) for other in mended)]
    return (work.field, work.surface.whole()) if isinstance(work.field, Mended) and work.changed else (network, mesh)


def _least(values: Array, grid: Grid) -> Array:
    """The least height of a bump for saddles of ``values`` (N,)."""
    return np.asarray(_SPARE * np.abs(values) + _LEAST * grid.cell)


class _Place:
    """A saddle at a lattice node, and the field at the nodes around it, as far as a bump of ``radius`` reaches."""

    def __init__(self, network: nn.Module, grid: Grid, node: Array, value: float, limit: float, radius: int) -> None:
        self._network, self._grid, self.node = network, grid, node
        # A wider bump moves more of the surface, so it may be less high.
        self.value, self.limit = value, limit * np.sqrt(_ROUNDS[0][0] / radius)
        self.radius, self.half = radius, radius + 1

    @cached_property
    def _nodes(self) -> Array:
        return self.node[:, None, None, None] + np.indices((2 * self.half + 1,) * 3) - self.half

    @cached_property
    def values(self) -> Array:
        """(n, n, n) of the network, without the bumps that were added since."""
        points = self._grid.origin + self._nodes.reshape(3, -1).T * self._grid.cell
        return _values(self._network, points).reshape(self._nodes.shape[1:])

    def bump(self, node: Array, radius: int, height: float) -> Array:
        """(n, n, n) of a bump at ``node``."""
        squared = ((self._nodes - node[:, None, None, None]) ** 2).sum(axis=0)
        along = np.clip(4 / 3 * (1 - squared / radius**2), 0, 1)
        return height * along**2 * (3 - 2 * along)

    def meets(self, other: _Place) -> bool:
        """Whether a bump there can change the field here."""
        return other is not self and bool((np.abs(self.node - other.node) <= self.half + other.half).all())


class _Work:
    """The field as mended so far, its surface, and how many handles that has."""

    def __init__(self, network: nn.Module, surface: Patched, handles: int) -> None:
        self.field, self.surface, self.handles = network, surface, handles
        self._bumps: list[Bump] = []

    @property
    def changed(self) -> bool:
        return bool(self._bumps)

    def mend(self, place: _Place) -> bool:
        """Adds the least bump at ``place`` that removes a handle and keeps the parts, if there is one."""
        values = place.values
        for bump in self._bumps:
            if (np.abs(bump[0] - place.node) < place.half + bump[1]).all():
                values = values + place.bump(*bump)
        now = values[(place.half,) * 3]
        if (now < 0) != (place.value < 0):  # an earlier bump has dealt with it
            return False
        near: Patched | None = None
        least = float(_least(now, self.surface.grid))
        heights = [least, *(share * place.limit for share in (0.25, 0.5, 1.0))]
        for height in [h for h in heights if least <= h <= place.limit]:
            bump = place.node, place.radius, -float(np.copysign(height, place.value))
            raised = values + place.bump(*bump)
            if not _gains(raised, values):
                continue
            near = near or self.surface.within(place.node - place.half, place.node + place.half)
            if self._foreseen(near, raised, bump) and self._applied(bump):
                return True
        return False

    def _foreseen(self, near: Patched, values: Array, bump: Bump) -> bool:
        """Whether these lattice ``values``, the bump included, promise a handle less and the same parts."""
        (node, radius, _), grid = bump, self.surface.grid
        places, faces = _marched(values)
        lower, upper = node - radius - 1, node + radius + 1
        points = grid.origin + (places + lower) * grid.cell
        found = near.replaced(points, np.zeros_like(points), faces, lower, upper)
        return found is not None and found[1] > 0

    def _applied(self, bump: Bump) -> bool:
        """Takes the surface of the field with ``bump``, if that has the handle less."""
        (node, radius, height), grid = bump, self.surface.grid
        lower, upper = node - radius - 1, node + radius + 1
        if (lower < 0).any() or (upper > np.array(grid.cells) - 2 * grid.pad).any():
            return False
        field = self.field if isinstance(self.field, Mended) else Mended(self.field)
        field = field.with_bump(torch.from_numpy(grid.origin + node * grid.cell), radius * grid.cell, height)
        box = Box(grid.origin + lower * grid.cell, grid.origin + upper * grid.cell)
        try:
            patch = extract(field, box, 2 * (radius + 1), refine=1, cap=False, device=_device(field))
        except NoSurfaceError:
            return False
        assert patch.normals is not None
        found = self.surface.replaced(patch.vertices, patch.normals, patch.faces, lower, upper)
        if found is None or found[1] < 1:
            return False
        self.field, self.surface, self.handles = field, found[0], self.handles - found[1]
        self._bumps.append(bump)
        return True


def _gains(raised: Array, values: Array) -> bool:
    """Whether the Euler characteristic of the level set grows by two: a handle less, or a part more."""
    if not ((raised < 0) != (values < 0)).any():
        return False
    (after, faces), (before, old) = (_marched(block) for block in (raised, values))
    return len(faces) > 0 and len(after) - len(faces) / 2 >= len(before) - len(old) / 2 + 2


def _marched(values: Array) -> tuple[Array, Array]:
    """Vertices (V, 3), in cells, and faces (F, 3) of the level set 0 of a dense block of lattice values."""
    if values.min() >= 0 or values.max() < 0:
        return np.empty((0, 3)), np.empty((0, 3), np.int64)
    places, faces, _, _ = marching_cubes(tamed(values), 0.0)
    return places.astype(np.float64), faces.astype(np.int64)


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _values(network: nn.Module, points: Array) -> Array:
    """(N,) float64 at numpy points (N, 3)."""
    with torch.inference_mode():
        chunks = torch.from_numpy(points.astype(np.float32)).split(1 << 14)
        return torch.cat([network(chunk.to(_device(network))).cpu() for chunk in chunks]).numpy().astype(np.float64)
