"""The authors' own SIREN, DiGS or StEik on one file of points, for so many seconds, as a process to be measured.

Their code is not part of this project: it is imported from a checkout of theirs. Networks, losses, sampling, rates and
clipping are theirs, as their scripts set them; the loop here stops by the clock, and the mesh is extracted as ours are.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import click
import numpy as np
import torch
from torch import Tensor, nn

from sdfcore.extraction import extract
from sdfcore.geometry import Array, Box, Mesh, PointCloud
from sdfcore.reading import read
from sdfcore.writing import write

_UNUSED = ("open3d", "tensorboardX", "plotly", "skvideo", "torchvision", "plyfile", "configargparse", "cv2", "h5py")
_DECAY = (1e2, 0.2, 1e2, 0.4, 0.0, 0.0)  # of both DiGS's and StEik's scripts for scans
_POINTS = {"siren": 1400, "digs": 15_000, "steik": 15_000}  # on the surface, and as many off it
_RATES = {"siren": 1e-4, "digs": 5e-5, "steik": 1e-4}

Step = Callable[[float], Tensor]


class _Absent:
    """Finds what the checkouts import for pictures and logs, and is never called here."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.split(".")[0] not in _UNUSED or importlib.util.find_spec is None:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> ModuleType:
        made: Any = MagicMock(name=spec.name)
        made.__path__, made.__spec__ = [], spec
        return made

    def exec_module(self, module: ModuleType) -> None:
        pass


def _siren(
    points: Array, normals: Array, random: np.random.Generator, device: torch.device
) -> tuple[nn.Module, Step, Callable[..., Tensor]]:
    modules, losses = (importlib.import_module(name) for name in ("modules", "loss_functions"))
    model = modules.SingleBVPNet(type="sine", in_features=3).to(device)
    count = _POINTS["siren"]

    def step(progress: float) -> Tensor:
        rows = random.integers(0, len(points), count)
        places = np.concatenate([points[rows], random.uniform(-1, 1, (count, 3))])
        outward = np.concatenate([normals[rows], -np.ones((count, 3))])
        known = np.concatenate([np.zeros((count, 1)), -np.ones((count, 1))])
        tensors = [torch.from_numpy(v[None].astype(np.float32)).to(device) for v in (places, outward, known)]
        found = losses.sdf(model({"coords": tensors[0]}), {"normals": tensors[1], "sdf": tensors[2]})
        return torch.stack([loss.mean() for loss in found.values()]).sum()

    return model, step, lambda x: model({"coords": x[None]})["model_out"][0, :, 0]


def _digs_like(
    name: str, points: Array, random: np.random.Generator, device: torch.device
) -> tuple[nn.Module, Step, Callable[..., Tensor]]:
    common = {"latent_size": 0, "in_dim": 3, "nl": "sine", "encoder_type": "none", "init_type": "mfgi"}
    losses = importlib.import_module("models.losses")
    if name == "digs":
        net = importlib.import_module("models.DiGS").DiGSNetwork
        model = net(decoder_hidden_dim=256, decoder_n_hidden_layers=4, sphere_init_params=[1.6, 0.1], **common)
        loss = losses.DiGSLoss([3e3, 1e2, 1e2, 5e1, 1e2], "siren_wo_n_w_div", "linear", "l1")
    else:
        net = importlib.import_module("models.Net").Network
        model = net(
            decoder_hidden_dim=128, decoder_n_hidden_layers=5, sphere_init_params=[1.6, 0.1],
            neuron_type="quadratic", **common,
        )  # fmt: skip
        kind = next(value for key, value in vars(losses).items() if key.endswith("Loss") and isinstance(value, type))
        loss = kind(
            weights=[2e3, 1e2, 1e2, 5e1, 1e2], loss_type="siren_wo_n_w_div", div_decay="linear", div_type="dir_l1"
        )
    count, grid = _POINTS[name], np.linspace(-1.1, 1.1, 256)
    model = model.to(device)
    given = lambda places: torch.from_numpy(places.astype(np.float32)).to(device).requires_grad_()

    def step(progress: float) -> Tensor:
        on = given(points[None, random.integers(0, len(points), count)])
        off = given(grid[random.integers(0, 256, (1, count, 3))])
        found, _ = loss(model(off, on), on, off, torch.zeros_like(on))
        loss.update_div_weight(int(10_000 * progress), 10_000, _DECAY)
        total: Tensor = found["loss"]
        return total

    return model, step, lambda x: model.decoder(x)[:, 0]


def _train(model: nn.Module, step: Step, rate: float, clip: float, seconds: float) -> Iterator[int]:
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    begun, taken = time.perf_counter(), 0
    while (passed := time.perf_counter() - begun) < seconds:
        optimiser.zero_grad()
        step(passed / seconds).backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimiser.step()
        if next(model.parameters()).is_cuda:  # or the clock would tell of steps that are only queued
            torch.cuda.synchronize()
        taken += 1
        yield taken


@click.command(hidden=True)
@click.argument("name", type=click.Choice(list(_POINTS)))
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--checkout", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--training", type=float, default=60.0)
@click.option("--resolution", type=int, default=256)
@click.option("--device", default="cpu")
def one_official(
    name: str, source: Path, output: Path, checkout: Path, training: float, resolution: int, device: str
) -> None:
    """Train NAME on SOURCE for so many seconds, write OUTPUT, print what it took as JSON."""
    cloud = read(source)
    if not isinstance(cloud, PointCloud) or cloud.normals is None:
        raise click.UsageError(f"{source.name} holds no points with normals.")
    sys.meta_path.append(_Absent())
    sys.path.insert(0, str(checkout))
    torch.manual_seed(0)
    centre = cloud.points.mean(axis=0, dtype=np.float64)
    moved = cloud.points - centre
    if name == "siren":  # as its loader has it: the smallest and largest of all coordinates to -1 and 1
        low, high = moved.min(), moved.max()
        centre, scale = centre + (low + high) / 2, (high - low) / 2
    else:
        scale = np.abs(moved).max()
    points, random = (cloud.points - centre) / scale, np.random.default_rng(0)
    place = torch.device(device)
    made = _siren(points, cloud.normals, random, place) if name == "siren" else _digs_like(name, points, random, place)
    model, step, field = made
    taken = max(_train(model, step, _RATES[name], 1.0 if name == "siren" else 10.0, training))
    box = Box.around(points.astype(np.float64)).expanded(0.05)
    with torch.no_grad():
        border = torch.from_numpy(np.array([box.lower, box.upper], dtype=np.float32)).to(place)
        sign = 1.0 if float(field(border).mean()) > 0 else -1.0
    found = extract(lambda x: sign * field(x), box, resolution=resolution, refine=0, device=place)
    write(output, Mesh(found.vertices * scale + centre, found.faces))
    click.echo(json.dumps({"recipe": name, "steps": taken, "training": training}))
