"""Pictures of a field straight from rays: shading, soft shadows, ambient occlusion, depth and normals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..errors import InputError
from ..extraction import default_box
from ..fields import NeuralSDF, value_and_gradient
from ..geometry import Array, Box
from ..networks.lipschitz import Lipschitz
from .bounds import bound_of
from .boxes import through
from .rays import Hits, cast, trace

Progress = Callable[[float], None]
_TILE = 1 << 14  # rays at once
_CLAY = (0.80, 0.84, 0.90)
_STEEPER = 1.25  # than the steepest slope that was seen, a field may be between
_TAPS = 5  # samples along the normal that tell what stands around


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Args:
        position, target, up: (3,) world: where it is, what it looks at, what is upwards in the picture.
        angle: degrees between the left and the right border, or between lower and upper if the picture is higher.
    Raises:
        InputError: it looks along ``up``, or at where it is.
    """

    position: Array
    target: Array
    up: Array
    angle: float = 40.0

    @classmethod
    def around(cls, box: Box, *, turn: float = 35.0, rise: float = 20.0, up: str = "z", angle: float = 40.0) -> Camera:
        """One that has all of ``box`` in its picture.

        Args:
            turn, rise: degrees round the axis ``up`` from the front, and above the horizon.
        """
        axis = np.eye(3)["xyz".index(up)]
        front = np.eye(3)[{"x": 1, "y": 2, "z": 1}[up]] * (-1.0 if up == "z" else 1.0)
        side = np.cross(axis, front)
        flat = math.cos(math.radians(turn)) * front + math.sin(math.radians(turn)) * side
        ahead = math.cos(math.radians(rise)) * flat + math.sin(math.radians(rise)) * axis
        away = 1.02 * box.diagonal / 2 / math.sin(math.radians(angle / 2))
        return cls(box.centre + away * ahead, box.centre, axis, angle)

    def rays(self, width: int, height: int) -> tuple[Array, Array]:
        """Origins and directions (height · width, 3), unit length, row by row from the top."""
        ahead = np.asarray(self.target, np.float64) - self.position
        right = np.cross(ahead, self.up)
        if np.linalg.norm(right) < 1e-9 * max(float(np.linalg.norm(ahead)), 1e-300):
            raise InputError("The camera looks along what is upwards, or at itself.", "Move it, or choose another up.")
        ahead, right = ahead / np.linalg.norm(ahead), right / np.linalg.norm(right)
        upward = np.cross(right, ahead)
        reach = math.tan(math.radians(self.angle / 2)) / max(width, height)
        x = (2 * np.arange(width) + 1 - width) * reach
        y = (height - 1 - 2 * np.arange(height)) * reach
        directions = ahead + x[None, :, None] * right + y[:, None, None] * upward
        directions = (directions / np.linalg.norm(directions, axis=2, keepdims=True)).reshape(-1, 3)
        return np.broadcast_to(self.position, directions.shape).copy(), directions


@dataclass(frozen=True)
class Picture:
    """What a camera sees.

    Args:
        colour: (H, W, 4) in [0, 1], with opacity. depth: (H, W) world units along the rays, infinite beside the shape.
        normals: (H, W, 3) world, zero beside the shape. evaluations: of field and bound for each ray, on average.
    """

    colour: Array
    depth: Array
    normals: Array
    evaluations: float


def render(
    sdf: NeuralSDF,
    camera: Camera,
    width: int = 512,
    height: int = 512,
    *,
    level: float = 0.0,
    light: Array | None = None,
    certain: bool = False,
    on_progress: Progress = lambda fraction: None,
) -> Picture:
    """The level set as ``camera`` sees it.

    Args:
        level: world units.
        light: (3,) world, towards the light; by default above the camera's left shoulder.
        certain: rays by bounds, which pass nothing; else sphere tracing with steps that the steepest slope that was
            seen allows, or, where a network's slope is 1 by construction, with whole ones.
        on_progress: given a fraction that never falls; what it raises ends the picture.
    Raises:
        UnsupportedLayerError: ``certain``, and the network has a layer without a rule.
    """
    done = 0
    scene = _Scene(sdf, level, certain, lambda: on_progress(done / max(len(origins), 1)))
    seen_from, along = camera.rays(width, height)
    seen_from = (seen_from - sdf.frame.centre) / sdf.frame.scale  # before they are rounded: the shape may be far off
    origins, directions = (torch.from_numpy(v).to(sdf.device, torch.float32) for v in (seen_from, along))
    toward = torch.as_tensor(_light(camera) if light is None else np.asarray(light), dtype=torch.float32)
    toward = functional.normalize(toward.to(sdf.device), dim=0)
    parts = []
    for some, ways in zip(origins.split(_TILE), directions.split(_TILE), strict=True):
        parts.append(scene.seen(some, ways, toward))
        done += len(some)
        on_progress(done / len(origins))
    colour, depth, normals = (torch.cat([part[i] for part in parts]).cpu().numpy() for i in range(3))
    shape = (height, width)
    return Picture(
        colour.reshape(*shape, 4), depth.reshape(shape), normals.reshape(*shape, 3), scene.asked / len(origins)
    )


def _light(camera: Camera) -> Array:
    ahead = np.asarray(camera.target, np.float64) - camera.position
    right = np.cross(ahead, camera.up)
    unit = lambda v: v / np.linalg.norm(v)
    return -0.5 * unit(ahead) - 0.45 * unit(right) + 0.75 * unit(np.asarray(camera.up, np.float64))


