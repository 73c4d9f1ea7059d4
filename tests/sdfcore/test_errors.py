"""Every error tells what to do, and crosses a process boundary as what it was."""

from __future__ import annotations

import json
import re

import pytest

from sdfcore import errors
from sdfcore.errors import DivergedError, EngineError, NoSurfaceError, SdfError, describe, rebuild

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SdfError)]


def test_the_tree_of_errors_is_the_one_in_the_documentation() -> None:
    named = re.findall(r"\b\w+Error\b", errors.__doc__ or "")
    assert sorted(named) == sorted(kind.__name__ for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_crosses_as_json(kind: type[SdfError]) -> None:
    back = rebuild(json.loads(json.dumps(describe(kind("Found 3 of „4“.", "Give one more.")))))
    assert type(back) is kind
    assert (str(back), back.message, back.hint) == ("Found 3 of „4“.", "Found 3 of „4“.", "Give one more.")


def test_what_an_error_carries_crosses_too() -> None:
    surface = rebuild(json.loads(json.dumps(describe(NoSurfaceError("m", "h", minimum=-0.25, maximum=3.5)))))
    assert isinstance(surface, NoSurfaceError)
    assert (surface.minimum, surface.maximum) == (-0.25, 3.5)
    diverged = rebuild(json.loads(json.dumps(describe(DivergedError("m", step=12, term="eikonal")))))
    assert isinstance(diverged, DivergedError)
    assert (diverged.step, diverged.term) == (12, "eikonal")


@pytest.mark.parametrize(
    "body", [{"error": "OSError", "message": "m"}, {"message": "m"}, {"error": "object", "message": "m"}]
)
def test_an_unknown_kind_is_an_error_of_the_engine(body: dict[str, str]) -> None:
    back = rebuild(body)
    assert type(back) is EngineError
    assert (back.message, back.hint) == ("m", "")


def test_a_line_is_one_line() -> None:
    assert SdfError("Two\nlines.", "And a\n  hint.").line == "Two lines. And a hint."
    assert SdfError("No hint.").line == "No hint."
