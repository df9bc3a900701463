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
    received = Received.now("pose", 100 * SECOND, now(100.1, 5.0), None)
    later = now(100.4, 5.3)
    assert received.age_by_arrival(later) == pytest.approx(0.3)
    assert received.age_by_stamp(later) == pytest.approx(0.4)
    assert received.measured(later) == pytest.approx(4.9 * SECOND)
    assert received.repeated_for(later) == pytest.approx(0.3)
    assert is_silent(received, 0.29, later)
    assert not is_silent(received, 0.31, later)


def test_a_message_without_stamp_was_measured_when_it_came():
    received = Received.now("pose", 0, now(100.1, 5.0), None)
    later = now(100.4, 5.3)
    assert received.age_by_stamp(later) == 0.0
    assert received.measured(later) == 5 * SECOND


def test_a_stamp_in_the_future_was_measured_when_it_came_at_the_latest():
    """It counted as measured now, however long ago it had come: the arm left its box by 49 mm."""
    received = Received.now("pose", 101 * SECOND, now(100.0, 5.0), None)
    assert received.measured(now(100.4, 5.4)) == 5 * SECOND


def test_a_repetition_was_measured_when_its_stamp_came_first():
    first = Received.now("pose", 101 * SECOND, now(100.0, 5.0), None)
    again = Received.now("pose", 101 * SECOND, now(100.3, 5.3), first)
    later = now(100.4, 5.4)
    assert again.measured(later) == 5 * SECOND
    assert again.repeated_for(later) == pytest.approx(0.4)
    assert again.age_by_arrival(later) == pytest.approx(0.1)
    other = Received.now("pose", 102 * SECOND, now(100.4, 5.4), again)
    assert other.repeated_for(later) == 0.0


def test_messages_without_stamp_repeat_nothing():
    first = Received.now("pose", 0, now(100.0, 5.0), None)
    second = Received.now("pose", 0, now(100.3, 5.3), first)
    assert second.measured(now(100.4, 5.4)) == round(5.3 * SECOND)
    assert second.repeated_for(now(100.4, 5.4)) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("age", "reason"),
    [(0.0, ""), (0.5, ""), (0.51, "older than max_state_age"), (-0.5, ""), (-0.6, "in the future")],
)
def test_what_a_stamp_may_be(age, reason):
    problem = stamp_problem("The pose", age, 0.5, "max_state_age")
    assert (reason in problem) if reason else not problem


def test_clocks_may_jitter_though_the_limit_is_short():
    assert not stamp_problem("The image", -0.04, 0.001, "max_image_age")
