"""Threads that hang, end or panic; namesakes; transitions that do not fit; configures that fail."""

from __future__ import annotations

import gc
import threading
import time
from functools import partial

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from node_helpers import WAIT, ControlledPolicy, bench, moving
from rclpy.callback_groups import ReentrantCallbackGroup
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger

from vla_pruner_ros.msg import EndEffectorAction
from vla_pruner_ros.nodes.messages import to_time
from vla_pruner_ros.nodes.vla_pruner.diagnostics import judge

ACTION = "/vla_pruner/action"


class Panic(BaseException):
    """Stand-in for a panic of a library written in Rust, which is no Exception in Python."""


def panic(*_):
    raise Panic("called `Option::unwrap()` on a `None` value")


def test_a_panic_in_an_inference_is_a_failure_like_any_other():
    """The policy's thread ended, diagnostics said "Running" and no remedy helped."""
    policy = ControlledPolicy()
    with bench(policy) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        policy.respond = panic
        b.show_until(lambda: b.count("failures") >= 2, "two failures")
        assert "Panic" in b.node.health.problem
        policy.respond = policy._follow_brightness
        b.show_until(lambda: moving(actions), "motion afterwards")


def test_a_panic_in_a_load_fails_the_transition_and_can_be_repeated():
    loads = iter([panic, lambda settings: ControlledPolicy()])
    with bench(lambda settings: next(loads)(settings)) as b:
        assert not b.change_state(Transition.TRANSITION_CONFIGURE)
        assert b.state() == "unconfigured"
        assert "unwrap" in b.node.health.problem
        b.activate()


def test_an_inference_that_hangs_is_reported_and_motion_returns_with_its_end():
    policy = ControlledPolicy()
    with bench(policy, inference_timeout=0.3) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show_until(lambda: moving(actions), "motion")
        policy.proceed.clear()
        b.show_until(lambda: "inference_timeout" in b.node.health.problem, "the report")
        assert any("inference_timeout" in sentence for sentence in b.node.state()["reasons"])
        policy.proceed.set()
        seen = len(moving(actions))
        b.show_until(lambda: len(moving(actions)) > seen, "motion again")


def test_a_policy_thread_that_ended_is_reported_and_comes_back_with_a_reset(monkeypatch):
    with bench(ControlledPolicy()) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show_until(lambda: moving(actions), "motion")
        monkeypatch.setattr(threading, "excepthook", lambda args: None)
        b.node.runner._worker._finish = panic
        b.show_until(lambda: "thread has ended" in b.node.health.problem, "the report")
        b.until(lambda: not b.node.motion.moving, "a stop")
        assert b.call(Trigger, "/vla_pruner/reset", Trigger.Request()).success
        seen = len(moving(actions))
        b.show_until(lambda: len(moving(actions)) > seen, "motion again")


def test_motion_stops_though_every_thread_of_the_executor_is_busy():
    """The watchdog was a timer of that executor."""
    with bench(ControlledPolicy(chunk_size=500), latency_compensation=False) as b:
        b.activate()
        b.show_until(lambda: b.node.motion.moving, "motion")
        proceed, group = threading.Event(), ReentrantCallbackGroup()

        def hang() -> None:
            assert proceed.wait(WAIT)

        for _ in range(8):
            b.node.create_timer(0.001, hang, callback_group=group)
        try:
            b.until(lambda: b.node.watchdog.executor_stalled, "the stall noticed")
            b.until(lambda: not b.node.motion.moving, "a stop")
        finally:
            proceed.set()


def test_a_garbage_collection_stops_no_thread_of_a_configured_node():
    """A full one took 0.25 s of processor time, in which no thread ran."""
    with bench(ControlledPolicy()) as b:
        gc.unfreeze()  # the bench's own
        assert b.change_state(Transition.TRANSITION_CONFIGURE)
        assert gc.get_freeze_count() > 100_000
        begun = time.thread_time()
        gc.collect()
        assert time.thread_time() - begun < 0.05
        assert b.change_state(Transition.TRANSITION_CLEANUP)
        assert gc.get_freeze_count() == 0


