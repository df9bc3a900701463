"""Command-line flags of settings: --name VALUE, or --name and --no-name for a switch."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vla_pruner_ros.settings.declaration import AUTO, Spec, check_value

_METAVARS = {int: "N", float: "X", str: "TEXT"}


def add_flags(parser: Any, specs: Iterable[Spec], aliases: Mapping[str, str] | None = None) -> None:
    """Add a flag for every spec; one that is not given is None, see given().

    Args:
        parser: an ArgumentParser or one of its groups.
        specs: of the settings.
        aliases: name of a setting -> a further flag.
    """
    for spec in specs:
        flags = ["--" + spec.name.replace("_", "-")]
        if aliases and spec.name in aliases:
            flags.append(aliases[spec.name])
        common = {"dest": spec.name, "default": None, "help": help_text(spec)}
        if spec.kind is bool:
            parser.add_argument(*flags, action=argparse.BooleanOptionalAction, **common)
        elif spec.choices:
            choices = (AUTO, *spec.choices) if spec.is_optional else spec.choices
            parser.add_argument(*flags, choices=choices, **common)
        else:
            kind = {"type": _reader(spec), "metavar": _METAVARS[spec.kind]}
            nargs = {"nargs": "+"} if spec.is_list else {}
            parser.add_argument(*flags, **kind, **nargs, **common)


def given(namespace: argparse.Namespace, specs: Iterable[Spec]) -> dict[str, Any]:
    """Return the values by name of the flags that were given."""
    values = {spec.name: getattr(namespace, spec.name) for spec in specs}
    return {name: value for name, value in values.items() if value is not None}


def help_text(spec: Spec) -> str:
    """Return description and range, with % doubled as argparse needs it."""
    allowed = f" ({spec.allowed})" if spec.allowed and not spec.choices else ""
    return (spec.description + allowed).replace("%", "%%")


def _reader(spec: Spec) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if spec.is_optional and text == AUTO:
            return AUTO
        try:
            value = spec.kind(text)
        except ValueError:
            value = text
        try:
            return value if spec.is_list else check_value(spec, value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read
