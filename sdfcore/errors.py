"""Every error sdfcore and the add-on raise on purpose.

    SdfError(message, hint)
    ├─ InputError               what was given cannot be used
    │  ├─ EmptyInputError       no points, no faces, an empty file
    │  ├─ NoNormalsError        a recipe needs normals and the points have none
    │  └─ NotWatertightError    a sign was asked of a surface that has no inside
    ├─ NoSurfaceError           the field has no such level set; carries the field's range
    ├─ DivergedError            the loss stopped being a number; carries step and term
    ├─ UnsupportedLayerError    a bound was asked of a layer that has no rule
    ├─ ExportError              a shape cannot be written for another program
    ├─ StorageError             not our file, a newer version, or a damaged one
    └─ EngineError              the worker process
       ├─ EngineMissingError    no usable Python or torch
       ├─ EngineDiedError       the worker ended without an answer
       └─ ProtocolError         a broken or foreign stream

A message says what was found and what was needed; a hint says what to do about it, in the user's words.
"""

from __future__ import annotations

from typing import Any


class SdfError(Exception):
    """Base of all deliberate errors: ``str(error)`` is the message, ``error.hint`` the cure."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def line(self) -> str:
        """Message and hint as the one line a person reads."""
        return " ".join(f"{self.message} {self.hint}".split())


class InputError(SdfError):
    """What was given cannot be used."""


class EmptyInputError(InputError):
    """There is nothing to fit: no points, no faces, or an empty file."""


class NoNormalsError(InputError):
    """The chosen recipe needs normals and the input has none."""


class NotWatertightError(InputError):
    """A sign was asked of a surface that has no inside."""


class NoSurfaceError(SdfError):
    """The field does not reach the asked level; ``minimum`` and ``maximum`` are its range in the box."""

    def __init__(
        self, message: str, hint: str = "", minimum: float = float("nan"), maximum: float = float("nan")
    ) -> None:
        super().__init__(message, hint)
        self.minimum = minimum
        self.maximum = maximum


class DivergedError(SdfError):
    """The loss stopped being finite at ``step`` because of ``term``."""

    def __init__(self, message: str, hint: str = "", step: int = -1, term: str = "") -> None:
        super().__init__(message, hint)
        self.step = step
        self.term = term


class UnsupportedLayerError(SdfError):
    """A bound was asked of a layer that has no rule."""


class ExportError(SdfError):
    """A shape cannot be written for another program, or what was written gives other values."""


class StorageError(SdfError):
    """The file is not ours, newer than this version, or damaged."""


class EngineError(SdfError):
    """The worker process could not do what was asked."""


class EngineMissingError(EngineError):
    """No Python with torch was found; names what was tried."""


class EngineDiedError(EngineError):
    """The worker ended without an answer."""


class ProtocolError(EngineError):
    """The stream between add-on and worker is cut, oversized or not ours."""


_EXTRA = {NoSurfaceError: ("minimum", "maximum"), DivergedError: ("step", "term")}


def _tree(root: type[SdfError]) -> dict[str, type[SdfError]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


def describe(error: SdfError) -> dict[str, Any]:
    """An error as JSON values, for crossing a process boundary."""
    extra = {name: getattr(error, name) for name in _EXTRA.get(type(error), ())}
    return {"error": type(error).__name__, "message": error.message, "hint": error.hint, **extra}


def rebuild(body: dict[str, Any]) -> SdfError:
    """The error that :func:`describe` wrote; an unknown class name becomes :class:`EngineError`."""
    kind = _tree(SdfError).get(str(body.get("error")), EngineError)
    extra = {name: body[name] for name in _EXTRA.get(kind, ()) if name in body}
    return kind(str(body.get("message", "")), str(body.get("hint", "")), **extra)
