"""A profile that does not fit the checkpoint is refused with both lists."""

from __future__ import annotations

import pytest

from vla_pruner_ros.robots import CheckpointLayout, load_profile, mismatches, with_cameras_of

SO101 = load_profile("so101")
FITTING = CheckpointLayout(
    action_dim=6, state_dim=6, num_cameras=2,
    action_names=SO101.action_names, state_names=SO101.state_names,
)  # fmt: skip


def test_a_checkpoint_that_names_the_same_features_fits():
    assert mismatches(SO101, FITTING) == []


def test_a_checkpoint_without_names_or_state_fits_by_its_widths():
    assert mismatches(SO101, CheckpointLayout(action_dim=6)) == []


@pytest.mark.parametrize(
    ("checkpoint", "names"),
    [
        (CheckpointLayout(14), ["gives 14 action numbers", "so101 explains 6", "gripper.pos"]),
        (CheckpointLayout(6, 8), ["takes 8 state numbers", "so101 gives 6", "shoulder_pan.pos"]),
        (
            CheckpointLayout(6, num_cameras=3, camera_names=("top", "side", "wrist")),
            ["sees 3 cameras (top, side, wrist)", "names 2 (front, wrist)"],
        ),
        (
            CheckpointLayout(6, action_names=("x", "y", "z", "roll", "pitch", "yaw")),
            ["action numbers are x, y, z, roll", "so101 has shoulder_pan.pos"],
        ),
        (
            CheckpointLayout(6, 6, state_names=tuple("abcdef")),
            ["state numbers are a, b, c, d, e, f"],
        ),
    ],
)
def test_what_differs_is_named_with_both_lists(checkpoint, names):
    (sentence,) = mismatches(SO101, checkpoint)
    for name in names:
        assert name in sentence


RELATIVE = """\
format: 1
source: a test
control_rate: 10.0
action:
  - {kind: joint_position, joints: [a, b], unit: rad, relative_to_state: true}
  - {kind: gripper, closed: 0, open: 1}
"""


def test_the_state_is_not_added_twice(tmp_path):
    path = tmp_path / "relative.yaml"
    path.write_text(RELATIVE)
    robot = load_profile(str(path))
    assert mismatches(robot, CheckpointLayout(3)) == []
    (sentence,) = mismatches(robot, CheckpointLayout(3, relative=(True, True, True)))
    assert "already adds the state to a, b;" in sentence
    excluded = CheckpointLayout(3, relative=(True, False, False))
    assert "adds the state to a;" in mismatches(robot, excluded)[0]
    assert mismatches(robot, CheckpointLayout(3, relative=(False, False, True))) == []


ALOHA = load_profile("aloha")
SEEN = tuple(f"observation.images.cam_{name}" for name in ("high", "left_wrist", "right_wrist"))


def test_the_cameras_are_those_of_the_checkpoint_in_its_order():
    """An ALOHA checkpoint of three cameras got the low one as its second."""
    layout = CheckpointLayout(14, 14, num_cameras=3, camera_names=SEEN)
    assert mismatches(ALOHA, layout) == []
    names = [camera.name for camera in with_cameras_of(ALOHA, layout).cameras]
    assert names == ["cam_high", "cam_left_wrist", "cam_right_wrist"]
    unnamed = CheckpointLayout(14, 14, num_cameras=3)
    assert with_cameras_of(ALOHA, unnamed) is ALOHA


def test_a_camera_that_would_be_taken_for_another_is_refused_with_both_lists():
    layout = CheckpointLayout(6, num_cameras=2, camera_names=("wrist", "top"))
    (sentence,) = mismatches(SO101, layout)
    assert "cameras are (wrist, top), but profile so101 has front, wrist: wrist would" in sentence
    fine = CheckpointLayout(6, num_cameras=2, camera_names=("top", "wrist"))
    assert mismatches(SO101, fine) == []
    assert with_cameras_of(SO101, fine) is SO101
