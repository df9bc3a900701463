"""End-effector poses, and their displacement by an action."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_pruner_ros.robots.rotations import from_matrix, to_matrix


@dataclass(frozen=True)
class Pose:
    """position: [3] x y z (m); orientation: [4] unit quaternion x y z w; both in one frame."""

    position: np.ndarray
    orientation: np.ndarray

    @staticmethod
    def of(position: np.ndarray, orientation: np.ndarray) -> Pose:
        """Check a pose and make its quaternion one of length 1.

        Raises:
            ValueError: a value is not finite, or the quaternion is zero.
        """
        position, orientation = np.asarray(position, float), np.asarray(orientation, float)
        length = float(np.linalg.norm(orientation))
        if not np.isfinite(position).all() or not np.isfinite(length):
            raise ValueError("the pose holds values that are not finite")
        if length < 1e-6:
            raise ValueError("the pose's quaternion is zero")
        return Pose(position, orientation / length)

    def displaced(self, action: np.ndarray) -> Pose:
        """Return the pose that an action [7] (m, rad, gripper) leads to.

        The translation runs along the frame's axes and the rotation about them (fixed axes), so it
        is multiplied from the left; the position does not turn with it.
        """
        turn = quaternion_from_rpy(*action[3:6])
        orientation = multiply(turn, self.orientation)
        # Renormalised: the product of many would drift.
        return Pose.of(self.position + action[:3], orientation)

    def displacement_to(self, target: Pose) -> np.ndarray:
        """Return [6] the displacement that leads to a target: x y z (m), roll pitch yaw (rad)."""
        turn = to_matrix(multiply(target.orientation, conjugate(self.orientation)), "quaternion")
        return np.append(target.position - self.position, from_matrix(turn, "rpy"))


def conjugate(quaternion: np.ndarray) -> np.ndarray:
    """Return the inverse of a unit quaternion, float [4] x y z w."""
    return quaternion * np.array([-1.0, -1.0, -1.0, 1.0])


def quaternion_from_rpy(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Return the rotation by roll, then pitch, then yaw about the fixed x, y, z axes (rad).

    Returns:
        Unit quaternion, float [4] x y z w.
    """
    half = np.array([roll, pitch, yaw], dtype=float) / 2.0
    about_x, about_y, about_z = (
        np.append(axis * np.sin(angle), np.cos(angle))
        for axis, angle in zip(np.eye(3), half, strict=True)
    )
    return multiply(about_z, multiply(about_y, about_x))


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the Hamilton product a b: the rotation b followed by a.

    Args:
        a: unit quaternion, float [4] x y z w.
        b: the same.
    """
    vector = a[3] * b[:3] + b[3] * a[:3] + np.cross(a[:3], b[:3])
    return np.append(vector, a[3] * b[3] - a[:3] @ b[:3])
