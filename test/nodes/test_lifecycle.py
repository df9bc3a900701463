"""The lifecycle under fire: any transition at any time, with everything arriving all along."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from lifecycle_msgs.msg import Transition
from node_helpers import WAIT, ControlledPolicy, bench
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from vla_pruner_ros.models.policy import PolicyError
from vla_pruner_ros.msg import EndEffectorAction
from vla_pruner_ros.nodes.vla_pruner.diagnostics import judge

ALLOWED = {
    ("unconfigured", Transition.TRANSITION_CONFIGURE): "inactive",
    ("inactive", Transition.TRANSITION_ACTIVATE): "active",
    ("active", Transition.TRANSITION_DEACTIVATE): "inactive",
    ("inactive", Transition.TRANSITION_CLEANUP): "unconfigured",
}
PATIENCE = 0.2
BOUND = 3.0
"""Longest answer to a transition (s) while an inference hangs: the node's patience and much air."""

PARAMETERS = (
    ("keep_ratio", 0.5), ("keep_ratio", 1), ("keep_ratio", 7.0), ("keep_ratio", "x"),
    ("control_rate", 50.0), ("control_rate", 5.0), ("command_rate", 100.0), ("token_budget", 3),
    ("workspace", [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0]), ("workspace", ()), ("instruction", "turn"),
    ("instruction", ""), ("max_translation", 0.0), ("blend_steps", 2), ("image_topics", ["other"]),
    ("max_consecutive_failures", 2),
)  # fmt: skip


