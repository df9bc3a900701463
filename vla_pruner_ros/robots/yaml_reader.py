"""YAML files read so that every complaint names file and line."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml

MAX_BYTES = 256 << 10
"""A profile takes a few kilobytes; a larger file is another one."""
MAX_DEPTH = 16
"""A profile nests five levels; parsing time grows with the square of the depth."""
REQUIRED: Any = object()


class ProfileError(ValueError):
    """A robot profile cannot be used; the sentence names file, line and remedy."""


class Value:
    """One node of a YAML document that knows where it stands."""

    def __init__(self, node: yaml.Node, path: Path, name: str = "the file") -> None:
        self._node, self._path, self.name = node, path, name

    @property
    def line(self) -> int:
        """The value's line in the file, from 1."""
        return self._node.start_mark.line + 1

    def fail(self, problem: str) -> NoReturn:
        """Raise ProfileError with file and line before the problem."""
        raise ProfileError(f"{self._path}:{self.line}: {problem}")

    def mapping(self) -> Mapping:
        """Read as a mapping. Raises ProfileError."""
        if not isinstance(self._node, yaml.MappingNode):
            self.fail(f"{self.name} must be a mapping of fields (name: value)")
        return Mapping(self, self._node, self._path)

    def items(self) -> list[Value]:
        """Read as a list. Raises ProfileError."""
        if not isinstance(self._node, yaml.SequenceNode):
            self.fail(f"{self.name} must be a list")
        return [
            Value(node, self._path, f"{self.name}, entry {number}")
            for number, node in enumerate(self._node.value, 1)
        ]

    @property
    def is_list(self) -> bool:
        """Return whether the value is a list."""
        return isinstance(self._node, yaml.SequenceNode)

    def text(self) -> str:
        """Read as a text that is not empty. Raises ProfileError."""
        value = self._scalar()
        if not isinstance(value, str) or not value.strip():
            self.fail(f"{self.name} must be text, got {value!r}")
        return value.strip()

    def number(self) -> float:
        """Read as a finite number. Raises ProfileError."""
        value = self._scalar()
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.fail(f"{self.name} must be a number, got {value!r}")
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            self.fail(f"{self.name} must be a finite number, got {value}")
        return value

    def positive(self) -> float:
        """Read as a number above 0. Raises ProfileError."""
        value = self.number()
        if value <= 0.0:
            self.fail(f"{self.name} must be above 0, got {value:g}")
        return value

    def integer(self) -> int:
        """Read as an integer of at least 0. Raises ProfileError."""
        value = self._scalar()
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self.fail(f"{self.name} must be an integer of at least 0, got {value!r}")
        return value

    def boolean(self) -> bool:
        """Read as true or false. Raises ProfileError."""
        value = self._scalar()
        if not isinstance(value, bool):
            self.fail(f"{self.name} must be true or false, got {value!r}")
        return value

    def one_of(self, choices: tuple[str, ...]) -> str:
        """Read as one of some texts. Raises ProfileError."""
        value = self.text()
        if value not in choices:
            self.fail(f"{self.name} must be one of {', '.join(choices)}, got {value!r}")
        return value

    def texts(self) -> tuple[str, ...]:
        """Read as a list of different texts. Raises ProfileError."""
        items = self.items()
        found = tuple(item.text() for item in items)
        for place, item in enumerate(items):
            if found[place] in found[:place]:
                item.fail(f"{self.name} names {found[place]!r} twice")
        return found

    def numbers(self) -> tuple[float, ...]:
        """Read as one number or a list of numbers. Raises ProfileError."""
        if not self.is_list:
            return (self.number(),)
        return tuple(item.number() for item in self.items())

    def _scalar(self) -> Any:
        if not isinstance(self._node, yaml.ScalarNode):
            self.fail(f"{self.name} must be a single value")
        try:
            return yaml.SafeLoader("").construct_object(self._node)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            self.fail(f"{self.name} cannot be read: {str(error).splitlines()[0]}")


class Mapping:
    """Fields of a mapping, taken one by one; what is left over is an error."""

    def __init__(self, value: Value, node: yaml.MappingNode, path: Path) -> None:
        self.value = value
        self._left: dict[str, Value] = {}
        self._known: list[str] = []
        for key_node, content in node.value:
            key = Value(key_node, path, "a field's name")
            name = key.text()
            if name in self._left:
                key.fail(f"field {name!r} is given twice in {value.name}")
            self._left[name] = Value(content, path, name)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, read: Callable[[Value], Any], default: Any = REQUIRED) -> Any:
        """Read a field with one of Value's methods.

        Raises:
            ProfileError: the field is missing and has no default, or cannot be read.
        """
        self._known.append(name)
        if name in self._left:
            return read(self._left.pop(name))
        if default is REQUIRED:
            self.value.fail(f"{self.value.name} lacks the field {name!r}")
        return default

    def each(self) -> Iterator[tuple[str, Value]]:
        """Take every field, whatever its name."""
        while self._left:
            name = next(iter(self._left))
            yield name, self._left.pop(name)

    def end(self) -> None:
        """Raise ProfileError if a field was given that nobody took."""
        for name, value in self._left.items():
            value.fail(
                f"{self.value.name} has no field {name!r}; known fields: {', '.join(self._known)}"
            )


def read_yaml(path: Path) -> Value:
    """Read a YAML file; nothing in it is executed or expanded.

    Raises:
        ProfileError: it is missing, too large or no YAML, or holds aliases.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ProfileError(f"{path} is larger than {MAX_BYTES >> 10} KiB: no robot profile")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path} cannot be read: {error}") from None
    try:
        _check_events(text, path)
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ProfileError(f"{path}:{_line(error)}: this is not YAML: {_problem(error)}") from None
    if node is None:
        raise ProfileError(f"{path} is empty")
    return Value(node, path)


def _check_events(text: str, path: Path) -> None:
    """Refuse aliases, which could hold themselves or grow to gigabytes, and deep nesting."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise ProfileError(f"{path}:{line}: aliases (*name) are not allowed")
        if depth > MAX_DEPTH:
            raise ProfileError(f"{path}:{line}: lists or mappings are nested too deeply")


def _line(error: yaml.YAMLError) -> int:
    mark = getattr(error, "problem_mark", None)
    return mark.line + 1 if mark else 1


def _problem(error: yaml.YAMLError) -> str:
    return " ".join(str(getattr(error, "problem", None) or error).split())
