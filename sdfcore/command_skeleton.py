"""``sdfcore query skeleton``: balls and links of a model, as a file and as a picture."""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .command_fit import check_output
from .command_space import distinct_files
from .console import Console
from .errors import InputError

if TYPE_CHECKING:
    from .queries.skeleton import Skeleton

SUFFIXES = (".obj", ".json", ".npz")


@dataclass(frozen=True)
class SkeletonCommand:
    """The options of ``sdfcore query skeleton``; :meth:`run` does it.

    Raises:
        SdfError: anything given cannot be used. Outputs are checked first, and written whole or not at all.
    """

    model: Path
    output: Path
    delta: float
    seed: int
    picture: Path | None
    axis: str
    device: str
    quiet: bool

    def run(self) -> str:
        """Does it, and returns a line that says what was found."""
        from . import storage, writing
        from .queries.skeleton import skeleton

        if self.output.suffix.lower() not in SUFFIXES:
            raise InputError(
                f"Skeletons cannot be written as {self.output.name!r}.", f"End the name with {', '.join(SUFFIXES)}."
            )
        check_output(self.output, self.output.suffix)
        if self.picture is not None:
            check_output(self.picture, ".png")
        distinct_files([self.output, self.picture], [self.model])
        sdf, screen = storage.load(self.model, device=self.device), Console(quiet=self.quiet)
        with screen.progress(1000):
            found = skeleton(sdf, delta=self.delta, seed=self.seed, on_progress=screen.fraction)
        writing.write_bytes(self.output, bytes_of(found, self.output.suffix.lower()))
        if self.picture is not None:
            from .plots import skeleton_picture

            skeleton_picture(found, sdf, self.picture, axis=self.axis)
        return (
            f"{self.output}: {len(found.points)} balls, {len(found.edges)} links, {len(found.triangles)} triangles; "
            f"{found.coverage:.1%} of the surface lies within {found.delta:.3g} of a ball"
        )


def bytes_of(found: Skeleton, suffix: str) -> bytes:
    """The content of a file: .obj has lines and faces between the centres, .json and .npz the radii and bones, too."""
    bones = np.array(found.bones(), dtype=np.int64).reshape(-1, 2)
    arrays: dict[str, Any] = {
        "points": found.points, "radii": found.radii, "edges": found.edges, "triangles": found.triangles,
        "bones": bones,
    }  # fmt: skip
    if suffix == ".npz":
        buffer = BytesIO()
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()
    if suffix == ".json":
        told = {name: values.tolist() for name, values in arrays.items()}
        return json.dumps({**told, "delta": found.delta, "coverage": found.coverage}, allow_nan=False).encode()
    rows = [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in found.points]
    rows += [f"l {a} {b}" for a, b in found.edges + 1]
    rows += [f"f {a} {b} {c}" for a, b, c in found.triangles + 1]
    return ("\n".join(["# sdfcore skeleton", *rows]) + "\n").encode("ascii")
