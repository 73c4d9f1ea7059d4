"""The command line's side of the screen: progress, time since the process began, and Ctrl-C. stdlib and tqdm only."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from .fitting import Progress

_IMPORTED = time.monotonic()
_QUIET_SECONDS = 10.0  # between two progress lines where there is no terminal


def seconds_since_start() -> float:
    """Wall time since this process began: from the kernel where it tells (Linux), else since this module's import."""
    since_import = time.monotonic() - _IMPORTED
    try:
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()  # the name may hold spaces
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # field 22 of proc(5): clock ticks after boot
        elapsed = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, IndexError, AttributeError):
        return since_import
    # A container may count from another boot: believe it only where it is plausible.
    return elapsed if since_import <= elapsed < since_import + 60 else since_import


class Console:
    """Says what happens on ``stream``: a bar on a terminal, few plain lines elsewhere, nothing when ``quiet``."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.terminal = self.stream.isatty()
        self.quiet = quiet
        self._bar: Any = None
        self._shown = False
        self._last = time.monotonic()

    def say(self, text: str) -> None:
        if self.quiet:
            return
        self.clear()
        if self._bar is not None:
            self._bar.write(text, file=self.stream)
        else:
            print(text, file=self.stream, flush=True)

    def stage(self, name: str) -> None:
        """Names what is done now; only a terminal shows it, for as long as it lasts."""
        if not self.terminal or self.quiet:
            return
        if self._bar is not None:
            self._bar.set_description_str(f"{name:<10}")
        else:
            self.stream.write(f"\r\x1b[K{name} …")
            self.stream.flush()
            self._shown = True

    def clear(self) -> None:
        """Removes what :meth:`stage` left."""
        if self._shown:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
            self._shown = False

    @contextmanager
    def progress(self, total: int) -> Iterator[None]:
        """Within it, :meth:`update` draws. The bar is removed at the end, whatever happens."""
        self.clear()
        if self.terminal and not self.quiet:
            from tqdm import tqdm

            form = "{desc}{percentage:3.0f} %|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
            self._bar = tqdm(total=max(total, 1), file=self.stream, bar_format=form, leave=False, dynamic_ncols=True)
        try:
            yield
        finally:
            if self._bar is not None:
                self._bar.close()
                self._bar = None

    def update(self, progress: Progress) -> None:
        if self._bar is not None:
            self._bar.total = max(progress.steps, progress.step, 1)
            self._bar.set_description_str(f"{progress.stage:<10}", refresh=False)
            self._bar.set_postfix_str(f"loss {progress.loss:.3g}", refresh=False)
            self._bar.update(progress.step - self._bar.n)
        elif not self.terminal and time.monotonic() - self._last >= _QUIET_SECONDS:
            self._last = time.monotonic()
            self.say(f"{progress.stage}: step {progress.step} of {progress.steps}, loss {progress.loss:.3g}")

    def fraction(self, done: float) -> None:
        """Draws a share in [0, 1] of a bar with a total of 1000."""
        if self._bar is not None:
            self._bar.update(int(1000 * done) - self._bar.n)


class Interrupt:
    """Within it, the first Ctrl-C sets ``asked`` and says so; the second raises :class:`KeyboardInterrupt`."""

    def __init__(self, console: Console) -> None:
        self.asked = False
        self._console = console
        self._before: Any = None

    def _handle(self, number: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self._console.say("Stopping here and keeping the result so far; press Ctrl-C again to drop it.")

    def __enter__(self) -> Interrupt:
        self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGINT, self._before)
