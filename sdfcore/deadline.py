"""Wall time: how long stages took, and when to stop training so that a promise of seconds is kept. No torch here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .geometry import Mesh, PointCloud

if TYPE_CHECKING:
    from .fitting import Fit

# Seconds of extraction at resolution 256 on two cores: only a first guess, for the schedule of the learning rate;
# the extraction is measured during the fit.
_EXTRACTION_AT_256 = 1.5
_CARRYING_AT_256 = 0.8  # seconds to compare with the source, colour and write the vertices of such a mesh
_INDEXING = 6e-7  # seconds for each point or triangle of the source, to find what is nearest in it
_MARGIN = 1.5  # an estimate from a small sample may be this much too low
_EXTRACTION_SHARE = 0.3  # of the time, at most, unless a resolution is asked for
_REST_SHARE = 0.4  # of what is left of it, at most: a fine mesh of an untrained field is worth nothing
_SMALLER = (1024, 768, 512, 384, 256, 192, 128, 96, 64, 48, 32)


class Stopwatch:
    """Wall time by stage; entering one ends the one before. ``clock`` gives seconds since the work began."""

    def __init__(self, stage: str, clock: Callable[[], float] | None = None) -> None:
        begun = time.monotonic()
        self._clock = clock or (lambda: time.monotonic() - begun)
        self._stage, self._since = stage, 0.0
        self._seconds: dict[str, float] = {}

    @property
    def total(self) -> float:
        """Seconds since the work began."""
        return self._clock()

    def enter(self, stage: str) -> None:
        now = self.total
        self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = stage, now

    def finish(self) -> dict[str, float]:
        """Seconds of every stage so far, and their ``total``."""
        self.enter(self._stage)
        return {name: round(value, 3) for name, value in self._seconds.items()} | {"total": round(self._since, 3)}


@dataclass
class Deadline:
    """When training must end so that everything is done within ``seconds``.

    Args:
        seconds: the promise, counted by ``clock``; ``None`` promises nothing.
        resolution: what was asked for. Where ``None``, :meth:`measure` sets it if the fit's own would take too long.
        preset_resolution: cells along the longest side that the preset takes.
        afterwards: seconds needed at the end whatever the resolution.
        clock: seconds since the work began.
    """

    seconds: float | None
    resolution: int | None
    preset_resolution: int
    afterwards: float
    clock: Callable[[], float]
    _asked: bool = field(init=False)
    _at_256: float = field(init=False, default=_EXTRACTION_AT_256)
    _extraction: float = field(init=False)
    _known: bool = field(init=False, default=False)
    _measured: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._asked = self.resolution is not None
        self._settle(self.preset_resolution)

    def foresee(self, source: Mesh | PointCloud, *, measured: bool) -> None:
        """Reserve what looking up the nearest in ``source`` takes: for its colours, and once more if it is measured."""
        size = len(source.faces) if isinstance(source, Mesh) else len(source)
        self.afterwards += _INDEXING * size * (2 if measured else 1)
        self._settle(self.preset_resolution)

    def _settle(self, wanted: int) -> None:
        """Chooses the resolution and foresees the mesh's time."""
        if self.seconds is not None and not self._asked:
            rest = self.seconds - self.clock() - self.afterwards
            share = min(_EXTRACTION_SHARE * self.seconds, _REST_SHARE * rest)
            affordable = [r for r in (wanted, *_SMALLER) if r <= wanted and self._cost(r) <= share]
            taken = affordable[0] if affordable else min(_SMALLER[-1], wanted)
            self.resolution = None if taken == wanted else taken
        self._extraction = self._cost(self.resolution or wanted)

    def _cost(self, resolution: int) -> float:
        """Extraction works on cells near the surface: their number, and the vertices', grow with the square."""
        return (self._at_256 + _CARRYING_AT_256) * (resolution / 256) ** 2

    def left(self) -> float:
        """Seconds of training that are left, at least 0; infinite without a promise."""
        if self.seconds is None:
            return float("inf")
        return max(self.seconds - self.clock() - self._extraction - self.afterwards, 0.0)

    def training_seconds(self) -> float | None:
        """The budget to give a :class:`~sdfcore.fitting.Fit`."""
        return None if self.seconds is None else max(self.left(), 0.1)

    def training_begins(self) -> float:
        """Seconds of training, now that the preparation is done and what it took is known."""
        self._settle(self.preset_resolution)
        return self.left()

    def measure(self, fit: Fit) -> None:
        """Replaces guesses by what is known: the fit's resolution and, a third of the way, the extraction's time."""
        if self.seconds is None:
            return
        known, self._known = self._known, True
        if not self._measured and self.clock() >= self.seconds / 3:
            from .extraction import estimate_seconds

            resolution = self.resolution or fit.plan.resolution
            self._at_256 = _MARGIN * estimate_seconds(fit.sdf, resolution) * (256 / resolution) ** 2
            self._measured, known = True, False
        if not known:
            self._settle(fit.plan.resolution)
