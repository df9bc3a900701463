"""Signals that end a process, and the wait for them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals of Ctrl-C, of another program, and of a terminal that closes."""

SIGNAL_PERIOD = 0.05
"""Seconds after which the main thread looks for a signal that another thread received."""


class StopSignal:
    """Event that STOP_SIGNALS set.

    set() takes no lock, unlike threading.Event's: a handler runs on the main thread, and would wait
    for ever for a lock that this thread's own wait() holds.

    wait() looks every SIGNAL_PERIOD. Python runs handlers on the main thread alone, but Linux may
    deliver a signal to any thread. After the process was stopped (Ctrl-Z, a debugger), that is the
    first one that resumes. Nothing else would wake the main thread then.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)

    def listen(self) -> None:
        """Let every signal of STOP_SIGNALS set this event, and do nothing else."""
        for number in STOP_SIGNALS:
            # nohup starts a program that is to outlive its terminal with SIGHUP ignored.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda *_: self.set())

    def set(self) -> None:
        """Set the event; it stays set."""
        self._is_set = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._writing, b"x")  # stays in the pipe: every wait ends at once

    def is_set(self) -> bool:
        """Return whether the event was set."""
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the event is set, for `timeout` seconds at most; return whether it is."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._is_set:
            left = SIGNAL_PERIOD if deadline is None else deadline - time.monotonic()
            if left <= 0.0:
                break
            select.select([self._reading], [], [], min(left, SIGNAL_PERIOD))
        return self._is_set
