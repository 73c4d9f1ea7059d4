"""A level set that is certain: no part of it is missed that leaves the cells which the mesh runs through.

Where that cannot be told it is said. (What lies in the mesh's own cells is within a cell of it: a second sheet close to
the first does not show.) Cubes of cells are dropped only where a bound of the field leaves the level out, so what is
left holds the whole level set (Sharp & Jacobson 2022, sec. 5.3). A cell that is left though its corners are all on one
side is in doubt: it is halved until the bound drops it, or a point on the other side is found, or it is as small as was
asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..errors import InputError
from ..extraction import default_box, extract
from ..fields import NeuralSDF
from ..geometry import Box, Mesh
from ..lattice import CORNERS, Array, Evaluate, Grid, Nodes, Progress, all_below, batches, column
from ..levelset import crosses
from .affine import Arithmetic
from .bounds import Bound, bound_of, over_boxes

_COARSEST = 64  # cells along the side of the first cubes, at most
_FIRST = 4  # of them along the longest side, at least
_MOST_LEFT = 4_000_000  # blocks of cells, at any time
_MOST_IN_DOUBT = 200_000  # boxes that are halved at once
IN_DOUBT, MISSING = 1, 2  # states of places


@dataclass(frozen=True)
class Certain:
    """What :func:`extract_certain` found.

    Args:
        mesh: the level set, world units.
        doubtful: (D, 2, 3) lower and upper corners, world units, of what is left of cells whose corners are on one side
            while the bound does not rule the level out. None means that nothing is missed outside the mesh's own cells.
        islands: (I, 3) points on the other side, inside of such cells: parts, or pieces of sheets, thinner than a cell,
            which the mesh does not show.
        cell: side of a cell, world units.
        evaluations: how often the field was evaluated. bounds: how many boxes were bounded.
        nodes: what a dense lattice would have evaluated.
    """

    mesh: Mesh
    doubtful: Array
    islands: Array
    cell: float
    evaluations: int
    bounds: int
    nodes: int

    def places(self) -> tuple[Array, Array, Array]:
        """Where to look: lower and upper corners (P, 3) of boxes, world units, and the state (P,) int32 of each,
        :data:`IN_DOUBT` or :data:`MISSING` for a cell's size round each of ``islands``."""
        lower = np.concatenate([self.doubtful[:, 0], self.islands - self.cell / 2])
        upper = np.concatenate([self.doubtful[:, 1], self.islands + self.cell / 2])
        state = np.repeat(np.array([IN_DOUBT, MISSING], np.int32), [len(self.doubtful), len(self.islands)])
        return lower, upper, state

    @property
    def line(self) -> str:
        """What is certain, in one line for people."""
        share = f"{self.evaluations + self.bounds} evaluations of field and bounds, {self.nodes} on a dense lattice"
        doubt = ""
        if len(self.doubtful):
            size = float((self.doubtful[:, 1] - self.doubtful[:, 0]).max())
            doubt = f"; {len(self.doubtful)} places of {size:.2g} are in doubt"
        if len(self.islands):
            return f"Missing, as thinner than a cell: something in {len(self.islands)} places{doubt}. {share}."
        return f"Nothing is missed farther than a cell from the mesh{doubt}. {share}."


