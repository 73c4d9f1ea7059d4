"""Fit, extract and read as the add-on asks for them, through the worker's own process."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdfcore import errors, fit_request, protocol, requests
from sdfcore.channel import Cancelled
from sdfcore.geometry import Mesh, PointCloud
from sdfcore.protocol import Message
from sdfcore.storage import from_bytes

ROOT = Path(__file__).parents[2]
CENTRE, RADIUS = np.array([10.0, -4.0, 2.0]), 2.0


class Asked:
    """A worker process, and what it says."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-P", "-s", "-m", "sdfcore.worker", "--parent", str(os.getpid())]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, bufsize=0, env=environment
        )
        assert self.process.stdin
        assert self.process.stdout
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.send("hello", "", {"protocol": protocol.PROTOCOL})
        self.ready = self.until("ready")[-1]

    def send(self, kind: str, job: str, body: dict[str, Any] | None = None, **arrays: np.ndarray) -> None:
        protocol.write(self.stdin, Message(kind, job, body or {}, arrays))

    def until(self, *kinds: str) -> list[Message]:
        """All events up to the first of ``kinds``."""
        events: list[Message] = []
        while not events or events[-1].kind not in kinds:
            event = protocol.read(self.stdout)
            assert event is not None, "the worker ended"
            events.append(event)
        return events

    def events(self, kind: str, body: dict[str, Any], **arrays: np.ndarray) -> list[Message]:
        self.send(kind, "j", body, **arrays)
        return self.until("done", "failed", "cancelled")

    def done(self, kind: str, body: dict[str, Any], **arrays: np.ndarray) -> Message:
        event = self.events(kind, body, **arrays)[-1]
        assert event.kind == "done", event.body
        return event

    def error(self, kind: str, body: dict[str, Any], **arrays: np.ndarray) -> errors.SdfError:
        event = self.events(kind, body, **arrays)[-1]
        assert event.kind == "failed"
        return errors.rebuild(dict(event.body))


@pytest.fixture(scope="module")
def worker() -> Iterator[Asked]:
    asked = Asked()
    yield asked
    asked.stdin.close()
    assert asked.process.wait(10) == 0
    asked.stdout.close()


def ball(count: int = 3000) -> dict[str, np.ndarray]:
    directions = np.random.default_rng(0).normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return {"points": CENTRE + RADIUS * directions, "normals": directions}


