"""Meshes that follow their settings: coarse while something changes, at full resolution a moment after the last change.

The newest request wins: of an object, at most one shape is being decoded, and only the values as they are when that is
over are asked for next. What is shown on the way is no undo step. A mesh remembers which request it is the answer to
(``mesh["sdf_shown"]``), so after undo, loading or a jump in time it is known whether it is still right.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import bpy

from ..sdfcore.errors import SdfError
from ..sdfcore.geometry import Mesh
from ..sdfcore.protocol import Message
from . import host, meshes, results, spaces, windows
from .states import Job, State

log = logging.getLogger(__name__)

SETTLED = 0.4  # seconds without a change after which the full resolution is asked for
SHOWN = "sdf_shown"


# --- what is followed ------------------------------------------------------------------------------------------------


class Follower(Protocol):
    """What makes the mesh of an object follow its settings: those of a place in a space, or of a list of shapes."""

    def owns(self, obj: Any) -> bool:
        """Whether ``obj``, a mesh object of this file, is one that this knows."""
        ...

    def settings(self, obj: Any) -> Any:
        """The property group of ``obj``; of an evaluated one with the values of that frame."""
        ...

    def body(self, obj: Any, settings: Any, *, coarse: bool) -> dict[str, Any]:
        """The body of the request that the mesh should be the answer to; coarse, while something changes."""
        ...

    def job(self, obj: Any, settings: Any, body: dict[str, Any]) -> Job:
        """The request itself, for these ``settings``, whose answer is handed to the job's target ``receive``."""
        ...


FOLLOWERS: list[Follower] = []


def follower(obj: Any) -> Follower | None:
    """What ``obj`` follows, or ``None``."""
    if obj is None or obj.type != "MESH" or obj.library:
        return None
    return next((one for one in FOLLOWERS if one.owns(obj)), None)


class _Places:
    """Blends and explorations: places in the space that the object carries."""

    def owns(self, obj: Any) -> bool:
        return is_live(obj)

    def settings(self, obj: Any) -> Any:
        return obj.sdf_blend

    def body(self, obj: Any, settings: Any, *, coarse: bool) -> dict[str, Any]:
        return body_of(obj, settings, coarse=coarse)

    def job(self, obj: Any, settings: Any, body: dict[str, Any]) -> Job:
        return spaces.request("decode", obj.name, body, spaces.array(obj), bpy.context.scene)


FOLLOWERS.append(_Places())


# --- one object ----------------------------------------------------------------------------------------------------


def is_live(obj: Any) -> bool:
    """Whether the mesh of ``obj`` follows its place in a space."""
    return obj is not None and obj.type == "MESH" and bool(obj.sdf_blend.kind) and spaces.has(obj) and not obj.library


def objects() -> Iterator[Any]:
    """All objects of the file that follow something."""
    return (obj for obj in bpy.data.objects if follower(obj) is not None)


def body_of(obj: Any, blend: Any = None, *, coarse: bool = False) -> dict[str, Any]:
    """The body of the decode request that ``obj``, a place in a space, should be the answer to.

    Args:
        blend: its ``sdf_blend``, or the evaluated object's, which has the values of another frame.
    """
    blend = obj.sdf_blend if blend is None else blend
    place: dict[str, Any]
    if blend.kind == "EXPLORE":
        place = {"amounts": [round(amount, 6) for amount in blend.amounts[: spaces.directions(obj)]]}
    else:
        place = {"weights": shares(blend)}
    return {**place, "resolution": min(blend.drag_resolution, blend.resolution) if coarse else blend.resolution}


def shares(blend: Any) -> dict[str, float]:
    """The weights of a blend by name; of two shapes, by the factor."""
    if len(blend.weights) == 2:
        first, second = (weight.name for weight in blend.weights)
        return {first: round(1 - blend.factor, 6), second: round(blend.factor, 6)}
    return {weight.name: round(weight.value, 6) for weight in blend.weights}


def key_of(body: dict[str, Any]) -> str:
    return json.dumps(body, sort_keys=True)


def wanted(obj: Any, settings: Any = None, *, coarse: bool = False) -> dict[str, Any]:
    """The body of the request that ``obj``, which follows something, should be the answer to."""
    followed = follower(obj)
    assert followed is not None
    return followed.body(obj, followed.settings(obj) if settings is None else settings, coarse=coarse)


def is_right(obj: Any, settings: Any = None) -> bool:
    """Whether the mesh is what the settings say, at full resolution."""
    return obj.data.get(SHOWN) == key_of(wanted(obj, settings))


def has_failed(obj: Any) -> bool:
    """Whether it was asked for what the settings say, in vain: it is not asked for again until they change."""
    return _failed.get(obj.session_uid) == key_of(wanted(obj))


def show(obj: Any, key: str, message: Message) -> None:
    """Exchange the mesh of ``obj`` for that of an answer.

    Raises:
        SdfError: the answer holds no valid mesh.
    """
    shape = Mesh(message.arrays["vertices"], message.arrays["faces"])
    alone = obj.data.users == 1
    if not alone:  # a linked duplicate follows sliders of its own
        obj.data = obj.data.copy()
    meshes.fill_from_world(obj.data, shape, results.stored_matrix(obj, results.MATRIX))
    results.anchor(obj)
    obj.data[SHOWN] = key
    if not alone:  # or an undo would leave the object with a mesh that is in no step of the history
        windows.remember("Mesh of Its Own")


