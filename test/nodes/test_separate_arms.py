"""Two arms with a controller each: topics, names, stop, dry run, and profiles without arms."""

from __future__ import annotations

import numpy as np
import pytest

trajectory_msgs = pytest.importorskip("trajectory_msgs.msg", reason="trajectory_msgs is missing")

from lifecycle_msgs.msg import Transition
from node_helpers import ControlledPolicy, bench
from std_msgs.msg import Float64MultiArray

from vla_pruner_ros.robots import load_profile

PROFILE = load_profile("aloha")
START = [0.0, -0.96, 1.16, 0.0, -0.3, 0.0]
FAST = {"control_rate": 20.0, "max_image_age": 2.0, "latency_compensation": False}
DRIVER_NAMES = ["waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate"]


class TwoArms(ControlledPolicy):
    """Moves the left waist by 0.1 rad, the right one by -0.1; opens the left gripper alone."""

    robot = "aloha"

    def __init__(self) -> None:
        super().__init__(state_dim=14, chunk_size=6)
        left, right = np.array([*START, 1.0]), np.array([*START, 0.0])
        left[0], right[0] = 0.1, -0.1
        self._chunk = np.tile(np.concatenate([left, right]), (6, 1))
        self.respond = lambda _: self._chunk

    def _follow_brightness(self, observation) -> np.ndarray:
        return self._chunk + 1e-6 * observation.images[0].mean()


def send_states(b) -> None:
    fingers = {"left_left_finger": 0.04, "right_left_finger": 0.04}
    positions = dict(zip(PROFILE.joints, START * 2, strict=True)) | fingers
    b.send_joint_state(list(positions), list(positions.values()))


def listen(b, prefix: str) -> dict[str, list]:
    return {
        "trajectory": b.listen(trajectory_msgs.JointTrajectory, f"{prefix}joint_trajectory"),
        "command": b.listen(Float64MultiArray, f"{prefix}joint_command"),
        "gripper": b.listen(Float64MultiArray, f"{prefix}gripper_command"),
        "finger": b.listen(trajectory_msgs.JointTrajectory, f"{prefix}gripper_trajectory"),
    }


def move_until(b, condition, what: str) -> None:
    def shown():
        send_states(b)
        return condition()

    b.show_until(shown, what)


def test_each_arm_is_commanded_on_topics_of_its_own_with_its_drivers_names():
    with bench(TwoArms(), separate_arms=True, **FAST) as b:
        left, right = listen(b, "/vla_pruner/left/"), listen(b, "/vla_pruner/right/")
        both = listen(b, "/vla_pruner/")
        b.activate()
        move_until(b, lambda: all(left.values()) and all(right.values()), "motion of both arms")
        for side, sign, finger in ((left, 1.0, "left_gripper"), (right, -1.0, "right_gripper")):
            assert list(side["trajectory"][0].joint_names) == DRIVER_NAMES
            points = np.array([point.positions for point in side["trajectory"][0].points])
            assert points.shape == (6, 6)
            assert points[-1, 0] == pytest.approx(sign * 0.1)
            assert list(side["command"][0].data) == pytest.approx(points[0].tolist())
            opening = 1.0 if sign > 0 else 0.0
            expected = PROFILE.grippers[finger].position(opening)
            assert list(side["gripper"][0].data) == pytest.approx([expected])
            assert list(side["finger"][0].joint_names) == ["left_finger"]
        assert not any(both.values())


def test_both_arms_are_held_by_one_stop():
    with bench(TwoArms(), separate_arms=True, **FAST) as b:
        left, right = listen(b, "/vla_pruner/left/"), listen(b, "/vla_pruner/right/")
        b.activate()
        move_until(b, lambda: left["command"] and right["command"], "motion of both arms")
        b.instruct("")
        for side in (left, right):
            b.until(lambda s=side: len(s["trajectory"][-1].points) == 1, "the hold")
            held = list(side["trajectory"][-1].points[0].positions)
            assert held == pytest.approx(START)
            b.until(lambda s=side, h=held: list(s["command"][-1].data) == h, "the other hold")
        assert b.count("stops") == 1


def test_a_dry_run_separates_the_arms_below_preview():
    with bench(TwoArms(), separate_arms=True, dry_run=True, **FAST) as b:
        live, preview = listen(b, "/vla_pruner/left/"), listen(b, "/vla_pruner/preview/left/")
        b.activate()
        move_until(b, lambda: all(preview.values()), "previews")
        assert not any(live.values())


def test_the_topics_go_with_the_configuration():
    """A second life would publish twice, and a hundred would fill the memory."""
    policy, topic = TwoArms(), "/vla_pruner/left/joint_trajectory"
    with bench(policy, separate_arms=True, **FAST) as b:
        for _ in range(3):
            policy.expect_configure()
            assert b.change_state(Transition.TRANSITION_CONFIGURE)
            b.until(lambda: b.client.count_publishers(topic) == 1, "one publisher")
            assert b.change_state(Transition.TRANSITION_CLEANUP)
            b.until(lambda: b.client.count_publishers(topic) == 0, "none after cleanup")


def test_a_profile_without_arms_is_refused_with_a_sentence():
    with bench(ControlledPolicy(), separate_arms=True) as b:
        assert not b.change_state(Transition.TRANSITION_CONFIGURE)
        assert "end_effector names no arms: add arms to it" in b.node.health.problem
