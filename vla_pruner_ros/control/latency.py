"""Latency over the last inferences, as diagnostics show it."""

from __future__ import annotations

from collections import deque

import numpy as np


class LatencyWindow:
    """Percentiles of the last `size` durations."""

    def __init__(self, size: int = 100) -> None:
        self._durations: deque[float] = deque(maxlen=size)

    def add(self, duration: float) -> None:
        """Record one duration (s)."""
        self._durations.append(duration)

    def percentile(self, q: float) -> float:
        """Return the q-th percentile (s), NaN before the first duration."""
        return float(np.percentile(list(self._durations), q)) if self._durations else float("nan")

    def clear(self) -> None:
        self._durations.clear()
