"""A command in a process of its own: the seconds until its file was there, and the most memory it held. stdlib only.

Between the benchmark and what it measures stands this file run as a script, a process of few megabytes: Linux hands
the peak memory of whoever starts a process on to it, so a benchmark that once held 2 GiB would find 2 GiB everywhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MIB = 1024.0**2 if sys.platform == "darwin" else 1024.0  # ru_maxrss is in bytes there, else in KiB


@dataclass(frozen=True)
class Measured:
    """How a command ended.

    Args:
        code: exit code; negative for a signal.
        seconds: from process start to its end; seconds_written: to the last write to its output, ``None`` without one.
        seconds_cpu: of all its threads; beside ``seconds`` it tells whether the machine was busy with something else.
        peak_mib: largest resident memory, MiB.
        out, err: what it said.
    """

    code: int
    seconds: float
    seconds_written: float | None
    seconds_cpu: float
    peak_mib: float
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """Its last words if it failed; empty if it did not."""
        if self.code == 0 and self.seconds_written is not None:
            return ""
        lines = [line.strip() for line in self.err.splitlines() if line.strip()]
        return lines[-1] if lines else f"ended with {self.code}, without a file"


def threads_here() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment(threads: int) -> dict[str, str]:
    """The environment of a measured process: so many threads, waiting as :mod:`sdfcore.threads` has it."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "GOMP_SPINCOUNT": "5000"}


def measure(command: Sequence[str], output: Path, *, threads: int, limit: float) -> Measured:
    """Runs ``command``, which is to write ``output``; killed after ``limit`` seconds."""
    output.unlink(missing_ok=True)
    launcher = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(limit), str(output), *command]
    done = subprocess.run(launcher, stdout=subprocess.PIPE, text=True, check=True, env=environment(threads))
    return Measured(**json.loads(done.stdout))


def _launch(limit: float, output: Path, command: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started, begun = time.time(), time.monotonic()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        timer = threading.Timer(limit, child.kill)
        timer.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except KeyboardInterrupt:
            child.kill()
            raise
        finally:
            timer.cancel()
        seconds = time.monotonic() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        said = [_text(file) for file in (out, err)]
    written = output.stat().st_mtime - started if output.exists() else None
    return {
        "code": child.returncode,
        "seconds": seconds,
        "seconds_written": written,
        "seconds_cpu": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / _MIB,
        "out": said[0],
        "err": said[1],
    }


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode(errors="replace"))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_launch(float(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])))
