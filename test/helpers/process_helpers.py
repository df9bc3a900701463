"""A real node in a process of its own, and an observer outside it that judges what it sends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: the tests of nodes need rclpy")

from vla_pruner_lab.reliability.outside import (
    ACTIVATE,
    CLEANUP,
    CONFIGURE,
    DEACTIVATE,
    WAIT,
    Outside,
)
from vla_pruner_ros.bringup.processes import find_executable

__all__ = ["ACTIVATE", "CLEANUP", "CONFIGURE", "DEACTIVATE", "WAIT", "Outside", "subject"]
RELIABILITY = Path(__file__).parents[2] / "vla_pruner_lab" / "reliability"
SHIM, DISK_SHIM = RELIABILITY / "clock_shim.c", RELIABILITY / "disk_shim.c"


def arguments(name: str, **parameters: Any) -> list[str]:
    """Return the command of a node with small random weights."""
    given = {
        "checkpoint": "untrained",
        "instruction": "push",
        "num_threads": 1,
        "max_translation": 0.01,
        **parameters,
    }
    command = [find_executable("vla_pruner_node"), "--ros-args", "-r", f"__node:={name}"]
    for key, value in given.items():
        command += ["-p", f"{key}:={value}"]
    return command


@contextmanager
def subject(
    environment: dict[str, str] | None = None, output: Any = None, **parameters: Any
) -> Iterator[tuple[Outside, subprocess.Popen]]:
    """Run a node in a process of its own, with an observer; both are gone at the end."""
    outside = Outside()
    process = subprocess.Popen(
        arguments(outside.name, **parameters),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
        stdout=output,
        stderr=output,
        stdin=subprocess.DEVNULL,
    )
    try:
        yield outside, process
    finally:
        process.kill()
        process.wait()
        outside.close()


@contextmanager
def moving_subject(
    environment: dict[str, str] | None = None, output: Any = None, **parameters: Any
) -> Iterator[tuple[Outside, subprocess.Popen]]:
    """Run a node that moves, with a camera that goes on."""
    with subject(environment, output, **parameters) as (outside, process):
        assert outside.change_state(CONFIGURE)
        assert outside.change_state(ACTIVATE)
        outside.start_camera()
        outside.until_moving()
        yield outside, process


def log_stop_and_end(outside: Outside, process: subprocess.Popen, lines: int) -> None:
    """Let a moving node log so many lines, lose its camera and end; assert that each succeeds."""
    for number in range(lines):
        assert outside.set_parameter("seed", number).successful
    outside.until_moving()
    outside.stop_camera()
    outside.until(lambda: "No image" in outside.sentences[-1], "the cause in the diagnostics")
    assert outside.moving_twist_stands() == 0.0
    assert outside.state() == "active"
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT) == 0


def compile_shared(source: Path, target: Path) -> Path:
    """Compile a C file to a shared object; skip the test where there is no compiler."""
    with contextlib.suppress(FileNotFoundError):
        command = ["cc", "-shared", "-fPIC", "-O2", str(source), "-o", str(target), "-ldl"]
        subprocess.run(command, check=True, capture_output=True)
        return target
    pytest.skip("no C compiler: this test preloads a shared object")
