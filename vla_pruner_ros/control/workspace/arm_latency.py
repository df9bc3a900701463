"""Latency of the arm, from its commands and the poses that followed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

import numpy as np

SPAN = 8.0
"""Seconds of motion that are looked at."""
LAGS = np.arange(0.0, 2.0001, 0.02)
"""Latencies tried (s)."""
MIN_PATH = 0.01
"""Path (m) that the arm must have moved before its latency can be seen."""
EXPLAINED = 0.5
"""Part of the motion's energy that may stay unexplained by the best latency."""
CLEAR, APART, WORSE = 1.5, 0.15, 0.02
"""A latency APART (s) from the best one must fit CLEAR times worse, and by a part WORSE of the
motion's energy: a steady motion looks the same at every latency."""


class ArmLatency:
    """Estimates the time from a published action to the arm that carries it out.

    The measured path is compared with the commanded one, shifted by each latency of LAGS. Any
    thread may call. Times are playback time (s).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._actions: deque[tuple[float, float, np.ndarray]] = deque()

    def command(self, at: float, duration: float, translation: np.ndarray) -> None:
        """Record an action; it replaces the one before.

        Args:
            at: when it begins (s).
            duration: seconds.
            translation: float [3], displacement (m).
        """
        with self._lock:
            self._cut(at)
            self._actions.append((at, at + duration, translation / duration))
            while self._actions[0][1] < at - SPAN - LAGS[-1]:
                self._actions.popleft()

    def stop(self, at: float) -> None:
        """Note that motion was ended."""
        with self._lock:
            self._cut(at)

    def estimate(self, poses: Sequence[tuple[float, np.ndarray]]) -> float | None:
        """Return the latency (s), None if the motion does not show it.

        Args:
            poses: time and position [3] (m) of measured poses.
        """
        times, index = np.unique([at for at, _ in poses], return_index=True)
        recent = times > (times[-1] - SPAN if len(times) else 0.0)
        times = times[recent]
        if len(times) < 8:
            return None
        moved = np.diff(np.stack([poses[i][1] for i in index])[recent], axis=0)
        if np.linalg.norm(moved, axis=1).sum() < MIN_PATH:
            return None
        knots, path = self._path()
        if len(knots) < 2:
            return None
        errors = np.array([_error(times - lag, moved, knots, path) for lag in LAGS])
        best = int(errors.argmin())
        energy, others = (moved**2).sum(), errors[np.abs(LAGS - LAGS[best]) > APART]
        explained = errors[best] <= EXPLAINED * energy
        clear = others.min() >= CLEAR * errors[best] + WORSE * energy
        return float(LAGS[best]) if explained and clear else None

    def _cut(self, at: float) -> None:
        if self._actions and self._actions[-1][1] > at:
            start, _, velocity = self._actions.pop()
            if at > start:
                self._actions.append((start, at, velocity))

    def _path(self) -> tuple[np.ndarray, np.ndarray]:
        """Return times [n] and the commanded path [n, 3] (m) through them."""
        with self._lock:
            actions = list(self._actions)
        knots, path, place = [], [], np.zeros(3)
        for start, end, velocity in actions:
            knots += [start, end]
            path += [place, place + velocity * (end - start)]
            place = path[-1]
        return np.array(knots), np.array(path)


def _error(times: np.ndarray, moved: np.ndarray, knots: np.ndarray, path: np.ndarray) -> float:
    """Return the squared difference between measured and commanded displacements (m²)."""
    commanded = np.stack([np.interp(times, knots, path[:, axis]) for axis in range(3)], axis=1)
    return float(((moved - np.diff(commanded, axis=0)) ** 2).sum())
