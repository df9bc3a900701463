"""The trained policies that come with the package, and how the simulated robot is wired to it."""

from __future__ import annotations

from vla_pruner_ros.resources import SIMULATION_POLICY
from vla_pruner_ros.sim.tasks import instruction_for

CAMERAS = ("scene", "gripper")
"""Of the simulated robot, in the order in which that policy was trained with them."""


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
