"""The request ``fit``: training with stop, cancel, previews and a promise of time; then mesh, measures and report."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .channel import Control
from .deadline import Deadline, Stopwatch
from .errors import InputError, NoSurfaceError
from .presets import PRESETS
from .protocol import Message
from .requests import Answer, Measured, source_of

if TYPE_CHECKING:
    from .fitting import Fit, Progress

log = logging.getLogger(__name__)

_FITTED, _EXTRACTED = 0.9, 0.97  # shares of the progress bar
_MEASURING = 2.0  # seconds, or a fifth of a small budget
_PREVIEW_RESOLUTION = 56
_PREVIEW_SHARE = 0.1  # of the time, at most
_FIRST_PREVIEW = 1.0  # seconds of training before it


def _samples(promised: float | None, passed: float) -> int:
    """How many samples the comparison may take: fewer where time was promised, few where it has run out."""
    if promised is None:
        return 100_000
    return 30_000 if promised - passed > 0.5 * _MEASURING else 5_000


def warm_up() -> None:
    """Load what a fit loads and take a tiny one through it, so that the first real one begins at once."""
    from . import field_error, metrics, report, storage, transfer  # noqa: F401 - what comes after a fit
    from .fitting import Fit
    from .geometry import PointCloud

    normals = np.random.default_rng(0).normal(size=(1000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    fit = Fit(PointCloud(normals, normals), preset="draft", steps=2, resolution=16)
    for _ in fit:
        pass
    with contextlib.suppress(NoSurfaceError):
        metrics.compare(fit.mesh(fit.sdf), fit.source, samples=100)


@dataclass(frozen=True)
class Options:
    """The body of a ``fit`` request, checked.

    Raises:
        InputError: something given is no number, or out of range.
    """

    recipe: str
    preset: str
    steps: int | None
    seconds: float | None
    resolution: int | None
    level: float
    device: str
    seed: int
    samples: int | None
    preview: float

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Options:
        options = cls(
            recipe=str(body.get("recipe") or "auto"),
            preset=str(body.get("preset") or "balanced"),
            steps=_number(body, "steps", int),
            seconds=_number(body, "seconds", float),
            resolution=_number(body, "resolution", int),
            level=_number(body, "level", float) or 0.0,
            device=str(body.get("device") or "auto"),
            seed=_number(body, "seed", int) or 0,
            samples=_number(body, "samples", int),
            preview=_number(body, "preview", float) or 0.0,
        )
        if options.preset not in PRESETS:
            raise InputError(f"There is no preset {options.preset!r}.", f"Take one of: {', '.join(PRESETS)}.")
        for name in ("steps", "seconds", "resolution", "samples"):
            value = getattr(options, name)
            if value is not None and value <= 0:
                raise InputError(f"{name} is {value}.", f"Give {name} a number above zero, or none.")
        return options


def _number(body: Mapping[str, Any], name: str, kind: Callable[[Any], Any]) -> Any:
    value = body.get(name)
    if value is None:
        return None
    try:
        return kind(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is {value!r}, which is no number.", f"Give {name} a number.") from error


def fit(request: Message, control: Control) -> Answer:
    """Fit the shape in ``request``, and mesh it.

    Raises:
        SdfError: as Fit, and extraction; by then the event ``fitted`` has handed the model over.
        Cancelled: it is not wanted any more.
    """
    clock = Stopwatch("preparing")
    options = Options.of(request.body)
    after = min(_MEASURING, 0.2 * (options.seconds or 0.0))
    preset = PRESETS[options.preset].resolution
    deadline = Deadline(options.seconds, options.resolution, preset, after, lambda: clock.total)
    screen = Screen(control, clock, options)
    training = begin(request, options, deadline, screen)
    deadline.foresee(training.source, measured=True)
    clock.enter("fitting")
    stopped = train(training, control, deadline, screen, Previews(options, control))
    resolution = deadline.resolution or training.plan.resolution
    return finish(training, options, resolution, control, clock, screen, stopped)


def begin(request: Message, options: Options, deadline: Deadline, screen: Screen) -> Fit:
    """The fit that was asked for, prepared."""
    screen.stage("preparing")
    from . import storage
    from .fitting import Fit

    model = request.arrays.get("model")
    return Fit(
        source_of(request.arrays),
        recipe=options.recipe,
        preset=options.preset,
        steps=options.steps,
        seconds=deadline.training_seconds(),
        resolution=deadline.resolution,
        seed=options.seed,
        device=options.device,
        samples=options.samples,
        start=None if model is None else storage.from_bytes(model.tobytes()),
        on_stage=screen.stage,
        seconds_left=deadline.training_begins,
    )


def train(training: Fit, control: Control, deadline: Deadline, screen: Screen, previews: Previews) -> bool:
    """Run ``training`` to its end, its deadline or a stop; says whether it was stopped."""
    from .descent import surviving

    for progress in surviving(training, training.warnings):
        screen.training(training, progress)
        if progress.step > 0:  # before the first there is nothing to keep
            if control.stopped or deadline.left() <= 0:
                break
            deadline.measure(training)
            previews.show(training)
    return control.stopped


def finish(
    training: Fit,
    options: Options,
    resolution: int,
    control: Control,
    clock: Stopwatch,
    screen: Screen,
    stopped: bool,
) -> Answer:
    """Mesh, measures and report of a trained fit."""
    from . import storage
    from .field_error import distance_statistics
    from .report import build_report, gradient_statistics

    sdf = training.sdf
    control.fitted(np.frombuffer(storage.to_bytes(sdf), np.uint8))
    clock.enter("extracting")
    mesh = training.mesh(
        sdf, resolution=resolution, level=options.level, on_progress=screen.part("extracting", _FITTED, _EXTRACTED)
    )
    clock.enter("measuring")
    screen.part("measuring", _EXTRACTED, 1.0)(0.0)
    samples = _samples(options.seconds, clock.total)
    found = Measured.of(mesh, training.source, options.level, control, samples)
    gradient: dict[str, Any] | None = None
    distance: dict[str, Any] | None = None
    with found.attempt("the statistics of the field"):
        gradient = gradient_statistics(sdf, samples=samples // 5, seed=options.seed)
        distance = distance_statistics(training, sdf, samples=samples // 20, seed=options.seed)
    found.extras["model"] = np.frombuffer(storage.to_bytes(sdf), np.uint8)  # now knows its smallest part
    report = build_report(
        training,
        mesh,
        seconds=clock.finish(),
        comparison=found.comparison,
        gradient=gradient,
        distance=distance,
        level=options.level,
        resolution=resolution,
        stopped=stopped,
    )
    return found.answer(report, stopped=stopped)


class Screen:
    """Turns what happens into ``progress`` events; every one is also a place to be cancelled."""

    def __init__(self, control: Control, clock: Stopwatch, options: Options) -> None:
        self._control, self._clock, self._options = control, clock, options
        self._body: dict[str, Any] = {
            "stage": "preparing", "step": 0, "steps": options.steps or 0, "fraction": 0.0,
            "loss": None, "seconds": 0.0, "seconds_left": None, "recipe": "", "reason": "",
        }  # fmt: skip

    def _tell(self, **changes: Any) -> None:
        self._body |= {**changes, "seconds": self._clock.total}
        self._control.progress(self._body)

    def stage(self, name: str) -> None:
        """A stage of the preparation has begun."""
        self._tell(stage=name)

    def training(self, training: Fit, progress: Progress) -> None:
        """A step was made. Its loss is still on the device, and fetched only when it is shown."""
        if not self._control.due:
            self._control.check()
            return
        self._tell(
            stage=progress.stage,
            step=progress.step,
            steps=progress.steps,
            fraction=_FITTED * min(progress.fraction, 1.0),
            loss=progress.loss if progress.step else None,
            seconds_left=progress.seconds_left,
            recipe=training.plan.recipe,
            reason=training.plan.reason,
        )

    def part(self, stage: str, start: float, end: float) -> Callable[[float], None]:
        """Takes the fraction of a later ``stage``, which fills the bar from ``start`` to ``end``."""
        return lambda fraction: self._tell(stage=stage, fraction=start + (end - start) * fraction, seconds_left=None)


class Previews:
    """Coarse meshes on the way, so seldom that they cost a tenth of the time at most."""

    def __init__(self, options: Options, control: Control) -> None:
        self._period, self._level, self._control = options.preview, options.level, control
        self._next = time.monotonic() + _FIRST_PREVIEW if options.preview > 0 else float("inf")

    def show(self, training: Fit) -> None:
        begun = time.monotonic()
        if begun < self._next:
            return
        from .extraction import extract_sdf

        check = lambda _: self._control.check()
        try:
            sdf = training.sdf
            mesh = extract_sdf(sdf, resolution=_PREVIEW_RESOLUTION, level=self._level, refine=0, on_progress=check)
            normals = {} if mesh.normals is None else {"normals": mesh.normals}
            self._control.preview({"vertices": mesh.vertices, "faces": mesh.faces, **normals})
        except NoSurfaceError as error:  # not yet
            log.debug("no preview: %s", error)
        now = time.monotonic()
        self._next = now + max(self._period, (now - begun) * (1 - _PREVIEW_SHARE) / _PREVIEW_SHARE)
