"""The worker's process with stand-in handlers: what it survives, and when it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdfcore import errors, protocol
from sdfcore.protocol import Message

ROOT = Path(__file__).parents[2]

HANDLERS = """
    import ctypes, os, signal, sys, time, warnings, logging
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in what it starts with &
    import numpy as np
    from sdfcore.errors import NoSurfaceError
    from sdfcore.worker import run

    def echo(request, control):
        return {"got": dict(request.body)}, request.arrays

    def slow(request, control):
        for step in range(2000):
            if control.stopped:
                break
            control.progress({"step": step})
            time.sleep(0.01)
        return {"step": step}, {}

    def wedged(request, control):
        control.progress({"step": 0})
        time.sleep(600)

    def die(request, control):
        os._exit(7)

    def garbage(request, control):
        print("hello from a library")
        sys.stdout.write("x" * 5000)
        sys.stdout.flush()
        ctypes.CDLL(None).write(1, b"from C\\n", 7)
        os.system("echo from a child")
        warnings.warn("careful")
        logging.getLogger("sdfcore.test").warning("few points")
        return {}, {}

    def nosy(request, control):
        return {"stdin": sys.stdin.read()}, {}

    def fail(request, control):
        kind = request.body["kind"]
        if kind == "ours":
            raise NoSurfaceError("no surface", "Lower the level.", 0.25, 0.5)
        if kind == "memory":
            raise MemoryError
        if kind == "torch memory":
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 99 bytes")
        if kind == "import":
            import no_such_package
        if kind == "exit":
            sys.exit(3)
        if kind == "unsendable":
            return {"what": object()}, {}
        raise ZeroDivisionError("by zero")

    def flood(request, control):
        big = np.zeros((100_000, 3))
        begun = time.monotonic()
        for step in range(100):
            control.preview({"vertices": big})
            control._shown = 0
            control.progress({"step": step})
        return {"seconds": time.monotonic() - begun}, {"last": np.arange(3)}

    def checkpoint(request, control):
        control.fitted(np.arange(5, dtype=np.uint8))
        os._exit(1)

    table = {f.__name__: f for f in (echo, slow, wedged, die, garbage, nosy, fail, flood, checkpoint)}
"""
RUN = 'run(table, lambda: {"devices": [{"id": "cpu", "name": "CPU"}]})'


class Child:
    """A worker process and plain blocking ways to speak to it."""

    def __init__(self, *arguments: str, script: str = RUN) -> None:
        code = textwrap.dedent(HANDLERS) + script
        command = [sys.executable, "-P", "-s", "-c", code, *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, env=environment)
        assert self.process.stdin
        assert self.process.stdout
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def send(self, kind: str, job: str = "j", body: dict[str, Any] | None = None, **arrays: np.ndarray) -> None:
        protocol.write(self.stdin, Message(kind, job, body or {}, arrays))

    def next(self, *kinds: str) -> Message:
        """The next event of one of ``kinds``, past all others."""
        while (message := protocol.read(self.stdout)) is not None:
            if not kinds or message.kind in kinds:
                return message
        raise AssertionError(f"the worker ended; its log: {self.log()}")

    def ask(self, kind: str, body: dict[str, Any] | None = None, **arrays: np.ndarray) -> Message:
        self.send(kind, "j", body, **arrays)
        return self.next("done", "failed", "cancelled")

    def log(self) -> str:
        assert self.process.stderr
        return self.process.stderr.read().decode()

    def ends(self, seconds: float = 5.0) -> int:
        return self.process.wait(seconds)


@pytest.fixture
def child() -> Iterator[Child]:
    one = Child()
    yield one
    close(one)


def close(child: Child) -> None:
    child.process.kill()
    child.process.wait()
    for stream in (child.process.stdin, child.process.stdout, child.process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def test_hello_is_answered_with_versions_and_devices(child: Child) -> None:
    child.send("hello", "", {"protocol": protocol.PROTOCOL, "version": "0"})
    assert child.next().kind == "log", "something is heard before torch is imported"
    body = child.next("ready").body
    assert body["protocol"] == protocol.PROTOCOL
    assert body["devices"] == [{"id": "cpu", "name": "CPU"}]
    assert body["executable"] == sys.executable


WARMING = """
def warm():
    np.savez(sys.argv.pop(), warmed=True)
    raise ValueError("too cold")
