"""NAME=VALUE assignments of a command line, applied to a settings object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from vla_pruner_ros.settings.declaration import AUTO, specs_of

S = TypeVar("S")

_WORDS = {"true": True, "false": False}


def with_changes(base: S, assignments: Sequence[str]) -> S:
    """Return settings with NAME=VALUE assignments applied, each value read in the field's type.

    Raises:
        ValueError: an unknown name or a value that does not fit, by name.
    """
    specs = {spec.name: spec for spec in specs_of(type(base))}
    changes = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or name not in specs:
            raise ValueError(f"{assignment!r} is not NAME=VALUE with a NAME of: {', '.join(specs)}")
        kind = specs[name].kind
        if specs[name].is_optional and text == AUTO:
            changes[name] = None
            continue
        try:
            changes[name] = _WORDS[text.lower()] if kind is bool else kind(text)
        except (ValueError, KeyError):
            raise ValueError(f"{name} takes a {kind.__name__}, got {text!r}") from None
    return replace(base, **changes)
