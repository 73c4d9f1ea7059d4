"""A worker that answers at once: it returns a box around what it was sent, with everything a real answer has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from bl_ext.test.neural_sdf.blender_addon.engine import FakeTransport
from bl_ext.test.neural_sdf.sdfcore.errors import InputError, describe
from bl_ext.test.neural_sdf.sdfcore.geometry import PointCloud
from bl_ext.test.neural_sdf.sdfcore.protocol import Message

MODEL = b"safetensors\0" * 100
REPORT = {
    "recipe": "distance",
    "reason": "It is a clean mesh.",
    "preset": "draft",
    "steps": 10,
    "metrics": {"chamfer": 0.0012, "hausdorff": 0.034, "watertight": True},
}
# Corners in binary order, faces counter-clockwise from outside.
_QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
BOX_FACES = np.array([t for a, b, c, d in _QUADS for t in ((a, b, c), (a, c, d))], np.int32)


def box_arrays(points: np.ndarray) -> dict[str, np.ndarray]:
    """The bounding box of ``points`` as vertices and faces."""
    lower, upper = points.min(axis=0), points.max(axis=0)
    corners = [[(lower, upper)[bit][axis] for axis, bit in enumerate(bits)] for bits in np.ndindex(2, 2, 2)]
    return {"vertices": np.array(corners, np.float32), "faces": BOX_FACES, "normals": np.ones((8, 3), np.float32)}


def answer_arrays(request: Message) -> dict[str, np.ndarray]:
    """All arrays of a ``done`` event for a fit."""
    sent = request.arrays
    arrays = box_arrays(sent["vertices"] if "vertices" in sent else sent["points"])
    last_face = len(sent["faces"]) - 1 if "faces" in sent else -1
    arrays["source_face"] = np.array([0] * 6 + [last_face] * 6, np.int32)
    arrays["sdf_error"] = np.linspace(0, 0.7, 8, dtype=np.float32)
    if "colours" in sent:
        arrays["colours"] = np.repeat(sent["colours"][:1], 8, axis=0)
    if request.kind == "fit":
        arrays["model"] = np.frombuffer(MODEL, np.uint8)
    return arrays


def progress(job: str, step: int) -> Message:
    """After ``step`` hundred of a thousand steps."""
    body = {
        "stage": "fitting",
        "step": 100 * step,
        "steps": 1000,
        "fraction": step / 10,
        "loss": 0.5,
        "seconds_left": 3.2,
    }
    return Message("progress", job, {**body, "recipe": "distance", "reason": REPORT["reason"]})


class FakeWorker:
    """Answers for :class:`FakeTransport`.

    Args:
        hold: keep silent after the first progress, as a long fit does; :meth:`release` lets it end.
        fail: titles whose fit fails.
        scan: what ``read`` finds in any file.
    """

    def __init__(self, hold: bool = False, fail: Iterable[str] = (), scan: PointCloud | None = None) -> None:
        self.hold, self.fail, self.scan = hold, set(fail), scan
        self.requests: list[Message] = []
        self.transports: list[FakeTransport] = []
        self._held: Message | None = None

    def connect(self) -> FakeTransport:
        self.transports.append(FakeTransport(self.answer))
        return self.transports[-1]

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        return [dict(m.body) for m in self.requests if m.kind == kind]

    def answer(self, request: Message) -> list[Message]:
        self.requests.append(request)
        if request.kind == "read":
            assert self.scan is not None
            named = {"points": self.scan.points, "normals": self.scan.normals, "colours": self.scan.colours}
            return [Message("done", request.job, {}, {k: v for k, v in named.items() if v is not None})]
        if request.kind == "extract":
            return [Message("done", request.job, {"report": {"metrics": None}}, answer_arrays(request))]
        if request.kind == "cancel":
            return [Message("cancelled", request.job)]
        if request.kind == "stop" and self._held is not None:
            return self.finish(self._held)
        if request.kind == "fit":
            if request.body["title"] in self.fail:
                return [Message("failed", request.job, describe(InputError("It is too flat.", "Thicken it.")))]
            if self.hold:
                self._held = request
                return [progress(request.job, 1), self.preview(request)]
            return self.finish(request)
        return []

    def preview(self, request: Message) -> Message:
        return Message("preview", request.job, {}, box_arrays(answer_arrays(request)["vertices"]))

    def finish(self, request: Message) -> list[Message]:
        done = Message("done", request.job, {"report": REPORT, "stopped": False}, answer_arrays(request))
        return [progress(request.job, 10), done]

    def release(self) -> None:
        """Let the held fit end."""
        assert self._held is not None
        self.transports[-1].feed(*self.finish(self._held))
