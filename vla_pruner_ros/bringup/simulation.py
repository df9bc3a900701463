"""The trained policies that come with the package, and the parameters of the simulated robot."""

from __future__ import annotations

from vla_pruner_ros.resources import SIMULATION_POLICY
from vla_pruner_ros.sim.tasks import instruction_for

CAMERAS = ("scene", "gripper")
"""Cameras of the simulated robot, in the policy's order of training."""


def policy_parameters(task: str, checkpoint: str = "") -> dict[str, object]:
    """Return parameters of vla_pruner_node on the simulated robot: policy, cameras, instruction.

    The cameras of another checkpoint than SIMULATION_POLICY stay the user's choice.

    Raises:
        ValueError: there is no such task; the sentence names those that there are.
    """
    if checkpoint not in ("", SIMULATION_POLICY):
        return {"checkpoint": checkpoint, "instruction": instruction_for(task)}
    others = [f"{camera}/image_raw" for camera in CAMERAS[1:]]
    return {
        "checkpoint": SIMULATION_POLICY,
        "image_topics": ["image_raw", *others],
        "instruction": instruction_for(task),
    }


ALOHA = "aloha"
"""Value of sim for the two simulated ViperX arms."""
ALOHA_CAMERAS = ("cam_high", "cam_left", "cam_right")


def aloha_parameters() -> dict[str, object]:
    """Parameters of vla_pruner_node for the simulated ALOHA; the checkpoint is the user's."""
    return {
        "robot": ALOHA,
        "image_topics": [f"{camera}/image_raw" for camera in ALOHA_CAMERAS],
        "control_rate": 50.0,
    }


def robot_node(sim: str, task: str) -> tuple[str, dict[str, object]]:
    """Return the executable and the parameters of the simulated robot that sim asks for."""
    if sim.lower() == ALOHA:
        return "sim_aloha_node", {}
    return "sim_robot_node", robot_parameters(task)


def robot_parameters(task: str) -> dict[str, object]:
    """Parameters of sim_robot_node."""
    return {"task": task, "cameras": list(CAMERAS)}
