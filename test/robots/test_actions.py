"""Meaning of action numbers: units, signs, frames, grippers, and the way back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vla_pruner_ros.robots import (
    Commands,
    Measured,
    StateError,
    bundled_profiles,
    decode_actions,
    encode_actions,
    load_profile,
)
from vla_pruner_ros.robots.profile import ActionField, Gripper, RobotProfile
from vla_pruner_ros.robots.rotations import from_matrix, to_matrix

SIDEWAYS = from_matrix(to_matrix(np.array([0.0, 0.0, np.pi / 2]), "rpy"), "quaternion")
AT = Measured({"a": 0.5, "b": -0.25}, position=np.array([0.4, 0.1, 0.3]), orientation=SIDEWAYS)


def part(kind: str, count: int = 3, **fields) -> ActionField:
    names = fields.pop("names", tuple(f"{kind}_{n}" for n in range(count)))
    ones = (1.0,) * len(names)
    return ActionField(**{"names": names, "scale": ones, "offset": (0.0,) * len(names),
                          "kind": kind, **fields})  # fmt: skip


def profile(*fields: ActionField, **others) -> RobotProfile:
    grippers = {f.gripper: Gripper(f.gripper) for f in fields if f.gripper}
    return RobotProfile("test", "a test", 10.0, fields, grippers=grippers, **others)


def decode(robot: RobotProfile, *rows, start: Measured = AT, period: float = 0.1) -> Commands:
    return decode_actions(robot, np.array(rows, float), start, period)


@pytest.mark.parametrize(
    ("robot", "number", "opening"),
    [
        ("franka_libero", 1.0, 1.0), ("franka_libero", 0.0, 0.0),
        ("franka_libero_pi0", -1.0, 1.0), ("franka_libero_pi0", 1.0, 0.0),
        ("widowx_bridge", 1.0, 1.0), ("widowx_bridge", 0.0, 0.0),
        ("metaworld", 1.0, 1.0), ("metaworld", 0.25, 0.25),
        ("franka_droid", 0.0, 1.0), ("franka_droid", 1.0, 0.0),
        ("so101", 100.0, 1.0), ("so101", 25.0, 0.25),
        ("aloha", 1.0, 1.0), ("ur5", 1.0, 0.0),
    ],
)  # fmt: skip
def test_grippers_of_bundled_profiles_open_at_their_number(robot, number, opening):
    loaded = load_profile(robot)
    actions = np.zeros((1, loaded.action_dim))
    for place, name in enumerate(loaded.action_names):
        if "gripper" in name:
            actions[:, place] = number
    start = Measured(dict.fromkeys(loaded.joints, 0.0))
    assert set(decode_actions(loaded, actions, start, 0.1).openings[0]) == {opening}


def test_half_a_libero_action_is_25_millimetres_with_the_gripper_open():
    """Taken for metres it was 50 mm (after the limit) with the gripper closed."""
    commands = decode(load_profile("franka_libero_pi0"), [0.5, 0, 0, 0, 0, 0, -1])
    assert commands.displacements[0] == pytest.approx([0.025, 0, 0, 0, 0, 0])
    assert commands.openings[0] == [1.0]


def test_libero_turns_half_a_radian_about_the_base_axes():
    commands = decode(load_profile("franka_libero"), [0, 0, 0, 0, 0, 1.0, 1])
    assert commands.displacements[0] == pytest.approx([0, 0, 0, 0, 0, 0.5])


def test_a_droid_velocity_of_one_is_a_fifth_of_a_radian_a_step():
    robot = load_profile("franka_droid")
    start = Measured(dict.fromkeys(robot.joints, 0.1))
    one, two = np.eye(8)[0], 2 * np.eye(8)[0]
    targets = decode_actions(robot, np.stack([one, two]), start, 1.0 / 15.0).joints
    assert targets[:, 0] == pytest.approx([0.3, 0.7])
    assert targets[:, 1:] == pytest.approx(0.1)


def test_degrees_become_radians():
    robot = load_profile("so101")
    start = Measured(dict.fromkeys(robot.joints, 0.0))
    targets = decode_actions(robot, np.array([[90.0, -45, 0, 0, 0, 50]]), start, 0.1).joints
    assert targets[0, :2] == pytest.approx([np.pi / 2, -np.pi / 4])


def test_relative_positions_start_from_the_state_of_the_image():
    robot = profile(part("joint_position", joints=("a", "b"), names=("a", "b"), unit="rad",
                         relative_to_state=True))  # fmt: skip
    targets = decode(robot, [0.1, 0.2], [0.3, 0.4]).joints
    assert targets == pytest.approx(np.array([[0.6, -0.05], [0.8, 0.15]]))


def test_deltas_add_up():
    robot = profile(part("joint_delta", joints=("a", "b"), names=("a", "b"), unit="rad"))
    targets = decode(robot, [0.1, 0.0], [0.1, -0.1]).joints
    assert targets == pytest.approx(np.array([[0.6, -0.25], [0.7, -0.35]]))


def test_sign_and_offset_are_applied_before_the_unit():
    joints = part("joint_position", joints=("a", "b"), names=("a", "b"), unit="deg",
                  scale=(-1.0, 1.0), offset=(0.0, 90.0))  # fmt: skip
    assert decode(profile(joints), [90.0, 0.0]).joints[0] == pytest.approx([-np.pi / 2, np.pi / 2])


def test_a_tool_displacement_follows_the_hand():
    robot = profile(part("end_effector_delta", representation="position", unit="m", frame="tool"))
    assert decode(robot, [0.1, 0.0, 0.0]).displacements[0, :3] == pytest.approx([0, 0.1, 0])


def test_a_tool_displacement_follows_the_hand_as_it_turns():
    move = part("end_effector_delta", representation="position", unit="m", frame="tool")
    turn = part("end_effector_delta", representation="rpy", unit="rad", frame="tool",
                names=("r", "p", "y"))  # fmt: skip
    quarter = [0.1, 0, 0, 0, 0, np.pi / 2]
    moves = decode(profile(move, turn), quarter, quarter).displacements[:, :3]
    assert moves == pytest.approx(np.array([[0, 0.1, 0], [-0.1, 0, 0]]), abs=1e-12)


def test_an_absolute_position_keeps_the_orientation():
    robot = profile(part("end_effector_absolute", representation="position", unit="mm"))
    assert decode(robot, [400.0, 0.0, 300.0]).poses[0] == pytest.approx([0.4, 0, 0.3, *SIDEWAYS])


def test_unused_numbers_are_left_out():
    robot = profile(
        part("end_effector_delta", representation="position", unit="m"), part("unused", 25)
    )
    assert decode(robot, [0.01, 0, 0, *[9.0] * 25]).displacements[0, 0] == 0.01


@pytest.mark.parametrize(("number", "opening"), [(0.51, 1.0), (0.49, 0.0), (7.0, 1.0), (-7.0, 0.0)])
def test_a_threshold_opens_or_closes_fully(number, opening):
    field = part("gripper", 1, gripper="hand", closed=0.0, open=1.0, threshold=0.5)
    robot = profile(part("end_effector_delta", representation="position", unit="m"), field)
    assert decode(robot, [0, 0, 0, number]).openings[0] == [opening]


def test_a_gripper_number_that_is_not_finite_stays_so_and_does_not_close():
    field = part("gripper", 1, gripper="hand", closed=0.0, open=1.0, threshold=0.5)
    robot = profile(part("end_effector_delta", representation="position", unit="m"), field)
    assert np.isnan(decode(robot, [0, 0, 0, np.nan]).openings[0, 0])


def test_another_width_is_refused_with_the_names():
    with pytest.raises(
        ValueError, match=r"14 numbers, but profile so101 explains 6 .*gripper\.pos"
    ):
        decode(load_profile("so101"), [0.0] * 14)


def test_missing_joints_are_named():
    with pytest.raises(StateError, match=r"joints left_waist, .* \(there: a, b\)"):
        decode(load_profile("aloha"), [0.0] * 14)


def test_a_pose_that_is_needed_and_not_known_is_named():
    robot = profile(part("end_effector_delta", representation="position", unit="m", frame="tool"))
    with pytest.raises(StateError, match="needs end_effector_pose"):
        decode(robot, [0.1, 0, 0], start=replace(AT, position=None, orientation=None))


small = st.floats(-0.5, 0.5)


@pytest.mark.parametrize("name", bundled_profiles())
@settings(max_examples=25)
@given(data=st.data())
def test_what_is_encoded_decodes_to_the_same_commands(name, data):
    """Programs that act through a profile prove its decoding, because the two are inverse."""
    robot = load_profile(name)
    start = Measured(dict.fromkeys(robot.needed_joints, 0.2), AT.position, AT.orientation)
    array = lambda width: data.draw(hnp.arrays(float, (3, width), elements=small))
    binary = data.draw(
        hnp.arrays(float, (3, len(robot.commanded_grippers)), elements=st.sampled_from([0.0, 1.0]))
    )
    expected = Commands(
        None if robot.joints else array(6),
        None,
        array(len(robot.joints)) if robot.joints else None,
        binary,
    )
    numbers = encode_actions(robot, expected, start, 0.1)
    assert numbers.shape == (3, robot.action_dim)
    found = decode_actions(robot, numbers, start, 0.1)
    assert found.openings == pytest.approx(expected.openings)
    if robot.joints:
        assert found.joints == pytest.approx(expected.joints, abs=1e-9)
    else:
        assert found.displacements == pytest.approx(expected.displacements, abs=1e-9)


@pytest.mark.parametrize("shape", ["rpy", "axis_angle"])
@pytest.mark.parametrize("frame", ["base", "tool"])
@given(rows=hnp.arrays(float, (4, 6), elements=small))
def test_displacements_survive_any_frame(shape, frame, rows):
    robot = profile(
        part("end_effector_delta", representation="position", unit="cm", frame=frame),
        part("end_effector_delta", representation=shape, unit="deg", frame=frame,
             names=("r", "p", "y")),
    )  # fmt: skip
    expected = Commands(rows, None, None, np.zeros((4, 0)))
    found = decode_actions(robot, encode_actions(robot, expected, AT, 0.1), AT, 0.1)
    assert found.displacements == pytest.approx(rows, abs=1e-9)


@pytest.mark.parametrize(
    "shape", ["rpy", "axis_angle", "quaternion", "quaternion_wxyz", "rotation_6d"]
)
@given(angles=st.tuples(small, small, small))
def test_absolute_poses_survive_any_representation(shape, angles):
    count = {"quaternion": 4, "quaternion_wxyz": 4, "rotation_6d": 6}.get(shape, 3)
    robot = profile(
        part("end_effector_absolute", representation="position", unit="m"),
        part("end_effector_absolute", count, representation=shape, unit="",
             names=tuple("abcdef"[:count])),
    )  # fmt: skip
    turn = from_matrix(to_matrix(np.array(angles), "rpy"), "quaternion")
    poses = np.array([[0.1, 0.2, 0.3, *turn]])
    expected = Commands(None, poses, None, np.zeros((1, 0)))
    found = decode_actions(robot, encode_actions(robot, expected, AT, 0.1), AT, 0.1)
    assert found.poses == pytest.approx(poses, abs=1e-9)
