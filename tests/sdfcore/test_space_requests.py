"""Shape spaces as the add-on asks for them: learn, describe, decode, complete."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
from small_spaces import AXES, TINY, ellipsoid_points, family, learned, mean_error, single_thread, surface_error

from sdfcore import space_requests, storage
from sdfcore.channel import Cancelled
from sdfcore.errors import EmptyInputError, InputError, NoSurfaceError, StorageError
from sdfcore.extraction import extract_sdf
from sdfcore.geometry import Mesh
from sdfcore.protocol import Message
from sdfcore.requests import Answer
from sdfcore.space_requests import HANDLERS, latent_of, space_of
from sdfcore.spaces import Space, along, completion, mix, sizes
from sdfcore.spaces.storage import from_bytes, to_bytes

__all__ = ["single_thread"]

pytestmark = pytest.mark.usefixtures("single_thread", "no_spaces_held", "tiny_presets")


class Told:
    """A control that notes what it is told, and stops or cancels at a step."""

    due = True

    def __init__(self, stop_at: int | None = None, cancel_at: int | None = None) -> None:
        self.said: list[dict[str, Any]] = []
        self.previews: list[dict[str, Any]] = []
        self.models: list[Any] = []
        self._stop_at, self._cancel_at = stop_at, cancel_at

    @property
    def step(self) -> int:
        return max((body["step"] for body in self.said), default=0)

    @property
    def stopped(self) -> bool:
        return self._stop_at is not None and self.step >= self._stop_at

    def check(self) -> None:
        if self._cancel_at is not None and self.step >= self._cancel_at:
            raise Cancelled

    def progress(self, body: dict[str, Any]) -> None:
        self.said.append(dict(body))
        self.check()

    def preview(self, arrays: dict[str, Any]) -> None:
        self.previews.append(arrays)

    def fitted(self, model: Any) -> None:
        self.models.append(model)


@pytest.fixture
def no_spaces_held() -> None:
    space_requests._spaces.clear()


@pytest.fixture
def tiny_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sizes.SIZES, "draft", TINY)
    monkeypatch.setattr(completion, "Complete", partial(completion.Complete, steps=80))
    monkeypatch.setattr(completion, "TUNING_STEPS", 100)


def asked(kind: str, body: dict[str, Any] | None = None, told: Told | None = None, **arrays: Any) -> Answer:
    held = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    answer: Answer = HANDLERS[kind](Message(kind, "j", {"device": "cpu", **(body or {})}, held), told or Told())
    return answer


def stored(space: Space | None = None) -> Any:
    return np.frombuffer(to_bytes(space or learned()), np.uint8)


def members(*names: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for index, mesh in enumerate(family(*names, subdivisions=2).values()):
        found |= {f"s{index}_vertices": mesh.vertices, f"s{index}_faces": mesh.faces}
    return found


LEARN = {"names": ["Ball", "Flat"], "preset": "draft", "steps": 30, "samples": 500, "seed": 3}


def space_in(arrays: dict[str, Any]) -> Space:
    return from_bytes(arrays["space"].tobytes())


# Learning -------------------------------------------------------------------------------------------------------------


def test_named_shapes_become_a_space() -> None:
    told = Told()
    report, arrays = asked("learn", {**LEARN, "steps": 300}, told, **members("ball", "flat"))
    space = space_in(arrays)
    assert space.names == report["names"] == ["Ball", "Flat"]
    assert mean_error(space.decode(space["Ball"]), AXES["ball"]) < 0.05
    assert mean_error(space.decode(space["Flat"]), AXES["flat"]) < 0.05
    assert report["stopped"] is False
    assert report["encoder"] is False
    assert report["code_size"] == 4
    assert report["info"]["steps"] == 300
    assert report["info"]["seed"] == 3
    assert len(report["history"]["loss"]) == 300
    assert np.array_equal(told.models[0], arrays["space"]), "handed over at once"
    assert [body["stage"] for body in told.said] == ["preparing"] * 3 + ["learning"] * 300
    fractions = [body["fraction"] for body in told.said]
    assert fractions == sorted(fractions)
    assert fractions[-1] < 1, "what is left is packing up"
    assert told.said[0]["loss"] is None
    assert told.said[-1]["loss"] > 0


def test_options_reach_the_learning() -> None:
    body = {**LEARN, "steps": None, "epochs": 4, "together": True, "code_size": 3, "encoder": True}
    report, arrays = asked("learn", body, **members("ball", "flat"))
    space = space_in(arrays)
    assert space.info["steps"] == 4
    assert space.info["together"] is True
    assert space.info["encoder"] is True
    assert report["encoder"] is True
    assert space.encoder is not None
    assert space.codes.shape == (2, 3)
    assert report["info"]["together"] is True


def test_what_was_learned_is_not_lost_by_a_place_without_a_surface() -> None:
    body = {**LEARN, "decode": {"weights": {"Ball": 1.0}, "resolution": 24, "level": -50.0}}
    report, arrays = asked("learn", body, **members("ball", "flat"))
    assert report["undecoded"]["error"] == "NoSurfaceError"
    assert "vertices" not in arrays
    assert space_in(arrays).names == ["Ball", "Flat"]


def test_points_are_learned_too() -> None:
    arrays = {}
    for index, name in enumerate(("ball", "flat")):
        cloud = ellipsoid_points(AXES[name], 600)
        arrays |= {f"s{index}_points": cloud.points, f"s{index}_normals": cloud.normals}
    report, _ = asked("learn", LEARN, **arrays)
    assert report["info"]["recipe"] == "regression"


def test_a_stop_keeps_what_there_is() -> None:
    report, arrays = asked("learn", {**LEARN, "steps": 10**6}, Told(stop_at=12), **members("ball", "flat"))
    assert report["stopped"] is True
    assert space_in(arrays).info["steps"] == 12


def test_a_cancel_is_within_a_step() -> None:
    told = Told(cancel_at=7)
    with pytest.raises(Cancelled):
        asked("learn", {**LEARN, "steps": 10**6}, told, **members("ball", "flat"))
    assert told.step == 7
    assert told.models == []


def test_the_first_shape_is_shown_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    clock = itertools.count(0.0, 0.1)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    told = Told()
    asked("learn", {**LEARN, "steps": 80, "preview": 2.0}, told, **members("ball", "flat"))
    assert 1 <= len(told.previews) < 20
    mesh = Mesh(told.previews[-1]["vertices"], told.previews[-1]["faces"])
    assert mesh.volume() > 1


@pytest.mark.parametrize(
    ("body", "arrays", "said"),
    [
        ({"names": ["Ball"]}, members("ball"), "at least two"),
        ({"names": []}, {}, "at least two"),
        ({"names": ["Ball", "Ball"]}, members("ball", "flat"), "called 'Ball'"),
        ({"names": ["Ball", "Gone"]}, members("ball"), "^Gone: .*neither points nor a mesh"),
        ({"preset": "heroic"}, members("ball", "flat"), "no preset 'heroic'"),
        ({"recipe": "magic"}, members("ball", "flat"), "no recipe 'magic'"),
    ],
)
def test_what_cannot_be_learned_is_said(body: dict[str, Any], arrays: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        asked("learn", {**LEARN, **body}, **arrays)
    assert caught.value.hint


def test_errors_name_the_shape() -> None:
    arrays = members("ball", "flat")
    arrays["s1_faces"] = np.zeros((0, 3), np.int32)
    with pytest.raises(EmptyInputError, match=r"^Flat: "):
        asked("learn", LEARN, **arrays)


# Describing and decoding ----------------------------------------------------------------------------------------------


def test_a_space_is_described() -> None:
    report, arrays = asked("describe", space=stored())
    assert arrays == {}
    assert report["names"] == list(AXES)
    assert sum(report["explained"]) == pytest.approx(1, abs=1e-4)
    assert report["info"]["recipe"] == "regression"


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"weights": {"long": 1, "flat": 3}}, lambda s: mix([s["long"], s["flat"]], [1, 3])),
        ({"stops": ["long", "flat", "egg"], "t": 0.25}, lambda s: along([s["long"], s["flat"], s["egg"]], 0.25)),
        (
            {"stops": ["long", "flat"], "t": 0.5, "spherical": True},
            lambda s: along([s["long"], s["flat"]], 0.5, spherical=True),
        ),
        ({"stops": ["long", "flat"]}, lambda s: s["long"]),
        ({"amounts": [1.0, -0.5]}, lambda s: s.explore([1.0, -0.5])),
        ({"amounts": [0.0]}, lambda s: s.mean()),
        ({"sample": 7, "spread": 0.5}, lambda s: s.sample(7, 0.5)),
        ({"sample": 0}, lambda s: s.sample(0)),
        ({"sample": 7, "spread": 0}, lambda s: s.mean()),
    ],
)
def test_a_request_means_one_shape(body: dict[str, Any], wanted: Any) -> None:
    found = latent_of(learned(), body)
    np.testing.assert_allclose(found.code, wanted(learned()).code, atol=1e-6)
    assert found.frame.scale == pytest.approx(wanted(learned()).frame.scale)


def test_a_decoded_mesh_is_the_shape_in_the_world() -> None:
    report, arrays = asked("decode", {"weights": {"flat": 1}, "resolution": 40, "model": True}, space=stored())
    mesh = Mesh(arrays["vertices"], arrays["faces"], arrays["normals"])
    assert mesh.volume() == pytest.approx(4 / 3 * np.pi * np.prod(AXES["flat"]), rel=0.05)
    assert report["report"]["resolution"] == 40
    assert report["report"]["result"] == {"vertices": len(mesh.vertices), "faces": len(mesh.faces)}
    sdf = storage.from_bytes(arrays["model"].tobytes())
    again = extract_sdf(sdf, resolution=sdf.info["resolution"])
    np.testing.assert_allclose(again.vertices, mesh.vertices, atol=1e-6)
    _, grown = asked("decode", {"weights": {"flat": 1}, "resolution": 40, "level": 0.05}, space=stored())
    assert Mesh(grown["vertices"], grown["faces"]).volume() > 1.05 * mesh.volume()
    assert "model" not in grown


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "does not say which shape"),
        ({"weights": {"chair": 1}}, "no shape 'chair'"),
        ({"weights": {"long": 1, "flat": -1}}, "sum to zero"),
        ({"stops": ["long", "chair"]}, "no shape 'chair'"),
    ],
)
def test_shapes_that_are_none_are_refused(body: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        asked("decode", body, space=stored())
    assert caught.value.hint


def test_a_level_without_a_surface_is_said() -> None:
    with pytest.raises(NoSurfaceError):
        asked("decode", {"weights": {"long": 1}, "level": -50.0}, space=stored())


# Completing -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scan() -> dict[str, Any]:
    cloud = ellipsoid_points((1, 0.85, 0.7), 3000, seed=3)
    half = cloud.take(cloud.points[:, 0] > 0)
    return {"points": half.points, "normals": half.normals}


def test_a_scan_is_completed_and_says_what_was_seen(scan: dict[str, Any]) -> None:
    told = Told()
    body, arrays = asked("complete", {"resolution": 40}, told, space=stored(), **scan)
    mesh = Mesh(arrays["vertices"], arrays["faces"], arrays["normals"])
    assert mesh.volume() == pytest.approx(4 / 3 * np.pi * 0.85 * 0.7, rel=0.06)
    front = mesh.vertices[:, 0] > 0.1
    assert arrays["observed_mask"][front].mean() > 0.95
    assert arrays["observed_mask"][mesh.vertices[:, 0] < -0.2].mean() < 0.05
    assert arrays["observed"][front].max() < 0.2 < arrays["observed"].max()
    report = body["report"]
    assert report["observed_share"] == pytest.approx(float(arrays["observed_mask"].mean()))
    assert report["resolution"] == 40
    assert body["stopped"] is False
    sdf = storage.from_bytes(arrays["model"].tobytes())
    assert surface_error(sdf, (1, 0.85, 0.7)) < 0.03
    assert sdf.info["resolution"] == 40
    assert [stage for stage, _ in itertools.groupby(body["stage"] for body in told.said)] == [
        "inferring",
        "fine-tuning",
    ]
    assert told.said[-1]["fraction"] == pytest.approx(0.9)


def test_a_stop_while_completing_keeps_what_there_is(scan: dict[str, Any]) -> None:
    body, arrays = asked("complete", {"resolution": 32}, Told(stop_at=20), space=stored(), **scan)
    assert body["stopped"] is True
    assert len(arrays["faces"]) > 100
    with pytest.raises(Cancelled):
        asked("complete", {"resolution": 32}, Told(cancel_at=5), space=stored(), **scan)


def test_a_completion_without_a_scan_is_refused() -> None:
    with pytest.raises(InputError, match="neither points nor a mesh"):
        asked("complete", space=stored())


# The spaces held ------------------------------------------------------------------------------------------------------


def request(space: Any) -> Message:
    return Message("describe", "j", {"device": "cpu"}, {"space": space})


def test_a_space_seen_lately_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = space_of(request(stored()))
    assert space_of(request(stored().copy())) is first, "the bytes count, not the array"
    spaces = []
    for number in range(space_requests._KEPT):
        changed = from_bytes(to_bytes(learned()))
        changed.info["number"] = number
        spaces.append(stored(changed))
        assert space_of(request(spaces[-1])).info["number"] == number
        if number == 1:
            assert space_of(request(stored())) is first, "used again, so it is not the oldest"
    assert len(space_requests._spaces) == space_requests._KEPT
    assert space_of(request(stored())) is first
    assert space_of(request(spaces[-1])) is space_of(request(spaces[-1]))
    held = list(space_requests._spaces.values())
    assert space_of(request(spaces[0])) not in held, "the one not used for longest was let go"


def test_a_request_without_a_space_or_with_a_broken_one_is_refused() -> None:
    with pytest.raises(InputError, match="no space") as caught:
        asked("describe")
    assert caught.value.hint
    with pytest.raises(StorageError):
        asked("describe", space=stored()[:200])
    assert len(space_requests._spaces) == 0
