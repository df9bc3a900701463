"""Counts of successes and failures since configure."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping

import numpy as np

QUIET = 5.0
"""Seconds for which a cause must have been absent to be news again."""


class Health:
    """Counters, failures in a row and the sentence that explains the present state.

    Thread safe. `problem` is the present reason for no motion, empty if there is none;
    `waiting`: it may vanish by itself.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._failures_in_a_row = 0
        self._problem = ""
        self._waiting = False
        self._cause = ""
        self._announced: dict[str, float] = {}
        self._progress_at = time.monotonic()
        self.latency = LatencyWindow()
        self.overhead = LatencyWindow()

    def clear(self) -> None:
        """Set all counts to zero and drop the present problem."""
        with self._lock:
            self._counts.clear()
            self._forgive()
            self.latency.clear()
            self.overhead.clear()

    def count(self, name: str, by: int = 1) -> None:
        """Add to a count by its name."""
        with self._lock:
            self._counts[name] += by

    def count_clamps(self, limits: list[str]) -> None:
        """Count one clamp for each limit that was met."""
        for limit in limits:
            self.count(f"clamped_{limit}")

    def counts(self) -> dict[str, int]:
        """Return a copy of all counts by name."""
        with self._lock:
            return dict(self._counts)

    def record(self, latency: float, overhead: float, deadline: float) -> None:
        """Record one inference: the policy's time and everything around it (s)."""
        self.latency.add(latency)
        self.overhead.add(overhead)
        self.count("deadline_misses", int(latency > deadline))

    @property
    def problem(self) -> str:
        """The present problem, a sentence; empty if there is none."""
        with self._lock:
            return self._problem

    @property
    def waiting(self) -> bool:
        """True if an input is awaited."""
        with self._lock:
            return self._waiting

    def set_problem(self, sentence: str, waiting: bool = False) -> bool:
        """Set the reason for no motion; return True if it is new."""
        with self._lock:
            is_news = sentence != self._problem
            self._problem, self._waiting = sentence, waiting
            return is_news

    def wait_for(self, cause: str, sentence: str) -> None:
        """Set a problem that may vanish by itself."""
        with self._lock:
            self._problem, self._waiting, self._cause = sentence, True, cause

    def wait_for_all(self, sentences: Mapping[str, str]) -> list[str]:
        """Set a problem of several causes.

        Args:
            sentences: by cause, the most basic first.

        Returns:
            The sentences of causes that are news, to be logged; a changed number is none.
        """
        now = time.monotonic()
        with self._lock:
            news = [
                sentence
                for cause, sentence in sentences.items()
                if now - self._announced.get(cause, float("-inf")) > QUIET
            ]
            self._announced.update(dict.fromkeys(sentences, now))
            self._problem, self._waiting = " ".join(sentences.values()), True
            self._cause = next(iter(sentences))
            return news

    @property
    def cause(self) -> str:
        """Cause of the problem that is waited out."""
        with self._lock:
            return self._cause

    def since_progress(self) -> float:
        """Return the time (s) since the last good inference, or since the node began."""
        with self._lock:
            return time.monotonic() - self._progress_at

    def failed(self, sentence: str, latches: bool = True) -> int:
        """Count a failed inference; return how many of those that latch there were in a row."""
        with self._lock:
            self._failures_in_a_row += latches
            self._counts["failures"] += 1
            self._problem, self._waiting = sentence, False
            return self._failures_in_a_row

    def succeeded(self) -> None:
        """Count an inference that succeeded; failures in a row begin at zero again."""
        with self._lock:
            self._failures_in_a_row = 0
            self._counts["inferences"] += 1
            self._problem, self._waiting = "", False
            self._progress_at = time.monotonic()

    def forgive(self) -> None:
        """Clear the row of failures, after a reset by an operator."""
        with self._lock:
            self._forgive()

    def _forgive(self) -> None:
        self._failures_in_a_row = 0
        self._problem, self._waiting = "", False
        self._announced.clear()
        self._progress_at = time.monotonic()


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
        """Drop all durations."""
        self._durations.clear()
