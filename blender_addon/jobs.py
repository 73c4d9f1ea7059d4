"""Jobs and their states: what waits, what runs in the worker, and what each event does. No bpy, no torch.

Everything here happens on the caller's one thread, in :meth:`Jobs.pump`. One job at a time is in the worker and the
others wait on this side, so a worker that dies takes only the running job with it and the next one gets a fresh worker.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from ..sdfcore import __version__, protocol
from ..sdfcore.errors import EngineDiedError, EngineError, SdfError, rebuild
from ..sdfcore.protocol import Message
from .engine import Transport
from .news import Host, News
from .states import EFFECTS, Job, State

__all__ = ["EFFECTS", "Host", "Job", "Jobs", "State"]

log = logging.getLogger(__name__)

HELLO_SECONDS = 120.0  # torch's first import from a cold disk takes a minute
CANCEL_SECONDS = 10.0  # a worker that does not answer a cancel for so long is ended
_BUSY, _IDLE = 0.1, 1.0  # seconds between two pumps


class Jobs:
    """The queue, the worker behind it, and the pump that moves both.

    Args:
        connect: starts a worker; raises SdfError when it cannot.
        host: is told what happened; an error it raises fails that job and is logged.
        idle_seconds: a worker without work is ended after so long, which frees its memory.
        hello_seconds: a worker that has not said ``ready`` by then is given up.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        connect: Callable[[], Transport],
        host: Host,
        *,
        idle_seconds: float = 300.0,
        hello_seconds: float = HELLO_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.jobs: dict[str, Job] = {}
        self.queue: list[Job] = []
        self.active: Job | None = None
        self.backend: dict[str, Any] | None = None
        self.problem: SdfError | None = None
        self.ended = False  # the last worker was ready, and then gone: the next job's will most likely work
        self.tail: list[str] = []
        self._connect, self._clock = connect, clock
        self._idle_seconds, self._hello_seconds = idle_seconds, hello_seconds
        self._transport: Transport | None = None
        self._occupant = ""  # id of the job the worker has; a cancelled job stays it until the worker says so
        self._deadline = float("inf")  # for the answer that is waited for: ready, or cancelled
        self._idle_since = clock()
        self._news = News(host)
        self._outdated = False  # the settings of the worker have changed since it was started

    # -- what the user does ------------------------------------------------------------------------------------------

    def submit(self, job: Job) -> Job:
        """Queue ``job``; it starts at once when nothing else runs. Pump until it is over."""
        request = job.request
        job.request = Message(request.kind, job.id, request.body, request.arrays)
        self.jobs[job.id] = job
        self.queue.append(job)
        self._advance()
        return job

    def stop(self, job_id: str) -> None:
        """Let the running job finish early and keep its result so far; a queued one is cancelled."""
        job = self.jobs.get(job_id)
        if job is None or job.state is State.QUEUED:
            self.cancel(job_id)
        elif job.state is State.RUNNING and not job.stopping:
            job.stopping = True
            self._send(Message("stop", job_id))

    def cancel(self, job_id: str) -> None:
        """Give the job up, whatever it has reached; the host hears of it with the next pump. Without it: nothing."""
        job = self.jobs.get(job_id)
        if job is None:
            return
        if job.state is State.QUEUED:
            self.queue.remove(job)
        elif job.state is State.RUNNING and self._occupant == job_id:
            self._send(Message("cancel", job_id))
            self._deadline = self._clock() + CANCEL_SECONDS
        self._apply(job, Message("cancel", job_id))

    def cancel_all(self) -> None:
        for job in [*self.queue, *([self.active] if self.active else [])]:
            self.cancel(job.id)

    def forget(self, job_id: str) -> None:
        """Drop a job that is over, and its result."""
        job = self.jobs.get(job_id)
        if job is not None and job.state.over:
            del self.jobs[job_id]

    def start(self) -> None:
        """Start the worker without a job, to learn what it has; :attr:`backend` follows by pumping.

        Raises:
            EngineMissingError: it cannot be started.
        """
        if self._transport is None:
            self.problem, self.ended = None, False
            try:
                self._transport = self._connect()
            except SdfError as error:
                self.problem = error
                raise
            self._deadline = self._clock() + self._hello_seconds
            self._send(Message("hello", "", {"protocol": protocol.PROTOCOL, "version": __version__}))

    def release(self) -> None:
        """End the worker, once its present job is over if it has one; the next job starts another."""
        self._outdated = True
        self._retire()

    def _retire(self) -> None:
        if self._outdated and self.active is None and not self._occupant:
            self._drop()

    def abandon(self) -> None:
        """Cancel everything and let go of all results; the host is not told."""
        self.cancel_all()
        self._news.clear()
        self.jobs.clear()

    def close(self) -> None:
        """Cancel everything and end the worker; the host is not told."""
        self.abandon()
        self._drop()

    # -- what moves it -----------------------------------------------------------------------------------------------

    def pump(self) -> float | None:
        """Take in what came, tell the host, start what can start.

        Returns:
            seconds until the next call is due; ``None`` when none is until a job is submitted.
        """
        transport = self._transport
        if transport is not None:
            for event in transport.poll():
                if self._transport is transport:  # an event may have ended this worker
                    self._take(event)
        self._check_deadlines()
        self._advance()
        self._news.tell()
        self._advance()  # what the host did may have made room
        if self.active or self.queue or self._news or self._occupant:
            return _BUSY
        if self._transport is not None:
            return _IDLE if self.backend else _BUSY
        return None

    def run(self, job: Job, timeout: float | None = None, on_progress: Callable[[Job], None] | None = None) -> Job:
        """Submit ``job`` and pump until it is over: the blocking form, for scripts.

        Args:
            timeout: seconds after which it is cancelled and fails.
            on_progress: called when its progress changed.
        Raises:
            KeyboardInterrupt: Ctrl-C; all jobs were cancelled.
        """
        self.submit(job)
        end = self._clock() + (float("inf") if timeout is None else timeout)
        shown = job.progress
        try:
            while True:
                self.pump()
                if job.state.over and not self._news.about(job):
                    return job
                if on_progress and job.progress is not shown:
                    shown = job.progress
                    on_progress(job)
                if self._clock() > end and not job.state.over:
                    self._time_out(job, timeout or 0.0)
                time.sleep(0.02)
        except KeyboardInterrupt:
            self.cancel_all()
            self.pump()
            raise

    def probe(self, timeout: float | None = None) -> dict[str, Any]:
        """Start the worker if need be and wait for what it has: the body of ``ready``.

        Raises:
            EngineError: it cannot be started, died, speaks another version, or did not answer in time.
        """
        self.start()
        end = self._clock() + (self._hello_seconds + 1 if timeout is None else timeout)
        while self.backend is None:
            self.pump()
            if self.problem is not None:
                raise self.problem
            if self._clock() > end:
                raise _silent(timeout or self._hello_seconds)
            time.sleep(0.02)
        return self.backend

    @property
    def status(self) -> str:
        """One line about the worker."""
        if self.backend is not None:
            return f"Backend: {self._device()} · torch {self.backend.get('torch', '?')}"
        if self._transport is not None:
            return "Backend: starting…"
        if self.ended:
            return "Backend: ended, starts with the next fit"
        return f"Backend: {self.problem.message}" if self.problem else "Backend: not started"

    def _device(self) -> str:
        devices = (self.backend or {}).get("devices") or [{}]
        best = max(devices, key=lambda device: device.get("id", "cpu") != "cpu")
        return str(best.get("name" if best.get("id", "cpu") != "cpu" else "id", "cpu"))

    # -- inside ------------------------------------------------------------------------------------------------------

    def _send(self, message: Message) -> None:
        if self._transport is not None:
            self._transport.send(message)

    def _take(self, event: Message) -> None:
        if event.kind == "died":
            self.tail = [str(line) for line in event.body.get("tail", [])]
            left = self.backend is not None and self.active is None and event.body.get("code") == 0
            self._lose(rebuild(dict(event.body)))
            if left:  # by itself, after idling
                self.problem, self.ended = None, False
        elif event.kind == "ready":
            self._greet(event)
        elif event.kind == "log":
            level = getattr(logging, str(event.body.get("level", "")).upper(), logging.INFO)
            log.log(level if isinstance(level, int) else logging.INFO, "worker: %s", event.body.get("message", ""))
        elif event.kind == "failed" and not event.job:
            self._lose(rebuild(dict(event.body)))
        else:
            self._take_job_event(event)

    def _take_job_event(self, event: Message) -> None:
        if event.kind in ("done", "failed", "cancelled") and event.job == self._occupant:
            self._occupant, self._deadline, self._idle_since = "", float("inf"), self._clock()
        job = self.jobs.get(event.job)
        if job is not None and event.kind not in ("cancel", "start"):
            self._apply(job, event)

    def _greet(self, event: Message) -> None:
        try:
            protocol.agree(event.body.get("protocol"), protocol.PROTOCOL)
        except EngineError as error:
            self._lose(error)
            return
        self.backend, self.problem, self.ended = dict(event.body), None, False
        self._deadline, self._idle_since = float("inf"), self._clock()

    def _apply(self, job: Job, event: Message) -> None:
        effect = EFFECTS.get((job.state, event.kind))
        if effect is None:
            log.debug("%s: %s ignored, it is %s", job.title, event.kind, job.state.value)
            return
        job.state, told = effect
        if event.kind == "progress":
            job.progress = dict(event.body)
        elif event.kind == "fitted":
            job.model = event.arrays.get("model")
        elif event.kind == "done":
            job.result = event
        elif event.kind == "failed":
            job.error = rebuild(dict(event.body))
        elif event.kind == "preview":
            self._news.preview(job, event)
        if job.state.over:
            self._settle(job)
        if told != "preview":
            self._news.add(job, told)

    def _advance(self) -> None:
        """Give the worker its next job, with a fresh worker where there is none."""
        self._retire()
        while self.queue and not self._occupant and self.active is None:
            if self.backend is not None and self._transport is not None and not self._transport.alive:
                self._drop()  # it has left by itself, unnoticed, for a script does not pump between its jobs
            try:
                self.start()
            except SdfError as error:
                self._fail(self.queue.pop(0), error)
                continue
            if self.backend is None:
                return  # jobs wait here until the worker is known to be one
            job = self.queue.pop(0)
            self.active, self._occupant = job, job.id
            self._apply(job, Message("start", job.id))
            self._send(job.request)

    def _fail(self, job: Job, error: SdfError) -> None:
        effect = EFFECTS.get((job.state, "failed"))
        if effect is not None:
            job.error = error
            job.state, told = effect
            self._news.add(job, told)
        self._settle(job)

    def _settle(self, job: Job) -> None:
        if self.active is job:
            self.active = None
        job.request = Message(job.request.kind, job.id, job.request.body)  # its arrays may be large

    def _lose(self, error: SdfError) -> None:
        """The worker is gone or useless: the job it had fails, or the first in line when it never came up."""
        victim = self.active
        if victim is None and self.backend is None and self.queue:
            victim = self.queue.pop(0)
        self.ended = self.backend is not None
        self._drop()
        self.problem = error
        if victim is not None:
            self._fail(victim, error)

    def _drop(self) -> None:
        transport, self._transport = self._transport, None
        self.backend, self._occupant, self._deadline, self._outdated = None, "", float("inf"), False
        if transport is not None:
            transport.close()

    def _check_deadlines(self) -> None:
        now = self._clock()
        if now > self._deadline:
            self._lose(_silent(self._hello_seconds) if self.backend is None else _deaf())
        idle = self.backend is not None and not self._occupant and not self.queue
        if idle and now - self._idle_since > self._idle_seconds:
            log.info("the backend was idle for %.0f s and is ended", self._idle_seconds)
            self._drop()

    def _time_out(self, job: Job, seconds: float) -> None:
        self.cancel(job.id)
        hint = "Give it more time, or choose a faster preset."
        job.state, job.error = State.FAILED, EngineError(f"{job.title} did not finish within {seconds:g} s.", hint)
        self._news.add(job, "failed")


def _silent(seconds: float) -> EngineError:
    hint = "Press Test Backend in the preferences; the log file says how far it came."
    return EngineError(f"The backend did not answer within {seconds:g} s.", hint)


def _deaf() -> EngineDiedError:
    return EngineDiedError("The backend did not react to Cancel and was ended.", "The next fit starts a new backend.")
