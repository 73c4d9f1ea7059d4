"""The wire to the worker: how its process is started, spoken to, watched and ended. No bpy, no torch.

A :class:`Transport` never blocks its caller: sending queues, polling drains. Threads in :class:`ProcessTransport` do
the reading and writing, and touch nothing but queues. The end of the worker is an event like any other: kind ``died``.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from ..sdfcore import protocol
from ..sdfcore.errors import EngineDiedError, EngineMissingError, ProtocolError, SdfError, describe
from ..sdfcore.protocol import Message
from .interpreter import custom_command, environment_python, find_python, worker_command, worker_environment

__all__ = [
    "READY",
    "FakeTransport",
    "ProcessTransport",
    "Transport",
    "custom_command",
    "environment_python",
    "find_python",
    "worker_command",
    "worker_environment",
]

log = logging.getLogger(__name__)

_TAIL = 40  # lines of the worker's log that are kept
_LINE = 8192  # bytes; a longer line is split
_LOG_BYTES = 4 << 20
_GRACE = 0.5  # seconds a worker has to leave by itself
_PATIENCE = 2.0  # seconds between the request to end and the kill


class Transport(Protocol):
    """Messages out, events in; none of it waits."""

    tail: deque[str]

    def send(self, message: Message) -> None: ...

    def poll(self) -> list[Message]: ...

    def close(self) -> None: ...

    @property
    def alive(self) -> bool: ...


class ProcessTransport:
    """A worker process spoken to over its stdin and stdout.

    Args:
        command: program and arguments; never passed through a shell.
        environment: all of the child's environment, see :func:`worker_environment`.
        cwd: a private directory to run in; made when absent.
        log: file that gets the worker's stderr; made when absent, started anew past 4 MB.
    Raises:
        EngineMissingError: the program cannot be started.
    """

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], cwd: Path, log: Path) -> None:
        self.tail: deque[str] = deque(maxlen=_TAIL)
        self._events: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._outgoing: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._closing = False
        self._log = log
        self._process = _start(command, environment, cwd)
        self._drain = self._thread(self._read_log, "log")
        self._thread(self._write, "writer")
        self._thread(self._read, "reader")

    def _thread(self, work: Callable[[], None], name: str) -> threading.Thread:
        thread = threading.Thread(target=work, name=f"sdf {name}", daemon=True)
        thread.start()
        return thread

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Message) -> None:
        """Queue ``message``; a dead worker is reported by :meth:`poll`, not here."""
        self._outgoing.put(message)

    def poll(self) -> list[Message]:
        """What has come since the last call."""
        events = []
        with contextlib.suppress(queue.Empty):
            while True:
                events.append(self._events.get_nowait())
        return events

    def close(self) -> None:
        """End the worker: ask, terminate, kill; at most about three seconds."""
        self._closing = True
        self._outgoing.put(Message("shutdown"))
        self._outgoing.put(None)
        for seconds, end in ((_GRACE, signal.SIGTERM), (_PATIENCE, getattr(signal, "SIGKILL", signal.SIGTERM))):
            try:
                self._process.wait(seconds)
                break
            except subprocess.TimeoutExpired:
                _end(self._process, end)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)

    def _write(self) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(OSError, ValueError), stdin:  # a broken pipe: the reader tells of the death
            while (message := self._outgoing.get()) is not None:
                try:
                    protocol.write(stdin, message)
                except ProtocolError as error:
                    self._events.put(Message("failed", message.job, describe(error)))

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        error: SdfError | None = None
        try:
            while (message := protocol.read(stdout)) is not None:
                self._events.put(message)
        except (ProtocolError, OSError, MemoryError) as broken:
            error = broken if isinstance(broken, SdfError) else ProtocolError(f"The worker's answer was lost: {broken}")
            _end(self._process, getattr(signal, "SIGKILL", signal.SIGTERM))
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)
        if self._process.poll() is None:  # it closed its stdout and lives on: no use to anyone
            _end(self._process, getattr(signal, "SIGKILL", signal.SIGTERM))
            self._process.wait()
        self._drain.join(1.0)
        stdout.close()
        self._outgoing.put(None)
        if not self._closing:
            code = self._process.returncode
            error = error or _died(code, self.tail, self._log)
            self._events.put(Message("died", "", {**describe(error), "code": code, "tail": list(self.tail)}))

    def _read_log(self) -> None:
        stderr = self._process.stderr
        assert stderr is not None
        with io.BufferedReader(stderr) as lines, _open_log(self._log) as file:  # type: ignore[type-var]
            while raw := lines.readline(_LINE):
                line = raw.decode("utf-8", "replace").rstrip()
                self.tail.append(line)
                with contextlib.suppress(OSError):  # a full disk must not stop the draining
                    file.write(line + "\n")
                    file.flush()


def _open_log(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > _LOG_BYTES:
            path.replace(path.with_suffix(path.suffix + ".old"))
        return path.open("a", encoding="utf-8", errors="replace")
    except OSError as error:
        log.warning("no log file: %s", error)
        return Path(os.devnull).open("w", encoding="utf-8")


def _start(command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> subprocess.Popen[bytes]:
    options: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    pipe = subprocess.PIPE
    try:
        cwd.mkdir(parents=True, exist_ok=True)
        return subprocess.Popen(  # bufsize 0: a write is sent when made, and a pipe can be cut in its middle
            list(command), stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, cwd=cwd, env=dict(environment), **options
        )
    except (OSError, ValueError) as error:
        raise EngineMissingError(
            f"The backend could not be started: {' '.join(command[:1])} ({error}).",
            "Set Backend Python in the preferences to a Python that has torch, or press Install Backend.",
        ) from error


def _end(process: subprocess.Popen[bytes], number: int) -> None:
    """Signal the worker and, where there are process groups, all it started."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, number)


