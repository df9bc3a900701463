"""A thread that only watches: whether the arm may still move, and whether the others work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

WATCHDOG_PERIOD = 0.05
"""Seconds between two looks, and between two beats of the executor."""

STALLED_LOOKS = 20
"""Looks in a row without a beat of the executor after which it counts as stalled. Looks, not
seconds: a process that was halted as a whole has done nothing wrong."""


class Watchdog:
    """Calls `look` every WATCHDOG_PERIOD on a thread of its own, until stop().

    An executor whose threads are all busy cannot run a timer that would notice.
    """

    def __init__(self, look: Callable[[], None], report: Callable[[str], None]) -> None:
        """Make the thread; start() starts it.

        Args:
            look: the work of one period.
            report: called with a sentence about what `look` raised; the thread goes on.
        """
        self._look, self._report = look, report
        self._looks_without_beat = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def beat(self) -> None:
        """Note that the executor works; one of its timers calls this."""
        self._looks_without_beat = 0

    @property
    def executor_stalled(self) -> bool:
        """True if the callbacks have not run for too long."""
        return self._looks_without_beat > STALLED_LOOKS

    def stop(self) -> None:
        """End the thread; it may be asked more than once, and by itself."""
        self._done.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(1.0)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._done.wait(max(0.0, due - time.monotonic())):
            due = max(due + WATCHDOG_PERIOD, time.monotonic())
            self._looks_without_beat += 1
            try:
                self._look()
            except BaseException as error:  # nothing may end this thread
                self._report(f"The watchdog failed: {error!r}")
