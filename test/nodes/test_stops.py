"""The end of motion for good, and its next beginning: transitions, holds, clocks, signals."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import Twist, TwistStamped
from lifecycle_msgs.msg import Transition
from node_helpers import WAIT, ControlledPolicy, bench, moving
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from vla_pruner_ros.bringup.processes import find_executable
from vla_pruner_ros.control.action_queue import PlannedAction
from vla_pruner_ros.models.policy import PolicyError
from vla_pruner_ros.msg import EndEffectorAction
from vla_pruner_ros.nodes.vla_pruner.commands.repeats import STOPS
from vla_pruner_ros.nodes.vla_pruner.commands.topics import LIVE

ACTION, TWIST = "/vla_pruner/action", "/vla_pruner/twist"


def fail(observation):
    raise PolicyError("unwell")


def stops(actions):
    return [a for a in actions if a.stop]


@contextmanager
def held_by_failures():
    """A bench after two failures in a row, its policy and the actions that come."""
    policy = ControlledPolicy()
    policy.respond = fail
    with bench(policy, max_consecutive_failures=2, control_rate=100.0) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show_until(lambda: not b.node.gate.is_open, "the hold")
        yield b, policy, actions


def test_hold_ends_with_activation_but_not_with_frames_or_instructions():
    with held_by_failures() as (b, policy, actions):
        policy.respond = policy._follow_brightness
        b.instruct("something else entirely")
        b.until(lambda: b.node.state()["instruction"].startswith("something"), "the instruction")
        frames = b.count("frames")
        b.show_until(lambda: b.count("frames") > frames + 5, "frames during the hold")
        assert not moving(actions)
        assert b.change_state(Transition.TRANSITION_DEACTIVATE)
        assert b.change_state(Transition.TRANSITION_ACTIVATE)
        b.show_until(lambda: moving(actions), "motion after re-activation")


def test_activation_begins_with_nothing_remembered():
    policy, topics = ControlledPolicy(num_cameras=2), ["image_raw", "gripper/image_raw"]
    with bench(policy, image_topics=topics, relevance_timeout=60.0) as b:
        b.activate()

        def infer():
            seen = len(policy.observations)

            def answered():
                for topic in topics:
                    b.show(topic=topic)
                return len(policy.observations) > seen

            b.until(answered, "an inference")

        arrivals = b.node.runner.inputs.frames.arrivals
        infer()
        resets = policy.resets
        assert b.change_state(Transition.TRANSITION_DEACTIVATE)
        assert arrivals()[0] is not None
        assert b.change_state(Transition.TRANSITION_ACTIVATE)
        assert arrivals() == [None, None]
        infer()
        assert policy.resets == resets + 1


def test_frames_are_not_kept_while_nothing_may_move():
    with bench(ControlledPolicy()) as b:
        assert b.change_state(Transition.TRANSITION_CONFIGURE)
        b.show_until(lambda: b.count("frames") >= 3, "frames")
        assert b.node.runner.inputs.frames.arrivals() == [None]


def test_a_reset_starts_the_row_of_failures_anew():
    with held_by_failures() as (b, policy, actions):

        def fail_once_more(observation):
            policy.respond = policy._follow_brightness
            return fail(observation)

        policy.respond = fail_once_more
        assert b.call(Trigger, "/vla_pruner/reset", Trigger.Request()).success
        b.show_until(lambda: moving(actions), "motion in spite of one failure")
        assert b.count("failures") == 3


def test_failure_of_an_earlier_life_does_not_stop_the_present_one():
    """An inference that hung over a clean-up used to halt, and count against, its successor."""
    old, new = ControlledPolicy(), ControlledPolicy()
    lives = iter((old, new))

    def fail(observation):
        raise PolicyError("too late")

    old.respond = fail
    with bench(lambda settings: next(lives), transition_timeout=0.05) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        old.proceed.clear()
        b.show_until(old.started.is_set, "an inference that hangs")
        assert b.change_state(Transition.TRANSITION_DEACTIVATE)
        assert b.change_state(Transition.TRANSITION_CLEANUP)
        b.activate()
        b.show_until(lambda: moving(actions), "motion in the new life")
        old.proceed.set()
        b.show_until(lambda: b.count("results_discarded"), "the late failure thrown away")
        assert b.count("failures") == 0


class LossyPublisher:
    """Publisher whose first stops are lost on the way."""

    def __init__(self, publisher: Any, losses: int) -> None:
        self.publisher, self.losses, self.sent = publisher, losses, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.publisher, name)

    def publish(self, message: Any) -> None:
        is_stop = message.stop if hasattr(message, "stop") else message.twist == Twist()
        self.sent += is_stop
        if not is_stop or self.sent > self.losses:
            self.publisher.publish(message)


@pytest.mark.parametrize("ending", ["fault", "hold", "deactivate", "close"])
def test_a_stop_reaches_the_arm_though_messages_are_lost(ending):
    """It was sent once: if that message was lost, the last twist stood."""
    policy = ControlledPolicy(chunk_size=500)
    with bench(policy, latency_compensation=False, max_consecutive_failures=1) as b:
        actions, twists = b.listen(EndEffectorAction, ACTION), b.listen(TwistStamped, TWIST, 200)
        b.activate()
        b.show_until(lambda: len(actions) >= 2, "motion")
        topics = b.node.motion._topics[LIVE]
        with b.node.gate.lock:
            topics.action = action = LossyPublisher(topics.action, STOPS - 1)
            topics.twist = twist = LossyPublisher(topics.twist, STOPS - 1)
        if ending == "fault":
            b.instruct("")
        elif ending == "hold":
            policy.respond = fail
            b.show_until(lambda: not b.node.gate.is_open, "the hold")
        elif ending == "deactivate":
            assert b.change_state(Transition.TRANSITION_DEACTIVATE)
        else:
            b.node.close()
        b.until(lambda: actions[-1].stop and twists[-1].twist == Twist(), "a stop")
        assert (action.sent, twist.sent) >= (STOPS, STOPS)


def test_the_watchdog_repeats_a_stop_though_the_executor_is_stalled():
    with bench(ControlledPolicy(chunk_size=500), latency_compensation=False) as b:
        b.activate()
        b.show_until(lambda: b.node.motion.moving, "motion")
        b.node.motion.stop_timers()
        b.node.motion.halt()
        b.until(lambda: b.count("stops_repeated") == STOPS - 1, "the stop's repetition")


def test_a_motion_ends_the_repetition_of_the_stop_before_it():
    with bench(ControlledPolicy(chunk_size=500), latency_compensation=False) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show_until(lambda: len(actions) >= 2, "motion")
        with b.node.gate.lock:
            b.node.motion.halt()
            now, values = b.node.motion_clock.read(), np.full(7, 0.001)
            epoch = b.node.gate.epoch
            action = PlannedAction(values, 0, 7777, now.stamp, epoch, captured=now.playback)
            assert b.node.motion.submit([action]) is None
        b.until(lambda: any(a.sequence == 7777 for a in actions), "the motion after the stop")
        b.show_until(lambda: len(actions) > 5 and not actions[-1].stop, "motion that goes on")
        assert b.count("stops") == len(stops(actions)) == 1
        assert b.count("stops_repeated") == 0


@pytest.mark.parametrize("transition", ["deactivate", "shutdown", "close"])
def test_stop_is_the_last_message(transition):
    numbers = {
        "deactivate": Transition.TRANSITION_DEACTIVATE,
        "shutdown": Transition.TRANSITION_ACTIVE_SHUTDOWN,
    }
    with bench(ControlledPolicy(chunk_size=500), latency_compensation=False) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        twists = b.listen(TwistStamped, TWIST, 200)
        b.activate()
        b.show_until(lambda: len(actions) >= 2, "motion")
        if transition == "close":
            b.node.close()
        else:
            assert b.change_state(numbers[transition])
        assert not b.node.gate.is_open
        b.until(lambda: len(stops(actions)) == STOPS, "the stop")
        b.until(lambda: twists[-1].twist.linear.x == 0.0, "the zero twist")
        length = len(actions)
        frames = b.count("frames")
        if transition == "deactivate":
            b.show_until(lambda: b.count("frames") > frames + 3, "frames nobody uses")
        assert len(actions) == length


def test_an_error_in_a_transition_leaves_the_gate_closed():
    with bench(ControlledPolicy()) as b:
        assert b.change_state(Transition.TRANSITION_CONFIGURE)
        begin = b.node.runner.begin

        def begin_and_fail():
            begin()
            raise RuntimeError("the log is full")

        b.node.runner.begin = begin_and_fail
        assert not b.change_state(Transition.TRANSITION_ACTIVATE)
        assert b.state() == "unconfigured"
        assert not b.node.gate.is_open
        b.node.runner.begin = begin
        b.activate()


class SimulatedTime:
    """A clock and a camera in its time, which stand still between two ticks."""

    def __init__(self, b: Any) -> None:
        self._clock = b.client.create_publisher(Clock, "/clock", 10)
        self._images = b.client.create_publisher(Image, "image_raw", 10)
        self._now = 100.0

    def tick(self, forward: float = 0.02, camera: bool = True) -> None:
        self._now += forward
        message, image = Clock(), Image(height=2, width=2, encoding="rgb8", step=6)
        image.data = bytes(12)
        whole = int(self._now)
        for stamp in (message.clock, image.header.stamp):
            stamp.sec, stamp.nanosec = whole, int((self._now - whole) * 1e9)
        self._clock.publish(message)
        if camera:
            self._images.publish(image)

    def until(self, b: Any, condition: Callable[[], Any], what: str) -> None:
        """Tick at about 50 Hz until a condition holds."""
        b.until(lambda: (self.tick(), condition())[1], what)


def test_clock_jump_back_stops_and_forgets():
    policy = ControlledPolicy(chunk_size=500)
    with bench(policy, use_sim_time=True, latency_compensation=False) as b:
        actions, time = b.listen(EndEffectorAction, ACTION), SimulatedTime(b)
        b.activate()
        time.until(b, lambda: len(actions) >= 3, "motion in simulated time")
        assert actions[-1].header.stamp.sec >= 100
        resets = policy.resets
        time.tick(-60.0)
        b.until(lambda: any(a.stop for a in actions), "a stop at the jump")
        time.until(b, lambda: moving(actions)[-1].header.stamp.sec < 60, "motion again")
        assert policy.resets == resets + 1
        stopped = next(i for i, a in enumerate(actions) if a.stop)
        assert all(a.header.stamp.sec < 60 for a in actions[stopped:])
        stamps = [a.header.stamp.sec + a.header.stamp.nanosec * 1e-9 for a in actions[stopped:]]
        assert all(a <= c for a, c in pairwise(stamps))


def test_clock_jump_back_forgets_the_frame_of_a_camera_that_waits_for_another():
    topics = ["image_raw", "gripper/image_raw"]
    with bench(ControlledPolicy(num_cameras=2), use_sim_time=True, image_topics=topics) as b:
        time = SimulatedTime(b)
        b.activate()
        arrivals = b.node.runner.inputs.frames.arrivals
        time.until(b, lambda: arrivals()[0], "a frame of the first camera")

        def is_cleared():  # more than once: a frame may have been on its way
            time.tick(-1.0, camera=False)
            return arrivals() == [None, None]

        b.until(is_cleared, "nothing remembered")


def test_motion_stops_though_the_simulated_clock_stands_still():
    with bench(ControlledPolicy(chunk_size=500), use_sim_time=True, max_image_age=0.3) as b:
        actions, time = b.listen(EndEffectorAction, ACTION), SimulatedTime(b)
        b.activate()
        time.until(b, lambda: moving(actions), "motion in simulated time")
        b.until(lambda: actions[-1].stop, "a stop without clock and images")


def test_sigterm_of_the_real_process_ends_in_a_stop(tmp_path):
    """The stop must be sent while publishing still works, and the exit be in order."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    with bench(ControlledPolicy()) as b:
        # The node under test in this process stays unconfigured; the process has another name.
        environment["ROS_DOMAIN_ID"] = str(b.domain)
        arguments = ["--ros-args", "-r", "__node:=real"]
        for name, value in (
            ("checkpoint", "untrained"),
            ("instruction", "push"),
            ("num_threads", 1),
        ):
            arguments += ["-p", f"{name}:={value}"]
        arguments += ["-p", "max_image_age:=60.0"]
        process = subprocess.Popen(
            [find_executable("vla_pruner_node"), *arguments], env=environment
        )
        try:
            actions = b.listen(EndEffectorAction, "/real/action")
            for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
                assert b.change_state(transition, node="real", patience=60.0)
            b.show_until(lambda: moving(actions), "an action of the process", patience=30.0)
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT) == 0
            b.until(lambda: len(stops(actions)) == STOPS, "the stop, as often as it is sent")
            assert all(a.stop for a in actions[-STOPS:])
        finally:
            process.kill()
            process.wait()
