"""What the worker makes a result of without a fit: plain bodies, and models from files.

``body``        the body's ``shape`` of the ``sizes``, round the origin
``load_model``  the file at the body's ``path``: a saved fit, or published layers
"""

from __future__ import annotations

from pathlib import Path

from .channel import Control
from .detail_requests import fitted
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

    path, device = Path(str(request.body.get("path"))), planning.device_named(str(request.body.get("device") or "auto"))
    sdf = load_layers(path).to(device) if path.suffix.lower() == ".npz" else storage.load(path, device)
    resolution = int(request.body.get("resolution") or sdf.info.get("resolution") or 256)
    return fitted(sdf, resolution, control)


HANDLERS = {"body": body, "load_model": load_model}
