"""The child process that owns torch: ``python -m sdfcore.worker [--parent PID] [--idle SECONDS]``.

It answers requests of :mod:`.protocol` on stdin with events on stdout, one job after another, until stdin ends, its
parent dies, or nothing was asked for a while. Nothing else reaches the stream: before anything is imported that might
print, the real stdout is put aside and file descriptor 1 is pointed at stderr, which is the log.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from . import __version__, protocol, threads
from .channel import Cancelled, Control, Inbox, Outbox
from .errors import EngineError, EngineMissingError, ProtocolError, SdfError, describe
from .geometry import Array
from .protocol import Message

log = logging.getLogger(__name__)

#: Answers one kind of request: body and arrays of the ``done`` event.
Handler = Callable[[Message, Control], tuple[Mapping[str, Any], Mapping[str, Array]]]

_GRACE = 1.0  # seconds a job has to notice that the worker ends
_WATCH = 0.5  # seconds between two looks at the parent and the clock
_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


class Worker:
    """The loop behind the wire.

    Args:
        handlers: request kind → handler.
        capabilities: what ``ready`` tells besides versions; imports torch, so it is asked for once ``hello`` came.
        warm: done once, after ``ready`` was told, unless a request waits already.
        parent: process that must live, or 0.
        idle: seconds without a request after which the worker ends, or 0 for never.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        capabilities: Callable[[], Mapping[str, Any]],
        *,
        warm: Callable[[], None] | None = None,
        parent: int = 0,
        idle: float = 0.0,
    ) -> None:
        source, sink = claim_streams()
        self._handlers, self._capabilities, self._warm = handlers, capabilities, warm
        self._parent, self._idle = parent, idle
        self._birth_parent = os.getppid()
        self._code = 0
        self._free_since: float | None = time.monotonic()
        self._outbox = Outbox(sink, on_broken=lambda: leave(0))
        self._inbox = Inbox(source, on_end=self._end)
        logging.getLogger(__package__).addHandler(_Forward(self._outbox))
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def serve(self) -> int:
        """Answer until there is nothing more to answer; returns the exit code."""
        while (request := self._inbox.next()) is not None:
            self._free_since = None
            answer = self._answer(request)
            # Before it is sent: who has the answer may ask again under the same name, and cancel that.
            self._inbox.settle(request.job)
            self._outbox.send(answer)
            if answer.kind == "ready":
                self._warm_up()
            self._free_since = time.monotonic()
        self._outbox.flush(_GRACE)
        return self._code

    def _warm_up(self) -> None:
        warm, self._warm = self._warm, None
        if warm is None or self._inbox.waiting:
            return
        try:
            warm()
        except Exception:
            log.warning("the worker could not warm up", exc_info=True)

    def _answer(self, request: Message) -> Message:
        """The last event of ``request``: ``ready``, ``done``, ``cancelled`` or ``failed``."""
        control = Control(request.job, self._inbox, self._outbox)
        try:
            if request.kind == "hello":
                return self._ready(request)
            handler = self._handlers.get(request.kind)
            if handler is None:
                raise EngineError(f"The worker does not know the request {request.kind!r}.", _UPDATE)
            control.check()
            body, arrays = handler(request, control)
            return Message("done", request.job, body, arrays)
        except Cancelled:
            return Message("cancelled", request.job)
        except KeyboardInterrupt:
            raise
        except (Exception, SystemExit) as error:  # a library may raise anything, and the worker lives on
            log.debug("%s failed", request.kind, exc_info=True)
            return Message("failed", request.job, describe(explain(error)))

    def _ready(self, request: Message) -> Message:
        protocol.agree(protocol.PROTOCOL, request.body.get("protocol"))
        self._outbox.log(Message("log", "", {"level": "info", "message": f"starting: {sys.executable} imports torch"}))
        versions = {"protocol": protocol.PROTOCOL, "version": __version__, "python": platform.python_version()}
        return Message("ready", "", {**versions, "executable": sys.executable, **self._capabilities()})

    def _end(self, error: ProtocolError | None) -> None:
        """In the reader's thread: nothing more will come. The loop ends by itself, or is made to."""
        if error is not None:
            self._code = 3
            log.error("%s", error.line)
            self._outbox.send(Message("failed", "", describe(error)))
        last = threading.Timer(_GRACE, lambda: leave(self._code))
        last.daemon = True
        last.start()

    def _watch(self) -> None:
        while True:
            time.sleep(_WATCH)
            if self._is_orphan():
                leave(0)
            free = self._free_since
            if self._idle and free is not None and time.monotonic() - free > self._idle:
                log.info("nothing was asked for %.0f s", self._idle)
                leave(0)

    def _is_orphan(self) -> bool:
        if os.name == "nt":  # there the end of stdin says it, and os.kill would end the parent
            return False
        if os.getppid() != self._birth_parent:
            return True
        if self._parent:
            try:
                os.kill(self._parent, 0)
            except ProcessLookupError:
                return True
            except PermissionError:
                return False
        return False


