"""The relay of a node's output: nothing written last is lost as the process ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: the nodes cannot be imported")

RUNS = 40
CODE = """
import os, sys
from vla_pruner_ros.nodes.process.terminal import OutputRelay
for run in range(int(sys.argv[1])):
    child = os.fork()
    if child == 0:
        OutputRelay().start()
        print(f"stderr {run}.", file=sys.stderr)
        sys.exit()
    os.waitpid(child, 0)
"""


def test_the_last_line_is_carried_on():
    """A refused argument ended the player with status 2 and without its sentence."""
    command = [sys.executable, "-c", CODE, str(RUNS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.split("\n") == [*(f"stderr {run}." for run in range(RUNS)), ""]
