"""A learning run broken off and taken up again: the same weights as if nothing had happened."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from small_spaces import AXES, ROUGH, family, finished, rough_run, single_thread
from torch import Tensor

from sdfcore.errors import StorageError
from sdfcore.spaces import Learn, Space, checkpoints, storage

__all__ = ["single_thread"]

pytestmark = pytest.mark.usefixtures("single_thread")

ROOT = Path(__file__).parents[2]
STEPS = 80


def state(space: Space) -> dict[str, Tensor]:
    encoder = {} if space.encoder is None else space.encoder.state_dict()
    return {**space.network.state_dict(), **encoder, "codes": torch.as_tensor(space.codes)}


def equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def break_off(run: Learn, step: int) -> None:
    for progress in run:
        if progress.step == step:
            return
    raise AssertionError("the run ended before")


@pytest.mark.parametrize("encoder", [False, True])
def test_broken_off_anywhere_it_goes_on_as_if_nothing_had_happened(tmp_path: Path, encoder: bool) -> None:
    whole = finished(rough_run("ball", "flat", "long", steps=STEPS, encoder=encoder))
    path = tmp_path / "run.checkpoint"
    for step in sorted(random.sample(range(1, STEPS), 2)):
        break_off(rough_run("ball", "flat", "long", steps=STEPS, encoder=encoder, checkpoint=path), step)
        assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    resumed = rough_run("ball", "flat", "long", steps=STEPS, encoder=encoder, checkpoint=path)
    told = [progress for progress in resumed if progress.stage == "learning"]
    assert told[0].step == step + 1, f"broken off at {step}"
    assert equal(state(resumed.space), state(whole.space))
    assert resumed.history == whole.history


def test_a_finished_run_is_not_learned_again(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    first = finished(rough_run(steps=5, checkpoint=path))
    again = rough_run(steps=5, checkpoint=path)
    assert [progress for progress in again if progress.stage == "learning"] == []
    assert equal(state(again.space), state(first.space))
    assert again.space.info["steps"] == 5


def test_it_is_written_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, now = tmp_path / "run.checkpoint", [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    written = []
    for progress in rough_run(steps=100, checkpoint=path):
        now[0] += 1.0
        if path.exists() and (not written or path.stat().st_mtime_ns != written[-1][1]):
            written.append((progress.step, path.stat().st_mtime_ns))
    steps = [step for step, _ in written]
    assert len(steps) in (3, 4)  # every 30 of the clock's seconds, and at the end
    assert {b - a for a, b in itertools.pairwise(steps[:-1])} <= {29, 30, 31}


def test_writing_takes_a_small_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, spent = [0.0], [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])

    def slow(data: bytes, path: Path) -> None:
        now[0] += 10.0
        spent[0] += 10.0

    monkeypatch.setattr(checkpoints.container, "write", slow)
    for _ in rough_run(steps=150, checkpoint=tmp_path / "run.checkpoint"):
        now[0] += 10.0
    assert 0 < spent[0] / now[0] < 0.04


def test_time_spent_before_counts(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    run, began = rough_run(seconds=4.0, checkpoint=path), float("inf")
    for progress in run:
        began = min(began, time.perf_counter() if progress.step else began)
        if time.perf_counter() > began + 1.5:
            break
    resumed, stages = rough_run(seconds=4.0, checkpoint=path), []
    for progress in resumed:
        stages.append((progress.stage, time.perf_counter()))
    preparing = next(at for stage, at in stages if stage == "learning") - stages[0][1]
    learning = stages[-1][1] - stages[0][1] - preparing
    assert resumed.step > run.step
    assert learning + preparing < 4.0 - 1.4, "the 1.5 seconds of before are spent; preparing is done anew"


def test_other_seconds_are_the_same_run(tmp_path: Path) -> None:
    """What is left of a budget is another number in every process."""
    path = tmp_path / "run.checkpoint"
    break_off(rough_run(seconds=30.0, checkpoint=path), 5)
    resumed = rough_run(seconds=28.7, checkpoint=path)
    steps = [progress.step for progress in itertools.islice(resumed, 40) if progress.stage == "learning"]
    assert steps[0] == 6


def test_the_usual_steps_are_as_many_said_or_unsaid(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    break_off(rough_run(checkpoint=path), 5)
    resumed = rough_run(steps=ROUGH["size"].steps, checkpoint=path)
    steps = [progress.step for progress in itertools.islice(resumed, 20) if progress.stage == "learning"]
    assert steps[0] == 6


def test_without_a_file_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finished(rough_run(steps=2))
    assert list(tmp_path.iterdir()) == []


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("checkpoint") / "run.checkpoint"
    torch.set_num_threads(1)
    break_off(rough_run(steps=STEPS, checkpoint=path), 12)
    return path.read_bytes()


def resume(data: bytes, path: Path, *names: str, **options: Any) -> None:
    path.write_bytes(data)
    before = path.read_bytes()
    try:
        finished(rough_run(*names, **{"steps": STEPS, **options}, checkpoint=path))
    finally:
        kept = path.read_bytes() == before
    assert not kept, "a resumed run writes on"


@pytest.mark.parametrize(
    ("names", "options"),
    [
        ((), {"steps": STEPS + 1}),
        ((), {"seed": 1}),
        ((), {"code_size": 5}),
        ((), {"together": True}),
        ((), {"encoder": True}),
        ((), {"recipe": "igr"}),
        ((), {"samples": 400}),
        (("ball", "long"), {}),
        (("flat", "ball", "long"), {}),
    ],
)
def test_another_run_s_checkpoint_is_refused_and_kept(
    broken: bytes, tmp_path: Path, names: tuple[str, ...], options: dict[str, Any]
) -> None:
    path = tmp_path / "run.checkpoint"
    with pytest.raises(StorageError, match="checkpoint of another run") as caught:
        resume(broken, path, *names, **options)
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert path.read_bytes() == broken


def test_shapes_that_have_changed_since_are_another_run(broken: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    path.write_bytes(broken)
    sources = family("ball", "flat", subdivisions=2)
    sources["flat"] = type(sources["flat"])(sources["flat"].vertices * 1.01, sources["flat"].faces)
    with pytest.raises(StorageError, match="another run"):
        finished(Learn(sources, **ROUGH, steps=STEPS, checkpoint=path))


def test_the_same_run_is_accepted(broken: bytes, tmp_path: Path) -> None:
    resume(broken, tmp_path / "run.checkpoint")


def rewritten(data: bytes, body: dict[str, Any] | None = None, tensors: dict[str, Tensor] | None = None) -> bytes:
    (length,) = struct.unpack_from("<Q", data)
    metadata, held = json.loads(data[8 : 8 + length])["__metadata__"], safetensors.torch.load(data)
    metadata["body"] = json.dumps(json.loads(metadata["body"]) | (body or {}))
    return safetensors.torch.save(held | (tensors or {}), metadata)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:100],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: b"\xff" * 200,
        lambda data: rewritten(data, {"step": "far"}),
        lambda data: rewritten(data, {"history": 3}),
        lambda data: rewritten(data, {"best": []}),
        lambda data: rewritten(data, {"seconds": None}),
        lambda data: rewritten(data, None, {"learner.codes.values": torch.zeros(2, 9)}),
        lambda data: rewritten(data, None, {"extra": torch.zeros(1)}),
        lambda data: rewritten(data, None, {"adam.0.exp_avg": torch.zeros(1)}),
    ],
)
def test_a_damaged_checkpoint_is_refused(broken: bytes, tmp_path: Path, damage: Any) -> None:
    with pytest.raises(StorageError) as caught:
        resume(damage(broken), tmp_path / "run.checkpoint")
    assert caught.value.hint


def test_a_space_is_no_checkpoint_and_the_reverse(broken: bytes, tmp_path: Path) -> None:
    space = finished(rough_run(steps=1)).space
    with pytest.raises(StorageError, match="no stored checkpoint"):
        resume(storage.to_bytes(space), tmp_path / "run.checkpoint")
    with pytest.raises(StorageError, match="no stored space"):
        storage.from_bytes(broken)


# Killed ---------------------------------------------------------------------------------------------------------------

_CHILD = """
import sys, torch
from pathlib import Path
sys.path[:0] = [{tests!r}]
torch.set_num_threads(1)
from sdfcore.spaces import checkpoints
from small_spaces import rough_run
checkpoints.PERIOD, checkpoints.SHARE = 0.0, 1e9
for progress in rough_run("ball", "flat", "long", steps=200, checkpoint=Path({path!r})):
    print(progress.step, flush=True)
"""


def test_killed_at_any_moment_it_comes_to_the_same_end(tmp_path: Path) -> None:
    path, names = tmp_path / "run.checkpoint", ("ball", "flat", "long")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    script = _CHILD.format(tests=str(ROOT / "tests"), path=str(path))
    at = random.randrange(20, 150)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) >= at:
                break
        child.send_signal(signal.SIGKILL)
        assert child.wait(10) == -signal.SIGKILL
    assert path.exists()
    resumed = rough_run(*names, steps=200, checkpoint=path)
    told = [progress for progress in resumed if progress.stage == "learning"]
    assert at - 1 <= told[0].step < 200, f"killed at step {at}, taken up at {told[0].step}"
    whole = finished(rough_run(*names, steps=200))
    assert np.mean(resumed.history["loss"][-20:]) == pytest.approx(np.mean(whole.history["loss"][-20:]), rel=0.05)
    np.testing.assert_allclose(resumed.space.codes, whole.space.codes, atol=1e-3)
    assert set(names) < set(AXES)
