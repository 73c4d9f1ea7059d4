"""The request ``compare_with``: a classical method on the same input, or a mesh made elsewhere, measured as ours."""

from __future__ import annotations

from .channel import Control
from .deadline import Stopwatch
from .errors import InputError
from .geometry import Mesh
from .peers import PEERS, reconstruct
from .protocol import Message
from .requests import Answer, Measured, source_of


def compare_with(request: Message, control: Control) -> Answer:
    """The surface of the body's ``method``; if the arrays hold ``result_vertices`` and ``result_faces``, those.

    Raises:
        SdfError: there is no such method, it is not installed, or it finds no surface.
    """
    body, arrays, clock = request.body, request.arrays, Stopwatch("preparing")
    source, name = source_of(arrays), str(body.get("method") or "")
    _tell(control, clock, "preparing", 0.05)
    note = ""
    if "result_vertices" in arrays and "result_faces" in arrays:
        mesh = Mesh(arrays["result_vertices"], arrays["result_faces"])
    else:
        from .command_peer import peer_settings, points_for_peer

        if name not in PEERS:
            raise InputError(f"There is no method {name!r} to compare with.", f"Known are {', '.join(PEERS)}.")
        cloud, note = points_for_peer(source, _whole(body.get("samples")), _whole(body.get("seed")) or 0)
        clock.enter("fitting")
        _tell(control, clock, "fitting", 0.2)
        mesh = reconstruct(name, cloud, **peer_settings(name, _whole(body.get("resolution"))))
    clock.enter("measuring")
    _tell(control, clock, "measuring", 0.8)
    found = Measured.of(mesh, source, 0.0, control)
    return found.answer(
        {
            "recipe": name,
            "reason": note,
            "seconds": clock.finish(),
            "result": {"vertices": len(mesh.vertices), "faces": len(mesh.faces)},
            "metrics": None if found.comparison is None else found.comparison.as_dict(),
        },
        stopped=False,
    )


def _whole(value: object) -> int | None:
    return int(str(value)) if value else None


def _tell(control: Control, clock: Stopwatch, stage: str, fraction: float) -> None:
    control.progress(
        {
            "stage": stage, "step": 0, "steps": 0, "fraction": fraction,
            "loss": None, "seconds": clock.total, "seconds_left": None,
        }
    )  # fmt: skip
