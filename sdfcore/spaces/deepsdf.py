"""Published DeepSDF auto-decoders as spaces: from the folders that the programs of others write.

Two layouts are known. *An experiment* of Park et al.'s program, and of those built on it: ``specs.json``,
``ModelParameters/latest.pth`` and ``LatentCodes/latest.pth``. *A run* of Comi's: ``weights.pt`` and ``settings.yaml``;
its codes lie in a pickled file, which is not read, but ``codes.npy`` (N, L) beside it is.

These ``.pth`` files are the one exception to safetensors: torch reads them without running code (``weights_only``).
Matrices stored as direction and length (weight normalisation, Salimans & Kingma 2016) are multiplied out.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..errors import InputError, StorageError
from ..geometry import Box, Frame
from ..networks import DeepSDFDecoder
from ..networks.layers import linears
from .space import Latent, Space

SOURCE = "Park et al. 2019 (DeepSDF)"
_ABOVE = 3  # folders over the experiment where its split is looked for
_BROKEN = (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError, UnpicklingError)
_AGAIN = "Copy the folder again."
_LAYOUT = "Give a folder with specs.json, ModelParameters/latest.pth and LatentCodes/latest.pth."


def read_deepsdf(folder: str | Path) -> Space:
    """The space in ``folder``: values as published, in the unit box itself (no frame), codes as they were learned.

    Raises:
        InputError: no such folder, neither layout, or a variant of the network that cannot be evaluated here.
        StorageError: a file is damaged, or its tensors do not fit the settings.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.", _LAYOUT)
    if (folder / "specs.json").is_file():
        plan, state, codes = _experiment(folder)
        names = _names(folder, len(codes))
    elif (folder / "weights.pt").is_file():
        plan, state, codes = _run(folder)
        names = None
    else:
        raise InputError(f"{folder} holds no DeepSDF experiment.", _LAYOUT)
    network = _decoder(plan, state).eval().requires_grad_(False)
    return _space(network, codes, names or [f"{row:04d}" for row in range(len(codes))], folder.name)


def _space(network: DeepSDFDecoder, codes: Tensor, names: list[str], title: str) -> Space:
    if codes.ndim != 2 or len(codes) == 0 or codes.shape[1] != network.code_size:
        raise StorageError(
            f"The codes have the shape {tuple(codes.shape)}; (N, {network.code_size}) is needed.",
            "Take codes and network of the same experiment.",
        )
    if not torch.isfinite(codes).all():
        raise StorageError("A code is not finite.", _AGAIN)
    frame, box = Frame(np.zeros(3), 1.0), Box(-np.ones(3), np.ones(3))
    shapes = [Latent(code, frame, box, name) for code, name in zip(codes.float().numpy(), names, strict=True)]
    info = {
        "recipe": "distance", "preset": "balanced", "source": SOURCE, "title": title, "together": True,
        "imported": True, "version": __version__,
    }  # fmt: skip
    return Space(network, shapes, None, info)


