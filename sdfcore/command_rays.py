"""``sdfcore query rays``: rays from a file against a model."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from . import storage
from .command_space import distinct_files
from .console import Console
from .errors import InputError
from .extraction import default_box
from .files import replacing
from .geometry import Array
from .queries.bounds import bound_of
from .queries.boxes import through
from .queries.rays import cast

_UNREADABLE = (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error)
_TOLERANCE = 1e-4  # of the longest side


def cast_file(
    model: Path, given: Path, output: Path, *, far: float | None, level: float, device: str, screen: Console
) -> str:
    """The hits of the rays in ``given`` written to ``output``; one line about them.

    Raises:
        InputError: the file holds no rays, or the output is no .npz.
    """
    if output.suffix.lower() != ".npz":
        raise InputError(f"{output} is no .npz.", "Give the hits that suffix.")
    distinct_files([output], [model, given])
    origins, directions = _read(given)
    sdf = storage.load(model, device=device)
    box = sdf.frame.box_to_world(default_box(sdf, level))
    size, longest = float(box.size.max()), float(np.linalg.norm(directions, axis=1).max())
    numbers = (origins, directions, box.lower.copy(), box.upper.copy())
    start, along, lower, upper = (torch.from_numpy(v).to(device) for v in numbers)
    near, end = through(start, along, lower, upper)  # beyond the box the network knows nothing
    with screen.progress(1000):
        hits = cast(
            bound_of(sdf), sdf, start, along, near=near, far=end if far is None else end.clamp(max=far), level=level,
            tolerance=_TOLERANCE * size / longest, capped=True, on_progress=screen.fraction,
        )  # fmt: skip
    distance = hits.distance.cpu().numpy()
    with np.errstate(invalid="ignore"):
        points = origins + distance[:, None] * directions
    points[~np.isfinite(distance)] = np.nan
    with replacing(output) as part, part.open("wb") as file:  # of a path, numpy would change the suffix
        np.savez_compressed(file, distance=distance, points=points, doubtful=hits.doubtful.cpu().numpy())
    each = (hits.evaluations + hits.bounds) / max(len(distance), 1)
    met, doubted = int(np.isfinite(distance).sum()), int(hits.doubtful.sum())
    return f"{output}: {len(distance)} rays, {met} hits, {doubted} in doubt, {each:.1f} evaluations each"


def _read(path: Path) -> tuple[Array, Array]:
    try:
        with np.load(path, allow_pickle=False) as held:
            found = [np.asarray(held[name], dtype=np.float64) for name in ("origins", "directions")]
    except _UNREADABLE as error:
        raise InputError(f"{path} holds no rays: {error}.", "Give a .npz with origins and directions.") from error
    origins, directions = found
    fits = origins.ndim == 2 and origins.shape[1:] == (3,) and origins.shape == directions.shape and len(origins) > 0
    if not fits or not np.isfinite(found).all() or not np.linalg.norm(directions, axis=1).all():
        raise InputError(
            f"{path} holds origins {origins.shape} and directions {directions.shape} that make no rays.",
            "Give (N, 3) of each, finite, and no direction of length zero.",
        )
    return origins, directions
