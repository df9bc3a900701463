"""Motion of the arm: twists, chunks in step with the clock, target poses."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped, TwistStamped
from lifecycle_msgs.msg import Transition
from node_helpers import ControlledPolicy, bench

from vla_pruner_ros.msg import EndEffectorAction, PruningStatus
from vla_pruner_ros.nodes.vla_pruner.commands.repeats import STOPS

ACTION, TWIST, TARGET = "/vla_pruner/action", "/vla_pruner/twist", "/vla_pruner/target_pose"


def seconds(stamp) -> float:
    return stamp.sec + stamp.nanosec * 1e-9


def at(message) -> float:
    return seconds(message.header.stamp)


def is_zero(twist: TwistStamped) -> bool:
    linear, angular = twist.twist.linear, twist.twist.angular
    return not any((linear.x, linear.y, linear.z, angular.x, angular.y, angular.z))


def repeat(*action: float, steps: int = 1):
    """A policy's answer: the same action again and again."""
    return lambda observation: np.tile(action, (steps, 1))


def test_twist_is_the_action_as_velocity_for_its_length_then_zero():
    policy = ControlledPolicy()
    policy.respond = repeat(0.01, -0.02, 0.03, 0.04, 0.05, -0.06, 1.0)
    with bench(policy, control_rate=4.0, command_rate=50.0, max_image_age=30.0) as b:
        actions, twists = b.listen(EndEffectorAction, ACTION), b.listen(TwistStamped, TWIST, 200)
        b.activate()
        b.show()
        b.until(lambda: sum(map(is_zero, twists)) == STOPS, "zero twists after the motion")
        moving = [t for t in twists if not is_zero(t)]
        linear, angular = moving[0].twist.linear, moving[0].twist.angular
        assert (linear.x, linear.y, linear.z) == pytest.approx((0.04, -0.08, 0.12))
        assert (angular.x, angular.y, angular.z) == pytest.approx((0.16, 0.2, -0.24))
        assert {t.header.frame_id for t in twists} == {"base_link"}
        stamps = [at(t) for t in twists]
        assert all(a < b for a, b in pairwise(stamps)), "MoveIt Servo refuses old stamps"
        assert len(moving) >= 3, "fresh commands while the action lasts"
        assert all(at(t) < at(actions[0]) + 0.25 for t in moving)
        assert all(is_zero(t) for t in twists[len(moving) :])
        assert len(actions) == 1


def test_no_twist_follows_a_stop_though_the_action_was_not_over():
    with bench(ControlledPolicy(), control_rate=0.5, max_image_age=30.0) as b:
        twists = b.listen(TwistStamped, TWIST, 200)
        b.activate()
        b.show_until(lambda: twists, "motion")
        b.instruct("")
        b.until(lambda: sum(map(is_zero, twists)) == STOPS, "the stop")
        frames, length = b.count("frames"), len(twists)
        b.show_until(lambda: b.count("frames") > frames + 5, "several command periods")
        assert len(twists) == length
        assert all(map(is_zero, twists[-STOPS:]))


def test_chunk_is_played_in_order_at_the_control_rate():
    with bench(ControlledPolicy(chunk_size=5), control_rate=20.0, max_image_age=30.0) as b:
        actions, twists = b.listen(EndEffectorAction, ACTION), b.listen(TwistStamped, TWIST, 200)
        b.activate()
        b.show()
        b.until(lambda: twists and len(actions) == 5 and is_zero(twists[-1]), "the whole chunk")
        assert [a.step for a in actions] == [0, 1, 2, 3, 4]
        assert {seconds(a.duration) for a in actions} == {0.05}
        assert at(actions[-1]) - at(actions[0]) >= 0.8 * 4 * 0.05


def test_a_new_chunk_waits_for_the_action_under_way():
    with bench(ControlledPolicy(chunk_size=9), control_rate=2.0, max_image_age=30.0) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show()
        b.until(lambda: len(actions) == 2, "an action from the first chunk's rest")
        b.show()
        b.until(lambda: len(actions) == 3, "the next action")
        assert at(actions[2]) - at(actions[1]) > 0.25