# The network --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """How the layers are joined.

    Args:
        code_size: length of a code. layers: the tensors' prefix of every layer, in order, the last one included.
        coded: layers that read code and point again. pointed: layers that read the point alone again.
        norms: hidden layer → prefix of its layer normalisation. squashes: final hyperbolic tangents.
    """

    code_size: int
    layers: list[str]
    coded: frozenset[int] = frozenset()
    pointed: frozenset[int] = frozenset()
    norms: Mapping[int, str] = field(default_factory=dict)
    squashes: int = 1

    def __post_init__(self) -> None:
        if self.code_size < 1:
            raise ValueError(f"codes of length {self.code_size}")


def _decoder(plan: _Plan, state: Mapping[str, Tensor]) -> DeepSDFDecoder:
    """The network of ``plan`` with the tensors of ``state``.

    Raises:
        StorageError: one is missing, or of another shape.
    """
    matrices = [_matrix(state, prefix) for prefix in plan.layers]
    widths = [len(matrix) for matrix in matrices[:-1]]
    again = sorted(plan.coded | plan.pointed)
    try:
        network = DeepSDFDecoder(plan.code_size, widths, again, sorted(plan.coded), sorted(plan.norms), plan.squashes)
    except ValueError as error:
        raise StorageError(f"The settings do not describe a network: {error}.", _AGAIN) from error
    tensors: dict[str, Tensor] = {}
    for i, (prefix, matrix) in enumerate(zip(plan.layers, matrices, strict=True)):
        whole = linears(network.field.layers)[i]
        reads = i == 0 or i in plan.coded
        # Columns as published: what the layer before gives, the code, the point.
        before = whole.in_features - 3 if i in plan.coded else 0
        wanted = (whole.out_features, whole.in_features + (plan.code_size if reads else 0))
        if matrix.shape != wanted:
            raise StorageError(
                f"The layer {prefix} has the shape {tuple(matrix.shape)}; {wanted} is needed.",
                "The settings belong to another network.",
            )
        if reads:
            tensors[f"shifts.{i}.weight"] = matrix[:, before : before + plan.code_size]
            matrix = torch.cat([matrix[:, :before], matrix[:, before + plan.code_size :]], dim=1)
        tensors[f"field.layers.{i}.weight"] = matrix
        tensors[f"field.layers.{i}.bias"] = _tensor(state, f"{prefix}.bias")
    for i, prefix in plan.norms.items():
        for name in ("weight", "bias"):
            tensors[f"field.norms.{i}.{name}"] = _tensor(state, f"{prefix}.{name}")
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise StorageError(f"The tensors do not fit the network: {error}.", _AGAIN) from error
    return network


def _tensor(state: Mapping[str, Tensor], name: str) -> Tensor:
    found = state.get(name)
    if found is None:
        raise StorageError(f"The tensor {name!r} is missing.", "The settings belong to another network.")
    if not torch.isfinite(found).all():
        raise StorageError(f"The tensor {name!r} is not finite.", _AGAIN)
    return found.float()


def _matrix(state: Mapping[str, Tensor], prefix: str) -> Tensor:
    """(O, I): stored whole, or as the lengths and directions of its rows in either of torch's two ways."""
    for length, direction in (("weight_g", "weight_v"), (f"{_HOOK}0", f"{_HOOK}1")):
        if f"{prefix}.{direction}" in state:
            rows = _tensor(state, f"{prefix}.{direction}")
            return rows * (_tensor(state, f"{prefix}.{length}") / rows.norm(dim=1, keepdim=True))
    found = _tensor(state, f"{prefix}.weight")
    if found.ndim != 2:
        raise StorageError(f"The tensor '{prefix}.weight' is no matrix.", _AGAIN)
    return found


_HOOK = "parametrizations.weight.original"


# An experiment ------------------------------------------------------------------------------------------------------


def _experiment(folder: Path) -> tuple[_Plan, dict[str, Tensor], Tensor]:
    specs = _json(folder / "specs.json")
    with _about(folder / "specs.json"):
        architecture = specs.get("NetworkArch", "deep_sdf_decoder")
        if architecture != "deep_sdf_decoder":
            raise InputError(f"The architecture {architecture!r} is not known.", "Known is deep_sdf_decoder.")
        plan = _plan_of(specs["NetworkSpecs"], int(specs["CodeLength"]))
    state = _state(_loaded(folder / "ModelParameters" / "latest.pth"), "model_state_dict")
    held = _loaded(folder / "LatentCodes" / "latest.pth").get("latent_codes")
    codes = held.get("weight") if isinstance(held, Mapping) else held
    if not isinstance(codes, Tensor):
        raise StorageError(f"{folder / 'LatentCodes' / 'latest.pth'} holds no codes.", _AGAIN)
    if codes.ndim == 3 and codes.shape[1] == 1:  # the oldest files keep one row for each code
        codes = codes[:, 0]
    return plan, state, codes


def _plan_of(specs: Mapping[str, Any], code_size: int) -> _Plan:
    """What ``NetworkSpecs`` describe.

    A layer that reads code and point again wins over "xyz in all". The value always goes through a hyperbolic tangent;
    ``use_tanh`` adds one before it. Dropout is not active in a trained network.
    """
    if int(specs.get("geom_dimension", 3)) != 3:
        raise InputError("The shapes of this space are not three-dimensional.", "Give a decoder of shapes in space.")
    last = len(specs["dims"])
    coded = frozenset(int(i) for i in specs.get("latent_in") or ())
    pointed = frozenset(range(1, last + 1)) - coded if specs.get("xyz_in_all") else frozenset()
    if not coded <= set(range(1, last + 1)):
        raise ValueError(f"the code is read in {sorted(coded)}, of {last + 1} layers")
    normed = () if specs.get("weight_norm") else specs.get("norm_layers") or ()
    return _Plan(
        code_size,
        [f"lin{i}" for i in range(last + 1)],
        coded,
        pointed,
        {int(i): f"bn{int(i)}" for i in normed if int(i) < last},
        2 if specs.get("use_tanh") else 1,
    )


