"""The package's executables as child processes, started in parallel and ended in order."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from vla_pruner_ros.nodes.process.parent import signal_on_end_of_parent

STOP_TIMEOUT = 10.0


class Processes:
    """Child processes by name; leaving the context stops them, the last one started first.

    Each gets SIGINT, so that it can send its last message, and SIGKILL only if it does not end.
    If this process is killed, Linux sends each SIGTERM: no node goes on without it.
    """

    def __init__(self, log_directory: Path | None = None) -> None:
        """log_directory: where each child's output goes, NAME.log; None: to this terminal."""
        self._children: dict[str, subprocess.Popen] = {}
        self._log_directory = log_directory
        if log_directory:
            log_directory.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(list(self._children)):
            self.stop(name)

    def start(self, executable: str, *ros_arguments: str) -> None:
        """Start an executable of this package with ROS arguments.

        Raises:
            FileNotFoundError: it is not installed.
        """
        command = [find_executable(executable)]
        if ros_arguments:
            command += ["--ros-args", *ros_arguments]
        output = None
        if self._log_directory:
            output = open(self._log_directory / f"{executable}.log", "w")  # noqa: SIM115
        # A session of its own: Ctrl-C reaches this process alone, which then ends them in order.
        self._children[executable] = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT if output else None,
            start_new_session=True, preexec_fn=_ending_with_parent(),
        )  # fmt: skip

    def stop(self, executable: str) -> int | None:
        """End one child and return its exit code, None where it was never started."""
        child = self._children.pop(executable, None)
        if child is None:
            return None
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
        try:
            return child.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()

    def ended(self) -> list[str]:
        """Return the names of children that ended by themselves."""
        return [name for name, child in self._children.items() if child.poll() is not None]

    def cpu_seconds(self, executable: str) -> float:
        """Return the CPU time a running child has used so far, in user and system mode (Linux)."""
        stat = Path(f"/proc/{self._children[executable].pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()  # the name before may hold blanks
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def log_tail(self, executable: str, lines: int = 15) -> str:
        """Return the end of a child's log."""
        if not self._log_directory:
            return ""
        text = (self._log_directory / f"{executable}.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])


def _ending_with_parent() -> Callable[[], None] | None:
    """Return what a child runs before it becomes another program; None if not on Linux."""
    if sys.platform != "linux":
        return None
    parent = os.getpid()

    def ask_for_signal() -> None:
        signal_on_end_of_parent()
        if os.getppid() != parent:  # it was gone before the call
            os._exit(1)

    return ask_for_signal


def find_executable(name: str) -> str:
    """Return the path of one of this package's executables.

    Raises:
        FileNotFoundError: it is neither on PATH nor next to this program.
    """
    neighbour = Path(sys.argv[0]).resolve().parent / name
    found = shutil.which(name) or (str(neighbour) if neighbour.is_file() else None)
    if not found:
        raise FileNotFoundError(
            f"The executable {name} was not found: source the workspace's setup file (or env.sh)"
        )
    return found
