"""Time since the process began, progress on terminals and elsewhere, and Ctrl-C."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from sdfcore import console
from sdfcore.console import Console, Interrupt, seconds_since_start


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def step(number: int, steps: int = 10) -> Any:
    return SimpleNamespace(stage="fitting", step=number, steps=steps, loss=0.125)


def test_time_counts_from_the_start_of_the_process() -> None:
    """A fresh interpreter that sleeps before it imports us must count its sleep, where the kernel tells."""
    code = "import time; time.sleep(0.6); from sdfcore.console import seconds_since_start as s; print(s())"
    before = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    wall = time.monotonic() - before
    assert 0.6 <= float(done.stdout) <= wall + 0.05


def test_time_falls_back_to_the_import(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(path: object) -> bytes:
        raise OSError("no such file")

    monkeypatch.setattr(console.Path, "read_bytes", unreadable)
    since_import = time.monotonic() - console._IMPORTED
    assert seconds_since_start() == pytest.approx(since_import, abs=0.05)


@pytest.mark.parametrize("started", [0, 10**12])
def test_an_implausible_start_is_not_believed(started: int, monkeypatch: pytest.MonkeyPatch) -> None:
    line = b"1 (a b) c) " + b" ".join([b"0"] * 19) + b" %d 0 0" % started
    monkeypatch.setattr(console.Path, "read_bytes", lambda path: line)
    assert seconds_since_start() == pytest.approx(time.monotonic() - console._IMPORTED, abs=0.05)


def test_without_a_terminal_there_are_few_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    screen = Console(stream)
    screen.stage("reading")
    with screen.progress(1000):
        for number in range(1, 1001):
            now[0] += 0.03125  # 31 seconds in all
            screen.update(step(number, 1000))
    lines = stream.getvalue().splitlines()
    assert lines == [f"fitting: step {n} of 1000, loss 0.125" for n in (320, 640, 960)]


def test_a_terminal_gets_a_bar_that_is_removed() -> None:
    stream = Terminal()
    screen = Console(stream)
    screen.stage("reading")
    with screen.progress(10):
        for number in range(1, 11):
            screen.update(step(number))
            screen._bar.refresh()
        screen.say("a word")
    written = stream.getvalue()
    assert "reading" in written
    assert "10/10" in written
    assert "loss 0.125" in written
    assert "a word\n" in written
    assert written.rstrip(" ").endswith("\r")


def test_the_bar_follows_a_plan_that_grows() -> None:
    screen = Console(Terminal())
    with screen.progress(10):
        screen.update(step(12, 20))
        assert (screen._bar.n, screen._bar.total) == (12, 20)


def test_quiet_says_nothing() -> None:
    stream = Terminal()
    screen = Console(stream, quiet=True)
    screen.stage("reading")
    screen.say("a word")
    with screen.progress(10):
        screen.update(step(1))
        screen.fraction(0.5)
    assert stream.getvalue() == ""


def test_first_interrupt_asks_and_second_raises() -> None:
    stream = io.StringIO()
    before = signal.getsignal(signal.SIGINT)
    with Interrupt(Console(stream)) as interrupt:
        assert not interrupt.asked
        signal.raise_signal(signal.SIGINT)
        assert interrupt.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert "again to drop it" in stream.getvalue()
    assert signal.getsignal(signal.SIGINT) is before
