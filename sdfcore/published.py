"""Networks that others have published as plain layers, as fitted shapes: everything that is asked of ours, of them.

The layout is that of Sharp & Jacobson's neural-implicit-queries (2022): one ``.npz`` whose names begin with the layer's
number and its kind, ``0000.dense.A`` (I, O), ``0000.dense.b`` (O,), ``0001.relu._`` (0,), …, ``0017.squeeze_last._``.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import nn

from .errors import StorageError
from .fields import NeuralSDF
from .geometry import Array, Box, Frame
from .networks import DeepSDF
from .networks.layers import linears

_BENT = ("relu", "elu")
_UNREADABLE = (OSError, ValueError, KeyError, AttributeError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
_MOST = 10_000  # layers or units: more is no such file


def load_layers(file: str | Path | IO[bytes], name: str = "") -> NeuralSDF:
    """The shape whose layers a .npz ``file`` holds, in the cube from -1 to 1.

    Args:
        name: of the file, for messages; by default that of the path.
    Raises:
        StorageError: no such file or layout, or a layer that is neither dense, ReLU nor ELU.
    """
    path = name or str(file)
    layers = _ordered(file, path)
    kinds = [kind for kind, _ in layers]
    if kinds[-1] == "squeeze_last":
        kinds.pop()
    bent = set(kinds[1::2])
    if kinds[::2] != ["dense"] * (len(kinds) // 2 + 1) or len(bent) > 1 or not bent <= set(_BENT):
        raise StorageError(
            f"{path} has the layers {', '.join(kinds)}.", "Known are dense layers with one of relu and elu in between."
        )
    dense = [held for kind, held in layers if kind == "dense"]
    network = DeepSDF([len(held["b"]) for held in dense[:-1]], squashes=0, elu=bent == {"elu"})
    with torch.no_grad():
        for layer, held in zip(linears(network.layers), dense, strict=True):
            _fill(layer, held, path)
    box = Box(np.full(3, -1.0), np.full(3, 1.0))
    return NeuralSDF(
        network.eval(),
        Frame(np.zeros(3), 1.0),
        box,
        {"recipe": "published", "source": Path(path).name, "layers": len(dense)},
    )


def _fill(layer: nn.Linear, held: dict[str, Array], path: str) -> None:
    weight, bias = held["A"].T, held["b"]
    if weight.shape != tuple(layer.weight.shape) or bias.shape != tuple(layer.bias.shape):
        raise StorageError(
            f"{path} has a dense layer of the shape {held['A'].shape}, not {tuple(layer.weight.T.shape)}.",
            "The file is damaged, or no function of three coordinates.",
        )
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise StorageError(f"{path} has weights that are no numbers.", "The file is damaged.")
    layer.weight.copy_(torch.from_numpy(weight.astype(np.float32)))
    layer.bias.copy_(torch.from_numpy(bias.astype(np.float32)))


def _ordered(file: str | Path | IO[bytes], path: str) -> list[tuple[str, dict[str, Array]]]:
    """(kind, arrays by name) of the layers, in their order."""
    found: dict[int, tuple[str, dict[str, Array]]] = {}
    try:
        with np.load(file, allow_pickle=False) as held:
            for name in held.files:
                number, kind, part = name.split(".")
                known, parts = found.setdefault(int(number), (kind, {}))
                if known != kind:
                    raise ValueError(f"layer {number} is both {known} and {kind}")
                parts[part] = np.asarray(held[name])
    except FileNotFoundError as error:
        raise StorageError(f"There is no file {path}.", "Check the path.") from error
    except _UNREADABLE as error:
        raise StorageError(f"{path} is no file of published layers: {error}.", "Give a .npz of that layout.") from error
    layers = [found[number] for number in sorted(found)]
    dense = [parts for kind, parts in layers if kind == "dense"]
    whole = all({"A", "b"} <= set(parts) and parts["b"].ndim == 1 and len(parts["b"]) <= _MOST for parts in dense)
    if not len(dense) >= 2 or len(layers) > _MOST or not whole or layers[0][0] != "dense":
        raise StorageError(f"{path} is no file of published layers.", "Give a .npz of that layout.")
    return layers
