"""``sdfcore query space``: the empty space of a model, as boxes in a file."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np

from . import storage, writing
from .command_fit import check_output
from .command_space import distinct_files
from .console import Console
from .extraction import default_box
from .queries.bounds import bound_of
from .queries.empty import INSIDE, OUTSIDE, empty_space


def boxes_file(model: Path, output: Path, *, smallest: float, level: float, device: str, screen: Console) -> str:
    """The boxes written to ``output``; one line about them.

    Raises:
        InputError: the output is no .npz, or cannot be written.
    """
    check_output(output, ".npz")
    distinct_files([output], [model])
    sdf = storage.load(model, device=device)
    box = sdf.frame.box_to_world(default_box(sdf, level))
    with screen.progress(1000):
        found = empty_space(
            bound_of(sdf), box, smallest=smallest, level=level, device=device, on_progress=screen.fraction
        )
    buffer = BytesIO()
    np.savez_compressed(buffer, lower=found.lower, upper=found.upper, state=found.state)
    writing.write_bytes(output, buffer.getvalue())
    return (
        f"{output}: {len(found.state):,} boxes; {found.share(OUTSIDE):.1%} of the space is certainly outside, "
        f"{found.share(INSIDE):.1%} inside"
    )
