"""The arm stays in its box though the pose shows its motion late."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vla_pruner_ros.control.limits import ActionLimits
from vla_pruner_ros.control.workspace.pending import PendingMotions

NS = 1e-9
HALF = 0.05
BOX = ((-HALF,) * 3, (HALF,) * 3)


def test_sums_of_both_signs_from_any_moment():
    pending = PendingMotions()
    pending.add(10, np.array([0.1, -0.2, 0.0]))
    pending.add(20, np.array([-0.3, -0.1, 0.5]))
    assert pending.since(9) == pytest.approx(np.array([[-0.3, -0.3, 0.0], [0.1, 0.0, 0.5]]))
    assert pending.since(10) == pytest.approx(np.array([[-0.3, -0.1, 0.0], [0.0, 0.0, 0.5]]))
    assert not pending.since(20).any()


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(-9, 9)), max_size=60), st.data())
def test_dropping_old_motions_changes_no_later_sum(motions, data):
    pending, whole, at, dropped = PendingMotions(), PendingMotions(), 0, 0
    for step, x in motions:
        at += step
        for store in (pending, whole):
            store.add(at, np.array([x, 0.0, 0.0]))
        dropped = max(dropped, data.draw(st.integers(0, at)))
        pending.drop_before(dropped)
        for time in (dropped, dropped + 5, at):
            assert pending.since(time) == pytest.approx(whole.since(time))


def test_memory_is_bounded_by_time():
    pending = PendingMotions()
    for millisecond in range(100_000):
        pending.add(millisecond, np.array([1e-3, 0.0, 0.0]))
        pending.drop_before(millisecond - 500)
    assert len(pending) <= 1001


class Arm:
    """An arm that starts each action `delay` after it was sent and carries it out evenly."""

    def __init__(self, delay: float, period: float) -> None:
        self.delay, self.period = delay, period
        self.motions: list[tuple[float, np.ndarray]] = []

    def position(self, at: float) -> np.ndarray:
        position = np.zeros(3)
        for sent, translation in self.motions:
            share = (at - sent - self.delay) / self.period
            position = position + min(max(share, 0.0), 1.0) * translation
        return position


@settings(max_examples=60)
@given(
    rate=st.sampled_from([1.0, 5.0, 10.0, 30.0, 50.0, 100.0]),
    delay=st.floats(0.0, 0.4),
    pose_period=st.floats(0.01, 1.0),
    transport=st.floats(0.0, 0.2),
    seed=st.integers(0, 2**32 - 1),
)
@example(rate=50.0, delay=0.0, pose_period=1.0, transport=0.0, seed=0)
@example(rate=10.0, delay=0.4, pose_period=0.05, transport=0.0, seed=1)
def test_arm_stays_in_its_box(rate, delay, pose_period, transport, seed):
    """At 50 Hz and one pose a second an arm left it by 97 mm: 20 motions were remembered."""
    rng, period = np.random.default_rng(seed), 1.0 / rate
    limits = ActionLimits(0.05, 0.25, workspace=BOX)
    arm, pending = Arm(delay, period), PendingMotions()
    span = period + 0.4  # arm_latency: as long as the slowest arm here
    drift = rng.normal(0.0, 0.02, 3)
    farthest = 0.0
    for number in range(min(round(4.0 * rate), 120)):
        now = number * period
        measured = np.floor(max(0.0, now - transport) / pose_period) * pose_period
        expected = np.concatenate([drift + rng.normal(0.0, 0.02, 3), np.zeros(4)])
        unseen = pending.since(round((measured - span) / NS))
        values, _ = limits.apply(expected, None, arm.position(measured), unseen)
        pending.add(round(now / NS), values[:3])
        arm.motions.append((now, values[:3]))
        farthest = max(farthest, np.abs(arm.position(now)).max())
    end = arm.position(now + delay + period)
    assert max(farthest, np.abs(end).max()) <= HALF + 1e-9
