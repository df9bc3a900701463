"""A robot profile next to real LeRobot checkpoints: relative actions, cameras, control rate."""

from __future__ import annotations

import json
import shutil

import pytest
from model_helpers import checkpoints
from node_helpers import ControlledPolicy, bench

from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.policy import CheckpointError
from vla_pruner_ros.nodes.vla_pruner.loading import load_robot
from vla_pruner_ros.nodes.vla_pruner.parameters import make_settings
from vla_pruner_ros.robots import CheckpointLayout

__all__ = ["checkpoints"]

JOINTS = [f"joint_{number}" for number in range(6)]
PROFILE = f"""\
format: 1
source: a test
control_rate: 20.0
action:
  - {{kind: joint_position, joints: [{", ".join(JOINTS)}], unit: rad, relative_to_state: RELATIVE}}
  - {{kind: gripper, closed: 0.0, open: 1.0}}
"""


def relative_checkpoint(source, tmp_path, **changes):
    """A copy of a checkpoint whose policy adds the state to its actions, but for the gripper."""
    directory = shutil.copytree(source, tmp_path / "checkpoint")
    config = json.loads((directory / "config.json").read_text())
    names = [*JOINTS, "gripper"]
    config |= {"use_relative_actions": True, "action_feature_names": names, **changes}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def settings_of(tmp_path, relative: str):
    path = tmp_path / "arm.yaml"
    path.write_text(PROFILE.replace("RELATIVE", relative))
    return make_settings({"robot": str(path)})


@pytest.mark.parametrize("family", ["pi05", "smolvla"])
def test_a_profile_may_not_add_the_state_that_the_policy_adds(family, checkpoints, tmp_path):
    """The families never said what their policies add: 14 joints moved twice as far."""
    policy = load_policy(relative_checkpoint(checkpoints(family), tmp_path))
    assert policy.spec.relative_actions == (True,) * 6 + (False,)
    with pytest.raises(CheckpointError, match=f"already adds the state to {', '.join(JOINTS)};"):
        load_robot(policy, settings_of(tmp_path, "true"), 7)
    assert load_robot(policy, settings_of(tmp_path, "false"), 7).name == "arm"


@pytest.mark.parametrize(
    ("excluded", "expected"),
    [
        (None, (True,) * 6 + (False,)),
        (["gripper"], (True,) * 6 + (False,)),
        (["JOINT_1", ""], (True, False) + (True,) * 5),
        ([], (True,) * 7),
        (["joint"], (False,) * 6 + (True,)),
    ],
)
def test_the_excluded_joints_are_those_of_lerobot(excluded, expected, checkpoints, tmp_path):
    """Its RelativeActionsProcessorStep: a word anywhere in the name, in small letters."""
    changes = {} if excluded is None else {"relative_exclude_joints": excluded}
    policy = load_policy(relative_checkpoint(checkpoints("pi05"), tmp_path, **changes))
    assert CheckpointLayout.of(policy, 7).relative == expected


def test_a_policy_without_relative_actions_says_so(checkpoints, tmp_path):
    policy = load_policy(checkpoints("pi0"))
    assert CheckpointLayout.of(policy, 7).relative == ()
    assert load_robot(policy, settings_of(tmp_path, "true"), 7).name == "arm"


def test_the_parameter_control_rate_wins_over_the_profiles(tmp_path, capfd):
    """The profile tells at which rate the data was taken; the arm may have to go slower."""
    path = tmp_path / "arm.yaml"
    path.write_text(
        "format: 1\nsource: a test\ncontrol_rate: 5.0\naction:\n"
        "  - {kind: end_effector_delta, representation: position, unit: m}\n"
        "  - {kind: end_effector_delta, representation: rpy, unit: rad}\n"
        "  - {kind: gripper, closed: 0.0, open: 1.0}\n"
    )
    policy = ControlledPolicy(chunk_size=4)
    policy.robot = str(path)
    from vla_pruner_ros.msg import ActionChunk, EndEffectorAction

    with bench(policy, control_rate=20.0) as b:
        chunks = b.listen(ActionChunk, "/vla_pruner/action_chunk")
        actions = b.listen(EndEffectorAction, "/vla_pruner/action")
        b.activate()
        b.show_until(lambda: chunks and actions, "an action")
        assert chunks[0].period == pytest.approx(1.0 / 20.0)
        assert actions[0].duration.nanosec == pytest.approx(50_000_000, abs=1000)
    printed = capfd.readouterr().err
    assert "control_rate is 20 Hz, but profile arm was made for 5 Hz: the parameter wins" in printed


def test_no_warning_where_the_rates_agree(capfd):
    with bench(ControlledPolicy(), control_rate=10.0) as b:
        b.activate()
    assert "was made for" not in capfd.readouterr().err