def test_a_new_control_rate_takes_effect_on_the_next_chunk():
    policy = ControlledPolicy(chunk_size=500)
    with bench(policy, control_rate=5.0, latency_compensation=False) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show_until(lambda: actions, "motion")
        assert b.set_parameter("control_rate", 50.0).successful
        b.show_until(lambda: seconds(actions[-1].duration) == 0.02, "shorter actions")


@pytest.mark.parametrize(("compensate", "first"), [(True, 2), (False, 0)])
def test_actions_whose_time_has_passed_are_skipped(compensate, first):
    policy = ControlledPolicy(chunk_size=10)
    parameters = {"latency_compensation": compensate, "max_image_age": 30.0, "control_rate": 1.0}
    with bench(policy, **parameters) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show(age=2.5)
        b.until(lambda: actions, "the first action")
        assert actions[0].step == first
        assert b.count("actions_skipped") == first


def test_new_chunk_replaces_the_rest_of_the_old_one_and_the_status_tells():
    policy = ControlledPolicy(chunk_size=30)
    with bench(policy, control_rate=20.0, max_image_age=30.0) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        statuses = b.listen(PruningStatus, "/vla_pruner/pruning")
        b.activate()
        b.show()
        b.until(lambda: len(actions) >= 3, "the first chunk playing")
        b.show()
        b.until(lambda: actions[-1].sequence == 1, "the second chunk")
        b.until(lambda: len(statuses) == 2, "both statuses")
        sequences = [a.sequence for a in actions]
        assert sequences == sorted(sequences), "nothing of the old chunk after the new one"
        assert statuses[0].queue_length == 0
        assert 0 < statuses[1].queue_length < 30
        assert statuses[1].queue_age > 0.0


def test_new_chunk_is_blended_into_the_old_one():
    policy = ControlledPolicy()
    policy.respond = lambda o: np.tile(
        [0.0 if len(policy.observations) == 1 else 0.04, 0, 0, 0, 0, 0, 1.0], (40, 1)
    )
    with bench(policy, control_rate=20.0, blend_steps=3, max_image_age=30.0) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show()
        b.until(lambda: len(actions) >= 2, "the first chunk playing")
        b.show()
        b.until(lambda: sum(a.sequence == 1 for a in actions) >= 5, "the second chunk")
        blended = [a.translation.x for a in actions if a.sequence == 1]
        assert blended[:5] == pytest.approx([0.01, 0.02, 0.03, 0.04, 0.04])


def test_target_pose_is_the_measured_pose_displaced_by_the_action():
    policy = ControlledPolicy()
    policy.respond = repeat(0.01, 0.0, -0.02, 0.0, 0.0, 0.2, 1.0)
    with bench(policy) as b:
        targets = b.listen(PoseStamped, TARGET)
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show_until(lambda: actions, "an action without a known pose")
        assert not targets

        def posed():
            b.send_pose(0.4, 0.1, 0.3)
            return targets

        b.show_until(posed, "a target pose")
        position, orientation = targets[0].pose.position, targets[0].pose.orientation
        assert (position.x, position.y, position.z) == pytest.approx((0.41, 0.1, 0.28))
        assert (orientation.z, orientation.w) == pytest.approx((np.sin(0.1), np.cos(0.1)))
        assert targets[0].header.frame_id == "base_link"
        assert b.change_state(Transition.TRANSITION_DEACTIVATE)
        b.until(lambda: targets[-1].pose.position.x == 0.4, "a target that holds the arm in place")


def test_pose_of_another_frame_gives_no_target():
    with bench(ControlledPolicy()) as b:
        targets, actions = b.listen(PoseStamped, TARGET), b.listen(EndEffectorAction, ACTION)
        b.activate()

        def posed():
            b.send_pose(0.4, frame="camera_link")
            return len(actions) >= 3

        b.show_until(posed, "actions")
        assert not targets
