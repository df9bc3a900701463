"""Robot profiles: what a policy's numbers mean on a robot. No ROS, no torch."""

from vla_pruner_ros.robots.actions import Commands, decode_actions, encode_actions
from vla_pruner_ros.robots.checks import CheckpointLayout, mismatches, with_cameras_of
from vla_pruner_ros.robots.images import as_seen, oriented
from vla_pruner_ros.robots.library import bundled_profiles, load_profile
from vla_pruner_ros.robots.profile import ArmPart, Camera, Gripper, RobotProfile
from vla_pruner_ros.robots.state import Measured, StateError, assemble_state
from vla_pruner_ros.robots.yaml_reader import ProfileError

__all__ = [
    "ArmPart",
    "Camera",
    "CheckpointLayout",
    "Commands",
    "Gripper",
    "Measured",
    "ProfileError",
    "RobotProfile",
    "StateError",
    "as_seen",
    "assemble_state",
    "bundled_profiles",
    "decode_actions",
    "encode_actions",
    "load_profile",
    "mismatches",
    "oriented",
    "with_cameras_of",
]
