"""Functions that another process imports by name."""

from __future__ import annotations

import os


def square(value: int) -> int:
    if value < 0:
        raise ValueError(f"{value} is negative")
    return value * value


def die(value: int) -> int:
    os._exit(1)
