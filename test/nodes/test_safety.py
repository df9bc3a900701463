"""Every rule that keeps the arm safe; each test fails without its rule."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from node_helpers import WAIT, ControlledPolicy, bench, moving
from std_srvs.srv import Trigger

from vla_pruner_ros.models.policy import PolicyError
from vla_pruner_ros.msg import EndEffectorAction
from vla_pruner_ros.nodes.vla_pruner import runner as policy_runner
from vla_pruner_ros.nodes.vla_pruner.node import WATCHDOG_PERIOD

ACTION = "/vla_pruner/action"
STATE = "the robot's state"


def steps(*action: float, count: int):
    return lambda observation: np.tile(action, (count, 1))


def test_silence_of_the_state_stops_a_chunk_while_an_inference_hangs():
    """Nobody watched the state between two inferences: a long chunk played on without it."""
    policy = ControlledPolicy(state_dim=1, chunk_size=500)
    with bench(policy, max_state_age=0.3, latency_compensation=False) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()

        def with_state():
            b.send_joint_state(["joint"], [0.0])
            return len(actions) >= 2

        b.show_until(with_state, "motion")
        policy.started.clear()
        policy.proceed.clear()
        b.show_until(policy.started.is_set, "an inference that hangs")
        silent = lambda: STATE in b.node.health.problem
        b.show_until(lambda: silent() and actions[-1].stop, "a stop", patience=WAIT / 2)
        assert b.node.motion.queue_length == 0


def test_silence_of_the_pose_stops_a_chunk_held_in_a_workspace():
    policy = ControlledPolicy(chunk_size=500)
    parameters = {"workspace": [0.0, -1.0, 0.0, 1.0, 1.0, 1.0], "max_state_age": 0.3}
    with bench(policy, **parameters, latency_compensation=False) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()

        def with_pose():
            b.send_pose(0.1)
            return len(actions) >= 2

        b.show_until(with_pose, "motion")
        policy.started.clear()
        policy.proceed.clear()
        b.show_until(policy.started.is_set, "an inference that hangs")
        silent = lambda: "end_effector_pose" in b.node.health.problem
        b.show_until(lambda: silent() and actions[-1].stop, "a stop", patience=WAIT / 2)


def test_workspace_is_never_left_though_the_chunk_is_longer_than_the_room():
    """The box was held against the pose at the inference: a chunk of many actions walked out."""
    policy = ControlledPolicy()
    policy.respond = steps(0.02, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, count=40)
    box = [-0.5, -0.5, 0.0, 0.5, 0.5, 0.8]
    with bench(policy, workspace=box, control_rate=20.0, latency_compensation=False) as b:
        x = [0.45]
        actions = b.listen(EndEffectorAction, ACTION)

        def arm_follows():
            x[0] = 0.45 + sum(a.translation.x for a in list(actions))
            b.send_pose(x[0])
            return b.count("clamped_workspace") >= 5

        b.activate()
        b.show_until(arm_follows, "five actions met the wall")
        assert 0.47 < x[0] <= 0.5 + 1e-9
        assert all(a.translation.x <= 0.02 + 1e-9 for a in actions)


def test_workspace_holds_though_the_pose_shows_motion_late():
    """Three actions fit before the wall; a pose that does not show them yet let through any."""
    policy = ControlledPolicy()
    policy.respond = steps(0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, count=40)
    box = [-0.5, -0.5, 0.0, 0.5, 0.5, 0.8]
    with bench(policy, workspace=box, control_rate=50.0) as b:
        actions = b.listen(EndEffectorAction, ACTION)

        def pose_stays():
            b.send_pose(0.47)
            return b.count("clamped_workspace")

        b.activate()
        b.show_until(pose_stays, "an action that met the wall")
        assert sum(a.translation.x for a in actions[:4]) <= 0.03 + 1e-9


def test_a_workspace_that_cannot_be_held_stops_motion():
    """The last guard, where every look at the pose before it was wrong."""
    with bench(ControlledPolicy(chunk_size=500), latency_compensation=False) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show_until(lambda: len(actions) >= 2, "motion")
        b.node.runner.readiness._reasons = lambda: iter(())
        assert b.set_parameter("workspace", [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0]).successful
        b.until(lambda: actions[-1].stop, "a stop")
        assert "position is not known" in b.node.health.problem


def test_workspace_set_while_a_chunk_plays_without_pose_stops_and_is_survived():
    """This raised in a timer callback and took the whole process down."""
    with bench(ControlledPolicy(chunk_size=500), latency_compensation=False) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show_until(lambda: len(actions) >= 2, "motion")
        assert b.set_parameter("workspace", [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0]).successful
        b.show_until(lambda: actions[-1].stop, "a stop")
        assert "workspace" in b.node.health.problem
        assert b.set_parameter("workspace", ()).successful
        b.show_until(lambda: not actions[-1].stop, "motion without a workspace")


@pytest.mark.parametrize(
    ("x", "frame", "reason"),
    [(np.nan, "base_link", "not finite"), (0.1, "camera_link", "camera_link")],
)
def test_workspace_needs_a_usable_pose(x, frame, reason):
    """A NaN position made the action NaN; a pose in another frame bounded the wrong place."""
    policy = ControlledPolicy()
    with bench(policy, workspace=[-1.0, -1.0, -1.0, 1.0, 1.0, 1.0]) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()

        def posed():
            b.send_pose(x, frame=frame)
            return reason in b.node.health.problem

        b.show_until(posed, "a pose that cannot be used")
        assert not moving(actions)
        assert not policy.observations, "no inference runs without a pose"

        def fixed():
            b.send_pose(0.1)
            return moving(actions)

        b.show_until(fixed, "motion with a good pose")


def test_gripper_moves_at_its_rate():
    policy = ControlledPolicy()
    policy.respond = lambda o: np.array(
        [[0, 0, 0, 0, 0, 0, 0.0 if i == 0 else 1.0] for i in range(6)]
    )
    with bench(policy, max_gripper_step=0.25, control_rate=50.0, max_image_age=30.0) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show()
        b.until(lambda: len(actions) == 6, "the chunk")
        assert [a.gripper for a in actions] == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0, 1.0])
        assert b.count("clamped_gripper") == 3


@pytest.mark.parametrize("shape", [(7,), (1, 6), (1, 8), (0, 7), (1, 1, 7)])
def test_actions_of_another_shape_are_dropped(shape):
    """A row of six values raised in a timer callback and took the whole process down."""
    policy = ControlledPolicy()
    policy.respond = lambda o: np.full(shape, 0.01)
    with bench(policy) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show_until(lambda: b.count("failures"), "a failure")
        assert "[steps, 7]" in b.node.health.problem
        assert not moving(actions)


def test_policy_error_stops_motion():
    policy = ControlledPolicy(chunk_size=500)
    with bench(policy, latency_compensation=False, max_consecutive_failures=1000) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show_until(lambda: len(actions) >= 2, "motion")

        def fail(observation):
            raise PolicyError("the prompt is too long")

        policy.respond = fail
        b.show_until(lambda: actions[-1].stop, "a stop")
        assert b.node.health.problem == "the prompt is too long"


def out_of_memory():
    torch = pytest.importorskip("torch")
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_out_of_memory_in_an_inference_holds_and_the_node_goes_on():
    policy = ControlledPolicy()

    def exhaust(observation):
        raise out_of_memory()

    policy.respond = exhaust
    with bench(policy, max_consecutive_failures=2, control_rate=100.0) as b:
        actions = b.listen(EndEffectorAction, ACTION)
        b.activate()
        b.show_until(lambda: not b.node.gate.is_open, "the hold")
        assert "out of memory" in b.node.health.problem
        assert not moving(actions)
        policy.respond = policy._follow_brightness
        assert b.call(Trigger, "/vla_pruner/reset", Trigger.Request()).success
        b.show_until(lambda: moving(actions), "motion after the reset")


def test_what_an_inference_out_of_memory_held_is_let_go_before_the_cache_is_emptied(monkeypatch):
    held, alive = [], []

    class Tensor:
        pass

    def exhaust(observation):
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        raise out_of_memory()

    def note():
        alive.append(held[-1]() is not None)

    monkeypatch.setattr(policy_runner, "free_device_memory", note)
    policy = ControlledPolicy()
    policy.respond = exhaust
    with bench(policy) as b:
        b.activate()
        b.show_until(lambda: alive, "memory handed back")
    assert not any(alive)


def test_out_of_memory_while_loading_fails_the_transition_and_can_be_repeated():
    attempts = []

    def load(settings):
        attempts.append(1)
        if len(attempts) == 1:
            raise out_of_memory()
        return ControlledPolicy()

    with bench(load) as b:
        assert not b.change_state(Transition.TRANSITION_CONFIGURE)
        assert b.state() == "unconfigured"
        assert "out of memory" in b.node.health.problem
        b.activate()


def test_actions_of_an_ended_epoch_are_not_played():
    with bench(ControlledPolicy(chunk_size=500), control_rate=50.0, max_image_age=30.0) as b:
        b.activate()
        b.show()
        b.until(lambda: b.count("actions") >= 2, "motion")
        with b.node.gate.lock:
            b.node.gate.end_epoch()
            played, left = b.count("actions"), b.node.motion.queue_length
        b.until(lambda: b.node.motion.queue_length < left - 3, "a few periods")
        assert b.count("actions") == played


def test_every_action_is_checked_even_if_the_watchdog_is_late():
    with bench(ControlledPolicy(chunk_size=100), max_image_age=0.3) as b:
        for timer in b.node.timers:
            if timer.timer_period_ns == round(WATCHDOG_PERIOD * 1e9):
                timer.cancel()
        b.activate()
        b.show_until(lambda: b.count("actions"), "motion")
        b.until(lambda: "No image on" in b.node.health.problem, "the stop")
        assert b.count("actions") < 100
        assert not b.node.motion.moving


def test_watchdog_tells_of_silence_where_no_action_is_left():
    with bench(ControlledPolicy(chunk_size=1), max_image_age=0.3) as b:
        b.activate()
        b.show_until(lambda: b.count("actions"), "motion")
        b.until(lambda: b.node.motion.queue_length == 0, "the chunk's end")
        b.until(lambda: "No image on" in b.node.health.problem, "the warning")