def namesakes(b) -> int:
    return b.node.get_node_names_and_namespaces().count(("vla_pruner", "/"))


def test_a_second_node_of_the_same_name_is_refused_activation():
    with bench(ControlledPolicy()) as b:
        namesake = rclpy.create_node("vla_pruner", context=b.client.context)
        try:
            assert b.change_state(Transition.TRANSITION_CONFIGURE)
            b.until(lambda: namesakes(b) == 2, "the other in the graph")
            assert not b.change_state(Transition.TRANSITION_ACTIVATE)
            assert b.state() == "inactive"
            level, sentence = judge(b.node.state())
            assert level == DiagnosticStatus.ERROR
            assert "Another node" in sentence
        finally:
            namesake.destroy_node()
        b.until(lambda: namesakes(b) == 1, "the other gone")
        assert b.change_state(Transition.TRANSITION_ACTIVATE)


def test_a_transition_that_raises_is_answered():
    """Jazzy's rclpy raises out of the service if a transition does not fit; the node ended."""
    with bench(ControlledPolicy()) as b:
        answer = b.node._answer_always(panic_like_rcl)
        response = answer(ChangeState.Request(), ChangeState.Response(success=True))
        assert response.success is False


def panic_like_rcl(*_):
    raise RuntimeError("Failed to trigger lifecycle state machine transition")


def test_transitions_that_do_not_fit_and_clients_that_race_are_answered():
    with bench(ControlledPolicy()) as b:
        for wrong in (Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE, 77):
            assert not b.change_state(wrong)
        client = b.client.create_client(ChangeState, "/vla_pruner/change_state")
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
        answers = [client.call_async(request) for _ in range(4)]
        b.until(lambda: all(a.done() for a in answers), "an answer to each")
        assert sorted(a.result().success for a in answers) == [False, False, False, True]
        assert b.state() == "inactive"


def subscriptions(b) -> int:
    return len(list(b.node.subscriptions))


def test_a_failed_configure_leaves_no_subscription():
    """The cameras' stayed, and took images for ever."""
    with bench(ControlledPolicy(num_cameras=2), image_topics=["image_raw", "no topic!"]) as b:
        before = subscriptions(b)
        assert not b.change_state(Transition.TRANSITION_CONFIGURE)
        assert b.state() == "unconfigured"
        assert "no topic!" in b.node.health.problem
        assert subscriptions(b) == before
        assert b.set_parameter("image_topics", ["image_raw", "gripper"]).successful
        b.activate()


def stamp_of_age(b, message, age: float):
    now = b.client.get_clock().now().nanoseconds - round(age * 1e9)
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(now, 10**9)
    return message


def repeated(b, publisher, message, age: list[float], condition):
    """Return a condition that first publishes the message again, age[0] seconds old."""

    def publish_and_look():
        publisher.publish(stamp_of_age(b, message, age[0]))
        return condition()

    return publish_and_look


def test_a_pose_that_is_repeated_with_an_old_stamp_stops_motion():
    """An arm followed a republisher that was stuck 291 mm out of its box."""
    box = [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0]
    with bench(ControlledPolicy(), workspace=box) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        poses = b.client.create_publisher(PoseStamped, "end_effector_pose", 10)
        pose, age = PoseStamped(), [0.0]
        pose.header.frame_id, pose.pose.orientation.w = "base_link", 1.0

        shown = partial(repeated, b, poses, pose, age)
        b.activate()
        b.show_until(shown(lambda: moving(actions)), "motion")
        age[0] = 2.0
        b.show_until(shown(lambda: "max_state_age" in b.node.health.problem), "the stop")
        b.until(lambda: actions[-1].stop, "the stop")
        age[0] = -9.0
        b.show_until(shown(lambda: "future" in b.node.health.problem), "the other sentence")
        age[0], seen = 0.0, len(moving(actions))
        b.show_until(shown(lambda: len(moving(actions)) > seen), "motion again")


