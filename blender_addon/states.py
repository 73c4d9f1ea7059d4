"""What a job is and which event takes it where. Pure values: no bpy, no torch, no clock."""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..sdfcore.errors import SdfError
from ..sdfcore.protocol import Message

#: Kinds of jobs about shape spaces.
SPACE_KINDS = {"learn", "decode", "complete", "describe", "interpolate", "project"}


class State(enum.Enum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        return self in (State.DONE, State.FAILED, State.CANCELLED)


#: What an event does to a job: (state, event) → (next state, what the host is told). Anything not here is ignored,
#: such as the late events of a job that was cancelled.
EFFECTS: dict[tuple[State, str], tuple[State, str]] = {
    (State.RUNNING, "progress"): (State.RUNNING, "changed"),
    (State.RUNNING, "preview"): (State.RUNNING, "preview"),
    (State.RUNNING, "fitted"): (State.RUNNING, "changed"),
    (State.RUNNING, "done"): (State.DONE, "finished"),
    (State.RUNNING, "failed"): (State.FAILED, "failed"),
    (State.RUNNING, "cancelled"): (State.CANCELLED, "cancelled"),
    (State.RUNNING, "cancel"): (State.CANCELLED, "cancelled"),
    (State.QUEUED, "cancel"): (State.CANCELLED, "cancelled"),
    (State.QUEUED, "start"): (State.RUNNING, "changed"),
    (State.QUEUED, "failed"): (State.FAILED, "failed"),
}


@dataclass(eq=False)
class Job:
    """One request and what has become of it.

    Attributes:
        request: its kind is the job's; its ``job`` is filled in with ``id``.
        target: whatever the host needs to know where the result belongs.
        progress: body of the last ``progress`` event.
        model: bytes of the fitted model (uint8), as soon as it is fitted: whatever fails later, it can be meshed again;
            see :attr:`trained`.
        error: why it failed. A result that could not be placed leaves both ``error`` and ``result``.
    """

    title: str
    request: Message
    target: dict[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    state: State = State.QUEUED
    progress: dict[str, Any] = field(default_factory=dict)
    error: SdfError | None = None
    result: Message | None = None
    model: NDArray[np.uint8] | None = None
    stopping: bool = False

    @property
    def kind(self) -> str:
        return self.request.kind

    @property
    def trained(self) -> NDArray[np.uint8] | None:
        """The fitted model, whatever has become of its mesh; ``None`` where there is none."""
        return self.model if self.result is None else self.result.arrays.get("model", self.model)
