"""The transport over real processes, and how an interpreter is found."""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_NAME = "bl_ext.test.neural_sdf"
engine = importlib.import_module(f"{_NAME}.blender_addon.engine")
interpreter = importlib.import_module(f"{_NAME}.blender_addon.interpreter")
jobs_module = importlib.import_module(f"{_NAME}.blender_addon.jobs")
errors = importlib.import_module(f"{_NAME}.sdfcore.errors")
Message = importlib.import_module(f"{_NAME}.sdfcore.protocol").Message

ROOT = Path(__file__).parents[2]

HANDLERS = """
    import os, sys, time, ctypes
    import numpy as np
    from sdfcore.worker import run

    def echo(request, control):
        return request.body, request.arrays

    def slow(request, control):
        for step in range(2000):
            control.progress({"step": step})
            time.sleep(0.01)
        return {}, {}

    def wedged(request, control):
        control.progress({"step": 0})
        time.sleep(600)

    def die(request, control):
        print("cudaErrorIllegalAddress", file=sys.stderr)
        os._exit(7)

    run({f.__name__: f for f in (echo, slow, wedged, die)}, lambda: {"torch": "9", "devices": [{"id": "cpu"}]})
"""


class Bench:
    """Starts processes and ends them all."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.wires = folder, []

    def start(self, code: str = HANDLERS, *arguments: str) -> Any:
        command = [sys.executable, "-P", "-s", "-c", textwrap.dedent(code), *arguments]
        environment = engine.worker_environment(ROOT, 1)
        wire = engine.ProcessTransport(
            command, environment=environment, cwd=self.folder / "run", log=self.folder / "logs" / "worker.log"
        )
        self.wires.append(wire)
        return wire


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for wire in made.wires:
        wire.close()


def until(wire: Any, *kinds: str, seconds: float = 15.0) -> Any:
    """The first event of one of ``kinds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for event in wire.poll():
            if event.kind in kinds:
                return event
        time.sleep(0.01)
    raise AssertionError(f"no {kinds} within {seconds} s; log: {list(wire.tail)}")


