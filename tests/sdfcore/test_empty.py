"""Empty space: what is said to be free is free, and the boxes fill the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sdfcore import cli, combining, storage
from sdfcore.errors import InputError
from sdfcore.geometry import Box
from sdfcore.queries.bounds import bound_of
from sdfcore.queries.empty import INSIDE, OPEN, OUTSIDE, empty_space

TORUS = combining.body("torus", [1.0, 0.4], (3.0, 2.0, 1.0))
WHOLE = Box(np.array([1.0, 0.0, 0.0]), np.array([5.0, 4.0, 2.0]))


@pytest.mark.parametrize("level", [0.0, 0.15])
def test_what_is_free_is_free_on_its_side(level: float) -> None:
    told: list[float] = []
    found = empty_space(bound_of(TORUS), WHOLE, smallest=1 / 32, level=level, on_progress=told.append)
    rng = np.random.default_rng(0)
    points = found.lower[:, None] + (found.upper - found.lower)[:, None] * rng.random((len(found.state), 20, 3))
    with torch.no_grad():
        value = TORUS(torch.tensor(points.reshape(-1, 3))).numpy().reshape(len(points), -1) - level
    assert (value[found.state == OUTSIDE] > 0).all()
    assert (value[found.state == INSIDE] < 0).all()
    assert found.share(OUTSIDE) > 0.5
    assert found.share(INSIDE) > 0.02
    assert found.share(OPEN) < 0.25
    assert told == sorted(told)


def test_the_boxes_fill_the_whole_and_only_the_smallest_are_open() -> None:
    found = empty_space(bound_of(TORUS), WHOLE, smallest=1 / 16)
    size = found.upper - found.lower
    assert np.prod(size, axis=1).sum() == pytest.approx(np.prod(WHOLE.size))
    assert size[found.state == OPEN].max() == pytest.approx(4 / 16)
    assert size[found.state == OUTSIDE].max() > 4 / 16
    assert [found.share(state) for state in (OUTSIDE, OPEN, INSIDE)] == pytest.approx(
        [np.prod(size[found.state == state], axis=1).sum() / np.prod(WHOLE.size) for state in (OUTSIDE, OPEN, INSIDE)]
    )


def test_a_size_that_cannot_be() -> None:
    with pytest.raises(InputError):
        empty_space(bound_of(TORUS), WHOLE, smallest=0.0)


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage.save(TORUS, tmp_path / "torus.safetensors")
    words = ["query", "space", str(tmp_path / "torus.safetensors"), "-o", str(tmp_path / "boxes.npz")]
    assert cli.main([*words, "--smallest", "0.1"]) == 0
    assert "certainly outside" in capsys.readouterr().out
    with np.load(tmp_path / "boxes.npz") as held:
        assert held["lower"].shape == held["upper"].shape == (len(held["state"]), 3)
        assert set(np.unique(held["state"])) == {-1, 0, 1}
    assert cli.main([*words[:-1], str(tmp_path / "boxes.csv")]) == 2
