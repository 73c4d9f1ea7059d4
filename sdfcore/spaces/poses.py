"""Where a scan stands in the unit box of a family: scale and place, and turning where it is asked for."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor, nn

from ..evidence import Evidence
from ..geometry import Array, Box, Frame
from ..networks.coded import Coded, Decoder


class Poses(nn.Module):
    """K similarity transforms x = scale · R · p + shift, from a scan's unit box into the network's.

    Args:
        rotations: (K, 3, 3) to begin with. scales: (K,). shifts: (K, 3).
    """

    def __init__(self, rotations: Array, scales: Array, shifts: Array) -> None:
        super().__init__()
        as_tensor = lambda values: torch.as_tensor(np.asarray(values, dtype=np.float32))
        self.register_buffer("base", as_tensor(rotations))
        self.log_scale = nn.Parameter(as_tensor(np.log(scales)))
        self.shift = nn.Parameter(as_tensor(shifts))
        self.turn = nn.Parameter(torch.zeros(len(scales), 3))  # axis times angle, before the base

    base: Tensor

    @property
    def rotation(self) -> Tensor:
        """(K, 3, 3)"""
        return _turned(self.turn) @ self.base

    @property
    def scale(self) -> Tensor:
        """(K,)"""
        return self.log_scale.exp()

    def take(self, rows: Tensor) -> Poses:
        """The poses at ``rows``, free to move on their own."""
        with torch.no_grad():
            kept = (self.rotation[rows], self.scale[rows], self.shift[rows])
            return Poses(*(values.cpu().numpy() for values in kept)).to(self.shift.device)


def _turned(turn: Tensor) -> Tensor:
    """(K, 3, 3) the rotation by |turn| about ``turn`` (K, 3), by Rodrigues' formula; smooth where there is none.

    Not by ``matrix_exp``, which Apple's GPUs do not have.
    """
    x, y, z = turn.unbind(dim=1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).reshape(-1, 3, 3)
    squared = turn.square().sum(dim=1)[:, None, None]
    small = squared < 1e-4
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()  # or its slope would not be finite at 0
    first = torch.where(small, 1 - squared / 6 + squared.square() / 120, torch.sin(angle) / angle)
    second = torch.where(small, 0.5 - squared / 24 + squared.square() / 720, (1 - torch.cos(angle)) / angle.square())
    return torch.eye(3, dtype=turn.dtype, device=turn.device) + first * skew + second * (skew @ skew)


class Posed:
    """The field of one code as seen from the scan's unit box: distances are the scan's.

    Args:
        codes: (K, L). poses: K of them. which: the code and pose meant.
    """

    def __init__(self, network: Decoder, codes: Tensor, poses: Poses, which: int) -> None:
        self.coded = Coded(network, codes[which : which + 1])
        self.backward_twice = self.coded.backward_twice
        self.rotation, self.scale, self.shift = poses.rotation[which], poses.scale[which], poses.shift[which]

    def _placed(self, points: Tensor) -> Tensor:
        return points @ self.rotation.T * self.scale + self.shift

    def __call__(self, points: Tensor) -> Tensor:
        """(N, 3) → (N,)"""
        return self.coded(self._placed(points)) / self.scale

    def pushforward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Value (N,) and derivatives (J, N) along ``directions`` (J, N, 3)."""
        value, derivatives = self.coded.pushforward(self._placed(points), directions @ self.rotation.T)
        return value / self.scale, derivatives


def matched(evidence: Evidence, boxes: list[Box], rotations: Array) -> Poses:
    """A first guess for each pair of box and rotation (K, 3, 3): the scan's box laid into the shape's.

    A scan from one side shows only a part of the depth: along an axis where its normals agree, the side they face is
    laid onto the box's; along the others the middles are.
    """
    scales, shifts = [], []
    for box, rotation in zip(boxes, rotations, strict=True):
        turned = evidence.points.astype(np.float64) @ rotation.T
        have = Box(*np.percentile(turned, [0.5, 99.5], axis=0))
        axis = int(have.size.argmax())
        scale = box.size[axis] / max(have.size[axis], 1e-9)
        facing = np.zeros(3) if evidence.normals is None else (evidence.normals @ rotation.T).mean(axis=0)
        middle = box.centre - scale * have.centre
        upper, lower = box.upper - scale * have.upper, box.lower - scale * have.lower
        scales.append(scale)
        shifts.append(np.where(facing > 0.3, upper, np.where(facing < -0.3, lower, middle)))
    return Poses(rotations, np.array(scales), np.array(shifts))


def quarter_turns() -> Array:
    """(24, 3, 3): the rotations that map a cube onto itself."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), order] = signs
            if np.linalg.det(matrix) > 0:
                found.append(matrix)
    return np.stack(sorted(found, key=lambda m: -np.trace(m)))


def frame_through(scan: Frame, scale: float, rotation: Array, shift: Array) -> Frame:
    """World ↔ the network's unit box turned back, for a network that was turned (``Turned``).

    With u = (w - c) / k the scan's unit coordinates and x = s R u + t, is Rᵀx = (w - (c - k Rᵀt / s)) / (k / s).
    """
    return Frame(scan.centre - scan.scale / scale * (rotation.T @ shift), scan.scale / scale)


def turned_box(box: Box, rotation: Array) -> Box:
    """The box around Rᵀ of ``box``."""
    corners = np.array(list(itertools.product(*zip(box.lower, box.upper, strict=True))))
    return Box.around(corners @ rotation)
