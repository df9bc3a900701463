"""The executables that need ROS 2: where it is missing they say so in a sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

MODULES = {
    "vla_pruner_node": "nodes.vla_pruner.node",
    "sim_robot_node": "nodes.sim_robot",
    "vla_pruner_player": "nodes.player",
    "vla_pruner_recorder": "nodes.recorder",
    "vla_pruner_bringup": "bringup.cli",
}
"""Where each has its main function, below this package."""


def _needs_ros(name: str) -> Callable[[], int]:
    """Return the main function of an executable, behind a look for what it imports."""

    def main() -> int:
        missing = what_is_missing()
        if missing:
            print(f"{name} cannot run: {missing}", file=sys.stderr)
            return 2
        return import_module(f"vla_pruner_ros.{MODULES[name]}").main()

    return main


def what_is_missing() -> str:
    """Return a sentence about what of ROS 2 is not there, "" where all is."""
    if find_spec("rclpy") is None:
        return (
            "ROS 2 is not here (no rclpy). Source its setup file and build this package with "
            "colcon; without ROS there are vla_pruner_replay and the Python modules"
        )
    if find_spec("vla_pruner_ros.msg") is None:
        return (
            "this package's messages are not built. pip does not build them: build it with colcon "
            "and source install/setup.sh"
        )
    return ""


vla_pruner_node = _needs_ros("vla_pruner_node")
sim_robot_node = _needs_ros("sim_robot_node")
vla_pruner_player = _needs_ros("vla_pruner_player")
vla_pruner_recorder = _needs_ros("vla_pruner_recorder")
vla_pruner_bringup = _needs_ros("vla_pruner_bringup")