class UnderFire(RuleBasedStateMachine):
    """Sends whatever it likes and checks what must hold always."""

    played = 0
    """Actions seen over all runs: a machine that never moves would prove nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = ControlledPolicy(chunk_size=8)
        self._bench = bench(self._load, transition_timeout=PATIENCE, control_rate=50.0)
        self.b = self._bench.__enter__()
        self.actions = self.b.listen(EndEffectorAction, "/vla_pruner/action", 1000)
        self.expected = "unconfigured"
        self.quiet_since: int | None = self._now()
        self.quiet: list[tuple[int, int]] = []

    def _load(self, _) -> ControlledPolicy:
        self.policy.expect_configure()
        return self.policy

    def _now(self) -> int:
        return time.time_ns()

    @rule(transition=st.sampled_from(sorted({t for _, t in ALLOWED})))
    def request_any(self, transition):
        self._request(transition)

    @initialize()
    def begin_active(self):
        self.go_on()
        self.go_on()

    @precondition(lambda self: self.expected != "active")
    @rule()
    def go_on(self):
        """Towards active: random requests alone would seldom get there."""
        self._request({"unconfigured": 1, "inactive": 3}[self.expected])

    @precondition(lambda self: self.expected == "active")
    @rule(calm=st.booleans())
    def play(self, calm):
        """Let motion happen, if everything so far allows it."""
        if calm:
            self.policy.proceed.set()
            self.policy.respond = self._answer_good
            self.b.set_parameter("workspace", ())
            self.b.instruct("push the button")
        until, length = time.monotonic() + 0.15, len(self.actions)
        self.b.show_until(
            lambda: len(self.actions) > length + 2 or time.monotonic() > until, "some motion"
        )

    def _request(self, transition):
        target = ALLOWED.get((self.expected, transition))
        if target == "active":
            self.quiet.append((self.quiet_since, self._now()))
        start = time.monotonic()
        assert self.b.change_state(transition) == (target is not None)
        assert time.monotonic() - start < BOUND
        if self.expected == "active" and target:
            self.quiet_since = self._now()
        self.expected = target or self.expected
        assert self.b.state() == self.expected

    @precondition(lambda self: self.expected != "unconfigured")
    @rule(count=st.integers(1, 5), age=st.sampled_from([0.0, 0.0, 0.0, 5.0]))
    def show(self, count, age):
        for brightness in range(count):
            self.b.show(brightness, age=age)

    @precondition(lambda self: self.expected != "unconfigured")
    @rule(encoding=st.sampled_from(["nv99", "rgb8"]), size=st.integers(0, 100))
    def show_nonsense(self, encoding, size):
        self.b.send_image(Image(height=24, width=32, encoding=encoding, step=96, data=bytes(size)))

    @precondition(lambda self: self.expected != "unconfigured")
    @rule(text=st.sampled_from(["push", "pull", "", "x" * 2000, "\x00\x1b[2J"]))
    def instruct(self, text):
        self.b.instruct(text)

    @rule(change=st.sampled_from(PARAMETERS))
    def set_parameter(self, change):
        self.b.set_parameter(*change)

    @rule()
    def reset(self):
        assert self.b.call(Trigger, "/vla_pruner/reset", Trigger.Request()).success

    @rule(hangs=st.booleans())
    def hang(self, hangs):
        (self.policy.proceed.clear if hangs else self.policy.proceed.set)()

    @rule(answer=st.sampled_from(["good", "nan", "error", "shape", "far"]))
    def answer(self, answer):
        self.policy.respond = getattr(self, f"_answer_{answer}")

    def _answer_good(self, observation):
        return self.policy._follow_brightness(observation)

    def _answer_nan(self, observation):
        return np.full((8, 7), np.nan)

    def _answer_far(self, observation):
        return np.full((8, 7), 100.0)

    def _answer_shape(self, observation):
        return np.zeros((8, 6))

    def _answer_error(self, observation):
        raise PolicyError("unwell")

    def teardown(self):
        try:
            if self.expected != "active":
                self.quiet.append((self.quiet_since, self._now()))
            self._check_actions()
        finally:
            self.policy.proceed.set()
            self._bench.__exit__(None, None, None)

    def _check_actions(self):
        UnderFire.played += sum(not action.stop for action in self.actions)
        for action in list(self.actions):
            stamp = action.header.stamp.sec * 10**9 + action.header.stamp.nanosec
            assert not any(low < stamp < high for low, high in self.quiet), "outside active"
            xyz = [action.translation.x, action.translation.y, action.translation.z]
            assert np.linalg.norm(xyz) <= 0.05 + 1e-9


def test_lifecycle_under_fire():
    run_state_machine_as_test(
        UnderFire,
        settings=settings(
            max_examples=12,
            derandomize=True,
            phases=[Phase.generate],  # shrinking would run for minutes
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert UnderFire.played > 10


@contextmanager
def slow_configuration():
    """A bench whose load hangs until the test lets it go on."""
    loading, go_on = threading.Event(), threading.Event()

    def load(settings):
        loading.set()
        assert go_on.wait(WAIT)
        return ControlledPolicy()

    with bench(load) as b, ThreadPoolExecutor() as pool:
        configured = pool.submit(b.change_state, Transition.TRANSITION_CONFIGURE)
        try:
            assert loading.wait(WAIT)
            yield b, pool
        finally:
            go_on.set()
        assert configured.result(WAIT)


def test_state_and_parameters_are_answered_while_a_checkpoint_loads():
    """Nobody was answered until configure ended: ros2 param gave up after a few seconds."""
    with slow_configuration() as (b, _):
        assert b.state() == "configuring"
        assert b.set_parameter("keep_ratio", 0.5).successful
        assert b.set_parameter("instruction", "turn").successful
        refused = b.set_parameter("checkpoint", "/elsewhere")
        assert not refused.successful
        assert "clean up" in refused.reason
        assert b.call(Trigger, "/vla_pruner/reset", Trigger.Request()).success
        assert "configuring" in judge(b.node.state())[1]
    assert b.node.runner.instruction == "turn"
    assert b.node.parameters.settings.pruning.keep_ratio == 0.5


def test_a_second_transition_waits_for_the_first():
    with slow_configuration() as (b, pool):
        activated = pool.submit(b.change_state, Transition.TRANSITION_ACTIVATE)
        b.until(lambda: b.state() == "configuring", "an answer after the request")
        assert not activated.done()
    assert activated.result(WAIT)


def test_a_reset_during_deactivation_does_not_open_the_gate_again():
    policy = ControlledPolicy()
    policy.respond = lambda observation: np.full((1, 7), np.nan)
    with ThreadPoolExecutor() as pool, bench(policy, max_consecutive_failures=1) as b:
        b.activate()
        b.show_until(lambda: not b.node.gate.is_open, "the hold")
        stop, resets = b.node.runner.stop, []

        def stop_and_be_reset():
            b.node.runner.stop = stop  # once: a reset at the bench's own end would find no node
            stop()
            reset = (b.call, Trigger, "/vla_pruner/reset", Trigger.Request())
            resets.append(pool.submit(*reset))
            wait(resets, timeout=0.3)

        b.node.runner.stop = stop_and_be_reset
        assert b.change_state(Transition.TRANSITION_DEACTIVATE)
        assert resets[0].result(WAIT).success
        assert not b.node.gate.is_open
