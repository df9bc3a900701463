"""Grippers through the actions of control_msgs, against action servers of their own.

control_msgs has no wheel: these tests run where ROS 2 is installed with it, and are skipped
elsewhere.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("trajectory_msgs", reason="trajectory_msgs is missing")
control_actions = pytest.importorskip(
    "control_msgs.action", reason="control_msgs is not installed: ros-$ROS_DISTRO-control-msgs"
)

from lifecycle_msgs.msg import Transition
from node_helpers import ControlledPolicy, bench
from rclpy.action import ActionServer, GoalResponse

from vla_pruner_ros.robots import load_profile

PROFILE = """\
format: 1
source: a test
control_rate: 20.0
grippers:
  hand: {joints: [finger], closed: 0.0, open: 0.04}
action:
  - {kind: end_effector_delta, representation: position, unit: m}
  - {kind: gripper, closed: 0.0, open: 1.0}
"""
FAST = {"control_rate": 20.0, "max_image_age": 2.0, "latency_compensation": False}
TYPES = {"gripper_command": "GripperCommand", "parallel_gripper_command": "ParallelGripperCommand"}
KINDS = [kind for kind, name in TYPES.items() if hasattr(control_actions, name)]
"""Humble's control_msgs has the first one alone."""


class GripperPolicy(ControlledPolicy):
    """Moves along x and opens the gripper as far as the test says."""

    def __init__(self, robot: str) -> None:
        super().__init__(chunk_size=2)
        self.robot, self.opening = robot, 1.0
        self.respond = self._follow_brightness

    def _follow_brightness(self, observation) -> np.ndarray:
        x = 0.001 + 1e-5 * float(observation.images[0].mean())
        return np.tile([x, 0.0, 0.0, self.opening], (self.chunk_size, 1))


@pytest.fixture
def robot(tmp_path) -> str:
    path = tmp_path / "hand.yaml"
    path.write_text(PROFILE)
    return str(path)


@contextmanager
def server(b, kind: str, name: str, accepts: bool = True):
    """A gripper's driver: the goals that it carried out."""
    goals: list = []
    action = getattr(control_actions, TYPES[kind])
    arrived = threading.Condition()

    def execute(handle):
        with arrived:
            goals.append(handle.request.command)
        handle.succeed()
        return action.Result(reached_goal=True)

    answer = GoalResponse.ACCEPT if accepts else GoalResponse.REJECT
    running = ActionServer(b.client, action, name, execute, goal_callback=lambda _: answer)
    try:
        yield goals
    finally:
        running.destroy()


def position_of(goal, kind: str) -> float:
    return goal.position if kind == "gripper_command" else goal.position[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_goal_is_sent_whenever_the_opening_changes(kind, robot):
    policy = GripperPolicy(robot)
    settings = {"gripper_action": kind, "gripper_max_effort": 12.5}
    with bench(policy, **settings, **FAST) as b, server(b, kind, "gripper/gripper_cmd") as goals:
        b.activate()
        b.show_until(lambda: goals, "the first goal")
        assert position_of(goals[0], kind) == pytest.approx(0.04), "open, in metres of the finger"
        if kind == "gripper_command":
            assert goals[0].max_effort == 12.5
        else:
            assert list(goals[0].name) == ["finger"]
            assert list(goals[0].effort) == [12.5]
        actions = b.count("actions")
        b.show_until(lambda: b.count("actions") > actions + 5, "five actions more")
        assert len(goals) == 1, "the same opening again starts no new motion"
        policy.opening = 0.25
        b.show_until(lambda: len(goals) > 1, "the second goal")
        assert position_of(goals[1], kind) == pytest.approx(0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_two_grippers_have_a_server_each(kind):
    policy = ControlledPolicy(state_dim=14, chunk_size=4)
    policy.robot = "aloha"
    start = [0.0, -0.96, 1.16, 0.0, -0.3, 0.0]
    chunk = np.tile([*start, 1.0, *start, 0.0], (4, 1))
    policy._follow_brightness = lambda seen: chunk + 1e-6 * seen.images[0].mean()
    policy.respond = lambda _: chunk
    profile = load_profile("aloha")
    places = dict(zip(profile.joints, start * 2, strict=True))
    places |= {"left_left_finger": 0.03, "right_left_finger": 0.03}
    settings = {"gripper_action": kind, "separate_arms": True}
    with (
        bench(policy, **settings, **FAST) as b,
        server(b, kind, "left_gripper/gripper_cmd") as left,
        server(b, kind, "right_gripper/gripper_cmd") as right,
    ):
        b.activate()

        def both() -> bool:
            b.send_joint_state(list(places), list(places.values()))
            return bool(left and right)

        b.show_until(both, "a goal for each gripper")
        assert position_of(left[0], kind) == pytest.approx(0.058)
        assert position_of(right[0], kind) == pytest.approx(0.01844)
        if kind == "parallel_gripper_command":
            assert [list(goal.name) for goal in (left[0], right[0])] == [["left_finger"]] * 2


def test_a_goal_without_a_server_is_counted_and_sent_later(robot):
    """A driver may start after the node: the arm moves, and the gripper's goal is not lost."""
    policy = GripperPolicy(robot)
    with bench(policy, gripper_action=KINDS[0], **FAST) as b:
        b.activate()
        b.show_until(lambda: b.count("gripper_goals_lost"), "a goal that found no server")
        with server(b, KINDS[0], "gripper/gripper_cmd") as goals:
            b.show_until(lambda: goals, "the goal, once the driver is there")
            assert goals[0].position == pytest.approx(0.04)


def test_a_dry_run_sends_no_goal(robot):
    policy = GripperPolicy(robot)
    settings = {"gripper_action": KINDS[0], "dry_run": True}
    with (
        bench(policy, **settings, **FAST) as b,
        server(b, KINDS[0], "gripper/gripper_cmd") as goals,
    ):
        b.activate()
        b.show_until(lambda: b.count("actions") > 5, "actions of a dry run")
        assert not goals


def test_a_stop_sends_no_goal_and_a_new_start_sends_one(robot):
    policy = GripperPolicy(robot)
    kind = KINDS[0]
    with (
        bench(policy, gripper_action=kind, **FAST) as b,
        server(b, kind, "gripper/gripper_cmd") as goals,
    ):
        b.activate()
        b.show_until(lambda: goals, "a goal")
        assert b.change_state(Transition.TRANSITION_DEACTIVATE)
        assert len(goals) == 1
        assert b.change_state(Transition.TRANSITION_ACTIVATE)
        b.show_until(lambda: len(goals) == 2, "a goal after the new start")


def test_a_goal_that_the_driver_refuses_is_counted(robot):
    kind = KINDS[0]
    with (
        bench(GripperPolicy(robot), gripper_action=kind, **FAST) as b,
        server(b, kind, "gripper/gripper_cmd", accepts=False) as goals,
    ):
        b.activate()
        b.show_until(lambda: b.count("gripper_goals_refused") == 1, "the refusal")
        assert not goals
