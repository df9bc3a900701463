"""The trained policies that come with the package, and how the simulated robot is wired to it."""

from __future__ import annotations

from pathlib import Path

from vla_pruner_ros.resources import share_directory
from vla_pruner_ros.sim.tasks import instruction_for

SIMULATION_POLICY = "openvla_oft_small"
"""Folder below policies/ of the policy that runs in the simulator where no other is named."""
POLICIES = (SIMULATION_POLICY, "openvla_small")
"""All of them, the best first."""
CAMERAS = ("scene", "gripper")
"""Of the simulated robot, in the order in which that policy was trained with them."""


def policy_directory(name: str) -> Path | None:
    """The folder of a policy that comes with the package; None where there is no such."""
    directory = share_directory() / "policies" / name
    return directory if (directory / "config.json").is_file() else None


def policy_parameters(task: str) -> dict[str, object]:
    """Parameters of vla_pruner_node for SIMULATION_POLICY on the robot as below."""
    others = [f"{camera}/image_raw" for camera in CAMERAS[1:]]
    return {
        "checkpoint": SIMULATION_POLICY,
        "image_topics": ["image_raw", *others],
        "instruction": instruction_for(task),
    }


def robot_parameters(task: str) -> dict[str, object]:
    """Parameters of sim_robot_node."""
    return {"task": task, "cameras": list(CAMERAS)}
