"""Weighted sums of rows of a feature table: what a step of a feature grid spends its time with.

On processors the sums are ours: ``embedding_bag`` sorts all rows in its backward pass, which took half of a step. Here
they are added up as they come, for all sums over the same rows at once, two channels as one complex number. On
accelerators that would add in any order, and a seed would not repeat; there ``embedding_bag`` stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def trilinear(sides: Tensor, half_cells: Tensor, directions: Sequence[Tensor] = ()) -> list[Tensor]:
    """Weights (N, L, 8) of a cell's corners, and what they change by along each of ``directions`` (N, 3).

    Args:
        sides: (N, L, 3, 2) weights of both sides by axis, the lower one first.
        half_cells: (L,) or (N, L), half the number of cells along the unit box, whose side is 2.
    """
    x, y, z = sides.unbind(dim=2)
    xy = _product(x, y)
    found = [_product(xy, z)]
    slopes = torch.stack([-half_cells, half_cells], dim=-1)
    for direction in directions:
        a, b, c = (direction[:, i, None, None] * slopes for i in range(3))
        found.append(_product(_product(a, y) + _product(x, b), z) + _product(xy, c))
    return found


def _product(x: Tensor, y: Tensor) -> Tensor:
    """Products (N, L, A·B) of weights (N, L, A) and (N, L, B), the second's index fastest."""
    return (x[..., :, None] * y[..., None, :]).flatten(start_dim=-2)


def gathered(features: Tensor, rows: Tensor, weights: Sequence[Tensor], empty: int | None = None) -> tuple[Tensor, ...]:
    """Sums (N, L·C) of ``features`` (R, C) at ``rows`` (N, L, 8), one for each of ``weights`` (N, L, 8).

    The row ``empty`` is zero and is not taught.
    """
    by_hand = features.device.type == "cpu" and not any(weight.requires_grad for weight in weights)
    if by_hand and not torch.compiler.is_compiling():
        found: tuple[Tensor, ...] = _Sums.apply(features, rows, empty, *weights)
        return found
    return tuple(_bagged(features, rows, weight, empty) for weight in weights)


def _bagged(features: Tensor, rows: Tensor, weights: Tensor, empty: int | None) -> Tensor:
    flat = weights.reshape(-1, 8)
    if features.device.type == "mps" or torch.compiler.is_compiling():  # which have no weighted embedding_bag
        picked = functional.embedding(rows.reshape(-1, 8).long(), features, padding_idx=empty)
        sums = (picked * flat[..., None]).sum(dim=1)
    else:
        sums = functional.embedding_bag(
            rows.reshape(-1, 8), features, per_sample_weights=flat, mode="sum", padding_idx=empty
        )
    return sums.reshape(rows.shape[0], rows.shape[1] * features.shape[1])


class _Sums(torch.autograd.Function):
    """:func:`gathered` on a processor, of weights that are not taught."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, rows: Tensor, empty: int | None, *weights: Tensor) -> tuple[Tensor, ...]:
        channels = features.shape[1]
        flat = rows.reshape(-1)
        if channels == 2:
            picked = torch.view_as_real(torch.view_as_complex(features).index_select(0, flat))
        else:
            picked = features.index_select(0, flat)
        stacked = torch.stack(weights, dim=-2).reshape(-1, len(weights), 8)
        ctx.save_for_backward(flat, stacked)
        ctx.table, ctx.empty = features.shape, empty
        sums = torch.bmm(stacked, picked.view(-1, 8, channels))
        return tuple(sums[:, k].reshape(len(rows), rows.shape[1] * channels) for k in range(len(weights)))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        flat, stacked = ctx.saved_tensors
        count, channels = ctx.table
        given = torch.stack([gradient.reshape(-1, channels) for gradient in gradients], dim=1)
        parts = torch.bmm(stacked.transpose(1, 2), given).reshape(-1, channels)
        index = flat.long()
        if channels == 2:
            sums = torch.zeros(count, dtype=parts.dtype.to_complex(), device=parts.device)
            table = torch.view_as_real(sums.scatter_add_(0, index, torch.view_as_complex(parts)))
        else:
            each = (index[:, None] * channels + torch.arange(channels)).reshape(-1)
            table = parts.new_zeros(count * channels).scatter_add_(0, each, parts.reshape(-1)).reshape(count, channels)
        if ctx.empty is not None:
            table[ctx.empty] = 0
        return (table, None, None, *(None for _ in gradients))
