"""vla_pruner_doctor: check machine, ROS 2, cameras, checkpoint, limits and robot profile."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vla_pruner_ros.doctor.finding import RED, Finding, examine, red, summary
from vla_pruner_ros.doctor.machine import machine_findings
from vla_pruner_ros.doctor.parameters import limit_findings, read_parameters
from vla_pruner_ros.doctor.policy import checkpoint_findings, robot_findings
from vla_pruner_ros.doctor.ros_setup import has_ros, setup_findings
from vla_pruner_ros.settings.program import Program, ProgramParser

SCHEMA = "vla_pruner_ros.doctor/1"
PROGRAM = Program(
    "vla_pruner_doctor",
    "Check what keeps this machine from driving an arm: green works, yellow works with a loss,\n"
    "red does not work. It only reads; nothing is started and nothing moves.",
    (
        "",
        "--params my_robot.yaml",
        "--checkpoint openvla_oft_small --robot metaworld --image-topic /camera/color/image_raw",
        "--no-ros --json",
    ),
    "Exit status: 0 nothing is red; 1 something is; 2 wrong arguments.",
)


def make_parser() -> ProgramParser:
    """Return the parser of the command line."""
    parser = PROGRAM.parser()
    add = parser.add_argument
    add("--params", type=Path, metavar="FILE", help="the node's parameter file")
    add("--checkpoint", help="instead of the file's")
    add("--robot", help="robot profile, instead of the file's")
    add("--image-topic", nargs="+", metavar="TOPIC", help="instead of the file's")
    add("--device", help="torch device, instead of the file's")
    add("--dtype", help="instead of the file's")
    add("--seconds", type=float, default=3.0, help="to listen to the cameras")
    add("--no-ros", action="store_true", help="do not join the ROS graph")
    add("--json", action="store_true", help="print JSON instead of lines")
    return parser


@PROGRAM.main
def main(arguments: list[str]) -> int:
    """Print the findings as they come; return the exit status."""
    given = make_parser().parse_args(arguments)
    found, colour = [], sys.stdout.isatty()
    for finding in findings(given):
        found.append(finding)
        if not given.json:
            print(finding.line(colour), flush=True)
    if given.json:
        content = {"schema": SCHEMA, "findings": [finding.record() for finding in found]}
        print(json.dumps(content, indent=1))
    else:
        print(f"\n{summary(found)}")
    return 1 if any(finding.level == RED for finding in found) else 0


def findings(given: argparse.Namespace) -> Iterator[Finding]:
    """Yield all findings for the arguments."""
    yield from machine_findings()
    parameters: dict[str, Any] = {}
    if given.params:
        try:
            parameters = read_parameters(given.params)
        except (ValueError, OSError) as error:
            yield red("parameters", str(error), "docs/reference/parameters.md lists all")
    checkpoint = given.checkpoint or str(parameters.get("checkpoint", ""))
    device = given.device or str(parameters.get("device", "auto"))
    dtype = given.dtype or str(parameters.get("dtype", "auto"))
    robot = given.robot or str(parameters.get("robot", ""))
    yield from checkpoint_findings(checkpoint, device, dtype)
    yield from robot_findings(robot, checkpoint, bool(parameters.get("dry_run")))
    yield from limit_findings(parameters)
    yield from setup_findings()
    if has_ros() and not given.no_ros:
        topics = given.image_topic or list(parameters.get("image_topics", ()))
        yield from examine("graph", [lambda: _graph(topics, given.seconds)])


def _graph(topics: list[str], seconds: float) -> Iterator[Finding]:
    from vla_pruner_ros.doctor.ros_graph import graph_findings

    print(f"Listening to the cameras for {seconds:g} s", file=sys.stderr, flush=True)
    yield from graph_findings(topics, seconds)


if __name__ == "__main__":
    raise SystemExit(main())
