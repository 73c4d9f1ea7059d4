"""The option ``--device``, checked before any work. torch is imported when a command is run, not here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def _named(_context: click.Context, _option: click.Parameter, value: str) -> str:
    from .planning import device_named

    return str(device_named(value))


def _precise(_context: click.Context, _option: click.Parameter, value: str) -> str:
    from .planning import precise_device

    return str(precise_device(value))


def device_option(*, precise: bool) -> Callable[[Any], Any]:
    """``--device``, by default the processor.

    Args:
        precise: the command needs numbers of 64 bits; Apple's GPUs have none, and the processor is taken instead.
    """
    callback = _precise if precise else _named
    help_ = "auto, cpu, cuda, cuda:1 …" if precise else "auto, cpu, cuda, cuda:1, mps …"
    return click.option("--device", default="cpu", show_default=True, callback=callback, help=help_)
