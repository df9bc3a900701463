"""Rotations in the forms that checkpoints use. Quaternions are x y z w, as in geometry_msgs."""

from __future__ import annotations

import numpy as np

WIDTHS = {
    "position": 3,
    "rpy": 3,
    "axis_angle": 3,
    "quaternion": 4,
    "quaternion_wxyz": 4,
    "rotation_6d": 6,
}
"""Representation -> how many numbers it takes. Everything but position is a rotation."""
SMALL = 1e-9


def to_matrix(values: np.ndarray, representation: str) -> np.ndarray:
    """Convert a rotation to a matrix [3, 3].

    Args:
        values: numbers of the representation (rad where they are angles).
        representation: a key of WIDTHS other than position.

    Raises:
        ValueError: the numbers describe no rotation (a zero quaternion, parallel columns).
    """
    values = np.asarray(values, dtype=np.float64)
    if representation == "rpy":
        return _from_rpy(values)
    if representation == "axis_angle":
        return _from_axis_angle(values)
    if representation == "rotation_6d":
        return _from_6d(values)
    return _from_quaternion(np.roll(values, -1) if representation.endswith("wxyz") else values)


def from_matrix(matrix: np.ndarray, representation: str) -> np.ndarray:
    """Convert a rotation matrix [3, 3] to the numbers of a representation; see to_matrix.

    A quaternion comes with w >= 0 and an axis-angle vector is at most pi long.
    """
    if representation == "rpy":
        return _to_rpy(matrix)
    if representation == "rotation_6d":
        return np.concatenate([matrix[:, 0], matrix[:, 1]])
    quaternion = _to_quaternion(matrix)
    if representation == "axis_angle":
        return axis_angle_of(quaternion)
    return np.roll(quaternion, 1) if representation.endswith("wxyz") else quaternion


def axis_angle_of(quaternion: np.ndarray) -> np.ndarray:
    """Convert a unit quaternion to axis times angle (rad), the angle in 0 to 2 pi.

    The quaternion's sign is not changed first: q and -q give two vectors for one rotation, as in
    robosuite, from whose states the policies for LIBERO have learned.

    Args:
        quaternion: float [4] x y z w.

    Returns:
        Float [3].
    """
    sine = float(np.linalg.norm(quaternion[:3]))
    if sine < SMALL:
        return np.zeros(3)
    return quaternion[:3] / sine * (2.0 * np.arctan2(sine, quaternion[3]))


def nearest_axis_angle(vector: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the vector of the same rotation that lies nearest to a reference (rad).

    Vectors whose lengths differ by 2 pi along one axis are one rotation.

    Args:
        vector: float [3].
        reference: float [3].

    Returns:
        Float [3].
    """
    angle = float(np.linalg.norm(vector))
    if angle < SMALL:
        return vector
    axis = vector / angle
    turns = np.round((np.asarray(reference) @ axis - angle) / (2.0 * np.pi))
    return axis * (angle + 2.0 * np.pi * turns)


def _from_rpy(angles: np.ndarray) -> np.ndarray:
    """Roll, then pitch, then yaw, about fixed axes."""
    (sr, sp, sy), (cr, cp, cy) = np.sin(angles), np.cos(angles)
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def _to_rpy(matrix: np.ndarray) -> np.ndarray:
    level = np.hypot(matrix[0, 0], matrix[1, 0])
    pitch = np.arctan2(-matrix[2, 0], level)
    if level < 1e-7:  # roll and yaw turn about one axis: all of it is called roll
        return np.array([np.arctan2(-matrix[1, 2], matrix[1, 1]), pitch, 0.0])
    return np.array(
        [
            np.arctan2(matrix[2, 1], matrix[2, 2]),
            pitch,
            np.arctan2(matrix[1, 0], matrix[0, 0]),
        ]
    )


def _from_axis_angle(vector: np.ndarray) -> np.ndarray:
    angle = float(np.linalg.norm(vector))
    if angle < SMALL:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * (cross @ cross)


def _from_6d(values: np.ndarray) -> np.ndarray:
    """The first two columns, made orthogonal (Zhou et al. 2019)."""
    first = _unit(values[:3])
    second = _unit(values[3:] - (first @ values[3:]) * first)
    return np.stack([first, second, np.cross(first, second)], axis=1)


def _from_quaternion(values: np.ndarray) -> np.ndarray:
    x, y, z, w = _unit(values)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _to_quaternion(m: np.ndarray) -> np.ndarray:
    """Take the largest of the four components first: the others are divided by it."""
    squares = np.array(
        [
            1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2],
            1 - m[0, 0] - m[1, 1] + m[2, 2],
            1 + m[0, 0] + m[1, 1] + m[2, 2],
        ]
    )
    rows = (
        (squares[0], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]),
        (m[0, 1] + m[1, 0], squares[1], m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]),
        (m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], squares[2], m[1, 0] - m[0, 1]),
        (m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], squares[3]),
    )
    quaternion = _unit(np.array(rows[int(squares.argmax())]))
    return -quaternion if quaternion[3] < 0 else quaternion


def _unit(vector: np.ndarray) -> np.ndarray:
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length < SMALL:
        raise ValueError(f"{vector.tolist()} describes no rotation")
    return vector / length
