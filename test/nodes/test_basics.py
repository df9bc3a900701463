"""The lifecycle node on real rclpy: images and instruction in, actions out, what stops it."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from node_helpers import ControlledPolicy, bench
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from vla_pruner_ros.models.policy import CheckpointError, PolicyError
from vla_pruner_ros.msg import ActionChunk, EndEffectorAction, PruningStatus
from vla_pruner_ros.nodes.vla_pruner.commands.repeats import STOPS

ACTION = "/vla_pruner/action"


def test_image_becomes_action_that_names_its_image():
    with bench(ControlledPolicy()) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        chunks = b.listen(ActionChunk, "/vla_pruner/action_chunk")
        statuses = b.listen(PruningStatus, "/vla_pruner/pruning")
        b.activate()
        sent = b.show(brightness=100)
        b.until(lambda: actions and chunks and statuses, "action, chunk and status")
        assert actions[0].translation.x == pytest.approx(0.011)
        assert actions[0].gripper == 1.0
        assert actions[0].header.frame_id == "base_link"
        assert actions[0].image_stamp == sent.header.stamp == chunks[0].header.stamp
        assert chunks[0].instruction == "push the button"
        assert statuses[0].tokens_kept == 4
        assert list(statuses[0].kept_indices) == [0, 1, 2, 3]


def test_parameter_changes_the_very_next_inference():
    policy = ControlledPolicy()
    with bench(policy) as b:
        statuses = b.listen(PruningStatus, "/vla_pruner/pruning")
        b.activate()
        b.show_until(lambda: len(statuses) >= 1, "first inference")
        assert b.set_parameter("keep_ratio", 0.5).successful
        seen = len(policy.ratios)
        b.show_until(lambda: len(policy.ratios) > seen + 1, "two more inferences")
        assert set(policy.ratios[seen + 1 :]) == {0.5}


def test_integer_is_taken_as_number():
    with bench(ControlledPolicy()) as b:
        assert b.set_parameter("keep_ratio", 1).successful
        assert b.node.parameters.settings.pruning.keep_ratio == 1.0


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("keep_ratio", 0.0, "keep_ratio"),
        ("keep_ratio", 1.5, "keep_ratio"),
        ("keep_ratio", "much", "must be a number"),
        ("keep_ratio", float("nan"), "keep_ratio"),
        ("token_budget", -1, "token_budget"),
        ("token_budget", 1.5, "must be an integer"),
        ("budget_mode", "generous", "fixed, deadline, motion"),
        ("method", "no_such_pruner", "vla_pruner"),
        ("image_topics", "image_raw", "must be a list"),
        ("workspace", [0.0, 0.0, 0.0, 1.0, 1.0], "x_min"),
        ("workspace", [1.0, 0.0, 0.0, 0.5, 1.0, 1.0], "minimum"),
        ("latency_compensation", 1, "must be a bool"),
        ("control_rate", 0.0, "control_rate"),
        ("max_translation", float("inf"), "max_translation"),
    ],
)
def test_bad_parameter_is_refused_with_reason_and_old_value_stays(name, value, reason):
    with bench(ControlledPolicy()) as b:
        before = b.node.parameters.settings
        result = b.set_parameter(name, value)
        assert not result.successful
        assert reason in result.reason
        assert b.node.parameters.settings is before
        assert b.node.has_parameter(name)


def test_configure_parameter_is_refused_while_configured():
    with bench(ControlledPolicy()) as b:
        b.activate()
        result = b.set_parameter("checkpoint", "/elsewhere")
        assert not result.successful
        assert "clean up" in result.reason


def test_nothing_moves_without_instruction():
    with bench(ControlledPolicy(), instruction="") as b:
        actions = b.listen(EndEffectorAction, ACTION)
        diagnostics = b.listen(DiagnosticArray, "/diagnostics")
        b.activate()
        waits = lambda: any("instruction" in m.status[0].message for m in diagnostics)
        b.show_until(waits, "diagnostic about the missing instruction")
        assert not actions
        b.instruct("close the drawer")
        b.show_until(lambda: actions, "action after an instruction")


@pytest.mark.parametrize("text", ["", "   ", "x" * 10_000])
def test_empty_or_endless_instruction_stops_motion(text):
    with bench(ControlledPolicy()) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show_until(lambda: actions, "an action")
        b.instruct(text)
        b.show_until(lambda: actions[-1].stop, "a stop")
        assert b.node.runner.instruction == "", "what was refused is not followed"


def test_two_instructions_at_once_leave_the_last():
    policy = ControlledPolicy()
    with bench(policy) as b:
        b.activate()
        b.instruct("first")
        b.instruct("second")
        last = lambda: policy.observations and policy.observations[-1].instruction == "second"
        b.show_until(last, "the last instruction")


def test_repeated_instruction_does_not_forget():
    policy = ControlledPolicy()
    with bench(policy) as b:
        b.activate()
        b.show_until(lambda: len(policy.observations) >= 2, "two inferences")
        resets = policy.resets
        b.instruct("push  the button ")
        b.show_until(lambda: len(policy.observations) >= 4, "two more")
        assert policy.resets == resets
        b.instruct("open the drawer")
        b.show_until(lambda: policy.resets == resets + 1, "reset by a new instruction")


def test_a_long_gap_between_inferences_forgets():
    policy = ControlledPolicy()
    with bench(policy, relevance_timeout=0.2) as b:
        b.activate()
        b.show_until(lambda: policy.observations, "an inference")
        resets, since = policy.resets, time.monotonic()
        b.until(lambda: time.monotonic() > since + 0.6, "the gap")
        seen = len(policy.observations)
        b.show_until(lambda: len(policy.observations) > seen, "an inference after the gap")
        assert policy.resets > resets


def test_result_computed_before_reset_is_thrown_away():
    policy = ControlledPolicy()
    first_goes_left = lambda: -0.01 if len(policy.observations) == 1 else 0.01
    policy.respond = lambda o: np.array([[0.0, first_goes_left(), 0.0, 0.0, 0.0, 0.0, 1.0]])
    with bench(policy) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        policy.proceed.clear()
        b.show_until(policy.started.is_set, "an inference under way")
        assert b.call(Trigger, "/vla_pruner/reset", Trigger.Request()).success
        policy.proceed.set()
        b.until(lambda: b.node.health.counts().get("results_discarded"), "a discarded result")
        b.show_until(lambda: [a for a in actions if not a.stop], "an action after the reset")
        assert all(a.translation.y >= 0.0 for a in actions)


@pytest.mark.parametrize(("age", "reason"), [(3.0, "max_image_age"), (-3.0, "in the future")])
def test_image_of_another_time_yields_no_action(age, reason):
    with bench(ControlledPolicy()) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        stale = lambda: b.node.health.counts().get("frames_unusable", 0) >= 2
        b.show_until(stale, "frames refused for their age", age=age)
        assert reason in b.node.health.problem
        assert not actions


def test_motion_stops_when_frames_stop_and_resumes_with_them():
    with bench(ControlledPolicy(chunk_size=50), max_image_age=0.3) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show_until(lambda: len(actions) >= 3, "motion")
        b.until(lambda: actions[-1].stop, "a stop after the last frame")
        stopped = len(actions)
        b.until(lambda: b.node.motion.queue_length == 0, "an empty queue")
        assert len(actions) == stopped
        b.show_until(lambda: not actions[-1].stop, "motion again")


def test_the_stop_is_all_that_follows_a_deactivation():
    policy = ControlledPolicy(chunk_size=50)
    with bench(policy) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show_until(lambda: len(actions) >= 3, "motion")
        assert b.change_state(Transition.TRANSITION_DEACTIVATE)
        assert b.count("stops") + b.count("stops_repeated") == STOPS, "out before the answer"
        b.until(lambda: sum(a.stop for a in actions) == STOPS, "the stop")
        length = len(actions)
        for _ in range(5):
            b.show()
        assert b.state() == "inactive"
        assert len(actions) == length
        assert all(a.stop for a in actions[-STOPS:])


def test_deactivate_answers_while_an_inference_hangs():
    policy = ControlledPolicy()
    with bench(policy, transition_timeout=0.2) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        policy.proceed.clear()
        b.show_until(policy.started.is_set, "an inference under way")
        assert b.change_state(Transition.TRANSITION_DEACTIVATE)
        policy.proceed.set()
        b.until(lambda: b.node.health.counts().get("results_discarded"), "a discarded result")
        assert all(a.stop for a in actions)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_action_that_is_not_finite_is_dropped(bad):
    policy = ControlledPolicy()
    policy.respond = lambda o: np.full((1, 7), bad)
    with bench(policy) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show_until(lambda: b.node.health.counts().get("failures"), "a failure")
        assert "not finite" in b.node.health.problem
        assert not actions


def test_repeated_failures_hold_until_reset():
    policy = ControlledPolicy()

    def fail(observation):
        raise PolicyError("the policy is unwell")

    policy.respond = fail
    with bench(policy, max_consecutive_failures=3, control_rate=100.0) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        diagnostics = b.listen(DiagnosticArray, "/diagnostics")
        b.activate()
        b.show_until(lambda: not b.node.gate.is_open, "the hold")
        calls = len(policy.observations)
        policy.respond = policy._follow_brightness
        held = lambda: any(
            m.status[0].level == DiagnosticStatus.ERROR and "held" in m.status[0].message
            for m in diagnostics
        )
        b.show_until(held, "an error in the diagnostics")
        assert len(policy.observations) == calls == 3
        assert not any(not a.stop for a in actions)
        b.call(Trigger, "/vla_pruner/reset", Trigger.Request())
        b.show_until(lambda: any(not a.stop for a in actions), "motion after the reset")


def test_long_action_is_shortened_and_counted():
    policy = ControlledPolicy()
    policy.respond = lambda o: np.array([[3.0, 4.0, 0.0, 9.0, 0.0, 0.0, 7.0]])
    with bench(policy, max_translation=0.05, max_rotation=0.1) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show_until(lambda: actions, "an action")
        assert actions[0].translation.x == pytest.approx(0.03)
        assert actions[0].translation.y == pytest.approx(0.04)
        assert actions[0].rotation.x == pytest.approx(0.1)
        assert actions[0].gripper == 1.0
        counts = b.node.health.counts()
        assert {"clamped_translation", "clamped_rotation", "clamped_gripper"} <= counts.keys()


def broken_images():
    yield "unknown encoding", Image(height=2, width=2, encoding="nv99", step=6, data=bytes(12))
    yield "zero size", Image(height=0, width=0, encoding="rgb8", step=0, data=b"")
    yield "truncated", Image(height=24, width=32, encoding="rgb8", step=96, data=bytes(100))
    yield "step too small", Image(height=4, width=4, encoding="rgb8", step=3, data=bytes(48))


@pytest.mark.parametrize(("name", "image"), [*broken_images()], ids=lambda v: str(v)[:12])
def test_broken_image_is_survived(name, image):
    with bench(ControlledPolicy()) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.send_image(image)
        b.until(lambda: b.node.health.counts().get("failures"), f"a failure for {name}")
        assert b.node.health.problem
        assert not [a for a in actions if not a.stop]
        b.show_until(lambda: [a for a in actions if not a.stop], "motion with a good image")


def test_failing_configure_stays_unconfigured_and_can_be_repeated():
    def load(settings):
        if settings.checkpoint == "":
            raise CheckpointError("The parameter checkpoint is empty")
        return ControlledPolicy()

    with bench(load) as b:
        assert not b.change_state(Transition.TRANSITION_CONFIGURE)
        assert b.state() == "unconfigured"
        assert "checkpoint is empty" in b.node.health.problem
        assert b.set_parameter("checkpoint", "/somewhere").successful
        b.activate()


def test_camera_count_must_fit_the_model():
    with bench(ControlledPolicy(num_cameras=2)) as b:
        assert not b.change_state(Transition.TRANSITION_CONFIGURE)
        assert "2 camera" in b.node.health.problem


def test_two_cameras_are_paired_by_stamp():
    policy = ControlledPolicy(num_cameras=2)
    with bench(policy, image_topics=["image_raw", "gripper/image_raw"]) as b:
        b.activate()
        b.show(10, "image_raw", age=0.3)
        b.show(20, "gripper/image_raw", age=0.0)
        b.show(30, "image_raw", age=0.01)
        b.until(lambda: policy.observations, "an inference on the pair")
        assert [int(i.mean()) for i in policy.observations[0].images] == [30, 20]


def test_state_is_waited_for_and_passed_in_order():
    policy = ControlledPolicy(state_dim=2)
    with bench(policy, state_joints=["b", "a"]) as b:
        b.activate()
        b.show_until(lambda: "joint state" in b.node.health.problem, "waiting for the state")
        b.show_until(lambda: b.count("frames_unusable") >= 3, "frames without a state")
        assert not b.count("failures"), "waiting is no failure, and ends in no hold"

        def answered():
            b.send_joint_state(["a", "b", "c"], [1.0, 2.0, 3.0])
            return policy.observations

        b.show_until(answered, "an inference with state")
        assert policy.observations[0].state.tolist() == [2.0, 1.0]


def test_cleanup_and_a_second_life():
    with bench(ControlledPolicy()) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        assert b.change_state(Transition.TRANSITION_DEACTIVATE)
        assert b.change_state(Transition.TRANSITION_CLEANUP)
        assert b.state() == "unconfigured"
        workers = lambda: [t for t in threading.enumerate() if t.name == "policy"]
        b.until(lambda: not workers(), "the end of the worker's thread")
        b.activate()
        b.show_until(lambda: [a for a in actions if not a.stop], "motion in the second life")
        assert b.change_state(Transition.TRANSITION_ACTIVE_SHUTDOWN)
        assert b.state() == "finalized"
