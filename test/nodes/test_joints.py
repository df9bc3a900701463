"""Joints and grippers through the node: limits, jump guard, hold, two publishers, dry run."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String

trajectory_msgs = pytest.importorskip("trajectory_msgs.msg", reason="trajectory_msgs is missing")

from lifecycle_msgs.msg import Transition
from node_helpers import ControlledPolicy, bench
from rclpy.qos import DurabilityPolicy, QoSProfile

from vla_pruner_ros.msg import ActionChunk, EndEffectorAction
from vla_pruner_ros.nodes.vla_pruner.commands.repeats import STOPS
from vla_pruner_ros.robots import bundled_profiles

JointTrajectory = trajectory_msgs.JointTrajectory

PROFILE = """\
format: 1
source: a test
control_rate: 20.0
grippers:
  hand: {joints: [finger], closed: 0.0, open: 0.04}
state:
  - {source: joint_states, joints: [a, b], unit: rad}
  - {source: gripper, closed: 0.0, open: 1.0}
action:
  - {kind: joint_position, joints: [a, b], unit: rad}
  - {kind: gripper, closed: 0.0, open: 1.0}
limits:
  max_velocity: 1.0
  max_jump: 0.3
  joints:
    a: {min: -1.0, max: 1.0}
    b: {min: -1.0, max: 1.0}
