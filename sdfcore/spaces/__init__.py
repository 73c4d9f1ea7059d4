"""Shape spaces: a family of shapes in one network, and everything between, beside and beyond its members."""

from __future__ import annotations

from .completion import Complete, errors_by_part
from .deepsdf import read_deepsdf
from .inference import Infer, Inferred
from .learning import Learn, learn
from .space import Directions, Latent, Space, along, interpolate, mix, path
from .storage import load, save
from .tuning import FineTune

__all__ = [
    "Complete",
    "Directions",
    "FineTune",
    "Infer",
    "Inferred",
    "Latent",
    "Learn",
    "Space",
    "along",
    "errors_by_part",
    "interpolate",
    "learn",
    "load",
    "mix",
    "path",
    "read_deepsdf",
    "save",
]
