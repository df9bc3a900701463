"""The log file of a node, written by no thread that the arm needs."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vla_pruner_ros.nodes.process.writer import Writer

RCL_FILE_FLAGS = ("--enable-external-lib-logs", "--disable-external-lib-logs")
"""ROS arguments about the log file of rcl."""
_NO_RCL_FILE = ["--ros-args", RCL_FILE_FLAGS[1]]

_COLOUR = re.compile(rb"\x1b\[[0-9;]*m")


class LogFile:
    """A copy of a node's output in the log directory of ROS.

    rcl writes its log file inside the logging call, while rclpy holds Python's interpreter lock. On
    a disk that hangs, that stops every thread. So a node turns rcl's file off and writes its own.
    """

    def __init__(self, directory: Path) -> None:
        stem = f"{Path(sys.argv[0]).name or 'python'}_{os.getpid()}_{time.time_ns() // 10**6}"
        self.path = directory / f"{stem}.log"
        self._writer = Writer(self._open, "log file")

    def offer(self, data: bytes) -> None:
        """Take output over, without the colours of a terminal."""
        self._writer.offer(_COLOUR.sub(b"", data))

    @property
    def is_idle(self) -> bool:
        """Return whether nothing waits to be written."""
        return self._writer.is_idle

    def _open(self) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)


def log_directory() -> Path:
    """Return the directory that rcl would write to: ROS_LOG_DIR, ROS_HOME/log or ~/.ros/log."""
    directory, home = os.environ.get("ROS_LOG_DIR"), os.environ.get("ROS_HOME")
    return Path(directory or Path(home or "~/.ros") / "log").expanduser()


def decides_on_file(arguments: Sequence[str]) -> bool:
    """Return whether ROS arguments say themselves whether rcl writes a log file."""
    return bool(set(RCL_FILE_FLAGS) & set(arguments))


def without_file_of_rcl(arguments: Sequence[str]) -> list[str]:
    """Return ROS arguments that keep rcl from writing a log file, unless they ask for one."""
    return [*arguments] if decides_on_file(arguments) else [*arguments, *_NO_RCL_FILE]
