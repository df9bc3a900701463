"""Rotations survive every representation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_pruner_ros.robots.rotations import (
    WIDTHS,
    axis_angle_of,
    from_matrix,
    nearest_axis_angle,
    to_matrix,
)

ROTATIONS = [name for name in WIDTHS if name != "position"]
quaternions = st.lists(st.floats(-1.0, 1.0), min_size=4, max_size=4).filter(
    lambda q: np.linalg.norm(q) > 1e-3
)


@pytest.mark.parametrize("representation", ROTATIONS)
@given(quaternion=quaternions)
def test_a_rotation_survives_the_way_there_and_back(representation, quaternion):
    matrix = to_matrix(np.array(quaternion), "quaternion")
    numbers = from_matrix(matrix, representation)
    assert numbers.shape == (WIDTHS[representation],)
    assert to_matrix(numbers, representation) == pytest.approx(matrix, abs=1e-6)


@given(quaternion=quaternions)
def test_a_matrix_is_a_rotation(quaternion):
    matrix = to_matrix(np.array(quaternion), "quaternion")
    assert matrix @ matrix.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1.0)


def test_rpy_turns_about_fixed_axes_roll_first():
    matrix = to_matrix(np.array([np.pi / 2, 0.0, np.pi / 2]), "rpy")
    assert matrix @ [0.0, 1.0, 0.0] == pytest.approx([0.0, 0.0, 1.0])
    assert matrix @ [0.0, 0.0, 1.0] == pytest.approx([1.0, 0.0, 0.0])


def test_w_comes_first_where_the_name_says_so():
    turn = np.array([0.1, 0.2, 0.3, 0.9])
    assert to_matrix(np.roll(turn, 1), "quaternion_wxyz") == pytest.approx(
        to_matrix(turn, "quaternion")
    )


@pytest.mark.parametrize("pitch", [np.pi / 2, -np.pi / 2])
def test_rpy_is_defined_where_the_hand_points_straight_up(pitch):
    matrix = to_matrix(np.array([0.3, pitch, 0.4]), "rpy")
    assert to_matrix(from_matrix(matrix, "rpy"), "rpy") == pytest.approx(matrix, abs=1e-7)


@pytest.mark.parametrize(
    ("numbers", "representation"),
    [([0, 0, 0, 0], "quaternion"), ([1, 0, 0, 2, 0, 0], "rotation_6d"), ([0] * 6, "rotation_6d")],
)
def test_numbers_that_describe_no_rotation_are_refused(numbers, representation):
    with pytest.raises(ValueError, match="no rotation"):
        to_matrix(np.array(numbers, float), representation)


def test_axis_angle_keeps_the_sign_of_the_quaternion():
    """robosuite does not choose among q and -q, and LIBERO's states come from there."""
    angle = 3.2
    quaternion = np.array([np.sin(angle / 2), 0.0, 0.0, np.cos(angle / 2)])
    assert axis_angle_of(quaternion) == pytest.approx([3.2, 0.0, 0.0])
    assert axis_angle_of(-quaternion) == pytest.approx([3.2 - 2 * np.pi, 0.0, 0.0])


@given(angle=st.floats(2.9, 3.4), sign=st.sampled_from([-1.0, 1.0]))
def test_the_nearest_vector_does_not_jump_at_pi(angle, sign):
    quaternion = sign * np.array([np.sin(angle / 2), 0.0, 0.0, np.cos(angle / 2)])
    vector = nearest_axis_angle(axis_angle_of(quaternion), np.array([np.pi, 0.0, 0.0]))
    assert vector == pytest.approx([angle, 0.0, 0.0], abs=1e-9)