def _job(obj: Any, body: dict[str, Any], settings: Any = None) -> Job:
    followed = follower(obj)
    assert followed is not None
    return followed.job(obj, followed.settings(obj) if settings is None else settings, body)


def refresh(obj: Any, settings: Any = None) -> None:
    """Bring the mesh up to date at full resolution, and wait for it: for scripts and renders.

    Raises:
        SdfError: why it could not be.
    """
    if is_right(obj, settings):
        return
    body = wanted(obj, settings)
    job = _job(obj, body, settings)
    job.target["receive"] = lambda _job: None
    host.runtime().run(job)
    assert job.result is not None
    show(obj, key_of(body), job.result)


# --- all of them, from the timer -------------------------------------------------------------------------------------


@dataclass
class _Slot:
    """What is under way for one object.

    Args:
        changed: when its sliders moved last.
        stale: they have moved since the last request.
        coarse: the full resolution is still to be asked for.
        job: the request under way, and ``fine`` whether it is the last one needed.
        arrived: an answer that is not shown yet.
    """

    changed: float
    stale: bool = True
    coarse: bool = False
    job: Job | None = None
    fine: bool = False
    arrived: tuple[str, Message] | None = None

    @property
    def busy(self) -> bool:
        return self.stale or self.coarse or self.job is not None or self.arrived is not None


class Following:
    """The live objects that are not what their sliders say, by session uid."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.slots: dict[int, _Slot] = {}
        self._clock = clock

    def touch(self, obj: Any) -> None:
        """The sliders of ``obj`` have moved."""
        slot = self.slots.setdefault(obj.session_uid, _Slot(self._clock()))
        slot.changed, slot.stale = self._clock(), True

    def turn(self) -> bool:
        """Show what came and ask for what is missing; whether anything is left to do."""
        for uid, slot in list(self.slots.items()):
            obj = results.by_uid(bpy.data.objects, uid)
            if obj is None or follower(obj) is None:
                self._give_up(slot)
                del self.slots[uid]
                continue
            self._place(obj, slot)
            self._ask(obj, slot)
            if not slot.busy:
                del self.slots[uid]
        host.runtime().quick = bool(self.slots)
        return bool(self.slots)

    def clear(self) -> None:
        for slot in self.slots.values():
            self._give_up(slot)
        self.slots.clear()

    def _give_up(self, slot: _Slot) -> None:
        if slot.job is not None and not slot.job.state.over:
            host.runtime().jobs.cancel(slot.job.id)
        slot.job = None

    def _place(self, obj: Any, slot: _Slot) -> None:
        if slot.arrived is None:
            return
        with windows.override():
            if not windows.can_place(bpy.context, moving=obj):
                return
            (key, message), slot.arrived = slot.arrived, None
            try:
                show(obj, key, message)
            except (SdfError, KeyError) as error:
                log.error("%s: %s", obj.name, error)

    def _ask(self, obj: Any, slot: _Slot) -> None:
        if slot.job is not None and slot.job.state.over:
            if slot.job.state is State.FAILED:
                _failed[obj.session_uid] = key_of(wanted(obj))
            slot.coarse = slot.coarse and slot.job.state is State.DONE  # what failed is not tried again by itself
            slot.job = None
        if slot.job is not None:
            if not slot.stale or not (slot.job.state is State.QUEUED or slot.fine):
                return
            self._give_up(slot)  # it was not begun, or takes long: nobody wants it any more
        if slot.stale:
            slot.stale = False
            slot.coarse = not is_right(obj)
            body = wanted(obj, coarse=True)
            slot.fine = body == wanted(obj)
            if slot.coarse:
                self._send(obj, slot, body)
            slot.coarse = slot.coarse and not slot.fine
        elif slot.coarse and self._clock() - slot.changed >= SETTLED:
            slot.coarse, slot.fine = False, True
            self._send(obj, slot, wanted(obj))

    def _send(self, obj: Any, slot: _Slot, body: dict[str, Any]) -> None:
        job = _job(obj, body)
        job.target["receive"] = lambda done: self._receive(slot, key_of(body), done)
        slot.job = job
        host.runtime().submit(job)

    def _receive(self, slot: _Slot, key: str, job: Job) -> None:
        if slot.job is job and job.result is not None:
            slot.arrived = key, job.result


_following = Following()
_failed: dict[int, str] = {}  # by session uid, the key of what could not be made
_rendering = False  # between the beginning of a render and its end


def waits() -> bool:
    """Whether there is no timer that could do the work: in the background, and while something is rendered.

    A script's render is no job of the window's, but says when it begins and ends, as all do.
    """
    return bool(bpy.app.background or _rendering or bpy.app.is_job_running("RENDER"))


def touch(obj: Any) -> None:
    """A slider of ``obj`` moved. In the background nothing follows by itself: see :func:`refresh`."""
    if follower(obj) is not None and not waits():
        follow(obj)


def follow(obj: Any) -> None:
    """Let the mesh of ``obj`` follow, from the timer."""
    _following.touch(obj)
    chores = host.runtime().chores
    if _following.turn not in chores:
        chores.append(_following.turn)
    host.runtime().quick = True
    host.wake()


def forget_all() -> None:
    """Another file, or none: nothing is under way or known any more."""
    set_rendering(False)
    _failed.clear()
    _following.clear()


def set_rendering(going: bool) -> None:
    """Whether Blender renders: shapes are waited for then, see :func:`waits`."""
    global _rendering
    _rendering = going
