"""The settings shipped for controllers fit what the node sends."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy", reason="ROS 2 is not installed: parameters need its messages")

from vla_pruner_ros.nodes.vla_pruner.parameters import make_settings, parameter_specs

CONFIG = Path(__file__).resolve().parents[2] / "config"

SERVO_NAMES = {
    "move_group_name", "command_in_type", "scale", "apply_twist_commands_about_ee_frame",
    "cartesian_command_in_topic", "incoming_command_timeout", "publish_period", "command_out_type",
    "command_out_topic", "publish_joint_positions", "publish_joint_velocities",
    "publish_joint_accelerations", "check_collisions", "collision_check_rate",
    "self_collision_proximity_threshold", "scene_collision_proximity_threshold",
    "lower_singularity_threshold", "hard_stop_singularity_threshold", "joint_topic",
}  # fmt: skip
"""Parameters of servo_parameters.yaml in moveit_servo, ROS 2 Jazzy and Kilted: it ignores any other
name.
"""


def read(name: str) -> dict:
    return yaml.safe_load((CONFIG / f"{name}.yaml").read_text())


def default(name: str):
    return parameter_specs()[name].default


@pytest.fixture
def servo():
    return read("moveit_servo")["/**"]["ros__parameters"]["moveit_servo"]


def test_servo_knows_every_name(servo):
    assert servo.keys() == SERVO_NAMES


def test_servo_takes_twists_as_velocities_about_the_hand(servo):
    assert servo["command_in_type"] == "speed_units"
    assert servo["apply_twist_commands_about_ee_frame"]


def test_servo_does_not_cut_the_fastest_action_short(servo):
    """Its own limits, 0.4 m/s and 0.8 rad/s, are below what the node may command."""
    rate = default("control_rate")
    assert servo["scale"]["linear"] == pytest.approx(rate * default("max_translation"))
    assert servo["scale"]["rotational"] == pytest.approx(rate * default("max_rotation"))


def test_servo_does_not_halt_between_two_twists(servo):
    slowest_twist = 1.0 / parameter_specs()["command_rate"].low
    assert slowest_twist < servo["incoming_command_timeout"]


def test_cartesian_controller_takes_targets_in_the_frame_they_are_given_in():
    content = read("cartesian_pose")
    controller = content["/**/cartesian_motion_controller"]["ros__parameters"]
    own = content["/**/vla_pruner"]["ros__parameters"]
    assert controller["robot_base_link"] == own["action_frame"] == default("action_frame")
    names = content["/**/controller_manager"]["ros__parameters"]
    assert names["cartesian_motion_controller"]["type"].startswith("cartesian_motion_controller/")


JTC_NAMES = {
    "joints", "command_joints", "command_interfaces", "state_interfaces",
    "allow_partial_joints_goal", "interpolation_method", "open_loop_control",
    "allow_nonzero_velocity_at_trajectory_end", "cmd_timeout", "gains", "constraints",
    "action_monitor_rate",
}  # fmt: skip
"""Names of joint_trajectory_controller_parameters.yaml in ros2_controllers, Jazzy and Kilted."""


def test_a_trajectory_controller_knows_every_name_and_takes_positions_alone():
    content = read("joint_trajectory")
    own = content["/**/joint_trajectory_controller"]["ros__parameters"]
    assert own.keys() <= JTC_NAMES
    assert own["command_interfaces"] == ["position"]
    names = content["/**/controller_manager"]["ros__parameters"]
    kind = names["joint_trajectory_controller"]["type"]
    assert kind == "joint_trajectory_controller/JointTrajectoryController"


def test_a_forward_command_controller_knows_every_name():
    content = read("forward_command")
    own = content["/**/forward_position_controller"]["ros__parameters"]
    assert own.keys() == {"joints", "interface_name"}
    names = content["/**/controller_manager"]["ros__parameters"]
    kind = names["forward_position_controller"]["type"]
    assert kind == "forward_command_controller/ForwardCommandController"


@pytest.mark.parametrize("name", ["joint_trajectory", "forward_command", "cartesian_pose"])
def test_what_is_set_for_the_node_is_allowed_there(name):
    values = read(name)["/**/vla_pruner"]["ros__parameters"]
    assert values.keys() <= parameter_specs().keys()
    make_settings(values)
