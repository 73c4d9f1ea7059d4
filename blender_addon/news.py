"""What the host is told of jobs, and what happens when it fails at it. No bpy, no torch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from ..sdfcore.errors import EngineError, SdfError
from ..sdfcore.protocol import Message
from .states import Job, State

log = logging.getLogger(__name__)


class Host(Protocol):
    """Whoever shows and places results; called from :meth:`Jobs.pump` only."""

    def finished(self, job: Job) -> None: ...

    def failed(self, job: Job) -> None: ...

    def cancelled(self, job: Job) -> None: ...

    def preview(self, job: Job, message: Message) -> None: ...

    def changed(self) -> None: ...


def unplaced(error: Exception) -> SdfError:
    """What the user is told when a result could not be put into the scene."""
    if isinstance(error, SdfError):
        return error
    return EngineError(f"The result could not be placed: {type(error).__name__}: {error}", "The log has the details.")


class News:
    """What is still to be told: kept until the pump tells it, so the host is never called from inside another call."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._waiting: list[tuple[Job, str]] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def about(self, job: Job) -> bool:
        """Whether the host is still to hear of ``job``."""
        return any(told is job for told, _ in self._waiting)

    def add(self, job: Job, what: str) -> None:
        """Tell later.

        Args:
            what: a method of :class:`Host` that takes a job, or ``changed``; the former replaces what was to be told.
        """
        if what != "changed":
            self._waiting = [entry for entry in self._waiting if entry[0] is not job]
        self._waiting.append((job, what))

    def clear(self) -> None:
        self._waiting.clear()

    def tell(self) -> None:
        """Tell the host everything that waits."""
        waiting, self._waiting = self._waiting, []
        for job, what in waiting:
            if what != "changed":
                self._guard(job, lambda job=job, what=what: getattr(self._host, what)(job))  # type: ignore[misc]
        if waiting:
            self._guard(None, self._host.changed)

    def preview(self, job: Job, message: Message) -> None:
        """A preview is shown at once or not at all."""
        self._guard(job, lambda: self._host.preview(job, message))

    def _guard(self, job: Job | None, call: Callable[[], None]) -> None:
        """Call the host. What it raises is logged; a result it could not place is kept, and its job fails."""
        try:
            call()
        except Exception as error:
            log.exception("the host failed on %s", job.title if job else "a change")
            if job is None or job.state is not State.DONE:
                return
            job.state, job.error = State.FAILED, unplaced(error)
            self.add(job, "failed")
