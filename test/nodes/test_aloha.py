"""A scripted policy drives the simulated ALOHA through the whole node."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="MuJoCo is not installed")
pytest.importorskip("gym_aloha", reason="gym-aloha is not installed")
pytest.importorskip("trajectory_msgs", reason="trajectory_msgs is missing")

from node_helpers import ControlledPolicy, bench
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState

from vla_pruner_ros.nodes.simulation.aloha import SimAlohaNode
from vla_pruner_ros.nodes.spin import spin_on
from vla_pruner_ros.robots import Commands, Measured, encode_actions, load_profile
from vla_pruner_ros.sim.aloha import CAMERAS

pytestmark = [pytest.mark.realtime, pytest.mark.timeout(180)]
PROFILE = load_profile("aloha")
START = np.array([0.0, -0.96, 1.16, 0.0, -0.3, 0.0] * 2)
SETTINGS = {
    "image_topics": [f"{name}/image_raw" for name in CAMERAS],
    "control_rate": 25.0,
    "max_image_age": 2.0,
    "max_camera_spread": 1.0,
    "max_state_age": 1.0,
    "max_joint_velocity": 2.0,
    "latency_compensation": False,
}


class ScriptedPolicy(ControlledPolicy):
    """Leads both arms along a straight line in joint space to where the test says, at 1 rad/s."""

    robot = "aloha"

    def __init__(self) -> None:
        super().__init__(num_cameras=len(CAMERAS), state_dim=14, chunk_size=10)
        self.goal, self.opening, self.jump = START.copy(), 0.5, 0.0
        self.respond = self._toward_goal

    def _follow_brightness(self, observation) -> np.ndarray:
        return self._toward_goal(observation) + 1e-6 * observation.images[0].mean()

    def _toward_goal(self, observation) -> np.ndarray:
        state = np.asarray(observation.state)
        here = np.concatenate([state[:6], state[7:13]])
        reach = np.arange(1, self.chunk_size + 1)[:, None] / SETTINGS["control_rate"]
        path = here + np.clip(self.goal - here, -reach, reach) + self.jump
        openings = np.full((self.chunk_size, 2), self.opening)
        commands = Commands(None, None, path, openings)
        nowhere = Measured(dict.fromkeys(PROFILE.joints, 0.0))  # absolute positions need no start
        return encode_actions(PROFILE, commands, nowhere, 1.0 / SETTINGS["control_rate"])


@dataclass
class Seen:
    """The simulated arms as they really move."""

    positions: dict[str, float] = field(default_factory=dict)
    history: list[np.ndarray] = field(default_factory=list)

    def store(self, message: JointState) -> None:
        self.positions = dict(zip(message.name, message.position, strict=True))
        self.history.append(self.arms())

    def arms(self) -> np.ndarray:
        return np.array([self.positions[name] for name in PROFILE.joints])


@contextmanager
def aloha(policy: ScriptedPolicy, interface: str = "trajectory", **parameters):
    with bench(policy, **{**SETTINGS, **parameters}) as b:
        overrides = [
            Parameter("interface", value=interface),
            Parameter("image_width", value=64),
            Parameter("image_height", value=48),
        ]
        robot = SimAlohaNode(context=b.client.context, parameter_overrides=overrides)
        executor = SingleThreadedExecutor(context=b.client.context)
        executor.add_node(robot)
        spinner = threading.Thread(target=spin_on, args=(executor,))
        spinner.start()
        seen = Seen()
        b.client.create_subscription(JointState, "joint_states", seen.store, 10)
        b.activate("cam_high/image_raw")
        try:
            b.until(lambda: seen.positions, "joint states")
            yield b, seen
        finally:
            b.node.close()
            executor.shutdown()
            spinner.join()
            robot.close()
            robot.destroy_node()


GOALS = (
    START + np.tile([0.4, 0.3, -0.3, 0.2, 0.3, -0.4], 2),
    START + np.concatenate([[-0.3, 0.1, 0.1, -0.3, 0.0, 0.3], [0.2, 0.2, -0.2, 0.0, 0.2, 0.1]]),
)


def arrived(seen: Seen, goal: np.ndarray) -> bool:
    return bool(np.abs(seen.arms() - goal).max() < 0.01)


@pytest.mark.parametrize("interface", ["trajectory", "positions", "separate"])
def test_both_arms_reach_their_poses_within_a_hundredth(interface):
    policy = ScriptedPolicy()
    with aloha(policy, interface, separate_arms=interface == "separate") as (b, seen):
        for goal, opening in zip(GOALS, (1.0, 0.2), strict=True):
            policy.goal, policy.opening = goal, opening
            b.until(lambda goal=goal: arrived(seen, goal), "the pose", patience=40.0)
        expected = PROFILE.grippers["left_gripper"].position(0.2)
        b.until(lambda: abs(seen.positions["left_left_finger"] - expected) < 0.003, "the finger")


def test_limits_hold_in_the_simulated_arms():
    policy = ScriptedPolicy()
    policy.goal = START + np.tile([0.0, 0.0, 0.0, 0.0, 0.0, 5.0], 2)
    with aloha(policy) as (b, seen):
        limit = PROFILE.limits.joints["left_wrist_rotate"].max
        b.until(lambda: seen.arms()[5] > limit - 0.02, "the limit", patience=40.0)
        count = len(seen.history)
        b.until(lambda: len(seen.history) > count + 20, "half a second at the limit")
        highest = np.array(seen.history)[:, [5, 11]].max()
        assert highest <= limit + 0.01
        assert b.count("clamped_joint_position")


def test_a_jump_moves_neither_arm():
    policy = ScriptedPolicy()
    with aloha(policy) as (b, seen):
        b.until(lambda: b.count("actions") > 3, "motion")
        policy.jump = np.concatenate([np.zeros(6), [0.6], np.zeros(5)])
        b.until(lambda: "right_waist" in b.node.health.problem, "the guard", patience=20.0)
        before = seen.arms()
        count = len(seen.history)
        b.until(lambda: len(seen.history) > count + 25, "half a second")
        assert np.abs(seen.arms() - before).max() < 0.02


@pytest.mark.parametrize("interface", ["trajectory", "separate"])
def test_a_stop_holds_both_arms_where_they_are(interface):
    policy = ScriptedPolicy()
    policy.goal = START + np.tile([1.2, 0.0, 0.0, 0.0, 0.0, 0.0], 2)
    with aloha(policy, interface, separate_arms=interface == "separate") as (b, seen):
        b.until(lambda: seen.arms()[0] > 0.3, "motion", patience=20.0)
        b.instruct("")
        at_stop = seen.arms()
        count = len(seen.history)
        b.until(lambda: len(seen.history) > count + 50, "a second after the stop")
        moved = np.abs(seen.arms() - at_stop)
        assert moved.max() < 0.15, "both arms stay, but for the way on which the stop was heard"
        later = seen.arms()
        b.until(lambda: len(seen.history) > count + 75, "half a second more")
        assert np.abs(seen.arms() - later).max() < 0.003
        assert abs(seen.arms()[0] - seen.arms()[6]) < 0.05, "the two stopped together"