_UPDATE = "Restart Blender after updating the extension."


def claim_streams() -> tuple[io.FileIO, io.FileIO]:
    """Put stdin and stdout aside for the protocol; afterwards fd 0 is empty and fd 1 writes to stderr."""
    if sys.stdout is not None:
        sys.stdout.flush()
    source, sink = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    if sys.platform == "win32":
        import msvcrt

        for number in (source, sink):
            msvcrt.setmode(number, os.O_BINARY)
    return io.FileIO(source, "rb"), io.FileIO(sink, "wb")


def explain(error: BaseException) -> SdfError:
    """Any error as one of ours, with a cure; the traceback of a surprise goes to the log."""
    if isinstance(error, SdfError):
        return error
    text = " ".join(str(error).split())
    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "OutOfMemoryError" or any(m in text.lower() for m in _MEMORY):
        _free_memory()
        cure = "Choose a smaller resolution, fewer samples or a faster preset, or set Device to CPU."
        return EngineError(f"The worker ran out of memory ({name}).", cure)
    log.error("%s", name, exc_info=error)
    if isinstance(error, ImportError):
        cure = "Install it there, or press Install Backend."
        return EngineMissingError(f"{sys.executable} lacks a package: {text}", cure)
    return EngineError(f"{name}: {text or 'no message'}", "This is a fault of the extension: the log has its details.")


def _free_memory() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


class _Forward(logging.Handler):
    """Sends the library's log records to the add-on."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__(logging.INFO)
        self._outbox = outbox

    def emit(self, record: logging.LogRecord) -> None:
        body = {"level": record.levelname.lower(), "message": record.getMessage()}
        self._outbox.log(Message("log", "", body))


def leave(code: int) -> NoReturn:
    """End the process at once, whatever its other threads do."""
    logging.shutdown()
    os._exit(code)


def run(
    handlers: Mapping[str, Handler],
    capabilities: Callable[[], Mapping[str, Any]],
    arguments: Sequence[str] | None = None,
    *,
    warm: Callable[[], None] | None = None,
) -> NoReturn:
    """The process: parse ``arguments``, serve, leave."""
    parser = argparse.ArgumentParser(prog="python -m sdfcore.worker", description="Serves the Blender extension.")
    parser.add_argument("--parent", type=int, default=0, metavar="PID", help="end when this process does")
    parser.add_argument("--idle", type=float, default=0.0, metavar="SECONDS", help="end after so long without work")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.captureWarnings(True)
    try:
        code = Worker(handlers, capabilities, warm=warm, parent=options.parent, idle=options.idle).serve()
    except KeyboardInterrupt:
        code = 130
    leave(code)


def main() -> NoReturn:
    threads.settle()
    from . import (
        detail_requests,
        fit_request,
        model_requests,
        path_requests,
        peer_request,
        query_requests,
        requests,
        space_requests,
    )

    handlers = {
        "fit": fit_request.fit,
        "extract": requests.extract,
        "read": requests.read,
        "compare_with": peer_request.compare_with,
        **space_requests.HANDLERS,
        **path_requests.HANDLERS,
        **query_requests.HANDLERS,
        **detail_requests.HANDLERS,
        **model_requests.HANDLERS,
    }
    run(handlers, requests.capabilities, warm=fit_request.warm_up)


if __name__ == "__main__":
    main()
