"""Learning in several processes, as PyTorch's torchrun starts them: what one process learns."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_spaces import family, finished, rough_run, single_thread

from sdfcore.errors import InputError
from sdfcore.spaces import storage
from sdfcore.spaces.distributed import Group
from sdfcore.writing import write

__all__ = ["single_thread"]

ROOT = Path(__file__).parents[2]

_CHILD = """
import sys, torch
sys.path[:0] = [{tests!r}]
torch.set_num_threads(1)
from small_spaces import rough_run
from sdfcore.spaces import storage
from sdfcore.spaces.distributed import Group
group = Group.from_environment()
learned = []
for options in ({{"steps": 6}}, {{"steps": 6, "encoder": True}}, {{"seconds": 3.0}}):
    run = rough_run("ball", "flat", "long", group=group, **options)
    for _ in run:
        pass
    storage.save(run.space, {folder!r} + f"/{{len(learned)}}-{{group.rank}}.safetensors")
    learned.append(run)
group.close()
"""

_ONE_DIVERGES = """
import os, sys
from sdfcore import cli
from sdfcore.errors import DivergedError
from sdfcore.spaces import learning
descend = learning.descend
def broken(*args, **options):
    for step in descend(*args, **options):
        if step.number == 30 and os.environ["RANK"] == "1":
            raise DivergedError("The loss of one process is no number.")
        yield step
learning.descend = broken
sys.exit(cli.main(sys.argv[1:]))
"""


def torchrun(script: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """``script``, in two processes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    command += [str(word) for word in words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150)


def test_shares_are_all_rows_and_equally_many() -> None:
    rows = [4, 2, 7, 1, 9]
    shares = [Group(rank, 3).share(rows) for rank in range(3)]
    assert {len(share) for share in shares} == {2}
    assert set().union(*shares) == set(rows)
    assert Group().share(rows) == rows
    assert [Group(0, 3).divisible(count) for count in (1, 3, 4)] == [3, 3, 6]


def test_more_processes_than_twice_the_shapes() -> None:
    assert [Group(rank, 5).share([3, 8]) for rank in range(5)] == [[3], [8], [3], [8], [3]]


def test_alone_nothing_is_wrapped_and_no_group_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    group = Group.from_environment()
    module = torch.nn.Linear(2, 2)
    assert group.wrap(module) is module
    assert group.first
    assert not torch.distributed.is_initialized()
    group.close()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    with pytest.raises(InputError, match="several processes"):
        Group.from_environment()


def test_two_processes_learn_what_one_does(tmp_path: Path, single_thread: None) -> None:
    script = tmp_path / "learn.py"
    script.write_text(_CHILD.format(tests=str(ROOT / "tests"), folder=str(tmp_path)))
    done = torchrun(script)
    assert done.returncode == 0, done.stderr[-3000:]
    pairs = [[storage.load(tmp_path / f"{run}-{rank}.safetensors") for rank in (0, 1)] for run in range(3)]
    for first, second in pairs:
        assert first.info["steps"] == second.info["steps"]
        assert np.array_equal(first.codes, second.codes), "both hold the same weights, with a time budget too"
    for number, encoder in enumerate((False, True)):
        size = pairs[number][0].info["size"]["shapes"]
        assert size == 2
        alone = finished(rough_run("ball", "flat", "long", steps=6, encoder=encoder)).space
        np.testing.assert_allclose(pairs[number][0].codes, alone.codes, atol=2e-4)
        for name, value in alone.network.state_dict().items():
            torch.testing.assert_close(pairs[number][0].network.state_dict()[name], value, atol=2e-3, rtol=1e-3)
    assert pairs[2][0].info["steps"] > 5


def test_a_divergence_of_one_process_is_said_and_ends_all(tmp_path: Path) -> None:
    script, made = tmp_path / "learn.py", tmp_path / "made.safetensors"
    script.write_text(_ONE_DIVERGES)
    (tmp_path / "shapes").mkdir()
    for name, mesh in family("ball", "flat", subdivisions=2).items():
        write(tmp_path / "shapes" / f"{name}.ply", mesh)
    words = ("--steps", 60, "--samples", 500, "--device", "cpu", "-o", made)
    done = torchrun(script, "space", "learn", tmp_path / "shapes", *words)
    assert done.returncode != 0
    assert "The loss of one process is no number." in done.stderr
    assert "EnforceNotMet" not in done.stderr, "none waited for another thing than the other"
    assert not made.exists()
