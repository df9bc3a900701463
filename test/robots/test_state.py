"""States in a checkpoint's order and units."""

from __future__ import annotations

import numpy as np
import pytest

from vla_pruner_ros.robots import Measured, StateError, assemble_state, load_profile, oriented
from vla_pruner_ros.robots.profile import Camera, RobotProfile, StateField
from vla_pruner_ros.robots.rotations import from_matrix, to_matrix

DOWN = np.array([1.0, 0.0, 0.0, 0.0])
"""A hand that points down: half a turn about x."""


def libero(w: float = 0.0, fingers: float = 0.04) -> Measured:
    turn = np.array([np.sqrt(1.0 - w * w), 0.0, 0.0, w])
    joints = {"panda_finger_joint1": fingers, "panda_finger_joint2": fingers}
    return Measured(joints, np.array([0.4, 0.0, 0.2]), turn)


def test_libero_takes_position_rotation_vector_and_fingers():
    state = assemble_state(load_profile("franka_libero"), libero())
    assert state == pytest.approx([0.4, 0.0, 0.2, np.pi, 0.0, 0.0, 0.04, -0.04])


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("w", [-0.05, 0.0, 0.05])
def test_libero_s_rotation_does_not_jump_with_the_quaternion_s_sign(w, sign):
    measured = libero(w)
    flipped = Measured(measured.joints, measured.position, sign * measured.orientation)
    state = assemble_state(load_profile("franka_libero"), flipped)
    assert state[3] == pytest.approx(2 * np.arccos(w), abs=1e-9)


def test_so101_takes_degrees_and_percent():
    names = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
    positions = (np.pi / 2, 0.0, 0.0, 0.0, -np.pi / 4, (1.7453 - 0.1745) / 2)
    measured = Measured(dict(zip(names, positions, strict=True)))
    state = assemble_state(load_profile("so101"), measured)
    assert state == pytest.approx([90.0, 0.0, 0.0, 0.0, -45.0, 50.0])


def test_droid_takes_a_gripper_that_is_one_when_closed():
    robot = load_profile("franka_droid")
    joints = dict.fromkeys(robot.joints, 0.1)
    closed = Measured({**joints, "robotiq_85_left_knuckle_joint": 0.8})
    assert assemble_state(robot, closed) == pytest.approx([0.1] * 7 + [1.0])


@pytest.mark.parametrize(
    "representation", ["rpy", "axis_angle", "quaternion", "quaternion_wxyz", "rotation_6d"]
)
def test_a_pose_is_given_in_any_representation(representation):
    turn = to_matrix(np.array([0.1, -0.2, 0.3]), "rpy")
    numbers = from_matrix(turn, representation)
    width = len(numbers)
    field = StateField(
        names=tuple("abcdef"[:width]), scale=(1.0,) * width, offset=(0.0,) * width,
        source="pose", representation=representation,
    )  # fmt: skip
    robot = RobotProfile("test", "a test", 10.0, (), state=(field,))
    measured = Measured({}, np.zeros(3), from_matrix(turn, "quaternion"))
    assert assemble_state(robot, measured) == pytest.approx(numbers)


def test_silent_joints_are_named():
    measured = libero()
    without = Measured({"elsewhere": 0.0}, measured.position, measured.orientation)
    with pytest.raises(StateError, match=r"panda_finger_joint1, .*joint2 .*\(there: elsewhere\)"):
        assemble_state(load_profile("franka_libero"), without)


def test_a_missing_pose_is_named():
    with pytest.raises(StateError, match="end_effector_pose"):
        assemble_state(load_profile("franka_libero"), Measured(libero().joints))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_joint_that_is_not_finite_is_named(value):
    with pytest.raises(StateError, match="panda_finger_joint1, panda_finger_joint2 are not finite"):
        assemble_state(load_profile("franka_libero"), libero(fingers=value))


def sample_image() -> np.ndarray:
    image = np.zeros((4, 8, 3), np.uint8)
    image[0, 0] = 255  # top left
    return image


@pytest.mark.parametrize(
    ("rotation", "shape", "corner"),
    [(0, (4, 8), (0, 0)), (90, (8, 4), (7, 0)), (180, (4, 8), (3, 7)), (270, (8, 4), (0, 3))],
)
def test_an_image_is_turned_counter_clockwise(rotation, shape, corner):
    turned = oriented(sample_image(), Camera("a", rotation))
    assert turned.shape == (*shape, 3)
    assert turned[corner].tolist() == [255, 255, 255]
    assert turned.flags.c_contiguous


def test_an_image_is_cropped_after_it_is_turned():
    kept = oriented(sample_image(), Camera("a", 180, (0.5, 0.5, 1.0, 1.0)))
    assert kept.shape == (2, 4, 3)
    assert kept[-1, -1].tolist() == [255, 255, 255]
    assert oriented(sample_image(), Camera("a", 0, (0.0, 0.0, 0.01, 0.01))).shape == (1, 1, 3)
