"""How much effort a fit may cost: steps and resolution by name; recipes add the sizes of networks. No torch here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A step budget and an extraction resolution (cells along the longest side).

    A recipe may name other steps of its own for the preset; these are the most that ``auto`` chooses. Input that is
    closed, clean and thick takes fewer.
    """

    name: str
    title: str
    summary: str
    steps: int
    resolution: int


PRESETS: dict[str, Preset] = {
    p.name: p
    for p in (
        Preset("draft", "Draft", "a first look, seconds on a laptop", 600, 256),
        Preset("balanced", "Balanced", "good detail in about a minute on a laptop", 1400, 384),
        Preset("fine", "Fine", "all the detail the input holds, minutes on a laptop", 8000, 512),
    )
}
