"""A fitted shape as an ONNX model: ``points`` (N, 3) in world units → ``distance`` (N,), negative inside."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ExportError, InputError
from ..fields import NeuralSDF
from . import differs, trial_points

OPSET = 18
_HINT = "Install them beside sdfcore: pip install onnx onnxscript (the extra sdfcore[export] has them)."


class _World(nn.Module):
    """The network between world coordinates and world distances, both float32."""

    def __init__(self, sdf: NeuralSDF) -> None:
        super().__init__()
        self.network = copy.deepcopy(sdf.network)  # which will be moved and frozen
        self.register_buffer("centre", torch.tensor(sdf.frame.centre.copy(), dtype=torch.float32))
        self.centre: Tensor
        self.scale = float(sdf.frame.scale)

    def forward(self, points: Tensor) -> Tensor:
        value: Tensor = self.network((points - self.centre) / self.scale)
        return value * self.scale


def to_onnx(sdf: NeuralSDF) -> bytes:
    """The content of an .onnx file, made by torch's exporter and evaluated beside the network before it is given.

    Raises:
        InputError: onnx or onnxscript is not installed. ExportError: torch cannot express the network, or what it
            made gives other values.
    """
    try:
        import onnx
        import onnx.reference
        import onnxscript  # noqa: F401 - which torch's exporter needs, and would miss with less to say
    except ImportError as error:
        raise InputError("ONNX files need the packages onnx and onnxscript.", _HINT) from error
    points = torch.from_numpy(trial_points(sdf)).float()
    whole = _World(sdf).to("cpu").eval().requires_grad_(False)
    with torch.no_grad():
        whole(points)  # and caches what the network makes on its first evaluation
        unit = torch.from_numpy(sdf.frame.to_unit(trial_points(sdf))).float()
        expected = (whole.network(unit) * sdf.frame.scale).numpy()
    with _quiet():
        try:
            program = torch.onnx.export(
                whole, (points,), dynamo=True, opset_version=OPSET, input_names=["points"],
                output_names=["distance"], dynamic_shapes=({0: torch.export.Dim("count")},), verbose=False,
            )  # fmt: skip
        except Exception as error:  # the exporter's own kinds are not public
            raise ExportError(
                f"torch cannot write this network as ONNX: {type(error).__name__}.", "Write a volume (.vdb) instead."
            ) from error
    assert program is not None
    model = program.model_proto
    _describe(model, sdf)
    found: Any = onnx.reference.ReferenceEvaluator(model).run(None, {"points": points.numpy()})
    differs(sdf, np.asarray(found[0]), expected, "ONNX")
    return bytes(model.SerializeToString())


def _describe(model: Any, sdf: NeuralSDF) -> None:
    box = sdf.frame.box_to_world(sdf.box)
    told = {
        "description": "signed distance, negative inside; world units",
        "recipe": str(sdf.info.get("recipe", "")),
        "box": json.dumps([box.lower.tolist(), box.upper.tolist()]),
    }
    for key, value in told.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells how it goes on; only its errors matter here."""
    import logging

    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
