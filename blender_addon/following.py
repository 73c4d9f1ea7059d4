"""What operators share that change an object whose mesh follows something: the mesh comes by and by, or at once."""

from __future__ import annotations

from typing import Any

from ..sdfcore.errors import SdfError
from . import live
from .operators import Outcome


def follow(operator: Any, obj: Any, *, wait: bool) -> Outcome:
    """Bring the mesh of ``obj`` up to date; ``operator`` reports what goes wrong while it waits.

    One that follows nothing just now, as a list with everything switched off, keeps its mesh.
    """
    if live.follower(obj) is None:
        return {"FINISHED"}
    if not wait:
        live.follow(obj)
        return {"FINISHED"}
    try:
        live.refresh(obj)
    except SdfError as error:
        operator.report({"ERROR"}, error.line)
        return {"CANCELLED"}
    return {"FINISHED"}
