"""What a fit was and how good it became, as JSON values.

The report of ``sdfcore fit --report`` and of the worker's ``done`` event. Strict JSON: a number that is not finite
becomes ``null``. Units: distances in world units, times in seconds, gradient lengths without unit (1 for an exact SDF).
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__
from .errors import InputError
from .files import replacing
from .geometry import Array, Box, Mesh, PointCloud

if TYPE_CHECKING:
    from .fields import NeuralSDF
    from .fitting import Fit
    from .metrics import Comparison

FORMAT = "sdfcore-report"

# Share of the unit box's half size below which a sample counts as on the surface: there the data itself trains the
# gradient, so it says nothing about the field between surface and border.
_NEAR = 0.01
_CHUNK = 16384
_GIVE = "Give a file that 'sdfcore fit --report' wrote."


def build_report(
    fit: Fit,
    mesh: Mesh,
    *,
    seconds: Mapping[str, float],
    comparison: Comparison | None = None,
    gradient: Mapping[str, Any] | None = None,
    distance: Mapping[str, Any] | None = None,
    level: float = 0.0,
    resolution: int | None = None,
    stopped: bool = False,
) -> dict[str, Any]:
    """The report of a finished fit.

    Args:
        fit: after its last step.
        mesh: the extracted surface, world units.
        seconds: wall time by stage, e.g. ``{"reading": 0.2, "fitting": 9.8, "extracting": 1.1, "total": 12.0}``.
        comparison: the mesh against its source; ``None`` where it was not measured.
        gradient: of :func:`gradient_statistics`; ``None`` where it was not measured.
        distance: of :func:`sdfcore.field_error.distance_statistics`; ``None`` where there is nothing to compare with.
        resolution: cells along the box's longest side; the plan's where ``None``.
        level: extracted, world units. stopped: the fit ended before its budget, by the user.
    """
    plan = fit.plan
    return json_values(
        {
            "format": FORMAT,
            "recipe": plan.recipe,
            "reason": plan.reason,
            "preset": plan.preset,
            "device": plan.device,
            "seed": plan.seed,
            "steps": fit.step,
            "steps_planned": plan.steps,
            "stopped": stopped,
            "warnings": list(fit.warnings),
            "resolution": plan.resolution if resolution is None else resolution,
            "level": level,
            "seconds": dict(seconds),
            "input": describe_input(fit.source),
            "result": {"vertices": len(mesh.vertices), "faces": len(mesh.faces)},
            "terms": {name: values[-1] for name, values in fit.history.items() if name != "step" and len(values)},
            "history": fit.history,
            "metrics": None if comparison is None else comparison.as_dict(),
            "gradient": gradient,
            "distance": distance,
            "versions": versions(),
        }
    )


def describe_input(source: Mesh | PointCloud) -> dict[str, Any]:
    """Kind and counts of what was fitted."""
    if isinstance(source, Mesh):
        return {
            "kind": "mesh",
            "vertices": len(source.vertices),
            "faces": len(source.faces),
            "colours": source.colours is not None,
        }
    return {
        "kind": "points",
        "points": len(source),
        "normals": source.normals is not None,
        "colours": source.colours is not None,
    }


def versions() -> dict[str, str]:
    """What computed it: sdfcore, torch, numpy, python and the machine."""
    import torch

    return {
        "sdfcore": __version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def gradient_statistics(sdf: NeuralSDF, *, samples: int = 20_000, seed: int = 0) -> dict[str, Any]:
    """Lengths of the field's gradient away from the surface: 1 wherever the field is a true distance.

    Uniform samples of the data's box, grown by a tenth; those nearer to the surface than 0.01 unit are left out.

    Returns:
        ``samples``, ``mean``, ``std``, ``p05``, ``p50``, ``p95`` and a ``histogram`` of ``edges`` (B + 1) and
        ``counts`` (B); lengths beyond the last edge are counted in the last bin.
    """
    box = sdf.box.expanded(0.1 * float(sdf.box.size.max()))
    points = _uniform(box, samples, seed)
    values, lengths = _gradient_lengths(sdf, points)
    lengths = lengths[(np.abs(values) >= _NEAR) & np.isfinite(lengths)]
    if len(lengths) == 0:
        return {"samples": 0}
    edges = np.linspace(0.0, 2.0, 41)
    counts, _ = np.histogram(np.minimum(lengths, edges[-1]), edges)
    low, middle, high = np.percentile(lengths, (5, 50, 95))
    return json_values(
        {
            "samples": len(lengths),
            "mean": lengths.mean(),
            "std": lengths.std(),
            "p05": low,
            "p50": middle,
            "p95": high,
            "histogram": {"edges": np.round(edges, 6), "counts": counts},
        }
    )


def _uniform(box: Box, count: int, seed: int) -> Array:
    return np.random.default_rng(seed).uniform(box.lower, box.upper, (count, 3)).astype(np.float32)


def _gradient_lengths(sdf: NeuralSDF, points: Array) -> tuple[Array, Array]:
    """Values (N,) and gradient lengths (N,) of the unit-box network at unit ``points`` (N, 3)."""
    import torch

    from .fields import value_and_gradient

    values, lengths = [], []
    for start in range(0, len(points), _CHUNK):
        chunk = torch.from_numpy(points[start : start + _CHUNK]).to(sdf.device)
        with torch.no_grad():  # of the weights; the gradient in space is taken all the same
            value, gradient = value_and_gradient(sdf.network, chunk)
        values.append(value.detach().cpu().numpy())
        lengths.append(gradient.detach().norm(dim=1).cpu().numpy())
    return np.concatenate(values), np.concatenate(lengths)


def json_values(value: Any) -> Any:
    """``value`` with numpy scalars and arrays as Python ones, and numbers that are not finite as ``None``."""
    if isinstance(value, Mapping):
        return {str(key): json_values(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return json_values(value.tolist())
    if isinstance(value, list | tuple):
        return [json_values(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: str | os.PathLike[str], body: Mapping[str, Any]) -> None:
    """Writes strict JSON as a whole: to a temporary name beside ``path``, then renamed."""
    text = json.dumps(json_values(body), indent=2, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_report(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The report in ``path``.

    Raises:
        InputError: the file is missing, or no report.
    """
    try:
        body = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", _GIVE) from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON.", _GIVE) from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise InputError(f"{path} is no sdfcore report.", _GIVE)
    return body
