"""The network of a shape space: a softplus MLP whose layers a code shifts and scales; with one code, a plain MLP."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from .layers import Octaves, Softplus, initialise_as_sphere, linears
from .mlp import MLP, layer_sizes, silence_encoding


class CodedMLP(nn.Module):
    """f(x, z): one field for every code z; :meth:`at` gives the field of one code as an :class:`MLP`.

    As in DeepSDF (Park et al. 2019, sec. 4) one network serves all shapes. There the code is an input beside x, which
    amounts to a bias of the first layer that is linear in z; here every layer has such a bias, and a gain of its units
    (Perez et al. 2018, FiLM). For a fixed code both fold into the layers' weights, so a decoded shape costs what a
    plain MLP costs and everything that reads MLPs reads it.

    Args:
        code_size: length of z.
        width, depth, skip, beta, radius, octaves: as :class:`MLP`.
    """

    kind: ClassVar[str] = "coded_mlp"
    backward_twice: ClassVar[bool] = True

    def __init__(
        self,
        code_size: int = 32,
        width: int = 128,
        depth: int = 5,
        skip: int = 3,
        beta: float = 100.0,
        radius: float = 0.5,
        octaves: int = 0,
    ) -> None:
        super().__init__()
        self.plain: dict[str, Any] = {
            "width": width, "depth": depth, "skip": skip, "beta": beta, "radius": radius, "octaves": octaves
        }  # fmt: skip
        self.encoding = Octaves(octaves)
        self.config: dict[str, Any] = {"code_size": code_size, **self.plain}
        self.code_size, self.skip = code_size, skip
        self.activation = Softplus(beta)
        sizes, outs = layer_sizes(self.encoding.size, width, depth, skip)
        self.layers = nn.ModuleList(nn.Linear(sizes[i], outs[i]) for i in range(depth))
        self.shifts = nn.ModuleList(nn.Linear(code_size, out, bias=False) for out in outs)
        self.gains = nn.ModuleList(nn.Linear(code_size, out, bias=False) for out in outs)
        self.last = nn.Linear(width, 1)
        initialise_as_sphere(linears(self.layers), self.last, radius)
        silence_encoding(linears(self.layers), skip, self.encoding.size)
        self._initialise_code(code_size)

    @torch.no_grad()
    def _initialise_code(self, code_size: int) -> None:
        """Shifts of a tenth of the units' own size for a code of length one; gains of one whatever the code."""
        for shift, gain in zip(linears(self.shifts), linears(self.gains), strict=True):
            shift.weight.normal_(0.0, 0.1 * math.sqrt(2 / shift.out_features))
            gain.weight.zero_()

    def _bent(self, i: int, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Gain and bias (S, 1, O) of layer ``i`` for codes (S, L)."""
        gain = 1 + linears(self.gains)[i](codes)
        return gain[:, None], (gain * linears(self.layers)[i].bias + linears(self.shifts)[i](codes))[:, None]

    def _joined(self, i: int, h: Tensor, x: Tensor) -> Tensor:
        return torch.cat([h, x], dim=-1) / math.sqrt(2) if i and i == self.skip else h

    def forward(self, points: Tensor, codes: Tensor) -> Tensor:
        """Points (S, P, 3), codes (S, L) → (S, P)"""
        h = x = self.encoding(points)
        for i, layer in enumerate(linears(self.layers)):
            gain, bias = self._bent(i, codes)
            h = self.activation(self._joined(i, h, x) @ layer.weight.T * gain + bias)
        return self.last(h)[..., 0]

    def pushforward(self, points: Tensor, directions: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Value (S, P) and derivatives (K, S, P) along ``directions`` (K, S, P, 3)."""
        h = x = self.encoding(points)
        tangents = pushed = self.encoding.push(points, directions)
        for i, layer in enumerate(linears(self.layers)):
            gain, bias = self._bent(i, codes)
            z = self._joined(i, h, x) @ layer.weight.T * gain + bias
            tangents = self._joined(i, tangents, pushed) @ layer.weight.T * gain
            h, tangents = self.activation(z), self.activation.derivative(z) * tangents
        return self.last(h)[..., 0], tangents @ self.last.weight[0]

    @torch.no_grad()
    def at(self, code: Tensor) -> MLP:
        """The field of ``code`` (L,): an :class:`MLP` on the network's device, with weights of its own."""
        with torch.random.fork_rng(devices=[]):
            found = MLP(**self.plain).to(code.device)
        for i, layer in enumerate(linears(found.layers)):
            gain, bias = self._bent(i, code[None])
            layer.weight.copy_(linears(self.layers)[i].weight * gain[0].T)
            layer.bias.copy_(bias[0, 0])
        found.last.load_state_dict(self.last.state_dict())
        return found.eval()


class Decoder(Protocol):
    """What a space needs of its network; :class:`CodedMLP` is one."""

    kind: ClassVar[str]
    backward_twice: ClassVar[bool]
    config: dict[str, Any]
    code_size: int

    def __call__(self, points: Tensor, codes: Tensor) -> Tensor: ...

    def pushforward(self, points: Tensor, directions: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]: ...

    def at(self, code: Tensor) -> nn.Module: ...


class Coded:
    """A coded network at the codes (S, L) of one step, as a field: rows of points (S · P, 3), shape after shape."""

    def __init__(self, network: Decoder, codes: Tensor) -> None:
        self.network, self.codes = network, codes
        self.backward_twice = network.backward_twice

    def _by_shape(self, rows: Tensor) -> Tensor:
        return rows.reshape(*rows.shape[:-2], len(self.codes), -1, 3)

    def __call__(self, points: Tensor) -> Tensor:
        """(S · P, 3) → (S · P,)"""
        return self.network(self._by_shape(points), self.codes).reshape(-1)

    def pushforward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Value (S · P,) and derivatives (K, S · P) along ``directions`` (K, S · P, 3)."""
        value, derivatives = self.network.pushforward(self._by_shape(points), self._by_shape(directions), self.codes)
        return value.reshape(-1), derivatives.reshape(len(directions), -1)