def _died(code: int, tail: Iterable[str], log_file: Path) -> EngineDiedError:
    lines = [line for line in tail if line.strip()]
    how = f"exit code {code}"
    if code < 0:
        with contextlib.suppress(ValueError):
            how = f"{how}, {signal.Signals(-code).name}"
    hint = f"The log is in {log_file}. The next fit starts a new backend."
    said = "\n".join(lines[-_TAIL:])
    if code == -9:
        hint = "The system may be out of memory: choose a smaller resolution or preset. " + hint
    elif "Unknown option: -P" in said or "unknown option -P" in said:
        hint = "Backend Python must be 3.11 or newer. " + hint
    elif "No module named" in said:
        hint = "Backend Python lacks a package: install torch there, or press Install Backend. " + hint
    last = f": {lines[-1]}" if lines else "."
    return EngineDiedError(f"The backend ended without an answer ({how}){last}", hint)


READY: dict[str, Any] = {
    "protocol": protocol.PROTOCOL,
    "version": "0",
    "python": "fake",
    "torch": "0",
    "devices": [{"id": "cpu", "name": "CPU"}],
    "recipes": [{"name": "igr", "title": "IGR", "source": "", "summary": "", "needs": ""}],
    "presets": [{"name": "draft", "title": "Draft", "steps": 10, "resolution": 64}],
}


class FakeTransport:
    """A transport without a process, for tests: answers come from a function, or are fed by hand.

    Args:
        answer: called with each message sent; what it returns is the next poll's events. ``hello`` is answered with
            :data:`READY` unless ``answer`` returns something for it.
    """

    def __init__(self, answer: Callable[[Message], Iterable[Message] | None] | None = None) -> None:
        self.tail: deque[str] = deque(maxlen=_TAIL)
        self.sent: list[Message] = []
        self.closed = False
        self._answer = answer
        self._events: list[Message] = []
        self._dead = False

    @property
    def alive(self) -> bool:
        return not (self._dead or self.closed)

    def send(self, message: Message) -> None:
        self.sent.append(message)
        events = list((self._answer(message) if self._answer else None) or ())
        if message.kind == "hello" and not events:
            events = [Message("ready", "", READY)]
        if self.alive:
            self._events += events

    def feed(self, *events: Message) -> None:
        """Let ``events`` come with the next poll."""
        self._events += events

    def die(self, code: int = 1, *lines: str) -> None:
        """End as a process would: exit code and last lines of its log."""
        self._dead = True
        self.tail.extend(lines)
        body = describe(_died(code, self.tail, Path("worker.log")))
        self._events.append(Message("died", "", {**body, "code": code, "tail": list(self.tail)}))

    def poll(self) -> list[Message]:
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        self.closed = True
