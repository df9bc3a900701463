"""Commanded motions that the newest pose may not show yet."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np


class PendingMotions:
    """Commanded translations by time, summed from any time on.

    Bounded by time, not by count: nothing is dropped that a usable pose could still miss.
    Sums of negative and of positive parts are kept apart, axis by axis, because each motion may or
    may not have happened. One call costs O(log n).
    """

    def __init__(self) -> None:
        self.clear()

    def __len__(self) -> int:
        return len(self._times)

    def clear(self) -> None:
        """Drop all motions."""
        self._times: list[int] = []
        self._sums = [np.zeros((2, 3))]  # running sums before each motion, and after the last

    def add(self, at: int, translation: np.ndarray) -> None:
        """Add a translation [3] (m) commanded at a playback time (ns) not before the last one."""
        at = max(at, self._times[-1]) if self._times else at
        parts = np.stack([np.minimum(translation, 0.0), np.maximum(translation, 0.0)])
        self._times.append(at)
        self._sums.append(self._sums[-1] + parts)

    def since(self, time: int) -> np.ndarray:
        """Return [2, 3]: the negative and the positive parts commanded after a time (ns)."""
        return self._sums[-1] - self._sums[bisect_right(self._times, time)]

    def drop_before(self, time: int) -> None:
        """Drop motions that no usable pose can miss any more; time: of playback (ns)."""
        seen = bisect_right(self._times, time)
        if 2 * seen > len(self._times):  # seldom, so that the cost of a call stays small
            self._times = self._times[seen:]
            base = self._sums[seen]
            self._sums = [total - base for total in self._sums[seen:]]