def _names(folder: Path, count: int) -> list[str] | None:
    """The shapes' names in the order of their codes, from the split they were learned from if it is at hand."""
    listed = str(_json(folder / "specs.json").get("TrainSplit") or "")
    if not listed:
        return None
    above = [folder, *folder.resolve().parents[:_ABOVE]]
    for path in [base / listed for base in above] + [folder / Path(listed).name]:
        if path.is_file():
            found = _listed(_json(path))
            return found if len(found) == count == len(set(found)) else None
    return None


def _listed(split: Mapping[str, Any]) -> list[str]:
    """``{"dataset": {"class": ["instance", …]}}`` as names: the instances where they differ, else with their class."""
    rows = [
        (str(name), str(kind), str(one))
        for name, kinds in split.items()
        if isinstance(kinds, Mapping)
        for kind, ones in kinds.items()
        if isinstance(ones, list)
        for one in ones
    ]
    for first in (2, 1, 0):
        names = ["/".join(row[first:]) for row in rows]
        if len(set(names)) == len(names):
            break
    return names


# A run --------------------------------------------------------------------------------------------------------------


def _run(folder: Path) -> tuple[_Plan, dict[str, Tensor], Tensor]:
    """Comi's network: from eight layers on, the fourth is a narrower one, behind which code and point are read again.

    With fewer, the last of its hidden layers is not used. Without codes, there is the one in the middle: zero.
    """
    settings = _settings(folder / "settings.yaml")
    with _about(folder / "settings.yaml"):
        size, count = int(settings["latent_size"]), int(settings["num_layers"])
        skips = settings.get("skip_connections", "false").lower() == "true" and count >= 5
        if skips:
            hidden = [*(f"net.{i}.0" for i in range(3)), "skip_layer.0", *(f"net.{i}.0" for i in range(3, count - 2))]
        else:
            hidden = [f"net.{i}.0" for i in range(count - 1)]
        plan = _Plan(size, [*hidden, "final_layer.0"], frozenset({4}) if skips else frozenset())
    codes = torch.zeros(1, size)
    if (folder / "codes.npy").is_file():
        with _about(folder / "codes.npy"):
            codes = torch.as_tensor(np.load(folder / "codes.npy", allow_pickle=False).astype(np.float32))
    return plan, _state(_loaded(folder / "weights.pt"), None), codes


def _settings(path: Path) -> dict[str, str]:
    """The plain ``name: value`` lines of a YAML file."""
    with _about(path):
        lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip().strip("'\"") for name, colon, value in pairs if colon}


# Files --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _about(path: Path) -> Iterator[None]:
    """Whatever a damaged file leads to becomes one error that names it."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.", _LAYOUT) from error
    except _BROKEN as error:
        raise StorageError(f"{path} is damaged or not what its name says: {error!r}.", _AGAIN) from error


def _json(path: Path) -> dict[str, Any]:
    with _about(path):
        body = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(body, dict):
            raise ValueError("it holds no object")
        return body


def _loaded(path: Path) -> dict[str, Any]:
    """A file of torch, of tensors and plain values: anything that would have to be run is refused."""
    with _about(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        body = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(body, Mapping):
            raise ValueError("it holds no names")
        return dict(body)


def _state(body: Mapping[str, Any], key: str | None) -> dict[str, Tensor]:
    """The network's tensors by name, without what a wrapper for several devices put before them."""
    held = body if key is None else body.get(key)
    if not isinstance(held, Mapping) or not all(isinstance(value, Tensor) for value in held.values()):
        raise StorageError("The file holds no network's tensors.", _AGAIN)
    return {str(name).removeprefix("module."): value for name, value in held.items()}
