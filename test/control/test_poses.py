"""Displacements become absolute poses: about fixed axes, along the frame's axes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_pruner_ros.control.poses import Pose, multiply, quaternion_from_rpy

angles = st.floats(-3.0, 3.0)
rotations = st.tuples(angles, angles, angles)
QUARTER = np.pi / 2


def matrix(q: np.ndarray) -> np.ndarray:
    """The rotation matrix of a unit quaternion x y z w, from how it turns the axes."""
    inverse = q * [-1, -1, -1, 1]
    turned = [multiply(multiply(q, np.append(axis, 0.0)), inverse)[:3] for axis in np.eye(3)]
    return np.array(turned).T


def about(axis: int, angle: float) -> np.ndarray:
    """The textbook rotation matrix about x, y or z."""
    a, b = [i for i in range(3) if i != axis]
    made = np.eye(3)
    made[a, a] = made[b, b] = np.cos(angle)
    made[a, b], made[b, a] = -np.sin(angle), np.sin(angle)
    if axis == 1:
        made = made.T
    return made


def turned(*rpy: float) -> Pose:
    return Pose.of(np.array([0.4, -0.1, 0.2]), quaternion_from_rpy(*rpy))


@given(rotations)
def test_roll_pitch_yaw_are_about_fixed_axes(rpy):
    roll, pitch, yaw = rpy
    expected = about(2, yaw) @ about(1, pitch) @ about(0, roll)
    assert np.allclose(matrix(quaternion_from_rpy(*rpy)), expected, atol=1e-12)


@given(rotations, rotations)
def test_rotation_is_multiplied_from_the_left(start, delta):
    moved = turned(*start).displaced(np.array([0, 0, 0, *delta, 1.0]))
    expected = matrix(quaternion_from_rpy(*delta)) @ matrix(turned(*start).orientation)
    assert np.allclose(matrix(moved.orientation), expected, atol=1e-9)
    assert np.linalg.norm(moved.orientation) == pytest.approx(1.0)


def test_translation_runs_along_the_frame_however_the_hand_is_turned():
    moved = turned(0.0, np.pi, 0.3).displaced(np.array([0.01, 0.02, -0.03, 0, 0, 0.5, 1]))
    assert moved.position == pytest.approx([0.41, -0.08, 0.17])


def test_fixed_and_body_axes_differ():
    """A hand that points down, yawed about the base's z, turns about its own z the other way."""
    down = turned(np.pi, 0.0, 0.0)
    moved = down.displaced(np.array([0, 0, 0, 0, 0, QUARTER, 1]))
    hand_x_in_base = matrix(moved.orientation)[:, 0]
    assert hand_x_in_base == pytest.approx([0.0, 1.0, 0.0], abs=1e-12)


@given(st.lists(rotations, min_size=1, max_size=50))
def test_many_steps_stay_a_rotation(deltas):
    pose = turned(0.0, 0.0, 0.0)
    for delta in deltas:
        pose = pose.displaced(np.array([0, 0, 0, *delta, 0]))
    assert np.linalg.norm(pose.orientation) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("position", "orientation", "reason"),
    [
        ([np.nan, 0, 0], [0, 0, 0, 1], "not finite"),
        ([0, 0, np.inf], [0, 0, 0, 1], "not finite"),
        ([0, 0, 0], [0, 0, np.nan, 1], "not finite"),
        ([0, 0, 0], [0, 0, 0, 0], "zero"),
    ],
)
def test_what_is_no_pose_is_refused(position, orientation, reason):
    with pytest.raises(ValueError, match=reason):
        Pose.of(np.array(position), np.array(orientation))


def test_quaternion_is_made_one():
    assert Pose.of(np.zeros(3), np.array([0, 0, 0, 2.0])).orientation.tolist() == [0, 0, 0, 1]