def cube() -> dict[str, np.ndarray]:
    vertices = np.array([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([[q[i] for i in corner] for q in quads for corner in ((0, 1, 2), (0, 2, 3))], np.int32)
    colours = np.tile(np.array([[200, 10, 10, 255]], np.uint8), (8, 1))
    return {"vertices": vertices, "faces": faces, "colours": colours}


QUICK = {"preset": "draft", "steps": 60, "resolution": 48, "seed": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def fitted(worker: Asked) -> list[Message]:
    """All events of one fit of a sphere's points."""
    return worker.events("fit", QUICK, **ball())


def test_ready_tells_what_there_is(worker: Asked) -> None:
    body = worker.ready.body
    assert "cpu" in [device["id"] for device in body["devices"]]
    assert {"igr", "siren", "distance"} <= {recipe["name"] for recipe in body["recipes"]}
    assert {"name", "title", "source", "summary", "needs"} == set(body["recipes"][0])
    assert [preset["name"] for preset in body["presets"]] == ["draft", "balanced", "fine"]
    assert all(preset["steps"] > 0 < preset["resolution"] for preset in body["presets"])
    assert body["torch"][0].isdigit()


def test_a_fit_gives_a_closed_mesh_where_the_points_are(fitted: list[Message]) -> None:
    done = fitted[-1]
    mesh = Mesh(done.arrays["vertices"], done.arrays["faces"], done.arrays["normals"])
    distance = np.linalg.norm(mesh.vertices - CENTRE, axis=1)
    assert abs(distance.mean() - RADIUS) < 0.1 * RADIUS
    assert mesh.volume() == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.2)
    outward = (mesh.vertices - CENTRE) / distance[:, None]
    assert np.einsum("ij,ij->i", done.arrays["normals"], outward).mean() > 0.9
    assert done.body["stopped"] is False
    report = done.body["report"]
    assert report["metrics"]["watertight"] is True
    assert report["steps"] == 60
    assert report["warnings"] == []
    assert report["gradient"]["mean"] > 0


def test_the_error_per_vertex_is_the_distance_to_the_source(fitted: list[Message]) -> None:
    done = fitted[-1]
    nearest = np.linalg.norm(done.arrays["vertices"][:20, None] - ball()["points"][None], axis=2).min(axis=1)
    assert np.allclose(done.arrays["sdf_error"][:20], nearest, atol=1e-4)
    assert (done.arrays["source_face"] == -1).all()
    assert done.arrays["source_face"].shape == (len(done.arrays["faces"]),)


def test_progress_rises_and_names_the_recipe(fitted: list[Message]) -> None:
    bodies = [event.body for event in fitted if event.kind == "progress"]
    fractions = [body["fraction"] for body in bodies]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] <= fractions[-1] <= 1
    steps = [body["step"] for body in bodies if body["stage"] == "fitting"]
    assert steps == sorted(steps)
    last = bodies[-1]
    assert last["recipe"] in fitted[-1].body["report"]["recipe"]
    assert last["reason"].endswith(".")
    assert set(last) == {
        "stage", "step", "steps", "fraction", "loss", "seconds", "seconds_left", "recipe", "reason",
    }  # fmt: skip


def test_the_model_is_handed_over_before_the_mesh_and_again_with_it(fitted: list[Message]) -> None:
    (early,) = [event for event in fitted if event.kind == "fitted"]
    first, last = (from_bytes(event.arrays["model"].tobytes()) for event in (early, fitted[-1]))
    weights = last.network.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in first.network.state_dict().items())
    assert "smallest_part" in last.info, "what the mesh taught about its parts"


def test_a_stored_model_is_meshed_again_without_fitting(worker: Asked, fitted: list[Message]) -> None:
    model = fitted[-1].arrays["model"]
    same = worker.done("extract", {"resolution": 48}, model=model, **ball())
    assert np.allclose(same.arrays["vertices"], fitted[-1].arrays["vertices"], atol=1e-5)
    assert np.array_equal(same.arrays["faces"], fitted[-1].arrays["faces"])
    assert same.body["report"]["metrics"]["chamfer"] == pytest.approx(
        fitted[-1].body["report"]["metrics"]["chamfer"], rel=1e-3
    )
    assert "model" not in same.arrays
    grown = worker.done("extract", {"resolution": 32, "level": 0.2}, model=model)
    radius = lambda event: np.linalg.norm(event.arrays["vertices"] - CENTRE, axis=1).mean()
    assert radius(same) + 0.05 < radius(grown) < radius(same) + 0.5, "an early network is no exact distance"
    assert grown.body["report"]["metrics"] is None
    assert "sdf_error" not in grown.arrays


def test_a_mesh_hands_its_colours_and_faces_on(worker: Asked) -> None:
    done = worker.done("fit", QUICK, **cube())
    assert done.arrays["source_face"].min() >= 0
    assert done.arrays["source_face"].max() < 12
    assert (done.arrays["colours"] == [200, 10, 10, 255]).all()
    assert len(done.arrays["colours"]) == len(done.arrays["vertices"])


def test_vertices_without_faces_are_points(worker: Asked) -> None:
    done = worker.done("fit", {**QUICK, "steps": 5}, vertices=ball()["points"], normals=ball()["normals"])
    assert done.body["report"]["input"]["kind"] == "points"


