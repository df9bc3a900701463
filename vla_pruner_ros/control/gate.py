"""The one gate every motion passes: open or closed, and which epoch may pass."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class MotionGate:
    """Gate that passes motion only while open, and only if it was computed in the current epoch.

    An epoch ends with every reset, new instruction, clock jump, stop and deactivation, so that no
    action computed before one of these reaches the arm after it. Publishing happens inside
    `passing`, under the gate's lock: once `close` has returned, nothing follows.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._is_open = False
        self._epoch = 0

    @property
    def epoch(self) -> int:
        """Number of the present epoch; it grows with every reset, opening and closing."""
        with self.lock:
            return self._epoch

    @property
    def is_open(self) -> bool:
        """True if motion may pass."""
        with self.lock:
            return self._is_open

    def open(self) -> None:
        """Let motion pass; a new epoch begins."""
        with self.lock:
            self._epoch += 1
            self._is_open = True

    def close(self) -> None:
        """Let nothing pass; a new epoch begins."""
        with self.lock:
            self._epoch += 1
            self._is_open = False

    def end_epoch(self) -> int:
        """Make everything under way stale; return the new epoch."""
        with self.lock:
            self._epoch += 1
            return self._epoch

    @contextmanager
    def passing(self, epoch: int) -> Iterator[bool]:
        """Hold the gate while the caller publishes; yields whether it may."""
        with self.lock:
            yield self._is_open and epoch == self._epoch
