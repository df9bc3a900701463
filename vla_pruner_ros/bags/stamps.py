"""Times of messages in nanoseconds and back."""

from __future__ import annotations

from typing import Any

from rosbags.typesys.store import Typestore

SECOND = 1_000_000_000


def nanoseconds(stamp: Any) -> int:
    """Return a Time or Duration message in ns."""
    return int(stamp.sec) * SECOND + int(stamp.nanosec)


def time_message(store: Typestore, time: int) -> Any:
    """Return ns as builtin_interfaces/Time."""
    seconds, rest = divmod(time, SECOND)
    return store.types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=rest)


def duration_message(store: Typestore, seconds: float) -> Any:
    """Return seconds as builtin_interfaces/Duration."""
    whole, rest = divmod(round(seconds * SECOND), SECOND)
    return store.types["builtin_interfaces/msg/Duration"](sec=whole, nanosec=rest)