def test_a_fit_goes_on_from_a_model(worker: Asked, fitted: list[Message]) -> None:
    again = worker.done("fit", {**QUICK, "steps": 40}, model=fitted[-1].arrays["model"], **ball())
    before, after = (event.body["report"]["metrics"]["chamfer"] for event in (fitted[-1], again))
    assert after < 1.2 * before


def test_seconds_are_a_promise_of_wall_time(worker: Asked) -> None:
    begun = time.monotonic()
    done = worker.done("fit", {"preset": "draft", "resolution": 48, "seconds": 6, "device": "cpu"}, **ball())
    assert time.monotonic() - begun < 7.2
    assert done.body["report"]["steps"] > 0
    assert done.body["report"]["seconds"]["total"] > 3, "the time is used"


@pytest.mark.parametrize(("promised", "passed", "samples"), [(None, 900, 100_000), (10, 8, 30_000), (10, 9.9, 5_000)])
def test_measuring_takes_less_where_time_was_promised(promised: float | None, passed: float, samples: int) -> None:
    assert fit_request._samples(promised, passed) == samples


def test_stop_keeps_what_there_is(worker: Asked) -> None:
    worker.send("fit", "j", {**QUICK, "steps": 100_000}, **ball())
    while worker.until("progress")[-1].body["step"] < 5:
        continue
    worker.send("stop", "j")
    done = worker.until("done", "failed")[-1]
    assert done.kind == "done"
    assert done.body["stopped"] is True
    assert 5 <= done.body["report"]["steps"] < 100_000
    assert len(done.arrays["faces"]) > 100


@pytest.mark.parametrize("stage", ["fitting", "extracting"])
def test_cancel_is_at_once_in_every_stage(worker: Asked, stage: str) -> None:
    body = {**QUICK, "resolution": 640, "steps": 100_000 if stage == "fitting" else 5}
    worker.send("fit", "j", body, **ball())
    while worker.until("progress", "done")[-1].body["stage"] != stage:
        continue
    begun = time.monotonic()
    worker.send("cancel", "j")
    assert worker.until("cancelled", "done", "failed")[-1].kind == "cancelled"
    assert time.monotonic() - begun < 3


def test_previews_come_while_it_trains(worker: Asked) -> None:
    body = {**QUICK, "steps": 100_000, "seconds": 5, "preview": 0.2}
    worker.send("fit", "j", body, **ball())
    events = worker.until("done", "failed")
    previews = [event for event in events if event.kind == "preview"]
    assert previews
    mesh = Mesh(previews[-1].arrays["vertices"], previews[-1].arrays["faces"], previews[-1].arrays["normals"])
    assert mesh.volume() > 0
    assert np.abs(mesh.vertices - CENTRE).max() < 1.2 * RADIUS, "world coordinates"


def test_without_a_surface_the_model_was_handed_over(worker: Asked) -> None:
    events = worker.events("fit", {**QUICK, "steps": 5, "level": -100.0}, **ball())
    assert [event.kind for event in events if event.kind in ("fitted", "failed")] == ["fitted", "failed"]
    error = errors.rebuild(dict(events[-1].body))
    assert isinstance(error, errors.NoSurfaceError)
    assert error.minimum > -100


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"preset": "heroic"}, "There is no preset 'heroic'"),
        ({"recipe": "magic"}, "magic"),
        ({"steps": -3}, "steps is -3"),
        ({"seconds": "soon"}, "seconds is 'soon'"),
        ({"resolution": 0}, "resolution is 0"),
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_what_cannot_be_done_is_said(worker: Asked, body: dict[str, Any], said: str) -> None:
    error = worker.error("fit", {**QUICK, **body}, **ball())
    assert isinstance(error, errors.InputError)
    assert said in error.message
    assert error.hint


