"""Pictures show what they are given: read back by pixel."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from sdfcore import plots
from sdfcore.geometry import Box, Frame, PointCloud


def ball(radius: float) -> Any:
    """A sphere's exact field as a fitted shape, in a frame that is neither centred nor of size one."""
    return SimpleNamespace(
        network=lambda points: points.norm(dim=1) - radius,
        frame=Frame(np.array([10.0, 20.0, 5.0]), 2.0),
        box=Box([-radius] * 3, [radius] * 3),
        device=torch.device("cpu"),
    )


def report(**changes: Any) -> dict[str, Any]:
    steps = list(range(0, 100, 5))
    body = {
        "recipe": "igr",
        "preset": "draft",
        "steps": 100,
        "history": {"step": steps, "loss": [math.exp(-s / 20) for s in steps], "eikonal": [0.1] * len(steps)},
        "gradient": {
            "samples": 30,
            "mean": 1.0,
            "std": 0.1,
            "histogram": {"edges": [0.0, 0.5, 1.0, 1.5, 2.0], "counts": [0, 10, 20, 0]},
        },
    }
    return body | changes


def share(picture: Any, colour: str, tolerance: float = 0.02) -> float:
    """Share of pixels of a ``colour`` given as #rrggbb."""
    target = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return float((np.abs(picture[..., :3] - target) < tolerance).all(axis=-1).mean())


def black_extent(picture: Any) -> tuple[int, int]:
    """Width and height in pixels of what is drawn in pure black: the bold surface line."""
    rows, columns = np.nonzero((picture[..., :3] < 0.02).all(axis=-1))
    return (int(np.ptp(columns)), int(np.ptp(rows))) if len(rows) else (0, 0)


def test_section_draws_the_surface_round_and_at_its_size(tmp_path: Path) -> None:
    plots.cross_section(ball(0.4), tmp_path / "section.png", pixels=200)
    width, height = black_extent(imread(tmp_path / "section.png"))
    assert width > 300
    assert width == pytest.approx(height, abs=4)


def test_section_off_centre_is_the_smaller_circle(tmp_path: Path) -> None:
    middle, side = tmp_path / "middle.png", tmp_path / "side.png"
    plots.cross_section(ball(0.4), middle, axis="z", pixels=200)
    plots.cross_section(ball(0.4), side, axis="z", offset=5.0 + 2 * 0.24, pixels=200)  # sqrt(0.4² - 0.24²) = 0.32
    ratio = black_extent(imread(side))[0] / black_extent(imread(middle))[0]
    assert ratio == pytest.approx(0.8, abs=0.02)


def test_section_draws_the_asked_level(tmp_path: Path) -> None:
    plain, grown = tmp_path / "plain.png", tmp_path / "grown.png"
    plots.cross_section(ball(0.4), plain, pixels=200)
    plots.cross_section(ball(0.4), grown, level=0.08, pixels=200)  # world units: 0.04 unit
    ratio = black_extent(imread(grown))[0] / black_extent(imread(plain))[0]
    assert ratio == pytest.approx(1.1, abs=0.02)


def test_section_shows_only_the_points_near_the_plane(tmp_path: Path) -> None:
    sdf = ball(0.4)
    angle = np.linspace(0, 2 * np.pi, 200)
    ring = np.stack([0.3 * np.cos(angle), 0.3 * np.sin(angle), np.zeros(200)], axis=1)
    near, far = (PointCloud(sdf.frame.to_world(ring + np.array([0, 0, shift]))) for shift in (0.0, 0.2))
    pictures = {}
    for name, cloud in {"none": None, "near": near, "far": far}.items():
        plots.cross_section(sdf, tmp_path / f"{name}.png", axis="z", cloud=cloud, pixels=120)
        pictures[name] = share(imread(tmp_path / f"{name}.png"), "#f2a900", 0.1)
    assert pictures["near"] > pictures["none"] + 1e-4
    assert pictures["far"] == pytest.approx(pictures["none"], abs=1e-5)


@pytest.mark.parametrize("field", [lambda p: p.norm(dim=1) + 1.0, lambda p: -p.norm(dim=1) - 1.0])
def test_section_without_a_surface_is_drawn_too(field: Any, tmp_path: Path) -> None:
    sdf = ball(0.4)
    sdf.network = field
    plots.cross_section(sdf, tmp_path / "section.png", pixels=60)
    assert black_extent(imread(tmp_path / "section.png")) == (0, 0)


def test_levels_are_round_and_hold_zero() -> None:
    bands, spacing = plots._levels(np.linspace(-0.37, 1.23, 1000))
    assert spacing == pytest.approx(0.2) or spacing == pytest.approx(0.1)
    assert 0.0 in bands
    assert bands[0] <= -0.36
    assert np.allclose(np.diff(bands), spacing)


def test_loss_curve_falls_from_left_to_right(tmp_path: Path) -> None:
    plots.loss_curve(report(), tmp_path / "loss.png")
    picture = imread(tmp_path / "loss.png")
    ink = np.array([0x22, 0x26, 0x2E]) / 255
    rows, columns = np.nonzero((np.abs(picture[..., :3] - ink) < 0.05).all(axis=-1))
    drawn = columns < 0.8 * picture.shape[1]  # left of the legend
    drawn &= rows > 0.15 * picture.shape[0]  # below the title
    left, right = np.percentile(columns[drawn], (10, 90))
    assert rows[drawn & (columns > right)].mean() > rows[drawn & (columns < left)].mean() + 100


def test_loss_curve_of_a_report_with_gaps_or_without_history(tmp_path: Path) -> None:
    gaps = {"step": [0, 1, 2, 3], "loss": [1.0, None, 0.0, 0.5]}
    plots.loss_curve(report(history=gaps), tmp_path / "gaps.png")
    plots.loss_curve(report(history={}), tmp_path / "empty.png")
    assert share(imread(tmp_path / "gaps.png"), "#22262e") > share(imread(tmp_path / "empty.png"), "#22262e")


def test_report_pictures_leave_out_what_was_not_measured(tmp_path: Path) -> None:
    assert [p.name for p in plots.report_pictures(report(), tmp_path, prefix="a_")] == ["a_loss.png", "a_gradient.png"]
    assert [p.name for p in plots.report_pictures(report(gradient=None), tmp_path)] == ["loss.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a_gradient.png", "a_loss.png", "loss.png"]


def test_gradient_histogram_is_tallest_where_most_samples_are(tmp_path: Path) -> None:
    plots.gradient_histogram(report(), tmp_path / "gradient.png")
    picture = imread(tmp_path / "gradient.png")[..., :3]
    blue = (picture[..., 2] - picture[..., 0]) > 0.4
    heights = blue.sum(axis=0)
    tall = np.nonzero(heights > 0.8 * heights.max())[0]
    low = np.nonzero((heights > 0.4 * heights.max()) & (heights < 0.6 * heights.max()))[0]
    assert low.mean() < tall.mean()
    assert len(low) == pytest.approx(len(tall), rel=0.1)


def test_a_picture_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "loss.png"
    target.write_bytes(b"before")

    def half(figure: Any, path: Path, **options: Any) -> None:
        Path(path).write_bytes(b"half a pict")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plots.Figure, "savefig", half)
    with pytest.raises(OSError, match="No space"):
        plots.loss_curve(report(), target)
    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]
