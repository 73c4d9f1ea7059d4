"""What the worker answers about detail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sdfcore import combining, detail, detail_requests, storage
from sdfcore.errors import InputError
from sdfcore.networks import Body, Displaced, Siren
from sdfcore.protocol import Message


class Control:
    def check(self) -> None: ...

    def progress(self, body: dict[str, Any]) -> None: ...


def risen() -> Any:
    """A ball of radius 1 at (1, 0, 0) with a layer of 0.05 on it."""
    sdf = combining.body("sphere", [1.0], (1.0, 0.0, 0.0))
    layer = Siren(4, 1)
    layer.last.weight.data.zero_()
    layer.last.bias.data.fill_(-10.0)
    inner = sdf.network.sizes[0]
    sdf.network = Displaced(Body("sphere", [inner]), layer, 0.05 / sdf.frame.scale, 0.2).eval()
    return sdf


def ask(kind: str, *models: Any, **body: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    names = ["model"] if len(models) == 1 else [f"model_{i}" for i in range(len(models))]
    held = {name: np.frombuffer(storage.to_bytes(sdf), np.uint8) for name, sdf in zip(names, models, strict=True)}
    asked = Message(kind, "j", {"device": "cpu", "resolution": 32, **body}, held)
    return detail_requests.HANDLERS[kind](asked, Control())  # type: ignore[arg-type]


def radius(vertices: np.ndarray, centre: tuple[float, float, float]) -> float:
    return float(np.linalg.norm(vertices - np.array(centre), axis=1).mean())


def test_the_base_and_its_heights() -> None:
    _, arrays = ask("split_detail", risen())
    assert radius(arrays["vertices"], (1, 0, 0)) == pytest.approx(1.0, abs=2e-3)
    np.testing.assert_allclose(arrays["detail"], 0.05, rtol=5e-3)  # it has faded by as much there


def test_another_strength_with_its_model() -> None:
    said, arrays = ask("detail_strength", risen(), strength=0.5)
    assert radius(arrays["vertices"], (1, 0, 0)) == pytest.approx(1.025, abs=3e-3)
    assert said["report"]["detail"] == 0.5
    assert detail.displaced(storage.from_bytes(arrays["model"].tobytes(), "cpu"))


def test_detail_onto_another_that_stands_elsewhere() -> None:
    target = combining.body("sphere", [1.0], (5.0, 0.0, 0.0))
    places = [np.eye(4), np.eye(4)]
    places[1][0, 3] = 4.0
    _, arrays = ask("transfer_detail", target, risen(), places=[place.tolist() for place in places])
    assert radius(arrays["vertices"], (5, 0, 0)) == pytest.approx(1.05, abs=4e-3)
    with pytest.raises(InputError, match="one shape to another"):
        ask("transfer_detail", target, risen())
    with pytest.raises(InputError, match="unevenly"):
        ask("transfer_detail", target, risen(), places=[np.diag([1.0, 1, 0, 1]).tolist(), np.eye(4).tolist()])
