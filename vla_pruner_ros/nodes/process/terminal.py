"""This process's output to a terminal that may stop reading, without waiting for it."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import io
import os
import select
import struct
import sys
import termios
import threading
import time

from vla_pruner_ros.nodes.process.log_file import LogFile
from vla_pruner_ros.nodes.process.writer import KEPT_BYTES, Writer

FLUSH_TIME = 0.5
"""Longest wait (s) at the end of the process for a reader to take what is left."""

_F_SETPIPE_SZ = 1031  # fcntl.F_SETPIPE_SZ is there from Python 3.10 on Linux alone


class OutputRelay:
    """Stands between file descriptors 1 and 2 and their reader; start() puts it there.

    rclpy writes its log while it holds Python's interpreter lock. If nobody reads the terminal
    (Ctrl-S, a stalled ssh), that write waits, and with it every thread of the node: the one that
    would stop the arm and the one that answers SIGTERM. With the relay all writes go to a pipe that
    never makes a writer wait. One thread takes them out, another one writes to the terminal.
    """

    def __init__(self, log_file: LogFile | None = None) -> None:
        """log_file: gets a copy of everything."""
        self._reading, writing = os.pipe()
        with contextlib.suppress(OSError):  # above the system's limit for this user
            fcntl.fcntl(writing, _F_SETPIPE_SZ, KEPT_BYTES)
        os.set_blocking(writing, False)
        self._writing = writing
        self._log_file = log_file
        self._sinks: list[Writer | LogFile] = [log_file] if log_file else []
        self._is_idle = True

    def start(self) -> None:
        """Put the relay in the way of both descriptors, until the process ends."""
        targets = [os.dup(number) for number in (1, 2)]
        is_terminal = os.isatty(2)
        if is_terminal:  # rcutils looks at descriptor 2, which is a pipe from now on
            os.environ.setdefault("RCUTILS_COLORIZED_OUTPUT", "1")
        one_reader = _is_same_file(*targets)
        self._carry(self._reading, targets[1])
        os.dup2(self._writing, 2)
        if one_reader:
            os.dup2(self._writing, 1)
        else:
            other = OutputRelay(self._log_file)
            other._carry(other._reading, targets[0])
            os.dup2(other._writing, 1)
            atexit.register(other.flush)
        sys.stdout, sys.stderr = _text(1, is_terminal), _text(2, is_terminal)
        atexit.register(self.flush)

    def flush(self) -> None:
        """Wait until everything was taken, for FLUSH_TIME at most."""
        deadline = time.monotonic() + FLUSH_TIME
        # In this order: what left the pipe was marked as under way before it did.
        while time.monotonic() < deadline and not (
            not self._waiting() and self._is_idle and all(sink.is_idle for sink in self._sinks)
        ):
            time.sleep(0.005)

    def _waiting(self) -> int:
        """Return how many bytes lie in the pipe."""
        return struct.unpack("i", fcntl.ioctl(self._reading, termios.FIONREAD, b"\0" * 4))[0]

    def _carry(self, source: int, target: int) -> None:
        self._sinks.append(Writer(lambda: target, "terminal"))
        ready = select.poll()
        ready.register(source, select.POLLIN)

        def run() -> None:
            while True:
                self._is_idle = True
                ready.poll()
                self._is_idle = False  # before the pipe is emptied, or flush() would miss this
                data = os.read(source, 65536)
                for sink in self._sinks:
                    sink.offer(data)

        threading.Thread(target=run, name="output", daemon=True).start()


class _Undemanding(io.FileIO):
    """A descriptor whose full pipe swallows what does not fit."""

    def __init__(self, number: int, is_terminal: bool) -> None:
        super().__init__(number, "w", closefd=False)
        self._is_terminal = is_terminal

    def write(self, data) -> int:
        with contextlib.suppress(OSError):
            super().write(data)
        return len(data)

    def isatty(self) -> bool:
        return self._is_terminal


def _text(number: int, is_terminal: bool) -> io.TextIOWrapper:
    raw = _Undemanding(number, is_terminal)
    return io.TextIOWrapper(io.BufferedWriter(raw), errors="backslashreplace", line_buffering=True)


def _is_same_file(first: int, second: int) -> bool:
    one, other = os.fstat(first), os.fstat(second)
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
