"""A network whose shape stands turned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

Pushforward = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Turned(nn.Module):
    """x ↦ f(R x): the shape of ``inner`` turned by the inverse of R.

    Args:
        inner: a network of this package, or its ``kind`` and ``config``.
        rotation: (3, 3) R, or ``None`` for one that is loaded later.
    """

    kind: ClassVar[str] = "turned"

    def __init__(self, inner: nn.Module | Mapping[str, Any], rotation: Tensor | None = None) -> None:
        super().__init__()
        if not isinstance(inner, nn.Module):
            from . import build  # which knows this class, too

            inner = build(inner["kind"], inner["config"])
        self.inner: nn.Module = inner
        self.config: dict[str, Any] = {"inner": {"kind": inner.kind, "config": inner.config}}
        self.register_buffer("rotation", torch.eye(3) if rotation is None else rotation.to(torch.float32))
        self.rotation: Tensor

    def forward(self, points: Tensor) -> Tensor:
        """(N, 3) → (N,)"""
        value: Tensor = self.inner(points @ self.rotation.T)
        return value

    def pushforward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Value (N,) and derivatives (K, N) along ``directions`` (K, N, 3)."""
        pushforward = cast(Pushforward, self.inner.pushforward)
        return pushforward(points @ self.rotation.T, directions @ self.rotation.T)
