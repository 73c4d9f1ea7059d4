"""Run by the worker's Python: small networks of every kind as shaders, with places and what the networks say there."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sdfcore.exports.shader import to_glsl, to_osl
from sdfcore.fields import NeuralSDF
from sdfcore.geometry import Box, Frame
from sdfcore.networks import (
    MLP,
    Body,
    Boxed,
    Combined,
    DeepSDF,
    FourierMLP,
    Lipschitz,
    Mended,
    Offset,
    Placed,
    Siren,
    SphereSiren,
    Turned,
)

SIDE = 16  # places as the pixels of a square picture


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    turn = torch.linalg.qr(torch.randn(3, 3)).Q
    quadratic = SphereSiren(12, 3, omega=3.0, quadratic=True)
    with torch.no_grad():  # its products and squares are nothing at first
        for parameter in quadratic.layers.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    bumped = Mended(MLP(12, 2, skip=0)).with_bump(torch.tensor([0.1, 0.0, -0.1]), 0.6, 0.2)
    shell = Offset(Siren(8, 2, omega=3.0), 0.05, 0.1)
    return {
        "mlp": MLP(24, 4, skip=2, octaves=2, leak=0.1),
        "relu": MLP(16, 3, skip=0, beta=0.0),
        "siren": Siren(16, 3, omega=10.0),
        "sphere_siren": SphereSiren(12, 3, omega=3.0),
        "quadratic": quadratic,
        "fourier": FourierMLP(12, 2, features=8, scale=0.5),
        "lipschitz": Lipschitz(12, 3),
        "turned": Turned(MLP(12, 2, skip=0), turn),
        "mended": bumped.with_bump(torch.tensor([-0.3, 0.2, 0.1]), 0.5, -0.1),
        "offset": shell,
        "deepsdf": DeepSDF([12, 12, 12], again=[1, 3], squashes=2),
        "elu": DeepSDF([12, 12], squashes=0, elu=True),
        "union": Combined([Body("sphere", [0.5]), Body("box", [0.6, 0.3, 0.4])], "union"),
        "smooth": Combined([Body("torus", [0.5, 0.2]), MLP(12, 2, skip=0), Body("plane")], "difference", 0.2),
        "round": Combined([Body("cylinder", [0.4, 0.5]), Body("capsule", [0.3, 0.4])], "intersection", 0.3, "round"),
        "chamfer": Combined([Body("cylinder", [0.4, 0.3]), Body("sphere", [0.4])], "union", 0.3, "chamfer"),
        "morph": Combined([Body("box", [0.3, 0.3, 0.3]), Siren(8, 2, omega=3.0)], "morph", share=0.3),
        "placed": Placed(
            Boxed(shell, -torch.full((3,), 0.4), torch.full((3,), 0.5)), 0.7, turn, torch.tensor([0.1, 0.2, -0.1])
        ),
    }


def main(folder: Path) -> None:
    box = Box(np.full(3, -0.85), np.full(3, 0.85))
    frame = Frame(np.array([1.0, -2.0, 0.5]), 2.0)
    across, up = np.meshgrid((np.arange(SIDE) + 0.5) / SIDE, (np.arange(SIDE) + 0.5) / SIDE)
    # The picture lies in the plane of x and y at z = 0.7, which is not that of the shape's middle.
    places = np.stack([4 * across - 1, 4 * up - 4, np.full_like(up, 0.7)], axis=-1)
    for name, network in networks().items():
        sdf = NeuralSDF(network.eval(), frame, box, {"recipe": name})
        (folder / f"{name}.glsl").write_text(to_glsl(sdf), encoding="ascii")
        (folder / f"{name}.osl").write_text(to_osl(sdf), encoding="ascii")
        with torch.no_grad():
            values = sdf(torch.from_numpy(places.reshape(-1, 3))).numpy()
        np.save(folder / f"{name}.npy", values.reshape(SIDE, SIDE))
    np.save(folder / "places.npy", places)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
