"""The executables that need ROS 2: help and version without it, a sentence if it is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from vla_pruner_ros.resources import package_version


@dataclass(frozen=True)
class Executable:
    """One program: the module of its main function, what it does, and how to call it."""

    module: str
    summary: str
    examples: Sequence[str]

    def help(self, name: str) -> str:
        """Return the help text of the executable under this name."""
        examples = "\n".join(f"  {name} {example}".rstrip() for example in self.examples)
        return (
            f"{self.summary}\n\nExamples:\n{examples}\n\n"
            "Parameters are given as --ros-args -p NAME:=VALUE, or --params-file FILE.\n"
            "-h, --help     print this text\n--version      print the version"
        )


EXECUTABLES = {
    "vla_pruner_node": Executable(
        "nodes.vla_pruner.node",
        "Runs the pruned policy as a lifecycle node: cameras and an instruction in, actions out.\n"
        "Configure and activate it with ros2 lifecycle set, or use the bring-up.",
        (
            "--ros-args -p checkpoint:=/path/to/checkpoint -p keep_ratio:=0.25",
            "--ros-args --params-file my_robot.yaml",
        ),
    ),
    "sim_robot_node": Executable(
        "nodes.sim_robot",
        "Simulates an arm and its cameras on the topics of a real one.",
        ("--ros-args -p task:=drawer-close",),
    ),
    "sim_aloha_node": Executable(
        "nodes.simulation.aloha",
        "Simulates the two arms of an ALOHA on the topics of a real one: joint commands in, joint\n"
        "states and three cameras out.",
        ("--ros-args -p interface:=positions",),
    ),
    "vla_pruner_player": Executable(
        "nodes.player",
        "Plays a bag and its clock, without rosbag2.",
        ("--ros-args -p bag:=/path/to/bag -p rate:=0.5",),
    ),
    "vla_pruner_recorder": Executable(
        "nodes.recorder",
        "Records everything that a replay needs into an MCAP bag, without rosbag2.",
        ("--ros-args -p output:=/path/to/bag -p image_compression:=jpeg",),
    ),
    "vla_pruner_bringup": Executable("bringup.cli", "", ()),
}


def _needs_ros(name: str) -> Callable[[], int]:
    """Return the main function of an executable, behind a look for what it imports."""
    executable = EXECUTABLES[name]

    def main() -> int:
        asked = set(sys.argv[1:])
        if "--version" in asked:
            print(f"vla_pruner_ros {package_version()}")
            return 0
        if asked & {"-h", "--help"} and executable.summary:  # before a node is started
            print(executable.help(name))
            return 0
        missing = missing_part()
        if missing:
            print(f"{name} cannot run: {missing}", file=sys.stderr)
            return 2
        if executable.summary and (stray := stray_arguments(sys.argv[1:])):
            print(
                f"{name}: {stray[0]!r} is not understood; parameters are given as --ros-args -p "
                "NAME:=VALUE",
                file=sys.stderr,
            )
            return 2
        return import_module(f"vla_pruner_ros.{executable.module}").main()

    return main


def stray_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the arguments outside of --ros-args ... [--]: a node would ignore them silently."""
    stray, inside = [], False
    for argument in arguments:
        if argument == "--ros-args":
            inside = True
        elif inside and argument == "--":
            inside = False
        elif not inside:
            stray.append(argument)
    return stray


def missing_part() -> str:
    """Return a sentence about the part of ROS 2 that is missing, "" if all is there."""
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
sim_aloha_node = _needs_ros("sim_aloha_node")
vla_pruner_player = _needs_ros("vla_pruner_player")
vla_pruner_recorder = _needs_ros("vla_pruner_recorder")
vla_pruner_bringup = _needs_ros("vla_pruner_bringup")
