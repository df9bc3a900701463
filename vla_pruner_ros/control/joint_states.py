"""The newest position of every joint, merged over any number of publishers."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

MAX_JOINTS = 1000
"""Largest number of names kept, because a faulty publisher must not fill the memory."""


class JointReading(NamedTuple):
    """Position (rad or m), arrival (time.monotonic(), s) and stamp (ns, 0 if none) of a joint.

    first: arrival of the first reading of this stamp.
    """

    position: float
    arrival: float
    stamp: int
    first: float


class JointStates:
    """Newest position of each joint by name; any thread may store and read.

    Arm and gripper drivers publish apart, at rates of their own: one newest message would hold half
    of the joints.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readings: dict[str, JointReading] = {}

    def store(
        self, names: Sequence[str], positions: Sequence[float], arrival: float, stamp: int = 0
    ) -> bool:
        """Store one message; return whether names and positions fit together.

        A message without positions (some drivers publish efforts apart) changes nothing.
        """
        if not len(positions):
            return True
        if len(names) != len(positions):
            return False
        with self._lock:
            for name, position in zip(names, positions, strict=True):
                last = self._readings.get(name)
                if last is None and len(self._readings) >= MAX_JOINTS:
                    continue
                repeats = last is not None and stamp != 0 and last.stamp == stamp
                first = last.first if repeats else arrival
                self._readings[name] = JointReading(float(position), arrival, stamp, first)
        return True

    def clear(self) -> None:
        """Drop the readings of all joints."""
        with self._lock:
            self._readings = {}

    def positions(self) -> dict[str, float]:
        """Return a copy of all positions (rad or m)."""
        with self._lock:
            return {name: reading.position for name, reading in self._readings.items()}

    def readings(self, names: Iterable[str]) -> dict[str, JointReading]:
        """Return the readings of those of the joints that are there."""
        with self._lock:
            return {name: self._readings[name] for name in names if name in self._readings}

    def silent(self, names: Iterable[str], now: float, limit: float) -> list[str]:
        """Return the joints whose newest position is older than a limit (s) or never came."""
        with self._lock:
            return [
                name
                for name in names
                if name not in self._readings or now - self._readings[name].arrival > limit
            ]


def describe_silence(names: Sequence[str], states: JointStates, now: float, limit: float) -> str:
    """Return a sentence that names the silent joints, empty if all of them are fresh."""
    silent = states.silent(names, now, limit)
    if not silent:
        return ""
    known = states.readings(silent)
    parts = [
        f"{name} ({now - known[name].arrival:.2f} s old)" if name in known else f"{name} (never)"
        for name in silent
    ]
    shown = ", ".join(parts[:6]) + (f" and {len(parts) - 6} more" if len(parts) > 6 else "")
    return (
        f"No fresh joint state of {shown}: older than max_state_age {limit:.2f} s, motion stops. "
        "Check that their driver publishes joint_states and that the names are the profile's"
    )


def oldest_stamp(readings: Iterable[JointReading]) -> int:
    """Return the oldest stamp (ns) among readings, 0 if there is none."""
    return min((reading.stamp for reading in readings), default=0)


def as_vector(readings: dict[str, JointReading], names: Sequence[str]) -> np.ndarray:
    """Return positions [len(names)] (rad or m).

    Raises:
        KeyError: a joint has no reading.
    """
    return np.array([readings[name].position for name in names], dtype=np.float64)
