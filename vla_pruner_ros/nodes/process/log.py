"""A log that what comes over the network can neither forge nor flood."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MAX_LENGTH = 1000
"""Characters of one line; tracebacks are longer and have lines of their own."""
MAX_TRACEBACK = 60
"""Lines of a traceback's end that are logged."""
BURST, PER_SECOND = 50.0, 10.0
"""Lines that may come at once, and per second in the long run."""


def printable(text: str, limit: int = MAX_LENGTH) -> str:
    """Return the text as one line: control characters escaped, the end cut off."""
    shown = text[: limit + 1]
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return escaped if len(escaped) <= limit else escaped[:limit] + "..."


class Log:
    """A node's logger with lines escaped, cut and limited in number.

    A name or value that somebody sends ends up in the log; with a line break in it, it would look
    like a message of the node's own, and with a new name each time no throttling by text helps.
    """

    def __init__(self, logger: Any) -> None:
        """Wrap a logger of rclpy."""
        self._logger = logger
        self._lock = threading.Lock()
        self._credit, self._since, self._left_out = BURST, time.monotonic(), 0

    # Each level has its own line below: rclpy ties a line of code to one level.

    def debug(self, text: str) -> None:
        """Log what a person asked for; tracebacks keep their lines."""
        self._logger.debug(text)

    def info(self, text: str) -> None:
        """Log one line, unless too many were logged."""
        if self._may_pass():
            self._logger.info(printable(text))

    def warning(self, text: str) -> None:
        """Log one line, unless too many were logged."""
        if self._may_pass():
            self._logger.warning(printable(text))

    def error(self, text: str) -> None:
        """Log one line, unless too many were logged."""
        if self._may_pass():
            self._logger.error(printable(text))

    def fatal(self, text: str) -> None:
        """Log one line, however many were logged."""
        self._logger.fatal(printable(text))

    def traceback(self, text: str) -> None:
        """Log a traceback: lines stay, other control characters do not."""
        if self._may_pass():
            lines = text.splitlines()
            if len(lines) > MAX_TRACEBACK:
                lines = [lines[0], "  ...", *lines[-MAX_TRACEBACK:]]
            self._logger.error("\n".join(map(printable, lines)))

    def _may_pass(self) -> bool:
        with self._lock:
            now = time.monotonic()
            self._credit = min(BURST, self._credit + (now - self._since) * PER_SECOND)
            self._since = now
            if self._credit < 1.0:
                self._left_out += 1
                return False
            self._credit -= 1.0
            left_out, self._left_out = self._left_out, 0
        if left_out:
            self._logger.warning(f"{left_out} lines were left out: too many at once")
        return True


class _Forwarder(logging.Handler):
    """Hands the lines of Python's logging to a node's log."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record at its level."""
        text = record.getMessage()
        if record.levelno >= logging.ERROR:
            self._log.error(text)
        elif record.levelno >= logging.WARNING:
            self._log.warning(text)
        else:
            self._log.info(text)


@contextmanager
def forwarded_logging(log: Log, name: str = "vla_pruner_ros") -> Iterator[None]:
    """Show in a node's log what a package without ROS logs: its device, an unused GPU."""
    logger, handler = logging.getLogger(name), _Forwarder(log)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
