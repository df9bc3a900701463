"""A message is too old by its stamp or by its arrival, whichever is older."""

from __future__ import annotations

import pytest

from vla_pruner_ros.control.clock import Instant
from vla_pruner_ros.control.freshness import Received, is_silent, stamp_problem

SECOND = 10**9


def now(stamp: float, steady: float) -> Instant:
    return Instant(round(stamp * SECOND), round(steady * SECOND), round(steady * SECOND))


def test_nothing_received_is_silence():
    assert is_silent(None, 1.0, now(0, 0))


def test_age_by_arrival_and_by_stamp():
    received = Received("pose", stamp=100 * SECOND, arrival=5 * SECOND)
    later = now(100.4, 5.3)
    assert received.age_by_arrival(later) == pytest.approx(0.3)
    assert received.age_by_stamp(later) == pytest.approx(0.4)
    assert received.measured(later) == pytest.approx(4.9 * SECOND)
    assert is_silent(received, 0.29, later)
    assert not is_silent(received, 0.31, later)


def test_a_message_without_stamp_was_measured_when_it_came():
    received = Received("pose", stamp=0, arrival=5 * SECOND)
    later = now(100.4, 5.3)
    assert received.age_by_stamp(later) == 0.0
    assert received.measured(later) == 5 * SECOND


def test_a_stamp_in_the_future_is_measured_now_at_the_latest():
    received = Received("pose", stamp=101 * SECOND, arrival=5 * SECOND)
    assert received.measured(now(100.0, 5.1)) == round(5.1 * SECOND)


@pytest.mark.parametrize(
    ("age", "reason"),
    [(0.0, ""), (0.5, ""), (0.51, "older than max_state_age"), (-0.5, ""), (-0.6, "in the future")],
)
def test_what_a_stamp_may_be(age, reason):
    problem = stamp_problem("The pose", age, 0.5, "max_state_age")
    assert (reason in problem) if reason else not problem


def test_clocks_may_jitter_though_the_limit_is_short():
    assert not stamp_problem("The image", -0.04, 0.001, "max_image_age")