@pytest.mark.parametrize(
    ("kind", "arrays", "error"),
    [
        ("fit", {}, errors.InputError),
        ("fit", {"points": np.zeros((0, 3))}, errors.EmptyInputError),
        ("fit", {"points": np.full((5, 3), np.nan)}, errors.InputError),
        ("fit", {"points": np.zeros((5, 3))}, errors.InputError),
        ("fit", {"vertices": np.zeros((3, 3)), "faces": np.zeros((0, 3), np.int32)}, errors.EmptyInputError),
        ("fit", {"points": np.eye(3), "model": np.arange(100, dtype=np.uint8)}, errors.StorageError),
        ("extract", {}, errors.InputError),
        ("extract", {"model": np.zeros(10, np.uint8)}, errors.StorageError),
        ("read", {}, errors.InputError),
        ("read", {"file": np.zeros(0, np.uint8)}, errors.InputError),
    ],
)
def test_what_cannot_be_used_is_a_typed_error(worker: Asked, kind: str, arrays: dict, error: type) -> None:
    found = worker.error(kind, {**QUICK, "name": "scan.xyz"}, **arrays)
    assert isinstance(found, error)
    assert found.hint


def test_a_file_is_read(worker: Asked) -> None:
    stream = io.BytesIO()
    np.savez(stream, **ball(50))
    done = worker.done("read", {"name": "scan.npz"}, file=np.frombuffer(stream.getvalue(), np.uint8))
    assert np.allclose(done.arrays["points"], ball(50)["points"])
    assert np.allclose(done.arrays["normals"], ball(50)["normals"], atol=1e-6)
    assert "faces" not in done.arrays


class Silent:
    """A control that notes what it is told, and can be made to cancel."""

    due = True

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.cancelled = False

    def check(self) -> None:
        if self.cancelled:
            raise Cancelled

    def progress(self, body: dict[str, Any]) -> None:
        self.check()
        self.said.append(dict(body))

    def preview(self, arrays: dict[str, Any]) -> None:
        self.said.append(arrays)


def test_a_failed_measurement_does_not_lose_the_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    from sdfcore import metrics

    def fail(*_: Any, **__: Any) -> None:
        raise ArithmeticError("no luck")

    monkeypatch.setattr(metrics, "compare", fail)
    mesh = Mesh(np.eye(3), np.array([[0, 1, 2]]))
    found = requests.Measured.of(mesh, PointCloud(np.eye(3)), 0.0, Silent())
    assert found.warnings == ["the comparison with the source failed: ArithmeticError: no luck"]
    body, arrays = found.answer({}, stopped=True)
    assert set(arrays) == {"vertices", "faces", "sdf_error", "source_face"}
    assert body == {"report": {"warnings": found.warnings}, "stopped": True}


def test_a_cancel_while_measuring_is_no_failed_measurement() -> None:
    control = Silent()
    control.cancelled = True
    with pytest.raises(Cancelled):
        requests.Measured.of(Mesh(np.eye(3), np.array([[0, 1, 2]])), PointCloud(np.eye(3)), 0.0, control)


def test_previews_take_a_tenth_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    from sdfcore import extraction

    now, shown = [0.0], [0.0]

    def extract(*_: Any, **__: Any) -> Mesh:
        now[0] += 0.5
        shown[0] += 0.5
        return Mesh(np.eye(3), np.array([[0, 1, 2]]))

    monkeypatch.setattr(extraction, "extract_sdf", extract)
    monkeypatch.setattr(fit_request.time, "monotonic", lambda: now[0])
    control = Silent()
    previews = fit_request.Previews(fit_request.Options.of({"preview": 0.1}), control)
    training = type("Training", (), {"sdf": None})()
    while now[0] < 1.0:
        previews.show(training)
        assert control.said == []
        now[0] += 0.05
    while now[0] < 60:
        previews.show(training)
        now[0] += 0.05
    assert 0.05 < shown[0] / now[0] < 0.11


def test_no_previews_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_request.time, "monotonic", lambda: 1e9)
    control = Silent()
    fit_request.Previews(fit_request.Options.of({"preview": 0}), control).show(None)
    assert control.said == []
