"""How large a space and its learning are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SpaceSize:
    """Network, codes and batches of a space.

    Args:
        width, depth, code_size, octaves: of the coded network.
        steps: of the preset. shapes, points: drawn in each step, and points of each of these shapes.
        rate, code_rate: Adam's for the network and for the codes.
        pool: labelled points prepared for each shape.
    """

    width: int = 128
    depth: int = 5
    code_size: int = 256  # as IGR's: what no learned shape uses is room for unseen ones
    octaves: int = 4
    steps: int = 4000
    shapes: int = 8
    points: int = 512
    rate: float = 2e-3
    code_rate: float = 2e-3
    pool: int = 120_000


SIZES: dict[str, SpaceSize] = {
    "draft": SpaceSize(code_size=16, steps=2000, pool=60_000),
    "balanced": SpaceSize(),
    "fine": SpaceSize(width=256, depth=6, steps=20_000, points=1024, pool=200_000, rate=1e-3),
}