class _Scene:
    """A shape in its unit box under one light."""

    def __init__(self, sdf: NeuralSDF, level: float, certain: bool, tick: Callable[[], None] = lambda: None) -> None:
        self.tick: Progress = lambda _: tick()
        self.frame, self.network, self.level = sdf.frame, sdf.network, level / sdf.frame.scale
        self.box = default_box(sdf, level)
        self.size = float(self.box.size.max())
        self.tolerance = 2e-4 * self.size
        self.bound = bound_of(sdf.network) if certain else None
        self.device, self.asked = sdf.device, 0
        self.slope = 1.00001 if isinstance(sdf.network, Lipschitz) else self._steepest()

    def _steepest(self) -> float:
        draw = torch.Generator().manual_seed(0)
        share = torch.rand(1 << 14, 3, generator=draw).to(self.device)
        lower, size = (
            torch.as_tensor(v.copy(), dtype=torch.float32).to(self.device) for v in (self.box.lower, self.box.size)
        )
        gradient = self._gradient(lower + share * size)
        return max(1.0, _STEEPER * float(gradient.norm(dim=1).quantile(0.999)))

    def _gradient(self, points: Tensor) -> Tensor:
        with torch.no_grad():
            return value_and_gradient(self.network, points)[1].detach()

    def _cast(self, origins: Tensor, directions: Tensor, near: Tensor | float = 0.0) -> Hits:
        begin, end = self._within(origins, directions)
        begin = torch.maximum(begin, torch.as_tensor(near, device=begin.device, dtype=begin.dtype))
        level, tolerance = self.level, self.tolerance
        if self.bound is None:
            hits = trace(
                self.network,
                origins,
                directions,
                near=begin,
                far=end,
                level=level,
                slope=self.slope,
                tolerance=tolerance,
            )
        else:
            hits = cast(
                self.bound, self.network, origins, directions, near=begin, far=end, level=level, tolerance=tolerance,
                capped=True, on_progress=self.tick,
            )  # fmt: skip
        self.asked += hits.evaluations + hits.bounds
        return hits

    def _within(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) where rays enter and leave the box; beyond it there is nothing."""
        lower, upper = (
            torch.as_tensor(v.copy(), dtype=torch.float32).to(origins) for v in (self.box.lower, self.box.upper)
        )
        return through(origins, directions, lower, upper)

    def seen(self, origins: Tensor, directions: Tensor, light: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Colour (n, 4), depth (n,) in world units and normals (n, 3) of rays in the unit box."""
        hits = self._cast(origins, directions)
        rows = torch.nonzero(hits.hit)[:, 0]
        points = origins[rows] + hits.distance[rows, None] * directions[rows]
        normal = functional.normalize(self._gradient(points), dim=1)
        colour = torch.zeros(len(origins), 4, device=origins.device)
        colour[rows, :3] = self._lit(points, normal, directions[rows], light)
        colour[rows, 3] = 1.0
        normals = torch.zeros_like(origins)
        normals[rows] = normal
        return colour, hits.distance * self.frame.scale, normals

    def _lit(self, points: Tensor, normal: Tensor, view: Tensor, light: Tensor) -> Tensor:
        """(n, 3) clay under a key light with soft shadows, and the sky with what stands around."""
        facing = (normal @ light).clamp(min=0)
        shadow = torch.zeros_like(facing)
        lit = torch.nonzero(facing > 0)[:, 0]
        shadow[lit] = self._unshadowed(points[lit] + 4 * self.tolerance * normal[lit], light)
        around = self._open(points, normal)
        half = functional.normalize(light - view, dim=1)
        shine = 0.15 * (normal * half).sum(dim=1).clamp(min=0) ** 40 * shadow
        edge = (1 + (normal * view).sum(dim=1)).clamp(0, 1) ** 3
        bright = 0.78 * facing * shadow + (0.34 + 0.06 * normal[:, 2] - 0.12 * edge) * around
        clay = torch.tensor(_CLAY, device=points.device)
        return (clay * bright[:, None] + shine[:, None]).clamp(0, 1)

    def _unshadowed(self, points: Tensor, light: Tensor) -> Tensor:
        """(n,) how much of the light arrives: by how near to the shape the way to it comes, as a part of the way
        (Quilez 2010, soft shadows of distance fields)."""
        end = self._within(points, light.expand_as(points))[1]
        along = torch.full_like(end, 4 * self.tolerance)
        open_ = torch.ones_like(end)
        for _ in range(48):
            rows = torch.nonzero((along < end) & (open_ > 0.01))[:, 0]
            if not len(rows):
                break
            with torch.no_grad():
                value = self.network(points[rows] + along[rows, None] * light) - self.level
            self.asked += len(rows)
            open_[rows] = torch.minimum(open_[rows], (10 * value / (self.slope * along[rows])).clamp(0, 1))
            along[rows] += (value / self.slope).clamp(min=0.01 * self.size, max=0.1 * self.size)
        return open_

    def _open(self, points: Tensor, normal: Tensor) -> Tensor:
        """(n,) in [0, 1]: how much less than the way along the normal the field grows (Evans 2006)."""
        closed = torch.zeros(len(points), device=points.device)
        for tap in range(1, _TAPS + 1):
            away = 0.02 * self.size * tap
            with torch.no_grad():
                value = self.network(points + away * normal) - self.level
            self.asked += len(points)
            closed += (away - value).clamp(min=0) / away * 0.6**tap
        return (1 - 1.1 * closed / sum(0.6**tap for tap in range(1, _TAPS + 1))).clamp(0.15, 1)
