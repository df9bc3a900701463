"""The trained policies that come with the package, and the parameters of the simulated robot."""

from __future__ import annotations

from vla_pruner_ros.resources import SIMULATION_POLICY
from vla_pruner_ros.sim.tasks import instruction_for

CAMERAS = ("scene", "gripper")
"""Cameras of the simulated robot, in the policy's order of training."""


def policy_parameters(task: str) -> dict[str, object]:
    """Return parameters of vla_pruner_node for SIMULATION_POLICY on the robot as below."""
    others = [f"{camera}/image_raw" for camera in CAMERAS[1:]]
    return {
        "checkpoint": SIMULATION_POLICY,
        "image_topics": ["image_raw", *others],
        "instruction": instruction_for(task),
    }


def robot_parameters(task: str) -> dict[str, object]:
    """Parameters of sim_robot_node."""
    return {"task": task, "cameras": list(CAMERAS)}
