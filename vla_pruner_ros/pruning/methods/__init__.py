"""The pruning methods, one file each: the file's name is the method's.

A new file with one PruningMethod in it is all that a new method takes. Other packages bring
methods by the entry point group `vla_pruner_ros.methods` (docs/how-to/add_a_pruning_method.md).
This module finds names and loads nothing: settings are read where torch must not be loaded.
"""

from __future__ import annotations

import pkgutil
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

ENTRY_POINTS = "vla_pruner_ros.methods"
_FIRST = ("full", "vla_pruner")
_FOLDERS = ("", "ablations")


@lru_cache(maxsize=1)
def method_names() -> tuple[str, ...]:
    """Return the names of all methods: full, vla_pruner, then the others in alphabetical order."""
    others = {*bundled_methods(), *installed_methods()} - set(_FIRST)
    return (*_FIRST, *sorted(others))


@lru_cache(maxsize=1)
def bundled_methods() -> dict[str, str]:
    """Return the module of each method of this package, by name."""
    here = Path(__file__).parent
    return {
        module.name: ".".join(filter(None, (__name__, folder, module.name)))
        for folder in _FOLDERS
        for module in pkgutil.iter_modules([str(here / folder)])
        if not module.ispkg
    }


@lru_cache(maxsize=1)
def installed_methods() -> dict[str, EntryPoint]:
    """Return the methods of other packages, by name; names of this package are left out."""
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    return {name: point for name, point in found.items() if name not in bundled_methods()}
