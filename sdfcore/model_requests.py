"""What the worker makes a result of without a fit: plain bodies, and models from files.

``body``        the body's ``shape`` of the ``sizes``, round the origin
``load_model``  the array ``file``, the bytes of a file of the ``name``: a saved fit, or published layers
"""

from __future__ import annotations

import io

from .channel import Control
from .detail_requests import fitted
from .errors import InputError
from .protocol import Message
from .requests import Answer

_PLAIN = 128  # cells: flat and round bodies need no more


def body(request: Message, control: Control) -> Answer:
    """See :func:`sdfcore.combining.body`."""
    from . import combining

    told = request.body
    sdf = combining.body(str(told.get("shape")), [float(size) for size in told.get("sizes") or []])
    return fitted(sdf, int(told.get("resolution") or _PLAIN), control)


def load_model(request: Message, control: Control) -> Answer:
    """At the body's ``resolution``, or the model's own."""
    from . import planning, storage
    from .published import load_layers

    data = request.arrays.get("file")
    if data is None:
        raise InputError("The request has no file.", "Choose a file.")
    name, device = str(request.body.get("name") or ""), planning.device_named(str(request.body.get("device") or "auto"))
    if name.lower().endswith(".npz"):
        sdf = load_layers(io.BytesIO(data.tobytes()), name).to(device)
    else:
        sdf = storage.from_bytes(data.tobytes(), device)
    resolution = int(request.body.get("resolution") or sdf.info.get("resolution") or 256)
    return fitted(sdf, resolution, control)


HANDLERS = {"body": body, "load_model": load_model}
