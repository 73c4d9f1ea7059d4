"""Shape spaces: a family of shapes in one network, and everything between, beside and beyond its members."""

from __future__ import annotations

from .learning import Learn, learn
from .space import Directions, Latent, Space, interpolate, mix, path
from .storage import load, save

__all__ = ["Directions", "Latent", "Learn", "Space", "interpolate", "learn", "load", "mix", "path", "save"]
