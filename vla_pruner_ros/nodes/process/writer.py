"""Files that may hang, written on threads of their own."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable

KEPT_BYTES = 2**20
"""Output kept for a file or terminal that is slow; what does not fit is dropped."""


class Writer:
    """Writes to one file on a thread of its own: offer() never waits for the file."""

    def __init__(self, open_file: Callable[[], int], name: str) -> None:
        """Start the thread.

        Args:
            open_file: opens the file and returns its descriptor; called on the thread, since
                opening may wait, too. If it raises OSError, all output is dropped.
            name: of the thread.
        """
        self._open = open_file
        self._pieces: deque[bytes] = deque()
        self._kept = 0
        self._is_writing = False
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def offer(self, data: bytes) -> None:
        """Take output over; drop it if too much is waiting."""
        with self._changed:
            if self._kept + len(data) <= KEPT_BYTES:
                self._pieces.append(data)
                self._kept += len(data)
                self._changed.notify()

    @property
    def is_idle(self) -> bool:
        """True if everything that was offered has been written or dropped."""
        with self._changed:
            return not self._pieces and not self._is_writing

    def _run(self) -> None:
        try:
            file = self._open()
        except OSError:
            file = -1  # each write fails, and nothing waits
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.wait_for(lambda: self._pieces)
                data = self._pieces.popleft()
                self._is_writing = True
            with contextlib.suppress(OSError):  # a closed terminal, a full disk
                left = data
                while left:
                    left = left[os.write(file, left) :]
            with self._changed:
                self._kept -= len(data)
