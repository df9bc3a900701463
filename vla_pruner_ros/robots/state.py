"""From what the robot measures to the state vector a checkpoint was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vla_pruner_ros.robots.profile import UNITS, RobotProfile, StateField
from vla_pruner_ros.robots.rotations import (
    axis_angle_of,
    from_matrix,
    nearest_axis_angle,
    to_matrix,
)


class StateError(ValueError):
    """Error of incomplete measurements; the message names what is missing."""


@dataclass(frozen=True)
class Measured:
    """The robot as measured at one instant.

    joints: name -> position (rad or m). position: [3] of the end effector (m) and orientation: [4]
    its quaternion x y z w, both in the action frame; None if no pose is known.
    """

    joints: Mapping[str, float] = field(default_factory=dict)
    position: np.ndarray | None = None
    orientation: np.ndarray | None = None

    def positions(self, names: tuple[str, ...]) -> np.ndarray:
        """Return positions [len(names)] (rad or m).

        Raises:
            StateError: joints are missing or not finite; their names are given.
        """
        missing = [name for name in names if name not in self.joints]
        if missing:
            present = ", ".join(sorted(self.joints)) or "none"
            raise StateError(
                f"joints {', '.join(missing)} are not in the joint states (there: {present})"
            )
        values = np.array([self.joints[name] for name in names], dtype=np.float64)
        if not np.isfinite(values).all():
            bad = [n for n, value in zip(names, values, strict=True) if not np.isfinite(value)]
            raise StateError(f"the positions of joints {', '.join(bad)} are not finite")
        return values

    def pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Return position [3] (m) and orientation [4] (x y z w). Raises StateError."""
        if self.position is None or self.orientation is None:
            raise StateError("the robot's profile needs end_effector_pose, and none is known")
        return self.position, self.orientation


def assemble_state(profile: RobotProfile, measured: Measured) -> np.ndarray:
    """Build the state in the checkpoint's order and units.

    Returns:
        float64 [profile.state_dim].

    Raises:
        StateError: joints or the pose are missing or not finite.
    """
    parts = [_numbers(profile, part, measured) for part in profile.state]
    state = np.concatenate(parts) if parts else np.zeros(0)
    if not np.isfinite(state).all():
        raise StateError("the state holds numbers that are not finite")
    return state


def _numbers(profile: RobotProfile, part: StateField, measured: Measured) -> np.ndarray:
    if part.source == "joint_states":
        values = measured.positions(part.joints)
    elif part.source == "gripper":
        values = _gripper_number(profile, part, measured)
    else:
        values = _pose_numbers(part, measured)
    unit = UNITS.get(part.unit, 1.0)
    return values / unit * np.array(part.scale) + np.array(part.offset)


def _gripper_number(profile: RobotProfile, part: StateField, measured: Measured) -> np.ndarray:
    gripper = profile.grippers[part.gripper]
    opening = gripper.opening(float(measured.positions(gripper.joints[:1])[0]))
    return np.array([part.closed + opening * (part.open - part.closed)])


def _pose_numbers(part: StateField, measured: Measured) -> np.ndarray:
    position, orientation = measured.pose()
    if part.representation == "position":
        return position
    if part.representation == "axis_angle":  # not through a matrix: it would choose the sign
        vector = axis_angle_of(orientation)
        return nearest_axis_angle(vector, part.reference) if part.reference else vector
    return from_matrix(to_matrix(orientation, "quaternion"), part.representation)
