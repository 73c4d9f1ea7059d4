"""Every method, one file each: a module here that defines ``RECIPE`` is a recipe, nothing else to register."""

from __future__ import annotations

import importlib
import pkgutil

from ..recipe import Recipe


def _found() -> dict[str, Recipe]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    recipes = [importlib.import_module(f".{name}", __name__).RECIPE for name in names]
    return {recipe.name: recipe for recipe in recipes}


RECIPES: dict[str, Recipe] = _found()
