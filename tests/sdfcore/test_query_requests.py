"""What the worker answers about a stored model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sdfcore import combining, model_requests, query_requests, requests, storage
from sdfcore.channel import Cancelled
from sdfcore.errors import InputError, StorageError
from sdfcore.geometry import Mesh
from sdfcore.protocol import Message

MODEL = np.frombuffer(storage.to_bytes(combining.body("torus", [1.0, 0.4], (3.0, 2.0, 1.0))), np.uint8)


class Control:
    """Notes what is told; may be cancelled."""

    def __init__(self, cancelled: bool = False) -> None:
        self.told: list[dict[str, Any]] = []
        self.cancelled = cancelled

    def check(self) -> None:
        if self.cancelled:
            raise Cancelled

    def progress(self, body: dict[str, Any]) -> None:
        self.check()
        self.told.append(body)


def ask(kind: str, **body: Any) -> tuple[dict[str, Any], dict[str, np.ndarray], Control]:
    control = Control()
    handler = {**query_requests.HANDLERS, "extract": requests.extract}[kind]
    said, arrays = handler(Message(kind, "j", {"device": "cpu", **body}, {"model": MODEL}), control)  # type: ignore[arg-type]
    return said, arrays, control


def test_measures_hold() -> None:
    said, _, control = ask("measure", tolerance=0.02)
    volume = 2 * np.pi**2 * 1.0 * 0.4**2
    assert said["measures"]["volume"]["low"] <= volume <= said["measures"]["volume"]["high"]
    assert said["measures"]["area"] == pytest.approx(4 * np.pi**2 * 0.4, rel=0.01)
    assert all(
        a <= c <= b
        for a, c, b in zip(
            *(said["measures"]["centroid"]["low"], (3, 2, 1), said["measures"]["centroid"]["high"]), strict=True
        )
    )
    fractions = [told["fraction"] for told in control.told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_points_are_even_and_at_the_level() -> None:
    _, arrays, _ = ask("even_points", count=300, level=0.1)
    assert arrays["points"].shape == arrays["normals"].shape == (300, 3)
    around = arrays["points"] - [3, 2, 1]
    tube = np.hypot(np.linalg.norm(around[:, :2], axis=1) - 1, around[:, 2])
    np.testing.assert_allclose(tube, 0.5, atol=1e-4)


@pytest.mark.parametrize("certain", [False, True])
def test_a_picture(certain: bool) -> None:
    camera = {"position": [3, 2, 6], "target": [3, 2, 1], "up": [0, 1, 0], "angle": 40}
    _, arrays, _ = ask("render", camera=camera, width=30, height=20, certain=certain)
    colour = arrays["colour"]
    assert colour.shape == (20, 30, 4)
    assert colour[10, 15, 3] == 0, "through the hole"
    assert colour[..., 3].max() == 1


def test_a_certain_mesh_is_said_to_be() -> None:
    said, arrays, _ = ask("extract", resolution=32, certain=True)
    assert "missed" in said["report"]["certain"]
    assert len(arrays["faces"]) > 100
    assert ask("extract", resolution=32)[0]["report"]["certain"] == ""


def test_requests_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="no model"):
        query_requests.measure(Message("measure", "j", {}, {}), Control())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="camera"):
        ask("render", width=3, height=3)
    with pytest.raises(InputError, match="camera"):
        ask(
            "render",
            camera={"position": [0, 0, float("nan")], "target": [0] * 3, "up": [0] * 3, "angle": 3},
            width=3,
            height=3,
        )


@pytest.mark.parametrize("kind", list(query_requests.HANDLERS))
def test_all_can_be_cancelled(kind: str) -> None:
    camera = {"position": [3, 2, 6], "target": [3, 2, 1], "up": [0, 1, 0], "angle": 40}
    place = np.eye(4).tolist()
    body = {"camera": camera, "width": 30, "height": 20, "device": "cpu", "places": [place, place]}
    with pytest.raises(Cancelled), torch.no_grad():
        query_requests.HANDLERS[kind](
            Message(kind, "j", body, {"model": MODEL, "model_0": MODEL, "model_1": MODEL}), Control(cancelled=True)
        )  # type: ignore[arg-type]


def test_models_are_combined_where_they_stand() -> None:
    ball = np.frombuffer(storage.to_bytes(combining.body("sphere", [1.0])), np.uint8)
    there = np.eye(4)
    there[0, 3] = 1.2
    body = {
        "places": [np.eye(4).tolist(), there.tolist()],
        "operation": "difference",
        "resolution": 64,
        "device": "cpu",
    }
    message = Message("combine", "j", body, {"model_0": ball, "model_1": ball})
    said, arrays = query_requests.combine(message, Control())  # type: ignore[arg-type]
    mesh = Mesh(arrays["vertices"], arrays["faces"])
    assert mesh.volume() == pytest.approx(4 / 3 * np.pi - np.pi * (4 + 1.2) * (2 - 1.2) ** 2 / 12, rel=0.02)
    assert said["report"]["operation"] == "difference"
    again = storage.from_bytes(arrays["model"].tobytes())
    assert (
        float(again(torch.tensor([[-0.9, 0.0, 0.0]])).detach()) < 0 < float(again(torch.tensor([[0.5, 0, 0]])).detach())
    )
    with pytest.raises(InputError, match="0 shapes"):
        query_requests.combine(Message("combine", "j", {"device": "cpu"}, {}), Control())  # type: ignore[arg-type]


def test_a_live_list_morphs_and_is_made_a_shell() -> None:
    small, large = (np.frombuffer(storage.to_bytes(combining.body("sphere", [r])), np.uint8) for r in (1.0, 2.0))
    body = {
        "places": [np.eye(4).tolist()] * 2, "steps": [{"operation": "morph", "share": 0.25}], "offset": 0.25,
        "wall": 0.2, "resolution": 64, "device": "cpu",
    }  # fmt: skip
    message = Message("combine", "j", body, {"model_0": small, "model_1": large})
    _, arrays = query_requests.combine(message, Control())  # type: ignore[arg-type]
    mesh = Mesh(arrays["vertices"], arrays["faces"])
    assert mesh.volume() == pytest.approx(4 / 3 * np.pi * (1.6**3 - 1.4**3), rel=0.02)


def test_the_nearest_point_of_a_surface() -> None:
    said, _, _ = ask("closest", point=[3.0, 2.0, 1.05])
    ring = np.array([3.0, 2.0, 1.0])
    assert np.linalg.norm(np.array(said["point"]) - ring) == pytest.approx(0.6, abs=0.01), "the hole's nearest side"
    assert said["inside"] is False
    assert said["least"] <= said["distance"] == pytest.approx(0.6, abs=0.01)


def test_bodies_and_files_become_results() -> None:
    message = Message("body", "j", {"shape": "capsule", "sizes": [0.5, 1.0], "device": "cpu"}, {})
    said, arrays = model_requests.body(message, Control())  # type: ignore[arg-type]
    assert said["report"]["recipe"] == "body"
    volume = 4 / 3 * np.pi * 0.5**3 + np.pi * 0.5**2 * 2
    assert Mesh(arrays["vertices"], arrays["faces"]).volume() == pytest.approx(volume, rel=0.01)
    file = {"file": arrays["model"]}
    load = Message("load_model", "j", {"name": "m.safetensors", "resolution": 40, "device": "cpu"}, file)
    said, arrays = model_requests.load_model(load, Control())  # type: ignore[arg-type]
    assert said["report"]["resolution"] == 40
    assert len(arrays["model"])
    broken = Message("load_model", "j", {"name": "no.npz"}, {"file": np.zeros(9, np.uint8)})
    with pytest.raises(StorageError, match=r"no\.npz is no file of published layers"):
        model_requests.load_model(broken, Control())  # type: ignore[arg-type]
    odd = Message("body", "j", {"shape": "cone", "sizes": [1.0]}, {})
    with pytest.raises(InputError, match="cone"):
        model_requests.body(odd, Control())  # type: ignore[arg-type]


def test_a_shell_has_two_sides() -> None:
    said, arrays, _ = ask("extract", resolution=48, wall=0.2, level=0.05)
    assert said["report"]["wall"] == pytest.approx(0.2)
    mesh = Mesh(arrays["vertices"], arrays["faces"])
    outer, inner = 0.45 + 0.1, 0.45 - 0.1
    assert mesh.volume() == pytest.approx(2 * np.pi**2 * (outer**2 - inner**2), rel=0.03)


@pytest.mark.parametrize(("apart", "answer"), [(1.9, True), (2.1, False)])
def test_overlaps_are_told(apart: float, answer: bool) -> None:
    ball = np.frombuffer(storage.to_bytes(combining.body("sphere", [1.0])), np.uint8)
    there = np.eye(4)
    there[0, 3] = apart
    body = {"places": [np.eye(4).tolist(), there.tolist()], "device": "cpu"}
    said, _ = query_requests.overlap(Message("overlap", "j", body, {"model_0": ball, "model_1": ball}), Control())  # type: ignore[arg-type]
    assert said["overlap"] is answer
    if answer:
        assert np.linalg.norm(said["place"]) < 1
    with pytest.raises(InputError, match="cannot be asked"):
        query_requests.overlap(Message("overlap", "j", {"device": "cpu"}, {}), Control())  # type: ignore[arg-type]


def test_a_skeleton_and_its_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    from sdfcore.queries import skeleton

    monkeypatch.setattr(skeleton, "_TRACES", 300)
    said, arrays, control = ask("skeleton", delta=0.1)
    assert said["coverage"] > 0.98
    count = len(arrays["points"])
    assert arrays["radii"].shape == arrays["parents"].shape == (count,)
    assert (arrays["parents"] < 0).sum() == 1
    assert arrays["parents"].max() < count
    assert {told["stage"] for told in control.told} == {"tracing"}
