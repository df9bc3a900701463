"""Bounds on what message definitions of a bag may ask for before anything is read by them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.serde.utils import SIZEMAP

MAX_DEFINITION = 2**20
"""Characters of one definition; those of ROS have a few thousand."""
MAX_STATIC_PARTS = 100_000
"""Objects that a message of a type has at least, nested ones and fixed arrays counted."""
MAX_PARTS = 10_000_000
"""Objects that one message may become."""
MAX_DEPTH = 64
"""Types within types."""

_STRING_SIZE = 4
_FILLER = "structure_needs_at_least_one_member"
"""Field of a type without fields: a byte in ROS 2, nothing in ROS 1."""


@dataclass(frozen=True)
class Extent:
    """The least that a type takes.

    parts: objects. size: bytes. parts_per_byte: objects that one byte of a sequence may become at
    most. depth: of nesting.
    """

    parts: int
    size: int
    parts_per_byte: float = 0.0
    depth: int = 1

    @property
    def is_bounded(self) -> bool:
        """True if a message of this type stays within what its bytes can pay for."""
        return (
            self.parts <= MAX_STATIC_PARTS
            and self.depth <= MAX_DEPTH
            and self.parts_per_byte < math.inf
        )

    def parts_of(self, size: int) -> float:
        """Return how many objects a message of so many bytes may become at most."""
        return self.parts + size * self.parts_per_byte


_ELSEWHERE = Extent(1, 1)


def extents(fielddefs: Mapping[str, Any]) -> dict[str, Extent]:
    """Return the extent of each type that does not contain itself.

    Args:
        fielddefs: fields by type, as rosbags.typesys.store.Typestore has them. Types that are not
            in it count as one byte.
    """
    left = {name: (fields, parts_of_type(fields)) for name, (_, fields) in fielddefs.items()}
    found: dict[str, Extent] = {}
    while True:
        ready = [name for name, (_, inner) in left.items() if not inner & left.keys()]
        if not ready:
            return found
        for name in ready:
            fields, _ = left.pop(name)
            found[name] = _sum(
                Extent(1, 0) if field == _FILLER else _extent(description, found)
                for field, description in fields
            )


def parts_of_type(fields: Iterable[Any]) -> set[str]:
    """Return the names of the types that a type's fields name."""
    names: set[str] = set()
    waiting = [description for _, description in fields]
    while waiting:
        description = waiting.pop()
        if isinstance(description, str):
            names.add(description)
        elif isinstance(description, tuple):
            waiting += description
    return names


def _sum(fields: Iterable[Extent]) -> Extent:
    """Return the extent of a type with these fields."""
    inner = list(fields)
    return Extent(
        1 + sum(field.parts for field in inner),
        sum(field.size for field in inner),
        max((field.parts_per_byte for field in inner), default=0.0),
        1 + max((field.depth for field in inner), default=0),
    )


def _extent(description: Any, known: Mapping[str, Extent]) -> Extent:
    kind, detail = description
    if kind == Nodetype.NAME:
        return known.get(detail, _ELSEWHERE)
    if kind == Nodetype.BASE:
        return Extent(1, _base_size(detail[0]))
    item, length = detail
    is_numbers = item[0] == Nodetype.BASE and item[1][0] != "string"
    inner = _extent(item, known)
    if kind == Nodetype.ARRAY:
        parts = 1 if is_numbers else length * max(1, inner.parts)
        return Extent(parts, length * inner.size, inner.parts_per_byte, inner.depth)
    if is_numbers:  # one array
        return Extent(1, _STRING_SIZE)
    rate = inner.parts / inner.size if inner.size else math.inf
    return Extent(1, _STRING_SIZE, max(rate, inner.parts_per_byte), inner.depth)


def _base_size(name: str) -> int:
    return _STRING_SIZE if name == "string" else SIZEMAP[name]
