"""Publishers of everything that a controller may follow."""

from __future__ import annotations

from typing import Any

from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.qos import QoSProfile
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from vla_pruner_ros.msg import EndEffectorAction
from vla_pruner_ros.nodes.vla_pruner.host import Host

LIVE, PREVIEW = "~/", "~/preview/"
QUEUE = 10
"""Depth of the publishers."""


class CommandTopics:
    """The command topics under one prefix: LIVE, or PREVIEW, which no arm follows."""

    def __init__(self, node: Host, prefix: str) -> None:
        qos = QoSProfile(depth=QUEUE)

        def make(message_type: type, name: str) -> Any:
            return node.create_lifecycle_publisher(message_type, prefix + name, qos)

        self.prefix = prefix
        self.action = make(EndEffectorAction, "action")
        self.twist = make(TwistStamped, "twist")
        self.target_pose = make(PoseStamped, "target_pose")
        self.joint_trajectory = make(JointTrajectory, "joint_trajectory")
        self.joint_command = make(Float64MultiArray, "joint_command")
        self.gripper_command = make(Float64MultiArray, "gripper_command")
        self.gripper_trajectory = make(JointTrajectory, "gripper_trajectory")


class ArmTopics:
    """The topics of one arm that has controllers of its own, such as ~/left/joint_trajectory.

    They come and go with the profile, between the node's transitions: what keeps them silent
    outside active is the gate.
    """

    def __init__(self, node: Host, prefix: str) -> None:
        def make(message_type: type, name: str) -> Any:
            return node.create_publisher(message_type, prefix + name, QoSProfile(depth=QUEUE))

        self.joint_trajectory = make(JointTrajectory, "joint_trajectory")
        self.joint_command = make(Float64MultiArray, "joint_command")
        self.gripper_command = make(Float64MultiArray, "gripper_command")
        self.gripper_trajectory = make(JointTrajectory, "gripper_trajectory")

    def destroy(self, node: Host) -> None:
        """Destroy the publishers."""
        for publisher in vars(self).values():
            node.destroy_publisher(publisher)
