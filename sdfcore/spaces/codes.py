"""Where the codes of a step come from: a table that is learned, or an encoder that reads each shape's points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..geometry import Array
from ..networks import PointNet

PRIOR = 1e-4  # weight of the codes' squared length: DeepSDF's 1 / σ² (sec. 4.2)
LONGEST = 1.0  # bound of a code's length, as in DeepSDF's published settings
FIRST_LENGTH = 0.1  # of the codes before training
VARIATIONAL = 1e-3  # weight λ of an encoder's terms: SAL, sec. 5
ENCODED = 512  # points that an encoder reads at a time
_SUBSETS = 8  # of so many points, whose codes are averaged


@dataclass(frozen=True, eq=False)
class Drawn:
    """The shapes of one step, and what an encoder reads of them.

    Args:
        rows: (B,) which shapes. points: (B, P, 3) of their surfaces, unit box. noise: (B, L) standard normal.
    """

    rows: Tensor
    points: Tensor | None = None
    noise: Tensor | None = None


class Stored(nn.Module):
    """One code per shape, trained beside the network (auto-decoder). Source: Park et al. 2019 (DeepSDF), sec. 4.

    Args:
        values: (S, L) to begin with.
    """

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = nn.Parameter(values)

    @classmethod
    def random(cls, count: int, size: int) -> Stored:
        """``count`` codes of the length ``size``, short ones."""
        return cls(torch.randn(count, size) * (FIRST_LENGTH / math.sqrt(size)))

    def forward(self, drawn: Drawn, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Codes (B, L) and the prior on them, eq. (9), with the published warm-up of its weight."""
        codes = self.values[drawn.rows]
        warmth = min(1.0, 20 * progress)
        return codes, {"prior": PRIOR * warmth * codes.square().sum(dim=1).mean()}

    @torch.no_grad()
    def bound(self) -> None:
        """Draw codes that grew too long back onto the sphere of the longest."""
        self.values.renorm_(2, 0, LONGEST)

    @torch.no_grad()
    def of_shapes(self, points: Sequence[Array]) -> Array:
        """(S, L) float32 of all shapes."""
        return self.values.detach().cpu().numpy().copy()


class Predicted(nn.Module):
    """Codes drawn from the normal distributions that an encoder predicts (variational auto-encoder).

    Source: Atzmon & Lipman 2020 (SAL), sec. 5, as in Atzmon & Lipman 2021 (SALD): z = μ + exp(η / 2) ε.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, drawn: Drawn, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Codes (B, L) and the terms λ ‖μ‖₁ and λ ‖η + 1‖₁.

        The former draws codes towards the origin, the latter their variances towards 1/e; together they keep the
        codes' cloud without gaps. Norms are taken per dimension, so the weight means the same for every code size.
        """
        assert drawn.points is not None
        assert drawn.noise is not None
        mean, spread = self.encoder(drawn.points)
        terms = {"mean": VARIATIONAL * mean.abs().mean(), "spread": VARIATIONAL * (spread + 1).abs().mean()}
        return mean + (spread / 2).exp() * drawn.noise, terms

    def bound(self) -> None:
        """Nothing: the terms keep the codes near the origin."""

    def of_shapes(self, points: Sequence[Array]) -> Array:
        """(S, L) float32 of the shapes with these surface points (N, 3), unit box."""
        return np.stack([encoded(self.encoder, each) for each in points])


@torch.no_grad()
def encoded(encoder: nn.Module, points: Array) -> Array:
    """(L,) float32: the mean code of ``points`` (N, 3), unit box; their order does not matter.

    An encoder that takes maxima over the points finds the larger ones the more points there are. So of many points
    several subsets are read, as large as those it was taught with, side by side in one pass.
    """
    rows = np.asarray(points, dtype=np.float32)
    rows = rows[np.lexsort(rows.T)]
    subsets = min(len(rows) // ENCODED, _SUBSETS)
    if subsets:
        order = np.random.default_rng(0).permutation(len(rows))[: subsets * ENCODED]
        rows = rows[order]
    read = torch.as_tensor(rows, device=next(encoder.parameters()).device).reshape(max(subsets, 1), -1, 3)
    mean, _ = encoder(read)
    found: Array = mean.mean(dim=0).cpu().numpy()
    return found


def encoder_for(code_size: int, width: int) -> PointNet:
    """An untrained encoder that suits a network of ``width``."""
    return PointNet(code_size, max(width // 2, 16))
