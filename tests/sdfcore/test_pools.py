"""Work side by side: every task has an outcome, whatever becomes of the others and of their processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from small_tasks import obey

from sdfcore import pools
from sdfcore.errors import EngineError, InputError

TESTS = Path(__file__).parents[1]


def said(outcome: pools.Outcome) -> Any:
    assert isinstance(outcome, dict), outcome
    return outcome["said"]


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def ends(process: int, seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while alive(process) and time.monotonic() < until:
        time.sleep(0.05)
    return not alive(process)


def begun(path: Path, seconds: float = 60.0) -> int:
    until = time.monotonic() + seconds
    while not (path.exists() and path.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    return int(path.read_text())


def test_every_task_is_done_side_by_side_with_a_share_of_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    first, second = tmp_path / "1", tmp_path / "2"  # each waits for the other, so both run at once
    tasks = {
        "a": {"say": 1, "touch": str(first), "await": str(second)},
        "b": {"say": 2, "touch": str(second), "await": str(first)},
        "c": {"say": 3},
    }
    found = dict(pools.local(obey, tasks, 2))
    assert {name: said(outcome) for name, outcome in found.items()} == {"a": 1, "b": 2, "c": 3}
    assert {outcome["threads"] for outcome in found.values() if isinstance(outcome, dict)} == {"1"}
    assert list(pools.local(obey, {}, 2)) == []


def test_errors_and_deaths_cost_their_own_task_only(tmp_path: Path) -> None:
    marks = [str(tmp_path / name) for name in "ab"]
    tasks: dict[str, pools.Task] = {
        "dies": {"die": True, "await": marks[1]},  # with another under way, which is not to blame
        "innocent": {"touch": marks[1], "say": "well", "sleep": 1.0},
        "raises": {"raise": "no luck"},
        "late": {"say": "late"},
    }
    found = dict(pools.local(obey, tasks, 2))
    assert set(found) == set(tasks)
    assert said(found["innocent"]) == "well"
    assert said(found["late"]) == "late"
    assert isinstance(found["dies"], EngineError)
    assert "memory" in found["dies"].line
    assert isinstance(found["raises"], EngineError)
    assert "no luck" in found["raises"].line


def test_leaving_ends_the_processes(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    outcomes = pools.local(obey, {"quick": {}, "long": {"touch": str(mark), "sleep": 600}}, 2)
    next(outcomes)
    process = begun(mark)
    started = time.monotonic()
    outcomes.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 20
    assert ends(process)


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is of Unix")
def test_the_death_of_the_parent_ends_the_processes(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    program = (
        "from sdfcore import pools; from small_tasks import obey\n"
        f"if __name__ == '__main__': list(pools.local(obey, {{'long': {{'touch': {str(mark)!r}, 'sleep': 600}}}}, 1))"
    )
    script = tmp_path / "program.py"
    script.write_text(program)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment)
    process = begun(mark)
    parent.send_signal(signal.SIGKILL)
    parent.wait(10)
    assert ends(process)


def test_a_ray_cluster_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent)]))
    tasks = {"a": {"say": 1}, "raises": {"raise": "no luck"}, "dies": {"die": True}, "b": {"say": 2}}
    found = dict(pools.ray("local")(obey, tasks, 2))
    assert said(found["a"]) == 1
    assert said(found["b"]) == 2
    assert isinstance(found["raises"], EngineError)
    assert "no luck" in found["raises"].line
    assert isinstance(found["dies"], EngineError)
    assert "memory" in found["dies"].line


def test_without_ray_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match="Ray is not installed") as caught:
        pools.ray()
    assert "pip install" in caught.value.hint
