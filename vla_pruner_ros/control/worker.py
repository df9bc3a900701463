"""One thread that owns the policy and receives the newest work only."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable


class Worker:
    """Thread that calls `work` when woken; wake-ups during a call collapse into one.

    Calls start at least `min_period()` seconds apart: a wake-up that comes too early is kept until
    then, so that `work` finds the newest frame. What `work` raises is given to `on_error`, and the
    thread goes on: also what is no Exception, as a panic in a library written in Rust.
    """

    def __init__(
        self,
        work: Callable[[], None],
        on_error: Callable[[BaseException], None],
        min_period: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._work = work
        self._on_error = on_error
        self._min_period = min_period
        self._last_start = float("-inf")
        self._condition = threading.Condition()
        self._woken = False
        self._busy = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="policy", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """True if a task is running."""
        with self._condition:
            return self._busy

    @property
    def alive(self) -> bool:
        """True if the thread is running."""
        return self._thread.is_alive()

    def busy_for(self) -> float:
        """Return for how long (s) the running call has been running, 0.0 if none is."""
        with self._condition:
            return time.monotonic() - self._last_start if self._busy else 0.0

    def wake(self) -> None:
        """Let the thread look for work now."""
        with self._condition:
            self._woken = True
            self._condition.notify_all()

    def wait_idle(self, timeout: float) -> bool:
        """Wait until no call is running; return False after `timeout` seconds."""
        with self._condition:
            return self._condition.wait_for(lambda: not self._busy, timeout)

    def stop(self, timeout: float) -> bool:
        """End the thread after the running call; return False if it still runs after `timeout` s.

        A call that outlasts the timeout ends by itself; nothing new is started.
        """
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while self._next():
            try:
                self._work()
            except BaseException as error:  # the thread must survive whatever a policy raises
                self._report(error)
            finally:
                self._finish()

    def _report(self, error: BaseException) -> None:
        try:
            self._on_error(error)
        except BaseException:  # a log or publisher that is gone: only stderr is left
            traceback.print_exc()

    def _next(self) -> bool:
        with self._condition:
            self._condition.wait_for(lambda: self._woken or self._stopping)
            remaining = self._last_start + self._min_period() - time.monotonic()
            self._condition.wait_for(lambda: self._stopping, max(0.0, remaining))
            self._last_start = time.monotonic()
            self._woken = False
            self._busy = not self._stopping
            return self._busy

    def _finish(self) -> None:
        with self._condition:
            self._busy = False
            self._condition.notify_all()
