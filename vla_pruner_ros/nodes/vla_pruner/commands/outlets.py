"""Assignment of joints and grippers to topics: all together, or each arm apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_pruner_ros.nodes.vla_pruner.commands.messages import (
    positions_message,
    trajectory_message,
)
from vla_pruner_ros.nodes.vla_pruner.commands.topics import ArmTopics, CommandTopics
from vla_pruner_ros.nodes.vla_pruner.host import Host
from vla_pruner_ros.robots import ArmPart, Gripper, RobotProfile


@dataclass(frozen=True)
class Outlet:
    """Topics and what goes out on them.

    joints: columns of a vector of the profile's joints, and their names at the controller.
    grippers: columns of a vector of commanded grippers, and the names of their joints at the
    controller; no names if a gripper has no joint.
    """

    topics: CommandTopics | ArmTopics
    joints: tuple[int, ...]
    joint_names: tuple[str, ...]
    grippers: tuple[int, ...]
    gripper_names: tuple[str, ...]

    def lead(self, positions: np.ndarray, period: float) -> None:
        """Publish a trajectory of positions [steps, all joints] (rad or m), one a period (s)."""
        own = positions[:, self.joints]
        self.topics.joint_trajectory.publish(trajectory_message(self.joint_names, own, period))

    def set(self, positions: np.ndarray) -> None:
        """Publish one vector of positions [all joints] (rad or m)."""
        self.topics.joint_command.publish(positions_message(positions[list(self.joints)]))

    def grip(self, positions: np.ndarray, period: float) -> None:
        """Publish positions [all grippers] (rad or m) to reach within a period (s)."""
        if not self.grippers:
            return
        own = positions[list(self.grippers)]
        self.topics.gripper_command.publish(positions_message(own))
        if self.gripper_names:
            message = trajectory_message(self.gripper_names, own[None], period)
            self.topics.gripper_trajectory.publish(message)


def shared_outlet(profile: RobotProfile, topics: CommandTopics) -> Outlet:
    """Return the one outlet of everything, with the names of the profile."""
    grippers = profile.commanded_grippers
    columns = tuple(range(len(profile.joints)))
    names = _finger_names(grippers)
    return Outlet(topics, columns, profile.joints, tuple(range(len(grippers))), names)


def arm_outlets(node: Host, profile: RobotProfile, topics: CommandTopics) -> list[Outlet]:
    """Return an outlet for each arm, on topics that are made for it.

    Raises:
        ValueError: the profile names no arms.
    """
    if not profile.arms:
        raise ValueError(
            f"separate_arms is true, but robot profile {profile.name} names no arms: add arms to "
            "it, see docs/how-to/robot_profile.md, or set separate_arms to false"
        )
    return [
        _arm_outlet(profile, arm, ArmTopics(node, f"{topics.prefix}{arm.name}/"))
        for arm in profile.arms.values()
    ]


def _arm_outlet(profile: RobotProfile, arm: ArmPart, topics: ArmTopics) -> Outlet:
    commanded = profile.commanded_grippers
    own = tuple(n for n, gripper in enumerate(commanded) if gripper.name == arm.gripper)
    return Outlet(
        topics,
        tuple(profile.joints.index(name) for name in arm.joints),
        tuple(map(arm.controller_name, arm.joints)),
        own,
        tuple(map(arm.controller_name, _finger_names([commanded[n] for n in own]))),
    )


def _finger_names(grippers: tuple[Gripper, ...] | list[Gripper]) -> tuple[str, ...]:
    names = tuple(gripper.joints[0] for gripper in grippers if gripper.joints)
    return names if len(names) == len(grippers) else ()