class BoundedSearch:
    """Finds the cells of a level set by a bound; to be given to ``extract`` as its ``search``.

    Args:
        bound: of the field that is extracted, in its own coordinates.
        level: the level that is looked for.
        halvings: of the cells in doubt, at most.
    """

    def __init__(
        self, bound: Bound, level: float = 0.0, *, halvings: int = 3, device: torch.device | str = "cpu"
    ) -> None:
        self._bound, self._level, self._halvings, self._device = bound, level, halvings, device
        self.doubtful: Array = np.empty((0, 2, 3))
        self.islands: Array = np.empty((0, 3))
        self.evaluations = self.bounds = 0

    def find(self, grid: Grid, evaluate: Evaluate, progress: Progress) -> tuple[Array, Array]:
        """The cells that the level set crosses, (3, N), and the values at their corners, (8, N). N may be 0."""
        counted = self._counting(evaluate)
        cells = self._undecided(grid, progress)
        if not cells.shape[1]:
            counted(grid.positions(all_below((2, 2, 2)) * column(grid.cells)))  # for what there is, not where
            return np.empty((3, 0), np.int64), np.empty((8, 0), np.float32)
        nodes = Nodes(grid, 1, counted)
        nodes.need(cells, 1, lambda fraction: progress(0.5 + 0.3 * fraction))
        found, doubted = [], []
        for batch in batches(cells):
            corners = nodes.corners(batch)
            crossed = crosses(corners)
            found.append((batch[:, crossed], corners[:, crossed]))
            doubted.append((batch[:, ~crossed], corners[0, ~crossed] < 0))
        self._look_into(
            grid, counted, np.concatenate([c for c, _ in doubted], 1), np.concatenate([s for _, s in doubted])
        )
        progress(1.0)
        return np.concatenate([c for c, _ in found], 1), np.concatenate([v for _, v in found], 1)

    def _counting(self, evaluate: Evaluate) -> Evaluate:
        def counted(positions: Array) -> Array:
            self.evaluations += len(positions)
            return evaluate(positions)

        return counted

    def _undecided(self, grid: Grid, progress: Progress) -> Array:
        """(3, N) the cells in which the bound does not rule the level out.

        Raises:
            InputError: they are too many, as the bound says next to nothing.
        """
        stride = 1
        while stride < _COARSEST and max(grid.cells) >= 2 * _FIRST * stride:
            stride *= 2
        blocks = all_below((-(-grid.cells[0] // stride), -(-grid.cells[1] // stride), -(-grid.cells[2] // stride)))
        steps = stride.bit_length()
        for step in range(steps):
            blocks = blocks[:, (blocks * stride < column(grid.cells)).all(axis=0)]
            ends = grid.positions(blocks * stride), grid.positions((blocks + 1) * stride)
            least, most = self._between(*ends)
            keep = (least <= 0) & (most >= 0)
            if grid.pad:  # what is inside at the border is closed by the cap
                at_border = (blocks == 0).any(axis=0) | ((blocks + 1) * stride >= column(grid.cells)).any(axis=0)
                keep |= at_border & (least < 0)
            blocks = blocks[:, keep]
            if blocks.shape[1] > _MOST_LEFT:
                raise InputError(
                    f"The bounds of this network say too little: after {step + 1} of {steps} halvings they leave "
                    f"{blocks.shape[1]} places.",
                    "Take fewer cells, mesh it without certainty, or fit by another recipe: distance has close bounds.",
                )
            if stride > 1:
                stride //= 2
                blocks = (blocks[:, :, None] * 2 + CORNERS[:, None, :]).reshape(3, -1)
            progress(0.5 * (step + 1) / steps)
        return blocks

    def _between(self, lower: Array, upper: Array) -> tuple[Array, Array]:
        """Least and most (N,) of the field less the level, in boxes (N, 3)."""
        self.bounds += len(lower)
        ends = [torch.from_numpy(np.asarray(v, np.float64)).to(self._device, torch.float32) for v in (lower, upper)]
        least, most = over_boxes(self._bound, *ends)
        slack = 1e-6 * abs(self._level)  # of the subtraction, in the precision of the field
        return (least - self._level - slack).cpu().numpy(), (most - self._level + slack).cpu().numpy()

    def _look_into(self, grid: Grid, evaluate: Evaluate, cells: Array, inside: Array) -> None:
        """Halve the cells (3, N) whose corners are all ``inside`` (N,), or all outside."""
        lower, upper = grid.positions(cells), grid.positions(cells + 1)
        solid = (upper > lower).all(axis=1)  # those of the cap layer are flat
        lower, upper, inside, islands = lower[solid], upper[solid], inside[solid], []
        for _ in range(self._halvings):
            if not 0 < len(lower) <= _MOST_IN_DOUBT:  # where a bound knows so little, more boxes would not help
                break
            middle = (lower + upper) / 2
            other = (evaluate(middle) < 0) != inside
            islands.append(middle[other])
            ends = np.stack([lower[~other], middle[~other], upper[~other]])
            picks = CORNERS.T  # the eighths, by which half they take along each axis
            rows = np.arange(3)
            lower = np.concatenate([ends[pick, :, rows].T for pick in picks])
            upper = np.concatenate([ends[pick + 1, :, rows].T for pick in picks])
            inside = np.tile(inside[~other], 8)
            least, most = self._between(lower, upper)
            keep = (least <= 0) & (most >= 0)
            lower, upper, inside = lower[keep], upper[keep], inside[keep]
        self.doubtful = np.stack([lower, upper], axis=1)
        self.islands = np.concatenate(islands) if islands else self.islands


def extract_certain(
    sdf: NeuralSDF,
    *,
    resolution: int = 256,
    level: float = 0.0,
    box: Box | None = None,
    refine: int = 1,
    halvings: int = 3,
    arithmetic: Arithmetic | None = None,
    on_progress: Progress | None = None,
) -> Certain:
    """A level set of a fitted shape of which no part is missed that is farther than a cell from the mesh.

    Args:
        resolution, level, box, refine, on_progress: as :func:`~sdfcore.extraction.extract_sdf`.
        halvings: how often cells in doubt are halved, while there are no more than 200,000.
    Raises:
        UnsupportedLayerError: the network has a layer without a rule.
        InputError: its bounds say too little. Else as :func:`~sdfcore.extraction.extract`.
    """
    frame = sdf.frame
    where = default_box(sdf, level) if box is None else frame.box_to_unit(box)
    bound = bound_of(sdf.network, arithmetic)
    search = BoundedSearch(bound, level / frame.scale, halvings=halvings, device=sdf.device)
    mesh = extract(
        sdf.network, where, resolution, level=level / frame.scale, refine=refine, search=search, device=sdf.device,
        on_progress=on_progress,
    )  # fmt: skip
    grid = Grid.over(where, resolution, cap=True)
    nodes, cell = int(np.prod(np.array(grid.nodes) - 2)), float(where.size.max()) / resolution * frame.scale
    to_world = lambda points: frame.to_world(points.reshape(-1, 3)).reshape(points.shape)
    world = replace(mesh, vertices=frame.to_world(mesh.vertices))
    places = to_world(search.doubtful), to_world(search.islands)
    return Certain(world, *places, cell, search.evaluations, search.bounds, nodes)