"""
TOPICS = {
    "trajectories": (JointTrajectory, "joint_trajectory"),
    "commands": (Float64MultiArray, "joint_command"),
    "grippers": (Float64MultiArray, "gripper_command"),
}


class JointPolicy(ControlledPolicy):
    """Leads joints a and b to where the test says, and the gripper open."""

    def __init__(self, robot: str, chunk_size: int = 4) -> None:
        super().__init__(state_dim=3, chunk_size=chunk_size)
        self.robot = robot
        self.targets = np.zeros(2)
        self.respond = lambda _: self._chunk()

    def _chunk(self) -> np.ndarray:
        return np.tile([*self.targets, 1.0], (self.chunk_size, 1))

    def _follow_brightness(self, observation) -> np.ndarray:
        return self._chunk() + 1e-6 * observation.images[0].mean()


class Joints:
    """Drivers of arm and gripper, apart from each other, at 100 and 50 Hz, on their own threads.

    positions: of a and b, which follow nothing: the test sets them.
    """

    def __init__(self, b) -> None:
        self.positions = {"a": 0.0, "b": 0.0}
        self.finger, self.silent = 0.02, set()
        self._b = b
        self._publisher = b.client.create_publisher(JointState, "joint_states", 10)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        turn = 0
        while not self._done.wait(0.01):
            names = [n for n in self.positions if n not in self.silent]
            self._send({n: self.positions[n] for n in names})
            turn += 1
            if turn % 2 and "finger" not in self.silent:
                self._send({"finger": self.finger})

    def _send(self, positions: dict[str, float]) -> None:
        message = JointState(name=list(positions), position=list(positions.values()))
        message.header.stamp = self._b.client.get_clock().now().to_msg()
        self._publisher.publish(message)


@pytest.fixture
def profile(tmp_path) -> str:
    path = tmp_path / "two_joints.yaml"
    path.write_text(PROFILE)
    return str(path)


def listen(b, prefix: str = "/vla_pruner/") -> dict[str, list]:
    return {key: b.listen(kind, prefix + name) for key, (kind, name) in TOPICS.items()}


def last_points(trajectory) -> list[float]:
    return list(trajectory.points[-1].positions)


FAST = {"control_rate": 20.0, "max_image_age": 2.0}


@contextmanager
def in_motion(profile):
    """A node that moves joints a and b: bench, joints and what it sends."""
    policy = JointPolicy(profile, chunk_size=20)
    policy.targets = np.array([0.2, 0.2])
    with bench(policy, **FAST) as b, Joints(b) as joints:
        heard = listen(b)
        b.activate()
        b.show_until(lambda: len(heard["commands"]) >= 2, "motion")
        yield b, joints, heard


def test_a_chunk_becomes_a_trajectory_and_commands_within_their_steps(profile):
    policy = JointPolicy(profile)
    policy.targets = np.array([0.15, -0.1])
    with bench(policy, **FAST) as b, Joints(b):
        heard = listen(b)
        b.activate()
        b.show_until(lambda: len(heard["commands"]) >= 3, "joint commands")
        trajectory = heard["trajectories"][0]
        assert list(trajectory.joint_names) == ["a", "b"]
        assert len(trajectory.points) == 4
        times = [
            p.time_from_start.sec + p.time_from_start.nanosec * 1e-9 for p in trajectory.points
        ]
        assert times == pytest.approx([0.05, 0.1, 0.15, 0.2])
        assert not any(len(p.velocities) or len(p.accelerations) for p in trajectory.points)
        positions = np.array([p.positions for p in trajectory.points])
        assert positions[0] == pytest.approx([0.05, -0.05]), "a step from the measured joints"
        assert positions[-1] == pytest.approx([0.15, -0.1]), "and on to the target"
        assert list(heard["commands"][0].data) == pytest.approx(positions[0])
        steps = [np.subtract(y.data, x.data) for x, y in pairwise(heard["commands"])]
        assert np.abs(steps).max() <= 0.05 + 1e-9
        assert heard["grippers"][0].data[0] == pytest.approx(0.04), "open, in metres of the finger"


def test_arm_and_gripper_publish_apart_and_the_policy_sees_both(profile):
    """One newest message held half of the joints: no inference, motion held."""
    policy = JointPolicy(profile)
    with bench(policy, **FAST) as b, Joints(b) as joints:
        chunks = b.listen(ActionChunk, "/vla_pruner/action_chunk")
        joints.positions["b"] = 0.25
        b.activate()
        b.show_until(lambda: chunks, "an inference")
        assert policy.observations[-1].state == pytest.approx([0.0, 0.25, 0.5])
        chunk = chunks[-1]
        assert (chunk.robot, chunk.width) == ("two_joints", 3)
        assert list(chunk.action_names) == ["a", "b", "hand"]
        assert list(chunk.action_units) == ["rad", "rad", ""]
        assert list(chunk.state) == pytest.approx([0.0, 0.25, 0.5])
        assert list(chunk.state_names) == ["a", "b", "hand"]
        assert chunk.state_stamp.sec > 0


@pytest.mark.parametrize("silent", ["b", "finger"])
def test_one_silent_joint_stops_motion_and_is_named(silent, profile):
    with bench(JointPolicy(profile), max_state_age=0.3, **FAST) as b, Joints(b) as joints:
        heard = listen(b)
        b.activate()
        b.show_until(lambda: heard["commands"], "motion")
        joints.silent.add(silent)
        b.show_until(lambda: f"joint state of {silent}" in b.node.health.problem, "the reason")
        count = len(heard["trajectories"])
        inferences = b.count("inferences")
        b.show_until(lambda: b.count("frames_unusable") > 3, "frames that move nothing")
        assert b.count("inferences") == inferences
        assert len(heard["trajectories"]) <= count + STOPS
        joints.silent.clear()
        b.show_until(lambda: b.count("inferences") > inferences, "motion again")


def test_a_name_that_no_joint_state_has_is_told_with_file_and_line(profile):
    with bench(JointPolicy(profile), **FAST) as b, Joints(b) as joints:
        heard = listen(b)
        joints.silent.add("b")
        b.activate()
        b.show_until(lambda: f"({profile}:10 names b)" in b.node.health.problem, "the line")
        assert "joint state of b (never)" in b.node.health.problem
        assert not heard["commands"]


def test_a_stop_holds_the_measured_positions(profile):
    with in_motion(profile) as (b, joints, heard):
        joints.positions.update(a=0.07, b=0.01)
        b.until(lambda: b.node.runner.inputs.joints.positions()["b"] == 0.01, "the joints")
        b.instruct("")
        b.until(lambda: len(heard["trajectories"][-1].points) == 1, "the hold")
        assert last_points(heard["trajectories"][-1]) == pytest.approx([0.07, 0.01])
        held = lambda: list(heard["commands"][-1].data) == pytest.approx([0.07, 0.01])
        b.until(held, "the hold on the other topic")
        joints.positions.update(a=0.09)  # it ran on: the repeated stop must not lead elsewhere
        b.until(lambda: b.count("stops_repeated") == STOPS - 1, "the stop's repetition")
        b.until(lambda: len(heard["trajectories"][-STOPS].points) == 1, "all of the stop")
        b.until(lambda: list(heard["commands"][-STOPS].data) == [0.07, 0.01], "the same positions")
        for trajectory in heard["trajectories"][-STOPS:]:
            assert last_points(trajectory) == pytest.approx([0.07, 0.01])
        counts = {key: len(messages) for key, messages in heard.items()}
        frames = b.count("frames")
        b.show_until(lambda: b.count("frames") > frames + 5, "several control periods")
        assert {key: len(messages) for key, messages in heard.items()} == counts


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), 1e308, -40.0])
def test_a_stop_holds_the_last_command_if_a_measured_position_is_nonsense(nonsense, profile):
    """NaN ended the stop before it was published; 40 rad was commanded, far beyond the limits."""
    with in_motion(profile) as (b, joints, heard):
        joints.positions["b"] = nonsense
        b.show_until(lambda: len(heard["trajectories"][-1].points) == 1, "the hold")
        held = last_points(heard["trajectories"][-1])
        sent = lambda: [list(command.data) for command in heard["commands"]]
        each = [held] * (1 + STOPS)
        b.until(lambda: sent()[-len(each) :] == each, "the last command, then its hold")
        assert np.abs(held).max() <= 0.2
        assert b.count("stops") == 1


def test_nothing_starts_from_where_no_joint_can_be(profile):
    """A policy that follows the state it sees was commanded to 39.95 rad, step by step inwards."""
    policy = JointPolicy(profile)
    policy.respond = lambda seen: np.tile([*seen.state[:2], 1.0], (4, 1))
    with bench(policy, **FAST) as b, Joints(b) as joints:
        heard = listen(b)
        joints.positions["b"] = 40.0
        b.activate()
        sentence = "Joint b is measured at 40.000, outside of its limits -1.000 to 1.000"
        b.show_until(lambda: sentence in b.node.health.problem, "the reason")
        assert not heard["commands"]
        joints.positions["b"] = 1.1
        b.show_until(lambda: heard["commands"], "the way back into the range")
        assert heard["commands"][0].data[1] == pytest.approx(1.05)


def test_a_stop_that_publishes_nothing_is_not_counted(profile):
    """Nothing was commanded, so that there is nothing to hold."""
    with bench(JointPolicy(profile), **FAST) as b, Joints(b):
        heard = listen(b)
        b.activate()
        assert b.change_state(Transition.TRANSITION_DEACTIVATE)
        assert b.count("stops") == 0
        assert not any(heard.values())


def test_a_chunk_that_would_jump_is_dropped(profile):
    policy = JointPolicy(profile)
    with bench(policy, **FAST) as b, Joints(b):
        heard = listen(b)
        b.activate()
        policy.targets = np.array([0.0, 0.9])
        b.show_until(lambda: "joint b is 0.900 away" in b.node.health.problem, "the guard's reason")
        assert not heard["trajectories"]
        assert not heard["commands"]
        policy.targets = np.array([0.0, 0.1])
        b.show_until(lambda: heard["commands"], "motion once the target is near")


def test_joints_stay_within_profile_and_urdf(profile):
    urdf = (
        '<robot name="r"><joint name="b" type="revolute">'
        '<limit lower="-0.05" upper="0.05" velocity="0.4"/></joint></robot>'
    )
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    policy = JointPolicy(profile, chunk_size=20)
    policy.targets = np.array([0.25, 0.25])
    with bench(policy, **FAST) as b, Joints(b):
        b.client.create_publisher(String, "robot_description", latched).publish(String(data=urdf))
        heard = listen(b)
        b.activate()
        b.until(lambda: b.node.runner.inputs.robot_description, "the robot's description")
        b.show_until(lambda: len(heard["commands"]) > 6, "motion")
        commands = np.array([c.data for c in heard["commands"]])
        assert commands[:, 1].max() == pytest.approx(0.05)
        assert np.diff(commands[:, 1]).max() <= 0.4 / 20 + 1e-9
        assert b.count("clamped_joint_position")
        assert b.count("clamped_joint_step")


@pytest.mark.parametrize("text", ["no XML", "<robot><joint name='b' type='revolute'>"])
def test_a_description_that_is_none_stops_motion_with_a_sentence(text, profile):
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    with bench(JointPolicy(profile), **FAST) as b, Joints(b):
        b.client.create_publisher(String, "robot_description", latched).publish(String(data=text))
        heard = listen(b)
        b.activate()
        b.until(lambda: b.node.runner.inputs.robot_description, "the description")
        b.show_until(lambda: "is not XML" in b.node.health.problem, "the reason")
        assert not heard["commands"]


def test_joints_without_limits_do_not_move(tmp_path):
    path = tmp_path / "unlimited.yaml"
    path.write_text(PROFILE[: PROFILE.index("limits:")])
    with bench(JointPolicy(str(path)), **FAST) as b, Joints(b):
        heard = listen(b)
        b.activate()
        b.show_until(lambda: "no limits for joints a, b" in b.node.health.problem, "the reason")
        assert not heard["commands"]


def test_what_is_not_finite_moves_nothing(profile):
    policy = JointPolicy(profile)
    with bench(policy, **FAST) as b, Joints(b):
        heard = listen(b)
        b.activate()
        policy.targets = np.array([0.0, np.nan])
        b.show_until(lambda: b.count("failures"), "a failure")
        assert not heard["commands"]


def test_a_dry_run_computes_everything_and_moves_nothing(profile):
    policy = JointPolicy(profile)
    with bench(policy, dry_run=True, **FAST) as b, Joints(b):
        live, preview = listen(b), listen(b, "/vla_pruner/preview/")
        actions = b.listen(EndEffectorAction, "/vla_pruner/action")
        b.activate()
        b.show_until(lambda: len(preview["commands"]) > 2, "previews")
        assert preview["trajectories"]
        assert preview["grippers"]
        assert not any(live.values())
        assert not actions
        assert b.node.reporter.state()["dry_run"]


def test_numbers_that_nobody_explains_configure_in_a_dry_run_alone(profile):
    policy = JointPolicy("")
    with bench(policy) as b:
        assert not b.change_state(Transition.TRANSITION_CONFIGURE)
        sentence = b.node.health.problem
        assert "No robot profile explains the 3 numbers" in sentence
        assert all(name in sentence for name in bundled_profiles())
        policy.expect_configure()
        assert b.set_parameter("dry_run", True).successful
        assert b.change_state(Transition.TRANSITION_CONFIGURE)


def test_a_profile_of_another_width_is_refused_with_both_lists():
    with bench(JointPolicy("so101")) as b:
        assert not b.change_state(Transition.TRANSITION_CONFIGURE)
        assert "3 action numbers" in b.node.health.problem
        assert "shoulder_pan.pos" in b.node.health.problem


def test_fourteen_joint_numbers_never_become_metres():
    """A pi0 of ALOHA that held a pose moved the arm by (0, -0.05, 0) m ten times a second."""
    policy = JointPolicy("widowx_bridge")
    policy._chunk = lambda: np.tile(np.linspace(-1.0, 1.0, 14), (4, 1))
    with bench(policy) as b:
        assert not b.change_state(Transition.TRANSITION_CONFIGURE)
        assert "gives 14 action numbers" in b.node.health.problem