run(table, lambda: {}, sys.argv[1:-1], warm=warm)
"""


def test_it_warms_up_once_when_it_is_ready_and_lives_on_if_it_cannot(tmp_path: Path) -> None:
    path = tmp_path / "warm.npz"
    child = Child(str(path), script=WARMING)
    try:
        for _ in range(2):  # a second time there would be no argument left
            child.send("hello", "", {"protocol": protocol.PROTOCOL, "version": "0"})
            assert child.next("ready", "failed").kind == "ready"
        assert child.ask("echo", {"x": 1}).body == {"got": {"x": 1}}
        assert path.exists()
        child.stdin.close()
        child.ends()
        assert child.log().count("too cold") == 1
    finally:
        close(child)


def test_what_waits_goes_before_warming_up(tmp_path: Path) -> None:
    path = tmp_path / "warm.npz"
    child = Child(str(path), script=WARMING.replace("lambda: {}", "lambda: time.sleep(1) or {}"))
    try:
        child.send("hello", "", {"protocol": protocol.PROTOCOL, "version": "0"})
        assert child.ask("echo").kind == "done"
        assert not path.exists()
    finally:
        close(child)


def test_another_version_is_refused(child: Child) -> None:
    child.send("hello", "", {"protocol": 99})
    event = child.next("ready", "failed")
    error = errors.rebuild(dict(event.body))
    assert (event.job, type(error)) == ("", errors.EngineError)
    assert error.message == f"worker speaks {protocol.PROTOCOL}, add-on speaks 99"


def test_arrays_come_back(child: Child) -> None:
    points = np.random.default_rng(0).random((50_000, 3))
    answer = child.ask("echo", {"a": 1}, points=points)
    assert answer.body == {"got": {"a": 1}}
    assert np.array_equal(answer.arrays["points"], points)


def test_cancel_is_answered_within_a_step_and_the_worker_stays(child: Child) -> None:
    child.send("slow")
    child.next("progress")
    begun = time.monotonic()
    child.send("cancel")
    assert child.next("done", "cancelled").kind == "cancelled"
    assert time.monotonic() - begun < 0.5
    assert child.ask("echo").kind == "done"


def test_stop_keeps_the_result(child: Child) -> None:
    child.send("slow")
    child.next("progress")
    child.send("stop")
    event = child.next("done", "cancelled", "failed")
    assert event.kind == "done"
    assert 0 < event.body["step"] < 1999


def test_a_job_cancelled_while_it_waits_never_runs(child: Child) -> None:
    child.send("slow", "first")
    child.send("die", "second")
    child.send("cancel", "second")
    child.send("cancel", "first")
    assert [child.next("cancelled").job for _ in range(2)] == ["first", "second"]
    assert child.ask("echo").kind == "done"


def test_a_cancel_that_comes_late_does_not_touch_the_next_job(child: Child) -> None:
    child.ask("echo")
    child.send("cancel")
    child.send("stop")
    assert child.ask("echo").kind == "done"


def test_progress_is_throttled(child: Child) -> None:
    child.send("slow")
    child.next("progress")
    begun, count = time.monotonic(), 0
    while time.monotonic() - begun < 1.0:
        child.next("progress")
        count += 1
    assert 5 <= count <= 11


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("ours", "NoSurfaceError", "no surface"),
        ("memory", "EngineError", "out of memory"),
        ("torch memory", "EngineError", "out of memory"),
        ("import", "EngineMissingError", "no_such_package"),
        ("exit", "EngineError", "SystemExit: 3"),
        ("unsendable", "EngineError", "TypeError"),
        ("other", "EngineError", "ZeroDivisionError: by zero"),
    ],
)
def test_errors_are_answers_and_the_worker_lives_on(child: Child, kind: str, name: str, said: str) -> None:
    event = child.ask("fail", {"kind": kind})
    assert event.kind == "failed"
    error = errors.rebuild(dict(event.body))
    assert type(error).__name__ == name
    assert said in error.message
    assert error.hint
    if kind == "ours":
        assert (error.minimum, error.maximum) == (0.25, 0.5)
    assert child.ask("echo").kind == "done"
    child.stdin.close()
    assert ("Traceback" in child.log()) == (kind not in ("ours", "memory", "torch memory"))


def test_an_unknown_request_is_an_answer(child: Child) -> None:
    event = child.ask("dream")
    assert event.kind == "failed"
    assert "'dream'" in event.body["message"]


def test_prints_go_to_the_log_and_not_into_the_stream(child: Child) -> None:
    child.send("garbage")
    assert child.next("log", "done").body == {"level": "warning", "message": "few points"}
    assert child.next().kind == "done"
    child.stdin.close()
    log = child.log()
    for said in ("hello from a library", "from C", "from a child", "careful", "few points"):
        assert said in log


def test_a_library_that_reads_stdin_gets_nothing(child: Child) -> None:
    assert child.ask("nosy").body == {"stdin": ""}
    assert child.ask("echo").kind == "done"


def test_a_slow_reader_does_not_block_the_job_nor_lose_the_result(child: Child) -> None:
    child.send("flood")
    time.sleep(1.0)  # nothing is read meanwhile: 240 MB of previews would not fit into a pipe
    seen = []
    while not seen or seen[-1].kind != "done":
        seen.append(child.next())
    assert seen[-1].body["seconds"] < 0.8
    assert seen[-1].arrays["last"].tolist() == [0, 1, 2]
    assert len(seen) < 10
    assert [m.body["step"] for m in seen if m.kind == "progress"][-1] == 99


def test_a_big_request_is_read_while_a_job_runs(child: Child) -> None:
    child.send("slow", "first")
    child.next("progress")
    begun = time.monotonic()
    child.send("echo", "second", {}, points=np.zeros((6_000_000,)))
    assert time.monotonic() - begun < 4.0
    child.send("cancel", "first")
    assert child.next("cancelled").job == "first"
    assert child.next("done").arrays["points"].nbytes == 48_000_000


def test_a_model_is_handed_over_before_the_rest(child: Child) -> None:
    child.send("checkpoint")
    assert child.next("fitted").arrays["model"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["echo", "slow", "wedged"])
def test_it_ends_when_stdin_does(child: Child, kind: str) -> None:
    child.send(kind)
    child.next("progress", "done")
    child.stdin.close()
    assert child.ends(3.0) == 0


@pytest.mark.parametrize("kind", ["slow", "wedged"])
def test_shutdown_ends_it_with_stdin_open(child: Child, kind: str) -> None:
    child.send(kind)
    child.next("progress")
    child.send("shutdown")
    assert child.ends(3.0) == 0


def test_garbage_on_stdin_ends_it_with_a_word(child: Child) -> None:
    child.send("slow")
    child.next("progress")
    child.stdin.write(b"GET / HTTP/1.1\r\n\r\n")
    event = child.next("failed")
    assert event.job == ""
    assert type(errors.rebuild(dict(event.body))) is errors.ProtocolError
    assert child.ends(3.0) == 3


def test_it_ends_when_nobody_reads(child: Child) -> None:
    child.send("slow")
    child.next("progress")
    child.stdout.close()
    assert child.ends(3.0) == 0


def test_it_ends_after_idling_but_not_while_it_works() -> None:
    child = Child("--idle", "0.6")
    try:
        child.send("slow")
        begun = time.monotonic()
        while time.monotonic() - begun < 1.5:
            child.next("progress")
        child.send("stop")
        child.next("done")
        assert child.ends(3.0) == 0
    finally:
        close(child)


def test_it_ends_when_the_named_parent_is_gone() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    child = Child("--parent", str(gone.pid))
    try:
        assert child.ends(5.0) == 0
    finally:
        close(child)


def test_an_orphan_ends_although_its_stdin_stays_open(tmp_path: Path) -> None:
    """The parent is killed while another process still holds the pipe's end, so no end of file ever comes."""
    script = tmp_path / "worker.py"
    script.write_text(textwrap.dedent(HANDLERS) + RUN)
    parent_code = textwrap.dedent(f"""
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, {str(script)!r}], stdin=0, stdout=1)
        print(child.pid, file=sys.stderr, flush=True)
        time.sleep(600)
    """)
    read_end, write_end = os.pipe()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    parent = subprocess.Popen(
        [sys.executable, "-c", parent_code], stdin=read_end, stdout=pipe, stderr=pipe, env=environment, bufsize=0
    )
    try:
        assert parent.stderr
        assert parent.stdout
        pid = int(parent.stderr.readline())
        with os.fdopen(write_end, "wb", 0, closefd=False) as stdin:
            protocol.write(stdin, Message("slow", "j"))
        while (event := protocol.read(parent.stdout)) is not None and event.kind != "progress":
            continue
        parent.kill()
        parent.wait()
        end = time.monotonic() + 5
        while _runs(pid) and time.monotonic() < end:
            time.sleep(0.05)
        assert not _runs(pid)
    finally:
        for number in (read_end, write_end):
            os.close(number)
        for stream in (parent.stdout, parent.stderr):
            assert stream
            stream.close()
        if _runs(pid):
            os.kill(pid, signal.SIGKILL)


def _runs(pid: int) -> bool:
    """Whether a process lives; a zombie nobody reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_ctrl_c_is_quiet(child: Child) -> None:
    child.send("slow")
    child.next("progress")
    child.process.send_signal(signal.SIGINT)
    assert child.ends() == 130
    assert "Traceback" not in child.log()