def test_a_joint_state_that_is_repeated_with_an_old_stamp_stops_motion():
    with bench(ControlledPolicy(state_dim=1)) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        joints = b.client.create_publisher(JointState, "joint_states", 10)
        state, age = JointState(name=["joint"], position=[0.0]), [0.0]

        shown = partial(repeated, b, joints, state, age)
        b.activate()
        b.show_until(shown(lambda: moving(actions)), "motion")
        age[0] = 2.0
        b.show_until(shown(lambda: "joint state" in b.node.health.problem), "the stop")
        b.until(lambda: actions[-1].stop, "the stop")


def test_an_image_that_is_repeated_with_an_old_stamp_stops_a_chunk_that_plays():
    policy = ControlledPolicy(chunk_size=500)
    with bench(policy, latency_compensation=False) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show_until(lambda: moving(actions), "motion")
        policy.proceed.clear()
        policy.started.clear()
        b.show_until(policy.started.is_set, "an inference that hangs")
        b.show_until(lambda: "older than max_image_age" in b.node.health.problem, "a stop", age=2.0)
        assert not b.node.motion.moving


@pytest.mark.parametrize("ahead", [0.0, 0.45])
@pytest.mark.parametrize("stuck", ["pose", "joint state", "image"])
def test_a_sender_that_is_stuck_stops_motion_though_its_clock_is_ahead(stuck, ahead):
    """Its stamp was not old before the clock's lead had passed, too: 0.5 s more of motion."""
    box = [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0]
    limits = {"max_image_age": 0.6, "max_state_age": 0.6, "workspace": box}
    with bench(ControlledPolicy(state_dim=1), **limits) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        pose, state = PoseStamped(), JointState(name=["joint"], position=[0.0])
        pose.header.frame_id, pose.pose.orientation.w = "base_link", 1.0
        image = Image(height=24, width=32, encoding="rgb8", step=96, data=bytes(24 * 96))
        kinds = {"pose": pose, "joint state": state, "image": image}
        topics = {"pose": "end_effector_pose", "joint state": "joint_states", "image": "image_raw"}
        senders = {
            name: b.client.create_publisher(type(message), topics[name], 10)
            for name, message in kinds.items()
        }
        is_stuck, problems = [], []

        def send() -> None:
            now = b.client.get_clock().now().nanoseconds
            for name, message in kinds.items():
                if name not in is_stuck:
                    lead = ahead if name == stuck else 0.0
                    message.header.stamp = to_time(now + round(lead * 1e9))
                senders[name].publish(message)
            problems.append(b.node.health.problem)

        def until(condition, what) -> None:
            b.until(lambda: (send(), condition())[1], what)

        b.activate()
        until(lambda: len(moving(actions)) > 3, "motion")
        is_stuck.append(stuck)
        began = time.monotonic()
        until(lambda: actions[-1].stop, "the stop")
        assert time.monotonic() - began < 0.6 + 0.3
        until(lambda: "check its sender" in problems[-1], "the reason")
        is_stuck.clear()
        seen = len(moving(actions))
        until(lambda: len(moving(actions)) > seen, "motion again")


def test_actions_that_come_too_late_after_their_image_are_not_played():
    """A slow inference let actions of images 1.23 s old out, at max_image_age 0.5."""
    policy, pause = ControlledPolicy(), threading.Event()

    def slowly(observation):
        pause.wait(0.5)
        return policy._follow_brightness(observation)

    policy.respond = slowly
    with bench(policy, max_image_age=0.3) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show_until(lambda: "after the time" in b.node.health.problem, "the reason")
        assert not moving(actions)
        pause.set()
        b.show_until(lambda: moving(actions), "motion when it is fast")


def test_input_that_cannot_be_used_never_holds_motion_for_good():
    with bench(ControlledPolicy(), max_consecutive_failures=2) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        broken = Image(height=2, width=2, encoding="nv99", step=6, data=bytes(12))

        def sent():
            b.send_image(broken)
            return b.count("failures") >= 4

        b.until(sent, "more failures than may come in a row")
        assert not b.node.state()["held"]
        b.show_until(lambda: moving(actions), "motion with a good image")
