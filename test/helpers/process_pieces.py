"""Functions that another process imports by name."""

from __future__ import annotations

import os


def square(value: int) -> int:
    if value < 0:
        raise ValueError(f"{value} is negative")
    return value * value


def die(value: int) -> int:
    os._exit(1)


class UnpicklableError(Exception):
    """Error that cannot be made again from its arguments, as those of many libraries."""

    def __init__(self, first, second):
        super().__init__(f"{first} is not {second}")


def fail(piece: int) -> int:
    raise UnpicklableError(piece, "even")
