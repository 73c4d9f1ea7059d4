"""A worker that answers at once: it returns a box around what it was sent, with everything a real answer has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from bl_ext.test.neural_sdf.blender_addon.engine import FakeTransport
from bl_ext.test.neural_sdf.sdfcore.errors import InputError, StorageError, describe
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


SPACE = np.frombuffer(b"a learned\0space" * 50, np.uint8)


def about(names: list[str]) -> dict[str, Any]:
    """What is said of a space of these shapes."""
    count = max(len(names) - 1, 1)
    amounts = [[float(row == column) for column in range(count)] for row in range(len(names))]
    return {"names": names, "code_size": 8, "explained": [1 / count] * count, "amounts": amounts, "info": {}}


def box_of(body: dict[str, Any]) -> dict[str, np.ndarray]:
    """A box for a place in a space: shape ``i`` of a blend is at x = 4 i, the first amount is added to its height."""
    weights = list((body.get("weights") or {"": 1.0}).values())
    x = 4 * sum(i * weight for i, weight in enumerate(weights)) / sum(weights)
    height = 1 + (body.get("amounts") or [0.0])[0]
    return box_arrays(np.array([[x - 1, -1, -1], [x + 1, 1, height]], np.float32))


def path_arrays(request: Message) -> dict[str, np.ndarray]:
    """Boxes on the way, one unit of x apart; of one box its vertices at every place."""
    boxes = [box_arrays(np.array([[i, 0, 0], [i + 1, 1, 1]], np.float32)) for i in range(request.body["frames"])]
    if request.kind == "project":
        return {**boxes[0], "positions": np.stack([box["vertices"].astype(np.float64) for box in boxes])}
    named = {f"m{i}_{name}": values for i, box in enumerate(boxes) for name, values in box.items()}
    if request.body["model"]:
        named |= {f"m{i}_model": np.frombuffer(MODEL, np.uint8) for i in range(len(boxes))}
    return named


def ball_band(voxel: float = 0.1, band: float = 0.3) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A ball of radius 1 at (1, 2, 3) as the worker gives a narrow band: blocks of 8³ voxels."""
    blocks = np.stack(np.meshgrid(*(np.arange(a, b) for a, b in ((-1, 3), (1, 4), (2, 6))), indexing="ij"), -1)
    first = blocks.reshape(-1, 3) * 8
    within = np.stack(np.meshgrid(*3 * [np.arange(8)], indexing="ij"), axis=-1)
    places = (first[:, None, None, None] + within) * voxel
    values = np.clip(np.linalg.norm(places - [1.0, 2.0, 3.0], axis=-1) - 1, -band, band).astype(np.float32)
    used = (np.abs(values) < band).any(axis=(1, 2, 3))
    return {"voxel": voxel, "band": band}, {"first": first[used].astype(np.int32), "values": values[used]}


