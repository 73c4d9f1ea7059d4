"""The worker's side of the wire: a thread that reads requests, one that writes events, and a job's view of both.

The job's thread never waits for the pipe, and the pipe never waits for the job: a cancel is seen at the job's next
:meth:`Control.check`, whatever else is under way.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from . import protocol
from .errors import EngineError, ProtocolError, describe
from .geometry import Array
from .protocol import Message

log = logging.getLogger(__name__)

_TOO_LARGE = EngineError("The result did not fit into memory.", "Lower the resolution.")
_PERIOD = 0.1  # seconds between two progress events
_HANDOVER = 5.0  # seconds to wait for a reader to take the model
_LOGS = 200  # log events that may wait; more are dropped


class Cancelled(BaseException):
    """The job was given up. Not an ``Exception``: nothing on the way up may take it for an error and go on."""


class Outbox:
    """Events to be written, and the thread that writes them.

    Results always go out. Of progress and previews only the newest waits, so a slow reader costs no memory and no time.
    """

    def __init__(self, stream: protocol.Writable, on_broken: Callable[[], None]) -> None:
        self._stream, self._on_broken = stream, on_broken
        self._waiting: deque[Message] = deque()
        self._changed = threading.Condition()
        self._writing = False
        threading.Thread(target=self._run, name="writer", daemon=True).start()

    def send(self, message: Message) -> None:
        """Queue an event that must arrive."""
        with self._changed:
            self._waiting.append(message)
            self._changed.notify_all()

    def offer(self, message: Message) -> None:
        """Queue an event that replaces an older one of its kind and job which is still waiting."""
        with self._changed:
            for old in self._waiting:
                if (old.kind, old.job) == (message.kind, message.job):
                    self._waiting.remove(old)
                    break
            self._waiting.append(message)
            self._changed.notify_all()

    def log(self, message: Message) -> None:
        """Queue a log event unless too many wait."""
        if len(self._waiting) < _LOGS:
            self.send(message)

    def flush(self, seconds: float) -> None:
        """Wait until everything is written, at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._writing, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._waiting))
                message = self._waiting.popleft()
                self._writing = True
            try:
                protocol.write(self._stream, message)
            except ProtocolError as error:
                self.send(Message("failed", message.job, describe(error)))
            except MemoryError:
                self.send(Message("failed", message.job, describe(_TOO_LARGE)))
            except OSError:
                self._on_broken()
                return


class Inbox:
    """Requests that wait, and what was said of those that wait or run.

    Args:
        on_end: called in the reader's thread when no more will come, with the error if the stream was broken.
    """

    def __init__(self, stream: protocol.Readable, on_end: Callable[[ProtocolError | None], None]) -> None:
        self._stream, self._on_end = stream, on_end
        self._requests: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._known: set[str] = set()  # jobs that wait or run; of others a stop or cancel comes too late
        self.stopped: set[str] = set()
        self.cancelled: set[str] = set()
        self.ended = threading.Event()
        threading.Thread(target=self._run, name="reader", daemon=True).start()

    def next(self) -> Message | None:
        """Wait for the next request; ``None`` when no more will come."""
        return self._requests.get()

    @property
    def waiting(self) -> bool:
        """Whether :meth:`next` would give something at once, be it the end."""
        return not self._requests.empty()

    def settle(self, job: str) -> None:
        """Forget what was said of a job that is over."""
        for names in (self._known, self.stopped, self.cancelled):
            names.discard(job)

    def _run(self) -> None:
        error: ProtocolError | None = None
        try:
            while (message := protocol.read(self._stream)) is not None and message.kind != "shutdown":
                self._take(message)
        except ProtocolError as broken:
            error = broken
        except MemoryError:
            error = ProtocolError("A request did not fit into memory.", "Give a smaller object.")
        except OSError as gone:
            log.info("the stream from the add-on ended: %s", gone)
        self._on_end(error)
        self.ended.set()
        self._requests.put(None)

    def _take(self, message: Message) -> None:
        if message.kind in ("stop", "cancel"):
            if message.job in self._known:
                (self.stopped if message.kind == "stop" else self.cancelled).add(message.job)
        else:
            self._known.add(message.job)
            self._requests.put(message)


class Control:
    """What a running job may ask and tell."""

    def __init__(self, job: str, inbox: Inbox, outbox: Outbox) -> None:
        self.job = job
        self._inbox, self._outbox = inbox, outbox
        self._shown = float("-inf")

    def check(self) -> None:
        """Call this often.

        Raises:
            Cancelled: the job is not wanted any more, or the worker ends.
        """
        if self.job in self._inbox.cancelled or self._inbox.ended.is_set():
            raise Cancelled

    @property
    def stopped(self) -> bool:
        """Whether the job should finish early and keep what it has."""
        return self.job in self._inbox.stopped

    @property
    def due(self) -> bool:
        """Whether the next :meth:`progress` would be sent, so what goes into it is worth computing."""
        return time.monotonic() - self._shown >= _PERIOD

    def progress(self, body: Mapping[str, Any]) -> None:
        """Tell how far it is, at most ten times a second; a good place to be cancelled, too."""
        self.check()
        if self.due:
            self._shown = time.monotonic()
            self._outbox.offer(Message("progress", self.job, body))

    def preview(self, arrays: Mapping[str, Array]) -> None:
        """Show a mesh on the way."""
        self._outbox.offer(Message("preview", self.job, {}, arrays))

    def fitted(self, model: Array) -> None:
        """Hand over the model before the rest is done: whatever happens then, it is not lost."""
        self._outbox.send(Message("fitted", self.job, {}, {"model": model}))
        self._outbox.flush(_HANDOVER)
