"""The pruning methods, one file each: the file's name is the method's.

A new file with one PruningMethod in it is all that a new method takes. Other packages bring
methods by the entry point group `vla_pruner_ros.methods` (docs/how-to/add_a_pruning_method.md).
"""

from __future__ import annotations

import pkgutil
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # names are asked for where torch must not be loaded
    from vla_pruner_ros.pruning.config import PruningConfig
    from vla_pruner_ros.pruning.method import PruningMethod

ENTRY_POINTS = "vla_pruner_ros.methods"
_FIRST = ("full", "vla_pruner")
_FOLDERS = ("", "ablations")


@lru_cache(maxsize=1)
def method_names() -> tuple[str, ...]:
    """Return the names of all methods: full, vla_pruner, then the others in alphabetical order."""
    others = {*_built_in(), *_from_outside()} - set(_FIRST)
    return (*_FIRST, *sorted(others))


@lru_cache
def find_method(name: str) -> type[PruningMethod]:
    """Return the class of the method with this name.

    Raises:
        ValueError: no such method, or an entry point that is none; names what is there.
    """
    if name in _built_in():
        return _method_in(import_module(_built_in()[name]))
    if name in _from_outside():
        return _checked(name, _from_outside()[name])
    raise ValueError(f"method must be one of {', '.join(method_names())}, got {name!r}")


def make_method(config: PruningConfig, num_cameras: int = 1) -> PruningMethod:
    """Return the method that config.method names."""
    from vla_pruner_ros.pruning.presets import resolve  # which knows the settings, as they know us

    return find_method(config.method)(resolve(config), num_cameras)


@lru_cache(maxsize=1)
def _built_in() -> dict[str, str]:
    """Return the module of each method of this package, by name."""
    here = Path(__file__).parent
    return {
        module.name: ".".join(filter(None, (__name__, folder, module.name)))
        for folder in _FOLDERS
        for module in pkgutil.iter_modules([str(here / folder)])
        if not module.ispkg
    }


@lru_cache(maxsize=1)
def _from_outside() -> dict[str, EntryPoint]:
    """Return the methods of other packages; this package's own names stay its own."""
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    return {name: point for name, point in found.items() if name not in _built_in()}


def _method_in(module: ModuleType) -> type[PruningMethod]:
    from vla_pruner_ros.pruning.method import PruningMethod

    own = [found for found in vars(module).values() if isinstance(found, type)]
    return next(
        found
        for found in own
        if issubclass(found, PruningMethod) and found.__module__ == module.__name__
    )


def _checked(name: str, point: EntryPoint) -> type[PruningMethod]:
    from vla_pruner_ros.pruning.method import PruningMethod

    found = point.load()
    if not (isinstance(found, type) and issubclass(found, PruningMethod) and found.name == name):
        raise ValueError(
            f"the entry point {name} = {point.value} in group {ENTRY_POINTS} must name a "
            f"PruningMethod whose `name` is {name!r}"
        )
    return found
