"""The queue, with a worker that is played."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

_NAME = "bl_ext.test.neural_sdf"
engine = importlib.import_module(f"{_NAME}.blender_addon.engine")
jobs_module = importlib.import_module(f"{_NAME}.blender_addon.jobs")
errors = importlib.import_module(f"{_NAME}.sdfcore.errors")
Message = importlib.import_module(f"{_NAME}.sdfcore.protocol").Message
Job, Jobs, State = jobs_module.Job, jobs_module.Jobs, jobs_module.State


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Told:
    """A host that writes down what it is told, and fails where asked to."""

    def __init__(self, *failing: str, error: Exception | None = None) -> None:
        self.calls: list[tuple[str, str]] = []
        self.changes = 0
        self._failing, self._error = failing, error or RuntimeError("no such object")

    def _note(self, what: str, job: Any) -> None:
        self.calls.append((what, job.title))
        if what in self._failing:
            raise self._error

    def finished(self, job: Any) -> None:
        self._note("finished", job)

    def failed(self, job: Any) -> None:
        self._note("failed", job)

    def cancelled(self, job: Any) -> None:
        self._note("cancelled", job)

    def preview(self, job: Any, message: Any) -> None:
        self._note("preview", job)

    def changed(self) -> None:
        self.changes += 1
        if "changed" in self._failing:
            raise self._error


class Bench:
    """Jobs over fake transports, each kept for inspection."""

    def __init__(self, host: Told | None = None, answer: Callable[[Any], Iterable[Any] | None] | None = None) -> None:
        self.host = host or Told()
        self.clock = Clock()
        self.wires: list[Any] = []
        self.answer = answer
        self.jobs = Jobs(self.connect, self.host, idle_seconds=60, hello_seconds=120, clock=self.clock)

    def connect(self) -> Any:
        self.wires.append(engine.FakeTransport(self.answer))
        return self.wires[-1]

    @property
    def wire(self) -> Any:
        return self.wires[-1]

    def submit(self, *titles: str) -> list[Any]:
        return [self.jobs.submit(fit(title)) for title in titles]

    def pump(self, times: int = 3) -> None:
        for _ in range(times):
            self.jobs.pump()

    def sent(self) -> list[tuple[str, str]]:
        return [(m.kind, m.job) for m in self.wire.sent]


def fit(title: str) -> Any:
    return Job(title, Message("fit", arrays={"points": np.zeros((4, 3), np.float32)}), {"uid": 7})


def mute(_: Any) -> list[Any]:
    """A worker that says something useless, so that ``hello`` stays unanswered."""
    return [Message("log", body={"level": "info", "message": "importing torch"})]


def test_a_fit_runs_from_queue_to_result() -> None:
    bench = Bench()
    (job,) = bench.submit("a")
    assert job.state is State.QUEUED
    assert bench.jobs.status == "Backend: starting…"
    bench.pump()
    assert (job.state, bench.jobs.active) == (State.RUNNING, job)
    assert bench.sent() == [("hello", ""), ("fit", job.id)]
    bench.wire.feed(Message("progress", job.id, {"step": 3, "steps": 10}))
    bench.pump()
    assert job.progress == {"step": 3, "steps": 10}
    bench.wire.feed(Message("preview", job.id), Message("done", job.id, {"report": {}}, {"vertices": np.zeros((3, 3))}))
    bench.pump()
    assert job.state is State.DONE
    assert job.result.arrays["vertices"].shape == (3, 3)
    assert bench.host.calls == [("preview", "a"), ("finished", "a")]
    assert bench.jobs.active is None
    assert bench.jobs.status == "Backend: cpu · torch 0"


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize(
    "event", ["progress", "preview", "fitted", "done", "failed", "cancelled", "cancel", "start", "nonsense"]
)
def test_only_these_events_change_a_job(state: Any, event: str) -> None:
    effect = jobs_module.EFFECTS.get((state, event))
    allowed = {
        State.QUEUED: {"cancel", "start", "failed"},
        State.RUNNING: {"progress", "preview", "fitted", "done", "failed", "cancelled", "cancel"},
    }
    assert (effect is not None) == (event in allowed.get(state, set()))
    assert effect is None or not state.over


def test_one_job_at_a_time_is_in_the_worker() -> None:
    bench = Bench()
    first, second = bench.submit("a", "b")
    bench.pump()
    assert bench.sent() == [("hello", ""), ("fit", first.id)]
    assert bench.jobs.queue == [second]
    bench.wire.feed(Message("done", first.id))
    bench.pump()
    assert bench.sent()[-1] == ("fit", second.id)


def test_cancel_is_at_once_and_late_events_are_ignored() -> None:
    bench = Bench()
    first, second = bench.submit("a", "b")
    bench.pump()
    bench.jobs.cancel(first.id)
    assert first.state is State.CANCELLED
    bench.wire.feed(Message("progress", first.id, {"step": 9}))
    bench.pump()
    assert first.progress == {}
    assert second.state is State.QUEUED, "the worker has not let go of the first"
    bench.wire.feed(Message("cancelled", first.id))
    bench.pump()
    assert second.state is State.RUNNING
    bench.wire.feed(Message("done", first.id, {}, {"vertices": np.zeros((1, 3))}))
    bench.pump()
    assert (first.state, first.result) == (State.CANCELLED, None)
    assert second.state is State.RUNNING
    assert bench.host.calls == [("cancelled", "a")]


def test_a_queued_job_is_cancelled_without_the_worker() -> None:
    bench = Bench()
    first, second, third = bench.submit("a", "b", "c")
    bench.pump()
    bench.jobs.cancel(second.id)
    bench.wire.feed(Message("done", first.id))
    bench.pump()
    assert second.state is State.CANCELLED
    assert bench.sent() == [("hello", ""), ("fit", first.id), ("fit", third.id)]


def test_a_worker_deaf_to_cancel_is_replaced() -> None:
    bench = Bench()
    first, second = bench.submit("a", "b")
    bench.pump()
    bench.jobs.cancel(first.id)
    bench.clock.now += 11
    bench.pump()
    assert len(bench.wires) == 2
    assert bench.wires[0].closed
    assert (first.state, second.state) == (State.CANCELLED, State.RUNNING)


def test_a_death_fails_the_running_job_only() -> None:
    bench = Bench()
    first, second = bench.submit("a", "b")
    bench.pump()
    bench.wire.die(-11, "loading", "Segmentation fault")
    bench.pump()
    assert first.state is State.FAILED
    assert isinstance(first.error, errors.EngineDiedError)
    assert "exit code -11, SIGSEGV" in first.error.message
    assert "Segmentation fault" in first.error.message
    assert bench.jobs.tail == ["loading", "Segmentation fault"]
    assert second.state is State.RUNNING
    assert len(bench.wires) == 2


def test_a_death_after_the_result_loses_nothing() -> None:
    bench = Bench()
    (job,) = bench.submit("a")
    bench.pump()
    bench.wire.feed(Message("done", job.id, {}, {"vertices": np.ones((3, 3))}))
    bench.wire.die(1)
    bench.pump()
    assert (job.state, job.error) == (State.DONE, None)
    assert bench.jobs.pump() is None


def test_a_death_after_the_fit_leaves_the_model() -> None:
    bench = Bench()
    (job,) = bench.submit("a")
    bench.pump()
    bench.wire.feed(Message("fitted", job.id, {}, {"model": np.arange(3, dtype=np.uint8)}))
    bench.wire.die(-9)
    bench.pump()
    assert job.state is State.FAILED
    assert job.model.tolist() == [0, 1, 2]
    assert "out of memory" in job.error.hint


def test_a_worker_that_left_after_idling_is_no_problem() -> None:
    bench = Bench()
    bench.jobs.probe()
    bench.wire.die(0)
    bench.pump()
    assert bench.jobs.status == "Backend: not started"


def test_a_worker_that_dies_at_birth_fails_one_job_each() -> None:
    bench = Bench(answer=mute)
    first, second = bench.submit("a", "b")
    bench.wire.die(1, "ModuleNotFoundError: No module named 'torch'")
    bench.pump(1)
    assert (first.state, second.state) == (State.FAILED, State.QUEUED)
    assert "No module named 'torch'" in first.error.message
    assert "install torch" in first.error.hint
    assert len(bench.wires) == 2


def test_an_engine_that_cannot_start_is_said_to_every_job() -> None:
    host = Told()

    def connect() -> Any:
        raise errors.EngineMissingError("No Python with torch was found", "Press Install Backend.")

    jobs = Jobs(connect, host)
    both = [jobs.submit(fit("a")), jobs.submit(fit("b"))]
    assert jobs.pump() is None
    assert [j.state for j in both] == [State.FAILED] * 2
    assert host.calls == [("failed", "a"), ("failed", "b")]
    assert jobs.status == "Backend: No Python with torch was found"


def test_a_silent_worker_is_given_up() -> None:
    bench = Bench(answer=mute)
    (job,) = bench.submit("a")
    bench.clock.now = 119
    bench.pump()
    assert job.state is State.QUEUED
    bench.clock.now = 121
    bench.pump()
    assert job.state is State.FAILED
    assert "did not answer within 120 s" in job.error.message
    assert bench.wires[0].closed


def test_another_version_is_refused() -> None:
    old = lambda m: [Message("ready", "", {**engine.READY, "protocol": 99})] if m.kind == "hello" else None
    bench = Bench(answer=old)
    (job,) = bench.submit("a")
    bench.pump(1)
    assert job.state is State.FAILED
    assert type(job.error) is errors.EngineError
    assert job.error.message == "worker speaks 99, add-on speaks 1"
    assert bench.jobs.status == "Backend: worker speaks 99, add-on speaks 1"


def test_errors_keep_their_class_and_unknown_ones_become_engine_errors() -> None:
    bench = Bench()
    first, second = bench.submit("a", "b")
    bench.pump()
    bench.wire.feed(Message("failed", first.id, errors.describe(errors.NoSurfaceError("none", "", 0.1, 0.2))))
    bench.pump()
    assert isinstance(first.error, errors.NoSurfaceError)
    assert (first.error.minimum, first.error.maximum) == (0.1, 0.2)
    bench.wire.feed(Message("failed", second.id, {"error": "FromTheFuture", "message": "what"}))
    bench.pump()
    assert (type(second.error), second.error.message) == (errors.EngineError, "what")


def test_a_result_that_cannot_be_placed_is_kept() -> None:
    bench = Bench(Told("finished"))
    first, second = bench.submit("a", "b")
    bench.pump()
    bench.wire.feed(Message("done", first.id, {}, {"vertices": np.ones((2, 3))}))
    bench.pump()
    assert first.state is State.FAILED
    assert "RuntimeError: no such object" in first.error.message
    assert first.result.arrays["vertices"].shape == (2, 3)
    assert bench.host.calls == [("finished", "a"), ("failed", "a")]
    assert second.state is State.RUNNING


def test_an_error_of_the_host_keeps_its_class() -> None:
    bench = Bench(Told("finished", error=errors.InputError("The object was deleted.", "Undo.")))
    (job,) = bench.submit("a")
    bench.pump()
    bench.wire.feed(Message("done", job.id))
    bench.pump()
    assert (type(job.error), job.error.hint) == (errors.InputError, "Undo.")


@pytest.mark.parametrize("what", ["failed", "cancelled", "preview", "changed"])
def test_a_failing_host_does_not_stop_the_pump(what: str) -> None:
    bench = Bench(Told(what))
    first, second, third = bench.submit("a", "b", "c")
    bench.pump()
    bench.wire.feed(Message("preview", first.id), Message("failed", first.id, {"message": "told"}))
    bench.pump()
    bench.jobs.cancel(second.id)
    bench.wire.feed(Message("cancelled", second.id))
    bench.pump()
    bench.wire.feed(Message("done", third.id))
    bench.pump()
    assert [j.state for j in (first, second, third)] == [State.FAILED, State.CANCELLED, State.DONE]
    assert first.error.message == "told"


def test_stop_keeps_the_job_running_until_its_result() -> None:
    bench = Bench()
    first, second = bench.submit("a", "b")
    bench.pump()
    bench.jobs.stop(first.id)
    bench.jobs.stop(first.id)
    bench.jobs.stop(second.id)
    assert bench.sent()[-1] == ("stop", first.id)
    assert bench.sent().count(("stop", first.id)) == 1
    assert (first.state, second.state) == (State.RUNNING, State.CANCELLED)
    bench.wire.feed(Message("done", first.id, {"stopped": True}))
    bench.pump()
    assert first.result.body["stopped"] is True


def test_an_idle_worker_is_ended_and_the_next_job_gets_a_new_one() -> None:
    bench = Bench()
    (first,) = bench.submit("a")
    bench.pump()
    bench.clock.now = 1000
    bench.pump()
    assert not bench.wire.closed, "a long job is not idleness"
    bench.wire.feed(Message("done", first.id))
    bench.pump()
    assert bench.jobs.pump() == pytest.approx(1.0)
    bench.clock.now += 61
    assert bench.jobs.pump() is None
    assert bench.wire.closed
    assert bench.jobs.status == "Backend: not started"
    (second,) = bench.submit("b")
    bench.pump()
    assert (len(bench.wires), second.state) == (2, State.RUNNING)


def test_a_worker_that_left_unnoticed_is_replaced_for_the_next_job() -> None:
    """A script does not pump between its jobs."""
    bench = Bench()
    (first,) = bench.submit("a")
    bench.pump()
    bench.wire.feed(Message("done", first.id))
    bench.pump()
    bench.wire.die(0)
    (second,) = bench.submit("b")
    bench.pump()
    assert (len(bench.wires), second.state) == (2, State.RUNNING)
    assert bench.sent()[-1][0] == "fit"


def test_run_blocks_until_the_host_was_told() -> None:
    bench = Bench(answer=lambda m: [Message("progress", m.job, {"step": 1})] if m.kind == "fit" else None)
    steps: list[int] = []

    def shown(job: Any) -> None:
        steps.append(job.progress["step"])
        bench.wire.feed(Message("done", job.id))

    job = bench.jobs.run(fit("a"), on_progress=shown)
    assert job.state is State.DONE
    assert steps == [1]
    assert bench.host.calls == [("finished", "a")]


def test_run_gives_up_after_its_timeout() -> None:
    bench = Bench()
    bench.jobs = Jobs(bench.connect, bench.host)
    job = bench.jobs.run(fit("a"), timeout=0.1)
    assert job.state is State.FAILED
    assert "0.1 s" in job.error.message
    assert bench.sent()[-1] == ("cancel", job.id)
    assert bench.host.calls == [("failed", "a")]


def test_ctrl_c_cancels_everything() -> None:
    bench = Bench()
    (waiting,) = bench.submit("b")
    bench.pump()

    def press(_: Any) -> None:
        raise KeyboardInterrupt

    bench.wire.feed(Message("done", waiting.id))
    job = fit("a")
    original = bench.wire.send

    def send(message: Any) -> None:
        original(message)
        if message.kind == "fit":
            bench.wire.feed(Message("progress", message.job, {"step": 1}))

    bench.wire.send = send
    with pytest.raises(KeyboardInterrupt):
        bench.jobs.run(job, on_progress=press)
    assert job.state is State.CANCELLED
    assert bench.sent()[-1] == ("cancel", job.id)


def test_probe_says_what_the_worker_has() -> None:
    bench = Bench()
    assert bench.jobs.probe()["devices"] == [{"id": "cpu", "name": "CPU"}]
    bench.jobs.release()
    assert bench.wire.closed


def test_probe_of_a_dead_worker_raises_what_it_said() -> None:
    bench = Bench(answer=mute)
    bench.jobs.start()
    bench.wire.die(2, "unknown option -P")
    with pytest.raises(errors.EngineDiedError, match=r"exit code 2\): unknown option -P") as caught:
        bench.jobs.probe()
    assert "3.11 or newer" in caught.value.hint


def test_close_ends_the_worker_quietly() -> None:
    bench = Bench()
    first, second = bench.submit("a", "b")
    bench.pump()
    bench.jobs.close()
    assert bench.wire.closed
    assert [first.state, second.state] == [State.CANCELLED] * 2
    assert bench.host.calls == []
    assert bench.jobs.pump() is None


def test_a_finished_job_gives_its_input_back() -> None:
    bench = Bench()
    (job,) = bench.submit("a")
    bench.pump()
    assert bench.wire.sent[-1].arrays["points"].shape == (4, 3)
    bench.wire.feed(Message("done", job.id))
    bench.pump()
    assert job.request.arrays == {}
    bench.jobs.forget(job.id)
    assert bench.jobs.jobs == {}


def test_the_workers_log_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.submit("a")
    bench.pump()
    bench.wire.feed(Message("log", "", {"level": "warning", "message": "few points"}))
    bench.pump()
    assert ("WARNING", "worker: few points") in [(r.levelname, r.getMessage()) for r in caplog.records]


def test_a_worker_that_was_ready_and_ended_starts_with_the_next_fit() -> None:
    bench = Bench()
    bench.submit("a")
    bench.pump()
    bench.wire.die(-9)
    bench.pump()
    assert bench.jobs.ended
    assert bench.jobs.status == "Backend: ended, starts with the next fit"
    bench.submit("b")
    assert (bench.jobs.ended, bench.jobs.status) == (False, "Backend: starting…")


def test_a_worker_that_never_was_ready_is_a_problem() -> None:
    bench = Bench(answer=mute)
    bench.submit("a")
    bench.wire.die(1, "No module named 'torch'")
    bench.pump(1)
    assert bench.jobs.problem is not None
    assert not bench.jobs.ended


def test_what_is_abandoned_is_kept_nowhere() -> None:
    bench = Bench()
    done, running, queued = bench.submit("a", "b", "c")
    bench.pump()
    bench.wire.feed(Message("done", done.id))
    bench.pump()
    bench.jobs.abandon()
    bench.pump()
    assert bench.jobs.jobs == {}
    assert [job.state for job in (running, queued)] == [State.CANCELLED] * 2
    assert bench.host.calls == [("finished", "a")]


def test_a_busy_worker_is_exchanged_after_its_job() -> None:
    bench = Bench()
    bench.jobs.probe()
    first = bench.wire
    running, waiting = bench.jobs.submit(fit("a")), bench.jobs.submit(fit("b"))
    bench.jobs.release()
    bench.jobs.pump()
    assert not first.closed, "its job goes on"
    first.feed(Message("done", running.id))
    bench.jobs.pump()
    assert first.closed
    bench.jobs.pump()
    assert bench.wire is not first
    assert ("fit", waiting.id) in bench.sent()
