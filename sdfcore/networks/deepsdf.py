"""The network of DeepSDF as it was published, and the field it is for one code."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .layers import ELU, Activation, ReLU, linears


class DeepSDF(nn.Module):
    """A ReLU network of x that may read x again on its way, and ends in hyperbolic tangents.

    Source: Park et al. 2019 (DeepSDF), sec. 3 and supplement B, for one code, which is then part of the biases.

    Args:
        widths: units of every hidden layer.
        again: the layers, from 1, that read x once more behind what the layer before gives.
        norms: the hidden layers whose sums are normalised (Ba et al. 2016) before the ReLU.
        squashes: how many hyperbolic tangents the value goes through.
        slope: of the ReLU below zero (a leaky one is what IM-NET is made of).
        elu: exponential linear units in the place of ReLU (Sharp and Jacobson's networks).
    Raises:
        ValueError: a layer is named that is none.
    """

    kind: ClassVar[str] = "deepsdf"
    backward_twice: ClassVar[bool] = True

    def __init__(
        self,
        widths: Sequence[int],
        again: Sequence[int] = (),
        norms: Sequence[int] = (),
        squashes: int = 1,
        slope: float = 0.0,
        elu: bool = False,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "widths": list(widths), "again": list(again), "norms": list(norms), "squashes": squashes
        }  # fmt: skip
        if slope:
            self.config["slope"] = slope
        if elu:
            self.config["elu"] = True
        self.activation: Activation = ELU() if elu else ReLU(slope)
        depth = len(widths)
        if depth < 1 or not set(again) <= set(range(1, depth + 1)) or not set(norms) <= set(range(depth)):
            raise ValueError(f"{depth} hidden layers have none of the layers {list(again)} and {list(norms)}")
        self.again, self.squashes = frozenset(again), squashes
        inward = [width + (3 if i in self.again else 0) for i, width in enumerate([3, *widths])]
        self.layers = nn.ModuleList(nn.Linear(inward[i], out) for i, out in enumerate([*widths, 1]))
        self.norms = nn.ModuleDict({str(i): nn.LayerNorm(widths[i]) for i in norms})

    def forward(self, points: Tensor) -> Tensor:
        """(N, 3) → (N,)"""
        return self.values(points, {})

    def values(self, points: Tensor, shifts: Mapping[int, Tensor]) -> Tensor:
        """(…, 3) → (…,), with ``shifts`` (…, units) added to the sums of some layers, by their number."""
        h = points
        for i, layer in enumerate(linears(self.layers)):
            h = layer(self._joined(i, h, points))
            h = h + shifts[i] if i in shifts else h
            if i + 1 < len(self.layers):
                h = self.activation(self._normed(i, h))
        for _ in range(self.squashes):
            h = torch.tanh(h)
        return h[..., 0]

    def pushforward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Value (N,) and derivatives (K, N) along ``directions`` (K, N, 3)."""
        return self.pushed(points, directions, {})

    def pushed(self, points: Tensor, directions: Tensor, shifts: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
        """As :meth:`values`, with the derivatives (K, …) along ``directions`` (K, …, 3)."""
        h, tangents = points, directions
        for i, layer in enumerate(linears(self.layers)):
            z = layer(self._joined(i, h, points))
            z = z + shifts[i] if i in shifts else z
            tangents = self._joined(i, tangents, directions) @ layer.weight.T
            if i + 1 == len(self.layers):
                h = z
                break
            if str(i) in self.norms:
                tangents = self._norm_tangents(i, z, tangents)
            z = self._normed(i, z)
            h, tangents = self.activation(z), tangents * self.activation.derivative(z)
        for _ in range(self.squashes):
            h = torch.tanh(h)
            tangents = tangents * (1 - h.square())
        return h[..., 0], tangents[..., 0]

    def _joined(self, i: int, h: Tensor, x: Tensor) -> Tensor:
        return torch.cat([h, x], dim=-1) if i in self.again else h

    def _normed(self, i: int, h: Tensor) -> Tensor:
        return self.norms[str(i)](h) if str(i) in self.norms else h

    def _norm_tangents(self, i: int, z: Tensor, tangents: Tensor) -> Tensor:
        norm = self.norms[str(i)]
        assert isinstance(norm, nn.LayerNorm)
        centred = z - z.mean(dim=-1, keepdim=True)
        spread = (centred.square().mean(dim=-1, keepdim=True) + norm.eps).sqrt()
        unit = centred / spread
        along = tangents - tangents.mean(dim=-1, keepdim=True) - unit * (unit * tangents).mean(dim=-1, keepdim=True)
        return along / spread * norm.weight


class DeepSDFDecoder(nn.Module):
    """f(x, z) with the code z as an input beside x; :meth:`at` gives the field of one code as a :class:`DeepSDF`.

    A code beside x adds to a layer's sums what is linear in z, so all it needs are the columns of the layer's matrix
    that it meets: ``shifts``.

    Args:
        code_size: length of z.
        coded: those of ``again`` where z is read once more, too; the first layer always reads it.
        widths, again, norms, squashes: as :class:`DeepSDF`.
    Raises:
        ValueError: a layer is named that is none.
    """

    kind: ClassVar[str] = "deepsdf_decoder"
    backward_twice: ClassVar[bool] = True

    def __init__(
        self,
        code_size: int,
        widths: Sequence[int],
        again: Sequence[int] = (),
        coded: Sequence[int] = (),
        norms: Sequence[int] = (),
        squashes: int = 1,
    ) -> None:
        super().__init__()
        if not set(coded) <= set(again):
            raise ValueError(f"the layers {list(coded)} read the code but not the point")
        self.field = DeepSDF(widths, again, norms, squashes)
        self.config: dict[str, Any] = {"code_size": code_size, **self.field.config, "coded": list(coded)}
        self.code_size = code_size
        outs = [*widths, 1]
        self.shifts = nn.ModuleDict({str(i): nn.Linear(code_size, outs[i], bias=False) for i in (0, *coded)})

    def _shifted(self, codes: Tensor) -> dict[int, Tensor]:
        """What ``codes`` (S, L) add to the layers' sums, each (S, 1, units)."""
        return {int(i): shift(codes)[:, None] for i, shift in self.shifts.items()}

    def forward(self, points: Tensor, codes: Tensor) -> Tensor:
        """Points (S, P, 3), codes (S, L) → (S, P)"""
        return self.field.values(points, self._shifted(codes))

    def pushforward(self, points: Tensor, directions: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Value (S, P) and derivatives (K, S, P) along ``directions`` (K, S, P, 3)."""
        return self.field.pushed(points, directions, self._shifted(codes))

    @torch.no_grad()
    def at(self, code: Tensor) -> DeepSDF:
        """The field of ``code`` (L,): a :class:`DeepSDF` on the network's device, with weights of its own."""
        found = copy.deepcopy(self.field)
        for i, shift in self._shifted(code[None]).items():
            linears(found.layers)[i].bias.add_(shift[0, 0])
        return found.eval()