def asked(request: Message) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The answer to a question about a model: a unit ball at (1, 2, 3), in the world of the fit."""
    if request.kind == "measure":
        ends = {"low": [0.99, 1.99, 2.99], "high": [1.01, 2.01, 3.01]}
        turns = {"low": (1.67 * np.eye(3)).tolist(), "high": (1.69 * np.eye(3)).tolist()}
        found = {"volume": {"low": 4.18, "high": 4.2}, "centroid": ends, "area": 12.56, "least_area": 12.5}
        found["inertia"] = turns
        return {"measures": found}, {}
    if request.kind == "render":
        picture = np.zeros((request.body["height"], request.body["width"], 4), np.float32)
        picture[0] = [1.0, 0.5, 0.25, 1.0]  # the highest row
        return {}, {"colour": picture}
    if request.kind == "space":
        lower = np.array([[0.0, 1, 2], [1, 1, 2], [0, 2, 3]])
        return {}, {"lower": lower, "upper": lower + 1, "state": np.array([1, -1, 0], np.int8)}
    if request.kind == "skeleton":
        return {"coverage": 1.0, "reach": 0.1}, {
            "points": np.array([[1.0, 2, 2.5], [1, 2, 3], [1, 2, 3.5], [1.5, 2, 3]]), "radii": np.full(4, 0.5, "f4"),
            "edges": np.array([[0, 1], [1, 2], [1, 3]], np.int32), "triangles": np.array([[1, 2, 3]], np.int32),
            "parents": np.array([-1, 0, 1, 1], np.int32),
        }  # fmt: skip
    normals = np.random.default_rng(0).normal(size=(request.body["count"], 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return {}, {"points": normals + np.array([1.0, 2.0, 3.0]), "normals": normals.astype(np.float32)}


def doubts() -> dict[str, np.ndarray]:
    """A box in doubt, and beside it one where something is missing."""
    lower = np.array([[0.0, 1, 2], [1, 1, 2]])
    return {"doubt_lower": lower, "doubt_upper": lower + 1, "doubt_state": np.array([1, 2], np.int32)}


class FakeWorker:
    """Answers for :class:`FakeTransport`.

    Args:
        hold: keep silent after the first progress, as a long fit does; :meth:`release` lets it end.
        fail: titles whose fit fails.
        scan: what ``read`` finds in any file.
        slow: shapes of a space are not decoded before :meth:`decode_next`.
    """

    def __init__(self, hold: bool = False, fail: Iterable[str] = (), scan: PointCloud | None = None) -> None:
        self.hold, self.fail, self.scan = hold, set(fail), scan
        self.requests: list[Message] = []
        self.transports: list[FakeTransport] = []
        self._held: Message | None = None
        self.slow = False
        self.undecoded: list[Message] = []
        self.in_doubt = False  # certain meshes are
        self.undecodable: dict[str, Any] | None = None  # why a learned space has no mesh where it was asked for

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
            places = doubts() if request.body.get("certain") and self.in_doubt else {}
            told = {"metrics": None, "certain": "Missing: something." if places else ""}
            return [Message("done", request.job, {"report": told}, {**answer_arrays(request), **places})]
        if request.kind in ("body", "load_model"):
            arrays = box_arrays(np.array([[-1, -1, -1], [1, 1, 1]], np.float32))
            model = {"model": np.frombuffer(MODEL, np.uint8)}
            return [Message("done", request.job, {"report": {"recipe": "body"}}, {**arrays, **model})]
        if request.kind == "closest":
            x, y, z = request.body["point"]
            return [Message("done", request.job, {"point": [x, y, z + 0.5], "distance": 0.5, "inside": True}, {})]
        if request.kind == "overlap":
            return [Message("done", request.job, {"overlap": True, "place": [3.0, 1.0, 1.5]}, {})]
        if request.kind in ("measure", "even_points", "render", "skeleton", "space"):
            return [Message("done", request.job, *asked(request))]
        if request.kind == "combine":
            arrays = box_arrays(np.array([[-1, -1, -1], [2, 1, 1]], np.float32))
            model = {"model": np.frombuffer(MODEL, np.uint8)}
            return [Message("done", request.job, {"report": {"recipe": "combined"}}, {**arrays, **model})]
        if request.kind == "export":
            return [Message("done", request.job, {}, {"data": np.frombuffer(b"a network", np.uint8)})]
        if request.kind == "volume":
            return [Message("done", request.job, *ball_band())]
        if request.kind == "split_detail":
            arrays = box_arrays(np.array([[0, 1, 2], [2, 3, 4]], np.float32))
            height = {"detail": np.full(len(arrays["vertices"]), 0.25, np.float32)}
            return [Message("done", request.job, {}, {**arrays, **height})]
        if request.kind in ("detail_strength", "transfer_detail"):
            arrays = {**box_arrays(np.array([[0, 1, 2], [2, 3, 4]], np.float32)), "model": np.frombuffer(MODEL, "u1")}
            return [Message("done", request.job, {"report": {"recipe": "idf"}}, arrays)]
        if request.kind == "compare_with":
            return [Message("done", request.job, {"report": REPORT}, answer_arrays(request))]
        if request.kind in ("learn", "describe", "decode", "interpolate", "project", "complete"):
            return self.answer_about_spaces(request)
        if request.kind == "cancel":
            self.undecoded = [held for held in self.undecoded if held.job != request.job]
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

    def answer_about_spaces(self, request: Message) -> list[Message]:
        if request.kind == "learn":
            if self.hold:
                self._held = request
                return [progress(request.job, 1)]
            return self.finish(request)
        if request.kind == "describe":
            if request.arrays["space"].tobytes() != SPACE.tobytes():
                return [Message("failed", request.job, describe(StorageError("It is damaged.", "Save it again.")))]
            return [Message("done", request.job, about(["a", "b", "c"]))]
        if request.kind == "decode":
            self.undecoded.append(request)
            return [] if self.slow else self.decode_next()
        report = {"resolution": 8, "frames": request.body.get("frames")}
        if request.kind == "complete":
            seen = {"observed": np.linspace(0, 0.7, 8, dtype=np.float32), "observed_mask": np.arange(8) < 4}
            arrays = {**answer_arrays(request), **{k: v.astype(np.float32) for k, v in seen.items()}}
            return [Message("done", request.job, {"report": report}, {**arrays, "model": SPACE})]
        return [Message("done", request.job, {"report": report}, path_arrays(request))]

    def decode_next(self) -> list[Message]:
        """The answer to the decode request that has waited longest."""
        request = self.undecoded.pop(0)
        if request.body.get("weights") and not sum(request.body["weights"].values()):
            return [Message("failed", request.job, describe(InputError("The weights sum to zero.", "Raise one.")))]
        arrays = box_of(dict(request.body))
        if request.body.get("model"):
            arrays["model"] = np.frombuffer(MODEL, np.uint8)
        return [Message("done", request.job, {"report": {"resolution": request.body["resolution"]}}, arrays)]

    def preview(self, request: Message) -> Message:
        return Message("preview", request.job, {}, box_arrays(answer_arrays(request)["vertices"]))

    def fail_after_training(self, *events: Message) -> None:
        """Let the held fit come to its end of training, with its model, and then to ``events``."""
        assert self._held is not None
        job = self._held.job
        model = {"model": np.frombuffer(MODEL, np.uint8)}
        self.transports[-1].feed(progress(job, 10), Message("fitted", job, {}, model), *events)

    def finish(self, request: Message) -> list[Message]:
        if request.kind == "learn":
            told = about(request.body["names"])
            if self.undecodable is not None:
                return [Message("done", request.job, {**told, "undecoded": self.undecodable}, {"space": SPACE})]
            meshed = box_of(dict(request.body["decode"])) if request.body.get("decode") else {}
            return [Message("done", request.job, told, {"space": SPACE, **meshed})]
        done = Message("done", request.job, {"report": REPORT, "stopped": False}, answer_arrays(request))
        return [progress(request.job, 10), done]

    def release(self) -> None:
        """Let the held fit end."""
        assert self._held is not None
        self.transports[-1].feed(*self.finish(self._held))