def wait(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_a_request_is_answered(bench: Bench) -> None:
    wire = bench.start()
    points = np.random.default_rng(0).random((1000, 3)).astype(np.float32)
    wire.send(Message("echo", "j", {"title": "Züs"}, {"points": points}))
    event = until(wire, "done")
    assert (event.job, event.body) == ("j", {"title": "Züs"})
    assert np.array_equal(event.arrays["points"], points)
    assert wire.alive
    wire.close()
    assert not wire.alive
    assert wire.poll() == [], "an end that was asked for is no death"


def test_a_death_tells_code_and_last_words(bench: Bench) -> None:
    wire = bench.start()
    wire.send(Message("die", "j"))
    event = until(wire, "died")
    error = errors.rebuild(dict(event.body))
    assert type(error) is errors.EngineDiedError
    assert error.message == "The backend ended without an answer (exit code 7): cudaErrorIllegalAddress"
    assert event.body["code"] == 7
    assert str(bench.folder / "logs" / "worker.log") in error.hint
    assert "cudaErrorIllegalAddress" in (bench.folder / "logs" / "worker.log").read_text()


def test_kill_9_is_told_as_such(bench: Bench) -> None:
    wire = bench.start()
    wire.send(Message("slow", "j"))
    until(wire, "progress")
    os.kill(wire.pid, 9)
    error = errors.rebuild(dict(until(wire, "died").body))
    assert "exit code -9, SIGKILL" in error.message
    assert "out of memory" in error.hint


@pytest.mark.parametrize(
    "code",
    [
        "import time; print('Welcome to the machine! ' * 9, flush=True); time.sleep(600)",
        "import sys, time; sys.stdout.buffer.write(bytes(64)); sys.stdout.flush(); time.sleep(600)",
        "import sys, time; sys.stdout.buffer.write((100).to_bytes(8, 'little') + b'cut'); sys.stdout.flush()",
    ],
)
def test_garbage_is_a_protocol_error_and_ends_the_child(bench: Bench, code: str) -> None:
    wire = bench.start(code)
    error = errors.rebuild(dict(until(wire, "died").body))
    assert type(error) is errors.ProtocolError
    assert wait(lambda: not wire.alive)


def test_a_child_that_closes_its_stdout_is_ended(bench: Bench) -> None:
    wire = bench.start("import os, time; os.close(1); time.sleep(600)")
    until(wire, "died", seconds=10)
    assert not wire.alive


def test_no_call_waits_for_a_child_that_does_not_read(bench: Bench) -> None:
    wire = bench.start("import time; time.sleep(600)")
    points = np.ones(6_500_000)  # 52 MB
    begun = time.monotonic()
    wire.send(Message("echo", "j", {}, {"points": points}))
    assert wire.poll() == []
    assert time.monotonic() - begun < 0.1
    begun = time.monotonic()
    wire.close()
    assert time.monotonic() - begun < 4
    assert not wire.alive


def test_a_busy_worker_takes_a_large_request_without_the_caller_waiting(bench: Bench) -> None:
    wire = bench.start()
    wire.send(Message("slow", "first"))
    until(wire, "progress")
    points = np.ones(6_500_000)  # 52 MB
    begun = time.monotonic()
    wire.send(Message("echo", "second", {}, {"points": points}))
    assert time.monotonic() - begun < 0.1
    wire.send(Message("cancel", "first"))
    assert until(wire, "cancelled").job == "first"
    assert until(wire, "done").arrays["points"].sum() == 6_500_000


@pytest.mark.parametrize("kind", ["slow", "wedged"])
def test_close_ends_a_busy_worker(bench: Bench, kind: str) -> None:
    wire = bench.start()
    wire.send(Message(kind, "j"))
    until(wire, "progress")
    begun = time.monotonic()
    wire.close()
    assert time.monotonic() - begun < 4
    assert not wire.alive


def test_close_kills_what_ignores_every_request(bench: Bench) -> None:
    wire = bench.start("""
        import signal, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("deaf", file=sys.stderr, flush=True)
        time.sleep(600)
    """)
    assert wait(lambda: "deaf" in wire.tail)
    begun = time.monotonic()
    wire.close()
    assert 2 < time.monotonic() - begun < 4
    assert not wire.alive


def test_a_talkative_child_neither_blocks_nor_fills_memory(bench: Bench) -> None:
    wire = bench.start("""
        import sys
        for i in range(20_000):
            print("line", i, "x" * 80, file=sys.stderr)
        sys.stderr.write("y" * 1_000_000)
        sys.exit(4)
    """)
    event = until(wire, "died")
    assert event.body["code"] == 4
    assert len(event.body["tail"]) == 40
    assert max(map(len, event.body["tail"])) <= 8192


def test_a_long_log_starts_anew(bench: Bench) -> None:
    path = bench.folder / "logs" / "worker.log"
    path.parent.mkdir()
    path.write_text("old\n" * 1_100_000)
    wire = bench.start("import sys; print('new', file=sys.stderr)")
    until(wire, "died")
    assert path.read_text() == "new\n"
    assert path.with_name("worker.log.old").stat().st_size == 4_400_000


def test_what_cannot_be_started_is_missing(tmp_path: Path) -> None:
    with pytest.raises(errors.EngineMissingError, match="no/such/python"):
        engine.ProcessTransport(["/no/such/python"], environment={}, cwd=tmp_path, log=tmp_path / "log")


def test_a_log_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file, not a folder")
    wire = Bench(tmp_path).start("import sys; print('last words', file=sys.stderr); sys.exit(2)")
    assert until(wire, "died").body["tail"] == ["last words"]


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file, not a folder")
    with pytest.raises(errors.EngineMissingError, match="could not be started"):
        Bench(tmp_path).start()


def test_a_message_too_long_fails_its_job_only(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = bench.start()

    def write(stream: Any, message: Any) -> None:
        if message.job == "big":
            raise errors.ProtocolError("longer than allowed")
        original(stream, message)

    original = engine.protocol.write
    monkeypatch.setattr(engine.protocol, "write", write)
    wire.send(Message("echo", "big"))
    wire.send(Message("echo", "small"))
    assert until(wire, "failed").job == "big"
    assert until(wire, "done").job == "small"


def test_jobs_over_a_real_process_survive_its_crash(bench: Bench) -> None:
    told: list[tuple[str, str]] = []

    class Host:
        def __getattr__(self, name: str) -> Any:
            return lambda *arguments: told.append((name, arguments[0].title if arguments else ""))

    jobs = jobs_module.Jobs(bench.start, Host())
    make = lambda title, kind: jobs_module.Job(title, Message(kind))
    first, second, third = (jobs.submit(make(t, k)) for t, k in [("a", "die"), ("b", "slow"), ("c", "echo")])
    end = time.monotonic() + 20
    while not third.state.over and time.monotonic() < end:
        jobs.pump()
        if second.progress:
            jobs.cancel(second.id)
            second.progress = {}
        time.sleep(0.01)
    jobs.pump()
    assert [j.state.value for j in (first, second, third)] == ["failed", "cancelled", "done"]
    assert "cudaErrorIllegalAddress" in first.error.message
    assert [entry for entry in told if entry[0] != "changed"] == [
        ("failed", "a"),
        ("cancelled", "b"),
        ("finished", "c"),
    ]
    assert jobs.status == "Backend: cpu · torch 9"
    assert len(bench.wires) == 2
    jobs.close()


def test_a_worker_that_hangs_is_replaced_after_a_cancel(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "CANCEL_SECONDS", 0.3)

    class Host:
        def __getattr__(self, name: str) -> Any:
            return lambda *_: None

    jobs = jobs_module.Jobs(bench.start, Host())
    hung, after = (jobs.submit(jobs_module.Job(kind, Message(kind))) for kind in ("wedged", "echo"))
    end = time.monotonic() + 20
    while not after.state.over and time.monotonic() < end:
        jobs.pump()
        if hung.progress and not hung.state.over:
            jobs.cancel(hung.id)
        time.sleep(0.01)
    assert (hung.state.value, after.state.value) == ("cancelled", "done")
    assert [wire.alive for wire in bench.wires] == [False, True]
    jobs.close()


def test_the_environment_is_blenders_without_its_python(tmp_path: Path) -> None:
    given = {"PATH": "/bin", "PYTHONHOME": "x", "PYTHONPATH": "x", "VIRTUAL_ENV": "x", "LD_LIBRARY_PATH": "x"}
    made = engine.worker_environment(tmp_path, 3, given)
    assert made["PATH"] == "/bin"
    assert made["PYTHONPATH"] == str(tmp_path)
    assert made["OMP_NUM_THREADS"] == "3"
    assert made["PYTHONUNBUFFERED"] == "1"
    assert made["PYTHONIOENCODING"] == "utf-8"
    assert not {"PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH"} & set(made)
    assert "OMP_NUM_THREADS" not in engine.worker_environment(tmp_path, 0, given)


def test_the_command_names_us_as_parent() -> None:
    command = engine.worker_command(Path("/x/python"), idle=60)
    assert command == ["/x/python", "-P", "-s", "-m", "sdfcore.worker", "--parent", str(os.getpid()), "--idle", "60"]


def test_a_custom_command_is_split_as_a_shell_would() -> None:
    assert engine.custom_command("ssh gpu 'my python' -m sdfcore.worker") == [
        "ssh", "gpu", "my python", "-m", "sdfcore.worker",
    ]  # fmt: skip
    for bad in ("", "   ", "ssh 'gpu"):
        with pytest.raises(errors.EngineMissingError, match="cannot be read"):
            engine.custom_command(bad)


def test_on_windows_a_quoted_path_loses_its_quotes_and_keeps_its_backslashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter.os, "name", "nt")
    found = engine.custom_command('"C:\\Program Files\\Python\\python.exe" -m sdfcore.worker')
    assert found == ["C:\\Program Files\\Python\\python.exe", "-m", "sdfcore.worker"]


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\nexit 1\n")
    path.chmod(0o755)
    return path


def test_python_is_taken_from_variable_then_preference_then_managed(tmp_path: Path) -> None:
    first, second = program(tmp_path / "one" / "python"), program(tmp_path / "two" / "python")
    managed = tmp_path / "env"
    third = program(managed / "bin" / "python")
    (managed / interpreter.COMPLETE).write_text("{}")
    environ = {"NEURAL_SDF_PYTHON": str(first)}
    assert engine.find_python(str(second), managed, environ) == first
    assert engine.find_python(str(second), managed, {}) == second
    assert engine.find_python("", managed, {}) == third
    assert engine.find_python(str(managed), None, {}) == third, "the folder of an environment will do"


@pytest.mark.parametrize("source", ["variable", "preference"])
def test_a_python_that_was_asked_for_and_is_not_there_is_said(tmp_path: Path, source: str) -> None:
    environ = {"NEURAL_SDF_PYTHON": str(tmp_path / "nope")} if source == "variable" else {}
    preference = str(tmp_path / "nope") if source == "preference" else ""
    with pytest.raises(errors.EngineMissingError, match="nope, which is not a program") as caught:
        engine.find_python(preference, None, environ)
    assert ("NEURAL_SDF_PYTHON" if source == "variable" else "Backend Python") in caught.value.message


def test_without_any_python_everything_tried_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    managed = tmp_path / "env"
    program(managed / "bin" / "python")
    bare = program(tmp_path / "bare" / "python3")
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(errors.EngineMissingError) as caught:
        engine.find_python("", managed, {})
    for said in ("NEURAL_SDF_PYTHON", "Backend Python", str(managed), str(bare)):
        assert said in caught.value.message
    assert "Install Backend" in caught.value.hint


def test_our_own_python_is_taken_when_it_has_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "bin" / "python3"
    program(own).write_text("#!/bin/sh\nexit 0\n")
    monkeypatch.setattr(sys, "executable", str(own))
    assert engine.find_python("", None, {}) == own
    monkeypatch.setattr(sys, "executable", str(program(tmp_path / "blender")))
    with pytest.raises(errors.EngineMissingError):
        engine.find_python("", None, {})
